//! How well a network tells tokens: cross entropy and accuracy of every dimension, on data that it has learned from or not.

use super::telling::{Sums, TokenScore, WINDOWS, add, of_kinds, spread};
use super::{TerminationPenalty, TrajectoryTransformer};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_data::sequences::TokenSequences;

/// Windows that are told for a row of `metrics.csv`: a forward pass of less than one update.
const DIAGNOSED: usize = 64;
/// What a token stands for: columns of `metrics.csv`, of windows that are learned from.
const ACCURACIES: [&str; 4] = [
    "observation_accuracy",
    "action_accuracy",
    "reward_accuracy",
    "value_accuracy",
];
const CROSS_ENTROPIES: [&str; 4] = [
    "observation_cross_entropy",
    "action_cross_entropy",
    "reward_cross_entropy",
    "value_cross_entropy",
];

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
        let windows = spread(sequences.len(), count);
        let count = windows.len();
        let device = self.learner.model.params.device();
        let (_, net) = self.learner.acting();
        let sizes = self.learner.model.net.config();
        let mut sums = Sums::new(sizes.transition_dim());
        let mut at_once = sizes.recipe.multi_token.then(|| {
            let sums = || Sums::new(sizes.observation_dim + 1);
            [sums(), sums()]
        });
        let (mut loss, mut positions) = (0.0, 0);
        for some in windows.chunks(WINDOWS) {
            let batch = sequences.batch(some, device)?;
            let (sum, more) = add(net, &batch, &mut sums, at_once.as_mut())?;
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

    /// Accuracy and cross entropy of each kind of token on some windows that are learned from, always the same, for a row of `metrics.csv`;
    /// nothing of networks that read instructions.
    pub(super) fn token_metrics(&self) -> Result<Vec<(&'static str, f64)>> {
        if self.instructed.is_some() {
            return Ok(Vec::new());
        }
        let dimensions = self.token_scores(&self.sequences, DIAGNOSED)?.dimensions;
        let kinds = of_kinds(self.learner.model.net.config().observation_dim, &dimensions);
        let named = |names: [&'static str; 4], of: fn(&TokenScore) -> f64| {
            let kinds = names.into_iter().zip(&kinds);
            let told = kinds.filter(|(_, kind)| kind.tokens > 0);
            told.map(|(name, kind)| (name, of(kind)))
                .collect::<Vec<_>>()
        };
        let mut found = named(ACCURACIES, |kind| kind.accuracy);
        found.extend(named(CROSS_ENTROPIES, |kind| kind.cross_entropy));
        Ok(found)
    }

    /// What replaces the reward of a terminating step, if the data's own is not kept.
    pub fn termination_penalty(&self) -> Option<f64> {
        match self.learner.config.termination_penalty {
            TerminationPenalty::Reward(reward) => Some(reward),
            TerminationPenalty::None(_) => None,
        }
    }
}
