//! [`Asked`]: whether a run that is there is the one that a configuration asks for. One rule for whatever goes on with runs or takes them for
//! finished: a resumed run, seeds, sweeps.

use crate::app::checkpoint::fingerprint::{
    DataFingerprint, all_settings, data_name, differences, is_free, is_place, listed, settings,
};
use crate::app::checkpoint::{RunDir, RunSpec, RunState};
use crate::app::config::RunConfig;
use crate::app::from_data::as_settled;
use crate::app::prepare::load_data;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::Result;

const PATH: &str = "data.path";

/// What runs are held against. Data that several of them ask for is read once.
#[derive(Debug, Default)]
pub struct Asked {
    /// Whether data is given in memory, in place of what `data.path` names.
    is_given: bool,
    known: Vec<(String, std::result::Result<DataFingerprint, String>)>,
}

impl Asked {
    /// For runs that learn from `given`, if that is something: what `data.path` says does not count then.
    pub fn on(given: Option<&Dataset>) -> Self {
        Self {
            is_given: given.is_some(),
            ..Self::default()
        }
    }

    /// What the run in `run` was started with and `config` asks otherwise, each key with both values; empty if it is the run that is asked for,
    /// or can become it: one with updates left may change on its way what [`is_free`] lets it, one that is finished is what it is. Where its
    /// data and its Python lie and on which device it trains may change always, as long as the data is the same.
    ///
    /// # Errors
    /// If the run can't be read, or its configuration was edited since it was started.
    pub fn misfits(&mut self, run: &RunDir, config: &RunConfig) -> Result<Option<String>> {
        let (stored, spec) = (run.config()?, run.spec()?);
        // An edit of its file is no other configuration that was asked for.
        spec.check_settings(&stored, run.path())?;
        let config = &as_settled(config, &stored);
        let changed = differences(&settings(&stored)?, &settings(config)?);
        if !changed.is_empty() {
            return Ok(Some(listed(&changed)));
        }
        let state = run.state()?;
        self.changed_on_its_way(&stored, config, &spec, state.as_ref())
    }

    /// As [`misfits`](Self::misfits), of keys that a run may change on its way, and of its data.
    ///
    /// # Errors
    /// If a value has no TOML form.
    pub fn changed_on_its_way(
        &mut self,
        stored: &RunConfig,
        config: &RunConfig,
        spec: &RunSpec,
        state: Option<&RunState>,
    ) -> Result<Option<String>> {
        let is_finished = state.is_some_and(|state| state.is_end_of(config));
        let changed = differences(&all_settings(stored)?, &all_settings(config)?);
        let mut found = Vec::new();
        if is_finished {
            let counts = |key: &str| is_free(key) && !is_place(key) && !is_kept(key);
            // Without schedules the updates that it did not come to changed nothing.
            let is_cut = stored.algorithm.keys_of_length().is_empty()
                && stored.online.steps == 0
                && config.online.steps == 0;
            let of_rest = |key: &str| key == "train.updates" && is_cut;
            found.extend(
                changed
                    .iter()
                    .filter(|one| counts(&one.key) && !of_rest(&one.key))
                    .map(|one| one.to_string()),
            );
        }
        // What is learned from anyway is compared then, and what lies at the same place may be other data by now.
        if (is_finished || stored.data.path != config.data.path)
            && !self.is_given
            && let Some(problem) = self.other_data(stored, config, spec, is_finished)
        {
            let path = changed.iter().find(|one| one.key == PATH);
            let path = path.map_or_else(|| PATH.to_owned(), |path| path.to_string());
            found.push(format!("{path}: {problem}"));
        }
        Ok((!found.is_empty()).then(|| found.join(", ")))
    }

    /// Why what `data.path` names now is not what the run learned from; `None` if it is, by its name where it can't be read, or that will be seen
    /// when it is learned from.
    fn other_data(
        &mut self,
        stored: &RunConfig,
        config: &RunConfig,
        spec: &RunSpec,
        is_finished: bool,
    ) -> Option<String> {
        let name = |config: &RunConfig| data_name(&config.data.path);
        let had = spec.data_name.clone().unwrap_or_else(|| name(stored));
        let is_called_so = had == name(config);
        let Some(expected) = &spec.data else {
            // A run of a build that did not keep it.
            return (!is_called_so).then(|| "data of another name".to_owned());
        };
        match self.fingerprint(config) {
            Ok(found) => expected.said_difference(found),
            // What is not here may be the same elsewhere.
            Err(_) if !is_finished || is_called_so => None,
            Err(problem) => Some(format!(
                "whether that is the data that it learned from is not known, it can't be read ({problem})"
            )),
        }
    }

    fn fingerprint(
        &mut self,
        config: &RunConfig,
    ) -> std::result::Result<&DataFingerprint, &String> {
        let drawn = config.data.sample_ratio.map(|_| config.seed);
        let key = format!("{:?} {drawn:?}", config.data);
        let at = self.known.iter().position(|(known, _)| *known == key);
        let at = at.unwrap_or_else(|| {
            let found = load_data(config).map(|data| DataFingerprint::of(&data));
            let found = found.map_err(|error| error.to_string());
            self.known.push((key, found));
            self.known.len() - 1
        });
        self.known[at].1.as_ref()
    }
}

/// Whether a key says which checkpoints stay in a run's folder, which no number of it depends on.
fn is_kept(key: &str) -> bool {
    ["train.keep", "train.keep_every_updates"].contains(&key)
}
