//! The committed configurations against what their authors ran: key by key, each difference with its reason.
//!
//! `tests/golden/settings.json` has the authors' values, read from their files by `tests/golden/settings.py`;
//! `settings_differences.toml` beside this file every place where a configuration is something else, or has no counterpart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use trajformer::algorithms::trajectory_transformer::{RateSchedule, TrajectoryTransformerConfig};
use trajformer::config::{Departures, RunConfig};
use trajformer::error::Origin;
use trajformer::run;

/// Rates are products and quotients of a few numbers and one cosine.
const RATE_TOLERANCE: f64 = 1e-12;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn golden() -> Value {
    let path = root().join("tests/golden/settings.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// `settings_differences.toml` beside this file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Whole configurations that no author has.
    own: Vec<Own>,
    /// Keys that say nothing about what is learned.
    beside: Vec<Beside>,
    /// Keys that configurations of these names give another value than the authors, or that only one side has.
    difference: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    configurations: Vec<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    key: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// Names, or patterns with one `*`.
    configurations: Vec<String>,
    /// A key, or a pattern.
    key: String,
    /// Value here; left out where configurations have several, or none.
    ours: Option<toml::Value>,
    /// Value there; left out where configurations have several, or none.
    authors: Option<toml::Value>,
    reason: String,
}

fn table() -> Table {
    let path = root().join("tests/it/settings_differences.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

/// Configurations in `configs/ALGORITHM`, or in its folder `short`, by names like `td3_bc/hopper-medium`.
fn configurations(short: bool) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in fs::read_dir(root().join("configs")).unwrap() {
        let mut folder = folder.unwrap().path();
        let algorithm = folder.file_name().unwrap().to_string_lossy().into_owned();
        if short {
            folder = folder.join("short");
        }
        let files = fs::read_dir(&folder).into_iter().flatten();
        for file in files.map(|file| file.unwrap().path()) {
            if file
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let name = file.file_stem().unwrap().to_string_lossy();
                found.insert(format!("{algorithm}/{name}"), file);
            }
        }
    }
    found
}

/// Every key with its value as JSON. Tables that are one value (`rewards`) stay one.
fn keys(config: &RunConfig) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let whole = serde_json::to_value(toml::Table::try_from(config).unwrap()).unwrap();
    flatten("", &whole, &mut found);
    found
}

fn flatten(prefix: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) if !prefix.ends_with(".rewards") => {
            for (name, value) in table {
                let key = match prefix {
                    "" => name.clone(),
                    _ => format!("{prefix}.{name}"),
                };
                flatten(&key, value, found);
            }
        }
        value => drop(found.insert(prefix.to_owned(), value.clone())),
    }
}

/// Equal but for the type of numbers; `{"one_of": [...]}` holds what it may be.
fn same(ours: &Value, authors: &Value) -> bool {
    if let Some(choices) = authors.get("one_of").and_then(Value::as_array) {
        return choices.iter().any(|choice| same(ours, choice));
    }
    match (ours, authors) {
        // The tables of rewards are single precision.
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a == b || a == f64::from(b as f32)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => ours == authors,
    }
}

fn given(value: &Option<toml::Value>, found: Option<&Value>) -> bool {
    value.as_ref().is_none_or(|value| {
        let value = serde_json::to_value(value).unwrap();
        found.is_some_and(|found| same(&value, found) || same(found, &value))
    })
}

