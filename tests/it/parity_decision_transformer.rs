//! The Decision Transformer against the authors' PyTorch: predictions, loss, gradients, ten
//! optimiser steps, and what acting is given.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::algorithms::decision_transformer::{DecisionTransformerConfig, Learner};
use trajformer::metrics::Metrics;
use trajformer_models::choices::one_hot;
use trajformer_models::decision_transformer::{
    Contexts, DecisionTransformer as Network, DecisionTransformerConfig as Sizes,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;

use crate::golden::{Golden, check_close};
use crate::parity::{
    EXACT, EXACT_CHANGES, SINGLE, SINGLE_CHANGES, check_clipped_updates, check_gradients, in_f64,
    set_parameters,
};

/// The trunk is called `transformer` by the authors and `encoder` in `transformers`.
fn name(name: &str) -> Option<String> {
    Some(match name.strip_prefix("transformer.") {
        Some(rest) => format!("encoder.{rest}"),
        None => name.to_owned(),
    })
}

/// All but a key's bias, which shifts all scores of a row alike: its gradient is zero in exact
/// arithmetic. It is the middle third of the bias of queries, keys and values.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    if !name.ends_with("attn.c_attn.bias") {
        return Some(tensor.clone());
    }
    let width = tensor.elem_count() / 3;
    let part = |i: usize| tensor.narrow(0, i * width, width).expect("a part");
    Some(Tensor::cat(&[part(0), part(2)], 0).expect("parts"))
}

/// The file's sizes, rate and warm-up; all else, betas, decay and clipping included, are the
/// defaults.
fn config(golden: &Golden) -> DecisionTransformerConfig {
    DecisionTransformerConfig {
        context_steps: golden.integer("context"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: golden.integer("width"),
        max_episode_steps: golden.integer("longest_episode"),
        dropout: 0.0,
        learning_rate: golden.number("learning_rate"),
        warmup_updates: golden.integer("warmup_steps") as u64,
        ..DecisionTransformerConfig::default()
    }
}

fn sizes(golden: &Golden) -> Sizes {
    let config = config(golden);
    Sizes {
        hidden: config.embedding,
        layers: config.layers,
        heads: config.heads,
        inner: 4 * config.embedding,
        max_timesteps: config.max_episode_steps,
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        ..Sizes::paper(golden.integer("state_dim"), golden.integer("action_dim"))
    }
}

/// A learner that starts from the golden parameters.
fn learner(golden: &Golden, dtype: DType) -> Learner {
    let mut params = Params::new(dtype, &Device::Cpu);
    let rng = &mut Rng::from_seed(0);
    Network::new(&sizes(golden), &mut params.init(rng)).expect("a network");
    set_parameters(&params, golden, "param.", name);
    // Beside the authors' there is only the frozen, zero `wpe`.
    assert_eq!(params.len(), golden.under("param.").count() + 1);
    let (o, a) = (golden.integer("state_dim"), golden.integer("action_dim"));
    Learner::new(&config(golden), o, a, params, Stage::Learning).expect("a learner")
}

fn network(golden: &Golden, learner: &Learner) -> Network {
    Network::new(&sizes(golden), &mut learner.params().detached()).expect("a network")
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
        instructions: None,
    }
}

fn valid_only(x: &Tensor, mask: &Tensor) -> Tensor {
    let x = in_f64(x);
    x.broadcast_mul(&in_f64(mask).unsqueeze(2).expect("a mask"))
        .expect("a product")
}

fn check(file: &str, dtype: DType, tolerance: f64, change_tolerance: f64) {
    let golden = Golden::load(file);
    let mut learner = learner(&golden, dtype);
    let batch = contexts(&golden, dtype, 0);
    let predictions = network(&golden, &learner)
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
    let loss = learner.loss(&batch, Dropout::off()).expect("a loss");
    check_close(
        "loss",
        &loss.reshape(1).expect("a loss"),
        golden.tensor("loss"),
        tolerance,
    );
    check_gradients(
        learner.params(),
        &loss.backward().expect("gradients"),
        &golden,
        ("grad.", name, compared),
        tolerance,
    );

    let steps = golden.dims("steps.lr")[0];
    let update = |step| learner.update(&contexts(&golden, dtype, step), Dropout::off());
    let metrics: trajformer::Result<Vec<Metrics>> = (0..steps).map(update).collect();
    check_clipped_updates(
        learner.params(),
        &metrics.expect("ten updates"),
        &golden,
        (name, compared),
        (tolerance, change_tolerance),
    );
}

#[test]
fn hopper_agrees_with_the_authors_in_double_precision() {
    check(
        "decision_transformer_hopper",
        DType::F64,
        EXACT,
        EXACT_CHANGES,
    );
}

