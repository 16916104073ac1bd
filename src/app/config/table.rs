//! From TOML tables and `key=value` overrides to a configuration, with errors that name the key as it is
//! written and where it came from.

use crate::app::config::layers::{EXTENDS, Layers, join};
use crate::app::config::overrides::{apply_override, set_words};
use crate::app::config::run_config::RunConfig;
use crate::app::config::words::{NO_WORD, Problem, plain_words, require_tables, words_of};
use trajformer_algorithms::registry::{ALGORITHMS, AlgorithmConfig, CustomConfig};
use trajformer_core::error::{Error, Origin, Result};
use trajformer_core::nearest::did_you_mean;

/// A checked configuration from what files and overrides say together. Errors name what set the key that they are
/// about; what an override breaks is blamed on it.
pub(super) fn from_layers(layers: &mut Layers, overrides: &[String]) -> Result<RunConfig> {
    let overrides: Vec<String> = overrides.iter().map(|text| layers.spelled(text)).collect();
    let mut found = read_table(&layers.table);
    for (i, text) in overrides.iter().enumerate() {
        let before = found;
        let table = layers.table.clone();
        layers.set(text)?;
        found = read_table(&layers.table);
        if found.is_err() && !text.contains(['[', '{']) {
            // A name may look like a number or a date: `data.path=2024`.
            let mut in_words = table;
            set_words(&mut in_words, text)?;
            if let named @ Ok(_) = read_table(&in_words) {
                (layers.table, found) = (in_words, named);
            }
        }
        if let (Ok(_), Err(problem)) = (before, &found) {
            // Only together may they be right, e.g. one algorithm in place of another.
            if i + 1 == overrides.len() {
                let origin = Some(Origin::of_override(text));
                return Err(Error::settings(problem.text.clone()).said_by(origin));
            }
        }
    }
    let config = found.map_err(|Problem { keys, text }| {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Error::settings(text).said_by(layers.place(&keys))
    })?;
    config.check().map_err(|error| {
        let key = match &error {
            Error::Config { key, .. } => key,
            // These quote the key that they are about first.
            Error::Settings { problem, .. } => problem.split('`').nth(1).unwrap_or_default(),
            _ => return error,
        };
        let place = layers.place(&[key]);
        error.said_by(place)
    })?;
    Ok(config)
}

/// A registered algorithm's defaults, changed by `KEY=VALUE` of its own table; its values are not checked.
///
/// # Errors
/// If a key is not one of its table, or a value has a wrong type: names the override.
pub fn algorithm_config_of(name: &str, overrides: &[&String]) -> Result<AlgorithmConfig> {
    let read = |own: &toml::Table| {
        let inside = toml::Table::from_iter([(name.to_owned(), own.clone().into())]);
        read_table(&toml::Table::from_iter([(
            "algorithm".to_owned(),
            inside.into(),
        )]))
    };
    let mut own = toml::Table::new();
    let mut found = read(&own);
    for text in overrides {
        apply_override(&mut own, text)?;
        let before = found.is_ok();
        found = read(&own);
        if let (true, Err(problem)) = (before, &found) {
            let text_of_key = problem.text.replace(&format!("`algorithm.{name}."), "`");
            let origin = Some(Origin::of_override((*text).clone()));
            return Err(Error::settings(text_of_key).said_by(origin));
        }
    }
    let config = found.map_err(|problem| Error::settings(problem.text))?;
    Ok(config.algorithm)
}

