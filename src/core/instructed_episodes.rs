//! [`InstructedEpisodes`]: what an algorithm that follows instructions knows of them.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::dataset::{Dataset, Episode};
use crate::error::{Error, Result};
use crate::instructions::{Instructions, TextConfig};
use trajformer_models::rng::Rng;

/// Instructions, and which of them each episode of the data was given.
#[derive(Debug, Clone)]
pub struct InstructedEpisodes {
    text: TextConfig,
    counts: fn(&Episode) -> bool,
    known: Arc<Instructions>,
    /// (I + 1, E); the last row is zero, for episodes that were asked nothing.
    embeddings: Tensor,
    rows: Vec<u32>,
}

impl InstructedEpisodes {
    /// Nothing is known yet. Episodes are numbered among those of the data that count.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(text: &TextConfig, device: &Device, counts: fn(&Episode) -> bool) -> Result<Self> {
        Ok(Self {
            text: text.clone(),
            counts,
            known: Arc::new(Instructions::new(text.embedding_dim())),
            embeddings: Tensor::zeros((1, text.embedding_dim()), DType::F32, device)?,
            rows: Vec::new(),
        })
    }

    /// The configuration, which names the encoder.
    pub fn text(&self) -> &TextConfig {
        &self.text
    }

    /// Sets the instructions that are known from now on: those of every episode of `data`, if it is to be trained on,
    /// and those that the policy may be given. Before the first update and the first policy.
    ///
    /// # Errors
    /// If an episode of `data` was given an instruction that is not known, or a complete one was given none.
    pub fn set(&mut self, known: Arc<Instructions>, data: Option<&Dataset>) -> Result<()> {
        let nothing = known.texts().len();
        let row = |episode: &Episode| match episode.instruction.as_deref() {
            // Data gives instructions to whole episodes: what is cut off at its end has none.
            None if !episode.is_complete() => Ok(nothing as u32),
            text => {
                let text = text.unwrap_or_default();
                let row = known.row(text).map(|row| row as u32);
                row.ok_or_else(|| {
                    Error::Internal(format!(
                        "the instruction `{text}` of an episode was not encoded"
                    ))
                })
            }
        };
        let episodes = data.iter().flat_map(|data| &data.episodes);
        let rows = episodes.filter(|episode| (self.counts)(episode)).map(row);
        self.rows = rows.collect::<Result<_>>()?;
        let device = self.embeddings.device();
        self.embeddings = known.tensor(device)?.pad_with_zeros(0, 0, 1)?;
        self.known = known;
        Ok(())
    }

    /// All instructions.
    pub fn known(&self) -> &Arc<Instructions> {
        &self.known
    }

    /// Embeddings (B, E) of what episodes of these numbers (B) were asked, with the noise of training if there is a
    /// stream to draw it from.
    ///
    /// # Errors
    /// If there is no such episode, or a tensor operation fails.
    pub fn batch(
        &self,
        episodes: impl Iterator<Item = usize>,
        rng: Option<&mut Rng>,
    ) -> Result<Tensor> {
        let device = self.embeddings.device();
        let row = |episode: usize| {
            let unset = || Error::Internal("the data's instructions were not set".to_owned());
            self.rows.get(episode).copied().ok_or_else(unset)
        };
        let rows: Vec<u32> = episodes.map(row).collect::<Result<_>>()?;
        let count = rows.len();
        let rows = Tensor::from_vec(rows, count, device)?;
        let asked = self.embeddings.index_select(&rows, 0)?; // (B, E)
        match rng.filter(|_| self.text.noise > 0.0) {
            Some(rng) => {
                let size = self.text.noise / (self.text.embedding_dim() as f64).sqrt();
                let drawn = rng.normal_tensor(asked.dims2()?, asked.dtype(), device)?;
                Ok((asked + (drawn * size)?)?)
            }
            None => Ok(asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_have_their_instructions_and_what_is_cut_off_none() -> Result<()> {
        let mut known = Instructions::new(2);
        known.insert("go left", &[1.0, 2.0])?;
        known.insert("go right", &[3.0, 4.0])?;
        let episode = |text: Option<&str>, truncated: bool| Episode {
            truncated,
            instruction: text.map(Arc::from),
            ..Episode::new(0, 1)
        };
        let text = TextConfig {
            encoder: "none".to_owned(),
            dimension: 2,
            words: false,
            returns: false,
            noise: 0.5,
        };
        let with = |episodes: Vec<Episode>| {
            let data = Dataset {
                episodes,
                ..Dataset::blank(1, 1)
            };
            let mut told = InstructedEpisodes::new(&text, &Device::Cpu, |_| true)?;
            told.set(known.clone().into(), Some(&data))?;
            Ok::<_, Error>(told)
        };
        let unset = InstructedEpisodes::new(&text, &Device::Cpu, |_| true)?;
        let problem = unset.batch(0..1, None).expect_err("no data").to_string();
        assert!(problem.contains("not set"), "{problem}");
        let told = with(vec![
            episode(Some("go right"), true),
            episode(Some("go left"), true),
            episode(None, false),
        ])?;
        let rng = &mut Rng::from_seed(1);
        let rows = told.batch([2, 0, 1, 0].into_iter(), None)?;
        let expected = [[0.0, 0.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]];
        assert_eq!(rows.to_vec2::<f32>()?, expected);
        let noisy = told.batch(std::iter::repeat_n(1, 10_000), Some(rng))?;
        let clean = told.batch(std::iter::repeat_n(1, 10_000), None)?;
        let mean = (noisy - clean)?
            .sqr()?
            .sum(1)?
            .mean(0)?
            .to_scalar::<f32>()?;
        assert!((mean - 0.25).abs() < 0.01, "squared length {mean}");
        for wrong in [Some("go up"), None] {
            let problem = with(vec![episode(wrong, true)]).expect_err("unknown");
            assert!(problem.to_string().contains("was not encoded"), "{problem}");
        }
        Ok(())
    }
}
