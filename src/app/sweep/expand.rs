//! From a [`SweepFile`] to its configurations.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::app::checkpoint::fingerprint::all_settings;
use crate::app::config::RunConfig;
use crate::app::datasets;
use crate::app::series::default_out;
use crate::app::sweep::file::{Draws, Group, Pick, SweepFile};
use crate::app::sweep::line::Line;
use crate::app::sweep::names::{short_keys, value_word};
use trajformer_core::error::{Error, Origin, Result};
use trajformer_models::rng::Streams;

const ALGORITHM: &str = "{algorithm}";
const DATASET: &str = "{dataset}";

type Keys = Vec<(String, toml::Value)>;

/// Every configuration of a sweep, resolved, in the order of the file.
///
/// # Errors
/// If a configuration can't be read or is wrong, or a name or key stands for nothing.
pub(super) fn lines(file: &SweepFile) -> Result<Vec<Line>> {
    let said = |error: Error| error.said_by(Some(Origin::File(file.path.display().to_string())));
    let mut lines = Vec::new();
    for group in &file.groups {
        let mut used = BTreeSet::new();
        for named in configurations(group).map_err(said)? {
            lines.extend(of_configuration(file, group, &named, &mut used).map_err(said)?);
        }
        let keys = group.set.iter().map(|(key, _)| key);
        let keys = keys.chain(group.grid.iter().map(|(key, _)| key));
        let drawn = group.random.iter().flat_map(|draws| &draws.keys);
        if let Some(key) = keys
            .chain(drawn.map(|(key, _)| key))
            .find(|key| !used.contains(*key))
        {
            return Err(said(Error::settings(format!(
                "`{key}` is a key of none of the configurations that it is given for"
            ))));
        }
    }
    Ok(lines)
}

/// A configuration file with what its name stands for.
struct Named {
    config: String,
    dataset: Option<String>,
    /// Files of the data, where the sweep names them.
    data: Option<Vec<PathBuf>>,
    /// Whether the file's name has the data set's in it.
    has_dataset: bool,
}

fn configurations(group: &Group) -> Result<Vec<Named>> {
    let mut found = Vec::new();
    for pattern in &group.configs {
        check_pattern(group, pattern)?;
        let algorithms: Vec<Option<&String>> = match group.algorithms[..] {
            [] => vec![None],
            _ => group.algorithms.iter().map(Some).collect(),
        };
        for algorithm in algorithms {
            let config = match algorithm {
                Some(algorithm) => pattern.replace(ALGORITHM, algorithm),
                None => pattern.clone(),
            };
            if group.datasets.is_empty() {
                found.push(Named {
                    config: config.clone(),
                    dataset: None,
                    data: None,
                    has_dataset: false,
                });
            }
            for (dataset, data) in &group.datasets {
                found.push(Named {
                    config: config.replace(DATASET, dataset),
                    dataset: Some(dataset.clone()),
                    data: data.clone(),
                    has_dataset: config.contains(DATASET),
                });
            }
        }
    }
    Ok(found)
}

fn check_pattern(group: &Group, pattern: &str) -> Result<()> {
    let rest = pattern.replace(ALGORITHM, "").replace(DATASET, "");
    if rest.contains(['{', '}']) {
        return Err(Error::settings(format!(
            "`configs` holds {pattern}: only {ALGORITHM} and {DATASET} stand for something"
        )));
    }
    let missing = |place: &str, key: &str| {
        Error::settings(format!(
            "`configs` holds {pattern}, but no `{key}` say what {place} stands for"
        ))
    };
    if pattern.contains(ALGORITHM) && group.algorithms.is_empty() {
        return Err(missing(ALGORITHM, "algorithms"));
    }
    if pattern.contains(DATASET) && group.datasets.is_empty() {
        return Err(missing(DATASET, "datasets"));
    }
    if !group.algorithms.is_empty() && !pattern.contains(ALGORITHM) {
        return Err(Error::settings(format!(
            "`configs` holds {pattern}, in which no {ALGORITHM} stands for the `algorithms`"
        )));
    }
    let pathless = group.datasets.iter().any(|(_, files)| files.is_none());
    if pathless && !pattern.contains(DATASET) {
        return Err(Error::settings(format!(
            "`configs` holds {pattern}, in which no {DATASET} stands for the `datasets`, and they name no files"
        )));
    }
    Ok(())
}

