//! Acting with generated chunks: which tokens may follow, generation, and the policy around it.

use std::collections::VecDeque;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use trajformer_models::decoder::Cache;
use trajformer_models::decoder::conditional::ConditionalDecoder;

use trajformer_core::error::{Error, Result};
use trajformer_core::instructions::Instructions;
use trajformer_core::normalizer::Normalizer;
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_data::tokenizers::TrajectoryTokenizer;
use trajformer_data::tokenizers::fast_actions::FastActions;
use trajformer_models::rng::Rng;

/// What tokens spell, and how many characters a chunk has.
#[derive(Debug)]
pub(super) struct Grammar {
    bytes: Vec<Vec<u8>>,
    characters: usize,
}

/// How far a text has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Characters, the last one perhaps not whole.
    characters: usize,
    /// Bytes that the last one lacks.
    open: usize,
}

impl Grammar {
    /// The grammar of tokens with these bytes of UTF-8, for chunks of `characters` characters.
    pub fn new(bytes: Vec<Vec<u8>>, characters: usize) -> Self {
        Self { bytes, characters }
    }

    /// Where a token leads; `None` if it breaks a character, is too long or spells nothing.
    fn follow(&self, from: Progress, token: usize) -> Option<Progress> {
        let mut at = from;
        let bytes = self.bytes.get(token).filter(|bytes| !bytes.is_empty())?;
        for &byte in bytes {
            let inner = byte & 0xc0 == 0x80;
            match (at.open, inner) {
                (0, false) => {
                    at.characters += 1;
                    at.open = match byte {
                        0..0xc0 => 0,
                        0xc0..0xe0 => 1,
                        0xe0..0xf0 => 2,
                        _ => 3,
                    };
                }
                (0, true) | (_, false) => return None,
                (_, true) => at.open -= 1,
            }
        }
        (at.characters <= self.characters).then_some(at)
    }

    fn is_whole(&self, at: Progress) -> bool {
        at.characters == self.characters && at.open == 0
    }
}

/// Generates tokens.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    pub decoder: Arc<ConditionalDecoder<f32>>,
    /// What tokens have to obey; `None` for any.
    pub grammar: Option<Arc<Grammar>>,
    /// 0 for the most likely token.
    pub temperature: f64,
}

impl Generator {
    /// The tokens that follow what the network reads first (S, inputs), f32 on the CPU, each with a stream of its own; the end is left
    /// out. A row does not depend on the others.
    pub fn generate(&self, conditions: &Tensor, mut rngs: Vec<&mut Rng>) -> Result<Vec<Vec<u32>>> {
        let count = conditions.dim(0)?;
        let numbers = conditions.flatten_all()?.to_vec1::<f32>()?;
        let (mut cache, mut logits) = (Cache::default(), Vec::new());
        self.decoder.begin(&mut cache, &numbers, &mut logits)?;
        let mut generated = vec![Vec::new(); count];
        let mut progress = vec![Progress::default(); count];
        let mut alive: Vec<usize> = (0..count).collect();
        loop {
            let (mut kept, mut next, mut sources) = (Vec::new(), Vec::new(), Vec::new());
            let classes = self.decoder.vocabulary() + 1;
            for (place, (logits, &row)) in logits.chunks_mut(classes).zip(&alive).enumerate() {
                self.forbid(progress[row], logits);
                let token = self.choose(logits, rngs[row]);
                if token + 1 == classes || generated[row].len() == self.decoder.most_tokens() {
                    continue;
                }
                if let Some(grammar) = &self.grammar {
                    match grammar.follow(progress[row], token) {
                        Some(at) => progress[row] = at,
                        // Nothing was allowed.
                        None => continue,
                    }
                }
                generated[row].push(token as u32);
                kept.push(row);
                next.push(token as u32);
                sources.push(place);
            }
            if kept.is_empty() {
                return Ok(generated);
            }
            if kept.len() < alive.len() {
                cache.gather(&sources);
            }
            alive = kept;
            self.decoder.extend(&mut cache, &next, &mut logits)?;
        }
    }

