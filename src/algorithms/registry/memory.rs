//! What training needs of memory at least, by a configuration and the sizes of its data, before anything of it is made.

use serde_json::{Map, Value};

use crate::registry::AlgorithmConfig;
use trajformer_core::error::{Error, Result};

/// Values of a parameter that is trained: itself, its gradient and two moments of the optimiser.
const PER_WEIGHT: usize = 4;
/// Values of a layer's output while a batch goes through: itself and its gradient.
const PER_OUTPUT: usize = 2;
/// Bytes of a value.
const BYTES: usize = 4;

impl AlgorithmConfig {
    /// Bytes that training on data with `observation_dim` numbers in an observation and `action_dim` in an action, or one of `choices`, needs
    /// at least: weights of the networks with gradients and moments, and one batch of the widest layers' outputs. The data itself, target networks
    /// and everything else that is small beside these are left out. Saturates where it is more than can be counted.
    ///
    /// # Errors
    /// [`Error::Internal`] if the configuration can't be written.
    pub fn least_memory(
        &self,
        observation_dim: usize,
        action_dim: usize,
        choices: Option<usize>,
    ) -> Result<usize> {
        let written = serde_json::to_value(self).map_err(Error::internal)?;
        let Some(Value::Object(table)) = written.get(self.name()) else {
            return Ok(0);
        };
        let table = Table(table);
        let (seen, out) = (observation_dim, choices.unwrap_or(action_dim));
        let values = match table.embedding() {
            Some(width) => table.of_transformer(width, seen, out),
            None => table.of_layers(seen, action_dim, choices),
        };
        Ok(values.saturating_mul(BYTES))
    }
}

/// A table of a configuration.
struct Table<'a>(&'a Map<String, Value>);

impl Table<'_> {
    fn count(&self, key: &str) -> Option<usize> {
        usize::try_from(self.0.get(key)?.as_u64()?).ok()
    }

    fn widths(&self, key: &str) -> Option<Vec<usize>> {
        let widths = self.0.get(key)?.as_array()?.iter();
        let widths = widths.map(|width| usize::try_from(width.as_u64()?).ok());
        widths.collect()
    }

    /// Width of a transformer's tokens; `None` of other networks.
    fn embedding(&self) -> Option<usize> {
        let by_head = || {
            let heads = self.count("heads")?;
            Some(heads.saturating_mul(self.count("embedding_per_head")?))
        };
        self.count("embedding").or_else(by_head)
    }

    /// An actor, and the critics and V that most have beside it.
    fn of_layers(&self, seen: usize, action_dim: usize, choices: Option<usize>) -> usize {
        let out = choices.unwrap_or(action_dim);
        let actor = self
            .widths("actor_hidden")
            .or_else(|| self.widths("hidden"));
        let critic = self
            .widths("critic_hidden")
            .or_else(|| self.widths("hidden"));
        let (actor, critic) = (actor.unwrap_or_default(), critic.unwrap_or_default());
        let critics = if self.0.contains_key("discount") {
            self.count("members").unwrap_or(2)
        } else {
            0
        };
        // Of actions that are numbers a critic has one value, of choices one for each. Discrete CQL has no actor.
        let (critics, values) = match choices {
            Some(choices) => (critics.saturating_sub(1), choices),
            None => (critics, 1),
        };
        let batch = self.count("batch_size").unwrap_or(1);
        let actor = of_network(seen, &actor, out, batch);
        let critic = of_network(seen, &critic, values, batch);
        actor.saturating_add(critic.saturating_mul(critics))
    }

    /// Blocks, what embeds observations and actions, and what predicts actions.
    fn of_transformer(&self, width: usize, seen: usize, out: usize) -> usize {
        let layers = self.count("layers").unwrap_or(1);
        let batch = self.count("batch_size").unwrap_or(1);
        let blocks = product(&[PER_WEIGHT, layers, 12, width, width]);
        // Rows that go through the blocks: one token per step, at least.
        let steps = self
            .count("context_steps")
            .or_else(|| self.count("window_transitions"));
        let rows = batch.saturating_mul(steps.unwrap_or(1));
        let passed = product(&[PER_OUTPUT, layers, 4, rows, width]);
        let ends = match self.count("bins") {
            // Every number of a step is a token of its own.
            Some(bins) => product(&[PER_WEIGHT, seen.saturating_add(2), bins, width]),
            None => of_network(seen, &[width], out, rows),
        };
        blocks.saturating_add(passed).saturating_add(ends)
    }
}

/// Values of a network of these layers and of one batch of their outputs.
fn of_network(seen: usize, hidden: &[usize], out: usize, rows: usize) -> usize {
    let widths: Vec<usize> = [&[seen], hidden, &[out]].concat();
    let weights = widths
        .windows(2)
        .map(|pair| product(&[PER_WEIGHT, pair[0], pair[1]]));
    let outputs = widths[1..]
        .iter()
        .map(|&width| product(&[PER_OUTPUT, rows, width]));
    weights.chain(outputs).fold(0, usize::saturating_add)
}

fn product(factors: &[usize]) -> usize {
    factors.iter().copied().fold(1, usize::saturating_mul)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ALGORITHMS;

    fn configured(text: &str) -> AlgorithmConfig {
        toml::from_str(text).expect("a configuration")
    }

    #[test]
    fn what_is_needed_is_counted_by_hand() {
        let bc = configured("[bc]\nhidden = [10, 20]\nbatch_size = 8");
        // Weights 3 x 10, 10 x 20, 20 x 5, four values each; outputs of 10, 20 and 5, two each for 8 rows.
        let values = 4 * (30 + 200 + 100) + 2 * 8 * (10 + 20 + 5);
        assert_eq!(bc.least_memory(3, 2, Some(5)).expect("bytes"), 4 * values);
        let iql = configured("[iql]\nhidden = [10]\nbatch_size = 8");
        let network = |out: usize| 4 * (30 + 10 * out) + 2 * 8 * (10 + out);
        let found = iql.least_memory(3, 1, Some(5)).expect("bytes");
        assert_eq!(found, 4 * 2 * network(5));
        let found = iql.least_memory(3, 2, None).expect("bytes");
        assert_eq!(found, 4 * (network(2) + 2 * network(1)));
        let dt = configured(
            "[decision_transformer]\nlayers = 2\nheads = 1\nembedding = 10\nbatch_size = 4\ncontext_steps = 5",
        );
        let values = 4 * 2 * 12 * 100 + 2 * 2 * 4 * 20 * 10 + 4 * (30 + 20) + 2 * 20 * (10 + 2);
        assert_eq!(dt.least_memory(3, 2, None).expect("bytes"), 4 * values);
    }

    #[test]
    fn every_algorithm_needs_more_for_wider_data_and_little_by_default() {
        for name in ALGORITHMS.iter().map(|row| row.name) {
            let config = configured(&format!("[{name}]"));
            let usual = config.least_memory(17, 6, None).expect("bytes");
            assert!((1..4 << 30).contains(&usual), "{name}: {usual}");
            let wide = config.least_memory(17 << 20, 6, None).expect("bytes");
            assert!(wide > 1 << 33, "{name}: {wide}");
        }
    }
}
