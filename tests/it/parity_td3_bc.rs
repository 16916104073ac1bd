//! TD3+BC against its authors' code: losses, gradients, ten updates with recorded noise.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::td3_bc::{Learner, Td3BcConfig};
use trajformer::data::Batch;
use trajformer::metrics::Metrics;
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close};

/// Losses and gradients in f64: rounding of some hundred additions, no more.
const GRADIENT_TOLERANCE: f64 = 1e-6;
/// Parameter changes after ten updates in f64.
const CHANGE_TOLERANCE: f64 = 1e-4;
/// Losses in f32: 24 bits, sums of a few hundred terms.
const LOSS_TOLERANCE_F32: f64 = 1e-4;
/// Parameter changes in f32: Adam divides each gradient by its own size, so rounding of the
/// smallest gradients shows in full.
const CHANGE_TOLERANCE_F32: f64 = 2e-2;

const LAYERS: [usize; 3] = [0, 2, 4];

/// The authors' actor `net` under our names.
fn actor_params(golden: &Golden, prefix: &str, dtype: DType) -> Params {
    let mut params = Params::new(dtype, &Device::Cpu);
    for layer in LAYERS {
        for kind in ["weight", "bias"] {
            let name = format!("net.{layer}.{kind}");
            params
                .insert(&name, golden.tensor(&format!("{prefix}.{name}")), true)
                .unwrap();
        }
    }
    params
}

/// Both of the authors' critics as one ensemble: (N, in, out) and (N, 1, out).
fn critic_params(golden: &Golden, prefixes: [String; 2], dtype: DType) -> Params {
    let mut params = Params::new(dtype, &Device::Cpu);
    for layer in LAYERS {
        let both = |kind: &str| {
            prefixes
                .clone()
                .map(|p| golden.tensor(&format!("{p}.net.{layer}.{kind}")).clone())
        };
        let weights = both("weight").map(|w| w.t().unwrap());
        let weight = Tensor::stack(&weights, 0).unwrap();
        params
            .insert(&format!("net.{layer}.weight"), &weight, true)
            .unwrap();
        let bias = Tensor::stack(&both("bias"), 0)
            .unwrap()
            .unsqueeze(1)
            .unwrap();
        params
            .insert(&format!("net.{layer}.bias"), &bias, true)
            .unwrap();
    }
    params
}

fn config(golden: &Golden, run: &str) -> Td3BcConfig {
    let constants = &golden.constants["runs"][run];
    let number = |name: &str| constants[name].as_f64().unwrap();
    Td3BcConfig {
        alpha: number("alpha"),
        discount: number("discount"),
        target_rate: number("tau"),
        policy_noise: number("policy_noise"),
        noise_clip: number("noise_clip"),
        policy_delay: constants["policy_freq"].as_u64().unwrap(),
        batch_size: golden.integer("batch"),
        learning_rate: golden.number("learning_rate"),
        hidden: vec![golden.integer("hidden"); 2],
        normalize_observations: false,
    }
}

fn batch(golden: &Golden, step: usize, dtype: DType) -> (Batch, Tensor) {
    let get = |name: &str| {
        golden
            .tensor(&format!("steps.{name}"))
            .get(step)
            .unwrap()
            .to_dtype(dtype)
            .unwrap()
    };
    let column = |name: &str| get(name).squeeze(1).unwrap();
    let batch = Batch {
        observations: get("observations"),
        actions: get("actions"),
        rewards: column("rewards"),
        next_observations: get("next_observations"),
        terminated: column("terminated"),
        next_actions: None,
    };
    (batch, get("noise"))
}

fn learner(golden: &Golden, run: &str, dtype: DType) -> Learner {
    let dims = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let config = config(golden, run);
    let critics = ["critic_1", "critic_2"].map(|name| format!("{run}.param.{name}"));
    let values = [
        actor_params(golden, &format!("{run}.param.actor"), dtype),
        critic_params(golden, critics, dtype),
    ];
    let [mut actor, mut critics] = [(); 2].map(|()| Params::new(dtype, &Device::Cpu));
    let rng = &mut Rng::from_seed(0);
    let sizes = ActorConfig {
        observation_dim: dims.0,
        action_dim: dims.1,
        hidden: config.hidden.clone(),
        max_action: 1.0,
    };
    DeterministicActor::new(&sizes, &mut actor.init(rng)).unwrap();
    let sizes = CriticConfig {
        observation_dim: dims.0,
        action_dim: dims.1,
        hidden: config.hidden.clone(),
        members: 2,
    };
    Critics::new(&sizes, &mut critics.init(rng)).unwrap();
    for (params, values) in [&actor, &critics].into_iter().zip(&values) {
        params.load(&values.tensors().unwrap()).unwrap();
    }
    Learner::new(&config, dims.0, dims.1, actor, critics).unwrap()
}

