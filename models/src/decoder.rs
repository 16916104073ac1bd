//! [`Decoder`]: next-token logits of a Trajectory Transformer, token by token, with an exact
//! key/value cache.
//!
//! The decoder is a snapshot of a network's weights on the CPU. What it returns equals a forward
//! pass over the whole sequence: value tokens, which nothing attends to, get no cache entry; logits
//! are computed for the last position only. Positions count from the start of the window, so a
//! caller that crops the sequence starts a new cache. [`conditional`] is the same for a
//! [`ConditionalGpt`](crate::conditional_gpt::ConditionalGpt).

pub mod conditional;
mod instruction;
pub mod latent;
mod multi_token;
mod trunk;

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::kernels::decode::{Float, Packed};
use crate::trajectory_transformer::{Positions, Recipe};
use instruction::PackedInstruction;
use multi_token::{More, MultiTokenHeads};
use trunk::{BlockShape, Source, Trunk, invalid};

/// What the weights' shapes do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderShape {
    /// D, tokens per transition; the last of them is the value.
    pub transition_tokens: usize,
    /// N, bins per token; token N is the termination token.
    pub bins: usize,
    /// Attention heads.
    pub heads: usize,
    /// Activation in the blocks: `Gelu` in the paper, or `SquaredRelu`.
    pub activation: Activation,
    /// Parts that may be others than the paper's.
    pub recipe: Recipe,
}

/// Weights of a Trajectory Transformer, packed for decoding on the CPU.
#[derive(Debug)]
pub struct Decoder<T> {
    shape: DecoderShape,
    /// Longest sequence.
    window_tokens: usize,
    token_embedding: Vec<T>,    // (N * D + 1, C)
    position_embedding: Vec<T>, // (window, C)
    trunk: Trunk<T>,
    /// One head per position in a transition, C -> N + 1.
    heads: Vec<Packed<T>>,
    /// Of networks that predict several tokens at once.
    multi_token: Option<MultiTokenHeads<T>>,
    /// What is added to every token of an instruction's embedding, in networks that read them.
    instruction: Option<PackedInstruction<T>>,
}

/// Keys and values of S sequences of equal length that grow together.
///
/// Sequences list the slots of their tokens in a shared pool, so copying, reordering or sharing a
/// prefix moves indices, not numbers.
#[derive(Debug, Clone, Default)]
pub struct Cache<T> {
    /// Slot after slot: layers x (keys, values), and padding.
    pool: Vec<T>,
    /// Slots in use or no longer used; new ones follow.
    used: usize,
    /// Slots that are dead are reclaimed when more than this many are used.
    reclaim_at: usize,
    /// Slots of every sequence, (S, `visible`).
    entries: Vec<u32>,
    /// Tokens of each sequence that have a slot.
    visible: usize,
    sequences: usize,
    /// Tokens of each sequence, value tokens included.
    length: usize,
    /// What instructions add to tokens (I, C); empty where there are none.
    asked: Vec<T>,
    /// The instruction of every sequence (S); empty where there are none.
    instructions: Vec<u32>,
}

impl<T: Float> Cache<T> {
    /// Forgets everything; `sequences` empty sequences without instructions are ready to grow.
    fn start(&mut self, sequences: usize) {
        self.used = 0;
        self.reclaim_at = 4096;
        self.entries.clear();
        self.visible = 0;
        self.sequences = sequences;
        self.length = 0;
        self.asked.clear();
        self.instructions.clear();
    }

    /// Tokens of each sequence, value tokens included.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the sequences are empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Sequence `i` becomes a copy of what `sources[i]` was.
    ///
    /// # Panics
    /// If a source does not exist.
    pub fn gather(&mut self, sources: &[usize]) {
        let mut entries = Vec::with_capacity(sources.len() * self.visible);
        for &source in sources {
            assert!(
                source < self.sequences,
                "sequence {source} of {}",
                self.sequences
            );
            entries.extend_from_slice(&self.entries[source * self.visible..][..self.visible]);
        }
        self.entries = entries;
        self.sequences = sources.len();
        if !self.instructions.is_empty() {
            let of = |&source: &usize| self.instructions[source];
            self.instructions = sources.iter().map(of).collect();
        }
    }

    /// Moves the slots that sequences use to the front of the pool.
    fn reclaim(&mut self, stride: usize) {
        let mut moved = vec![u32::MAX; self.used];
        for &slot in &self.entries {
            moved[slot as usize] = 0;
        }
        let mut live = 0;
        for (slot, to) in moved.iter_mut().enumerate() {
            if *to == 0 {
                self.pool
                    .copy_within(slot * stride..(slot + 1) * stride, live * stride);
                *to = live as u32;
                live += 1;
            }
        }
        for slot in &mut self.entries {
            *slot = moved[*slot as usize];
        }
        self.used = live;
        self.reclaim_at = 2 * live + 4096;
    }
}

