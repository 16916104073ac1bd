//! How well a network tells the tokens of data that it has learned from, and of other data.

use serde::Serialize;

use trajformer_algorithms::trajectory_transformer::TrajectoryTransformer;
use trajformer_algorithms::trajectory_transformer::telling::TokenScore;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;

/// Windows of each data set that go through the network.
const WINDOWS: usize = 1_000;

/// What a network makes of the tokens of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tokens {
    /// Which data: `training`, `held-out` or `given`.
    pub data: &'static str,
    /// Windows, evenly spread.
    pub windows: usize,
    /// The training loss on them, without dropout.
    pub loss: f64,
    /// Mean cross entropy of the tokens in nats, and the share of them whose most likely token is right: observations.
    pub observations: Told,
    /// Actions.
    pub actions: Told,
    /// Rewards.
    pub rewards: Told,
    /// Values.
    pub values: Told,
    /// Every dimension, by its name.
    pub dimensions: Vec<(String, Told)>,
    /// Of networks that predict value and next observation at once (`multi_token`), these predictions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<AtOnce>,
}

/// What is predicted at once, and the same tokens one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtOnce {
    /// Next observations, at once.
    pub observations: Told,
    /// Values, at once.
    pub values: Told,
    /// The same observations, one number after the other.
    pub observations_one_by_one: Told,
    /// The same values, after their rewards.
    pub values_one_by_one: Told,
}

/// How well some tokens are told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Told {
    /// How many.
    pub tokens: usize,
    /// In nats.
    pub cross_entropy: f64,
    /// 0 to 1.
    pub accuracy: f64,
}

/// What `network` makes of `data`.
///
/// # Errors
/// If the data doesn't fit it.
pub(super) fn tokens(
    network: &TrajectoryTransformer,
    data: &Dataset,
    name: &'static str,
) -> Result<Tokens> {
    let found = network.token_scores(&network.windows_of(data)?, WINDOWS)?;
    let (o, a) = (data.observation_dim, data.action_dim);
    let told = told_of(&found.dimensions);
    let at_once = found.at_once.map(|of| {
        let [at_once, one_by_one] = of.map(|scores| told_of(&scores));
        AtOnce {
            observations: all(&at_once[1..]),
            values: at_once[0],
            observations_one_by_one: all(&one_by_one[1..]),
            values_one_by_one: one_by_one[0],
        }
    });
    let names = (0..o + a + 2).map(|dim| match dim {
        dim if dim < o => format!("observation {dim}"),
        dim if dim < o + a => format!("action {}", dim - o),
        dim if dim == o + a => "reward".to_owned(),
        _ => "value".to_owned(),
    });
    Ok(Tokens {
        data: name,
        windows: found.windows,
        loss: found.loss,
        observations: all(&told[..o]),
        actions: all(&told[o..o + a]),
        rewards: told[o + a],
        values: told[o + a + 1],
        dimensions: names.zip(told.iter().copied()).collect(),
        at_once,
    })
}

fn told_of(scores: &[TokenScore]) -> Vec<Told> {
    let told = |score: &TokenScore| Told {
        tokens: score.tokens,
        cross_entropy: score.cross_entropy,
        accuracy: score.accuracy,
    };
    scores.iter().map(told).collect()
}

/// Several dimensions as one.
fn all(told: &[Told]) -> Told {
    let tokens: usize = told.iter().map(|told| told.tokens).sum();
    let mean = |of: fn(&Told) -> f64| {
        let counted = told.iter().filter(|told| told.tokens > 0);
        let sum: f64 = counted.map(|told| of(told) * told.tokens as f64).sum();
        sum / tokens as f64
    };
    Told {
        tokens,
        cross_entropy: mean(|told| told.cross_entropy),
        accuracy: mean(|told| told.accuracy),
    }
}
