//! [`Purpose`]: what a trained run is opened for, and with it which keys of its configuration still count. Everything else
//! was decided by training, and setting it is an error.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::config::departures::{flatten, values};
use crate::app::config::moved::current;
use crate::app::config::overrides::apply_override;
use crate::app::config::run_config::RunConfig;
use trajformer_core::error::{Error, Origin, Result};

/// What a trained run is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// To act in a program of one's own: takes what any of the others takes.
    #[default]
    Act,
    /// To be scored in an environment.
    Evaluate,
    /// To be judged by data.
    Judge,
    /// To show one plan.
    Plan,
    /// To be written as a file.
    Export,
}

use Purpose::{Evaluate, Export, Judge, Plan};

/// Keys outside of the algorithm's table, and what reads them. A data set that judges a run is read as the run's own was.
const KEYS: &[(&str, &[Purpose])] = &[
    ("device", &[Evaluate, Judge, Plan, Export]),
    ("evaluate.env", &[Evaluate, Plan, Export]),
    ("evaluate.episodes", &[Evaluate]),
    ("evaluate.seed", &[Evaluate]),
    ("evaluate.goal", &[Evaluate, Plan]),
    ("evaluate.instructions", &[Evaluate]),
    ("evaluate.python", &[Evaluate, Plan]),
    ("evaluate.observation_keys", &[Evaluate, Plan]),
    ("data.max_episode_steps", &[Judge]),
    ("data.observation_keys", &[Judge]),
    ("data.observation_columns", &[Judge]),
];

impl Purpose {
    /// The word for what happens to the run.
    fn done(self) -> &'static str {
        match self {
            Self::Act => "opened",
            Evaluate => "evaluated",
            Judge => "judged by data",
            Plan => "planned with",
            Export => "exported",
        }
    }

    fn reads(self, readers: &[Self]) -> bool {
        self == Self::Act || readers.contains(&self)
    }
}

impl RunConfig {
    /// The configuration of a trained run, with `overrides` of what counts for `purpose`: keys of the device, of scoring, and
    /// of how its algorithm acts. `further` are keys that count beside these, because something is still to be made of them.
    ///
    /// # Errors
    /// As [`Self::with_overrides`], and if an override names or changes another key: it says which can be set.
    pub fn opened_with(
        &self,
        overrides: &[String],
        purpose: Purpose,
        further: &[String],
    ) -> Result<Self> {
        let config = self.with_overrides(overrides)?;
        let settable = self.settable(purpose, further);
        let counts = |key: &str| names(&settable, key);
        for text in overrides {
            if let Some(key) = named_keys(text)?.iter().find(|key| !counts(key)) {
                return Err(decided(std::slice::from_ref(text), key, purpose, &settable));
            }
        }
        // What stands in a table that an override replaced as a whole is not named by it.
        let (before, now) = (values(self)?, values(&config)?);
        let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let changed = keys
            .into_iter()
            .find(|key| before.get(*key) != now.get(*key) && !counts(key));
        match changed {
            Some(key) => Err(decided(overrides, key, purpose, &settable)),
            None => Ok(config),
        }
    }

    /// Whether `key` still counts where a trained run is opened for `purpose`.
    pub fn can_be_set(&self, key: &str, purpose: Purpose) -> bool {
        names(&self.settable(purpose, &[]), key)
    }

    /// Keys, and tables of keys, that count for `purpose`.
    fn settable(&self, purpose: Purpose, further: &[String]) -> Vec<String> {
        let around = KEYS.iter().filter(|(_, readers)| purpose.reads(readers));
        let table = self.algorithm.keys();
        let acting = self.algorithm.acting_keys().iter();
        around
            .map(|(key, _)| (*key).to_owned())
            .chain(acting.map(|key| format!("{table}.{key}")))
            .chain(further.iter().cloned())
            .collect()
    }
}

/// Whether `key` is among `settable`, or in a table among them.
fn names(settable: &[String], key: &str) -> bool {
    let inside = |table: &String| key.strip_prefix(table)?.chars().next();
    settable
        .iter()
        .any(|known| known == key || inside(known) == Some('.'))
}

/// The keys that one `KEY=VALUE` gives values, those inside of an inline table too.
fn named_keys(text: &str) -> Result<Vec<String>> {
    let mut table = toml::Table::new();
    apply_override(&mut table, text)?;
    let mut found = BTreeMap::new();
    flatten("", table, &mut found);
    Ok(found.into_keys().map(|key| current(&key)).collect())
}

fn decided(overrides: &[String], key: &str, purpose: Purpose, settable: &[String]) -> Error {
    let done = purpose.done();
    let why = if key.starts_with("algorithm.") {
        "was decided by training: networks that are trained keep their sizes and what they learned with; for another \
         value train anew"
            .to_owned()
    } else {
        format!("has no effect where a trained run is {done}")
    };
    Error::settings(format!(
        "`{key}` {why}. What can be set for a run that is {done}: {}",
        settable.join(", ")
    ))
    .said_by(Some(Origin::Overrides(overrides.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_replaced_as_a_whole_must_not_take_other_keys_with_it() {
        let opened = |text: &str, set: &str| {
            let stored = RunConfig::parse(text).expect("a configuration");
            stored.opened_with(&[set.to_owned()], Purpose::Act, &[])
        };
        let bear = "[algorithm.bear]\nbatch_size = 16\n";
        let error = opened(bear, "algorithm.bear={ acting_samples = 3 }");
        let error = error.expect_err("the batch too").to_string();
        assert!(
            error.contains("`algorithm.bear.batch_size` was decided"),
            "{error}"
        );
        let whole = "algorithm.bear={ acting_samples = 3, batch_size = 16 }";
        let error = opened(bear, whole).expect_err("named").to_string();
        assert!(
            error.contains("`algorithm.bear.batch_size` was decided"),
            "{error}"
        );
        let planner = "algorithm.trajectory_transformer.planner={ horizon = 3 }";
        let planned = opened("[algorithm.trajectory_transformer]\n", planner);
        assert!(
            planned
                .expect("a planner")
                .to_toml()
                .expect("text")
                .contains("horizon = 3")
        );
    }
}
