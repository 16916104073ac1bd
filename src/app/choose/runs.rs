//! Which runs are compared, and what they have in common: shapes, data, the way it is read.

use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::app::checkpoint::fingerprint::DataFingerprint;
use crate::app::checkpoint::places::called;
use crate::app::checkpoint::{RunDir, RunSpec};
use crate::app::compare::alike::said_of_one;
use crate::app::compare::found::{Once, Run, Series, found_all, readable};
use crate::app::config::RunConfig;
use crate::app::datasets;
use crate::app::evaluations::EvaluationRow;
use crate::app::run;
use crate::formats::files::{self, LoadOptions};
use trajformer_algorithms::registry::AlgorithmConfig;
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::error::{Error, Result};
use trajformer_core::normalizer::ActionBounds;
use trajformer_data::transitions::reward_transform;
use trajformer_data::transitions_config::{RewardTransform, TransitionsConfig};

/// A run that may be chosen.
pub struct Contender {
    /// As it was named.
    pub name: String,
    /// Its folder, or that of a checkpoint that it keeps.
    pub folder: PathBuf,
    /// What comparisons know of it.
    pub run: Run,
    /// Updates of its checkpoint.
    pub updates: u64,
    config: RunConfig,
    spec: RunSpec,
}

/// How a run's critics see rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rewards {
    /// Factor.
    pub scale: f32,
    /// Added afterwards.
    pub shift: f32,
    /// Discount.
    pub discount: f64,
}

/// The runs at or below `paths`, each once. One that can't be read, or whose weights are missing or cut off, is left out and named in `notes`.
///
/// # Errors
/// If there is nothing at a path, no run can be read, or fewer than two are left.
pub fn found(paths: &[PathBuf], notes: &mut Vec<String>) -> Result<Vec<Contender>> {
    let (series, about) = found_all(paths, Once::Run)?;
    notes.extend(about);
    let mut all = Vec::new();
    for Series { path, runs } in series {
        let is_one = runs.len() == 1;
        all.extend(runs.into_iter().map(|folder| Series {
            // One that is alone is called as it was named.
            path: if is_one {
                path.clone()
            } else {
                called(&folder)
            },
            runs: vec![folder],
        }));
    }
    let (read, unread) = readable(all, |folder| {
        let directory = RunDir::open(folder)?;
        if let Some(state) = directory.state()? {
            directory.check_policy_lengths(&state)?;
        }
        // Before others are judged for long. Networks are not kept until then: those of all runs may not fit in the memory.
        let trained = run::open(folder, &[])?;
        Ok(Contender {
            name: String::new(),
            updates: trained.state.update,
            run: Run::read(folder)?,
            config: trained.config,
            spec: trained.spec,
            folder: folder.to_path_buf(),
        })
    })?;
    notes.extend(unread);
    let contenders = read.into_iter().flat_map(|(series, runs)| {
        let name = series.path.display().to_string();
        runs.into_iter().map(move |run| Contender {
            name: name.clone(),
            ..run
        })
    });
    let contenders: Vec<Contender> = contenders.collect();
    check_several(&contenders, notes)?;
    notes.extend(contenders.iter().flat_map(|one| one.run.about_files()));
    let changed = contenders.iter().filter(|one| !one.run.changed.is_empty());
    notes.extend(changed.map(|one| format!("{}: {}", one.name, said_of_one(&one.run.changed))));
    Ok(contenders)
}

/// Fails where a single run is left.
fn check_several(contenders: &[Contender], notes: &[String]) -> Result<()> {
    let [only] = contenders else {
        return Ok(());
    };
    let why = notes.first().map(|first| format!("; {first}"));
    Err(Error::Unsuitable(format!(
        "{} is one run: a choice is among at least two; name others beside it{}",
        only.name,
        why.unwrap_or_default()
    )))
}

impl Contender {
    /// Its evaluations in `env` up to its checkpoint, oldest first.
    pub fn evaluations_in(&self, env: &str) -> Vec<EvaluationRow> {
        if self.run.task.env.as_deref() == Some(env) {
            let rows = self.run.evaluations.iter();
            rows.filter(|row| row.update <= self.updates)
                .copied()
                .collect()
        } else {
            Vec::new()
        }
    }

    /// Whether it plans at every step, which is slow.
    pub fn plans(&self) -> bool {
        matches!(
            self.config.algorithm,
            AlgorithmConfig::TrajectoryTransformer(_) | AlgorithmConfig::Tap(_)
        )
    }