#[test]
fn every_configuration_has_its_authors_settings_but_for_the_listed_differences() {
    let (golden, table) = (golden(), table());
    let settings = golden["settings"].as_object().unwrap();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    let found = configurations(false);
    for name in settings.keys().filter(|name| !found.contains_key(*name)) {
        wrong.push(format!(
            "configs/{name}.toml is missing: the authors' settings are known"
        ));
    }
    for (name, path) in &found {
        let own = table.own.iter().enumerate().find_map(|(i, own)| {
            let patterns = own.configurations.iter();
            let mut hits = patterns.filter(|pattern| matches(pattern, name));
            hits.next().map(|pattern| ("own", i, pattern.clone()))
        });
        let Some(theirs) = settings.get(name) else {
            match own {
                Some(own) => drop(used.insert(own)),
                None => wrong.push(format!("{name}: the golden file has no such settings")),
            }
            continue;
        };
        let theirs = theirs["settings"].as_object().unwrap();
        let ours = keys(&RunConfig::load(path, &[]).unwrap());
        for key in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            if let Some(i) = table.beside.iter().position(|beside| beside.key == *key) {
                used.insert(("beside", i, String::new()));
                continue;
            }
            let (here, there) = (ours.get(key), theirs.get(key).map(|pair| &pair[0]));
            if let (Some(here), Some(there)) = (here, there)
                && same(here, there)
            {
                continue;
            }
            let listed = table
                .difference
                .iter()
                .enumerate()
                .find_map(|(i, difference)| {
                    let mut patterns = difference.configurations.iter();
                    let pattern = patterns.find(|pattern| matches(pattern, name))?;
                    let fits = matches(&difference.key, key)
                        && given(&difference.ours, here)
                        && given(&difference.authors, there);
                    fits.then(|| ("difference", i, pattern.clone()))
                });
            match listed {
                Some(entry) => drop(used.insert(entry)),
                None => wrong.push(format!(
                    "{name}: `{key}` is {}, the authors have {} ({})",
                    here.map_or("not set".to_owned(), Value::to_string),
                    there.map_or("no such key".to_owned(), Value::to_string),
                    theirs.get(key).map_or("", |pair| pair[1].as_str().unwrap()),
                )),
            }
        }
    }
    let unused = |kind: &'static str, i: usize, pattern: &str, what: &str| {
        let entry = (kind, i, pattern.to_owned());
        let stale = format!("settings_differences.toml: {kind} `{what}` {pattern}: nothing is so");
        (!used.contains(&entry)).then_some(stale)
    };
    for (i, own) in table.own.iter().enumerate() {
        let patterns = own.configurations.iter();
        wrong.extend(patterns.filter_map(|pattern| unused("own", i, pattern, "")));
    }
    for (i, beside) in table.beside.iter().enumerate() {
        wrong.extend(unused("beside", i, "", &beside.key));
    }
    for (i, difference) in table.difference.iter().enumerate() {
        let patterns = difference.configurations.iter();
        let unused = |pattern: &String| unused("difference", i, pattern, &difference.key);
        wrong.extend(patterns.filter_map(unused));
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_listed_difference_has_its_reason() {
    let Table {
        own,
        beside,
        difference,
    } = table();
    let own = own.iter().map(|own| &own.reason);
    let beside = beside.iter().map(|beside| &beside.reason);
    let difference = difference.iter().map(|difference| &difference.reason);
    for reason in own.chain(beside).chain(difference) {
        assert!(reason.len() > 20, "no reason: {reason:?}");
    }
}

/// 1000000 as 1,000,000.
fn with_commas(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn short_budgets_extend_the_authors_settings_and_say_what_they_change() {
    let short = configurations(true);
    assert!(short.len() > 100, "{} short configurations", short.len());
    for (name, path) in &short {
        let text = fs::read_to_string(path).unwrap();
        let departures = Departures::load(path, &[]).unwrap();
        let file = path.file_name().unwrap().to_string_lossy();
        let whole = root()
            .join("configs")
            .join(name.split('/').next().unwrap())
            .join(&*file);
        assert_eq!(
            departures.extends.as_deref(),
            Some(whole.as_path()),
            "{name}"
        );
        assert!(
            !departures.from_extended.is_empty(),
            "{name} changes nothing"
        );
        let header: String = text
            .lines()
            .take_while(|line| line.starts_with('#'))
            .collect();
        for departure in &departures.from_extended {
            if departure.key != "train.updates" {
                continue;
            }
            for value in [&departure.value, &departure.instead_of]
                .into_iter()
                .flatten()
            {
                let number = with_commas(value.as_integer().unwrap());
                assert!(
                    header.contains(&number),
                    "{name}: its head does not say {number}"
                );
            }
        }
        let changed: BTreeSet<&str> = departures
            .from_extended
            .iter()
            .map(|departure| departure.key.as_str())
            .collect();
        let mut written = BTreeMap::new();
        let mut own: toml::Table = toml::from_str(&text).unwrap();
        own.remove("extends");
        flatten("", &serde_json::to_value(own).unwrap(), &mut written);
        for key in written.keys() {
            let inside =
                key.ends_with('}') || changed.iter().any(|other| other.starts_with(key.as_str()));
            assert!(inside, "{name}: `{key}` is what the extended file has");
        }
    }
}

#[test]
fn every_short_budget_has_a_place_of_its_own() {
    let out = |path: &str| run::default_out(Path::new(path));
    assert_eq!(
        out("configs/td3_bc/hopper-medium.toml"),
        Path::new("runs/td3_bc-hopper-medium")
    );
    let short = Path::new("runs/td3_bc-hopper-medium-short");
    assert_eq!(out("configs/td3_bc/short/hopper-medium.toml"), short);
    assert_eq!(
        out("short/hopper-medium.toml"),
        Path::new("runs/short-hopper-medium")
    );
    assert_eq!(out("mine.toml"), Path::new("runs/run-mine"));
}

#[test]
fn differences_name_key_values_and_the_file_that_sets_them() {
    let path = root().join("configs/trajectory_transformer/short/hopper-medium.toml");
    let set = ["seed=3".to_owned()];
    let found = Departures::load(&path, &set).unwrap();
    let get = |departures: &[trajformer::config::Departure], key: &str| {
        let found = departures.iter().find(|departure| departure.key == key);
        found.unwrap_or_else(|| panic!("{key}")).clone()
    };
    let updates = get(&found.from_extended, "train.updates");
    let numbers = [&updates.value, &updates.instead_of];
    let numbers = numbers.map(|value| value.as_ref().unwrap().as_integer().unwrap());
    assert_eq!(numbers, [6_000, 195_312]);
    let file = |origin: Option<Origin>| match origin {
        Some(Origin::File(path)) => path,
        other => panic!("{other:?}"),
    };
    let path = file(updates.origin);
    assert!(path.ends_with("short/hopper-medium.toml"), "{path}");
    let schedule = get(
        &found.from_defaults,
        "algorithm.trajectory_transformer.warmup_updates",
    );
    assert_eq!(schedule.instead_of.unwrap().as_str(), Some("1 epoch"));
    let path = file(get(&found.from_defaults, "data.path").origin);
    assert!(
        path.ends_with("trajectory_transformer/hopper-medium.toml"),
        "{path}"
    );
    assert_eq!(
        get(&found.from_extended, "seed").origin,
        Some(Origin::of_override("seed=3"))
    );
    let text = found.to_string();
    let line = "train.updates = 6000 (there 195312), set by ";
    assert!(text.contains(line), "{text}");
}

#[test]
fn epochs_end_at_the_rates_that_the_authors_trainer_sets() {
    for data in golden()["schedule"].as_array().unwrap() {
        let number = |key: &str| data[key].as_u64().unwrap() as usize;
        let (windows, batch_size) = (number("windows"), number("batch_size"));
        let config = TrajectoryTransformerConfig {
            batch_size,
            schedule: RateSchedule::CosineUnclamped,
            ..TrajectoryTransformerConfig::default()
        };
        let clamped = TrajectoryTransformerConfig {
            schedule: RateSchedule::Cosine,
            ..config.clone()
        };
        let epoch = windows.div_ceil(batch_size);
        let factors = data["factor_after_epoch"].as_array().unwrap();
        assert_eq!(factors.len(), 50);
        for (i, factor) in factors.iter().enumerate() {
            // Of the epoch's last update.
            let (factor, completed) = (factor.as_f64().unwrap(), ((i + 1) * epoch - 1) as u64);
            let found = config.rate_factor(completed, windows, 0);
            let place = format!(
                "{windows} windows, after epoch {}: {found}, {factor}",
                i + 1
            );
            assert!((found - factor).abs() < RATE_TOLERANCE, "{place}");
            let clamped = clamped.rate_factor(completed, windows, 0);
            let expected = if i < 20 { factor } else { 0.1 };
            assert!(
                (clamped - expected).abs() < RATE_TOLERANCE,
                "{place}: {clamped}"
            );
        }
    }
}
