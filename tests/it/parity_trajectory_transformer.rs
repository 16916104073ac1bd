//! The Trajectory Transformer against the authors' PyTorch: logits, loss, gradients, ten optimiser
//! steps.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::algorithms::trajectory_transformer::{
    Learner, RateSchedule, TrajectoryTransformerConfig,
};
use trajformer::data::sequences::TokenBatch;
use trajformer::epochs::Span;
use trajformer::metrics::Metrics;
use trajformer_models::dropout::Dropout;
use trajformer_models::optim::Schedule;
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::TrajectoryTransformer as Network;

use crate::golden::{Golden, check_close};
use crate::parity::{
    EXACT, EXACT_CHANGES, SINGLE, check_clipped_updates, check_gradients, set_parameters,
};

/// Parameter names are the authors'.
fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// All but a key's bias, which shifts all scores of a row alike: its gradient is zero in exact
/// arithmetic.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    (!name.ends_with("attn.key.bias")).then(|| tensor.clone())
}

/// The file's sizes; all else, optimiser and weights of the loss included, are the defaults.
fn config(golden: &Golden) -> TrajectoryTransformerConfig {
    TrajectoryTransformerConfig {
        bins: golden.integer("bins"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding_per_head: golden.integer("width") / golden.integer("heads"),
        window_transitions: golden.integer("window"),
        dropout: 0.0,
        ..TrajectoryTransformerConfig::default()
    }
}

/// A learner that starts from the golden parameters.
fn learner(golden: &Golden, config: &TrajectoryTransformerConfig, dtype: DType) -> Learner {
    let (o, a) = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let mut params = Params::new(dtype, &Device::Cpu);
    let rng = &mut Rng::from_seed(0);
    Network::new(&config.sizes(o, a), &mut params.init(rng)).expect("a network");
    set_parameters(&params, golden, "param.", name);
    let count = golden.under("param.").count();
    assert_eq!(params.len(), count, "the authors' parameters and ours");
    Learner::new(config, o, a, params, Stage::Learning).expect("a learner")
}

fn network(golden: &Golden, learner: &Learner) -> Network {
    let (o, a) = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let sizes = config(golden).sizes(o, a);
    Network::new(&sizes, &mut learner.params().detached()).expect("a network")
}

fn batch(golden: &Golden, step: usize) -> TokenBatch {
    let row = |tensor: &str| {
        golden
            .tensor(&format!("steps.{tensor}"))
            .get(step)
            .expect("a step")
    };
    TokenBatch {
        inputs: row("x"),
        targets: row("y"),
        mask: row("mask"),
        instructions: None,
    }
}

fn check(file: &str, dtype: DType, tolerance: f64, change_tolerance: f64) {
    let golden = Golden::load(file);
    let mut learner = learner(&golden, &config(&golden), dtype);
    let first = batch(&golden, 0);
    let logits = network(&golden, &learner).logits(&first.inputs, None);
    check_close(
        "logits",
        &logits.expect("logits"),
        golden.tensor("logits"),
        tolerance,
    );
    let loss = learner.loss(&first, Dropout::off()).expect("a loss");
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
    // The authors' rates follow the tokens seen, ours the updates done.
    let rates = golden.numbers("steps.lr");
    let update = |(step, rate): (usize, &f64)| {
        let batch = batch(&golden, step);
        learner.update_at_rate(&batch, Dropout::off(), *rate)
    };
    let metrics: trajformer::Result<Vec<Metrics>> = rates.iter().enumerate().map(update).collect();
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
        "trajectory_transformer_hopper",
        DType::F64,
        EXACT,
        EXACT_CHANGES,
    );
}

#[test]
fn halfcheetah_agrees_with_the_authors_in_double_precision() {
    check(
        "trajectory_transformer_halfcheetah",
        DType::F64,
        EXACT,
        EXACT_CHANGES,
    );
}