    /// Makes tokens that must not follow impossible.
    fn forbid(&self, at: Progress, logits: &mut [f32]) {
        let Some(grammar) = &self.grammar else { return };
        let end = logits.len() - 1;
        for (token, logit) in logits.iter_mut().enumerate() {
            let allowed = if token == end {
                grammar.is_whole(at)
            } else {
                grammar.follow(at, token).is_some()
            };
            if !allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// A token by the temperature; the first of equals.
    fn choose(&self, logits: &[f32], rng: &mut Rng) -> usize {
        let mut best = 0;
        for (token, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = token;
            }
        }
        if self.temperature == 0.0 {
            return best;
        }
        let largest = f64::from(logits[best]);
        let weight = |logit: &f32| ((f64::from(*logit) - largest) / self.temperature).exp();
        let total: f64 = logits.iter().map(weight).sum();
        let mut left = rng.uniform() * total;
        for (token, logit) in logits.iter().enumerate() {
            left -= weight(logit);
            if left < 0.0 {
                return token;
            }
        }
        best
    }
}

/// Executes the first actions of generated chunks.
pub(super) struct ChunkPolicy {
    pub generator: Generator,
    pub tokenizer: FastActions,
    pub normalizer: Normalizer,
    /// Lowest and highest action (A).
    pub range: (Vec<f32>, Vec<f32>),
    pub chunk_steps: usize,
    pub execute_steps: usize,
    /// What the network knows of instructions, if it reads them.
    pub instructions: Option<Arc<Instructions>>,
    pub rows: Vec<Row>,
}

/// What one episode remembers.
pub(super) struct Row {
    rng: Rng,
    /// What the network reads of its instruction (E); nothing if it reads none.
    asked: Vec<f32>,
    /// Actions that are still to be executed.
    planned: VecDeque<Vec<f32>>,
}

impl Policy for ChunkPolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        let asked = |start: &EpisodeStart| -> Result<Vec<f32>> {
            match &self.instructions {
                Some(known) => Ok(known.asked(start.instruction.as_deref())?.to_vec()),
                None => Ok(Vec::new()),
            }
        };
        let row = |start: &EpisodeStart| {
            Ok(Row {
                rng: start.rng.clone(),
                asked: asked(start)?,
                planned: VecDeque::new(),
            })
        };
        self.rows = episodes.iter().map(row).collect::<Result<_>>()?;
        Ok(())
    }

    fn needs_instruction(&self) -> bool {
        self.instructions.is_some()
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        trajformer_core::policy::check_rows(self.rows.len(), observations.dim(0)?)?;
        let idle = |(row, active): (&Row, &bool)| *active && row.planned.is_empty();
        let places = self.rows.iter().zip(active).enumerate();
        let places: Vec<u32> = places
            .filter(|(_, row)| idle(*row))
            .map(|(place, _)| place as u32)
            .collect();
        if !places.is_empty() {
            self.plan(observations, &places)?;
        }
        let (low, high) = &self.range;
        let mut actions = Vec::with_capacity(self.rows.len() * low.len());
        for row in &mut self.rows {
            let planned = row.planned.pop_front();
            actions.extend(planned.unwrap_or_else(|| low.clone()));
        }
        let range = low.iter().zip(high).cycle();
        let clipped = actions
            .into_iter()
            .zip(range)
            .map(|(a, (l, h))| a.clamp(*l, *h));
        let shape = (self.rows.len(), low.len());
        Ok(Tensor::from_vec(
            clipped.collect::<Vec<f32>>(),
            shape,
            &Device::Cpu,
        )?)
    }
}

