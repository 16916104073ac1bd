//! The Decision Transformer and LaMo around their networks, beside the authors' own `experiment.py`: which episodes count,
//! statistics of observations, batches, and episodes acted out step by step.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::decision_transformer::DecisionTransformerConfig;
use trajformer::algorithms::lamo::LamoConfig;
use trajformer::algorithms::{Algorithm, Build, Source};
use trajformer::data::return_sequences::{
    Padding, ReturnOptions, ReturnScale, ReturnSequences, observation_normalizer,
};
use trajformer::data::{ActionBounds, ActionKind, Dataset, Episode};
use trajformer::policy::{EpisodeStart, Policy};
use trajformer::rng::Rng;
use trajformer_models::params::{Slot, StateVisitor};

use crate::golden::{Golden, check_close};

/// Data sets and statistics are f32: 24 bits, and one rounding more for what is computed from them.
const SINGLE: f64 = 3e-7;
/// Actions come out of a network in f32, after up to a hundred subtractions of rewards in f32.
const ACTING: f64 = 3e-6;

const FILES: [&str; 2] = ["return_conditioned_dt", "return_conditioned_lamo"];

/// The flat arrays as a data set: the file ends in the middle of an episode.
fn dataset(golden: &Golden) -> Dataset {
    let numbers = |name: &str| -> Vec<f32> {
        let numbers = golden.numbers(&format!("raw.{name}"));
        numbers.into_iter().map(|x| x as f32).collect()
    };
    let flags = |name: &str| golden.integers(&format!("raw.{name}"));
    let (terminals, timeouts) = (flags("terminals"), flags("timeouts"));
    let (mut episodes, mut start) = (Vec::new(), 0);
    for row in 0..terminals.len() {
        let (terminated, truncated) = (terminals[row] == 1, timeouts[row] == 1);
        if terminated || truncated || row + 1 == terminals.len() {
            episodes.push(Episode {
                terminated,
                truncated,
                ..Episode::new(start, row + 1 - start)
            });
            start = row + 1;
        }
    }
    assert!(!episodes[episodes.len() - 1].is_complete());
    Dataset {
        observation_dim: golden.integer("state_dim"),
        action_dim: golden.integer("action_dim"),
        action_kind: ActionKind::Continuous,
        observations: numbers("observations"),
        actions: numbers("actions"),
        rewards: numbers("rewards"),
        episodes,
        env_name: None,
        reference_returns: None,
        action_bounds: None,
        sources: Vec::new(),
        warnings: Vec::new(),
    }
}

fn bounds(golden: &Golden) -> ActionBounds {
    ActionBounds::unit(golden.integer("action_dim"), &Device::Cpu).unwrap()
}

#[test]
fn the_episodes_that_count_are_the_authors_and_are_drawn_as_often() {
    let golden = Golden::load("return_conditioned_dt");
    let data = dataset(&golden);
    let complete: Vec<&Episode> = data.episodes.iter().filter(|e| e.is_complete()).collect();
    let lengths: Vec<u32> = complete.iter().map(|e| e.steps as u32).collect();
    assert_eq!(lengths, golden.integers("trajectory_lengths"));
    // A start is any step of theirs, so that an episode's share is its length's.
    let steps: u32 = lengths.iter().sum();
    let sequences = sequences(&golden, &data);
    assert_eq!(sequences.steps(), steps as usize);
    let mut counts = vec![0; lengths.len()];
    (0..sequences.steps()).for_each(|start| counts[sequences.episode_of(start)] += 1);
    let chosen = golden.integers("chosen");
    let probabilities = golden.numbers("probabilities");
    assert_eq!(chosen.len(), lengths.len());
    for (episode, probability) in chosen.into_iter().zip(probabilities) {
        let share = f64::from(counts[episode as usize]) / f64::from(steps);
        assert!(
            (share - probability).abs() < 1e-15,
            "episode {episode}: {share}"
        );
    }
}