/// A configuration with every value of the right type, or what is wrong.
fn read_table(table: &toml::Table) -> std::result::Result<RunConfig, Problem> {
    let names: Vec<&str> = ALGORITHMS.iter().map(|algorithm| algorithm.name).collect();
    let expected = || {
        format!(
            "expected one table: [algorithm.NAME], NAME of {}",
            names.join(", ")
        )
    };
    let wrong = |text: String| {
        Err(Problem {
            keys: vec!["algorithm".to_owned()],
            text,
        })
    };
    let given = match table.get("algorithm") {
        None => return wrong(format!("`algorithm` is missing, {}", expected())),
        Some(toml::Value::Table(table)) => table,
        Some(other) => return wrong(format!("`algorithm` is {other}, {}", expected())),
    };
    let given: Vec<&str> = given.keys().map(String::as_str).collect();
    match given[..] {
        [name] if names.contains(&name) || name == CustomConfig::NAME => {
            require_tables(table, name)?;
        }
        [name] => {
            let near = did_you_mean(name, names.iter().copied());
            return wrong(format!("`algorithm` holds {given:?}, {}{near}", expected()));
        }
        _ => return wrong(format!("`algorithm` holds {given:?}, {}", expected())),
    }
    serde_path_to_error::deserialize(table.clone()).map_err(|error| {
        let path = error.path().to_string();
        let message = plain_words(error.inner().message(), &path);
        let message = if message.contains(NO_WORD) {
            words_of(table, &path).unwrap_or(message)
        } else {
            message
        };
        let message = match message.strip_prefix("unknown word `") {
            Some(rest) => {
                let word = rest.split('`').next().unwrap_or_default();
                let listed = message.split('`').skip(1).step_by(2).skip(1);
                format!("{message}{}", did_you_mean(word, listed))
            }
            None => message,
        };
        let unknown = message.strip_prefix("unknown field `");
        let unknown = unknown.and_then(|rest| rest.split('`').next());
        let inside = unknown.map(|name| match path.as_str() {
            "." => name.to_owned(),
            _ => format!("{path}.{name}"),
        });
        let message = match unknown {
            Some(EXTENDS) => {
                format!("`{EXTENDS}` stands at the top of a file, before its first [table]")
            }
            Some(name) => {
                let near = meant(name, &message, given[0]);
                format!("{message}{near}")
            }
            None => message,
        };
        Problem {
            text: if path == "." || (message.contains(&path) && !path.contains('.')) {
                message
            } else {
                format!("`{path}`: {message}")
            },
            keys: inside.into_iter().chain([path]).collect(),
        }
    })
}

/// Keys that have no default, so that a blank configuration lacks them.
const WITHOUT_DEFAULT: [&str; 7] = [
    "data.action_range",
    "data.max_episode_steps",
    "data.observation_columns",
    "data.observation_keys",
    "evaluate.env",
    "evaluate.goal",
    "evaluate.python",
];

/// `; did you mean ...?` about an unknown key: one that is near among those that the message lists, else one of its name in another table.
fn meant(name: &str, message: &str, algorithm: &str) -> String {
    // What stands in quotes: the key itself, then those that there are.
    let listed = message.split('`').skip(1).step_by(2).skip(1);
    let near = did_you_mean(name, listed);
    if !near.is_empty() {
        return near;
    }
    let blank = format!("[algorithm.{algorithm}]");
    let defaults = toml::from_str::<RunConfig>(&blank).map(toml::Table::try_from);
    let Ok(Ok(defaults)) = defaults else {
        return near;
    };
    let inside = format!(".{name}");
    let without = WITHOUT_DEFAULT
        .into_iter()
        .find(|key| key.ends_with(&inside));
    let found = find(&defaults, name, "").or_else(|| without.map(str::to_owned));
    found.map_or(near, |key| format!("; did you mean `{key}`?"))
}

