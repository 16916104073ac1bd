//! How much of a data set the codes keep, and how well the prior tells them: on data that was learned from or not.

use candle_core::{D, DType, Device, Tensor};
use trajformer_models::dropout::Dropout;
use trajformer_models::tap::StepBatch;

use super::Tap;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;
use trajformer_data::step_windows::{StepWindows, WindowOptions};

/// Windows that go through the networks at once.
const WINDOWS: usize = 64;
/// Of a number in single precision, with room.
const ROUNDING: f64 = 1e-5;

/// What the networks make of windows of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeScores {
    /// How many windows.
    pub windows: usize,
    /// Root mean square of what windows are after encoding and decoding less what they were, in the standard deviations that the run
    /// learned with: observations, actions, reward, value (D). Steps past an end don't count, nor do rewards that stand for an end
    /// (`termination_penalty`), which are no part of the deviation.
    pub errors: Vec<f64>,
    /// Codes that were told.
    pub codes: usize,
    /// Mean cross entropy of the prior in nats; a uniform guess among K codes has ln K.
    pub cross_entropy: f64,
    /// Share of the codes that the most likely one is right about.
    pub accuracy: f64,
    /// Different codes among them.
    pub used: usize,
    /// exp of the entropy of their frequencies: how many codes they are worth if all were as frequent.
    pub perplexity: f64,
}

impl Tap {
    /// `data` as windows, normalised as this run's own.
    ///
    /// # Errors
    /// If the data has other dimensions or actions, or no complete episode of two steps.
    pub fn windows_of(&self, data: &Dataset) -> Result<StepWindows> {
        let sizes = self.learner.autoencoder().net.config();
        let expected = (sizes.observation_dim, sizes.action_dim);
        data.check_dims(expected, "the networks")?;
        // Steps beyond the longest path that was learned from are told all the same.
        let options = WindowOptions {
            max_path_steps: None,
            ..self.config().window_options()
        };
        let device = self.learner.autoencoder().params.device();
        let own = self.windows.normalizer();
        StepWindows::normalized_by(Some(own), data, &options, "TAP", device)
    }

    /// Scores of up to `most` of these windows, evenly spread.
    ///
    /// # Errors
    /// If there are none, or a tensor operation fails.
    pub fn code_scores(&self, windows: &StepWindows, most: usize) -> Result<CodeScores> {
        let count = windows.len().min(most);
        let rows: Vec<usize> = (0..count).map(|i| i * windows.len() / count).collect();
        let mut squares = Vec::new();
        let (mut steps, mut rewards) = (0.0, 0.0);
        let (mut told, mut entropy, mut right) = (0, 0.0, 0);
        let ends = self.normalized_penalty(windows)?;
        let mut frequencies = vec![0usize; self.config().codes];
        for rows in rows.chunks(WINDOWS) {
            let batch = windows.batch(rows)?;
            let (codes, decoded) = self.through_codes(&batch)?;
            let width = batch.joined.dim(2)?;
            squares.resize(width, 0.0);
            // 1 at steps before the end.
            let counts = batch.terminals.affine(-1.0, 1.0)?; // (B, T, 1)
            let errors = (decoded.narrow(2, 0, width)? - &batch.joined)?.sqr()?;
            let mut sums = numbers(&errors.broadcast_mul(&counts)?.sum((0, 1))?)?; // (D)
            let counted = numbers(&counts.flatten_all()?)?;
            let column = |of: &Tensor| numbers(&of.narrow(2, width - 2, 1)?.flatten_all()?);
            let rewarded = column(&batch.joined)?.into_iter().zip(column(&errors)?);
            sums[width - 2] = 0.0;
            for ((reward, error), count) in rewarded.zip(&counted) {
                if ends.is_none_or(|end| (reward - end).abs() > ROUNDING * end.abs()) {
                    sums[width - 2] += error * count;
                    rewards += count;
                }
            }
            for (sum, more) in squares.iter_mut().zip(sums) {
                *sum += more;
            }
            steps += counted.iter().sum::<f64>();
            let of_batch: Vec<u32> = codes.flatten_all()?.to_vec1()?;
            let before = codes.narrow(1, 0, codes.dim(1)? - 1)?;
            let states = batch.states(self.learner.autoencoder().net.config().observation_dim)?;
            let logits = self.learner.prior().detached.logits(&before, &states)?;
            let logits = logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            let logits = logits.flatten(0, 1)?; // (B N, K)
            let best: Vec<u32> = logits.argmax(D::Minus1)?.to_vec1()?;
            for ((code, best), logits) in of_batch.iter().zip(best).zip(logits.to_vec2::<f64>()?) {
                let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
                entropy += sum.ln() + most - logits[*code as usize];
                right += usize::from(*code == best);
                frequencies[*code as usize] += 1;
            }
            told += of_batch.len();
        }
        let shares = frequencies.iter().filter(|&&count| count > 0);
        let shares = shares.map(|&count| count as f64 / told as f64);
        Ok(CodeScores {
            windows: count,
            errors: (squares.iter().enumerate())
                .map(|(dim, sum)| {
                    let count = if dim + 2 == squares.len() {
                        rewards
                    } else {
                        steps
                    };
                    (sum / count).sqrt()
                })
                .collect(),
            codes: told,
            cross_entropy: entropy / told as f64,
            accuracy: right as f64 / told as f64,
            used: shares.clone().count(),
            perplexity: (-shares.map(|share| share * share.ln()).sum::<f64>()).exp(),
        })
    }

