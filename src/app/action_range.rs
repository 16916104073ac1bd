//! The range of actions that a run takes.
//!
//! The first of these that is known: `data.action_range`; that of `evaluate.env`; dimension by dimension that which the data
//! set carries (Minari's `action_space`, `action_low` and `action_high` elsewhere); and where nobody says it ±1 if the data fills it, else what the data covers. Networks act within the range, and learn from
//! actions in its units: one that is far too wide makes all of them look the same.

use crate::app::config::RunConfig;
use crate::envs;
use crate::formats::files;
use trajformer_core::dataset::{ActionKind, Dataset};
use trajformer_core::environment::EnvSpec;
use trajformer_core::error::{Error, Result};

/// Lowest and highest actions (A each).
type Limits = (Vec<f32>, Vec<f32>);

/// What a column of at most ±1 must span to be taken for one of ±1.
const FILLS_UNIT: f32 = 1.0;
/// Half-precision copies of clipped actions may lie a little outside: this share of the range.
const SLACK: f32 = 1e-3;
/// An action that never changes ranges this far around it, as a share of its size (of 1, if it is smaller): whatever a
/// policy makes of it, it acts as the data.
const CONSTANT_SHARE: f32 = 1e-3;
/// Data that covers less of a known range is worth a warning.
const SMALL_SHARE: f32 = 0.01;
/// Dimensions that one warning names.
const NAMED: usize = 6;

/// Lowest and highest actions (A each) of a run on this data. `spec` is that of `evaluate.env` where a copy of it is at
/// hand; else one is made, if it is needed.
///
/// # Errors
/// If `data.action_range` is for another number of dimensions, or is set though actions are choices.
pub fn of_run(config: &RunConfig, dataset: &Dataset, spec: Option<&EnvSpec>) -> Result<Limits> {
    let dim = dataset.action_dim;
    if let ActionKind::Discrete { count } = kind_of_run(config, dataset, spec) {
        if config.data.action_range.is_some() {
            let expected = "left out: the data's actions are choices, which have no range";
            return Err(Error::config("data.action_range", "set", expected));
        }
        let source = dataset.source_names();
        match dataset.action_kind.choices() {
            Some(held) if held < count => tracing::info!(
                "{source}: actions are one of {held} choices, of {count} that `evaluate.env` has: policies choose among all of them"
            ),
            _ => tracing::info!("{source}: actions are one of {count} choices"),
        }
        return Ok((vec![0.0], vec![count.saturating_sub(1) as f32]));
    }
    if let Some((range, key)) = configured(config, spec, dim)? {
        warn_of_misfits(&range, dataset, key);
        return Ok(range);
    }
    let (range, warnings) = of_data(dataset);
    warnings.iter().for_each(|text| tracing::warn!("{text}"));
    if dataset.action_bounds.is_some() {
        warn_of_misfits(&range, dataset, &files::range_keys(dataset));
    }
    Ok(range)
}

/// Whether the actions of a run on this data are real numbers or choices: of as many as the data says, or as `evaluate.env` has, where
/// these are more. `spec` is that of `evaluate.env` where a copy of it is at hand; else one of those that are built in is made.
pub fn kind_of_run(config: &RunConfig, dataset: &Dataset, spec: Option<&EnvSpec>) -> ActionKind {
    let ActionKind::Discrete { count } = dataset.action_kind else {
        return ActionKind::Continuous;
    };
    let made = match (&config.evaluate.env, spec) {
        (Some(name), None) if !envs::gym::is_gym(name) => envs::make(name).ok(),
        _ => None,
    };
    let spec = spec.or(made.as_ref().map(|env| env.spec()));
    let there = spec.filter(|spec| spec.observation_dim == dataset.observation_dim);
    let there = there.and_then(|spec| spec.action_kind.choices());
    ActionKind::Discrete {
        count: there.map_or(count, |there| there.max(count)),
    }
}

