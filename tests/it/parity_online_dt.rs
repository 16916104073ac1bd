//! The Online Decision Transformer against the authors' PyTorch: losses, gradients, ten updates of their trainer with LAMB and the
//! temperature, episodes of their evaluation, windows of trajectories and the order of their replay buffer.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::online_dt::{Learner, OnlineDtConfig};
use trajformer::algorithms::{Algorithm, Build, Source, Stage};
use trajformer::data::return_sequences::episode_replay::EpisodeReplay;
use trajformer::data::return_sequences::{Padding, ReturnOptions, ReturnSequences};
use trajformer::data::{ActionBounds, Dataset, Episode};
use trajformer::metrics::Metrics;
use trajformer::policy::EpisodeStart;
use trajformer_models::decision_transformer::Contexts;
use trajformer_models::dropout::Dropout;
use trajformer_models::gaussian::BOUND;
use trajformer_models::online_decision_transformer::OnlineDecisionTransformer;
use trajformer_models::params::{Params, Slot, StateVisitor};
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close};
use crate::parity::{
    EXACT_CHANGES, check_clipped_updates, check_gradients, check_metric, set_parameters,
};

/// Losses and gradients in f64: the authors' atanh is a difference of two logarithms, ours the logarithm of a quotient, which near ±1 is
/// divided by a small deviation and squared. Found: 2e-13 at most.
const EXACT: f64 = 2e-12;
/// Losses and gradients in f32: near ±1 an action has few bits left beside 1, and the square of its atanh over a small deviation is most of the
/// loss. Found: 2e-5 at most.
const SINGLE: f64 = 1e-4;
/// Changes after ten updates in f32: LAMB makes every tensor's step as long as the tensor, the rounding of all of its elements
/// included.
const SINGLE_LAMB_CHANGES: f64 = 2e-2;
/// Actions come out of a network in f32, after a dozen subtractions of rewards in f32.
const ACTING: f64 = 3e-6;
/// Returns and observations are kept in f32.
const ROUNDED: f64 = 3e-7;

/// The trunk is called `transformer` by the authors.
fn name(name: &str) -> Option<String> {
    Some(match name.strip_prefix("transformer.") {
        Some(rest) => format!("encoder.{rest}"),
        None => name.to_owned(),
    })
}

/// All but a key's bias, which shifts all scores of a row alike: its gradient is zero in exact arithmetic. It is the middle third of the
/// bias of queries, keys and values.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    if !name.ends_with("attn.c_attn.bias") {
        return Some(tensor.clone());
    }
    let width = tensor.elem_count() / 3;
    let part = |i: usize| tensor.narrow(0, i * width, width).expect("a part");
    Some(Tensor::cat(&[part(0), part(2)], 0).expect("parts"))
}

