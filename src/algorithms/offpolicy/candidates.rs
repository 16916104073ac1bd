//! [`CandidatePolicy`]: draws several actions of an actor and takes one of them by its value.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::offpolicy::policy_parts::PolicyParts;
use crate::policies::groups::in_groups;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Rng;

/// Which of the candidates is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The one with the largest value.
    Best,
    /// One with probability proportional to exp(value).
    Weighted,
}

/// From normalised observations (E, O) and standard normals (S, E, A) to candidates (S, E, A) in ±1 and their
/// values (S, E).
pub type Candidates = Box<dyn Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send>;

/// A policy without memory, but with chance: each row draws S candidates from its own stream.
pub struct CandidatePolicy {
    parts: PolicyParts,
    candidates: Candidates,
    samples: usize,
    action_dim: usize,
    choice: Choice,
    streams: Vec<Rng>,
}

impl CandidatePolicy {
    /// Makes a policy that chooses among `samples` (S) candidates of `action_dim` (A) numbers.
    pub fn new(
        parts: PolicyParts,
        candidates: Candidates,
        (samples, action_dim): (usize, usize),
        choice: Choice,
    ) -> Self {
        Self {
            parts,
            candidates,
            samples,
            action_dim,
            choice,
            streams: Vec::new(),
        }
    }

    /// Standard normals (S, E, A), and uniforms in (0, 1] (S, E) where the choice needs them.
    fn draw(&mut self, active: &[bool]) -> Result<(Tensor, Option<Tensor>)> {
        let (s, e, a) = (self.samples, active.len(), self.action_dim);
        let (mut normals, mut uniforms) = (vec![0f32; s * e * a], vec![1f32; s * e]);
        for (row, stream) in self.streams.iter_mut().enumerate() {
            if !active[row] {
                continue;
            }
            for sample in 0..s {
                let place = sample * e + row;
                for number in &mut normals[place * a..(place + 1) * a] {
                    *number = stream.normal() as f32;
                }
                if self.choice == Choice::Weighted {
                    uniforms[place] = (1.0 - stream.uniform()) as f32;
                }
            }
        }
        let device = &self.parts.device;
        let normals = Tensor::from_vec(normals, (s, e, a), device)?;
        let uniforms = match self.choice {
            Choice::Best => None,
            Choice::Weighted => Some(Tensor::from_vec(uniforms, (s, e), device)?),
        };
        Ok((normals, uniforms))
    }
}

impl Policy for CandidatePolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.streams = episodes.iter().map(|start| start.rng.clone()).collect();
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        trajformer_core::policy::check_rows(self.streams.len(), active.len())?;
        let (noise, uniforms) = self.draw(active)?;
        self.choose(observations, &noise, uniforms.as_ref())
    }

    fn is_memoryless(&self) -> bool {
        true
    }

    fn draws(&self) -> bool {
        true
    }
}

impl CandidatePolicy {
    /// What it does with given draws: an action (E, A) for each observation (E, O), from standard normals (S, E, A) and, for a
    /// weighted choice, uniforms in (0, 1] (S, E).
    ///
    /// # Errors
    /// If there are not S normals for each row.
    pub fn choose(
        &self,
        observations: &Tensor,
        noise: &Tensor,
        uniforms: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (drawn, samples) = (noise.dim(0)?, self.samples);
        if drawn != samples {
            return Err(Error::shape("policy: candidates", drawn, samples));
        }
        let PolicyParts {
            normalizer,
            bounds,
            device,
        } = &self.parts;
        let observations = normalizer.apply(&observations.to_device(device)?)?;
        let actions = in_groups(observations.dim(0)?, device, |rows| {
            let noise = noise.index_select(rows, 1)?;
            let observations = observations.index_select(rows, 0)?;
            let (actions, values) = (self.candidates)(&observations, &noise)?; // (S, G, A), (S, G)
            let uniforms = uniforms.map(|u| u.index_select(rows, 1));
            chosen(&actions, &values, uniforms.transpose()?)
        })?;
        let actions = bounds.from_unit(&actions)?; // (E, A)
        Ok(actions.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
    }
}

/// The candidates (S, E, A) with the largest values (S, E); with uniforms (S, E) one by its softmax (Gumbel's trick:
/// the largest of value - ln(-ln u)).
fn chosen(actions: &Tensor, values: &Tensor, uniforms: Option<Tensor>) -> Result<Tensor> {
    let (_, e, a) = actions.dims3()?;
    let scores = match uniforms {
        None => values.clone(),
        // At u = 1 the logarithm is 0: the smallest positive number keeps it finite.
        Some(u) => (values - (u.log()?.neg()? + f64::from(f32::MIN_POSITIVE))?.log()?)?,
    };
    let best = scores.argmax(0)?; // (E)
    let index = best.reshape((1, e, 1))?.broadcast_as((1, e, a))?;
    Ok(actions
        .contiguous()?
        .gather(&index.contiguous()?, 0)?
        .squeeze(0)?)
}

/// `samples` copies of rows (B, F) below each other: (S B, F), copy by copy.
///
/// # Errors
/// If the device fails.
pub fn repeated(rows: &Tensor, samples: usize) -> Result<Tensor> {
    let (b, f) = rows.dims2()?;
    let copies = rows.unsqueeze(0)?.broadcast_as((samples, b, f))?;
    Ok(copies.contiguous()?.reshape((samples * b, f))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_candidate_is_taken_or_one_by_its_weight() -> Result<()> {
        let device = &Device::Cpu;
        // Candidate 0, 1, 2 of two rows are their own numbers, and 10 more in the second row.
        let actions = Tensor::new(
            &[[[0f32], [10.0]], [[1.0], [11.0]], [[2.0], [12.0]]],
            device,
        )?;
        let values = Tensor::new(&[[0f32, 5.0], [2.0, 4.0], [1.0, 3.0]], device)?;
        let best = chosen(&actions, &values, None)?;
        assert_eq!(best.to_vec2::<f32>()?, [[1.0], [10.0]]);
        let rng = &mut Rng::from_seed(0);
        let (mut counts, draws) = ([0u32; 3], 4000);
        for _ in 0..draws {
            let uniforms = rng.uniform_tensor(0.0, 1.0, (3, 2), DType::F32, device)?;
            let taken = chosen(&actions, &values, Some(uniforms))?.to_vec2::<f32>()?;
            counts[taken[0][0] as usize] += 1;
        }
        let total: f64 = [0.0f64, 2.0, 1.0].iter().map(|v| v.exp()).sum();
        for (value, count) in [0.0f64, 2.0, 1.0].into_iter().zip(counts) {
            let (expected, found) = (value.exp() / total, f64::from(count) / f64::from(draws));
            // Four standard deviations of a share of 4000 draws.
            assert!((found - expected).abs() < 0.032, "{found} {expected}");
        }
        Ok(())
    }

    #[test]
    fn copies_of_rows_follow_copy_by_copy() -> Result<()> {
        let rows = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
        let expected = [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]];
        assert_eq!(repeated(&rows, 2)?.to_vec2::<f32>()?, expected);
        Ok(())
    }
}