/// Ten updates; every loss on the way, every parameter change at the end.
fn check_updates(file: &str, run: &str, dtype: DType, loss_tolerance: f64, tolerance: f64) {
    let golden = Golden::load(file);
    let mut learner = learner(&golden, run, dtype);
    let before = learner
        .params()
        .map(|params| params.deep_copy(false).unwrap());
    let mut metrics = Vec::new();
    for step in 0..golden.integer("steps") {
        let (batch, noise) = batch(&golden, step, dtype);
        metrics.extend(learner.update(&batch, &noise).unwrap().values().unwrap());
    }
    for loss in ["critic_loss", "actor_loss"] {
        // The actor has one at its delayed updates only.
        let losses = metrics.iter().filter(|(name, _)| *name == loss);
        let found: Vec<f64> = losses.map(|(_, value)| *value).collect();
        let found = Tensor::new(found, &Device::Cpu).unwrap();
        let expected = golden.tensor(&format!("{run}.{loss}"));
        check_close(loss, &found, expected, loss_tolerance);
    }

    let pair = |suffix: &str| ["critic_1", "critic_2"].map(|n| format!("{run}.after.{n}{suffix}"));
    let after = [
        actor_params(&golden, &format!("{run}.after.actor"), dtype),
        critic_params(&golden, pair(""), dtype),
        actor_params(&golden, &format!("{run}.after.actor_target"), dtype),
        critic_params(&golden, pair("_target"), dtype),
    ];
    for ((found, expected), before) in learner.params().iter().zip(&after).zip(&before) {
        for param in found.iter() {
            let of = |params: &Params| params.get(&param.name).unwrap().slot.tensor().unwrap();
            let (start, end) = (of(before), of(expected));
            let change = (param.slot.tensor().unwrap() - &start).unwrap();
            check_close(&param.name, &change, &(end - start).unwrap(), tolerance);
        }
    }
}

#[test]
fn losses_and_parameter_changes_equal_the_authors() {
    for file in ["td3_bc_hopper", "td3_bc_halfcheetah"] {
        for run in ["default", "other"] {
            check_updates(file, run, DType::F64, GRADIENT_TOLERANCE, CHANGE_TOLERANCE);
            check_updates(
                file,
                run,
                DType::F32,
                LOSS_TOLERANCE_F32,
                CHANGE_TOLERANCE_F32,
            );
        }
    }
}

#[test]
fn gradients_equal_the_authors() {
    for file in ["td3_bc_hopper", "td3_bc_halfcheetah"] {
        let golden = Golden::load(file);
        let mut learner = learner(&golden, "default", DType::F64);
        let (first, noise) = batch(&golden, 0, DType::F64);
        let loss = learner
            .critic_loss(&first, &noise, &mut Metrics::new())
            .unwrap();
        let gradients = loss.backward().unwrap();
        let names = ["critic_1", "critic_2"].map(|name| format!("default.grad.{name}"));
        let expected = critic_params(&golden, names, DType::F64);
        for param in learner.params()[1].iter() {
            let found = param
                .slot
                .gradient(&gradients)
                .unwrap()
                .expect("a gradient");
            let expected = expected.get(&param.name).unwrap().slot.tensor().unwrap();
            check_close(&param.name, &found, &expected, GRADIENT_TOLERANCE);
        }

        // The actor's first update is the second; its loss is taken after the critics' step.
        learner.update(&first, &noise).unwrap();
        let (second, noise) = batch(&golden, 1, DType::F64);
        learner
            .update_critics(&second, &noise, &mut Metrics::new())
            .unwrap();
        let loss = learner.actor_loss(&second, &mut Metrics::new()).unwrap();
        let gradients = loss.backward().unwrap();
        let expected = actor_params(&golden, "default.grad.actor", DType::F64);
        for param in learner.params()[0].iter() {
            let found = param
                .slot
                .gradient(&gradients)
                .unwrap()
                .expect("a gradient");
            let expected = expected.get(&param.name).unwrap().slot.tensor().unwrap();
            check_close(&param.name, &found, &expected, GRADIENT_TOLERANCE);
        }
    }
}