    /// What the reward of an end is, normalised, if training sets it.
    fn normalized_penalty(&self, windows: &StepWindows) -> Result<Option<f64>> {
        let Some(penalty) = self.config().termination_penalty.reward() else {
            return Ok(None);
        };
        let normalizer = windows.normalizer();
        let (mean, scale) = (numbers(normalizer.mean())?, numbers(normalizer.scale())?);
        let place = mean.len() - 2;
        Ok(Some((penalty - mean[place]) / scale[place]))
    }

    /// The actions of an episode of `steps` steps, at least two, after encoding and decoding it window after window (steps, A), in the data's
    /// units; `first` is the place of its first window among `windows`, and each of its steps but the last begins one.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn reconstructed_actions(
        &self,
        windows: &StepWindows,
        first: usize,
        steps: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let sizes = self.learner.autoencoder().net.config();
        let (o, a, time) = (
            sizes.observation_dim,
            sizes.action_dim,
            sizes.window_transitions,
        );
        // No window begins at the last step: that is the second of the one before.
        let begins: Vec<usize> = (0..steps)
            .step_by(time)
            .map(|at| at.min(steps - 2))
            .collect();
        let mut actions = Vec::with_capacity(steps);
        for begins in begins.chunks(WINDOWS) {
            let rows: Vec<usize> = begins.iter().map(|at| first + at).collect();
            let (_, decoded) = self.through_codes(&windows.batch(&rows)?)?;
            let normalizer = windows.normalizer();
            let part = |of: &Tensor| of.narrow(0, o, a);
            let found = decoded
                .narrow(2, o, a)?
                .broadcast_mul(&part(normalizer.scale())?)?
                .broadcast_add(&part(normalizer.mean())?)?; // (B, T, A)
            let found = found.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            for (begin, window) in begins.iter().zip(found.to_vec3::<f32>()?) {
                let known = actions.len() - begin;
                actions.extend(window.into_iter().skip(known).take(steps - begin - known));
            }
        }
        Ok(actions)
    }

    /// Codes (B, T / `latent_steps`) of windows, and what they are decoded to (B, T, D + 1).
    fn through_codes(&self, batch: &StepBatch) -> Result<(Tensor, Tensor)> {
        let net = &self.learner.autoencoder().detached;
        let states = batch.states(net.config().observation_dim)?;
        let codes = net.encode(batch)?;
        let decoded = net.decode(&net.vectors(&codes)?, &states, Dropout::off())?;
        Ok((codes, decoded))
    }
}

fn numbers(of: &Tensor) -> Result<Vec<f64>> {
    let of = of.to_device(&Device::Cpu)?; // Metal has no f64
    Ok(of.to_dtype(DType::F64)?.to_vec1()?)
}
