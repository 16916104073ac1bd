//! [`LatentSearch`]: the best imagined futures of a Trajectory Autoencoding Planner, by beam search over its codes.
//!
//! The authors' `beam_with_prior` (ZhengyaoJiang/latentplan, `latentplan/search/optimizer.py`, commit c096a5c; paper, section 3.3).
//! Codes are drawn from the prior; sequences are ranked by
//!
//! ```text
//! sum over t < T - 1 of discount^(t + 1) r_t + discount^T V_(T-1) + weight * min(log P(codes), N log threshold)
//! ```
//!
//! for the T steps decoded so far, N codes in a whole plan. As in their code the last step's reward is left out, though its
//! value begins after it, the first reward is discounted once, and the predicted ends of episodes are not looked at; the
//! threshold is that of the whole plan also while it grows. Beside it, ours: [`LikelihoodOf::Code`] has the sum over codes of min(log P(code), log threshold)
//! in the place of the last term.
//!
//! Equal sequences, which are common where the prior is sure, are computed once.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use trajformer_models::decoder::latent::{LatentDecoder, LatentSequences};
use trajformer_models::kernels::decode::Float;

use crate::planning::sampling::Uniforms;
use trajformer_core::error::{Error, Result};
use trajformer_core::keys::Keys;

/// Where the authors' code cuts log-likelihoods from below.
const LEAST_LOG_LIKELIHOOD: f64 = -1e5;

/// Settings of the search over codes. Defaults: the base of the authors' `config/vqvae.py`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatentPlanConfig {
    /// Transitions to imagine: a multiple of `latent_steps`, at most `window_transitions`. 15; 24 for Adroit.
    pub horizon: usize,
    /// Sequences of codes that stay after each code. 64.
    pub beam_width: usize,
    /// Codes drawn after each of them; `beam_width` times as many at first. 4.
    pub n_expand: usize,
    /// Plans less likely than this to the power of their number of codes are penalised, in (0, 1]. 0.05.
    pub likelihood_threshold: f64,
    /// Weight of the logarithm of their likelihood then. 500.
    pub likelihood_weight: f64,
    /// Whether the threshold is that of the whole plan, or of each code. `"plan"`.
    pub likelihood_of: LikelihoodOf,
    /// Environment steps that follow one plan, the authors' `plan_freq`. 1.
    pub plan_every_steps: usize,
}

/// What the threshold of a plan's likelihood is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LikelihoodOf {
    /// `"plan"`, the authors': the likelihood of all codes with the threshold to the power of a whole plan's number of codes, also
    /// while the plan grows. Likely codes make up for one that is most unlikely.
    #[default]
    Plan,
    /// `"code"`: each code's likelihood with the threshold. Nothing makes up for an unlikely one.
    Code,
}

impl Default for LatentPlanConfig {
    fn default() -> Self {
        Self {
            horizon: 15,
            beam_width: 64,
            n_expand: 4,
            likelihood_threshold: 0.05,
            likelihood_weight: 500.0,
            likelihood_of: LikelihoodOf::Plan,
            plan_every_steps: 1,
        }
    }
}

impl LatentPlanConfig {
    /// Checks ranges, and that a plan fits a window of `window_transitions` and holds whole codes of `latent_steps`.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn check(&self, window_transitions: usize, latent_steps: usize) -> Result<()> {
        let keys = Keys("algorithm.tap.planner");
        keys.counts(&[
            ("horizon", self.horizon, window_transitions),
            ("beam_width", self.beam_width, 1 << 16),
            ("n_expand", self.n_expand, 1 << 16),
            ("plan_every_steps", self.plan_every_steps, self.horizon),
        ])?;
        if !self.horizon.is_multiple_of(latent_steps) {
            let expected = format!("a multiple of `latent_steps` ({latent_steps})");
            return Err(keys.wrong("horizon", self.horizon, expected));
        }
        keys.not_negative(&[("likelihood_weight", self.likelihood_weight)])?;
        let threshold = self.likelihood_threshold;
        if threshold > 0.0 && threshold <= 1.0 {
            Ok(())
        } else {
            Err(keys.wrong("likelihood_threshold", threshold, "above 0, at most 1"))
        }
    }
}

