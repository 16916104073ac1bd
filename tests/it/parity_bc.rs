//! Behaviour cloning against CORL's code: loss, gradients, ten updates, and the best episodes.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::bc::{Bc, BcConfig};
use trajformer::algorithms::{Build, Source, Stage};
use trajformer::data::dataset::{ActionKind, Dataset, Episode};
use trajformer::data::transitions::best_fraction;
use trajformer::data::{ActionBounds, Batch};
use trajformer::metrics::Metrics;
use trajformer::offpolicy::{GradientWatch, InitContext, Learner};
use trajformer_models::params::{Slot, StateVisitor};
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close};
use crate::parity::{check_changes, check_gradients, check_metric, set_parameters};

/// Losses and gradients in f64: sums of some hundred terms, which round by 1e-15.
const GRADIENT_TOLERANCE: f64 = 1e-12;
/// Parameter changes after ten updates in f64: Adam divides each gradient by its own size.
const CHANGE_TOLERANCE: f64 = 1e-10;
/// Losses and gradients in f32: 24 bits, sums of a few hundred terms.
const GRADIENT_TOLERANCE_F32: f64 = 5e-6;
/// Parameter changes in f32: Adam divides each gradient by its own size, so rounding of the
/// smallest gradients shows in full.
const CHANGE_TOLERANCE_F32: f64 = 1e-3;
/// Means and standard deviations of f32 columns, stored in f32.
const MOMENT_TOLERANCE: f64 = 1e-6;

const FILES: [&str; 2] = ["bc_hopper", "bc_halfcheetah"];

/// Parameter names are the authors'.
fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

fn compared(_: &str, tensor: &Tensor) -> Option<Tensor> {
    Some(tensor.clone())
}

/// The file's sizes; the rate and all else are the defaults.
fn config(golden: &Golden) -> BcConfig {
    BcConfig {
        hidden: vec![golden.integer("hidden"); 2],
        fraction: golden.number("fraction"),
        ..BcConfig::default()
    }
}

fn learner(golden: &Golden, dtype: DType) -> Bc {
    let start = &mut InitContext {
        observation_dim: golden.integer("observation_dim"),
        action_dim: golden.integer("action_dim"),
        choices: None,
        stage: Stage::Learning,
        training_updates: golden.integer("steps") as u64,
        encoder: None,
        watch: &GradientWatch::default(),
        dtype,
        device: &Device::Cpu,
        rng: &mut Rng::from_seed(0),
    };
    let learner = Bc::new(&config(golden), start).unwrap();
    set_parameters(learner.params(), golden, "param.", name);
    learner
}

/// Only observations and actions are looked at: all else is NaN.
fn batch(golden: &Golden, step: usize, dtype: DType) -> Batch {
    let get = |name: &str| {
        let row = golden.tensor(&format!("steps.{name}")).get(step).unwrap();
        row.to_dtype(dtype).unwrap()
    };
    let observations = get("observations");
    let rows = observations.dims()[0];
    let unknown = Tensor::full(f64::NAN, rows, &Device::Cpu)
        .and_then(|x| x.to_dtype(dtype))
        .unwrap();
    Batch {
        next_observations: (&observations * f64::NAN).unwrap(),
        observations,
        actions: get("actions"),
        rewards: unknown.clone(),
        terminated: unknown,
        next_actions: None,
        monte_carlo_returns: None,
    }
}

fn check(file: &str, dtype: DType, tolerance: f64, change_tolerance: f64) {
    let golden = Golden::load(file);
    let mut learner = learner(&golden, dtype);
    let loss = learner.loss(&batch(&golden, 0, dtype)).unwrap();
    check_close(
        "loss",
        &loss.reshape(1).unwrap(),
        golden.tensor("loss"),
        tolerance,
    );
    check_gradients(
        learner.params(),
        &loss.backward().unwrap(),
        &golden,
        ("grad.", name, compared),
        tolerance,
    );
    let update = |step| learner.update(&batch(&golden, step, dtype), &()).unwrap();
    let metrics: Vec<Metrics> = (0..golden.integer("steps")).map(update).collect();
    let losses = golden.tensor("steps.loss");
    check_metric(&metrics, "actor_loss", losses, tolerance);
    check_changes(
        learner.params(),
        &golden,
        ("param.", "after.", name, compared),
        change_tolerance,
    );
}

#[test]
fn loss_gradients_and_parameter_changes_equal_the_authors() {
    for file in FILES {
        check(file, DType::F64, GRADIENT_TOLERANCE, CHANGE_TOLERANCE);
        check(
            file,
            DType::F32,
            GRADIENT_TOLERANCE_F32,
            CHANGE_TOLERANCE_F32,
        );
    }
}

fn dataset(golden: &Golden) -> Dataset {
    let numbers = |name: &str| -> Vec<f32> {
        let numbers = golden.numbers(&format!("data.{name}"));
        numbers.into_iter().map(|x| x as f32).collect()
    };
    let mut start = 0;
    let episode = |steps: u32| {
        start += steps as usize;
        Episode {
            terminated: true,
            ..Episode::new(start - steps as usize, steps as usize)
        }
    };
    let lengths = golden.integers("data.lengths");
    let episodes = lengths.into_iter().map(episode).collect();
    Dataset {
        observation_dim: golden.integer("observation_dim"),
        action_dim: golden.integer("action_dim"),
        action_kind: ActionKind::Continuous,
        observations: numbers("observations"),
        actions: numbers("actions"),
        rewards: numbers("rewards"),
        episodes,
        env_name: None,
        reference_returns: None,
        action_bounds: None,
        // CORL's view of D4RL's files loses the last row.
        sources: vec!["hopper-medium.hdf5".into()],
        warnings: Vec::new(),
    }
}

/// The tensors of an algorithm's state.
#[derive(Default)]
struct Seen(BTreeMap<String, Tensor>);

impl StateVisitor for Seen {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        self.0.insert(name.to_owned(), slot.tensor()?);
        Ok(())
    }
}

#[test]
fn the_best_episodes_are_those_that_the_authors_keep() {
    for file in FILES {
        let golden = Golden::load(file);
        let data = dataset(&golden);
        let best = best_fraction(&data, golden.number("fraction")).unwrap();
        let rows = golden.integers("best.rows");
        let at = |values: &[f32], width: usize| -> Vec<f32> {
            let row = |row: &u32| &values[*row as usize * width..][..width];
            rows.iter().flat_map(row).copied().collect()
        };
        assert_eq!(
            best.observations,
            at(&data.observations, data.observation_dim)
        );
        assert_eq!(best.actions, at(&data.actions, data.action_dim));
        assert_eq!(best.rewards, at(&data.rewards, 1));

        // The algorithm learns from them, and normalises by them.
        let actions = (vec![-1.0; data.action_dim], vec![1.0; data.action_dim]);
        let build = Build {
            source: Source::Train(&data),
            bounds: &ActionBounds::new(&actions.0, &actions.1, &Device::Cpu).unwrap(),
            fast: None,
            encoder: None,
            training_updates: 1,
            device: &Device::Cpu,
            rng: &mut Rng::from_seed(0),
        };
        let mut seen = Seen::default();
        let mut algorithm = config(&golden).build(build).unwrap();
        algorithm.state(&mut seen).unwrap();
        for (ours, authors) in [("mean", "best.mean"), ("scale", "best.deviation")] {
            let found = &seen.0[&format!("policy.normalizer.{ours}")];
            let expected = golden.tensor(authors);
            check_close(ours, found, expected, MOMENT_TOLERANCE);
        }
    }
}