fn sizes(golden: &Golden, timestep_embedding: bool) -> OnlineDtConfig {
    OnlineDtConfig {
        context_steps: golden.integer("context"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: golden.integer("width"),
        max_episode_steps: golden.integer("longest_episode"),
        timestep_embedding,
        dropout: 0.0,
        ..OnlineDtConfig::default()
    }
}

fn config(golden: &Golden) -> OnlineDtConfig {
    OnlineDtConfig {
        learning_rate: golden.number("lr"),
        weight_decay: golden.number("weight_decay"),
        warmup_updates: golden.integer("warmup_steps") as u64,
        clip_norm: golden.number("clip"),
        initial_temperature: golden.number("init_temperature"),
        ..sizes(golden, golden.integer("ordering") == 1)
    }
}

fn dims(golden: &Golden) -> (usize, usize) {
    (golden.integer("state_dim"), golden.integer("action_dim"))
}

fn learner(golden: &Golden, dtype: DType) -> Learner {
    let (config, (o, a)) = (config(golden), dims(golden));
    let mut params = Params::new(dtype, &Device::Cpu);
    let rng = &mut Rng::from_seed(0);
    OnlineDecisionTransformer::new(&config.sizes(o, a), &mut params.init(rng)).expect("a network");
    set_parameters(&params, golden, "param.", name);
    assert_eq!(params.len(), golden.under("param.").count());
    Learner::new(&config, (o, a), params, Stage::Learning).expect("a learner")
}

/// The contexts of a step and its standard normals.
fn batch(golden: &Golden, dtype: DType, step: usize) -> (Contexts, Tensor) {
    let row = |tensor: &str| {
        let row = golden.tensor(&format!("steps.{tensor}")).get(step);
        row.and_then(|row| row.contiguous()).expect("a step")
    };
    let float = |tensor: &str| row(tensor).to_dtype(dtype).expect("numbers");
    let contexts = Contexts {
        returns: float("returns_to_go"),
        observations: float("states"),
        actions: float("actions"),
        timesteps: row("timesteps"),
        mask: float("mask"),
        instructions: None,
    };
    (contexts, float("noise"))
}

fn check(file: &str, dtype: DType, (tolerance, change_tolerance): (f64, f64)) {
    let golden = Golden::load(file);
    let mut learner = learner(&golden, dtype);
    let (contexts, normals) = batch(&golden, dtype, 0);
    let loss = learner.loss(&contexts, &normals, Dropout::off());
    let gradients = loss
        .and_then(|loss| Ok(loss.backward()?))
        .expect("gradients");
    check_gradients(
        learner.params(),
        &gradients,
        &golden,
        ("grad.", name, compared),
        tolerance,
    );

    let steps = golden.dims("steps.lr")[0];
    let update = |step| {
        let (contexts, normals) = batch(&golden, dtype, step);
        learner.update(&contexts, &normals, Dropout::off())
    };
    let metrics: trajformer::Result<Vec<Metrics>> = (0..steps).map(update).collect();
    let metrics = metrics.expect("ten updates");
    for (metric, tensor) in [("actor_loss", "steps.nll"), ("entropy", "steps.entropy")] {
        check_metric(&metrics, metric, golden.tensor(tensor), change_tolerance);
    }
    let temperatures = golden.tensor("steps.log_temperature").exp();
    let temperatures = temperatures.expect("temperatures");
    check_metric(&metrics, "temperature", &temperatures, tolerance);
    check_clipped_updates(
        learner.params(),
        &metrics,
        &golden,
        (name, compared),
        (tolerance, change_tolerance),
    );
}

#[test]
fn updates_agree_with_the_authors_in_double_precision() {
    for file in ["online_dt_hopper", "online_dt_padded"] {
        check(file, DType::F64, (EXACT, EXACT_CHANGES));
    }
}

#[test]
fn updates_agree_with_the_authors_in_single_precision() {
    for file in ["online_dt_hopper", "online_dt_padded"] {
        check(file, DType::F32, (SINGLE, SINGLE_LAMB_CHANGES));
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

/// Two steps that nobody looks at.
fn any_data(o: usize, a: usize) -> Dataset {
    Dataset {
        observations: (0..2 * o).map(|i| i as f32).collect(),
        actions: vec![0.0; 2 * a],
        rewards: vec![1.0; 2],
        episodes: vec![Episode {
            terminated: true,
            ..Episode::new(0, 2)
        }],
        ..Dataset::blank(o, a)
    }
}

/// An algorithm with the authors' parameters and statistics.
fn restored(golden: &Golden, ordering: usize) -> Box<dyn Algorithm> {
    let (o, a) = dims(golden);
    let data = any_data(o, a);
    let config = OnlineDtConfig {
        acting_context_steps: golden.integer("acting"),
        return_scale: golden.number("return_scale"),
        target_returns: vec![golden.number("target_return") as f32],
        ..sizes(golden, ordering == 1)
    };
    let build = Build {
        source: Source::Train(&data),
        bounds: &ActionBounds::unit(a, &Device::Cpu).expect("bounds"),
        fast: None,
        encoder: None,
        training_updates: 1,
        device: &Device::Cpu,
        rng: &mut Rng::from_seed(0),
    };
    let mut algorithm = config.build(build).expect("an algorithm");
    let authors = golden.below(&format!("ordering{ordering}.param."));
    let named = |(key, x): (String, Tensor)| Some((format!("model.{}", name(&key)?), x));
    let mut parameters: BTreeMap<String, Tensor> = authors.into_iter().filter_map(named).collect();
    for (ours, theirs) in [("mean", "mean"), ("scale", "std")] {
        let name = format!("policy.normalizer.{ours}");
        parameters.insert(name, golden.tensor(theirs).clone());
    }
    let mut parameters = Parameters(parameters);
    algorithm.state(&mut parameters).expect("parameters");
    assert!(parameters.0.is_empty(), "{:?}", parameters.0.keys());
    Box::new(algorithm)
}

#[test]
fn an_episode_has_the_authors_actions() {
    let golden = Golden::load("online_dt_acting");
    let observations = golden.tensor("observations").to_dtype(DType::F32);
    let observations = observations.expect("observations");
    for ordering in [0, 1] {
        let mut policy = restored(&golden, ordering).policy().expect("a policy");
        let start = EpisodeStart::new(Rng::from_seed(0));
        policy.begin(&[start]).expect("an episode");
        let mut actions = Vec::new();
        for (step, reward) in golden.numbers("rewards").into_iter().enumerate() {
            let row = observations.narrow(0, step, 1).expect("a row");
            actions.push(policy.act(&row, &[true]).expect("an action"));
            policy.observe(&[reward as f32]).expect("a reward");
        }
        let found = Tensor::cat(&actions, 0).expect("actions");
        let expected = golden.tensor(&format!("ordering{ordering}.means"));
        check_close(&format!("means, {ordering}"), &found, expected, ACTING);
    }
}

/// The steps that a draw is made after: the authors' observations, returns and actions, the last few of them.
fn history(golden: &Golden, drawn: &Tensor, step: usize, dtype: DType) -> Contexts {
    let (o, a) = dims(golden);
    let first = (step + 1).saturating_sub(golden.integer("acting"));
    let steps = step + 1 - first;
    let normal = golden
        .tensor("observations")
        .broadcast_sub(golden.tensor("mean"))
        .and_then(|x| {
            x.broadcast_div(golden.tensor("std"))?
                .narrow(0, first, steps)
        })
        .expect("observations");
    let scale = golden.number("return_scale");
    let rewards = golden.numbers("rewards");
    let left = |at: usize| {
        let reached: f64 = rewards[..at].iter().sum();
        (golden.number("target_return") - reached) / scale
    };
    let mut actions = vec![0.0; a * steps];
    if step > first {
        let earlier = drawn.narrow(0, first, step - first).expect("actions");
        let earlier = earlier.flatten_all().and_then(|x| x.to_vec1::<f64>());
        actions[..a * (steps - 1)].copy_from_slice(&earlier.expect("numbers"));
    }
    let cpu = &Device::Cpu;
    let tensor = |values: Vec<f64>, width: usize| {
        let tensor = Tensor::from_vec(values, (1, steps, width), cpu);
        tensor.and_then(|x| x.to_dtype(dtype)).expect("a tensor")
    };
    let timesteps = (first..=step).map(|at| at as u32);
    let observations = normal.flatten_all().and_then(|x| x.to_vec1::<f64>());
    Contexts {
        returns: tensor((first..=step).map(left).collect(), 1),
        observations: tensor(observations.expect("numbers"), o),
        actions: tensor(actions, a),
        timesteps: Tensor::from_iter(timesteps, cpu)
            .and_then(|x| x.reshape((1, steps)))
            .expect("steps"),
        mask: Tensor::ones((1, steps), dtype, cpu).expect("a mask"),
        instructions: None,
    }
}

#[test]
fn actions_are_drawn_from_the_authors_distributions() {
    let golden = Golden::load("online_dt_acting");
    let (o, a) = dims(&golden);
    for ordering in [0, 1] {
        let config = sizes(&golden, ordering == 1);
        let mut params = Params::new(DType::F64, &Device::Cpu);
        let rng = &mut Rng::from_seed(0);
        OnlineDecisionTransformer::new(&config.sizes(o, a), &mut params.init(rng)).unwrap();
        set_parameters(
            &params,
            &golden,
            &format!("ordering{ordering}.param."),
            name,
        );
        let network =
            OnlineDecisionTransformer::new(&config.sizes(o, a), &mut params.detached()).unwrap();
        let expected = golden.tensor(&format!("ordering{ordering}.draws"));
        for step in 0..expected.dims()[0] {
            let contexts = history(&golden, expected, step, DType::F64);
            let policy = network.distribution(&contexts, Dropout::off()).unwrap();
            let normals = golden.tensor("noise").get(step).unwrap();
            let (found, _) = policy.sample(&normals).unwrap(); // (1, T, A), the last of them
            let last = found.dims()[1] - 1;
            let found = found.get(0).and_then(|x| x.get(last)).unwrap();
            let expected = expected.get(step).unwrap();
            let found = found.clamp(-BOUND, BOUND).unwrap();
            check_close(&format!("draw {step}"), &found, &expected, 1e-12);
        }
    }
}

/// Episodes of the golden file under these names.
fn episodes(golden: &Golden, prefix: &str) -> Dataset {
    let (o, a) = dims(golden);
    let numbers = |name: &str| -> Vec<f32> {
        let numbers = golden.numbers(&format!("{prefix}.{name}"));
        numbers.into_iter().map(|x| x as f32).collect()
    };
    let mut start = 0;
    let lengths = golden.integers(&format!("{prefix}.lengths")).into_iter();
    let episodes = lengths.map(|steps| {
        start += steps as usize;
        Episode {
            terminated: true,
            ..Episode::new(start - steps as usize, steps as usize)
        }
    });
    Dataset {
        episodes: episodes.collect(),
        observations: numbers("observations"),
        actions: numbers("actions"),
        rewards: numbers("rewards"),
        ..Dataset::blank(o, a)
    }
}

fn sequences(golden: &Golden, data: &Dataset) -> ReturnSequences {
    let options = ReturnOptions {
        context_steps: golden.integer("context"),
        return_scale: golden.number("return_scale"),
        max_episode_steps: 1000,
        padding: Padding::LeftZeros,
    };
    let single = |name: &str| -> Vec<f32> {
        let numbers = golden.numbers(name).into_iter();
        numbers.map(|x| x as f32).collect()
    };
    ReturnSequences::new(data, &single("mean"), &single("std"), options).expect("sequences")
}

#[test]
fn every_step_begins_the_authors_window_and_is_drawn_as_often() {
    let golden = Golden::load("online_dt_windows");
    let data = episodes(&golden, "raw");
    let sequences = sequences(&golden, &data);
    let steps = sequences.steps();
    let starts: Vec<usize> = (0..steps).collect();
    let found = sequences.batch(&starts, &Device::Cpu).expect("windows");
    let mask = golden.tensor("windows.mask");
    check_close("mask", &found.mask, mask, 0.0);
    let actions = found.actions.clamp(-BOUND, BOUND).expect("actions");
    for (what, found, tolerance) in [
        ("states", &found.states, ROUNDED),
        ("actions", &actions, 1e-7),
        ("returns_to_go", &found.returns_to_go, ROUNDED),
        ("timesteps", &found.timesteps, 0.0),
    ] {
        // Padding is looked at by nobody.
        let expected = golden.tensor(&format!("windows.{what}"));
        let valid = |x: &Tensor| {
            let x = x.to_dtype(DType::F64).expect("numbers");
            let mask = mask.to_dtype(DType::F64).expect("a mask");
            if x.rank() == 3 {
                x.broadcast_mul(&mask.unsqueeze(2).expect("a mask"))
            } else {
                x * mask
            }
            .expect("valid steps")
        };
        check_close(what, &valid(found), &valid(expected), tolerance);
    }
    let trajectories = golden.integers("windows.trajectories");
    let probabilities = golden.numbers("probabilities");
    for (start, trajectory) in starts.iter().zip(&trajectories) {
        assert_eq!(sequences.episode_of(*start), *trajectory as usize);
    }
    for (number, probability) in probabilities.into_iter().enumerate() {
        let of = trajectories.iter().filter(|t| **t as usize == number);
        let share = of.count() as f64 / steps as f64;
        assert!((share - probability).abs() < 1e-15, "episode {number}");
    }
}

#[test]
fn episodes_take_the_places_that_the_authors_give_them() {
    let golden = Golden::load("online_dt_windows");
    let (data, new) = (episodes(&golden, "raw"), episodes(&golden, "new"));
    let (o, a) = dims(&golden);
    let (mean, std) = (golden.numbers("mean"), golden.numbers("std"));
    // Episodes are known by their first observation.
    let first = |number: usize| {
        let (of, at) = if number < data.episodes.len() {
            (&data, number)
        } else {
            (&new, number - data.episodes.len())
        };
        let row = of.observation(of.episodes[at].start).iter();
        let seen = row.zip(mean.iter().zip(&std));
        let seen: Vec<f32> = seen
            .map(|(x, (mean, std))| (x - *mean as f32) / *std as f32)
            .collect();
        (of.episodes[at].steps, seen)
    };
    for capacity in [4, 9] {
        let mut sequences = sequences(&golden, &data);
        let mut replay = EpisodeReplay::new(&mut sequences, capacity).expect("a buffer");
        let stages = golden.integers(&format!("buffer{capacity}"));
        for (stage, expected) in stages.chunks(capacity).enumerate() {
            if stage > 0 {
                let episode = &new.episodes[stage - 1];
                for step in episode.range() {
                    let observation = &new.observations[step * o..(step + 1) * o];
                    let normal: Vec<f32> = (0..o)
                        .map(|i| (observation[i] - mean[i] as f32) / std[i] as f32)
                        .collect();
                    let action = &new.actions[step * a..(step + 1) * a];
                    let row = (&normal[..], action, new.rewards[step]);
                    let last = step + 1 == episode.range().end;
                    replay.push(&mut sequences, row, last).expect("a step");
                }
            }
            let held = expected.iter().filter(|number| **number != 99);
            let mut start = 0;
            for &number in held {
                let (steps, observation) = first(number as usize);
                let window = sequences.batch(&[start], &Device::Cpu).expect("a window");
                let context = golden.integer("context");
                let at = context - steps.min(context);
                let found = window
                    .states
                    .get(0)
                    .and_then(|x| x.get(at)?.to_vec1::<f32>());
                assert_eq!(found.unwrap(), observation, "{number} at stage {stage}");
                let mask = window.mask.sum_all().and_then(|x| x.to_scalar::<f32>());
                assert_eq!(mask.unwrap() as usize, steps.min(context));
                start += steps;
            }
            assert_eq!(start, sequences.steps(), "stage {stage} of {capacity}");
        }
    }
    // Returns to go are what was reached, whatever was aimed at.
    let mut sequences = sequences(&golden, &data);
    let mut replay = EpisodeReplay::new(&mut sequences, 1).expect("a buffer");
    for (reward, last) in [(3.0, false), (-1.0, false), (6.0, true)] {
        let row = (&vec![0.0; o][..], &vec![0.0; a][..], reward);
        replay.push(&mut sequences, row, last).expect("a step");
    }
    let window = sequences.batch(&[0], &Device::Cpu).expect("a window");
    let returns = window.returns_to_go.flatten_all().unwrap();
    let returns = returns.to_vec1::<f32>().unwrap();
    let scale = golden.number("return_scale") as f32;
    assert_eq!(returns[2..], [8.0 / scale, 5.0 / scale, 6.0 / scale]);
}
