//! How well a network tells tokens: cross entropy and accuracy of every dimension, on data that it has learned from or not.

use candle_core::DType;

use super::{TerminationPenalty, TrajectoryTransformer};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_data::sequences::{TokenBatch, TokenSequences};

/// Windows that go through the network at once.
const WINDOWS: usize = 64;

/// What a network makes of windows of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScores {
    /// How many windows.
    pub windows: usize,
    /// The training loss on them, without dropout: weighted, the mean over all positions; of next tokens alone.
    pub loss: f64,
    /// Every dimension of a transition: observations, actions, reward, value (D).
    pub dimensions: Vec<TokenScore>,
    /// Of networks that predict several tokens at once (`multi_token`): value, then observation (O + 1), predicted so and, the same tokens,
    /// one after the other.
    pub at_once: Option<[Vec<TokenScore>; 2]>,
}

/// How well tokens of one dimension are told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TokenScore {
    /// Tokens that the loss counts.
    pub tokens: usize,
    /// Their mean cross entropy in nats; a uniform guess among N bins has ln N. NaN without tokens.
    pub cross_entropy: f64,
    /// Share of them that the most likely token is right about. NaN without tokens.
    pub accuracy: f64,
}

impl TrajectoryTransformer {
    /// `data` as windows of tokens, with the bins of this network and its settings: as it would learn from them.
    ///
    /// # Errors
    /// If the data has other dimensions or actions, or no episode of two steps.
    pub fn windows_of(&self, data: &Dataset) -> Result<TokenSequences> {
        let sizes = self.learner.model.net.config();
        let expected = (sizes.observation_dim, sizes.action_dim);
        data.check_dims(expected, "the network")?;
        self.sequences
            .of_others(data, &self.learner.config.token_options())
    }

    /// What the network makes of up to `count` windows, evenly spread over `sequences`, with the weights that act: their averages, where there are
    /// some (`average_decay`), as in losses on what is held out.
    ///
    /// # Errors
    /// If the network reads instructions, or a tensor operation fails.
    pub fn token_scores(&self, sequences: &TokenSequences, count: usize) -> Result<TokenScores> {
        if self.instructed.is_some() {
            let problem = "token scores are not known of networks that read instructions";
            return Err(Error::unsupported(Ability::Instructions, problem));
        }
        let count = count.min(sequences.len());
        let windows: Vec<usize> = (0..count).map(|i| i * sequences.len() / count).collect();
        let device = self.learner.model.params.device();
        let sizes = self.learner.model.net.config();
        let mut sums = Sums::new(sizes.transition_dim());
        let mut at_once = sizes.recipe.multi_token.then(|| {
            let sums = || Sums::new(sizes.observation_dim + 1);
            [sums(), sums()]
        });
        let (mut loss, mut positions) = (0.0, 0);
        for some in windows.chunks(WINDOWS) {
            let batch = sequences.batch(some, device)?;
            let (sum, more) = self.add(&batch, &mut sums, at_once.as_mut())?;
            loss += sum;
            positions += more;
        }
        Ok(TokenScores {
            windows: count,
            loss: loss / positions as f64,
            dimensions: sums.scores(),
            at_once: at_once.map(|sums| sums.map(|sums| sums.scores())),
        })
    }

    /// Adds a batch; returns the sum of its weighted losses and how many positions it has.
    fn add(
        &self,
        batch: &TokenBatch,
        sums: &mut Sums,
        at_once: Option<&mut [Sums; 2]>,
    ) -> Result<(f64, usize)> {
        let (_, net) = self.learner.acting();
        let logits = net.logits(&batch.inputs, None)?.to_dtype(DType::F64)?; // (B, T, N + 1)
        let (rows, time, _) = logits.dims3()?;
        let logits = logits.to_vec3::<f64>()?;
        let targets = batch.targets.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let mask = batch.mask.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let mut loss = 0.0;
        for ((logits, targets), mask) in logits.iter().zip(&targets).zip(&mask) {
            for (position, ((logits, &target), &counts)) in
                logits.iter().zip(targets).zip(mask).enumerate()
            {
                if counts > 0.0 {
                    let dim = (position + 1) % sums.dims.len();
                    let nats = cross_entropy(logits, target as usize);
                    loss += net.weight(position) * nats;
                    sums.add(dim, nats, is_most_likely(logits, target as usize));
                }
            }
        }
        if let Some(at_once) = at_once {
            self.add_at_once(batch, (&logits, &targets), at_once)?;
        }
        Ok((loss, rows * time))
    }

    /// Adds what is predicted at once in a batch, of which these are the logits and targets of next tokens.
    fn add_at_once(
        &self,
        batch: &TokenBatch,
        (next, targets): (&[Vec<Vec<f64>>], &[Vec<u32>]),
        [at_once, one_by_one]: &mut [Sums; 2],
    ) -> Result<()> {
        let (_, net) = self.learner.acting();
        let d = net.config().transition_dim();
        let logits = net.multi_token_logits(&batch.inputs, None)?; // (B, S, K, N + 1)
        let logits = logits.to_dtype(DType::F64)?;
        let mask = net.multi_token_mask(&batch.mask.to_dtype(DType::F32)?)?;
        let mask = mask.to_vec3::<f32>()?;
        for (row, mask) in mask.iter().enumerate() {
            let logits = logits.get(row)?.to_vec3::<f64>()?;
            for (transition, (logits, mask)) in logits.iter().zip(mask).enumerate() {
                for (index, (logits, &counts)) in logits.iter().zip(mask).enumerate() {
                    if counts > 0.0 {
                        // The token's own position predicts it one by one.
                        let position = transition * d + d - 2 + index;
                        let target = targets[row][position] as usize;
                        for (sums, logits) in [
                            (&mut *at_once, logits),
                            (&mut *one_by_one, &next[row][position]),
                        ] {
                            let nats = cross_entropy(logits, target);
                            sums.add(index, nats, is_most_likely(logits, target));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What replaces the reward of a terminating step, if the data's own is not kept.
    pub fn termination_penalty(&self) -> Option<f64> {
        match self.learner.config.termination_penalty {
            TerminationPenalty::Reward(reward) => Some(reward),
            TerminationPenalty::None(_) => None,
        }
    }
}

/// Tokens, nats and right guesses of every dimension.
struct Sums {
    dims: Vec<(usize, f64, usize)>,
}

impl Sums {
    fn new(dims: usize) -> Self {
        Self {
            dims: vec![(0, 0.0, 0); dims],
        }
    }

    fn add(&mut self, dim: usize, nats: f64, right: bool) {
        let (tokens, sum, rights) = &mut self.dims[dim];
        *tokens += 1;
        *sum += nats;
        *rights += usize::from(right);
    }

    fn scores(&self) -> Vec<TokenScore> {
        let score = |&(tokens, nats, right): &(usize, f64, usize)| TokenScore {
            tokens,
            cross_entropy: nats / tokens as f64,
            accuracy: right as f64 / tokens as f64,
        };
        self.dims.iter().map(score).collect()
    }
}

fn cross_entropy(logits: &[f64], target: usize) -> f64 {
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - maximum).exp()).sum();
    maximum + sum.ln() - logits[target]
}

fn is_most_likely(logits: &[f64], target: usize) -> bool {
    logits.iter().all(|&logit| logit <= logits[target])
}
