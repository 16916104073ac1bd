//! What is said of values of a wrong type: the words of serde and of Rust's types as people write configurations.

use crate::app::config::layers::join;
use crate::app::config::run_config::RunConfig;

/// What is wrong with a table, and the keys that it may be blamed on, the likeliest first.
pub(super) struct Problem {
    pub keys: Vec<String>,
    pub text: String,
}

/// Fails where something else stands in the place of a table.
pub(super) fn require_tables(
    table: &toml::Table,
    algorithm: &str,
) -> std::result::Result<(), Problem> {
    fn check(
        given: &toml::Table,
        known: &toml::Table,
        prefix: &str,
    ) -> std::result::Result<(), Problem> {
        for (name, known) in known {
            let (toml::Value::Table(known), Some(given)) = (known, given.get(name)) else {
                continue;
            };
            let key = join(prefix, name);
            match given {
                toml::Value::Table(given) => check(given, known, &key)?,
                other => {
                    return Err(Problem {
                        text: format!("`{key}` is {other}, expected a table `[{key}]`"),
                        keys: vec![key],
                    });
                }
            }
        }
        Ok(())
    }
    let mut blank = toml::Table::new();
    let inside = toml::Table::from_iter([(algorithm.to_owned(), toml::Table::new().into())]);
    blank.insert("algorithm".to_owned(), inside.into());
    let defaults = blank.try_into::<RunConfig>().map(toml::Table::try_from);
    match defaults {
        Ok(Ok(defaults)) => check(table, &defaults, ""),
        // Without defaults everything is left to be read.
        _ => Ok(()),
    }
}

/// What serde says of a value that is no word where one of several words is expected.
pub(super) const NO_WORD: &str = "expected one of its words";

/// The message about a key that takes one of several words, with these.
pub(super) fn words_of(table: &toml::Table, path: &str) -> Option<String> {
    let (mut asked, mut found) = (table.clone(), table);
    let (tables, last) = path.rsplit_once('.')?;
    let mut place = &mut asked;
    for name in tables.split('.') {
        place = place.get_mut(name)?.as_table_mut()?;
        found = found.get(name)?.as_table()?;
    }
    place.insert(last.to_owned(), "?".into());
    let error = serde_path_to_error::deserialize::<_, RunConfig>(asked).err()?;
    let words = plain_words(error.inner().message(), path);
    let (_, words) = words.split_once("expected ")?;
    Some(format!("found {}, expected {words}", found.get(last)?))
}

/// A message about `path` without words of Rust and serde.
pub(super) fn plain_words(message: &str, path: &str) -> String {
    const WORDS: [(&str, &str); 15] = [
        ("expected u64", "expected a whole number of 0 or more"),
        ("expected usize", "expected a whole number of 0 or more"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected a tuple of size 2", "expected a list of 2 numbers"),
        (
            "expected an array of length 2",
            "expected a list of 2 numbers",
        ),
        ("expected a sequence", "expected a list"),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: table"),
        ("invalid length 0", "an empty list"),
        ("invalid type: unit variant, expected string only", NO_WORD),
        ("wanted exactly 1 element, found 0 elements", NO_WORD),
        ("wanted exactly 1 element, more than 1 element", NO_WORD),
        ("unknown variant", "unknown word"),
    ];
    let mut text = message.trim().to_owned();
    for (technical, plain) in WORDS {
        text = text.replace(technical, plain);
    }
    // The name of a type is the last word, or followed by what it has.
    match text.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table `[{path}]`"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::layers::Layers;
    use crate::app::config::table::from_layers;
    use trajformer_algorithms::registry::ALGORITHMS;

    fn table(text: &str) -> toml::Table {
        toml::from_str(text).expect("a table")
    }

    /// Every key of every algorithm, and every table of keys.
    fn all_keys(table: &toml::Table, prefix: &str, found: &mut Vec<String>) {
        for (name, value) in table {
            let key = join(prefix, name);
            if let toml::Value::Table(inner) = value {
                all_keys(inner, &key, found);
            }
            found.push(key);
        }
    }

    #[test]
    fn values_of_a_wrong_type_are_refused_in_words_that_are_not_rusts() {
        let values = [
            "5",
            "-3",
            "0.5",
            "true",
            "'word'",
            "[]",
            "[1,2,3]",
            "['a']",
            "{ x = 1 }",
        ];
        for algorithm in ALGORITHMS {
            let text = format!("[algorithm.{}]", algorithm.name);
            let config = RunConfig::parse(&text).expect("defaults");
            let table = toml::Table::try_from(&config).expect("a table");
            let mut keys = Vec::new();
            all_keys(&table, "", &mut keys);
            let texts = ["", ".text"].map(|more| format!("algorithm.{}{more}", algorithm.name));
            keys.extend(texts);
            for (key, value) in keys.iter().flat_map(|key| values.map(|value| (key, value))) {
                let set = format!("{key}={value}");
                let mut layers = Layers::from(table.clone());
                let Err(error) = from_layers(&mut layers, std::slice::from_ref(&set)) else {
                    continue;
                };
                let error = error.to_string();
                let technical = [
                    "struct",
                    "enum",
                    "variant",
                    "tuple",
                    "sequence",
                    "Config",
                    "u64",
                    "usize",
                    "f64",
                    "f32,",
                    "map",
                    "string only",
                    "exactly",
                ];
                // Names of keys, in backticks, may have them.
                let said: Vec<&str> = error.split('`').step_by(2).collect();
                let said = said.join(" ");
                let found = technical.iter().find(|word| said.contains(**word));
                assert_eq!(found, None, "{error}");
            }
        }
    }

    #[test]
    fn what_stands_in_a_tables_place_is_named_with_the_table() {
        let check = |text: &str, name: &str| {
            let mut layers = Layers::from(table(text));
            let error = from_layers(&mut layers, &[]).expect_err(text).to_string();
            assert!(
                error.contains(&format!("expected a table `[{name}]`")),
                "{error}"
            );
        };
        for table in ["data", "train", "online", "evaluate"] {
            for value in ["5", "\"word\"", "[]", "[1, 2]"] {
                check(&format!("{table} = {value}\n[algorithm.bc]"), table);
            }
        }
        for algorithm in ALGORITHMS {
            let name = algorithm.name;
            for value in ["5", "true", "[]"] {
                let table = format!("algorithm.{name}");
                check(&format!("[algorithm]\n{name} = {value}"), &table);
            }
        }
        let planner = "algorithm.trajectory_transformer.planner";
        check(&format!("{planner} = 3"), planner);
        for (text, table) in [
            ("[algorithm.fast]\ntext = 3", "algorithm.fast.text"),
            (
                "[algorithm.lamo]\ntext = \"wiki.txt\"",
                "algorithm.lamo.text",
            ),
        ] {
            check(text, table);
        }
        let words = RunConfig::parse("[algorithm.iql]\nactor = 3").expect_err("no word");
        assert!(
            words
                .to_string()
                .contains("found 3, expected `gaussian` or `deterministic`"),
            "{words}"
        );
    }
}
