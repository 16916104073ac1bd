//! What is trained, and until when: every parameter moves, in every algorithm and with every committed configuration, up to the
//! last update on the data and on from there online.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use trajformer::algorithms::{
    ALGORITHMS, Algorithm, AlgorithmConfig, Build, OnlinePhase, Source, Step,
};
use trajformer::config::RunConfig;
use trajformer::data::{ActionBounds, Dataset};
use trajformer::rng::{Rng, Streams};
use trajformer::run;
use trajformer_models::params::{Slot, StateVisitor};

use crate::runs::{config, pendulum_data, small, write_data};

/// Made at random, and staying so: a network that others are compared with; what only makes the Decision Transformer
/// one of `transformers`, and heads of it that no loss looks at; what inputs are scaled by. LaMo's `transformer.`
/// stays too, but for what adapts it.
const FROZEN: [&str; 10] = [
    "rnd_target.",
    "rnd_moments.observation_",
    "rnd_moments.action_",
    "encoder.w",
    "predict_state.",
    "predict_return.",
    "actor.encoder.w",
    "actor.predict_return.",
    "target_actor.encoder.w",
    "target_actor.predict_return.",
];

/// Trained in a first phase alone, and then left as they are.
const FIRST_PHASE: [&str; 4] = ["rnd_predictor.", "rnd_moments.", "behavior", "autoencoder."];

/// Whether a tensor `model.NAME` or `training.NAME` is a network's or a target's.
fn is_network(name: &str) -> bool {
    name.starts_with("model.") || name.starts_with("training.target_")
}

fn stays(name: &str) -> bool {
    let name = name.split_once('.').map_or(name, |(_, rest)| rest);
    let adapted = ["c_attn.bias", "lora_A", "lora_B"];
    let adapted = adapted.iter().any(|ending| name.ends_with(ending));
    FROZEN.iter().any(|frozen| name.starts_with(frozen))
        || name.starts_with("transformer.") && !adapted
}

/// Copies of all tensors of networks and targets; sets every counter of updates, if it is told to.
#[derive(Default)]
struct Networks {
    tensors: BTreeMap<String, Tensor>,
    updates: Option<u64>,
}

impl StateVisitor for Networks {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        if is_network(name) {
            self.tensors.insert(name.to_owned(), slot.tensor()?.copy()?);
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
        // Sequence models count by their optimiser's steps.
        if name.ends_with(".updates") || name == "training.optimizer.steps" {
            *value = self.updates.unwrap_or(*value);
        }
        Ok(())
    }
}

fn networks(algorithm: &mut dyn Algorithm) -> BTreeMap<String, Tensor> {
    let mut seen = Networks::default();
    algorithm.state(&mut seen).unwrap();
    assert!(!seen.tensors.is_empty(), "no network");
    seen.tensors
}

fn set_updates(algorithm: &mut dyn Algorithm, updates: u64) {
    let updates = Some(updates);
    let mut setter = Networks {
        updates,
        ..Networks::default()
    };
    algorithm.state(&mut setter).unwrap();
}

fn build(config: &AlgorithmConfig, data: &Dataset, training_updates: u64) -> Box<dyn Algorithm> {
    let bound = vec![2.0; data.action_dim];
    let low: Vec<f32> = bound.iter().map(|high| -high).collect();
    let build = Build {
        source: Source::Train(data),
        bounds: &ActionBounds::new(&low, &bound, &Device::Cpu).unwrap(),
        fast: None,
        encoder: None,
        training_updates,
        device: &Device::Cpu,
        rng: &mut Streams::from_seed(1).stream("init"),
    };
    config.build(build).unwrap()
}

/// How far the values of a tensor moved, at most.
fn distance(before: &Tensor, after: &Tensor) -> f32 {
    let difference = (before - after).unwrap().abs().unwrap();
    difference.max_all().unwrap().to_scalar::<f32>().unwrap()
}

/// Makes four updates, as many as the slowest actor waits for, and fails unless everything moved that is trained after
/// the first phase.
fn check_all_moves(algorithm: &mut dyn Algorithm, rng: &mut Rng, what: &str) {
    let before = networks(algorithm);
    for _ in 0..4 {
        algorithm.update(rng).unwrap();
    }
    let after = networks(algorithm);
    for (name, before) in &before {
        let rest = name.split_once('.').map_or(name.as_str(), |(_, rest)| rest);
        if FIRST_PHASE.iter().any(|phase| rest.starts_with(phase)) {
            continue;
        }
        let distance = distance(before, &after[name]);
        assert_eq!(distance == 0.0, stays(name), "{what}: {name} by {distance}");
    }
}

