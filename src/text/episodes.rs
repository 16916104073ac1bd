//! [`InstructedEpisodes`]: what the episodes of a data set were asked to do, for algorithms that train on it.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::Instructions;
use crate::data::{Dataset, Episode};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Instructions, and which of them each episode was given.
#[derive(Debug, Clone)]
pub struct InstructedEpisodes {
    known: Arc<Instructions>,
    /// (I + 1, E); the last row is zero, for episodes that were asked nothing.
    embeddings: Tensor,
    rows: Vec<u32>,
}

impl InstructedEpisodes {
    /// Of those episodes of `data` that count, in their order; none without data.
    ///
    /// # Errors
    /// If one of them was given an instruction that is not known, or a complete one was given none.
    pub fn new(
        known: Arc<Instructions>,
        data: Option<&Dataset>,
        device: &Device,
        counts: impl Fn(&Episode) -> bool,
    ) -> Result<Self> {
        let nothing = known.texts().len();
        let row = |episode: &Episode| match episode.instruction.as_deref() {
            // Data gives instructions to whole episodes: what is cut off at its end has none.
            None if !episode.is_complete() => Ok(nothing as u32),
            text => {
                let text = text.unwrap_or_default();
                let row = known.row(text).map(|row| row as u32);
                row.ok_or_else(|| {
                    Error::Unsuitable(format!(
                        "the instruction `{text}` of an episode was not encoded"
                    ))
                })
            }
        };
        let episodes = data.iter().flat_map(|data| &data.episodes);
        let rows = episodes.filter(|episode| counts(episode)).map(row);
        Ok(Self {
            rows: rows.collect::<Result<_>>()?,
            embeddings: known.tensor(device)?.pad_with_zeros(0, 0, 1)?,
            known,
        })
    }

    /// All instructions.
    pub fn known(&self) -> &Arc<Instructions> {
        &self.known
    }

    /// Embeddings (B, E) of what episodes of these numbers (B) were asked, each with normal noise of expected length
    /// `noise`; nothing is drawn for 0.
    ///
    /// # Errors
    /// If a tensor operation fails.
    ///
    /// # Panics
    /// If there is no such episode.
    pub fn batch(
        &self,
        episodes: impl Iterator<Item = usize>,
        noise: f64,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        let device = self.embeddings.device();
        let rows: Vec<u32> = episodes.map(|episode| self.rows[episode]).collect();
        let count = rows.len();
        let rows = Tensor::from_vec(rows, count, device)?;
        let asked = self.embeddings.index_select(&rows, 0)?; // (B, E)
        if noise == 0.0 {
            return Ok(asked);
        }
        let size = noise / (self.known.dimension() as f64).sqrt();
        let drawn = rng.normal_tensor(asked.dims2()?, asked.dtype(), device)?;
        Ok((asked + (drawn * size)?)?)
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
            start: 0,
            steps: 1,
            terminated: false,
            truncated,
            final_observation: None,
            instruction: text.map(Arc::from),
        };
        let with = |episodes: Vec<Episode>| {
            let data = Dataset {
                episodes,
                ..Dataset::blank(1, 1)
            };
            InstructedEpisodes::new(known.clone().into(), Some(&data), &Device::Cpu, |_| true)
        };
        let told = with(vec![
            episode(Some("go right"), true),
            episode(Some("go left"), true),
            episode(None, false),
        ])?;
        let rng = &mut Rng::from_seed(1);
        let rows = told.batch([2, 0, 1, 0].into_iter(), 0.0, rng)?;
        let expected = [[0.0, 0.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]];
        assert_eq!(rows.to_vec2::<f32>()?, expected);
        let noisy = told.batch(std::iter::repeat_n(1, 10_000), 0.5, rng)?;
        let clean = told.batch(std::iter::repeat_n(1, 10_000), 0.0, rng)?;
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
