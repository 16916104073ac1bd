//! [`Hypotheses`]: the distinct token sequences of a search, their crops and their cache.

use std::collections::HashMap;
use std::sync::Arc;

use trajformer_models::decoder::{Cache, Decoder};
use trajformer_models::kernels::decode::Float;

use trajformer_core::error::{Error, Result};

/// Distinct sequences of equal length and the logits of what follows them.
///
/// A search keeps rows that point here, so equal sequences are computed once. When a sequence
/// outgrows the window, whole transitions are cut from its front and positions start anew, as in
/// the authors' planner: nothing cached stays valid then, and the window is computed again,
/// prefixes that several sequences share only once.
#[derive(Debug)]
pub struct Hypotheses<T> {
    decoder: Arc<Decoder<T>>,
    /// Longest window that the network sees, in tokens, a goal transition not counted.
    max_tokens: usize,
    /// (S, `length`).
    tokens: Vec<u32>,
    length: usize,
    /// Episode of every sequence (S), ascending.
    episodes: Vec<usize>,
    /// Tokens that the search started with.
    prefix_length: usize,
    conditions: Conditions,
    cache: Cache<T>,
    /// Where the cached window begins.
    window_start: usize,
    logits: Vec<T>, // (S, N + 1)
    /// What was predicted at once of further tokens (R, k, N + 1), k, and the row of every sequence (S).
    further: Vec<T>,
    predicted: usize,
    rows: Vec<usize>,
}

/// What the episodes of a search are about, which no crop removes.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// Goal transition (D tokens) of every episode, if the network was trained with goals.
    pub goals: Option<Vec<Vec<u32>>>,
    /// Embedding of every episode's instruction (E numbers), if the network was trained with instructions.
    pub instructions: Option<Vec<Vec<f32>>>,
}

impl<T: Float> Hypotheses<T> {
    /// Sequences that `decoder` reads through a window of at most `max_tokens`.
    pub fn new(decoder: Arc<Decoder<T>>, max_tokens: usize) -> Self {
        Self {
            decoder,
            max_tokens,
            tokens: Vec::new(),
            length: 0,
            episodes: Vec::new(),
            prefix_length: 0,
            conditions: Conditions::default(),
            cache: Cache::default(),
            window_start: 0,
            logits: Vec::new(),
            further: Vec::new(),
            predicted: 0,
            rows: Vec::new(),
        }
    }

    /// Starts with one sequence per episode: `prefixes` of equal length, and what they are about.
    pub fn start(&mut self, prefixes: &[Vec<u32>], conditions: Conditions) {
        self.tokens = prefixes.concat();
        self.length = prefixes.first().map_or(0, Vec::len);
        self.prefix_length = self.length;
        self.episodes = (0..prefixes.len()).collect();
        self.conditions = conditions;
        self.predicted = 0;
        // An impossible start: the first `advance` fills the cache.
        self.window_start = usize::MAX;
    }

    /// S, how many sequences there are.
    pub fn len(&self) -> usize {
        self.episodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.episodes.is_empty()
    }