    /// Whether its actions depend on the steps before, so that it acts at every step of the data in turn.
    pub fn remembers(&self) -> bool {
        use AlgorithmConfig as Of;
        let algorithm = &self.config.algorithm;
        self.plans()
            || matches!(
                algorithm,
                Of::DecisionTransformer(_)
                    | Of::Lamo(_)
                    | Of::Fast(_)
                    | Of::OnlineDt(_)
                    | Of::Qt(_)
                    | Of::Reinformer(_)
            )
    }

    fn dims(&self) -> (usize, usize) {
        (self.spec.observation_dim, self.spec.action_dim)
    }

    /// How its critics see rewards; `None` where its configuration doesn't say, or it depends on other data than this.
    ///
    /// # Errors
    /// If the configuration can't be read.
    pub fn rewards(&self, shared: &Shared, notes: &mut Vec<String>) -> Result<Option<Rewards>> {
        let table = toml::Table::try_from(&self.config.algorithm).map_err(Error::internal)?;
        let Some(own) = table.get(self.config.algorithm.name()) else {
            return Ok(None);
        };
        let discount = own.get("discount").and_then(toml::Value::as_float);
        let transform = own.get("data").and_then(|data| data.get("rewards"));
        let (Some(discount), Some(transform)) = (discount, transform) else {
            return Ok(None);
        };
        let rewards: RewardTransform = transform.clone().try_into().map_err(Error::internal)?;
        let is_own = self.spec.data.as_ref() == Some(&shared.fingerprint);
        if rewards == RewardTransform::ReturnRange && !is_own {
            notes.push(format!(
                "{}: its critics see rewards scaled by other data, so no temporal-difference error is computed",
                self.name
            ));
            return Ok(None);
        }
        let view = TransitionsConfig {
            rewards,
            ..TransitionsConfig::default()
        };
        let (scale, shift) = reward_transform(&shared.data, &view)?;
        Ok((scale != 0.0).then_some(Rewards {
            scale,
            shift,
            discount,
        }))
    }
}

/// What all runs have in common.
pub struct Shared {
    /// The data that they are judged by.
    pub data: Dataset,
    /// The range of actions that is ±1: the widest of theirs.
    pub bounds: ActionBounds,
    fingerprint: DataFingerprint,
}

impl Shared {
    /// Of these runs, by the data at `given` or their own; at least one run. One whose own data is not where its configuration says is left
    /// out of them and named in `notes`.
    ///
    /// # Errors
    /// If they differ in shapes or in how they read data, have other data each and none is given, fewer than two are left, or it doesn't
    /// fit them.
    pub fn of(
        contenders: &mut Vec<Contender>,
        given: Option<&Path>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        for other in &contenders[1..] {
            check_alike(&contenders[0], other)?;
        }
        let options = contenders[0].config.data.load_options();
        let data = match given {
            Some(path) => files::load_with(&datasets::resolved(&[path.to_path_buf()])?, &options)?,
            None => own_data(contenders, &options, notes)?,
        };
        let first = &contenders[0];
        let (found, expected) = ((data.observation_dim, data.action_dim), first.dims());
        let kind = first.spec.action_kind();
        if found != expected || !data.action_kind.acts_in(kind) {
            return Err(Error::Dimensions {
                problem: format!(
                    "the runs have {} observations and {}, {} has {} and {}",
                    expected.0,
                    kind.said(expected.1),
                    data.source_names(),
                    found.0,
                    data.action_kind.said(found.1)
                ),
                found,
                expected,
            });
        }
        let fingerprint = DataFingerprint::of(&data);
        let others = contenders.iter().filter(|one| {
            let own = one.spec.data.as_ref();
            own.is_some_and(|own| own != &fingerprint)
        });
        match others.count() {
            0 => {}
            count => notes.push(format!(
                "{count} of {} runs learned from other data than they are judged by",
                contenders.len()
            )),
        }
        let ranges: Vec<(&[f32], &[f32])> = contenders
            .iter()
            .map(|one| (&one.spec.action_low[..], &one.spec.action_high[..]))
            .collect();
        Ok(Self {
            bounds: widest(kind, &ranges)?,
            data,
            fingerprint,
        })
    }
}