/// A trained network and what its numbers mean.
#[derive(Debug, Clone)]
pub struct LatentModel<T> {
    /// Autoencoder and prior.
    pub decoder: Arc<LatentDecoder<T>>,
    /// Mean and standard deviation of every number of a transition (O + A + 2 each).
    pub moments: (Vec<f64>, Vec<f64>),
    /// Discount of rewards and values.
    pub discount: f64,
}

/// The imagined futures of one episode.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentPlan {
    /// Transitions in the data's units (W, horizon, O + A + 2), best first.
    pub steps: Vec<f64>,
    /// What the search maximised (W).
    pub scores: Vec<f64>,
    /// The sequences that stayed after each code, best first.
    pub history: Vec<Vec<Kept>>,
}

/// A sequence that stayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its codes so far.
    pub codes: Vec<u32>,
    /// What the search maximises.
    pub score: f64,
    /// Logarithm of its probability.
    pub log_likelihood: f64,
}

/// Searches with one network and set of settings.
#[derive(Debug)]
pub struct LatentSearch<T> {
    model: LatentModel<T>,
    config: LatentPlanConfig,
    sequences: LatentSequences<T>,
}

/// One candidate: its sequence, and its likelihood as it was drawn.
#[derive(Debug, Clone, Copy)]
struct Row {
    sequence: usize,
    log_likelihood: f64,
    /// The sum over its codes of the smaller one of their log-likelihood and the threshold's logarithm.
    capped: f64,
    score: f64,
}

/// Distinct sequences of equal length.
#[derive(Debug, Default)]
struct Sequences {
    /// Of each, the sequence of the codes before, among those of the step before that stayed.
    parents: Vec<usize>,
    codes: Vec<u32>,
    /// Transitions of the last code (S, latent steps, D), normalised.
    steps: Vec<f64>,
    /// Discounted rewards so far, the last one's too.
    earned: Vec<f64>,
    /// What a plan that ends here is worth.
    values: Vec<f64>,
}

impl<T: Float> LatentSearch<T> {
    /// # Errors
    /// If the settings are out of range or do not fit the network, or moments have another length.
    pub fn new(model: LatentModel<T>, config: LatentPlanConfig) -> Result<Self> {
        let sizes = model.decoder.sizes();
        config.check(sizes.window_transitions, sizes.latent_steps)?;
        let (found, expected) = (model.moments.0.len(), sizes.joined_dim());
        if found != expected || model.moments.1.len() != expected {
            return Err(Error::shape("moments of transitions", found, expected));
        }
        Ok(Self {
            model,
            config,
            sequences: LatentSequences::default(),
        })
    }

    /// The network and what goes with it.
    pub fn model(&self) -> &LatentModel<T> {
        &self.model
    }

    /// The settings.
    pub fn config(&self) -> &LatentPlanConfig {
        &self.config
    }

    /// Plans from an observation (O) in the data's units; draws come from the uniforms of `episode`.
    ///
    /// # Errors
    /// If the observation has another length, or the network fails or predicts what is not finite.
    pub fn plan(
        &mut self,
        observation: &[f32],
        episode: usize,
        uniforms: &mut dyn Uniforms,
    ) -> Result<LatentPlan> {
        let decoder = Arc::clone(&self.model.decoder);
        let latent = decoder.sizes().latent_steps;
        let (mean, scale) = &self.model.moments;
        let normal = observation.iter().zip(mean.iter().zip(scale));
        let state: Vec<T> = normal
            .map(|(&x, (mean, scale))| T::of((f64::from(x) - mean) / scale))
            .collect();
        let mut logits = Vec::new();
        decoder.start(&mut self.sequences, &state, &mut logits)?;
        let mut rows = vec![Row {
            sequence: 0,
            log_likelihood: 0.0,
            capped: 0.0,
            score: 0.0,
        }];
        let threshold = self.config.likelihood_threshold.ln();
        let mut earned = vec![0.0];
        let codes = self.config.horizon / latent;
        let mut layers: Vec<Sequences> = Vec::with_capacity(codes);
        let mut history = Vec::with_capacity(codes);
        for code in 0..codes {
            let tried = match code {
                0 => self.config.beam_width * self.config.n_expand,
                _ => self.config.n_expand,
            };
            let distributions = distributions(&logits, decoder.sizes().codes)?;
            let mut draw = || uniforms.next(episode);
            let (mut children, drawn) =
                expand(&rows, (tried, threshold), &distributions, &mut draw);
            self.decode(&mut children, &earned, code * latent)?;
            rows = self.best(drawn, &children.values, codes);
            let kept = keep(&mut rows);
            history.push(of_rows(&rows, &kept, &children, &layers));
            if code + 1 < codes {
                let parents = pick(&children.parents, &kept);
                self.sequences.gather_prior(&parents);
                self.sequences.gather_steps(&kept);
                let next = pick(&children.codes, &kept);
                decoder.extend_prior(&mut self.sequences, &next, &mut logits)?;
            }
            earned = pick(&children.earned, &kept);
            layers.push(children.of(&kept, latent));
        }
        Ok(self.plan_of(&rows, &layers, history))
    }

