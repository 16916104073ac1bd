//! The Decision Transformer against the authors' PyTorch: predictions, loss, gradients, ten
//! optimiser steps, and what acting is given.

use candle_core::{DType, Device, Tensor};
use trajformer_models::decision_transformer::{
    Contexts, DecisionTransformer, DecisionTransformerConfig,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, Schedule};
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;

use crate::golden::Golden;
use crate::parity::{check_changes, check_close, check_gradients, in_f64, set_parameters};

/// The trunk is called `transformer` by the authors and `encoder` in `transformers`.
fn name(name: &str) -> Option<String> {
    Some(match name.strip_prefix("transformer.") {
        Some(rest) => format!("encoder.{rest}"),
        None => name.to_owned(),
    })
}

/// A key's bias shifts all scores of a row alike: its gradient is zero in exact arithmetic. The
/// authors' layout holds it in the middle of this one, see [`without_key_bias`].
fn exempt(name: &str) -> bool {
    name.ends_with("attn.c_attn.bias")
}

fn network(golden: &Golden, dtype: DType) -> (Params, DecisionTransformer) {
    let width = golden.integer("width");
    let config = DecisionTransformerConfig {
        hidden: width,
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        inner: 4 * width,
        max_timesteps: golden.integer("longest_episode"),
        positions: 16,
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        ..DecisionTransformerConfig::paper(
            golden.integer("state_dim"),
            golden.integer("action_dim"),
        )
    };
    let mut params = Params::new(dtype, &Device::Cpu);
    let rng = &mut Rng::from_seed(0);
    let network = DecisionTransformer::new(&config, &mut params.init(rng)).expect("a network");
    set_parameters(&params, golden, "param.", name);
    // Beside the authors' there is only the frozen, zero `wpe`.
    assert_eq!(params.len(), golden.under("param.").count() + 1);
    (params, network)
}

fn contexts(golden: &Golden, dtype: DType, step: usize) -> Contexts {
    let row = |tensor: &str| {
        golden
            .tensor(&format!("steps.{tensor}"))
            .get(step)
            .expect("a step")
            .contiguous()
    };
    let float = |tensor: &str| {
        row(tensor)
            .and_then(|x| x.to_dtype(dtype))
            .expect("numbers")
    };
    Contexts {
        returns: float("returns_to_go"),
        observations: float("states"),
        actions: float("actions"),
        timesteps: row("timesteps").expect("time steps"),
        mask: row("mask").expect("a mask"),
    }
}

/// Mean squared error of the actions over valid steps.
fn loss(network: &DecisionTransformer, contexts: &Contexts) -> candle_core::Result<Tensor> {
    let predicted = network
        .forward(contexts, Dropout::off())
        .expect("predictions");
    let (_, _, actions) = predicted.dims3()?;
    let mask = contexts.mask.to_dtype(predicted.dtype())?.unsqueeze(2)?;
    let squares = (predicted - &contexts.actions)?
        .sqr()?
        .broadcast_mul(&mask)?
        .sum_all()?;
    squares / (mask.sum_all()? * actions as f64)?
}

fn valid_only(x: &Tensor, mask: &Tensor) -> Tensor {
    let x = in_f64(x);
    x.broadcast_mul(&in_f64(mask).unsqueeze(2).expect("a mask"))
        .expect("a product")
}