    /// All tokens of a sequence, those out of the window too.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.tokens[index * self.length..(index + 1) * self.length]
    }

    /// Logits (N + 1) of what follows a sequence, as of the last [`advance`](Self::advance).
    pub fn logits(&self, index: usize) -> &[T] {
        let classes = self.logits.len() / self.len();
        &self.logits[index * classes..(index + 1) * classes]
    }

    /// Logits (N + 1) of the token `index` of those that the last [`advance_and_predict`](Self::advance_and_predict) predicted beside
    /// the next: of the sequence's ancestor then.
    pub fn further_logits(&self, sequence: usize, index: usize) -> &[T] {
        let classes = self.decoder.shape().bins + 1;
        let row = self.rows[sequence] * self.predicted + index;
        &self.further[row * classes..][..classes]
    }

    /// The sequences become their `parents` with one token more each.
    pub fn append(&mut self, parents: &[usize], next: &[u32]) {
        let mut tokens = Vec::with_capacity(parents.len() * (self.length + 1));
        for (&parent, &token) in parents.iter().zip(next) {
            tokens.extend_from_slice(self.sequence(parent));
            tokens.push(token);
        }
        self.tokens = tokens;
        self.length += 1;
        self.episodes = parents
            .iter()
            .map(|&parent| self.episodes[parent])
            .collect();
        self.gather(parents);
    }

    /// Every sequence grows by tokens that are known already: as many for each, S of them one after the other.
    pub fn extend(&mut self, known: &[u32]) {
        let (count, more) = (self.len(), known.len() / self.len().max(1));
        let mut tokens = Vec::with_capacity(self.tokens.len() + known.len());
        for index in 0..count {
            tokens.extend_from_slice(self.sequence(index));
            tokens.extend_from_slice(&known[index * more..(index + 1) * more]);
        }
        self.tokens = tokens;
        self.length += more;
    }

    /// Only these sequences stay, in this order.
    pub fn select(&mut self, kept: &[usize]) {
        self.tokens = kept
            .iter()
            .flat_map(|&index| self.sequence(index))
            .copied()
            .collect();
        self.episodes = kept.iter().map(|&index| self.episodes[index]).collect();
        self.gather(kept);
    }

    fn gather(&mut self, sources: &[usize]) {
        if self.predicted > 0 {
            self.rows = sources.iter().map(|&source| self.rows[source]).collect();
        }
        if self.window_start != usize::MAX {
            self.cache.gather(sources);
        }
    }

    /// Brings the logits up to date with the sequences.
    ///
    /// # Errors
    /// If the network fails or predicts what is not finite.
    pub fn advance(&mut self) -> Result<()> {
        self.advance_and_predict(0)
    }

    /// [`Self::advance`] of sequences that end with the last number of an action, with predictions of `count` tokens after the reward:
    /// the value, then the next observation.
    ///
    /// # Errors
    /// As there, and if the network predicts no tokens but the next.
    pub fn advance_and_predict(&mut self, count: usize) -> Result<()> {
        self.predicted = count;
        self.compute()?;
        let further = if count > 0 {
            self.rows = (0..self.len()).collect();
            &self.further[..]
        } else {
            &[]
        };
        let mut all = self.logits.iter().chain(further);
        if all.all(|logit| logit.to_f64().is_finite()) {
            Ok(())
        } else {
            Err(Error::Unsuitable(
                "the network's predictions are not finite: its weights are damaged, or training \
             broke them; take an earlier run, or train with a lower learning rate"
                    .to_owned(),
            ))
        }
    }

    fn compute(&mut self) -> Result<()> {
        let step = self.decoder.shape().transition_tokens;
        let excess = self.length.saturating_sub(self.max_tokens);
        let start = excess.next_multiple_of(step);
        if start != self.window_start {
            return self.fill(start);
        }
        let goal = self.conditions.goals.as_ref().map_or(0, |_| step);
        let pending = self.length - start - (self.cache.len() - goal);
        let tokens: Vec<u32> = self
            .tokens
            .chunks_exact(self.length)
            .flat_map(|sequence| &sequence[self.length - pending..])
            .copied()
            .collect();
        self.extend_cache(&tokens, self.predicted)
    }

    /// Appends tokens to what is cached; predicts `count` more than the next.
    fn extend_cache(&mut self, tokens: &[u32], count: usize) -> Result<()> {
        let (cache, logits) = (&mut self.cache, &mut self.logits);
        if count == 0 {
            self.decoder.extend(cache, tokens, logits)?;
        } else {
            let further = (&mut self.further, count);
            self.decoder
                .extend_and_predict(cache, tokens, logits, further)?;
        }
        Ok(())
    }

    /// Computes the windows from `start` on, each common prefix once.
    fn fill(&mut self, start: usize) -> Result<()> {
        let mut from = start;
        let mut parents: Vec<usize> = self.first_groups()?;
        for to in self.stages(start) {
            let (groups, members, sources) = self.group(&parents, from, to);
            self.cache.gather(&sources);
            let tokens: Vec<u32> = groups
                .iter()
                .flat_map(|&member| &self.sequence(member)[from..to])
                .copied()
                .collect();
            let further = if to == self.length { self.predicted } else { 0 };
            self.extend_cache(&tokens, further)?;
            (parents, from) = (members, to);
        }
        // Sequences that differ only before the window share what was computed.
        self.cache.gather(&parents);
        let classes = self.decoder.shape().bins + 1;
        let of = |numbers: &[T], count: usize| -> Vec<T> {
            let rows = parents
                .iter()
                .map(|&group| &numbers[group * count..][..count]);
            rows.flatten().copied().collect()
        };
        self.logits = of(&self.logits, classes);
        if self.predicted > 0 {
            self.further = of(&self.further, self.predicted * classes);
        }
        self.window_start = start;
        Ok(())
    }

    /// Starts the cache: one group for all sequences, or one for each episode with its instruction, and its goal
    /// first. Returns the group of every sequence.
    fn first_groups(&mut self) -> Result<Vec<usize>> {
        let Conditions {
            goals,
            instructions,
        } = &self.conditions;
        if goals.is_none() && instructions.is_none() {
            self.decoder.start(&mut self.cache, 1, None)?;
            return Ok(vec![0; self.len()]);
        }
        let mut present = self.episodes.clone();
        present.dedup();
        let embeddings = instructions.as_ref().map(|instructions| -> Vec<T> {
            let embeddings = present.iter().flat_map(|&e| &instructions[e]);
            embeddings.map(|&x| T::of(f64::from(x))).collect()
        });
        self.decoder
            .start(&mut self.cache, present.len(), embeddings.as_deref())?;
        if let Some(goals) = goals {
            let tokens: Vec<u32> = present.iter().flat_map(|&e| &goals[e]).copied().collect();
            self.decoder
                .extend(&mut self.cache, &tokens, &mut self.logits)?;
        }
        let group = |episode: &usize| present.partition_point(|other| other < episode);
        Ok(self.episodes.iter().map(group).collect())
    }

    /// Where to look again which sequences still share their prefix: at the end of what the search
    /// started with, and in every transition just before its value token, which is not cached.
    fn stages(&self, start: usize) -> Vec<usize> {
        let step = self.decoder.shape().transition_tokens;
        let before_values = (start..self.length).filter(|position| (position + 1) % step == 0);
        let mut stages: Vec<usize> = before_values
            .chain([self.prefix_length, self.length])
            .filter(|&stage| stage > start)
            .collect();
        stages.sort_unstable();
        stages.dedup();
        stages
    }

    /// Splits groups by the tokens `from..to`: one member of each new group, the new group of each
    /// sequence, and the old group of each new one.
    fn group(
        &self,
        parents: &[usize],
        from: usize,
        to: usize,
    ) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
        let mut known: HashMap<(usize, &[u32]), usize> = HashMap::new();
        let (mut first_members, mut sources) = (Vec::new(), Vec::new());
        let mut members = Vec::with_capacity(self.len());
        for (index, &parent) in parents.iter().enumerate() {
            let group = *known
                .entry((parent, &self.sequence(index)[from..to]))
                .or_insert_with(|| {
                    first_members.push(index);
                    sources.push(parent);
                    first_members.len() - 1
                });
            members.push(group);
        }
        (first_members, members, sources)
    }
}
