//! What a search takes from a network that predicts value and next observation from the last number of an action: plans with A + 1
//! sequential steps for a transition in place of O + A + 2.
//!
//! A step for each number of the action; the last of them gives the reward, the value and the next observation, which then go
//! through the network together. Nothing is approximated but what the heads do: numbers of an observation are predicted each by itself.

use trajformer_models::kernels::decode::Float;

use crate::planning::beam_search::{BeamSearch, SearchModel};
use crate::planning::plan_config::PlanConfig;
use crate::planning::sampling::greedy;
use trajformer_core::error::{Error, Result};

impl<T: Float> BeamSearch<T> {
    /// Whether values and observations are taken from the heads that predict several tokens at once.
    pub(super) fn predicts_at_once(&self) -> bool {
        self.config.multi_token != Some(false)
            && self.model.decoder.multi_token_observations().is_some()
    }

    /// Brings the sequences up to date, which end with the action of transition `t`: reward, value and what is observed next. After the
    /// last transition no observation is asked for.
    pub(super) fn predict_at_once(&mut self, t: usize) -> Result<()> {
        let observations = if t + 1 < self.config.horizon {
            self.model.observation_dim
        } else {
            0
        };
        self.hypotheses.advance_and_predict(1 + observations)
    }

    /// Appends the likeliest next observation to every sequence.
    pub(super) fn observe_at_once(&mut self) {
        let (hypotheses, o) = (&self.hypotheses, self.model.observation_dim);
        let greedy_of = |sequence: usize| {
            (1..=o).map(move |index| greedy(hypotheses.further_logits(sequence, index)))
        };
        let tokens: Vec<u32> = (0..hypotheses.len()).flat_map(greedy_of).collect();
        self.hypotheses.extend(&tokens);
    }
}

impl<T: Float> SearchModel<T> {
    /// Fails if the network predicts several tokens at once and doesn't fit observations or settings.
    pub(super) fn check_multi_token(&self, config: &PlanConfig) -> Result<()> {
        let Some(known) = self.decoder.multi_token_observations() else {
            return Ok(());
        };
        if known != self.observation_dim {
            return Err(Error::Unsuitable(format!(
                "a network that predicts observations of {known} numbers at once does not fit observations of {}",
                self.observation_dim
            )));
        }
        config.check_multi_token()
    }
}