/// The lines of one configuration file: one for each combination of the grid and each sample.
fn of_configuration(
    file: &SweepFile,
    group: &Group,
    named: &Named,
    used: &mut BTreeSet<String>,
) -> Result<Vec<Line>> {
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let path = plain(&folder.join(&named.config));
    let base = RunConfig::load(&path, &[]).map_err(|error| match error {
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::settings(format!(
                "`configs`: {} is not there; paths start at the folder of the sweep's file",
                path.display()
            ))
        }
        other => other,
    })?;
    let algorithm = base.algorithm.name();
    let mut name = default_out(&path)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    if let Some(dataset) = named.dataset.as_ref().filter(|_| !named.has_dataset) {
        name += &format!("-{}", value_word(&toml::Value::from(dataset.as_str())));
    }
    let mut fits = |key: &String| {
        let fits = match key
            .strip_prefix("algorithm.")
            .and_then(|rest| rest.split('.').next())
        {
            Some(other) => other == algorithm,
            None => true,
        };
        if fits {
            used.insert(key.clone());
        }
        fits
    };
    let set: Keys = group
        .set
        .iter()
        .filter(|(key, _)| fits(key))
        .cloned()
        .collect();
    let axes: Vec<_> = group.grid.iter().filter(|(key, _)| fits(key)).collect();
    let draws = group.random.as_ref().map(|draws| Draws {
        keys: draws
            .keys
            .iter()
            .filter(|(key, _)| fits(key))
            .cloned()
            .collect(),
        ..draws.clone()
    });
    check_whole_numbers(&base, draws.as_ref())?;
    let short = short_keys(&axes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>());
    let mut lines = Vec::new();
    for values in products(
        &axes
            .iter()
            .map(|(_, values)| &values[..])
            .collect::<Vec<_>>(),
    ) {
        let words = short
            .iter()
            .zip(&values)
            .map(|(key, value)| format!("-{key}={}", value_word(value)));
        let point: Keys = axes
            .iter()
            .map(|(key, _)| key.clone())
            .zip(values.iter().cloned())
            .collect();
        let name = name.clone() + &words.collect::<String>();
        for (suffix, sample) in samples(draws.as_ref()) {
            let label = group
                .label
                .iter()
                .map(|label| format!("-{}", value_word(&label.as_str().into())));
            let name = format!("{name}{suffix}{}", label.collect::<String>());
            let mut overrides: Vec<String> = data_key(file, named, &base).into_iter().collect();
            let keys = set.iter().chain(&point).chain(&sample);
            overrides.extend(keys.map(|(key, value)| format!("{key}={value}")));
            let config = RunConfig::load(&path, &overrides).map_err(|error| {
                let text = error.to_string();
                let text = text.strip_prefix("configuration: ").unwrap_or(&text);
                Error::settings(format!("{name}: {text}"))
            })?;
            lines.push(Line {
                name,
                config,
                source: path.clone(),
                seeds: group.seeds.clone(),
            });
        }
    }
    Ok(lines)
}

/// Fails if fractions would be drawn for a key that takes whole numbers.
fn check_whole_numbers(config: &RunConfig, draws: Option<&Draws>) -> Result<()> {
    let settings = all_settings(config)?;
    for (key, pick) in draws.iter().flat_map(|draws| &draws.keys) {
        let is_whole = settings
            .get(key)
            .is_some_and(|value| value.parse::<i64>().is_ok());
        let kind = match pick {
            Pick::Uniform(..) => "int",
            Pick::LogUniform(..) => "log_int",
            _ => continue,
        };
        if is_whole {
            return Err(Error::settings(format!(
                "`random.{key}`: this key takes whole numbers, and fractions would be drawn; draw them with {{ {kind} = [LOW, HIGH] }}, \
                 both of which count"
            )));
        }
    }
    Ok(())
}

/// `data.path=...`, where the sweep says where the data lies.
fn data_key(file: &SweepFile, named: &Named, config: &RunConfig) -> Option<String> {
    let within = |path: &PathBuf| match &file.data_dir {
        Some(folder) => folder.join(path),
        None => path.clone(),
    };
    let paths: Vec<PathBuf> = match (&named.data, &file.data_dir) {
        (Some(files), _) => files.iter().map(within).collect(),
        // The file's name stays, its folder is another.
        (None, Some(folder)) => {
            let paths = config.data.path.iter();
            paths.map(|path| datasets::within(folder, path)).collect()
        }
        (None, None) => return None,
    };
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    (!paths.is_empty()).then(|| format!("data.path={}", toml::Value::from(paths)))
}

/// Every combination of one value of each axis, the last axis fastest.
fn products(axes: &[&[toml::Value]]) -> Vec<Vec<toml::Value>> {
    let mut found = vec![Vec::new()];
    for axis in axes {
        let longer = |front: &Vec<toml::Value>| {
            let front = front.clone();
            axis.iter()
                .map(move |value| [&front[..], std::slice::from_ref(value)].concat())
                .collect::<Vec<_>>()
        };
        found = found.iter().flat_map(longer).collect();
    }
    found
}