/// Lowest and highest of so many actions (A each) of a run without data: -1 and 1 where the configuration has no range.
///
/// # Errors
/// As [`of_run`].
pub fn without_data(config: &RunConfig, action_dim: usize) -> Result<Limits> {
    let range = configured(config, None, action_dim)?;
    Ok(range.map_or_else(|| unit(action_dim), |(range, _)| range))
}

/// The range that the configuration has, itself or in its environment, and the key that has it, quoted.
fn configured(
    config: &RunConfig,
    spec: Option<&EnvSpec>,
    dim: usize,
) -> Result<Option<(Limits, &'static str)>> {
    if let Some(range) = &config.data.action_range {
        return Ok(Some((range.of(dim)?, "`data.action_range`")));
    }
    let made = match (&config.evaluate.env, spec) {
        (Some(name), None) => envs::make_with(name, &config.evaluation().gym_options()).ok(),
        _ => None,
    };
    let spec = spec.or(made.as_ref().map(|env| env.spec()));
    let continuous = |spec: &&EnvSpec| spec.action_kind == ActionKind::Continuous;
    if let Some(spec) = spec
        .filter(continuous)
        .filter(|spec| spec.action_dim == dim)
    {
        let range = (spec.action_low.clone(), spec.action_high.clone());
        return Ok(Some((range, "`evaluate.env`")));
    }
    Ok(None)
}

/// The bounds that the data set carries for a column, where they are a range.
fn carried(dataset: &Dataset, column: usize) -> Option<(f32, f32)> {
    let (low, high) = dataset.action_bounds.as_ref()?;
    let (low, high) = (*low.get(column)?, *high.get(column)?);
    (low.is_finite() && high.is_finite() && low < high).then_some((low, high))
}

fn unit(dim: usize) -> Limits {
    (vec![-1.0; dim], vec![1.0; dim])
}

/// Lowest and highest number of every column; nothing if there is no step.
fn covered(dataset: &Dataset) -> Vec<(f32, f32)> {
    let dim = dataset.action_dim;
    let mut columns: Vec<(f32, f32)> = match dataset.actions.get(..dim) {
        Some(first) => first.iter().map(|&value| (value, value)).collect(),
        None => Vec::new(),
    };
    for row in dataset.actions.chunks_exact(dim) {
        for ((low, high), &value) in columns.iter_mut().zip(row) {
            (*low, *high) = (low.min(value), high.max(value));
        }
    }
    columns
}

/// The range that the data set carries, and where it carries none that the data suggests; what is to be said of it.
fn of_data(dataset: &Dataset) -> (Limits, Vec<String>) {
    let (mut low, mut high) = unit(dataset.action_dim);
    let (mut taken, mut constant) = (Vec::new(), Vec::new());
    for (column, (least, most)) in covered(dataset).into_iter().enumerate() {
        if let Some(bounds) = carried(dataset, column) {
            (low[column], high[column]) = bounds;
            continue;
        }
        if least == most {
            let half = CONSTANT_SHARE * least.abs().max(1.0);
            (low[column], high[column]) = (least - half, least + half);
            constant.push(format!("column {column} is always {least}"));
            continue;
        }
        let inside = least >= -1.0 - SLACK && most <= 1.0 + SLACK;
        if inside && most - least >= FILLS_UNIT {
            continue;
        }
        (low[column], high[column]) = (least, most);
        taken.push(format!("column {column} from {least} to {most}"));
    }
    let source = dataset.source_names();
    let key = "set `data.action_range`, one [low, high] or one per column,";
    let mut warnings = Vec::new();
    if !taken.is_empty() {
        warnings.push(format!(
            "{source}: no environment says how far actions range, and they do not fill ±1: what the data covers is \
             taken, {}; {key} if you know better",
            listed(&taken)
        ));
    }
    if !constant.is_empty() {
        warnings.push(format!(
            "{source}: actions never change in some columns ({}): policies will do the same; {key} if they are to \
             change",
            listed(&constant)
        ));
    }
    ((low, high), warnings)
}

