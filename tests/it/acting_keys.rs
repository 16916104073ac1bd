//! Which keys of a trained run still count: those that change how it acts, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use trajformer::algorithms::ALGORITHMS;
use trajformer::config::RunConfig;
use trajformer::policy::EpisodeStart;
use trajformer::rng::{Rng, Streams};
use trajformer::run;

use crate::runs::{config, write_data};

/// Steps of the episodes that are acted in: longer than contexts and plans of small runs.
const STEPS: usize = 7;

/// Keys of trained networks that don't show in the shapes of their tensors: with another value the same weights would be read as
/// another network's.
const OF_NETWORKS: [&str; 12] = [
    "algorithm.decision_transformer.heads",
    "algorithm.lamo.heads",
    "algorithm.lamo.alpha",
    "algorithm.online_dt.heads",
    "algorithm.qt.heads",
    "algorithm.reinformer.heads",
    "algorithm.tap.state_conditional",
    "algorithm.trajectory_transformer.mlp",
    "algorithm.trajectory_transformer.norm",
    "algorithm.trajectory_transformer.positions",
    "algorithm.trajectory_transformer.qk_norm",
    "algorithm.trajectory_transformer.tied_heads",
];

/// Keys outside of the algorithm's table that count for one command or another.
const AROUND: [&str; 3] = ["evaluate.env", "evaluate.episodes", "evaluate.seed"];

/// Whether a key is among those that the algorithm names, or inside of one.
fn acting(algorithm: &str, key: &str) -> bool {
    let config = RunConfig::parse(&format!("[algorithm.{algorithm}]")).unwrap();
    let rest = key.strip_prefix(&format!("algorithm.{algorithm}."));
    let first = rest.map(|rest| rest.split('.').next().unwrap());
    first.is_some_and(|first| config.algorithm.acting_keys().contains(&first))
}

/// What a run does in two episodes of random observations and rewards, as bits.
fn acts(out: &Path, overrides: &[String]) -> trajformer::Result<Vec<u32>> {
    let mut policy = run::open(out, overrides)?.algorithm.policy()?;
    let streams = Streams::from_seed(5);
    let start = |row: u64| EpisodeStart {
        rng: streams.numbered("policy", row),
        target_return: None,
        goal: None,
        instruction: None,
    };
    policy.begin(&[start(0), start(1)])?;
    let rng = &mut Rng::from_seed(6);
    let mut bits = Vec::new();
    for _ in 0..STEPS {
        let observations: Vec<f32> = (0..6).map(|_| rng.normal() as f32).collect();
        let observations = Tensor::from_vec(observations, (2, 3), &Device::Cpu)?;
        let actions = policy.act(&observations, &[true; 2])?;
        let actions = actions.flatten_all()?.to_vec1::<f32>()?;
        bits.extend(actions.iter().map(|action| action.to_bits()));
        policy.observe(&[rng.normal() as f32, -1.0])?;
    }
    Ok(bits)
}

/// Other values of a key that holds `value`; `said` tells what is wrong with a word that is none.
fn others(value: &toml::Value, said: impl Fn(toml::Value) -> String) -> Vec<toml::Value> {
    match value {
        toml::Value::Integer(number) => vec![(number + 1).into(), (number - 1).into()],
        toml::Value::Float(number) => {
            vec![(number * 0.5).into(), (number + 0.25).into(), 1.0.into()]
        }
        toml::Value::Boolean(flag) => vec![(!flag).into()],
        toml::Value::String(word) => {
            let said = said("?".into());
            let words = said.split(['`', '"']).map(str::to_owned);
            words
                .filter(|other| other != word)
                .map(Into::into)
                .collect()
        }
        toml::Value::Array(numbers) if numbers.is_empty() => vec![vec![-50.0f64].into()],
        toml::Value::Array(numbers) => {
            let first = numbers.iter().map(|number| match number {
                toml::Value::Integer(number) => (number + 1).into(),
                toml::Value::Float(number) => (number * 0.9 + 0.01).into(),
                other => other.clone(),
            });
            vec![first.collect::<Vec<toml::Value>>().into()]
        }
        _ => Vec::new(),
    }
}

fn leaves(prefix: &str, table: &toml::Table, found: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        let key = match prefix {
            "" => name.clone(),
            _ => format!("{prefix}.{name}"),
        };
        match value {
            toml::Value::Table(inner) => leaves(&key, inner, found),
            value => found.push((key, value.clone())),
        }
    }
}

