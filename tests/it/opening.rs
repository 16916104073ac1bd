//! Trained runs open with nothing but themselves: every committed configuration, trained at a small size, its data
//! taken away, opened in each way that there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use toml::{Table, Value};
use trajformer::algorithms::ALGORITHMS;
use trajformer::config::RunConfig;
use trajformer::data::Dataset;
use trajformer::error::{Ability, Error};
use trajformer::evaluate::Evaluator;
use trajformer::evaluations::Evaluations;
use trajformer::fqe::FqeConfig;
use trajformer::policy::EpisodeStart;
use trajformer::policy::behavior::behavior;
use trajformer::rng::Rng;
use trajformer::{data, envs, export, instruct, preview, run};

/// Policies that are no single network, and what is refused for that.
const NOT_EXPORTED: [&str; 10] = [
    "bear",
    "brac",
    "crr",
    "fast",
    "lamo",
    "online_dt",
    "qt",
    "reinformer",
    "tap",
    "trajectory_transformer",
];

/// Policies that remember or plan; all others are judged by data, those that choose among samples too.
const SEQUENCE_MODELS: [&str; 8] = [
    "decision_transformer",
    "fast",
    "lamo",
    "online_dt",
    "qt",
    "reinformer",
    "tap",
    "trajectory_transformer",
];

/// Every configuration that the project ships.
fn configurations() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 150, "{}", found.len());
    found
}

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name).display().to_string()
}

/// What is trained instead: the same but for sizes, lengths, and models of language.
fn small_algorithm(table: &mut Table) {
    let pretrained = table.contains_key("pretrained");
    for (key, value) in table.iter_mut() {
        let most = |most: i64, value: &Value| value.as_integer().unwrap_or(most).min(most);
        *value = match (key.as_str(), &*value) {
            (key, Value::Array(widths)) if key.ends_with("hidden") => {
                Value::Array(vec![Value::Integer(8); widths.len().min(2)])
            }
            ("planner", Value::Table(planner)) => {
                let mut planner = planner.clone();
                for (key, size) in [
                    ("horizon", 2),
                    ("beam_width", 2),
                    ("n_expand", 1),
                    ("plan_every_steps", 2),
                    ("max_context_transitions", 1),
                ] {
                    if planner.contains_key(key) {
                        planner.insert(key.to_owned(), Value::Integer(size));
                    }
                }
                Value::Table(planner)
            }
            ("text", Value::Table(text)) => {
                let mut text = text.clone();
                text.insert("encoder".to_owned(), golden("text/bert").into());
                text.insert("dimension".to_owned(), Value::Integer(16));
                Value::Table(text)
            }
            ("pretrained", _) => golden("hub/gpt2").into(),
            ("layers" | "heads", _) => Value::Integer(if pretrained { 2 } else { 1 }),
            ("embedding", _) => Value::Integer(if pretrained { 16 } else { 8 }),
            (
                "batch_size" | "embedding_per_head" | "rnd_hidden" | "rnd_embedding" | "bins"
                | "codes" | "code_width",
                Value::Integer(_),
            ) => Value::Integer(8),
            ("latent_steps", _) => Value::Integer(2),
            ("vocab_size", _) => Value::Integer(128),
            ("rank", Value::Integer(_)) => Value::Integer(2),
            // Phases before the policy learns.
            ("behavior_updates" | "pretraining_updates" | "autoencoder_updates", _) => {
                Value::Integer(1)
            }
            (
                "context_steps"
                | "acting_context_steps"
                | "window_transitions"
                | "chunk_steps"
                | "execute_steps",
                value,
            ) => Value::Integer(most(4, value)),
            (
                "members" | "samples" | "actions" | "target_samples" | "acting_samples",
                Value::Integer(_),
            ) => Value::Integer(most(3, value)),
            (_, value) => value.clone(),
        };
    }
}