fn listed(columns: &[String]) -> String {
    let named = columns[..columns.len().min(NAMED)].join(", ");
    match columns.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

/// Says so when the data's actions leave the range that `from` (a key, quoted) gives, or fill next to nothing of it.
fn warn_of_misfits(range: &Limits, dataset: &Dataset, from: &str) {
    misfits(range, dataset, from)
        .iter()
        .for_each(|text| tracing::warn!("{text}"));
}

fn misfits((low, high): &Limits, dataset: &Dataset, from: &str) -> Vec<String> {
    let outside = |(i, action): (usize, &f32)| {
        let (low, high) = (low[i % low.len()], high[i % high.len()]);
        let slack = SLACK * (high - low);
        *action < low - slack || *action > high + slack
    };
    let actions = dataset.actions.iter().enumerate();
    let count = actions.filter(|&at| outside(at)).count();
    let mut found = Vec::new();
    if count > 0 {
        let percent = 100.0 * count as f64 / dataset.actions.len() as f64;
        found.push(format!(
            "{percent:.2} % of the data's actions lie outside the range of {from}: policies can't \
             do what the data does there"
        ));
    }
    let small: Vec<String> = covered(dataset)
        .into_iter()
        .enumerate()
        .filter(|&(i, (least, most))| {
            least < most && most - least < SMALL_SHARE * (high[i] - low[i])
        })
        .map(|(i, (least, most))| {
            format!(
                "column {i} from {least} to {most} of {} to {}",
                low[i], high[i]
            )
        })
        .collect();
    if !small.is_empty() {
        found.push(format!(
            "the data's actions fill less than a hundredth of the range of {from} ({}), so that networks hardly tell \
             them apart: give what they cover as `data.action_range`",
            listed(&small)
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(rows: &[[f32; 2]]) -> Dataset {
        Dataset {
            actions: rows.concat(),
            rewards: vec![0.0; rows.len()],
            sources: vec!["arm.npz".into()],
            ..Dataset::blank(1, 2)
        }
    }

    fn config(keys: &str) -> RunConfig {
        RunConfig::parse(&format!("{keys}\n[algorithm.bc]\n")).expect("a configuration")
    }

    #[test]
    fn every_column_has_its_own_range_where_nobody_says_one() {
        let rows = [[-0.9, 0.0], [0.95, 0.002], [0.1, -0.001]];
        let (range, warnings) = of_data(&data(&rows));
        assert_eq!(range, (vec![-1.0, -0.001], vec![1.0, 0.002]));
        let said = &warnings[0];
        for words in [
            "arm.npz",
            "column 1 from -0.001 to 0.002",
            "`data.action_range`",
        ] {
            assert!(said.contains(words), "{said}");
        }
        assert!(
            !said.contains("column 0") && warnings.len() == 1,
            "{warnings:?}"
        );
        let (range, _) = of_data(&data(&[[0.0, -3.0], [0.4, 0.5]]));
        assert_eq!(range, (vec![0.0, -3.0], vec![0.4, 0.5]));
        // Half-precision copies of ±1.
        let (range, warnings) = of_data(&data(&[[-1.0005, 1.0], [1.0005, -0.3]]));
        assert_eq!((range, warnings.len()), (unit(2), 0));
        assert_eq!(of_data(&Dataset::blank(1, 2)), (unit(2), Vec::new()));
    }

    #[test]
    fn an_action_that_never_changes_stays_what_it_is() {
        let (range, warnings) = of_data(&data(&[[-1.0, 5.0], [1.0, 5.0]]));
        assert_eq!(range, (vec![-1.0, 4.995], vec![1.0, 5.005]));
        let said = &warnings[0];
        assert!(
            said.contains("arm.npz") && said.contains("column 1 is always 5"),
            "{said}"
        );
        assert!(said.contains("`data.action_range`"), "{said}");
    }

    #[test]
    fn a_configured_range_is_one_for_all_or_one_for_each() {
        let rows = data(&[[-0.9, 0.0], [0.95, 0.5]]);
        let same = config("[data]\naction_range = [-2, 2.5]");
        let range = of_run(&same, &rows, None).expect("a range");
        assert_eq!(range, (vec![-2.0, -2.0], vec![2.5, 2.5]));
        let each = config("[data]\naction_range = [[-1, 1], [0.0, 0.5]]");
        let range = of_run(&each, &rows, None).expect("a range");
        assert_eq!(range, (vec![-1.0, 0.0], vec![1.0, 0.5]));
        let one = config("[data]\naction_range = [[-1, 1]]");
        let error = of_run(&one, &rows, None).expect_err("too few").to_string();
        assert!(
            error.contains("has 1 pairs") && error.contains("2 dimensions"),
            "{error}"
        );
        for (text, words) in [
            (
                "[[-1, 1], [3, 3]]",
                "`data.action_range` of action 1 is [3, 3]",
            ),
            ("[1, 1]", "`data.action_range` is [1, 1]"),
            ("\"wide\"", "one [low, high] per dimension"),
        ] {
            let text = format!("[data]\naction_range = {text}\n[algorithm.bc]\n");
            let error = RunConfig::parse(&text).expect_err("wrong").to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_environment_that_is_at_hand_is_not_made_again() {
        let rows = data(&[[-0.9, 0.0], [0.95, 0.5]]);
        // Nothing makes an environment of this name.
        let config = config("[evaluate]\nenv = \"my-arm\"");
        let spec = EnvSpec {
            name: "my-arm".to_owned(),
            observation_dim: 1,
            action_dim: 2,
            action_kind: ActionKind::Continuous,
            action_low: vec![-3.0, -4.0],
            action_high: vec![3.0, 4.0],
            max_episode_steps: 1,
        };
        let range = of_run(&config, &rows, Some(&spec)).expect("a range");
        assert_eq!(range, (spec.action_low, spec.action_high));
    }

    #[test]
    fn data_that_leaves_a_known_range_or_fills_nothing_of_it_is_warned_of() {
        let rows = data(&[[-0.004, 0.0], [0.004, 2.0]]);
        let said = misfits(&unit(2), &rows, "`evaluate.env`");
        assert!(
            said[0].contains("25.00 %") && said[0].contains("`evaluate.env`"),
            "{said:?}"
        );
        let small = "column 0 from -0.004 to 0.004 of -1 to 1";
        assert!(
            said[1].contains(small) && said[1].contains("`data.action_range`"),
            "{said:?}"
        );
        assert!(misfits(&unit(2), &data(&[[-1.0, 5e-4], [1.0, 5e-4]]), "x").is_empty());
    }

    #[test]
    fn what_is_said_of_a_range_names_the_key_of_the_files_own_format() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rows = data(&[[-3.0, 0.0], [1.0, 2.0], [0.5, -1.0]]);
        rows.observations = vec![0.0, 0.5, 1.0];
        rows.episodes = vec![trajformer_core::dataset::Episode {
            terminated: true,
            ..trajformer_core::dataset::Episode::new(0, 3)
        }];
        rows.action_bounds = Some(unit(2));
        let mut paths = Vec::new();
        for (name, key) in [
            ("a.npz", "`action_low` and `action_high`"),
            ("b.hdf5", "`action_low` and `action_high`"),
            ("c-v0", "`action_space`"),
        ] {
            let path = folder.path().join(name);
            crate::formats::files::save(&rows, &path).expect("saves");
            let read = crate::formats::files::load_one(&path).expect("loads");
            assert_eq!(files::range_keys(&read), key, "{name}");
            let said = misfits(&unit(2), &read, &files::range_keys(&read));
            assert!(said[0].contains(&format!("the range of {key}")), "{said:?}");
            paths.push(path);
        }
        let joined = crate::formats::files::load(&paths).expect("joins");
        assert_eq!(
            files::range_keys(&joined),
            "`action_low` and `action_high` or `action_space`"
        );
    }
}