/// LaMo's authors leave the best episode out, which is a deviation here (`src/algorithms/lamo.rs`).
#[test]
fn lamos_authors_draw_from_all_episodes_but_the_best() {
    let golden = Golden::load("return_conditioned_lamo");
    let returns = dataset(&golden).returns();
    let best = (0..returns.len()).max_by(|a, b| returns[*a].total_cmp(&returns[*b]));
    let mut chosen = golden.integers("chosen");
    chosen.sort_unstable();
    let expected: Vec<u32> = (0..returns.len())
        .filter(|episode| Some(*episode) != best)
        .map(|episode| episode as u32)
        .collect();
    assert_eq!(chosen, expected);
}

fn sequences(golden: &Golden, data: &Dataset) -> ReturnSequences {
    let options = ReturnOptions {
        context_steps: golden.integer("context"),
        return_scale: golden.number("return_scale"),
        max_episode_steps: golden.integer("longest_episode"),
        padding: Padding::Left,
    };
    let normalizer = observation_normalizer(data, "a test", &Device::Cpu).unwrap();
    ReturnSequences::prepared(data, &normalizer, &bounds(golden), &Device::Cpu, options).unwrap()
}

#[test]
fn batches_equal_what_the_authors_get_batch_gives() {
    for name in FILES {
        let golden = Golden::load(name);
        let data = dataset(&golden);
        let sequences = sequences(&golden, &data);
        let lengths = golden.integers("trajectory_lengths");
        let before = |trajectory: u32| lengths[..trajectory as usize].iter().sum::<u32>();
        let trajectories = golden.integers("batches.trajectories");
        let starts: Vec<usize> = trajectories
            .iter()
            .zip(golden.integers("batches.starts"))
            .map(|(&trajectory, start)| (before(trajectory) + start) as usize)
            .collect();
        let [batches, rows] = golden.dims("batches.starts") else {
            panic!("starts")
        };
        for (batch, starts) in starts.chunks(*rows).enumerate() {
            let found = sequences.batch(starts, &Device::Cpu).unwrap();
            for (what, found, tolerance) in [
                ("states", &found.states, SINGLE),
                ("actions", &found.actions, 0.0),
                ("returns_to_go", &found.returns_to_go, SINGLE),
                ("timesteps", &found.timesteps, 0.0),
                ("mask", &found.mask, 0.0),
            ] {
                let expected = golden.tensor(&format!("batches.{what}"));
                let expected = expected.get(batch).unwrap();
                let place = format!("{name}: {what} of batch {batch}");
                check_close(&place, found, &expected, tolerance);
            }
        }
        assert_eq!(starts.len(), batches * rows);
    }
}

/// Restores what it has, and takes the rest as it is.
struct Parameters(BTreeMap<String, Tensor>);

impl StateVisitor for Parameters {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        match self.0.remove(name) {
            Some(tensor) => slot.set(&tensor.to_dtype(DType::F32)?),
            None => Ok(()),
        }
    }
}

/// Takes the tensors whose names begin so.
struct Shown(&'static str, BTreeMap<String, Tensor>);

impl StateVisitor for Shown {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        if let Some(name) = name.strip_prefix(self.0) {
            self.1.insert(name.to_owned(), slot.tensor()?.copy()?);
        }
        Ok(())
    }
}