impl ChunkPolicy {
    /// Generates chunks for the rows of these numbers, in ascending order.
    fn plan(&mut self, observations: &Tensor, places: &[u32]) -> Result<()> {
        let numbers = Tensor::from_slice(places, places.len(), observations.device())?;
        let observations = observations.index_select(&numbers, 0)?;
        let device = self.normalizer.mean().device();
        let observations = self.normalizer.apply(&observations.to_device(device)?)?;
        let observations = observations.to_device(&Device::Cpu)?;
        let idle = |place: usize| places.binary_search(&(place as u32)).is_ok();
        let rows = self.rows.iter_mut().enumerate();
        let mut rows: Vec<&mut Row> = rows
            .filter(|(place, _)| idle(*place))
            .map(|(_, row)| row)
            .collect();
        let mut conditions = observations; // (S, O)
        if let Some(known) = &self.instructions {
            let asked: Vec<f32> = rows.iter().flat_map(|row| row.asked.clone()).collect();
            let asked = Tensor::from_vec(asked, (rows.len(), known.dimension()), &Device::Cpu)?;
            conditions = Tensor::cat(&[conditions, asked], 1)?; // (S, O + E)
        }
        let rngs = rows.iter_mut().map(|row| &mut row.rng).collect();
        let generated = self.generator.generate(&conditions, rngs)?;
        for (row, tokens) in rows.iter_mut().zip(&generated) {
            let actions = self.tokenizer.decode(tokens, self.chunk_steps).rows;
            if actions.iter().any(|action| !action.is_finite()) {
                return Err(Error::Unsuitable("a chunk of actions is not finite".into()));
            }
            let actions = actions
                .chunks(self.tokenizer.dims())
                .take(self.execute_steps);
            row.planned = actions
                .map(|action| action.iter().map(|&number| number as f32).collect())
                .collect();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trajformer_models::conditional_gpt::{ConditionalGpt, ConditionalGptConfig};
    use trajformer_models::params::Params;
    use trajformer_models::precision::Precision;

    use super::*;

    /// Tokens: `a`, both halves of `é`, `aé` less its last byte, nothing.
    fn grammar(characters: usize) -> Grammar {
        let bytes: [&[u8]; 5] = [b"a", &[0xc3], &[0xa9], &[b'a', 0xc3], b""];
        Grammar::new(bytes.map(<[u8]>::to_vec).to_vec(), characters)
    }

    #[test]
    fn tokens_follow_while_characters_stay_whole_and_are_not_too_many() {
        let grammar = grammar(2);
        let mut at = Progress::default();
        for (token, allowed) in [
            (0, vec![0, 1, 3]),
            (1, vec![0, 1]),
            (2, vec![2]), // the rest of a character and nothing else
        ] {
            let found: Vec<usize> = (0..6)
                .filter(|&t| grammar.follow(at, t).is_some())
                .collect();
            assert_eq!(found, allowed);
            assert!(!grammar.is_whole(at));
            at = grammar.follow(at, token).expect("allowed");
        }
        assert!(grammar.is_whole(at));
        assert!((0..6).all(|token| grammar.follow(at, token).is_none()));
    }

    fn generator(temperature: f64, grammar: Option<Grammar>) -> Generator {
        let config = ConditionalGptConfig {
            inputs: 3,
            instruction_dim: 0,
            vocabulary: 5,
            most_tokens: 8,
            layers: 1,
            heads: 2,
            embedding: 8,
            dropout: 0.0,
            precision: Precision::Full,
        };
        let mut params = Params::new(candle_core::DType::F32, &Device::Cpu);
        let rng = &mut Rng::from_seed(3);
        ConditionalGpt::new(&config, &mut params.init(rng)).expect("a network");
        for param in params.iter() {
            let shape = param.slot.shape().clone();
            let noise = rng.normal_tensor(shape, candle_core::DType::F32, &Device::Cpu);
            param.slot.set(&noise.expect("noise")).expect("a parameter");
        }
        let tensors = params.tensors().expect("tensors");
        Generator {
            decoder: Arc::new(ConditionalDecoder::new(&tensors, 2).expect("a decoder")),
            grammar: grammar.map(Arc::new),
            temperature,
        }
    }

    fn generate(generator: &Generator, observations: &[[f32; 3]]) -> Vec<Vec<u32>> {
        let count = observations.len() as u64;
        let numbers = observations.concat();
        let observations = Tensor::from_vec(numbers, (observations.len(), 3), &Device::Cpu);
        let observations = observations.expect("observations");
        let mut rngs: Vec<Rng> = (0..count).map(Rng::from_seed).collect();
        let generated = generator.generate(&observations, rngs.iter_mut().collect());
        generated.expect("tokens")
    }

    #[test]
    fn constrained_chunks_are_whole_and_rows_do_not_depend_on_each_other() {
        let observations: Vec<[f32; 3]> = (0..20)
            .map(|row| [row as f32 / 5.0 - 2.0, (row % 3) as f32, 0.5])
            .collect();
        for temperature in [0.0, 1.0] {
            let constrained = generator(temperature, Some(grammar(4)));
            let together = generate(&constrained, &observations);
            for tokens in &together {
                let bytes = tokens
                    .iter()
                    .flat_map(|&t| grammar(4).bytes[t as usize].clone());
                let text = String::from_utf8(bytes.collect()).expect("whole characters");
                assert_eq!(text.chars().count(), 4);
            }
            // Its first row has the first row's stream, alone too.
            assert_eq!(generate(&constrained, &observations[..1])[0], together[0]);
            let free = generate(&generator(temperature, None), &observations);
            assert!(free.iter().all(|tokens| tokens.len() <= 8));
            assert!(free != together, "nothing was left out");
        }
    }
}
