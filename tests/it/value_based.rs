//! Replays value-based methods against reference numbers in the standard layout of
//! tests/golden/value_based.py: whole updates through [`Learner::update`], on recorded batches and
//! random draws.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::data::Batch;
use trajformer::offpolicy::{GradientWatch, InitContext, Learner};
use trajformer_models::params::{Slot, StateVisitor};
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close, relative_maximum};

/// Losses, gradients and parameter changes after ten updates in f64: sums of some hundred terms round by 1e-14, and Adam, which
/// divides each gradient by its own size, makes 3e-11 of the smallest ones.
const TOLERANCE: f64 = 1e-10;
/// The same where the reference takes ln(1 - a² + 1e-6) of saturated actions: of 1 - a² there, a difference of numbers near 1, some
/// 1e-16 is rounding, 1e-10 of the sum. Here it is computed without a difference.
pub const SATURATED_TOLERANCE: f64 = 1e-8;
/// Losses and gradients in f32: 24 bits, sums of a few hundred terms; 3e-6 is seen.
const LOSS_TOLERANCE_F32: f64 = 2e-5;
/// Parameter changes in f32: targets move by a hundredth of a thousandth in ten updates, of which parameters around 1 hold three
/// digits.
const CHANGE_TOLERANCE_F32: f64 = 2e-2;

/// What of a network a golden tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Before the first update.
    Start,
    /// Gradient of its first update.
    Gradient,
    /// After all updates.
    After,
}

/// The golden tensor of a parameter, by run, kind, network and name.
pub type Lookup = fn(&Golden, &str, Kind, &str, &str) -> Tensor;

/// The standard layout: `RUN.start.NETWORK.PARAM`, `RUN.grad...`, `RUN.after...`.
pub fn standard(golden: &Golden, run: &str, kind: Kind, network: &str, param: &str) -> Tensor {
    let kind = match kind {
        Kind::Start => "start",
        Kind::Gradient => "grad",
        Kind::After => "after",
    };
    let name = format!("{run}.{kind}.{network}.{param}");
    golden.tensor(&name).clone()
}

/// A run's reference numbers.
pub struct Reference<'a> {
    pub golden: &'a Golden,
    pub run: &'a str,
    pub lookup: Lookup,
    /// What stands between the run and a metric's name.
    pub metrics: &'a str,
    /// Of everything in f64.
    pub tolerance: f64,
}

impl<'a> Reference<'a> {
    /// In the standard layout.
    pub fn standard(golden: &'a Golden, run: &'a str) -> Self {
        Self {
            golden,
            run,
            lookup: standard,
            metrics: "metric.",
            tolerance: TOLERANCE,
        }
    }

    /// The same with another tolerance, which has its reason.
    pub fn within(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// A constant of the run.
    pub fn constant(&self, name: &str) -> &serde_json::Value {
        let value = &self.golden.constants["runs"][self.run][name];
        assert!(!value.is_null(), "{}: no constant `{name}`", self.run);
        value
    }

    /// A number among them.
    pub fn number(&self, name: &str) -> f64 {
        let value = self.constant(name).as_f64();
        value.unwrap_or_else(|| panic!("`{name}` is no number"))
    }

    fn tensor(&self, kind: Kind, network: &str, param: &str) -> Tensor {
        (self.lookup)(self.golden, self.run, kind, network, param)
    }
}

/// `steps.{name}` of one step, in this type.
pub fn step_tensor(golden: &Golden, name: &str, step: usize, dtype: DType) -> Tensor {
    let steps = golden.tensor(&format!("steps.{name}"));
    steps.get(step).unwrap().to_dtype(dtype).unwrap()
}

/// The recorded batch of one step; next actions and reached returns where the file has them.
pub fn batch(golden: &Golden, step: usize, dtype: DType) -> Batch {
    let get = |name: &str| step_tensor(golden, name, step, dtype);
    let column = |name: &str| get(name).flatten_all().unwrap();
    let optional = |name: &str| {
        let known = golden.below("steps.").contains_key(name);
        known.then(|| get(name))
    };
    Batch {
        observations: get("observations"),
        actions: get("actions"),
        rewards: column("rewards"),
        next_observations: get("next_observations"),
        terminated: column("terminated"),
        next_actions: optional("next_actions"),
        monte_carlo_returns: optional("reached"),
    }
}

/// Everything that a learner shows: tensors by name, and counters.
#[derive(Default)]
struct Shown {
    slots: BTreeMap<String, Slot>,
    counters: BTreeMap<String, u64>,
}

impl StateVisitor for Shown {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        let known = self.slots.insert(name.to_owned(), slot.clone());
        assert!(known.is_none(), "two tensors are called `{name}`");
        Ok(())
    }

    fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
        self.counters.insert(name.to_owned(), *value);
        Ok(())
    }
}

fn shown(learner: &mut impl Learner) -> Shown {
    let mut shown = Shown::default();
    learner.state(&mut shown).unwrap();
    shown
}

/// Network and parameter of a state's tensor, if it is a network's or a target's.
fn network(name: &str) -> Option<(&str, &str)> {
    let rest = match name.strip_prefix("model.") {
        Some(rest) => rest,
        None => name
            .strip_prefix("training.")
            .filter(|rest| rest.starts_with("target_"))?,
    };
    rest.split_once('.')
}