/// The stored configuration with another value of one key.
fn with(stored: &str, key: &str, value: &toml::Value) -> String {
    let mut table: toml::Table = toml::from_str(stored).unwrap();
    let mut place = &mut table;
    let (tables, last) = key.rsplit_once('.').unwrap_or(("", key));
    for name in tables.split('.').filter(|name| !name.is_empty()) {
        place = place[name].as_table_mut().unwrap();
    }
    place.insert(last.to_owned(), value.clone());
    toml::to_string(&table).unwrap()
}

#[test]
fn keys_that_change_how_a_trained_run_acts_can_be_set_and_no_others() {
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let folder = tempfile::tempdir().unwrap();
        write_data(folder.path());
        let out = folder.path().join("run");
        let mut config = config(folder.path(), name, 5);
        config.evaluate.episodes = 0;
        if name == "tap" {
            // Enough plans, and differences between them, that the discount changes which is best.
            let keys = [
                "codes=64",
                "planner.beam_width=8",
                "planner.plan_every_steps=1",
                "planner.likelihood_weight=0",
            ];
            let keys = keys.map(|key| format!("algorithm.tap.{key}"));
            config = config.with_overrides(&keys).unwrap();
        }
        run::start(&config, &out).unwrap();
        let file = out.join("config.toml");
        let stored = fs::read_to_string(&file).unwrap();
        let expected = acts(&out, &[]).unwrap();
        assert_eq!(acts(&out, &[]).unwrap(), expected, "{name}");

        let (mut keys, mut count) = (Vec::new(), BTreeSet::new());
        let table: toml::Table = toml::from_str(&stored).unwrap();
        leaves("", &table, &mut keys);
        for (key, value) in keys.iter().filter(|(key, _)| key != "device") {
            let said = |value| match RunConfig::parse(&with(&stored, key, &value)) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            };
            for other in others(value, said) {
                let text = with(&stored, key, &other);
                // Out of range, or a network of other shapes.
                if RunConfig::parse(&text).is_err() {
                    continue;
                }
                fs::write(&file, text).unwrap();
                let edited = acts(&out, &[]);
                fs::write(&file, &stored).unwrap();
                let set = format!("{key}={other}");
                let is_acting = acting(name, key);
                let given = is_acting.then(|| acts(&out, std::slice::from_ref(&set)));
                // Networks know returns by the scale that they were trained with: another one is no slip only where it is asked for.
                if key.ends_with(".return_scale") {
                    let error = edited.as_ref().expect_err(&set).to_string();
                    assert!(
                        error.contains(&format!("`{key}` was {value}, is {other}")),
                        "{error}"
                    );
                }
                let differs = |found: trajformer::Result<Vec<u32>>| {
                    found.is_ok_and(|found| found != expected)
                };
                let has_effect = differs(edited) || given.is_some_and(differs);
                if has_effect {
                    count.insert(key.as_str());
                }
                let opened = run::open(&out, std::slice::from_ref(&set));
                let is_around = AROUND.contains(&key.as_str());
                let is_network = OF_NETWORKS.contains(&key.as_str());
                match opened.map(|_| ()) {
                    Ok(()) => assert!(is_around || is_acting, "{set} was accepted"),
                    Err(error) => {
                        let error = error.to_string();
                        assert!(!is_around && !is_acting, "{error}");
                        assert!(!has_effect || is_network, "{set} has an effect: {error}");
                        let words = [&format!("`{set}`: `{key}`"), "can be set", "device"];
                        let missing = words.into_iter().find(|word| !error.contains(*word));
                        assert_eq!(missing, None, "{error}");
                    }
                }
            }
        }
        for key in config.algorithm.acting_keys() {
            let key = format!("algorithm.{name}.{key}");
            assert!(
                count.iter().any(|found| found.starts_with(&key)),
                "{key} has no effect"
            );
        }
    }
}