fn check_alike(first: &Contender, other: &Contender) -> Result<()> {
    let (expected, found) = (first.dims(), other.dims());
    let (kind, other_kind) = (first.spec.action_kind(), other.spec.action_kind());
    if expected != found || kind != other_kind {
        return Err(Error::Dimensions {
            problem: format!(
                "{} has {} observations and {}, {} has {} and {}: a choice is among runs of one task",
                first.name,
                expected.0,
                kind.said(expected.1),
                other.name,
                found.0,
                other_kind.said(found.1)
            ),
            found,
            expected,
        });
    }
    if first.config.data.load_options() != other.config.data.load_options() {
        return Err(Error::Unsuitable(format!(
            "{} and {} read data in different ways (`data.max_episode_steps`, `data.observation_keys` or `data.observation_columns`), so \
             nothing that both have seen can be shown to both",
            first.name, other.name
        )));
    }
    Ok(())
}

/// The data of all runs, if it is the same. A run that names other data than it learned from, or none that can be read, is left out and
/// named in `notes`, as long as two are left.
fn own_data(
    contenders: &mut Vec<Contender>,
    options: &LoadOptions,
    notes: &mut Vec<String>,
) -> Result<Dataset> {
    let give = "name the data that they are judged by";
    let nameless = |one: &Contender| Error::NoCommonData {
        problem: format!("{} names no data of its own: {give}", one.name),
    };
    if contenders.iter().all(|one| one.config.data.path.is_empty()) {
        return Err(nameless(&contenders[0]));
    }
    check_common(contenders, give)?;
    let mut shared = None;
    let mut looked: Vec<(Vec<PathBuf>, Option<String>)> = Vec::new();
    contenders.retain(|one| {
        let paths = &one.config.data.path;
        let known = looked.iter().find(|(known, _)| known == paths);
        let problem = match known {
            _ if paths.is_empty() => None,
            Some((_, problem)) => problem.clone(),
            None => {
                let problem = match learned_from(one, options) {
                    Ok(data) => {
                        shared.get_or_insert(data);
                        None
                    }
                    Err(error) => Some(error.to_string()),
                };
                looked.push((paths.clone(), problem.clone()));
                problem
            }
        };
        if let Some(problem) = &problem {
            notes.push(format!(
                "{} is left out, the data that it names (`data.path`) can't be used: {problem}",
                one.name
            ));
        }
        problem.is_none()
    });
    check_several(contenders, notes)?;
    shared.ok_or_else(|| match contenders.first() {
        Some(one) => nameless(one),
        None => Error::NoCommonData {
            problem: format!("{}: {give}", notes.join("; ")),
        },
    })
}

/// The data that a run names, if it is what it learned from.
fn learned_from(one: &Contender, options: &LoadOptions) -> Result<Dataset> {
    let data = files::load_with(&datasets::resolved(&one.config.data.path)?, options)?;
    let known = one.spec.data.as_ref();
    match known.and_then(|known| known.difference(&DataFingerprint::of(&data))) {
        Some(problem) => Err(Error::Unsuitable(problem)),
        None => Ok(data),
    }
}

/// Fails if the runs learned from other data each; `give` is what helps.
fn check_common(contenders: &[Contender], give: &str) -> Result<()> {
    let first = &contenders[0];
    for other in contenders {
        let (a, b) = (&first.config.data.path, &other.config.data.path);
        let is_other = match (&first.spec.data, &other.spec.data) {
            (Some(a), Some(b)) => a != b,
            _ => a != b,
        };
        if is_other {
            return Err(Error::NoCommonData {
                problem: format!(
                    "{} and {} learned from other data each: {give}",
                    first.name, other.name
                ),
            });
        }
    }
    Ok(())
}

/// The range of actions that is ±1 for all runs: the widest.
fn widest(kind: ActionKind, ranges: &[(&[f32], &[f32])]) -> Result<ActionBounds> {
    let over = |pick: fn(f32, f32) -> f32, ends: Vec<&[f32]>| -> Vec<f32> {
        let mut all = ends[0].to_vec();
        for end in ends {
            all.iter_mut().zip(end).for_each(|(a, b)| *a = pick(*a, *b));
        }
        all
    };
    let low = over(f32::min, ranges.iter().map(|range| range.0).collect());
    let high = over(f32::max, ranges.iter().map(|range| range.1).collect());
    ActionBounds::of_kind(kind, &low, &high, &Device::Cpu)
}