    /// Decodes the last code of every child and says what it is worth; `earned` are the discounted rewards before, by parent.
    fn decode(&mut self, children: &mut Sequences, earned: &[f64], first: usize) -> Result<()> {
        let sizes = self.model.decoder.sizes();
        let (latent, width) = (sizes.latent_steps, sizes.joined_dim());
        let mut found: Vec<T> = Vec::new();
        self.sequences.gather_steps(&children.parents);
        self.model
            .decoder
            .extend_steps(&mut self.sequences, &children.codes, &mut found)?;
        children.steps = found.iter().map(|x| x.to_f64()).collect();
        if !children.steps.iter().all(|x| x.is_finite()) {
            return Err(not_finite());
        }
        let (mean, scale) = &self.model.moments;
        let number = |step: &[f64], at: usize| step[at] * scale[at] + mean[at];
        let discounted = |step: usize| self.model.discount.powi((first + step + 1) as i32);
        for (&parent, steps) in children
            .parents
            .iter()
            .zip(children.steps.chunks_exact(latent * width))
        {
            let mut sum = earned[parent];
            let (mut before, mut value) = (sum, 0.0);
            for (at, step) in steps.chunks_exact(width).enumerate() {
                before = sum;
                sum += discounted(at) * number(step, width - 2);
                value = discounted(at) * number(step, width - 1);
            }
            children.earned.push(sum);
            children.values.push(before + value);
        }
        Ok(())
    }

    /// The `beam_width` best of the rows, best first; ties go to the earlier row.
    fn best(&self, mut rows: Vec<Row>, values: &[f64], codes: usize) -> Vec<Row> {
        let most = self.config.likelihood_threshold.ln() * codes as f64;
        for row in &mut rows {
            let likelihood = match self.config.likelihood_of {
                LikelihoodOf::Plan => row.log_likelihood.max(LEAST_LOG_LIKELIHOOD).min(most),
                LikelihoodOf::Code => row.capped.max(LEAST_LOG_LIKELIHOOD),
            };
            row.score = values[row.sequence] + self.config.likelihood_weight * likelihood;
        }
        rows.sort_by(|a, b| b.score.total_cmp(&a.score));
        rows.truncate(self.config.beam_width);
        rows
    }

    /// The plans of the last rows, in the data's units.
    fn plan_of(&self, rows: &[Row], layers: &[Sequences], history: Vec<Vec<Kept>>) -> LatentPlan {
        let sizes = self.model.decoder.sizes();
        let (part, width) = (sizes.latent_steps * sizes.joined_dim(), sizes.joined_dim());
        let (mean, scale) = &self.model.moments;
        let mut steps = Vec::with_capacity(rows.len() * self.config.horizon * width);
        for row in rows {
            for (layer, sequence) in path(row.sequence, layers) {
                let part = &layers[layer].steps[sequence * part..][..part];
                let moments = mean.iter().zip(scale).cycle();
                steps.extend(
                    part.iter()
                        .zip(moments)
                        .map(|(x, (mean, scale))| x * scale + mean),
                );
            }
        }
        LatentPlan {
            steps,
            scores: rows.iter().map(|row| row.score).collect(),
            history,
        }
    }
}

impl Sequences {
    /// Only these.
    fn of(&self, kept: &[usize], latent: usize) -> Self {
        let part = self.steps.len() / self.codes.len();
        debug_assert!(part.is_multiple_of(latent));
        let steps = kept
            .iter()
            .flat_map(|&i| &self.steps[i * part..(i + 1) * part]);
        Self {
            parents: pick(&self.parents, kept),
            codes: pick(&self.codes, kept),
            steps: steps.copied().collect(),
            earned: pick(&self.earned, kept),
            values: pick(&self.values, kept),
        }
    }
}

/// What the prior says of the codes that follow one sequence.
struct Distribution {
    /// (K)
    cumulative: Vec<f64>,
    log_probabilities: Vec<f64>,
}

