//! Keys that have moved: how a configuration spelled them before, and where they are now.
//!
//! `normalize_observations`, `rewards` and `keep_truncations` of value-based methods stood in the algorithm's own table, and
//! are in its table `data` now.

use crate::app::config::run_config::RunConfig;
use trajformer_algorithms::registry::ALGORITHMS;
use trajformer_core::error::{Error, Result};

/// The keys.
const KEYS: [&str; 3] = ["normalize_observations", "rewards", "keep_truncations"];
/// The table that they are in now, inside of the algorithm's.
const TABLE: &str = "data";
/// The table that algorithms' tables are in.
const ALGORITHM: &str = "algorithm";

/// A key under its earlier name: the table that it stood in, and its last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    table: String,
    key: &'static str,
}

impl Moved {
    fn before(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }

    fn now(&self) -> String {
        format!("{}.{TABLE}.{}", self.table, self.key)
    }
}

/// Whether the table of this algorithm has the key in its table `data`.
fn has_moved(algorithm: &str, key: &str) -> bool {
    if !ALGORITHMS.iter().any(|known| known.name == algorithm) {
        return false;
    }
    let inside = toml::Table::from_iter([(algorithm.to_owned(), toml::Table::new().into())]);
    let blank = toml::Table::from_iter([(ALGORITHM.to_owned(), inside.into())]);
    let defaults = blank.try_into::<RunConfig>().map(toml::Table::try_from);
    let Ok(Ok(defaults)) = defaults else {
        return false;
    };
    let data = defaults[ALGORITHM]
        .get(algorithm)
        .and_then(|table| table.get(TABLE));
    data.is_some_and(|data| data.get(key).is_some())
}

/// Where a key is that has moved, or is inside of one: `algorithm.iql.rewards.scale` is
/// `algorithm.iql.data.rewards.scale`. `None` if it has not.
fn moved(key: &str) -> Option<(Moved, String)> {
    let mut parts = key.splitn(4, '.');
    let (first, algorithm, last) = (parts.next()?, parts.next()?, parts.next()?);
    let known = KEYS.into_iter().find(|known| *known == last)?;
    if first != ALGORITHM || !has_moved(algorithm, known) {
        return None;
    }
    let moved = Moved {
        table: format!("{ALGORITHM}.{algorithm}"),
        key: known,
    };
    let rest = parts
        .next()
        .map_or(String::new(), |rest| format!(".{rest}"));
    let now = moved.now() + &rest;
    Some((moved, now))
}

/// A key as it is spelled now.
pub(crate) fn current(key: &str) -> String {
    moved(key).map_or_else(|| key.to_owned(), |(_, now)| now)
}

/// `KEY=VALUE` with the key as it is spelled now, and what it was before if that is another.
pub(super) fn current_override(text: &str) -> (String, Option<Moved>) {
    let key = text.split('=').next().unwrap_or(text);
    match moved(key.trim()) {
        Some((moved, now)) => (format!("{now}{}", &text[key.len()..]), Some(moved)),
        None => (text.to_owned(), None),
    }
}

/// Moves the keys of a configuration to where they are now, and says which.
///
/// # Errors
/// If one stands in both places.
pub(super) fn move_keys(table: &mut toml::Table) -> Result<Vec<Moved>> {
    let mut found = Vec::new();
    let Some(toml::Value::Table(algorithms)) = table.get_mut(ALGORITHM) else {
        return Ok(found);
    };
    for (algorithm, keys) in algorithms.iter_mut() {
        let Some(keys) = keys.as_table_mut() else {
            continue;
        };
        for key in KEYS {
            if !keys.contains_key(key) || !has_moved(algorithm, key) {
                continue;
            }
            let moved = Moved {
                table: format!("{ALGORITHM}.{algorithm}"),
                key,
            };
            let inside = keys
                .entry(TABLE)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            // What stands in the table's place is complained of when the configuration is read.
            let Some(inside) = inside.as_table_mut() else {
                continue;
            };
            if inside.contains_key(key) {
                return Err(Error::settings(format!(
                    "`{}` is the earlier name of `{}`, and both are set: leave the first out",
                    moved.before(),
                    moved.now()
                )));
            }
            if let Some(value) = keys.remove(key)
                && let Some(toml::Value::Table(inside)) = keys.get_mut(TABLE)
            {
                inside.insert(key.to_owned(), value);
                found.push(moved);
            }
        }
    }
    Ok(found)
}