/// Changes in f32: rows of the token table that a batch hardly uses have gradients that nearly vanish, and Adam moves them by whole
/// steps. Found: 7e-3.
const MANY_TOKENS: f64 = 0.03;

#[test]
fn both_agree_with_the_authors_in_single_precision() {
    for file in [
        "trajectory_transformer_hopper",
        "trajectory_transformer_halfcheetah",
    ] {
        check(file, DType::F32, SINGLE, MANY_TOKENS);
    }
}

#[test]
fn the_optimizer_decays_what_the_authors_decay() {
    let golden = Golden::load("trajectory_transformer_hopper");
    let learner = learner(&golden, &config(&golden), DType::F64);
    let mut decayed: Vec<&str> = learner
        .params()
        .iter()
        .map(|p| p.name.as_str())
        .filter(|n| Network::decays(n))
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
        let schedule = if clamped {
            Schedule::WarmupCosine {
                warmup,
                end,
                floor: 0.1,
            }
        } else {
            Schedule::WarmupCosineUnclamped {
                warmup,
                end,
                floor: 0.1,
            }
        };
        let (rates, tokens) = (golden.numbers("steps.lr"), golden.numbers("steps.tokens"));
        for (step, rate) in rates.iter().enumerate().skip(1) {
            // The authors' multiplier counts tokens, and is n / warmup after n of them: the factor of number n.
            let number = tokens[step - 1] as u64;
            let found = golden.number("learning_rate") * schedule.factor(number - 1);
            assert!(
                (found / rate - 1.0).abs() < 1e-12,
                "{file}, step {step}: {found} and {rate}"
            );
        }
    }
}

#[test]
fn a_learners_rates_follow_the_authors_multiplier_with_updates_in_place_of_tokens() {
    let golden = Golden::load("trajectory_transformer_hopper");
    let (warmup, end) = (3.0, 8.0);
    let cosine = |p: f64| (0.5 * (1.0 + (std::f64::consts::PI * p).cos())).max(0.1);
    for schedule in [
        RateSchedule::Cosine,
        RateSchedule::CosineUnclamped,
        RateSchedule::Constant,
        RateSchedule::WarmupStableDecay,
    ] {
        let config = TrajectoryTransformerConfig {
            warmup_updates: Span::Updates(warmup as u64),
            decay_updates: Span::Updates(end as u64),
            schedule,
            decay_fraction: 0.4,
            ..config(&golden)
        };
        let mut found = learner(&golden, &config, DType::F64).with_training_updates(10);
        let mut expected = learner(&golden, &config, DType::F64);
        for update in 1..=10 {
            let done = f64::from(update);
            let progress = (done - warmup) / (end - warmup);
            let multiplier = match schedule {
                _ if done < warmup => done / warmup,
                RateSchedule::Cosine => cosine(progress.min(1.0)),
                RateSchedule::CosineUnclamped => cosine(progress),
                RateSchedule::Constant => 1.0,
                // The last four of ten: 1, 3/4, 1/2, 1/4.
                RateSchedule::WarmupStableDecay => f64::min(1.0, (11.0 - done) / 4.0),
            };
            let batch = batch(&golden, 0);
            found.update(&batch, Dropout::off()).expect("an update");
            expected
                .update_at_rate(&batch, Dropout::off(), 6e-4 * multiplier)
                .expect("an update");
            for (found, expected) in found.params().iter().zip(expected.params().iter()) {
                let place = format!("{schedule:?}, update {update}: {}", found.name);
                let [found, expected] =
                    [found, expected].map(|p| p.slot.tensor().expect("numbers"));
                check_close(&place, &found, &expected, 1e-12);
            }
        }
    }
}

#[test]
fn changing_past_value_tokens_changes_nothing() {
    let golden = Golden::load("trajectory_transformer_hopper");
    let learner = learner(&golden, &config(&golden), DType::F64);
    let network = network(&golden, &learner);
    let x = batch(&golden, 0).inputs;
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
        network.logits(&x, None).expect("logits"),
        network.logits(&changed, None).expect("logits"),
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