/// Collects twelve steps of some environment and learns from each; false for algorithms that don't learn online.
fn learns_online(algorithm: &mut dyn Algorithm, data: &Dataset, rng: &mut Rng) -> bool {
    let phase = OnlinePhase {
        steps: 100,
        ..OnlinePhase::default()
    };
    match algorithm.interactive() {
        Some(learner) if learner.check(&phase).is_ok() => learner.prepare(&phase).unwrap(),
        _ => return false,
    }
    for step in 0..12 {
        let learner = algorithm.interactive().unwrap();
        learner
            .explore(data.observation(step), Some(0.1), rng)
            .unwrap();
        let outcome = Step {
            observation: data.observation(step + 1),
            reward: data.rewards[step],
            terminated: false,
        };
        learner.learn(&outcome, step % 6 == 5).unwrap();
        algorithm.update(rng).unwrap();
    }
    true
}

#[test]
fn every_parameter_and_every_target_is_trained_but_for_those_that_stay() {
    let data = pendulum_data();
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let text = format!("[algorithm.{name}]\n{}\n", small(name));
        let config = RunConfig::parse(&text).unwrap().algorithm;
        let mut algorithm = build(&config, &data, 20);
        let mut rng = Rng::from_seed(1);
        let before = networks(&mut *algorithm);
        for _ in 0..20 {
            algorithm.update(&mut rng).unwrap();
        }
        let after = networks(&mut *algorithm);
        for (tensor, before) in &before {
            let distance = distance(before, &after[tensor]);
            assert_eq!(
                distance == 0.0,
                stays(tensor),
                "{name}: {tensor} by {distance}"
            );
        }
    }
}

#[test]
fn everything_is_trained_up_to_the_last_update_and_on_from_there_online() {
    let data = pendulum_data();
    let mut online = Vec::new();
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let text = format!("[algorithm.{name}]\n{}\n", small(name));
        let config = RunConfig::parse(&text).unwrap().algorithm;
        let mut algorithm = build(&config, &data, 20);
        let mut rng = Rng::from_seed(1);
        for _ in 0..16 {
            algorithm.update(&mut rng).unwrap();
        }
        let what = format!("{name}, updates 17 to 20 of 20");
        check_all_moves(&mut *algorithm, &mut rng, &what);
        if learns_online(&mut *algorithm, &data, &mut rng) {
            let what = format!("{name}, online");
            check_all_moves(&mut *algorithm, &mut rng, &what);
            online.push(name);
        }
    }
    for name in [
        "awac",
        "cql",
        "iql",
        "online_dt",
        "rebrac",
        "sac",
        "td3",
        "td3_bc",
    ] {
        assert!(online.contains(&name), "{name} learns online: {online:?}");
    }
}

