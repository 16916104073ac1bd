//! [`ActionChunks`]: every observation of a data set with the tokens of the actions that follow.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use trajformer_models::conditional_gpt::ConditionalBatch;
use trajformer_models::health;

use crate::tokenizers::{Chunks, TrajectoryTokenizer};
use trajformer_core::dataset::Dataset;
use trajformer_core::dataset_checks::opened_without_data;
use trajformer_core::error::Result;
use trajformer_core::normalizer::Normalizer;
use trajformer_core::source::Source;
use trajformer_models::rng::Rng;

/// A data set as observations (n, O) and tokenized chunks of the T actions from there on.
///
/// Past the end of an episode its last action is repeated (as huggingface/lerobot does, `lerobot_dataset.py`).
#[derive(Debug)]
pub struct ActionChunks {
    observations: Tensor, // (n, O), normalized
    rows: Vec<f64>,       // (n + padding, A), in the environment's units
    starts: Vec<usize>,   // first row of each chunk
    tokens: Vec<u32>,
    ends: Vec<usize>, // of each chunk's tokens
    /// The chunk after each episode's last.
    episode_ends: Vec<usize>,
    dims: usize,
    steps: usize,
}

impl ActionChunks {
    /// [`Self::new`] for the data of `source`; without data there are no chunks, and no tokenizer is fitted.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_source(
        source: Source<'_>,
        steps: usize,
        normalizer: &Normalizer,
        tokenizer: &mut dyn TrajectoryTokenizer,
        rng: &mut Rng,
    ) -> Result<Self> {
        match source {
            Source::Train(data) => Self::new(data, steps, normalizer, tokenizer, rng),
            Source::Act { .. } => {
                Self::without_data(source.dims(), steps, normalizer.mean().device())
            }
        }
    }

    /// Fits `tokenizer` to the chunks of `steps` actions of `data`, and writes them as its tokens; observations lie on the
    /// device of `normalizer`.
    ///
    /// # Errors
    /// If actions are discrete or not finite, or the tokenizer can't be fitted to them.
    pub fn new(
        data: &Dataset,
        steps: usize,
        normalizer: &Normalizer,
        tokenizer: &mut dyn TrajectoryTokenizer,
        rng: &mut Rng,
    ) -> Result<Self> {
        data.require_continuous_actions("action chunks")?;
        data.require_time_order("learning chunks of actions")?;
        let (rows, starts) = padded_actions(data, steps);
        let chunks = Chunks::new(&rows, data.action_dim, steps, &starts)?;
        tokenizer.fit(&chunks, rng)?;
        let tokenizer = &*tokenizer;
        let encoded: Vec<Vec<u32>> = starts
            .par_iter()
            .map(|&start| {
                let mut tokens = Vec::new();
                tokenizer.encode(chunks.chunk(start), &mut tokens)?;
                Ok(tokens)
            })
            .collect::<Result<_>>()?;
        let ends = encoded.iter().scan(0, |end, tokens| {
            *end += tokens.len();
            Some(*end)
        });
        let shape = (data.steps(), data.observation_dim);
        let observations =
            Tensor::from_slice(&data.observations, shape, normalizer.mean().device())?;
        Ok(Self {
            observations: normalizer.apply(&observations)?,
            ends: ends.collect(),
            episode_ends: data.episodes.iter().map(|e| e.range().end).collect(),
            tokens: encoded.concat(),
            dims: data.action_dim,
            steps,
            rows,
            starts,
        })
    }

    fn without_data((o, a): (usize, usize), steps: usize, device: &Device) -> Result<Self> {
        Ok(Self {
            observations: Tensor::zeros((1, o), DType::F32, device)?,
            rows: Vec::new(),
            starts: Vec::new(),
            tokens: Vec::new(),
            ends: Vec::new(),
            episode_ends: Vec::new(),
            dims: a,
            steps,
        })
    }

    /// Fails if there are no chunks: they were made without data, to act.
    ///
    /// # Errors
    /// Saying so.
    pub fn require_chunks(&self) -> Result<()> {
        if self.is_empty() {
            Err(opened_without_data())
        } else {
            Ok(())
        }
    }

    /// How many chunks: one per step of the data.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none: they were made without data.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Tokens of all chunks together.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// The actions of a chunk, row-major (T, A), in the environment's units.
    pub fn actions(&self, chunk: usize) -> &[f64] {
        &self.rows[self.starts[chunk] * self.dims..][..self.steps * self.dims]
    }

    /// The episode that a chunk begins in.
    pub fn episode_of(&self, chunk: usize) -> usize {
        self.episode_ends.partition_point(|&end| end <= chunk)
    }

    /// The tokens of a chunk.
    pub fn tokens(&self, chunk: usize) -> &[u32] {
        let start = chunk.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[start..self.ends[chunk]]
    }

    /// Normalized observations (B, O) before the chunks of these numbers.
    ///
    /// # Errors
    /// If a number is out of range.
    pub fn observations(&self, chunks: &[u32]) -> Result<Tensor> {
        let device = self.observations.device();
        let numbers = Tensor::from_slice(chunks, chunks.len(), device)?;
        Ok(self.observations.index_select(&numbers, 0)?)
    }

    /// Draws `count` chunks uniformly, with replacement.
    pub fn draw(&self, count: usize, rng: &mut Rng) -> Vec<u32> {
        let chunks: Vec<u32> = (0..count).map(|_| rng.below(self.len()) as u32).collect();
        health::drawn("chunks", || {
            chunks.iter().map(|&chunk| chunk as usize).collect()
        });
        chunks
    }

    /// The chunks with these numbers; the token `end` follows each.
    ///
    /// # Errors
    /// If a number is out of range or a tensor can't be made.
    pub fn batch(&self, chunks: &[u32], end: u32) -> Result<ConditionalBatch> {
        let sequences: Vec<&[u32]> = chunks.iter().map(|&c| self.tokens(c as usize)).collect();
        let device: &Device = self.observations.device();
        let observations = self.observations(chunks)?;
        Ok(ConditionalBatch::new(
            observations,
            &sequences,
            end,
            device,
        )?)
    }
}

/// Actions (n + padding, A) with the last action of each episode repeated `steps` - 1 times, and the row of every step.
pub fn padded_actions(data: &Dataset, steps: usize) -> (Vec<f64>, Vec<usize>) {
    let padding = (steps - 1) * data.episodes.len();
    let mut rows = Vec::with_capacity((data.steps() + padding) * data.action_dim);
    let mut starts = Vec::with_capacity(data.steps());
    for episode in &data.episodes {
        let Range { start, end } = episode.range();
        let places = (start..end).chain(std::iter::repeat_n(end - 1, steps - 1));
        let first = rows.len() / data.action_dim;
        starts.extend(first..first + episode.steps);
        for step in places {
            rows.extend(data.action(step).iter().map(|&number| f64::from(number)));
        }
    }
    (rows, starts)
}