/// The algorithm as a run builds it from the data.
fn build(golden: &Golden, name: &str) -> Box<dyn Algorithm> {
    let data = dataset(golden);
    let targets = golden.constants["targets"].as_array().unwrap();
    let target_returns = targets.iter().map(|x| x.as_f64().unwrap() as f32).collect();
    let build = Build {
        source: Source::Train(&data),
        bounds: &bounds(golden),
        fast: None,
        encoder: None,
        training_updates: 1,
        device: &Device::Cpu,
        rng: &mut Rng::from_seed(0),
    };
    let count = |key: &str| golden.integer(key);
    if name == "return_conditioned_dt" {
        let config = DecisionTransformerConfig {
            context_steps: count("context"),
            layers: count("layers"),
            heads: count("heads"),
            embedding: count("width"),
            return_scale: ReturnScale::Number(golden.number("return_scale")),
            max_episode_steps: count("longest_episode"),
            target_returns,
            ..DecisionTransformerConfig::default()
        };
        return config.build(build).unwrap();
    }
    let config = LamoConfig {
        context_steps: count("context"),
        layers: count("layers"),
        heads: count("heads"),
        embedding: count("width"),
        rank: count("rank"),
        alpha: golden.number("alpha"),
        return_scale: golden.number("return_scale"),
        max_episode_steps: count("longest_episode"),
        target_returns,
        ..LamoConfig::default()
    };
    Box::new(config.build(build).unwrap())
}

/// With the authors' parameters.
fn restored(golden: &Golden, name: &str) -> Box<dyn Algorithm> {
    let mut algorithm = build(golden, name);
    let ours = |key: &str| match (name, key.strip_prefix("transformer.")) {
        ("return_conditioned_dt", Some(rest)) => format!("model.encoder.{rest}"),
        _ => format!("model.{}", key.replace("transformer_model.", "")),
    };
    let parameters = golden.below("param.").into_iter();
    let mut parameters = Parameters(parameters.map(|(key, x)| (ours(&key), x)).collect());
    assert!(parameters.0.len() > 20);
    algorithm.state(&mut parameters).unwrap();
    assert!(parameters.0.is_empty(), "{:?}", parameters.0.keys());
    algorithm
}

#[test]
fn observations_are_normalised_by_the_statistics_of_the_complete_episodes() {
    for name in FILES {
        let golden = Golden::load(name);
        let mut shown = Shown("policy.normalizer.", BTreeMap::new());
        build(&golden, name).state(&mut shown).unwrap();
        for (ours, authors) in [("mean", "state_mean"), ("scale", "state_std")] {
            let found = &shown.1[ours];
            let expected = golden.numbers(authors);
            // Column by column: one is forty times as wide as another.
            for (column, (found, expected)) in found
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .zip(expected)
                .enumerate()
            {
                let error = (f64::from(*found) - expected).abs();
                assert!(
                    error <= SINGLE * expected.abs(),
                    "{name}: {ours} of column {column}"
                );
            }
        }
    }
}

/// One episode's actions (T, A): it is shown the recorded observations, told the recorded rewards, and remembers its own actions.
fn act_out(
    policy: &mut dyn Policy,
    golden: &Golden,
    episode: usize,
    target: Option<f32>,
) -> Tensor {
    let start = EpisodeStart {
        rng: Rng::from_seed(0),
        target_return: target,
        goal: None,
        instruction: None,
    };
    policy.begin(&[start]).unwrap();
    let observations = golden.tensor(&format!("episode{episode}.observations"));
    let observations = observations.to_dtype(DType::F32).unwrap();
    let mut actions = Vec::new();
    for (step, reward) in golden
        .numbers(&format!("episode{episode}.rewards"))
        .iter()
        .enumerate()
    {
        let observation = observations.narrow(0, step, 1).unwrap();
        actions.push(policy.act(&observation, &[true]).unwrap());
        policy.observe(&[*reward as f32]).unwrap();
    }
    Tensor::cat(&actions, 0).unwrap()
}

#[test]
fn episodes_are_acted_out_as_by_the_authors() {
    for name in FILES {
        let golden = Golden::load(name);
        let mut policy = restored(&golden, name).policy().unwrap();
        let targets = policy.target_returns();
        let of_each = golden.integer("episodes_per_target");
        let (mut longest, mut lengths) = (0, Vec::new());
        for episode in 0..2 * of_each {
            // The first target is what a policy aims at by itself.
            let target = (episode >= of_each).then_some(targets[1]);
            let found = act_out(&mut *policy, &golden, episode, target);
            let expected = golden.tensor(&format!("episode{episode}.actions"));
            check_close(
                &format!("{name}, episode {episode}"),
                &found,
                expected,
                ACTING,
            );
            lengths.push(found.dims()[0]);
            longest = longest.max(found.dims()[0]);
        }
        assert_eq!(longest, golden.integer("longest_episode"));
        assert!(
            lengths
                .iter()
                .any(|&steps| steps < golden.integer("context"))
        );
    }
}