/// What to tell the author of `place`, which spells keys as before.
pub(super) fn warning(place: &str, moved: &[Moved]) -> Option<String> {
    let table = &moved.first()?.table;
    let list = |names: Vec<String>| names.join(", ");
    let before = list(
        moved
            .iter()
            .map(|key| format!("`{}`", key.before()))
            .collect(),
    );
    let now = list(moved.iter().map(|key| format!("`{}`", key.key)).collect());
    let verb = if moved.len() == 1 { "is" } else { "are" };
    Some(format!(
        "{place}: {before} {verb} read, and {verb} now {now} in the table `[{table}.{TABLE}]`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_have_moved_are_read_at_both_places() {
        for name in ALGORITHMS.iter().map(|algorithm| algorithm.name) {
            let read = |text: &str| RunConfig::parse(&format!("[algorithm.{name}]\n{text}\n"));
            let values = [
                ("normalize_observations", "true"),
                ("normalize_observations", "false"),
                ("rewards", "{ shift = -1.0 }"),
                ("rewards", "\"return_range\""),
                ("keep_truncations", "true"),
            ];
            for (key, value) in values {
                if !has_moved(name, key) {
                    continue;
                }
                let before = read(&format!("{key} = {value}"));
                let now = read(&format!("data.{key} = {value}"));
                match (before, now) {
                    (Ok(before), Ok(now)) => {
                        assert_eq!(before, now, "{name}");
                        let stored = now.to_toml().expect("text");
                        let table = format!("[algorithm.{name}.data]");
                        assert!(stored.contains(&table), "{stored}");
                    }
                    (before, now) => {
                        let (before, now) = (before.expect_err("b"), now.expect_err("n"));
                        assert_eq!(before.to_string(), now.to_string(), "{name}");
                    }
                }
            }
            // What is not given is the algorithm's own default.
            if has_moved(name, "rewards") {
                let default = read("").expect("defaults");
                let same = read("data.rewards = \"none\"").expect("a configuration");
                assert_eq!(default, same, "{name}");
            }
        }
        assert!(!has_moved("decision_transformer", "rewards"));
    }

    #[test]
    fn the_warning_shows_the_new_spelling_and_both_at_once_are_an_error() {
        let text = "[algorithm.iql]\nrewards = { scale = 2.0 }\nkeep_truncations = true\n";
        let mut table: toml::Table = toml::from_str(text).expect("a table");
        let moved = move_keys(&mut table).expect("moved");
        let said = warning("mine.toml", &moved).expect("a warning");
        let expected = "mine.toml: `algorithm.iql.rewards`, `algorithm.iql.keep_truncations` are read, and are now \
                        `rewards`, `keep_truncations` in the table `[algorithm.iql.data]`";
        assert_eq!(said, expected);
        assert_eq!(move_keys(&mut table).expect("nothing is left"), []);
        let both = "[algorithm.iql]\nrewards = \"none\"\ndata = { rewards = \"return_range\" }\n";
        let problem = RunConfig::parse(both).expect_err("twice").to_string();
        assert!(
            problem.contains("`algorithm.iql.data.rewards`"),
            "{problem}"
        );
        assert_eq!(
            current("algorithm.iql.rewards.scale"),
            "algorithm.iql.data.rewards.scale"
        );
        assert_eq!(current("algorithm.bc.fraction"), "algorithm.bc.fraction");
        let (text, moved) = current_override("algorithm.iql.rewards={ scale = 0.5 }");
        assert_eq!(text, "algorithm.iql.data.rewards={ scale = 0.5 }");
        assert!(moved.is_some());
    }

    #[test]
    fn an_override_replaces_what_is_set_under_the_new_name() {
        let config = RunConfig::parse("[algorithm.iql]\ndata = { rewards = { scale = 2.0 } }\n");
        let config = config.expect("a configuration");
        let set = |key: &str| {
            let set = [format!("algorithm.iql.{key}={{ shift = -1.0 }}")];
            config.with_overrides(&set).expect("set")
        };
        assert_eq!(set("rewards"), set("data.rewards"));
        let whole = ["algorithm.iql={ rewards = { shift = -1.0 } }".to_owned()];
        let whole = config.with_overrides(&whole).expect("set");
        assert_eq!(set("rewards"), whole);
    }
}