impl<T: Float> Decoder<T> {
    /// Copies the weights in `tensors`, which carry the authors' names (`tok_emb.weight`,
    /// `pos_emb`, `blocks.I...`, `ln_f`, `head.weight`) and those of [`Positions`].
    ///
    /// # Errors
    /// If one is missing or has a shape that does not fit.
    pub fn new(tensors: &BTreeMap<String, Tensor>, shape: DecoderShape) -> Result<Self> {
        let DecoderShape {
            transition_tokens: d,
            bins: n,
            heads,
            activation,
            recipe,
        } = shape;
        let source = Source { tensors };
        let (position_embedding, width) = position_rows(&source, recipe.positions, (d, heads))?;
        let token_embedding = source.numbers("tok_emb.weight", &[n * d + 1, width])?;
        let head = if recipe.tied_heads {
            heads_of_embeddings(&token_embedding, (d, n, width))
        } else {
            source.numbers("head.weight", &[d, n + 1, width])?
        };
        let blocks = BlockShape {
            heads,
            activation,
            parts: recipe.parts,
        };
        Ok(Self {
            shape,
            window_tokens: position_embedding.len() / width,
            token_embedding,
            position_embedding,
            trunk: Trunk::new(&source, width, blocks)?,
            heads: head
                .chunks_exact((n + 1) * width)
                .map(|head| Packed::new(head, None, width))
                .collect(),
            multi_token: if recipe.multi_token {
                Some(MultiTokenHeads::new(&source, width, (d, n + 1))?)
            } else {
                None
            },
            instruction: PackedInstruction::new(&source, width)?,
        })
    }

    /// E, numbers in the embedding of an instruction; 0 in networks that read none.
    pub fn instruction_dim(&self) -> usize {
        self.instruction
            .as_ref()
            .map_or(0, PackedInstruction::inputs)
    }

    /// Forgets what `cache` holds and starts S empty sequences there; `instructions` are the embeddings of theirs, (S, E)
    /// row-major, for networks that read them.
    ///
    /// # Errors
    /// If the embeddings are not S rows of E, or there are some and the network reads none, or the reverse.
    pub fn start(
        &self,
        cache: &mut Cache<T>,
        sequences: usize,
        instructions: Option<&[T]>,
    ) -> Result<()> {
        cache.start(sequences);
        match (&self.instruction, instructions) {
            (None, None) => Ok(()),
            (Some(layer), Some(embeddings)) if embeddings.len() == sequences * layer.inputs() => {
                cache.asked = layer.forward(embeddings.iter().copied());
                cache.instructions = (0..sequences as u32).collect();
                Ok(())
            }
            (_, embeddings) => Err(invalid(format!(
                "{} numbers are not {sequences} embeddings of instructions with {} numbers",
                embeddings.map_or(0, <[T]>::len),
                self.instruction_dim()
            ))),
        }
    }

    /// D, N and heads.
    pub fn shape(&self) -> DecoderShape {
        self.shape
    }

    /// Tokens in the longest sequence.
    pub fn window_tokens(&self) -> usize {
        self.window_tokens
    }

    /// Appends `tokens` (S, n), without offsets, to the sequences of `cache` and puts the logits of
    /// the token that follows into `logits` (S, N + 1).
    ///
    /// # Errors
    /// If the sequences outgrow the window, or tokens are out of range or not n per sequence.
    pub fn extend(&self, cache: &mut Cache<T>, tokens: &[u32], logits: &mut Vec<T>) -> Result<()> {
        self.extend_with(cache, tokens, logits, None)
    }

    /// O, numbers of the observation that a network predicts at once, with the value; `None` if it predicts no tokens but the next.
    pub fn multi_token_observations(&self) -> Option<usize> {
        self.multi_token.as_ref().map(|heads| heads.count() - 1)
    }

    /// [`Self::extend`] by tokens that end with the last number of an action, whose `logits` are the reward's; puts the logits of the
    /// `count` tokens after it, each by itself, into `more` (S, `count`, N + 1): the value, then the next observation.
    ///
    /// # Errors
    /// As there; if the network predicts no so many, or the tokens end elsewhere.
    pub fn extend_and_predict(
        &self,
        cache: &mut Cache<T>,
        tokens: &[u32],
        logits: &mut Vec<T>,
        (more, count): (&mut Vec<T>, usize),
    ) -> Result<()> {
        let known = self.multi_token.as_ref().map_or(0, MultiTokenHeads::count);
        let d = self.shape.transition_tokens;
        let end = cache.length + tokens.len() / cache.sequences.max(1);
        if count == 0 || count > known || end % d != d - 2 {
            return Err(invalid(format!(
                "{count} tokens at once after {end}: a network of transitions of {d} predicts up to {known}, after actions"
            )));
        }
        more.resize(cache.sequences * count * (self.shape.bins + 1), T::ZERO);
        self.extend_with(cache, tokens, logits, Some(more))
    }

