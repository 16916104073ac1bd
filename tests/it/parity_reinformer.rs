//! The Reinformer against the authors' PyTorch: losses, gradients, ten updates of their trainer with LAMB and the temperature, and the
//! actions of an episode.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::algorithms::reinformer::{History, Learner, ReinformerConfig, choose};
use trajformer::metrics::Metrics;
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::reinformer::{Reinformer, ReturnContexts};
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close};
use crate::parity::{
    EXACT, EXACT_CHANGES, SINGLE, check_clipped_updates, check_gradients, check_metric,
    set_parameters,
};

/// Changes after ten updates in f32: LAMB makes every tensor's step as long as the tensor, the rounding of all of its elements
/// included. Found: 2e-3 at most.
const SINGLE_LAMB_CHANGES: f64 = 2e-2;

/// Blocks are called `transformer` by the authors.
fn name(name: &str) -> Option<String> {
    Some(match name.strip_prefix("transformer.") {
        Some(rest) => format!("blocks.{rest}"),
        None => name.to_owned(),
    })
}

/// All but a key's bias, which shifts all scores of a row alike: its gradient is zero in exact arithmetic.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    (!name.ends_with("k_net.bias")).then(|| tensor.clone())
}

fn sizes(golden: &Golden) -> ReinformerConfig {
    ReinformerConfig {
        context_steps: golden.integer("context"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: golden.integer("width"),
        max_episode_steps: golden.integer("longest_episode"),
        dropout: 0.0,
        ..ReinformerConfig::default()
    }
}

fn config(golden: &Golden) -> ReinformerConfig {
    ReinformerConfig {
        learning_rate: golden.number("lr"),
        weight_decay: golden.number("wd"),
        warmup_updates: golden.integer("warmup_steps") as u64,
        clip_norm: golden.number("grad_norm"),
        expectile: golden.number("tau"),
        initial_temperature: golden.number("init_temperature"),
        ..sizes(golden)
    }
}

fn start(golden: &Golden, config: &ReinformerConfig, dtype: DType) -> Params {
    let (o, a) = (golden.integer("state_dim"), golden.integer("action_dim"));
    let mut params = Params::new(dtype, &Device::Cpu);
    Reinformer::new(
        &config.sizes(o, a),
        &mut params.init(&mut Rng::from_seed(0)),
    )
    .expect("a network");
    set_parameters(&params, golden, "param.", name);
    assert_eq!(params.len(), golden.under("param.").count());
    params
}

fn learner(golden: &Golden, dtype: DType) -> Learner {
    let config = config(golden);
    let dims = (golden.integer("state_dim"), golden.integer("action_dim"));
    Learner::new(
        &config,
        dims,
        start(golden, &config, dtype),
        Stage::Learning,
    )
    .expect("a learner")
}

fn batch(golden: &Golden, dtype: DType, step: usize) -> (ReturnContexts, Tensor) {
    let row = |tensor: &str| {
        let row = golden.tensor(&format!("steps.{tensor}")).get(step);
        row.and_then(|row| row.contiguous()).expect("a step")
    };
    let float = |tensor: &str| row(tensor).to_dtype(dtype).expect("numbers");
    let contexts = ReturnContexts {
        returns: float("returns_to_go").unsqueeze(2).expect("returns"),
        observations: float("states"),
        actions: float("actions"),
        timesteps: row("timesteps"),
    };
    (contexts, float("traj_mask"))
}

fn check(file: &str, dtype: DType, (tolerance, change_tolerance): (f64, f64)) {
    let golden = Golden::load(file);
    let mut learner = learner(&golden, dtype);
    let (contexts, mask) = batch(&golden, dtype, 0);
    let loss = learner
        .loss(&contexts, &mask, Dropout::off())
        .expect("a loss");
    let gradients = loss.backward().expect("gradients");
    check_gradients(
        learner.params(),
        &gradients,
        &golden,
        ("grad.", name, compared),
        tolerance,
    );

    let steps = golden.dims("steps.lr")[0];
    let update = |step| {
        let (contexts, mask) = batch(&golden, dtype, step);
        learner.update(&contexts, &mask, Dropout::off())
    };
    let metrics: trajformer::Result<Vec<Metrics>> = (0..steps).map(update).collect();
    let metrics = metrics.expect("ten updates");
    check_metric(
        &metrics,
        "return_loss",
        golden.tensor("steps.return_loss"),
        tolerance,
    );
    let temperatures = golden
        .tensor("steps.log_temperature")
        .exp()
        .expect("temperatures");
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
    for file in ["reinformer_hopper", "reinformer_plain"] {
        check(file, DType::F64, (EXACT, EXACT_CHANGES));
    }
}

#[test]
fn updates_agree_with_the_authors_in_single_precision() {
    for file in ["reinformer_hopper", "reinformer_plain"] {
        check(file, DType::F32, (SINGLE, SINGLE_LAMB_CHANGES));
    }
}

#[test]
fn an_episode_has_the_authors_actions() {
    let golden = Golden::load("reinformer_acting");
    let config = sizes(&golden);
    let (o, a) = (golden.integer("state_dim"), golden.integer("action_dim"));
    let params = start(&golden, &config, DType::F64);
    let network = Reinformer::new(&config.sizes(o, a), &mut params.detached()).expect("a network");
    let observations = golden.tensor("observations");
    let (mean, std) = (golden.tensor("mean"), golden.tensor("std"));
    let normal = observations
        .broadcast_sub(mean)
        .and_then(|x| x.broadcast_div(std));
    let rows = normal
        .and_then(|x| x.to_dtype(DType::F32)?.to_vec2::<f32>())
        .expect("rows");
    let expected = golden.tensor("actions");
    let mut history = History::default();
    for (step, row) in rows.into_iter().take(expected.dims()[0]).enumerate() {
        history.remember(row, a, config.context_steps);
        let (action, _) =
            choose(&network, &mut history, (DType::F64, &Device::Cpu)).expect("an action");
        let single: Vec<f32> = action.iter().map(|&number| number as f32).collect();
        *history.actions.back_mut().expect("a step") = single;
        let found = Tensor::new(action, &Device::Cpu).expect("a row");
        let expected = expected.get(step).expect("an action");
        // A policy remembers observations, returns and actions in single precision.
        check_close(&format!("action {step}"), &found, &expected, 1e-6);
    }
}
