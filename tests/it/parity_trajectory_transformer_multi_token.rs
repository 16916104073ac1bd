//! The Trajectory Transformer that predicts value and next observation at once against PyTorch: logits, losses, gradients, updates.

use candle_core::{DType, Device};
use trajformer::algorithms::Stage;
use trajformer::algorithms::trajectory_transformer::{
    Learner, MlpKind, NormName, PositionKind, TrajectoryTransformerConfig,
};
use trajformer::data::sequences::TokenBatch;
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::TrajectoryTransformer as Network;

use crate::golden::{Golden, check_close};
use crate::parity::{EXACT, EXACT_CHANGES, SINGLE, SINGLE_CHANGES, check_metric, in_f64};

fn config(golden: &Golden, parts: &[String]) -> TrajectoryTransformerConfig {
    let has = |part: &str| parts.iter().any(|other| other == part);
    assert!(parts.len() <= 1 || parts.len() == 5);
    TrajectoryTransformerConfig {
        bins: golden.integer("bins"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding_per_head: golden.integer("width") / golden.integer("heads"),
        window_transitions: golden.integer("window"),
        dropout: 0.0,
        action_weight: golden.number("action_weight"),
        reward_weight: golden.number("reward_weight"),
        value_weight: golden.number("value_weight"),
        multi_token: true,
        multi_token_weight: golden.number("multi_token_weight"),
        qk_norm: has("qk_norm"),
        norm: if has("rms") {
            NormName::Rms
        } else {
            NormName::Layer
        },
        positions: if has("step_and_dimension") {
            PositionKind::StepAndDimension
        } else {
            PositionKind::Learned
        },
        tied_heads: has("tied_heads"),
        mlp: if has("swiglu") {
            MlpKind::Swiglu
        } else {
            MlpKind::Gelu
        },
        betas: [golden.number("beta1"), golden.number("beta2")],
        weight_decay: golden.number("weight_decay"),
        clip_norm: golden.number("clip_norm"),
        ..TrajectoryTransformerConfig::default()
    }
}

/// The parameters of a network of this configuration; those of gated layers have names of their own in the file.
fn params(golden: &Golden, config: &TrajectoryTransformerConfig, dtype: DType) -> Params {
    let mut params = Params::new(dtype, &Device::Cpu);
    let (o, a) = dims(golden);
    let rng = &mut Rng::from_seed(0);
    Network::new(&config.sizes(o, a), &mut params.init(rng)).unwrap();
    for param in params.iter() {
        let value = golden.tensor(&format!("param.{}", stored(config, &param.name)));
        param.slot.set(&value.to_dtype(dtype).unwrap()).unwrap();
    }
    params
}

fn dims(golden: &Golden) -> (usize, usize) {
    (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    )
}

fn stored(config: &TrajectoryTransformerConfig, name: &str) -> String {
    let gated = config.mlp == MlpKind::Swiglu && name.contains(".mlp.");
    let front = if gated { "gated." } else { "" };
    format!("{front}{name}")
}

fn batch(golden: &Golden) -> TokenBatch {
    TokenBatch {
        inputs: golden.tensor("tokens").clone(),
        targets: golden.tensor("targets").clone(),
        mask: golden.tensor("mask").clone(),
        instructions: None,
    }
}

/// A key's bias shifts all plain scores of a row alike: its gradient is rounding, which Adam makes whole steps of.
fn is_rounding(config: &TrajectoryTransformerConfig, name: &str) -> bool {
    !config.qk_norm && name.ends_with("attn.key.bias")
}

fn check(dtype: DType, tolerance: f64) {
    let golden = Golden::load("trajectory_transformer_multi_token");
    let variants = golden.constants["variants"].as_object().unwrap().clone();
    assert_eq!(variants.len(), 3);
    for (variant, parts) in &variants {
        let parts: Vec<String> = serde_json::from_value(parts.clone()).unwrap();
        let config = config(&golden, &parts);
        let params = params(&golden, &config, dtype);
        let (o, a) = dims(&golden);
        let network = Network::new(&config.sizes(o, a), &mut params.tracked()).unwrap();
        let batch = batch(&golden);
        let named = |what: &str| format!("{variant}.{what}");
        let logits = network.multi_token_logits(&batch.inputs, None).unwrap();
        let name = named("logits");
        check_close(&name, &logits, golden.tensor(&name), tolerance);
        let losses = network.losses(&batch, Dropout::off()).unwrap();
        let loss = network.loss(&batch, Dropout::off()).unwrap();
        let more = losses.multi_token.unwrap();
        let found = candle_core::Tensor::stack(&[&losses.next, &more, &loss], 0).unwrap();
        let name = named("losses");
        check_close(&name, &found, golden.tensor(&name), tolerance);
        let gradients = loss.backward().unwrap();
        let expected = golden.under(&named("grad.")).count();
        assert_eq!(params.len(), expected, "{variant}: PyTorch's gradients");
        for param in params.iter() {
            if !is_rounding(&config, &param.name) {
                let name = named(&format!("grad.{}", stored(&config, &param.name)));
                let found = gradients.get(param.slot.var()).expect("a gradient");
                check_close(&name, found, golden.tensor(&name), tolerance);
            }
        }
    }
}

fn check_updates(dtype: DType, (tolerance, changes): (f64, f64)) {
    let golden = Golden::load("trajectory_transformer_multi_token");
    let config = config(&golden, &[]);
    let (o, a) = dims(&golden);
    let params = params(&golden, &config, dtype);
    let mut learner = Learner::new(&config, o, a, params, Stage::Learning).unwrap();
    let batch = batch(&golden);
    let mut update = || {
        let rate = golden.number("rate");
        learner
            .update_at_rate(&batch, Dropout::off(), rate)
            .unwrap()
    };
    let metrics: Vec<_> = (0..5).map(|_| update()).collect();
    for name in ["loss", "multi_token_loss"] {
        let expected = golden.tensor(&format!("updates.{name}"));
        check_metric(&metrics, name, expected, tolerance);
    }
    let mut count = 0;
    for param in learner.params().iter() {
        if is_rounding(&config, &param.name) {
            continue;
        }
        let start = golden.tensor(&format!("param.{}", param.name));
        let end = golden.tensor(&format!("after.{}", param.name));
        let found = (in_f64(&param.slot.tensor().unwrap()) - start).unwrap();
        let name = format!("change of {}", param.name);
        check_close(&name, &found, &(end - start).unwrap(), changes);
        count += 1;
    }
    assert_eq!(count, golden.under("after.").count() - 2);
}

#[test]
fn networks_that_predict_several_tokens_are_pytorchs_in_double_precision() {
    check(DType::F64, EXACT);
}

#[test]
fn networks_that_predict_several_tokens_are_pytorchs_in_single_precision() {
    check(DType::F32, SINGLE);
}

#[test]
fn their_updates_are_pytorchs() {
    check_updates(DType::F64, (EXACT, EXACT_CHANGES));
    check_updates(DType::F32, (SINGLE, SINGLE_CHANGES));
}
