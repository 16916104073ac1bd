//! Every algorithm on a device against the CPU. `TRAJFORMER_TEST_DEVICE` names the device (`cuda`,
//! `cuda:N`, `metal`); without it everything here, and in `runs`, is the CPU's.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::{ALGORITHMS, Algorithm, Build, Source};
use trajformer::config::RunConfig;
use trajformer::data::{ActionBounds, Dataset};
use trajformer::device::open_device;
use trajformer::policy::EpisodeStart;
use trajformer::rng::{Rng, Streams};
use trajformer_models::dropout::Dropout;

use crate::runs::{pendulum_data, small};

/// Updates that are compared.
const UPDATES: usize = 6;
/// Of losses in f32 after some updates: sums are taken in another order.
const SAME: f64 = 1e-4;
/// Of losses whose products are in bf16, where a sum in another order may round to its neighbour.
const SAME_IN_BF16: f64 = 1e-2;

/// The name of the device under test.
pub fn name() -> String {
    std::env::var("TRAJFORMER_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

/// The device under test.
pub fn open() -> Device {
    open_device(&name()).unwrap()
}

fn build(name: &str, keys: &str, data: &Dataset, device: &Device) -> Box<dyn Algorithm> {
    let text = format!("[algorithm.{name}]\n{}\n{keys}\n", small(name));
    let build = Build {
        source: Source::Train(data),
        bounds: &ActionBounds::new(&[-2.0], &[2.0], device).unwrap(),
        fast: None,
        encoder: None,
        training_updates: UPDATES as u64,
        device,
        rng: &mut Streams::from_seed(1).stream("init"),
    };
    RunConfig::parse(&text)
        .unwrap()
        .algorithm
        .build(build)
        .unwrap()
}

/// Names and values of what consecutive updates report.
fn metrics(algorithm: &mut dyn Algorithm) -> Vec<(&'static str, f64)> {
    let mut rng = Streams::from_seed(1).stream("train");
    let updates = (0..UPDATES).map(|_| algorithm.update(&mut rng).unwrap());
    updates
        .flat_map(|update| update.values().unwrap())
        .collect()
}

fn check_metrics(name: &str, keys: &str, tolerance: f64) {
    let data = pendulum_data();
    let mut on_cpu = build(name, keys, &data, &Device::Cpu);
    let mut on_device = build(name, keys, &data, &open());
    let (expected, found) = (metrics(&mut *on_cpu), metrics(&mut *on_device));
    assert_eq!(found.len(), expected.len(), "{name}");
    for (at, ((what, expected), (_, found))) in expected.into_iter().zip(found).enumerate() {
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance * expected.abs().max(0.1),
            "{name} {keys}, number {at}: `{what}` is {found}, on the CPU {expected}"
        );
    }
}

#[test]
fn losses_of_every_algorithm_are_those_of_the_cpu() {
    for algorithm in ALGORITHMS {
        check_metrics(algorithm.name, "", SAME);
    }
}

#[test]
fn losses_in_bf16_are_those_of_the_cpu() {
    for name in ["decision_transformer", "trajectory_transformer"] {
        check_metrics(name, "matmul = \"bf16\"", SAME_IN_BF16);
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Actions of two steps of three rows, with what was planned for the second row.
fn actions(algorithm: &dyn Algorithm) -> (Vec<f32>, Vec<f32>) {
    let mut policy = algorithm.policy().unwrap();
    let start = |seed| EpisodeStart {
        rng: Rng::from_seed(seed),
        target_return: None,
        goal: None,
        instruction: None,
    };
    policy.begin(&[0, 1, 2].map(start)).unwrap();
    let mut actions = Vec::new();
    for step in 0..2 {
        let observations = Rng::from_seed(step).normal_tensor((3, 3), DType::F32, &Device::Cpu);
        let acted = policy.act(&observations.unwrap(), &[true; 3]).unwrap();
        actions.extend(flat(&acted));
        policy.observe(&[-1.0, -2.0, -3.0]).unwrap();
    }
    let planned = policy.imagined(1).unwrap().map_or(Vec::new(), |plan| {
        let parts = [plan.observations, plan.actions, plan.rewards, plan.values];
        parts.iter().flat_map(flat).collect()
    });
    (actions, planned)
}

#[test]
fn policies_act_and_plan_as_on_the_cpu() {
    let data = pendulum_data();
    for algorithm in ALGORITHMS {
        let name = algorithm.name;
        let [on_cpu, on_device] =
            [Device::Cpu, open()].map(|device| actions(&*build(name, "", &data, &device)));
        // The weights have the same bits, so a planner gives the same tokens.
        assert_eq!(on_device.1, on_cpu.1, "{name}");
        for (found, expected) in on_device.0.iter().zip(&on_cpu.0) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{name}: {found}, {expected}"
            );
        }
    }
}

#[test]
fn dropout_masks_are_those_of_the_cpu() {
    let dropout = Dropout::draw(&mut Rng::from_seed(2));
    let device = open();
    for (dims, dtype) in [
        (vec![3, 5, 301], DType::F32),
        (vec![700], DType::F32),
        (vec![2, 33], DType::F64),
    ] {
        if dtype == DType::F64 && device.is_metal() {
            continue;
        }
        let mask = dropout.site(3, 0.3).unwrap();
        let numbers = |device: &Device| -> Vec<f64> {
            let mask: Tensor = mask.tensor(&dims, dtype, device).unwrap();
            assert_eq!((mask.dims(), mask.dtype()), (&dims[..], dtype));
            let here = mask.to_device(&Device::Cpu).unwrap();
            let flat = here.to_dtype(DType::F64).unwrap().flatten_all();
            flat.unwrap().to_vec1().unwrap()
        };
        assert_eq!(numbers(&device), numbers(&Device::Cpu), "{dims:?}");
    }
}