/// Each sample with what it adds to the name; one without keys where nothing is drawn.
fn samples(draws: Option<&Draws>) -> Vec<(String, Keys)> {
    let Some(draws) = draws.filter(|draws| !draws.keys.is_empty()) else {
        return vec![(String::new(), Vec::new())];
    };
    let sample = |at: u64| {
        let keys = draws
            .keys
            .iter()
            .map(|(key, pick)| (key.clone(), drawn(pick, draws.seed, key, at)));
        (format!("-sample-{at}"), keys.collect())
    };
    (0..draws.samples).map(sample).collect()
}

/// Value number `at` of a key: a stream of its own, so that it is the same whatever else is drawn.
fn drawn(pick: &Pick, seed: u64, key: &str, at: u64) -> toml::Value {
    let mut rng = Streams::from_seed(seed).numbered(key, at);
    match pick {
        Pick::Uniform(low, high) => (low + (high - low) * rng.uniform()).into(),
        Pick::LogUniform(low, high) => {
            let (low, high) = (low.ln(), high.ln());
            (low + (high - low) * rng.uniform()).exp().into()
        }
        Pick::Int(low, high) => {
            let count = (*high as f64) - (*low as f64) + 1.0;
            let above = (count * rng.uniform()).floor() as i64;
            low.saturating_add(above).min(*high).into()
        }
        Pick::LogInt(low, high) => {
            // Each number has the share of the logarithms from it to the next one.
            let (first, end) = ((*low as f64).ln(), (*high as f64 + 1.0).ln());
            let found = (first + (end - first) * rng.uniform()).exp().floor() as i64;
            found.clamp(*low, *high).into()
        }
        Pick::Choice(values) => values[rng.below(values.len())].clone(),
    }
}

/// `a/b/../c` as `a/c`, where that is the same: for names of folders and for people.
fn plain(path: &Path) -> PathBuf {
    let mut short = PathBuf::new();
    for part in path.components() {
        let inside = matches!(
            short.components().next_back(),
            Some(std::path::Component::Normal(_))
        );
        match part {
            std::path::Component::ParentDir if inside => {
                short.pop();
            }
            std::path::Component::CurDir => {}
            other => short.push(other),
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination() {
        let values = |numbers: &[i64]| {
            numbers
                .iter()
                .map(|number| toml::Value::from(*number))
                .collect::<Vec<_>>()
        };
        let (left, right) = (values(&[1, 2]), values(&[3, 4, 5]));
        let found = products(&[&left, &right]);
        assert_eq!(found.len(), 6);
        assert_eq!(
            (&found[0][..], &found[1][..]),
            (&values(&[1, 3])[..], &values(&[1, 4])[..])
        );
        assert_eq!(products(&[]), [Vec::<toml::Value>::new()]);
    }

    #[test]
    fn samples_stay_within_their_range_and_do_not_depend_on_their_number() {
        let draws = |samples: u64, keys: &[(&str, Pick)]| {
            let keys = keys
                .iter()
                .map(|(key, pick)| ((*key).to_owned(), pick.clone()))
                .collect();
            samples_of(&Draws {
                samples,
                seed: 3,
                keys,
            })
        };
        let rate = ("rate", Pick::LogUniform(1e-4, 1e-2));
        let size = ("size", Pick::Choice(vec![64.into(), 128.into()]));
        let some = draws(5, std::slice::from_ref(&rate));
        let more = draws(50, &[size, rate]);
        assert_eq!((some.len(), more.len()), (5, 50));
        for (few, many) in some.iter().zip(&more) {
            assert_eq!(few[0], many[1]);
        }
        let rates: Vec<f64> = more
            .iter()
            .map(|keys| keys[1].1.as_float().expect("a number"))
            .collect();
        assert!(rates.iter().all(|rate| (1e-4..1e-2).contains(rate)));
        let below = rates.iter().filter(|rate| **rate < 1e-3).count();
        assert!(
            (15..35).contains(&below),
            "half of the logarithms, not a tenth: {below}"
        );
        let sizes: BTreeSet<String> = more.iter().map(|keys| keys[0].1.to_string()).collect();
        assert_eq!(sizes.len(), 2);
    }

    fn samples_of(draws: &Draws) -> Vec<Keys> {
        samples(Some(draws))
            .into_iter()
            .map(|(_, keys)| keys)
            .collect()
    }
}