#[test]
fn lamo_remembers_its_actions_within_their_range() {
    let name = "return_conditioned_lamo";
    let golden = Golden::load(name);
    // The first number of every action lies so far beyond the range, where it makes no difference how far.
    let acted = |beyond: f32| {
        let mut algorithm = restored(&golden, name);
        let bias = Tensor::new(&[1.0 + beyond, 0.0], &Device::Cpu).unwrap();
        let bias = BTreeMap::from([("model.predict_action.fc2.bias".to_owned(), bias)]);
        let mut parameters = Parameters(bias);
        algorithm.state(&mut parameters).unwrap();
        assert!(parameters.0.is_empty(), "{:?}", parameters.0.keys());
        let found = act_out(&mut *algorithm.policy().unwrap(), &golden, 0, None);
        found.to_vec2::<f32>().unwrap()
    };
    let (near, far) = (acted(5.0), acted(50.0));
    assert!(near.iter().all(|action| action[0] == 1.0), "{near:?}");
    assert!(near.iter().any(|action| action[1].abs() < 1.0), "{near:?}");
    assert_eq!(near, far);
}

#[test]
fn episodes_of_different_lengths_side_by_side_are_acted_out_the_same() {
    for name in FILES {
        let golden = Golden::load(name);
        let mut policy = restored(&golden, name).policy().unwrap();
        let targets = policy.target_returns();
        let of_each = golden.integer("episodes_per_target");
        let episodes = 2 * of_each;
        let starts: Vec<EpisodeStart> = (0..episodes)
            .map(|episode| EpisodeStart {
                rng: Rng::from_seed(0),
                target_return: Some(targets[episode / of_each]),
                goal: None,
                instruction: None,
            })
            .collect();
        policy.begin(&starts).unwrap();
        let of = |episode: usize, what: &str| golden.tensor(&format!("episode{episode}.{what}"));
        let lengths: Vec<usize> = (0..episodes).map(|e| of(e, "rewards").dims()[0]).collect();
        let dim = golden.integer("state_dim");
        for step in 0..golden.integer("longest_episode") {
            let active: Vec<bool> = lengths.iter().map(|&length| step < length).collect();
            let row = |episode: usize, what: &str| {
                let row = of(episode, what).get(step).unwrap();
                row.to_dtype(DType::F32).unwrap()
            };
            let observations: Vec<Tensor> = (0..episodes)
                .map(|episode| {
                    if active[episode] {
                        row(episode, "observations")
                    } else {
                        Tensor::zeros(dim, DType::F32, &Device::Cpu).unwrap()
                    }
                })
                .collect();
            let observations = Tensor::stack(&observations, 0).unwrap();
            let actions = policy.act(&observations, &active).unwrap();
            let mut rewards = vec![0.0; episodes];
            for episode in (0..episodes).filter(|&episode| active[episode]) {
                let expected = of(episode, "actions").get(step).unwrap();
                let found = actions.get(episode).unwrap();
                let error = (found.to_dtype(DType::F64).unwrap() - expected).unwrap();
                let error = error.abs().unwrap().max_all().unwrap();
                let error = error.to_scalar::<f64>().unwrap();
                assert!(
                    error < ACTING,
                    "{name}, episode {episode}, step {step}: {error:e}"
                );
                rewards[episode] = row(episode, "rewards").to_scalar::<f32>().unwrap();
            }
            policy.observe(&rewards).unwrap();
        }
    }
}
