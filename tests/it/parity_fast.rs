//! The FAST policy against PyTorch: logits, loss, gradients and ten optimiser steps of its network, with sequences of
//! different lengths.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::algorithms::fast::{FastConfig, Learner};
use trajformer::epochs::Span;
use trajformer::metrics::Metrics;
use trajformer_models::conditional_gpt::{
    ConditionalBatch, ConditionalGpt as Network, ConditionalGptConfig as Sizes,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::precision::Precision;
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close};
use crate::parity::{
    EXACT, EXACT_CHANGES, SINGLE, SINGLE_CHANGES, check_clipped_updates, check_gradients,
    set_parameters,
};

/// All names are PyTorch's.
fn same(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// All but a key's bias, which shifts all scores of a row alike: its gradient is zero in exact arithmetic.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    (!name.ends_with("attn.key.bias")).then(|| tensor.clone())
}

fn config(golden: &Golden) -> FastConfig {
    FastConfig {
        // Twelve tokens at most: three steps of four actions, one byte each.
        chunk_steps: 3,
        vocab_size: golden.integer("vocabulary"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: golden.integer("width"),
        dropout: 0.0,
        learning_rate: golden.number("learning_rate"),
        warmup_updates: Span::Updates(golden.integer("warmup") as u64),
        decay_updates: Span::Updates(golden.integer("end") as u64),
        ..FastConfig::default()
    }
}

fn learner(golden: &Golden, dtype: DType) -> Learner {
    let config = config(golden);
    let sizes = config.sizes(golden.integer("inputs"), 4);
    let expected = Sizes {
        inputs: golden.integer("inputs"),
        instruction_dim: 0,
        vocabulary: golden.integer("vocabulary"),
        most_tokens: golden.integer("most_tokens"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: golden.integer("width"),
        dropout: 0.0,
        precision: Precision::Full,
    };
    assert_eq!(sizes, expected);
    let mut params = Params::new(dtype, &Device::Cpu);
    let rng = &mut Rng::from_seed(0);
    Network::new(&sizes, &mut params.init(rng)).unwrap();
    set_parameters(&params, golden, "param.", same);
    assert_eq!(params.len(), golden.under("param.").count());
    Learner::new(
        &config,
        golden.integer("inputs"),
        4,
        params,
        Stage::Learning,
    )
    .unwrap()
}

/// The sequences of a step, as the policy's data makes batches of them.
fn batch(golden: &Golden, dtype: DType, step: usize) -> ConditionalBatch {
    let row = |name: &str| golden.tensor(&format!("steps.{name}")).get(step).unwrap();
    let tokens = row("tokens").to_vec2::<u32>().unwrap();
    let lengths = row("lengths").to_vec1::<u32>().unwrap();
    let sequences = tokens.iter().zip(&lengths);
    let sequences: Vec<&[u32]> = sequences
        .map(|(tokens, &length)| &tokens[..length as usize])
        .collect();
    let observations = row("observations").to_dtype(dtype).unwrap();
    let end = golden.integer("vocabulary") as u32;
    ConditionalBatch::new(observations, &sequences, end, &Device::Cpu).unwrap()
}

fn check(dtype: DType, tolerance: f64, change_tolerance: f64) {
    let golden = Golden::load("fast_hopper");
    let mut learner = learner(&golden, dtype);
    let sizes = config(&golden).sizes(golden.integer("inputs"), 4);
    let network = Network::new(&sizes, &mut learner.params().detached()).unwrap();
    let first = batch(&golden, dtype, 0);
    let tokens = golden.tensor("steps.tokens").get(0).unwrap();
    let logits = network.logits(&first.conditions, &tokens).unwrap();
    check_close("logits", &logits, golden.tensor("logits"), tolerance);
    let loss = learner.loss(&first, Dropout::off()).unwrap();
    let found = loss.reshape(1).unwrap();
    check_close("loss", &found, golden.tensor("loss"), tolerance);
    check_gradients(
        learner.params(),
        &loss.backward().unwrap(),
        &golden,
        ("grad.", same, compared),
        tolerance,
    );
    let update = |step| learner.update(&batch(&golden, dtype, step), Dropout::off());
    let metrics: trajformer::Result<Vec<Metrics>> =
        (0..golden.integer("steps")).map(update).collect();
    check_clipped_updates(
        learner.params(),
        &metrics.unwrap(),
        &golden,
        (same, compared),
        (tolerance, change_tolerance),
    );
}

#[test]
fn the_fast_policy_agrees_with_pytorch_in_double_precision() {
    check(DType::F64, EXACT, EXACT_CHANGES);
}

#[test]
fn the_fast_policy_agrees_with_pytorch_in_single_precision() {
    check(DType::F32, SINGLE, SINGLE_CHANGES);
}

#[test]
fn the_optimizer_decays_linear_weights_alone() {
    let golden = Golden::load("fast_hopper");
    let learner = learner(&golden, DType::F64);
    let names = learner.params().iter().map(|p| p.name.as_str());
    let mut decayed: Vec<&str> = names.filter(|name| Network::decays(name)).collect();
    decayed.sort_unstable();
    let expected = golden.constants["decayed"].as_array().unwrap();
    let expected: Vec<&str> = expected.iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(decayed, expected);
}