/// A configuration at a small size, on data in `folder`.
fn small(path: &Path, folder: &Path) -> RunConfig {
    let whole = RunConfig::load(path, &[]).unwrap();
    let mut table: Table = toml::from_str(&whole.to_toml().unwrap()).unwrap();
    let name = whole.algorithm.name();
    let algorithms = table["algorithm"].as_table_mut().unwrap();
    small_algorithm(algorithms[name].as_table_mut().unwrap());
    let env = match &whole.evaluate.env {
        Some(env) if env.starts_with("pointmaze") => env.as_str(),
        _ => "pendulum-v1",
    };
    let mut set = |table_name: &str, keys: &[(&str, Value)]| {
        let table = table
            .entry(table_name)
            .or_insert(Value::Table(Table::new()));
        for (key, value) in keys {
            let table = table.as_table_mut().unwrap();
            table.insert((*key).to_owned(), value.clone());
        }
    };
    let data = folder.join(format!("{env}.npz")).display().to_string();
    set("data", &[("path", data.into())]);
    let updates = ["updates", "checkpoint_every_updates", "log_every_updates"];
    set("train", &updates.map(|key| (key, 2.into())));
    let scores = [
        ("env", env.into()),
        ("episodes", 1.into()),
        ("every_updates", 0.into()),
    ];
    set("evaluate", &scores);
    if whole.online.steps > 0 {
        set("online", &[("steps", 2.into())]);
    }
    RunConfig::parse(&toml::to_string(&table).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn collected(env: &str) -> Dataset {
    let mut env = envs::make(env).unwrap();
    let name = if env.spec().name.contains("rooms") {
        "waypoint-goal"
    } else {
        "random"
    };
    let mut policy = behavior(name, env.spec(), &Default::default()).unwrap();
    // Mazes end by time alone: a whole episode at least.
    let is_maze = env.spec().name.starts_with("pointmaze");
    let steps = match env.spec().max_episode_steps {
        limit if is_maze => 410.max(limit + 10),
        _ => 410,
    };
    data::collect::collect(&mut *env, &mut *policy, steps, 1).unwrap()
}

/// The ways of opening a run whose data is gone; `other` is data to judge it by.
fn check_opening(config: &RunConfig, out: &Path, other: &Path) {
    let name = config.algorithm.name();
    let open = || run::open(out, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
    let env = config.evaluate.env.clone().unwrap();

    let mut trained = open();
    let mut evaluator = Evaluator::new(&config.evaluate).unwrap().unwrap();
    let last = Evaluations::last(out, &env);
    let told = trained.algorithm.instructed().is_some();
    if told {
        instruct::teach(&mut trained, &evaluator.instructions()).unwrap();
    }
    let found = evaluator.run(&mut *trained.algorithm.policy().unwrap());
    let (found, last) = (found.unwrap(), last.unwrap().unwrap());
    assert_eq!(found.return_mean, last.return_mean, "{name}: the last row");

    let exported = export::graph_of(&mut open());
    match exported {
        Err(error) if NOT_EXPORTED.contains(&name) || told => {
            let is_refused = matches!(
                error,
                Error::Unsupported {
                    ability: Ability::Export,
                    ..
                }
            );
            assert!(is_refused, "{name}: {error}");
        }
        exported => drop(exported.unwrap_or_else(|error| panic!("{name}: {error}"))),
    }

    let mut simulated = envs::make(&env).unwrap();
    let policy = trained.algorithm.policy().unwrap();
    let (goal, memoryless) = (policy.needs_goal(), policy.is_memoryless());
    assert_eq!(memoryless, !SEQUENCE_MODELS.contains(&name), "{name}");
    if !told {
        match run::policy(out, simulated.spec(), false) {
            Ok(mut policy) => {
                data::collect::collect(&mut *simulated, &mut *policy, 5, 0).unwrap();
            }
            Err(error) => assert!(
                goal && error.to_string().contains("goal"),
                "{name}: {error}"
            ),
        }
    }
    if ["tap", "trajectory_transformer"].contains(&name) && !told {
        let mut policy = open().algorithm.policy().unwrap();
        preview::preview(&mut *policy, config, 0).unwrap();
    }
    let quick = FqeConfig {
        updates: 1,
        members: 2,
        hidden: vec![4],
        batch_size: 4,
        ..FqeConfig::default()
    };
    match run::judge(out, &[], other, &quick) {
        Ok(found) => assert!(memoryless && found.value.is_finite(), "{name}"),
        Err(error) => assert!(!memoryless, "{name}: {error}"),
    }
    #[cfg(feature = "hub")]
    {
        use trajformer::{hub, publish};
        let reference = hub::Reference::parse("somebody/run", None).unwrap();
        let dry_run = publish::PushOptions {
            private: true,
            dry_run: true,
        };
        let pushed = publish::push(out, &reference, &dry_run).unwrap();
        assert!(pushed.card.contains(name), "{name}");
    }
    let error = run::resume(out, &["train.updates=3".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("data.path"), "{name}: {error}");
    let mut rng = Rng::from_seed(0);
    let error = open().algorithm.update(&mut rng).unwrap_err();
    assert!(matches!(error, Error::OpenedWithoutData), "{name}: {error}");
}

#[test]
fn every_committed_configuration_opens_again_without_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Those that are the same at this size are trained once.
    let mut distinct: BTreeMap<String, (RunConfig, PathBuf)> = BTreeMap::new();
    for path in configurations() {
        let config = small(&path, folder);
        let text = config.to_toml().unwrap();
        distinct.entry(text).or_insert((config, path));
    }
    let mut kept: BTreeMap<PathBuf, Dataset> = BTreeMap::new();
    for (number, (config, path)) in distinct.values().enumerate() {
        let place = config.data.path[0].clone();
        let env = config.evaluate.env.as_deref().unwrap();
        let dataset = kept.entry(place.clone()).or_insert_with(|| {
            let dataset = collected(env);
            data::save(&dataset, &folder.join(format!("other-{env}.npz"))).unwrap();
            dataset
        });
        let out = folder.join(format!("run-{number}"));
        run::start_on(config, dataset, &out)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        check_opening(config, &out, &folder.join(format!("other-{env}.npz")));
    }
}

/// Pendulum's data with a second action that is always 5, and a first one of -2 or 2 alone.
fn odd_actions() -> Dataset {
    let mut data = collected("pendulum-v1");
    let signs = data.actions.iter().map(|action| 2.0 * action.signum());
    data.actions = signs.flat_map(|action| [action, 5.0]).collect();
    data.action_dim = 2;
    data
}

/// The first actions of a trained run that was opened again, at a few observations of the data.
fn actions(out: &Path, data: &Dataset) -> Vec<Vec<f32>> {
    const ROWS: usize = 8;
    let mut policy = run::open(out, &[]).unwrap().algorithm.policy().unwrap();
    let starts: Vec<EpisodeStart> = (0..ROWS as u64)
        .map(|row| EpisodeStart {
            rng: Rng::from_seed(row),
            target_return: None,
            goal: None,
            instruction: None,
        })
        .collect();
    policy.begin(&starts).unwrap();
    let observations = &data.observations[..ROWS * data.observation_dim];
    let shape = (ROWS, data.observation_dim);
    let observations = Tensor::from_slice(observations, shape, &Device::Cpu).unwrap();
    let actions = policy.act(&observations, &[true; ROWS]).unwrap();
    actions.to_vec2().unwrap()
}

#[test]
fn an_action_that_never_changes_is_acted_as_it_is_by_every_algorithm() {
    // The range around it is a thousandth of it to each side.
    const WITHIN: f32 = 5e-3 * 1.001;
    let (folder, data) = (tempfile::tempdir().unwrap(), odd_actions());
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let text = format!(
            "[train]\nupdates = 5\n[algorithm.{name}]\n{}\n",
            crate::runs::small(name)
        );
        let out = folder.path().join(name);
        run::start_on(&RunConfig::parse(&text).unwrap(), &data, &out).unwrap();
        for action in actions(&out, &data) {
            assert!((action[1] - 5.0).abs() <= WITHIN, "{name}: {action:?}");
        }
        let exported = export::graph_of(&mut run::open(&out, &[]).unwrap());
        assert!(exported.is_ok() || NOT_EXPORTED.contains(&name), "{name}");
    }
}

#[test]
fn a_plan_of_actions_that_are_one_of_two_executes_those_two() {
    let (folder, data) = (tempfile::tempdir().unwrap(), odd_actions());
    let small = crate::runs::small("trajectory_transformer");
    for kind in ["quantile", "uniform"] {
        let table =
            format!("[algorithm.trajectory_transformer]\ndiscretizer = \"{kind}\"\n{small}\n");
        let config = RunConfig::parse(&format!("[train]\nupdates = 3\n{table}")).unwrap();
        let out = folder.path().join(kind);
        run::start_on(&config, &data, &out).unwrap();
        let found = actions(&out, &data);
        assert!(
            found.iter().all(|action| action[0].abs() == 2.0),
            "{kind}: {found:?}"
        );
        assert!(
            found.iter().all(|action| action[1] == 5.0),
            "{kind}: {found:?}"
        );
    }
}

#[test]
fn sizes_of_a_trained_run_that_are_changed_are_named_by_their_key() {
    let (folder, data) = (tempfile::tempdir().unwrap(), odd_actions());
    for (name, key) in [
        ("bc", "hidden=[4]"),
        ("iql", "hidden=[4, 4]"),
        ("decision_transformer", "embedding=8"),
        ("trajectory_transformer", "bins=7"),
        ("fast", "vocab_size=99"),
    ] {
        let text = format!(
            "[train]\nupdates = 1\n[algorithm.{name}]\n{}\n",
            crate::runs::small(name)
        );
        let out = folder.path().join(name);
        run::start_on(&RunConfig::parse(&text).unwrap(), &data, &out).unwrap();
        let set = format!("algorithm.{name}.{key}");
        let further = "evaluate.seed=3".to_owned();
        let error = run::open(&out, &[further, set.clone()])
            .err()
            .unwrap()
            .to_string();
        let blamed = format!("`{set}`: `algorithm.{name}.");
        assert!(
            error.contains(&blamed) && error.contains("keep their sizes"),
            "{error}"
        );
        assert!(run::open(&out, &[]).is_ok());
    }
}

/// A device that no build of this kind can use.
const ELSEWHERE: &str = if cfg!(feature = "metal") {
    "cuda"
} else {
    "metal"
};

#[test]
fn a_run_of_a_device_that_is_not_here_acts_on_the_cpu_and_trains_on_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    crate::runs::write_data(folder);
    let out = folder.join("run");
    let config = RunConfig {
        device: "cpu".to_owned(),
        ..crate::runs::config(folder, "td3_bc", 5)
    };
    run::start(&config, &out).unwrap();
    let acts = |overrides: &[&str]| -> trajformer::Result<Vec<f32>> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let mut policy = run::open(&out, &overrides)?.algorithm.policy()?;
        policy.begin(&[])?;
        let observation = Tensor::new(&[[0.5f32, -0.5, 1.0]], &Device::Cpu)?;
        Ok(policy
            .act(&observation, &[true])?
            .flatten_all()?
            .to_vec1()?)
    };
    let expected = acts(&[]).unwrap();
    let file = out.join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let moved = text.replace("device = \"cpu\"", &format!("device = \"{ELSEWHERE}\""));
    assert_ne!(moved, text);
    fs::write(&file, moved).unwrap();

    assert_eq!(acts(&[]).unwrap(), expected);
    assert_eq!(acts(&["device=cpu"]).unwrap(), expected);
    let asked = acts(&[&format!("device={ELSEWHERE}")])
        .unwrap_err()
        .to_string();
    assert!(
        asked.contains(ELSEWHERE) && asked.contains("--features"),
        "{asked}"
    );
    let unknown = acts(&["device=tpu"]).unwrap_err().to_string();
    assert!(unknown.contains("expected `cpu`, `cuda`"), "{unknown}");
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_trajformer"))
        .args(["evaluate", "run"])
        .current_dir(folder)
        .output()
        .unwrap();
    let warning = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{warning}");
    for word in [ELSEWHERE, "acts on the CPU in its place", "last bits"] {
        assert!(warning.contains(word), "{warning}");
    }

    let more = "train.updates=8".to_owned();
    let refused = run::resume(&out, std::slice::from_ref(&more))
        .unwrap_err()
        .to_string();
    for word in [ELSEWHERE, "`device = \"cpu\"`"] {
        assert!(refused.contains(word), "{refused}");
    }
    run::resume(&out, &[more, "device=cpu".to_owned()]).unwrap();
    let stored = fs::read_to_string(&file).unwrap();
    assert!(stored.contains("device = \"cpu\""), "{stored}");
}