/// Ten updates of the learner that `new` makes: every loss that the reference has, every gradient
/// of each network's first step, every parameter's change at the end, in f64 and f32.
pub fn check_updates<L: Learner>(
    reference: &Reference<'_>,
    new: impl Fn(&mut InitContext<'_>) -> L,
    draws: impl Fn(usize, DType) -> L::Draws,
) {
    for (dtype, loss_tolerance, change_tolerance) in [
        (DType::F64, reference.tolerance, reference.tolerance),
        (DType::F32, LOSS_TOLERANCE_F32, CHANGE_TOLERANCE_F32),
    ] {
        let golden = reference.golden;
        let mut learner = new(&mut InitContext {
            observation_dim: golden.integer("observation_dim"),
            action_dim: golden.integer("action_dim"),
            choices: golden.constants["choices"]
                .as_u64()
                .map(|count| count as usize),
            stage: Stage::Learning,
            training_updates: golden.integer("steps") as u64,
            encoder: None,
            watch: &GradientWatch::default(),
            dtype,
            device: &Device::Cpu,
            rng: &mut Rng::from_seed(0),
        });
        set_start(&mut learner, reference);
        let mut checked = Vec::new();
        let mut metrics = Vec::new();
        for step in 0..golden.integer("steps") {
            let batch = batch(golden, step, dtype);
            let found = learner.update(&batch, &draws(step, dtype)).unwrap();
            metrics.extend(found.values().unwrap());
            check_first_gradients(&mut learner, reference, &mut checked, loss_tolerance);
        }
        assert!(!checked.is_empty(), "no network took a step");
        check_metrics(&metrics, reference, loss_tolerance);
        check_changes(&mut learner, reference, change_tolerance);
    }
}

fn set_start(learner: &mut impl Learner, reference: &Reference<'_>) {
    let mut count = 0;
    for (name, slot) in shown(learner).slots {
        if let Some((network, param)) = network(&name) {
            let value = reference.tensor(Kind::Start, network, param);
            slot.set(&value.to_dtype(slot.dtype()).unwrap()).unwrap();
            count += 1;
        }
    }
    assert!(count > 0, "the learner shows no network");
}

/// Gradients of networks whose optimiser has just taken its first step: Adam's first moment is then a
/// tenth of them.
fn check_first_gradients(
    learner: &mut impl Learner,
    reference: &Reference<'_>,
    checked: &mut Vec<String>,
    tolerance: f64,
) {
    let shown = shown(learner);
    for (name, steps) in &shown.counters {
        let Some(network) = name
            .strip_prefix("training.")
            .and_then(|rest| rest.strip_suffix("_optimizer.steps"))
        else {
            continue;
        };
        if *steps == 0 || checked.iter().any(|c| c == network) {
            continue;
        }
        assert_eq!(*steps, 1, "{network} took several steps in one update");
        let prefix = format!("training.{network}_optimizer.first.");
        for (name, slot) in &shown.slots {
            if let Some(param) = name.strip_prefix(&prefix) {
                let found = (slot.tensor().unwrap() * 10.0).unwrap();
                let expected = reference.tensor(Kind::Gradient, network, param);
                let place = format!("{}: gradient of {network} {param}", reference.run);
                check_close(&place, &found, &expected, tolerance);
            }
        }
        checked.push(network.to_owned());
    }
}

/// Every golden metric, each number by itself.
fn check_metrics(found: &[(&'static str, f64)], reference: &Reference<'_>, tolerance: f64) {
    let prefix = format!("{}.{}", reference.run, reference.metrics);
    let mut count = 0;
    for (name, expected) in reference.golden.under(&prefix) {
        if name.contains('.') {
            continue;
        }
        let of_name = found.iter().filter(|(other, _)| *other == name);
        let found: Vec<f64> = of_name.map(|(_, value)| *value).collect();
        let found = Tensor::new(found, &Device::Cpu).unwrap();
        let place = format!("{}: {name}", reference.run);
        assert_eq!(found.dims(), expected.dims(), "{place}");
        check_close(&place, &found, expected, tolerance);
        count += 1;
    }
    assert!(count > 0, "no golden metric under `{prefix}`");
}

fn check_changes(learner: &mut impl Learner, reference: &Reference<'_>, tolerance: f64) {
    for (name, slot) in shown(learner).slots {
        let Some((network, param)) = network(&name) else {
            continue;
        };
        let start = reference.tensor(Kind::Start, network, param);
        let end = reference.tensor(Kind::After, network, param);
        let found = slot.tensor().unwrap().to_dtype(DType::F64).unwrap();
        let place = format!("{}: change of {network} {param}", reference.run);
        if relative_maximum(&end, &start) == 0.0 {
            let start = start.to_dtype(slot.dtype()).unwrap();
            assert_eq!(
                relative_maximum(&found, &start),
                0.0,
                "{place}: there is none"
            );
            continue;
        }
        // From the start as the learner has it, rounded to its type.
        let rounded = start.to_dtype(slot.dtype()).unwrap();
        let from = rounded.to_dtype(DType::F64).unwrap();
        let (found, expected) = ((found - from).unwrap(), (end - start).unwrap());
        check_close(&place, &found, &expected, tolerance);
    }
}
