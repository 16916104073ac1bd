//! What TAP's codes keep of data, and how its prior tells them.

use serde::Serialize;

use trajformer_algorithms::tap::Tap;
use trajformer_algorithms::tap::code_scores::CodeScores;
use trajformer_core::dataset::Dataset;

/// What the networks make of a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Codes {
    /// Which data: `training`, `held-out` or `given`.
    pub data: &'static str,
    /// Windows, evenly spread.
    pub windows: usize,
    /// Root mean square of what windows are after encoding and decoding less what they were, in the training data's standard deviations: every
    /// dimension by its name.
    pub errors: Vec<(String, f64)>,
    /// The same over observations.
    pub observations: f64,
    /// Over actions.
    pub actions: f64,
    /// Of rewards.
    pub rewards: f64,
    /// Of values.
    pub values: f64,
    /// Mean cross entropy of the prior on the windows' codes, in nats.
    pub cross_entropy: f64,
    /// Share of the codes that the prior's most likely one is right about.
    pub accuracy: f64,
    /// Different codes in these windows.
    pub used: usize,
    /// Codes that there are.
    pub of: usize,
    /// How many codes those are worth, by the entropy of their frequencies.
    pub perplexity: f64,
}

/// What `network` makes of `data`, by these scores of its windows.
pub(super) fn codes(
    network: &Tap,
    (name, data): (&'static str, &Dataset),
    scores: &CodeScores,
) -> Codes {
    let (o, a) = (data.observation_dim, data.action_dim);
    let over = |errors: &[f64]| {
        let squares: f64 = errors.iter().map(|error| error.powi(2)).sum();
        (squares / errors.len() as f64).sqrt()
    };
    let name_of = |dim: usize| match dim {
        dim if dim < o => format!("observation {dim}"),
        dim if dim < o + a => format!("action {}", dim - o),
        dim if dim == o + a => "reward".to_owned(),
        _ => "value".to_owned(),
    };
    Codes {
        data: name,
        windows: scores.windows,
        observations: over(&scores.errors[..o]),
        actions: over(&scores.errors[o..o + a]),
        rewards: scores.errors[o + a],
        values: scores.errors[o + a + 1],
        errors: (scores.errors.iter().enumerate())
            .map(|(dim, &error)| (name_of(dim), error))
            .collect(),
        cross_entropy: scores.cross_entropy,
        accuracy: scores.accuracy,
        used: scores.used,
        of: network.config().codes,
        perplexity: scores.perplexity,
    }
}