#[test]
fn halfcheetah_agrees_with_the_authors_in_double_precision() {
    check(
        "decision_transformer_halfcheetah",
        DType::F64,
        EXACT,
        EXACT_CHANGES,
    );
}

#[test]
fn two_heads_agree_with_the_authors_in_double_precision() {
    check(
        "decision_transformer_hopper_2_heads",
        DType::F64,
        EXACT,
        EXACT_CHANGES,
    );
}

#[test]
fn all_agree_with_the_authors_in_single_precision() {
    for file in ["hopper", "halfcheetah", "hopper_2_heads"] {
        check(
            &format!("decision_transformer_{file}"),
            DType::F32,
            SINGLE,
            SINGLE_CHANGES,
        );
    }
}

#[test]
fn acting_gives_the_authors_actions() {
    for file in ["hopper", "halfcheetah", "hopper_2_heads"] {
        let golden = Golden::load(&format!("decision_transformer_{file}"));
        let network = network(&golden, &learner(&golden, DType::F64));
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
                instructions: None,
            };
            let actions = network.forward(&contexts, Dropout::off()).expect("actions");
            let (_, time, _) = actions.dims3().expect("three dimensions");
            let last = actions
                .get(0)
                .and_then(|a| a.get(time - 1))
                .expect("an action");
            let expected = golden.tensor(&format!("act{length}.action"));
            check_close(&format!("action {length}"), &last, expected, EXACT);
        }
    }
}

/// Contexts of the golden file over choices: each a 1 among zeros, padding zeros alone.
fn choices_contexts(golden: &Golden, dtype: DType, step: usize) -> Contexts {
    let mask = golden.tensor("steps.mask").get(step).expect("a step");
    let rows = golden.tensor("steps.actions").get(step).expect("a step");
    let rows = rows.to_dtype(dtype).and_then(|x| x.unsqueeze(2));
    let rows = one_hot(&rows.expect("choices"), golden.integer("choices")).expect("rows");
    let seen = mask.to_dtype(dtype).and_then(|x| x.unsqueeze(2));
    let actions = rows.broadcast_mul(&seen.expect("a mask")).expect("rows");
    Contexts {
        actions,
        ..contexts(golden, dtype, step)
    }
}

#[test]
fn choices_are_read_as_rows_of_a_table_and_predicted_by_cross_entropy() {
    let golden = Golden::load("discrete_decision_transformer");
    let config = config(&golden);
    let sizes = Sizes {
        hidden: config.embedding,
        layers: config.layers,
        heads: config.heads,
        inner: 4 * config.embedding,
        max_timesteps: config.max_episode_steps,
        embedding_dropout: 0.0,
        residual_dropout: 0.0,
        attention_dropout: 0.0,
        choices: true,
        ..Sizes::paper(golden.integer("state_dim"), golden.integer("choices"))
    };
    let names: fn(&str) -> Option<String> = |name| Some(name.to_owned());
    for (dtype, tolerance, change_tolerance) in [
        (DType::F64, EXACT, EXACT_CHANGES),
        (DType::F32, SINGLE, SINGLE_CHANGES),
    ] {
        let mut params = Params::new(dtype, &Device::Cpu);
        Network::new(&sizes, &mut params.init(&mut Rng::from_seed(0))).expect("a network");
        set_parameters(&params, &golden, "param.", names);
        let learner = Learner::with_sizes(&config, &sizes, params, Stage::Learning);
        let mut learner = learner.expect("a learner");
        let network = Network::new(&sizes, &mut learner.params().detached()).expect("a network");
        let batch = choices_contexts(&golden, dtype, 0);
        let logits = network.forward(&batch, Dropout::off()).expect("logits");
        let expected = valid_only(golden.tensor("logits"), &batch.mask);
        check_close(
            "logits",
            &valid_only(&logits, &batch.mask),
            &expected,
            tolerance,
        );
        let loss = learner.loss(&batch, Dropout::off()).expect("a loss");
        let found = loss.reshape(1).expect("a loss");
        check_close("loss", &found, golden.tensor("loss"), tolerance);
        check_gradients(
            learner.params(),
            &loss.backward().expect("gradients"),
            &golden,
            ("grad.", names, compared),
            tolerance,
        );
        let steps = golden.dims("steps.loss")[0];
        let update = |step| learner.update(&choices_contexts(&golden, dtype, step), Dropout::off());
        let metrics: trajformer::Result<Vec<Metrics>> = (0..steps).map(update).collect();
        check_clipped_updates(
            learner.params(),
            &metrics.expect("ten updates"),
            &golden,
            (names, compared),
            (tolerance, change_tolerance),
        );
    }
}