    fn extend_with(
        &self,
        cache: &mut Cache<T>,
        tokens: &[u32],
        logits: &mut Vec<T>,
        more: Option<&mut Vec<T>>,
    ) -> Result<()> {
        let DecoderShape {
            transition_tokens: d,
            bins,
            ..
        } = self.shape;
        let sequences = cache.sequences;
        if sequences == 0 || tokens.is_empty() || !tokens.len().is_multiple_of(sequences) {
            return Err(invalid(format!(
                "{} tokens for {sequences} sequences",
                tokens.len()
            )));
        }
        self.check_tokens(tokens, bins)?;
        if self.instruction.is_some() == cache.instructions.is_empty() {
            return Err(invalid(
                "sequences have instructions if the network reads them, and none otherwise"
                    .to_owned(),
            ));
        }
        let count = tokens.len() / sequences;
        let end = cache.length + count;
        if end > self.window_tokens {
            return Err(invalid(format!(
                "a sequence of {end} tokens is longer than the window of {}",
                self.window_tokens
            )));
        }
        // Value tokens that something follows are never looked at.
        let is_value = |position: usize| position % d == d - 1;
        let kept: Vec<usize> = (0..count)
            .filter(|i| i + 1 == count || !is_value(cache.length + i))
            .collect();
        let cached = kept.len() - usize::from(is_value(end - 1));
        let mut x = Vec::with_capacity(sequences * kept.len() * self.trunk.width);
        let width = self.trunk.width;
        for (sequence, tokens) in tokens.chunks_exact(count).enumerate() {
            let start = x.len();
            for &i in &kept {
                self.push_embedding(tokens[i] as usize, cache.length + i, &mut x);
            }
            if let Some(&instruction) = cache.instructions.get(sequence) {
                let asked = &cache.asked[instruction as usize * width..][..width];
                let numbers = x[start..].chunks_exact_mut(width).flatten();
                numbers
                    .zip(asked.iter().cycle())
                    .for_each(|(number, &asked)| *number += asked);
            }
        }
        logits.resize(sequences * (bins + 1), T::ZERO);
        let head = &self.heads[(end - 1) % d];
        let more = self.multi_token.as_ref().zip(more);
        let more = more.map(|(multi_token, logits)| More {
            multi_token,
            heads: &self.heads,
            logits,
        });
        let counts = (kept.len(), cached);
        self.trunk.run_with(cache, x, counts, (head, logits), more);
        cache.length = end;
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32], highest: usize) -> Result<()> {
        match tokens.iter().find(|&&token| token as usize > highest) {
            Some(token) => Err(invalid(format!("token {token} is above {highest}"))),
            None => Ok(()),
        }
    }

    fn push_embedding(&self, token: usize, position: usize, x: &mut Vec<T>) {
        let DecoderShape {
            transition_tokens: d,
            bins,
            ..
        } = self.shape;
        let row = if token == bins {
            bins * d
        } else {
            (position % d) * bins + token
        };
        let width = self.trunk.width;
        let token = &self.token_embedding[row * width..][..width];
        let position = &self.position_embedding[position * width..][..width];
        x.extend(
            token
                .iter()
                .zip(position)
                .map(|(&token, &position)| token + position),
        );
    }
}

/// What is added to each token of a window of transitions of D tokens (window, C), and C, which `heads` divides.
fn position_rows<T: Float>(
    source: &Source<'_>,
    positions: Positions,
    (d, heads): (usize, usize),
) -> Result<(Vec<T>, usize)> {
    let (name, usual) = match positions {
        Positions::Learned => ("pos_emb", 10 * d - 1),
        Positions::StepAndDimension => ("step_emb", 10),
    };
    let found = source.get(name)?.dims();
    let (rows, width) = match *found {
        [1, rows, width] if heads > 0 && width > 0 && width % heads == 0 => (rows, width),
        _ => {
            return Err(Error::TensorShape {
                name: name.to_owned(),
                found: found.to_vec(),
                expected: vec![1, usual, 32 * heads],
            });
        }
    };
    let table: Vec<T> = source.numbers(name, &[1, rows, width])?;
    if positions == Positions::Learned {
        return Ok((table, width));
    }
    let dimensions: Vec<T> = source.numbers("dimension_emb", &[1, d, width])?;
    let mut all = Vec::with_capacity(rows * d * width);
    for step in table.chunks_exact(width) {
        for dimension in dimensions.chunks_exact(width) {
            let pairs = step.iter().zip(dimension);
            all.extend(pairs.map(|(&step, &dimension)| step + dimension));
        }
    }
    // The last value is predicted, never read.
    all.truncate((rows * d).saturating_sub(1) * width);
    Ok((all, width))
}

/// Weights (D, N + 1, C) of the heads of a network whose heads are embeddings (N D + 1, C): the one at a place predicts the tokens
/// of the next, and termination, whose embedding is the last.
fn heads_of_embeddings<T: Float>(table: &[T], (d, n, width): (usize, usize, usize)) -> Vec<T> {
    let (places, end) = table.split_at(d * n * width);
    let of = |place: usize| [&places[place * n * width..][..n * width], end].concat();
    (0..d).flat_map(|place| of((place + 1) % d)).collect()
}