#[test]
fn every_command_refuses_settings_that_have_no_effect_on_it_and_lists_those_that_have() {
    let folder = crate::cli::trained();
    let folder = folder.path();
    let check = |arguments: &[&str], set: &str, word: &str| {
        let said = crate::cli::fails(folder, &[arguments, &["--set", set]].concat());
        let key = set.split('=').next().unwrap();
        for word in [&format!("`--set {set}`: `{key}`"), word] {
            assert!(said.contains(word), "{arguments:?}: {said}");
        }
    };
    let commands: [(&[&str], &str); 4] = [
        (
            &["evaluate", "run"],
            "evaluated: device, evaluate.env, evaluate.episodes",
        ),
        (
            &["evaluate", "run", "--off-policy", "data.npz"],
            "judged by data: device, data.max_episode_steps",
        ),
        (
            &["plan", "run"],
            "planned with: device, evaluate.env, evaluate.goal",
        ),
        (
            &["export", "run", "a.onnx"],
            "exported: device, evaluate.env",
        ),
    ];
    for (arguments, listed) in commands {
        for set in [
            "data.action_range=[-1, 1]",
            "algorithm.bc.learning_rate=0.1",
            // As it is already.
            "algorithm.bc.normalize_observations=true",
            "algorithm.bc={ hidden = [8], batch_size = 8, learning_rate = 0.1 }",
            "train.updates=10",
            "online={ steps = 3 }",
            "seed=3",
            "evaluate.every_updates=3",
        ] {
            let key = set.split('=').next().unwrap();
            if set.contains('{') {
                let arguments = [arguments, &["--set", set]].concat();
                let said = crate::cli::fails(folder, &arguments);
                assert!(
                    said.contains(&format!("`{key}.")) && said.contains(listed),
                    "{said}"
                );
            } else {
                check(arguments, set, listed)
            }
        }
        crate::cli::fails(
            folder,
            &[arguments, &["--set", "algorithm.bc.alpha=1"]].concat(),
        );
    }
    check(commands[1].0, "evaluate.episodes=3", commands[1].1);
    check(commands[3].0, "evaluate.episodes=3", commands[3].1);
    check(commands[0].0, "data.max_episode_steps=3", commands[0].1);
    let episodes = ["evaluate", "run", "--set", "evaluate.episodes=3", "--json"];
    let found = crate::cli::succeeds(folder, &episodes);
    assert!(found.contains("\"episodes\":3"), "{found}");
    let quick = ["--updates", "1", "--set", "device=cpu"];
    crate::cli::succeeds(folder, &[commands[1].0, &quick].concat());
}

#[test]
fn the_help_of_train_names_every_key_that_resuming_can_change() {
    let help = crate::cli::succeeds(Path::new("."), &["train", "--help"]);
    let mut free = BTreeSet::new();
    for algorithm in ALGORITHMS {
        let text = format!("[data]\npath = \"a\"\n[algorithm.{}]", algorithm.name);
        let table = toml::Table::try_from(RunConfig::parse(&text).unwrap()).unwrap();
        let mut keys = Vec::new();
        leaves("", &table, &mut keys);
        let keys = keys.into_iter().map(|(key, _)| key);
        free.extend(keys.filter(|key| trajformer::checkpoint::fingerprint::is_free(key)));
    }
    assert!(free.len() >= 7, "{free:?}");
    for key in free {
        let shown = match key.strip_prefix("algorithm.") {
            Some(inside) => inside.rsplit('.').next().unwrap(),
            None => &key,
        };
        assert!(help.contains(shown), "{key}: {help}");
    }
}

#[test]
fn options_that_have_no_effect_on_what_was_asked_for_are_refused() {
    let folder = crate::cli::trained();
    let folder = folder.path();
    for option in ["--chunk", "--scale"] {
        let said = crate::cli::fails(folder, &["data", "tokens", "data.npz", option, "4"]);
        assert!(said.contains("--tokenizer fast"), "{said}");
    }
    let collect = [
        "data",
        "collect",
        "--env",
        "pendulum-v1",
        "--steps",
        "5",
        "new.npz",
    ];
    for policy in ["random", "run"] {
        for option in [["--activation", "relu"], ["--output", "tanh"]] {
            let arguments = [&collect[..], &["--policy", policy], &option].concat();
            let said = crate::cli::fails(folder, &arguments);
            assert!(said.contains(".npz"), "{said}");
        }
    }
    let resume = ["train", "--resume", "run", "--device", "tpu"];
    let said = crate::cli::fails(
        folder,
        &[&resume[..], &["--set", "train.updates=9"]].concat(),
    );
    assert!(
        said.contains("tpu") && said.contains("expected `cpu`"),
        "{said}"
    );
}
