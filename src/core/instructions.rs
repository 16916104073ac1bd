//! [`Instructions`]: instructions in words, and the embeddings that a sentence encoder made of them.
//!
//! Encoders are frozen. Each distinct instruction is encoded once, before training, and its embedding is kept in
//! the run directory: a run needs the encoder again for instructions that it has never seen, and for nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::keys::Keys;

/// `[algorithm.NAME.text]`: how a policy is conditioned on an instruction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// A folder with a BERT's or GPT-2's `config.json`, `tokenizer.json` and weights, or `hf://ID` for one on the Hub, e.g.
    /// `hf://sentence-transformers/all-MiniLM-L6-v2`.
    pub encoder: String,
    /// Numbers in its embeddings; 384 in MiniLM.
    #[serde(default = "minilm_dimension")]
    pub dimension: usize,
    /// Whether the mean of the embeddings of the single words is appended to that of the sentence. Sentence embeddings
    /// separate "the upper left room" and "the upper right room" poorly; word embeddings separate them well.
    #[serde(default = "yes")]
    pub words: bool,
    /// Whether the model also reads returns to go. If false, the return is left out, so that success from a near start is
    /// not preferred to success from a far one.
    #[serde(default)]
    pub returns: bool,
    /// Expected length of the normal noise that is added to embeddings in training; embeddings have length 1. With
    /// noise the policy also learns the neighbourhood of each embedding, where paraphrases of the instruction lie.
    #[serde(default)]
    pub noise: f64,
}

fn minilm_dimension() -> usize {
    384
}

fn yes() -> bool {
    true
}

impl TextConfig {
    /// Fails if a value is out of range; `table` is the configuration's, e.g. `algorithm.bc.text`.
    pub fn check(&self, table: &'static str) -> Result<()> {
        let keys = Keys(table);
        if self.encoder.trim().is_empty() {
            return Err(keys.wrong("encoder", "empty", "a folder, or hf://ID"));
        }
        keys.counts(&[("dimension", self.dimension, 1 << 16)])?;
        keys.not_negative(&[("noise", self.noise)])
    }

    /// E, numbers in the embedding of an instruction.
    pub fn embedding_dim(&self) -> usize {
        self.dimension * (1 + usize::from(self.words))
    }

    /// Like [`Self::check`], for models that read no returns to go.
    pub fn check_without_returns(&self, table: &'static str) -> Result<()> {
        self.check(table)?;
        if self.returns {
            let expected = "false: only Decision Transformers read returns to go";
            Err(Keys(table).wrong("returns", self.returns, expected))
        } else {
            Ok(())
        }
    }
}

/// Distinct instructions and their embeddings, in order of appearance.
#[derive(Debug, Clone, PartialEq)]
pub struct Instructions {
    /// E.
    dimension: usize,
    texts: Vec<Arc<str>>,
    /// (I, E).
    embeddings: Vec<f32>,
    rows: HashMap<Arc<str>, usize>,
}

impl Instructions {
    /// None yet, of embeddings of this many numbers.
    pub fn new(dimension: usize) -> Self {
        Self {
            dimension,
            texts: Vec::new(),
            embeddings: Vec::new(),
            rows: HashMap::new(),
        }
    }

    /// Adds an instruction; one that is there already keeps its embedding.
    ///
    /// # Errors
    /// If the instruction is empty, or the embedding is not of E finite numbers.
    pub fn insert(&mut self, text: &str, embedding: &[f32]) -> Result<()> {
        if text.trim().is_empty() {
            return Err(Error::Unsuitable(
                "an instruction is empty: say in words what to do".to_owned(),
            ));
        }
        let found = embedding.len();
        if found != self.dimension || !embedding.iter().all(|x| x.is_finite()) {
            return Err(Error::shape(
                format!("the embedding of `{text}`"),
                format_args!("{found} numbers"),
                format_args!("{} finite ones", self.dimension),
            ));
        }
        if !self.rows.contains_key(text) {
            let text: Arc<str> = text.into();
            self.rows.insert(Arc::clone(&text), self.texts.len());
            self.texts.push(text);
            self.embeddings.extend_from_slice(embedding);
        }
        Ok(())
    }

    /// E.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The instructions (I).
    pub fn texts(&self) -> &[Arc<str>] {
        &self.texts
    }

    /// The number of an instruction.
    pub fn row(&self, text: &str) -> Option<usize> {
        self.rows.get(text).copied()
    }

    /// The embedding of an instruction (E).
    ///
    /// # Errors
    /// If it is not among them: what to do.
    pub fn embedding(&self, text: &str) -> Result<&[f32]> {
        let row = self.row(text).ok_or_else(|| Error::UnknownInstruction {
            text: text.to_owned(),
            known: self.texts.len(),
        })?;
        Ok(&self.embeddings[row * self.dimension..(row + 1) * self.dimension])
    }

    /// The embedding (E) of what an episode is asked.
    ///
    /// # Errors
    /// If it is asked nothing, or what is not known.
    pub fn asked(&self, instruction: Option<&str>) -> Result<&[f32]> {
        let text = instruction.ok_or_else(|| {
            Error::Unsuitable(
                "this policy was trained with instructions, and an episode has none".to_owned(),
            )
        })?;
        self.embedding(text)
    }

    /// All embeddings (I, E), f32.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let shape = (self.texts.len(), self.dimension);
        Ok(Tensor::from_slice(&self.embeddings, shape, device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distinct_instruction_is_kept_once() -> Result<()> {
        let mut known = Instructions::new(2);
        known.insert("go left", &[1.0, 2.0])?;
        known.insert("go right", &[3.0, 4.0])?;
        known.insert("go left", &[5.0, 6.0])?;
        assert_eq!(known.texts().len(), 2);
        assert_eq!(known.embedding("go left")?, [1.0, 2.0]);
        assert_eq!(known.embedding("go right")?, [3.0, 4.0]);
        assert_eq!(known.tensor(&Device::Cpu)?.dims(), [2, 2]);
        let problem = known.embedding("go up").expect_err("unknown").to_string();
        assert!(
            problem.contains("`go up`") && problem.contains("the 2 that are known"),
            "{problem}"
        );
        Ok(())
    }

    #[test]
    fn empty_instructions_and_odd_embeddings_are_refused() {
        let mut known = Instructions::new(2);
        for (text, embedding) in [
            (" ", vec![0.0, 0.0]),
            ("go", vec![0.0]),
            ("go", vec![0.0, f32::NAN]),
        ] {
            assert!(known.insert(text, &embedding).is_err(), "{text:?}");
        }
        assert!(known.texts().is_empty());
    }
}