fn check(file: &str, dtype: DType, tolerance: f64, change_tolerance: f64) {
    let golden = Golden::load(file);
    let (params, network) = network(&golden, dtype);
    let batch = contexts(&golden, dtype, 0);
    let predictions = network
        .predictions(&batch, Dropout::off())
        .expect("predictions");
    for (what, found) in [
        ("action_predictions", &predictions.actions),
        ("state_predictions", &predictions.observations),
        ("return_predictions", &predictions.returns),
    ] {
        let expected = valid_only(golden.tensor(what), &batch.mask);
        check_close(what, &valid_only(found, &batch.mask), &expected, tolerance);
    }
    let first = loss(&network, &batch).expect("a loss");
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
    for layer in 0..golden.integer("layers") {
        let end = format!("h.{layer}.attn.c_attn.bias");
        let var = &params.get(&format!("encoder.{end}")).expect("a bias").var;
        let found = without_key_bias(gradients.get(var).expect("a gradient"));
        let expected = without_key_bias(golden.tensor(&format!("grad.transformer.{end}")));
        check_close(&end, &found, &expected, tolerance);
    }

    let config = AdamConfig {
        clip_norm: Some(golden.number("clip")),
        ..AdamConfig::default()
    };
    let decay = golden.number("weight_decay");
    let mut adam = Adam::new(&params, config, |_| ParamGroup::decay(decay)).expect("an optimiser");
    let schedule = Schedule::Warmup {
        length: golden.integer("warmup_steps") as u64,
    };
    for (step, rate) in golden.numbers("steps.lr").into_iter().enumerate() {
        let found = golden.number("learning_rate") * schedule.factor(step as u64);
        assert!(
            (found / rate - 1.0).abs() < 1e-12,
            "rate of step {step}: {found} and {rate}"
        );
        let loss = loss(&network, &contexts(&golden, dtype, step)).expect("a loss");
        adam.step(&loss.backward().expect("gradients"), found)
            .expect("a step");
    }
    let names = (
        "param.",
        "after.",
        name as fn(&str) -> Option<String>,
        exempt as fn(&str) -> bool,
    );
    check_changes(&params, &golden, names, change_tolerance);
}

/// The query and value parts of a bias of queries, keys and values.
fn without_key_bias(bias: &Tensor) -> Tensor {
    let bias = in_f64(bias);
    let width = bias.elem_count() / 3;
    let part = |i: usize| bias.narrow(0, i * width, width).expect("a part");
    Tensor::cat(&[part(0), part(2)], 0).expect("parts")
}

#[test]
fn hopper_agrees_with_the_authors_in_double_precision() {
    check("decision_transformer_hopper", DType::F64, 1e-6, 1e-4);
}

#[test]
fn halfcheetah_agrees_with_the_authors_in_double_precision() {
    check("decision_transformer_halfcheetah", DType::F64, 1e-6, 1e-4);
}

#[test]
fn two_heads_agree_with_the_authors_in_double_precision() {
    check(
        "decision_transformer_hopper_2_heads",
        DType::F64,
        1e-6,
        1e-4,
    );
}

/// As for the Trajectory Transformer: four digits of the largest gradient element, and a few percent
/// of the largest change, since Adam moves elements that nearly vanish by whole steps.
#[test]
fn all_agree_with_the_authors_in_single_precision() {
    for file in ["hopper", "halfcheetah", "hopper_2_heads"] {
        check(
            &format!("decision_transformer_{file}"),
            DType::F32,
            2e-4,
            0.05,
        );
    }
}

#[test]
fn acting_gives_the_authors_actions() {
    for file in ["hopper", "halfcheetah", "hopper_2_heads"] {
        let golden = Golden::load(&format!("decision_transformer_{file}"));
        let (_, network) = network(&golden, DType::F64);
        for length in [1, 2, 5, 8] {
            let input = |tensor: &str| {
                golden
                    .tensor(&format!("act{length}.input.{tensor}"))
                    .clone()
            };
            let contexts = Contexts {
                returns: input("returns_to_go"),
                observations: input("states"),
                actions: input("actions"),
                timesteps: input("timesteps"),
                mask: input("mask"),
            };
            let actions = network.forward(&contexts, Dropout::off()).expect("actions");
            let (_, time, _) = actions.dims3().expect("three dimensions");
            let last = actions
                .get(0)
                .and_then(|a| a.get(time - 1))
                .expect("an action");
            let expected = golden.tensor(&format!("act{length}.action"));
            check_close(&format!("action {length}"), &last, expected, 1e-6);
        }
    }
}
