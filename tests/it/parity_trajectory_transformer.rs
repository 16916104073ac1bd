//! The Trajectory Transformer against the authors' PyTorch: logits, loss, gradients, ten optimiser
//! steps.

use candle_core::{DType, Device, Tensor};
use trajformer_models::dropout::Dropout;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, Schedule};
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::{
    TrajectoryTransformer, TrajectoryTransformerConfig,
};

use crate::golden::Golden;
use crate::parity::{check_changes, check_close, check_gradients, set_parameters};

/// Parameter names are the authors'.
fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// A key's bias shifts all scores of a row alike: its gradient is zero in exact arithmetic.
fn exempt(name: &str) -> bool {
    name.ends_with("attn.key.bias")
}

fn network(golden: &Golden, dtype: DType) -> (Params, TrajectoryTransformer) {
    let config = TrajectoryTransformerConfig {
        observation_dim: golden.integer("observation_dim"),
        action_dim: golden.integer("action_dim"),
        bins: golden.integer("bins"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: golden.integer("width"),
        window_transitions: golden.integer("window"),
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        action_weight: golden.number("action_weight"),
        reward_weight: golden.number("reward_weight"),
        value_weight: golden.number("value_weight"),
    };
    let mut params = Params::new(dtype, &Device::Cpu);
    let rng = &mut Rng::from_seed(0);
    let network = TrajectoryTransformer::new(&config, &mut params.init(rng)).expect("a network");
    set_parameters(&params, golden, "param.", name);
    let count = golden.under("param.").count();
    assert_eq!(params.len(), count, "the authors' parameters and ours");
    (params, network)
}

fn step_row(golden: &Golden, tensor: &str, step: usize) -> Tensor {
    golden
        .tensor(&format!("steps.{tensor}"))
        .get(step)
        .expect("a step")
}

fn loss(golden: &Golden, network: &TrajectoryTransformer, step: usize) -> Tensor {
    let [x, y, mask] = ["x", "y", "mask"].map(|tensor| step_row(golden, tensor, step));
    network.loss(&x, &y, &mask, Dropout::off()).expect("a loss")
}

fn check(file: &str, dtype: DType, tolerance: f64, change_tolerance: f64) {
    let golden = Golden::load(file);
    let (params, network) = network(&golden, dtype);
    let logits = network.logits(&step_row(&golden, "x", 0)).expect("logits");
    check_close("logits", &logits, golden.tensor("logits"), tolerance);
    let first = loss(&golden, &network, 0);
    check_close(
        "loss",
        &first.reshape(1).expect("a loss"),
        golden.tensor("loss"),
        tolerance,
    );
    let gradients = first.backward().expect("gradients");
    check_gradients(
        &params,
        &gradients,
        &golden,
        ("grad.", name, exempt),
        tolerance,
    );

    let config = AdamConfig {
        beta2: 0.95,
        clip_norm: Some(golden.number("clip")),
        ..AdamConfig::default()
    };
    let decay = golden.number("weight_decay");
    let group = |name: &str| match TrajectoryTransformer::decays(name) {
        true => ParamGroup::decay(decay),
        false => ParamGroup::decay(0.0),
    };
    let mut adam = Adam::new(&params, config, group).expect("an optimiser");
    let rates = golden.numbers("steps.lr");
    let (losses, norms) = (
        golden.numbers("steps.loss"),
        golden.numbers("steps.grad_norm"),
    );
    for (step, rate) in rates.into_iter().enumerate() {
        let loss = loss(&golden, &network, step);
        let value = loss
            .to_dtype(DType::F64)
            .and_then(|l| l.to_scalar::<f64>())
            .expect("a loss");
        assert!(
            (value / losses[step] - 1.0).abs() < tolerance,
            "loss of step {step}: {value}"
        );
        let norm = adam
            .step(&loss.backward().expect("gradients"), rate)
            .expect("a step");
        let norm = norm.and_then(|n| n.to_dtype(DType::F64).ok()?.to_scalar::<f64>().ok());
        let error = norm.expect("a norm") / norms[step] - 1.0;
        assert!(
            error.abs() < 10.0 * tolerance,
            "gradient norm of step {step}: {error:e}"
        );
    }
    check_changes(
        &params,
        &golden,
        ("param.", "after.", name, exempt),
        change_tolerance,
    );
}

#[test]
fn hopper_agrees_with_the_authors_in_double_precision() {
    check("trajectory_transformer_hopper", DType::F64, 1e-6, 1e-4);
}

#[test]
fn halfcheetah_agrees_with_the_authors_in_double_precision() {
    check("trajectory_transformer_halfcheetah", DType::F64, 1e-6, 1e-4);
}

/// f32 has 24 bits; sums over 500 tokens of rounded products keep about four digits of the largest
/// gradient element. Adam divides gradients by their own size, so elements that nearly vanish move
/// by whole steps in a random direction: changes agree to a few percent of the largest.
#[test]
fn both_agree_with_the_authors_in_single_precision() {
    for file in [
        "trajectory_transformer_hopper",
        "trajectory_transformer_halfcheetah",
    ] {
        check(file, DType::F32, 2e-4, 0.05);
    }
}

#[test]
fn the_optimizer_decays_what_the_authors_decay() {
    let golden = Golden::load("trajectory_transformer_hopper");
    let (params, _) = network(&golden, DType::F64);
    let mut decayed: Vec<&str> = params
        .iter()
        .map(|p| p.name.as_str())
        .filter(|n| TrajectoryTransformer::decays(n))
        .collect();
    decayed.sort_unstable();
    let expected = golden.constants["decayed"].as_array().expect("a list");
    let expected: Vec<&str> = expected.iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(decayed, expected);
}

#[test]
fn schedules_give_the_authors_rates() {
    for (file, clamped) in [
        ("trajectory_transformer_hopper", false),
        ("trajectory_transformer_halfcheetah", true),
    ] {
        let golden = Golden::load(file);
        let (warmup, end) = (
            golden.integer("warmup_tokens") as u64,
            golden.integer("final_tokens") as u64,
        );
        let schedule = match clamped {
            true => Schedule::WarmupCosine {
                warmup,
                end,
                floor: 0.1,
            },
            false => Schedule::WarmupCosineUnclamped {
                warmup,
                end,
                floor: 0.1,
            },
        };
        let (rates, tokens) = (golden.numbers("steps.lr"), golden.numbers("steps.tokens"));
        for (step, rate) in rates.iter().enumerate().skip(1) {
            let found = golden.number("learning_rate") * schedule.factor(tokens[step - 1] as u64);
            assert!(
                (found / rate - 1.0).abs() < 1e-12,
                "{file}, step {step}: {found} and {rate}"
            );
        }
    }
}

#[test]
fn changing_past_value_tokens_changes_nothing() {
    let golden = Golden::load("trajectory_transformer_hopper");
    let (_, network) = network(&golden, DType::F64);
    let x = step_row(&golden, "x", 0);
    let (_, time) = x.dims2().expect("a batch");
    let (period, bins) = (
        golden.integer("transition_dim"),
        golden.integer("bins") as u32,
    );
    let mut rows = x.to_vec2::<u32>().expect("tokens");
    for row in &mut rows {
        for token in row.iter_mut().skip(period - 1).step_by(period) {
            *token = (*token + 1) % (bins + 1);
        }
    }
    let changed = Tensor::new(rows, &Device::Cpu).expect("tokens");
    let (before, after) = (
        network.logits(&x).expect("logits"),
        network.logits(&changed).expect("logits"),
    );
    let differs = before
        .ne(&after)
        .and_then(|d| d.max(2)?.max(0)?.to_vec1::<u8>())
        .expect("a test");
    for (position, differs) in differs.into_iter().enumerate().take(time) {
        // The value token's own position predicts the next observation, and may differ.
        assert_eq!(
            differs == 1,
            position % period == period - 1,
            "position {position}"
        );
    }
}