/// The first key of this name inside of a table of `table`, as a whole.
fn find(table: &toml::Table, name: &str, prefix: &str) -> Option<String> {
    table.iter().find_map(|(table, value)| {
        let (inner, key) = (value.as_table()?, join(prefix, table));
        if inner.contains_key(name) {
            Some(join(&key, name))
        } else {
            find(inner, name, &key)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::LARGEST_SEED;

    fn table(text: &str) -> toml::Table {
        toml::from_str(text).expect("a table")
    }

    #[test]
    fn an_override_is_toml_or_a_bare_word() {
        let mut found = table("[train]\nupdates = 1\n");
        for text in [
            "train.updates=20",
            "evaluate.env=hopper-v4",
            "data.path=[\"a\", \"b\"]",
        ] {
            apply_override(&mut found, text).expect(text);
        }
        let expected = table(
            "[train]\nupdates = 20\n[evaluate]\nenv = \"hopper-v4\"\n[data]\npath = [\"a\", \"b\"]",
        );
        assert_eq!(found, expected);
    }

    #[test]
    fn a_path_that_looks_like_a_number_or_a_date_is_a_path() {
        let good = "[algorithm.bc]\nhidden = [4]\n";
        for path in ["2024", "2024_01", "1.50", "2024-05-06", "true"] {
            let set = format!("data.path={path}");
            let mut layers = Layers::from(table(good));
            let config = from_layers(&mut layers, std::slice::from_ref(&set));
            let config = config.expect(&set);
            assert_eq!(config.data.path, [std::path::PathBuf::from(path)]);
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_whole_key_and_where_it_came_from() {
        let good = "[algorithm.bc]\nhidden = [4]\n";
        let problem = |text: &str, overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
            let mut layers = Layers::from(table(text));
            layers.files = vec!["FILE".into()];
            from_layers(&mut layers, &overrides)
                .expect_err(text)
                .to_string()
        };
        let file = |text: &str, words: &[&str]| {
            let found = problem(text, &[]);
            let missing = words.iter().find(|word| !found.contains(**word));
            assert_eq!(missing, None, "{found}");
        };
        let two = "[algorithm.bc]\n[algorithm.td3_bc]\n";
        file(
            two,
            &["FILE", "`algorithm` holds", "bc", "td3_bc", "expected one"],
        );
        file(
            "algorithm = \"bc\"",
            &["`algorithm` is \"bc\"", "[algorithm."],
        );
        file("seed = 1", &["`algorithm` is missing"]);
        file(
            "[algorithm.bc]\nfraction = \"a\"",
            &["`algorithm.bc.fraction`", "expected a number"],
        );
        file(
            "[algorithm.bc]\nfractoin = 1",
            &["algorithm.bc", "fractoin"],
        );
        let penalty = "[algorithm.trajectory_transformer]\ntermination_penalty = \"foo\"";
        file(
            penalty,
            &[
                "trajectory_transformer.termination_penalty",
                "a number or \"none\"",
            ],
        );
        let large = "seed = 3\n[algorithm.bc]\nbatch_size = 9223372036854775807";
        file(
            large,
            &["`algorithm.bc.batch_size` is 9223372036854775807", "1 to"],
        );

        let set = problem(good, &["train.updates=many"]);
        assert!(
            set.contains("`train.updates=many`") && !set.contains("FILE"),
            "{set}"
        );
        assert!(set.contains("whole number of 0 or more"), "{set}");
        let seed = problem(good, &["seed=9223372036854775808"]);
        assert!(seed.contains("seed=9223372036854775808"), "{seed}");
        let episodes = problem(good, &["evaluate.episodes=10000000"]);
        assert!(
            episodes.contains("`evaluate.episodes` is 10000000"),
            "{episodes}"
        );
        let range = problem(good, &["data.action_range=[1, 1]"]);
        assert!(range.contains("data.action_range"), "{range}");
    }

    #[test]
    fn an_unknown_key_or_algorithm_is_answered_with_what_may_be_meant() {
        let check = |text: &str, set: &[&str], meant: &str| {
            let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
            let mut layers = Layers::from(table(text));
            let error = from_layers(&mut layers, &set).expect_err(text).to_string();
            assert!(error.ends_with(meant), "{error}");
        };
        let bc = "[algorithm.bc]\n";
        check(
            &format!("{bc}[train]\nupdate = 5"),
            &[],
            "; did you mean `updates`?",
        );
        check(bc, &["train.upadtes=5"], "; did you mean `updates`?");
        check(
            bc,
            &["algorithm.bc.batchsize=5"],
            "; did you mean `batch_size`?",
        );
        // The right name in the wrong table.
        check(bc, &["updates=5"], "; did you mean `train.updates`?");
        check(bc, &["env=hopper-v4"], "; did you mean `evaluate.env`?");
        check(
            bc,
            &["train.batch_size=5"],
            "; did you mean `algorithm.bc.batch_size`?",
        );
        check("[algorithm.td3bc]", &[], "; did you mean `td3_bc`?");
        check(
            "[algorithm.bc]\n[evaluat]\nenv = \"a\"",
            &[],
            "; did you mean `evaluate`?",
        );
        let error = from_layers(&mut Layers::from(table(bc)), &["train.zebra=1".to_owned()]);
        let error = error.expect_err("no such key").to_string();
        assert!(!error.contains("did you mean"), "{error}");
        let word = "[algorithm.iql]\nactor = \"gausian\"";
        check(word, &[], "; did you mean `gaussian`?");
    }

    #[test]
    fn a_seed_is_at_most_what_toml_can_store() {
        let config = RunConfig {
            seed: LARGEST_SEED + 1,
            ..RunConfig::parse("[algorithm.bc]").expect("defaults")
        };
        let error = config.check().expect_err("too large").to_string();
        assert!(error.contains("`seed` is 9223372036854775808"), "{error}");
    }

    #[test]
    fn sizes_that_no_machine_holds_are_refused_before_anything_is_made() {
        const LARGE: &str = "9223372036854775807";
        let check = |algorithm: &str, keys: &[&str], value: &str| {
            for key in keys {
                let text = format!("[algorithm.{algorithm}]\n{key} = {value}");
                let error = RunConfig::parse(&text).expect_err(&text).to_string();
                let name = key.rsplit('.').next().unwrap_or(key);
                assert!(error.contains(name), "{text}: {error}");
            }
        };
        check("bc", &["batch_size"], LARGE);
        check("bc", &["hidden"], "[4611686018427387904]");
        check("bc", &["hidden"], "[100000, 100000]");
        check("td3_bc", &["batch_size"], LARGE);
        let sizes = [
            "context_steps",
            "layers",
            "embedding",
            "batch_size",
            "max_episode_steps",
        ];
        check("decision_transformer", &sizes, LARGE);
        check(
            "decision_transformer",
            &["context_steps", "layers"],
            "10000000",
        );
        let sizes = [
            "layers",
            "embedding_per_head",
            "window_transitions",
            "batch_size",
            "max_path_steps",
            "planner.beam_width",
            "planner.n_expand",
            "planner.horizon",
            "planner.max_context_transitions",
        ];
        check("trajectory_transformer", &sizes, LARGE);
        check(
            "trajectory_transformer",
            &["window_transitions", "planner.horizon"],
            "10000000",
        );
        check("trajectory_transformer", &["termination_penalty"], "-1e308");
        check("td3_bc", &["alpha", "policy_noise", "noise_clip"], "inf");
        check("decision_transformer", &["weight_decay"], "inf");
        check("iql", &["batch_size"], LARGE);
        check("iql", &["expectile", "beta", "max_weight"], "inf");
        check("awac", &["batch_size"], LARGE);
        check("awac", &["lambda", "max_weight"], "inf");
        check("crr", &["batch_size", "samples"], LARGE);
        check("crr", &["temperature", "max_weight"], "inf");
        let sizes = ["batch_size", "samples", "target_samples", "acting_samples"];
        check("bear", &sizes, LARGE);
        check("bear", &["bandwidth", "threshold", "vae_kl_weight"], "inf");
        check("brac", &["batch_size", "samples", "acting_samples"], LARGE);
        let numbers = ["penalty", "target_divergence", "behavior_temperature"];
        check("brac", &numbers, "inf");
        check("cql", &["batch_size", "actions"], LARGE);
        let numbers = ["alpha", "penalty_temperature", "lagrange_gap", "gap_min"];
        check("cql", &numbers, "inf");
    }

    #[test]
    fn a_malformed_override_is_an_error_that_quotes_it() {
        for text in ["train.updates", "=1", "train..updates=1", "seed.sub=1"] {
            let mut found = table("seed = 1");
            let error = apply_override(&mut found, text)
                .expect_err(text)
                .to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