impl Distribution {
    /// The number of cumulative probabilities at or below `uniform`.
    fn draw(&self, uniform: f64) -> usize {
        let drawn = self.cumulative.partition_point(|&sum| sum <= uniform);
        drawn.min(self.cumulative.len() - 1)
    }
}

/// Distributions of logits (S, K).
fn distributions<T: Float>(logits: &[T], codes: usize) -> Result<Vec<Distribution>> {
    let distribution = |logits: &[T]| {
        let most = logits.iter().map(|x| x.to_f64()).fold(f64::MIN, f64::max);
        let mut log_probabilities: Vec<f64> = logits.iter().map(|x| x.to_f64() - most).collect();
        let exponentials = log_probabilities.iter().map(|x| x.exp());
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = exponentials
            .map(|x| {
                sum += x;
                sum
            })
            .collect();
        if !sum.is_finite() {
            return Err(not_finite());
        }
        cumulative.iter_mut().for_each(|x| *x /= sum);
        let normalizer = sum.ln();
        log_probabilities.iter_mut().for_each(|x| *x -= normalizer);
        Ok(Distribution {
            cumulative,
            log_probabilities,
        })
    };
    logits.par_chunks_exact(codes).map(distribution).collect()
}

/// Draws so many codes after every row: the distinct sequences, and a row for each draw. The logarithm of the threshold of a code's
/// likelihood comes second.
fn expand(
    rows: &[Row],
    (tried, threshold): (usize, f64),
    distributions: &[Distribution],
    draw: &mut dyn FnMut() -> f64,
) -> (Sequences, Vec<Row>) {
    let mut children = Sequences::default();
    let mut known: HashMap<(usize, usize), usize> = HashMap::new();
    let mut drawn = Vec::with_capacity(rows.len() * tried);
    for row in rows {
        let distribution = &distributions[row.sequence];
        for _ in 0..tried {
            let code = distribution.draw(draw());
            let sequence = *known.entry((row.sequence, code)).or_insert_with(|| {
                children.parents.push(row.sequence);
                children.codes.push(code as u32);
                children.codes.len() - 1
            });
            drawn.push(Row {
                sequence,
                log_likelihood: row.log_likelihood + distribution.log_probabilities[code],
                capped: row.capped + distribution.log_probabilities[code].min(threshold),
                score: 0.0,
            });
        }
    }
    (children, drawn)
}

/// The sequences that rows point to, in order of their first row; rows are renumbered to point into that list.
fn keep(rows: &mut [Row]) -> Vec<usize> {
    let mut known: HashMap<usize, usize> = HashMap::new();
    let mut kept = Vec::new();
    for row in rows {
        row.sequence = *known.entry(row.sequence).or_insert_with(|| {
            kept.push(row.sequence);
            kept.len() - 1
        });
    }
    kept
}

fn pick<V: Copy>(from: &[V], kept: &[usize]) -> Vec<V> {
    kept.iter().map(|&index| from[index]).collect()
}

/// Layers and sequences that lead to a sequence of the last layer, from the first on.
fn path(last: usize, layers: &[Sequences]) -> Vec<(usize, usize)> {
    let mut sequence = last;
    let mut path: Vec<(usize, usize)> = Vec::with_capacity(layers.len());
    for (layer, sequences) in layers.iter().enumerate().rev() {
        path.push((layer, sequence));
        sequence = sequences.parents[sequence];
    }
    path.reverse();
    path
}

/// What is remembered of rows that point into `kept` of `children`, which follow the layers.
fn of_rows(rows: &[Row], kept: &[usize], children: &Sequences, layers: &[Sequences]) -> Vec<Kept> {
    let kept_row = |row: &Row| {
        let child = kept[row.sequence];
        let before = path(children.parents[child], layers);
        let mut codes: Vec<u32> = before
            .into_iter()
            .map(|(layer, sequence)| layers[layer].codes[sequence])
            .collect();
        codes.push(children.codes[child]);
        Kept {
            codes,
            score: row.score,
            log_likelihood: row.log_likelihood,
        }
    };
    rows.iter().map(kept_row).collect()
}

fn not_finite() -> Error {
    Error::Unsuitable(
        "the network's predictions are not finite: its weights are damaged, or training broke them; take an earlier \
         run, or train with a lower learning rate"
            .to_owned(),
    )
}
