//! How well a network tells the tokens of batches: sums of cross entropies and right guesses, by dimension and by what tokens stand for.

use candle_core::{DType, Device, Tensor};
use trajformer_models::trajectory_transformer::TrajectoryTransformer as Network;

use trajformer_core::error::Result;
use trajformer_data::sequences::{TokenBatch, TokenSequences};

/// Windows that go through the network at once.
pub(super) const WINDOWS: usize = 64;
/// Windows of what is held out whose accuracy is told beside its losses.
const HELD_OUT_WINDOWS: usize = 256;
/// Columns of `metrics.csv` of what is held out, by what a token stands for; its cross entropies are of more windows.
const HELD_OUT_ACCURACIES: [&str; 4] = [
    "held_out_observation_accuracy",
    "held_out_action_accuracy",
    "held_out_reward_accuracy",
    "held_out_value_accuracy",
];

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

/// Up to `most` of `count` places, evenly spread.
pub(super) fn spread(count: usize, most: usize) -> Vec<usize> {
    let most = most.min(count);
    (0..most).map(|place| place * count / most).collect()
}

/// Accuracies of each kind of token on some of the windows that are held out.
pub(super) fn held_out_accuracies(
    net: &Network,
    windows: &TokenSequences,
    device: &Device,
) -> Result<Vec<(&'static str, f64)>> {
    let sizes = net.config();
    let mut sums = Sums::new(sizes.transition_dim());
    for some in spread(windows.len(), HELD_OUT_WINDOWS).chunks(WINDOWS) {
        add(net, &windows.batch(some, device)?, &mut sums, None)?;
    }
    let kinds = of_kinds(sizes.observation_dim, &sums.scores());
    let kinds = HELD_OUT_ACCURACIES.into_iter().zip(kinds);
    let told = kinds.filter(|(_, kind)| kind.tokens > 0);
    Ok(told.map(|(name, kind)| (name, kind.accuracy)).collect())
}

/// Observations, actions, rewards and values, each kind as one.
pub(super) fn of_kinds(observation_dim: usize, dimensions: &[TokenScore]) -> [TokenScore; 4] {
    let actions = dimensions.len() - 2;
    [
        0..observation_dim,
        observation_dim..actions,
        actions..actions + 1,
        actions + 1..actions + 2,
    ]
    .map(|kind| together(&dimensions[kind]))
}

fn together(scores: &[TokenScore]) -> TokenScore {
    let tokens: usize = scores.iter().map(|score| score.tokens).sum();
    let mean = |of: fn(&TokenScore) -> f64| {
        let told = scores.iter().filter(|score| score.tokens > 0);
        let sum: f64 = told.map(|score| of(score) * score.tokens as f64).sum();
        sum / tokens as f64
    };
    TokenScore {
        tokens,
        cross_entropy: mean(|score| score.cross_entropy),
        accuracy: mean(|score| score.accuracy),
    }
}

/// Numbers of a tensor of any type, on the CPU.
fn wide(of: &Tensor) -> Result<Tensor> {
    Ok(of.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
}

/// Adds a batch; returns the sum of its weighted losses and how many positions it has.
pub(super) fn add(
    net: &Network,
    batch: &TokenBatch,
    sums: &mut Sums,
    at_once: Option<&mut [Sums; 2]>,
) -> Result<(f64, usize)> {
    let logits = wide(&net.logits(&batch.inputs, None)?)?; // (B, T, N + 1)
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
        add_at_once(net, batch, (&logits, &targets), at_once)?;
    }
    Ok((loss, rows * time))
}

/// Adds what is predicted at once in a batch, of which these are the logits and targets of next tokens.
fn add_at_once(
    net: &Network,
    batch: &TokenBatch,
    (next, targets): (&[Vec<Vec<f64>>], &[Vec<u32>]),
    [at_once, one_by_one]: &mut [Sums; 2],
) -> Result<()> {
    let d = net.config().transition_dim();
    let logits = wide(&net.multi_token_logits(&batch.inputs, None)?)?; // (B, S, K, N + 1)
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

/// Tokens, nats and right guesses of every dimension.
pub(super) struct Sums {
    dims: Vec<(usize, f64, usize)>,
}

impl Sums {
    pub(super) fn new(dims: usize) -> Self {
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

    pub(super) fn scores(&self) -> Vec<TokenScore> {
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
