//! [`Corpus`]: plain text as sequences of a language model's tokens, to learn to predict.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::keys::Keys;
use trajformer_models::rng::Rng;

/// `[algorithm.lamo.text]`: text that is learned beside the actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// A file of plain text (UTF-8), e.g. WikiText-103's raw training text, the authors'. Read when a run starts and when it
    /// is resumed.
    pub path: PathBuf,
    /// Factor of the loss on text; 0.1 (`co_lambda`).
    #[serde(default = "authors_weight")]
    pub weight: f64,
    /// Sequences in a batch of text; 2.
    #[serde(default = "authors_batch")]
    pub batch_size: usize,
    /// Tokens in a sequence; 1024.
    #[serde(default = "authors_length")]
    pub sequence_tokens: usize,
    /// Words of the language model: rows of its table of tokens; 50,257 in GPT-2.
    #[serde(default = "gpt2_vocabulary")]
    pub vocabulary: usize,
}

fn authors_weight() -> f64 {
    0.1
}

fn authors_batch() -> usize {
    2
}

fn authors_length() -> usize {
    1024
}

fn gpt2_vocabulary() -> usize {
    50_257
}

impl CorpusConfig {
    /// Fails if a value is out of range; `table` is the configuration's.
    pub fn check(&self, table: &'static str) -> Result<()> {
        let keys = Keys(table);
        if self.path.as_os_str().is_empty() {
            return Err(keys.wrong("path", "empty", "a file of plain text"));
        }
        keys.counts(&[
            ("batch_size", self.batch_size, 1 << 16),
            ("vocabulary", self.vocabulary, 1 << 24),
        ])?;
        if !(2..=1 << 16).contains(&self.sequence_tokens) {
            return Err(keys.wrong("sequence_tokens", self.sequence_tokens, "2 to 65536"));
        }
        keys.positive(&[("weight", self.weight)])
    }
}

/// Sequences of tokens.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// (sequences, T), row-major.
    tokens: Vec<u32>,
    sequence_tokens: usize,
}

impl Corpus {
    /// Tokens cut into sequences of `sequence_tokens`; what is left at the end is dropped.
    ///
    /// # Errors
    /// [`Error::Unsuitable`] if there are fewer tokens than one sequence has.
    pub fn new(mut tokens: Vec<u32>, sequence_tokens: usize) -> Result<Self> {
        let whole = tokens.len() / sequence_tokens * sequence_tokens;
        if whole == 0 {
            return Err(Error::Unsuitable(format!(
                "the text has {} tokens, expected at least `text.sequence_tokens` ({sequence_tokens}): give a longer text \
                 or shorter sequences",
                tokens.len()
            )));
        }
        tokens.truncate(whole);
        Ok(Self {
            tokens,
            sequence_tokens,
        })
    }

    /// How many sequences.
    pub fn sequences(&self) -> usize {
        self.tokens.len() / self.sequence_tokens
    }

    /// The tokens (T) of one of them, in the order of the text.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.tokens[index * self.sequence_tokens..(index + 1) * self.sequence_tokens]
    }

    /// Sequences (B, T), u32, each as likely as any other.
    ///
    /// # Errors
    /// If the device fails.
    pub fn sample(&self, batch: usize, rng: &mut Rng, device: &Device) -> Result<Tensor> {
        let length = self.sequence_tokens;
        let mut tokens = Vec::with_capacity(batch * length);
        for _ in 0..batch {
            tokens.extend_from_slice(self.sequence(rng.below(self.sequences())));
        }
        Ok(Tensor::from_vec(tokens, (batch, length), device)?)
    }
}