/// Every file below `folder` that ends in `.toml`.
fn configurations(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(configurations(&path));
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Sizes at which anything is quick; schedules stay as they are.
fn tiny(algorithm: &str) -> Vec<String> {
    let keys: &[&str] = match algorithm {
        "decision_transformer" => &["embedding=8", "layers=1", "batch_size=2", "context_steps=3"],
        "lamo" => &[
            "embedding=8",
            "layers=1",
            "heads=1",
            "rank=2",
            "batch_size=2",
            "context_steps=3",
        ],
        "qt" => &[
            "embedding=8",
            "layers=1",
            "heads=1",
            "critic_hidden=[8]",
            "batch_size=2",
            "context_steps=3",
            "candidates=8",
        ],
        "online_dt" => &["embedding=8", "layers=1", "heads=1", "batch_size=2"],
        "reinformer" => &["embedding=8", "layers=1", "heads=1", "batch_size=2"],
        "trajectory_transformer" => &[
            "embedding_per_head=8",
            "layers=1",
            "heads=1",
            "bins=10",
            "batch_size=4",
            "window_transitions=3",
            "planner.max_context_transitions=1",
            "planner.horizon=1",
            "planner.plan_every_steps=1",
            "planner.beam_width=1",
        ],
        "fast" => &[
            "embedding=8",
            "layers=1",
            "heads=1",
            "vocab_size=128",
            "batch_size=4",
        ],
        "tap" => &[
            "embedding_per_head=8",
            "layers=1",
            "heads=1",
            "codes=8",
            "code_width=8",
            "batch_size=4",
        ],
        "bear" => &[
            "hidden=[8]",
            "vae_hidden=[8]",
            "batch_size=8",
            "acting_samples=3",
        ],
        "brac" => &["hidden=[8]", "actor_hidden=[8]", "batch_size=8"],
        "sac_rnd" => &["hidden=[8]", "rnd_hidden=8", "batch_size=8"],
        "cql" => &["hidden=[8]", "batch_size=8", "actions=2"],
        _ => &["hidden=[8]", "batch_size=8"],
    };
    let mut keys: Vec<String> = keys
        .iter()
        .map(|key| format!("algorithm.{algorithm}.{key}"))
        .collect();
    if ["sac_n", "edac"].contains(&algorithm) {
        keys.push(format!("algorithm.{algorithm}.members=3"));
    }
    keys
}

#[test]
fn every_committed_configuration_trains_everything_until_its_last_updates_and_online() {
    let data = pendulum_data();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let paths = configurations(&folder);
    assert!(paths.len() > 100, "{} configurations", paths.len());
    for path in paths {
        let what = path.strip_prefix(&folder).unwrap().display().to_string();
        let whole = RunConfig::load(&path, &[]).unwrap();
        let updates = whole.train.updates;
        let warnings = whole.algorithm.check_schedules(updates);
        let warnings = warnings.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(warnings.is_empty(), "{what}: {warnings:?}");
        let config = RunConfig::load(&path, &tiny(whole.algorithm.name())).unwrap();
        let mut algorithm = build(&config.algorithm, &data, updates);
        if algorithm.instructed().is_some() {
            continue; // Needs a sentence encoder; the same schedules as without.
        }
        let mut rng = Rng::from_seed(1);
        algorithm.update(&mut rng).unwrap();
        // A rate that falls to 0 is still 2e-4 of what it was a hundredth before its end.
        set_updates(&mut *algorithm, updates - updates / 100 - 5);
        check_all_moves(&mut *algorithm, &mut rng, &format!("{what}, at the end"));
        set_updates(&mut *algorithm, updates);
        if learns_online(&mut *algorithm, &data, &mut rng) {
            check_all_moves(&mut *algorithm, &mut rng, &format!("{what}, online"));
        }
    }
}

#[test]
fn a_schedule_that_leaves_the_policy_untrained_is_refused_and_a_resumed_run_can_lengthen_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let with = |algorithm: &str, keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        config(folder, algorithm, 10).with_overrides(&keys).unwrap()
    };
    let refused = |algorithm: &str, key: &str| {
        let config = with(algorithm, &[&format!("algorithm.{algorithm}.{key}")]);
        let error = run::start(&config, &folder.join("refused")).unwrap_err();
        assert!(!folder.join("refused").exists());
        error.to_string()
    };
    for (algorithm, key) in [
        ("iql", "actor_decay_updates=9"),
        ("brac", "behavior_updates=10"),
        ("sac_rnd", "pretraining_updates=10"),
        ("td3", "policy_delay=11"),
        ("td3_bc", "policy_delay=11"),
        ("rebrac", "policy_delay=11"),
    ] {
        let error = refused(algorithm, key);
        let (key, value) = key.split_once('=').unwrap();
        let named = format!("`algorithm.{algorithm}.{key}` is {value}");
        assert!(
            error.contains(&named) && error.contains("`train.updates` (10)"),
            "{error}"
        );
    }

    let out = folder.join("iql");
    run::start(
        &with("iql", &["algorithm.iql.actor_decay_updates=10"]),
        &out,
    )
    .unwrap();
    let resume = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|&key| key.to_owned()).collect();
        run::resume(&out, &overrides)
    };
    let error = resume(&["train.updates=20"]).unwrap_err().to_string();
    assert!(
        error.contains("`algorithm.iql.actor_decay_updates` is 10"),
        "{error}"
    );
    let decay = "algorithm.iql.actor_decay_updates=training";
    assert_eq!(resume(&["train.updates=20", decay]).unwrap().update, 20);
    assert_eq!(resume(&["train.updates=30"]).unwrap().update, 30);
    let error = resume(&["algorithm.iql.beta=1"]).unwrap_err().to_string();
    assert!(error.contains("how long a learning rate decays"), "{error}");
}
