//! TAP against the authors' PyTorch: autoencoder, its codes and ten updates, prior and ten updates, windows of data, plans.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::algorithms::tap::{Learner, TapConfig};
use trajformer::data::dataset::{ActionKind, Episode};
use trajformer::data::step_windows::{StepWindows, WindowOptions};
use trajformer::data::{Dataset, dataset};
use trajformer::metrics::Metrics;
use trajformer::planning::{
    LatentModel, LatentPlanConfig, LatentPlanner, LatentSearch, LikelihoodOf,
};
use trajformer::policy::Policy;
use trajformer_models::dropout::Dropout;
use trajformer_models::params::{Params, Slot, StateVisitor};
use trajformer_models::rng::Rng;
use trajformer_models::tap::{Autoencoder, Prior, StepBatch};

use crate::golden::{Golden, check_close, relative_maximum};
use crate::parity::{
    EXACT, EXACT_CHANGES, SINGLE, SINGLE_CHANGES, check_changes, check_gradients, check_metric,
    set_parameters,
};
use crate::planner::{Recorded, starts};

const FILES: [&str; 2] = ["tap", "tap_options"];

/// f64 sums of a few hundred terms, in another order.
const ROUNDING: f64 = 1e-12;
/// Statistics that NumPy takes of single precision, in single precision: sums over 31 rows.
const STATISTICS: f64 = 1e-5;

/// The authors' name, without its first part.
fn autoencoder_name(name: &str) -> Option<String> {
    Some(name.strip_prefix("model.")?.to_owned())
}

fn prior_name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// All but a key's bias, which shifts all scores of a row alike: its gradient is zero in exact arithmetic.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    (!name.ends_with("attn.key.bias")).then(|| tensor.clone())
}

/// The file's sizes and weights; all else, optimiser included, are the defaults.
fn config(golden: &Golden) -> TapConfig {
    let weight = |name: &str| {
        golden.constants["weights"][name]
            .as_f64()
            .expect("a weight")
    };
    TapConfig {
        codes: golden.integer("codes"),
        code_width: golden.integer("code_width"),
        latent_steps: golden.integer("latent_step"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding_per_head: golden.integer("width") / golden.integer("heads"),
        window_transitions: golden.integer("window"),
        dropout: 0.0,
        state_conditional: golden.constants["state_conditional"] == true,
        position_weight: weight("position_weight"),
        action_weight: weight("action_weight"),
        reward_weight: weight("reward_weight"),
        value_weight: weight("value_weight"),
        first_action_weight: weight("first_action_weight"),
        sum_reward_weight: weight("sum_reward_weight"),
        last_value_weight: weight("last_value_weight"),
        ..TapConfig::default()
    }
}

/// A learner that starts from the golden parameters and codes; the prior's are those under `prior`.
fn learner(golden: &Golden, prior: &str, dtype: DType) -> Learner {
    let config = config(golden);
    let sizes = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let rng = &mut Rng::from_seed(0);
    let mut autoencoder = Params::new(dtype, &Device::Cpu);
    Autoencoder::new(
        &config.autoencoder(sizes.0, sizes.1),
        &mut autoencoder.init(rng),
    )
    .expect("an autoencoder");
    set_parameters(&autoencoder, golden, "param.", autoencoder_name);
    let codes = golden.tensor("codebook.before").to_dtype(dtype);
    let slot = &autoencoder.get("codebook.embedding").expect("codes").slot;
    slot.set(&codes.expect("codes")).expect("codes");
    // Besides the codes the authors' parameters are ours.
    assert_eq!(autoencoder.len(), golden.under("param.").count() + 1);
    let mut of_prior = Params::new(dtype, &Device::Cpu);
    Prior::new(&config.prior(sizes.0), &mut of_prior.init(rng)).expect("a prior");
    set_parameters(&of_prior, golden, prior, prior_name);
    assert_eq!(of_prior.len(), golden.under(prior).count());
    Learner::new(&config, sizes, autoencoder, of_prior, Stage::Learning).expect("a learner")
}

fn batch(golden: &Golden, step: usize, dtype: DType) -> StepBatch {
    let row = |name: &str| {
        let rows = golden.tensor(&format!("steps.{name}"));
        rows.get(step)
            .and_then(|row| row.to_dtype(dtype))
            .expect("a step")
    };
    StepBatch {
        joined: row("joined"),
        terminals: row("terminals"),
        mask: row("mask"),
    }
}

fn same_codes(found: &Tensor, golden: &Golden, name: &str, step: usize) {
    let expected = golden.tensor(name).get(step).expect("a step");
    let codes = |codes: &Tensor| codes.flatten_all().and_then(|x| x.to_vec1::<u32>());
    assert_eq!(
        codes(found).unwrap(),
        codes(&expected).unwrap(),
        "{name} of step {step}"
    );
}

/// Everything that is shown, by name.
#[derive(Default)]
struct Shown(Vec<(String, Tensor)>);

impl StateVisitor for Shown {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        self.0.push((name.to_owned(), slot.tensor()?));
        Ok(())
    }
}

/// Features, what is decoded, both parts of the loss and gradients of the first batch.
fn check_first_batch(golden: &Golden, dtype: DType, tolerance: f64) {
    let learner = learner(golden, "prior.param.", dtype);
    let (net, batch) = (&learner.autoencoder().net, batch(golden, 0, dtype));
    let features = net.features(&batch, Dropout::off()).expect("features");
    check_close("features", &features, golden.tensor("features"), tolerance);
    let codes = net.nearest(&features).expect("codes");
    let states = batch
        .states(golden.integer("observation_dim"))
        .expect("states");
    let vectors = net.vectors(&codes).expect("vectors");
    let decoded = net
        .decode(&vectors, &states, Dropout::off())
        .expect("steps");
    // The authors' last number is a probability, ours its logit.
    let last = decoded.dims()[2] - 1;
    let logits = decoded.narrow(2, last, 1).expect("logits");
    let ends = ((logits.neg().unwrap().exp().unwrap() + 1.0).unwrap())
        .recip()
        .unwrap();
    let decoded = Tensor::cat(&[&decoded.narrow(2, 0, last).unwrap(), &ends], 2).unwrap();
    check_close("decoded", &decoded, golden.tensor("decoded"), tolerance);

    let losses = net
        .losses(&batch, learner.codebook(), Dropout::off())
        .expect("losses");
    for (name, loss) in [
        ("reconstruction", &losses.reconstruction),
        ("commitment", &losses.commitment),
    ] {
        let loss = loss.reshape(1).expect("a loss");
        check_close(name, &loss, golden.tensor(name), tolerance);
    }
    let loss = (&losses.reconstruction + &losses.commitment).expect("a loss");
    check_gradients(
        &learner.autoencoder().params,
        &loss.backward().expect("gradients"),
        golden,
        ("grad.", autoencoder_name, compared),
        tolerance,
    );
}

/// Ten updates of the autoencoder: codes before each, losses, gradient norms; then changes, codes and averages.
fn check_autoencoder(golden: &Golden, dtype: DType, (tolerance, changes): (f64, f64)) -> Learner {
    let mut learner = learner(golden, "prior.param.", dtype);
    let mut metrics: Vec<Metrics> = Vec::new();
    for step in 0..golden.integer("steps") {
        let batch = batch(golden, step, dtype);
        let codes = learner
            .autoencoder()
            .detached
            .encode(&batch)
            .expect("codes");
        same_codes(&codes, golden, "steps.codes", step);
        metrics.push(
            learner
                .update_autoencoder(&batch, Dropout::off())
                .expect("an update"),
        );
    }
    for (ours, theirs) in [
        ("reconstruction_loss", "steps.reconstruction"),
        ("commitment_loss", "steps.commitment"),
        ("gradient_norm", "steps.grad_norm"),
    ] {
        check_metric(&metrics, ours, golden.tensor(theirs), changes);
    }
    let params = &learner.autoencoder().params;
    let names = ("param.", "after.", autoencoder_name as _, compared as _);
    check_changes(params, golden, names, changes);
    let mut shown = Shown::default();
    learner
        .codebook()
        .expect("averages")
        .visit("", &mut shown)
        .expect("a visit");
    let embedding = params
        .get("codebook.embedding")
        .expect("codes")
        .slot
        .tensor();
    shown
        .0
        .push(("embedding".to_owned(), embedding.expect("codes")));
    assert_eq!(shown.0.len(), 3);
    for (name, found) in &shown.0 {
        let expected = golden.tensor(&format!("codebook.{name}"));
        check_close(name, found, expected, tolerance);
    }
    learner
}

/// The prior on the codes of the trained autoencoder: logits, loss and gradients of the first batch, ten updates.
fn check_prior(
    learner: &mut Learner,
    golden: &Golden,
    dtype: DType,
    (tolerance, changes): (f64, f64),
) {
    let first = batch(golden, 0, dtype);
    let codes = learner
        .autoencoder()
        .detached
        .encode(&first)
        .expect("codes");
    let states = first
        .states(golden.integer("observation_dim"))
        .expect("states");
    let (net, count) = (&learner.prior().net, codes.dims()[1]);
    let before = codes.narrow(1, 0, count - 1).expect("codes");
    let logits = net.logits(&before, &states).expect("logits");
    check_close("logits", &logits, golden.tensor("prior.logits"), tolerance);
    let loss = net.loss(&codes, &states, Dropout::off()).expect("a loss");
    let found = loss.reshape(1).expect("a loss");
    check_close("loss", &found, golden.tensor("prior.loss"), tolerance);
    check_gradients(
        &learner.prior().params,
        &loss.backward().expect("gradients"),
        golden,
        ("prior.grad.", prior_name, compared),
        tolerance,
    );
    let mut metrics: Vec<Metrics> = Vec::new();
    for step in 0..golden.integer("steps") {
        let batch = batch(golden, step, dtype);
        let codes = learner
            .autoencoder()
            .detached
            .encode(&batch)
            .expect("codes");
        same_codes(&codes, golden, "prior.steps.codes", step);
        metrics.push(
            learner
                .update_prior(&batch, Dropout::off())
                .expect("an update"),
        );
    }
    for (ours, theirs) in [
        ("prior_loss", "prior.steps.loss"),
        ("prior_gradient_norm", "prior.steps.grad_norm"),
    ] {
        check_metric(&metrics, ours, golden.tensor(theirs), changes);
    }
    let names = (
        "prior.param.",
        "prior.after.",
        prior_name as _,
        compared as _,
    );
    check_changes(&learner.prior().params, golden, names, changes);
}

#[test]
fn autoencoder_prior_and_ten_updates_of_each_agree_with_the_authors() {
    for file in FILES {
        let golden = Golden::load(file);
        for (dtype, tolerance, changes) in [
            (DType::F64, EXACT, EXACT_CHANGES),
            (DType::F32, SINGLE, SINGLE_CHANGES),
        ] {
            check_first_batch(&golden, dtype, tolerance);
            let mut learner = check_autoencoder(&golden, dtype, (10.0 * tolerance, changes));
            // What the updates before have left of rounding.
            let tolerance = if dtype == DType::F64 { 1e-11 } else { 1e-4 };
            check_prior(&mut learner, &golden, dtype, (tolerance, changes));
        }
    }
}

#[test]
fn weights_decay_where_the_authors_do() {
    for file in FILES {
        let golden = Golden::load(file);
        let learner = learner(&golden, "prior.param.", DType::F64);
        let decayed = |params: &Params, prefix: &str| {
            let mut names: Vec<String> = params
                .iter()
                .filter(|param| param.trainable && trajformer_models::tap::decays(&param.name))
                .map(|param| format!("{prefix}{}", param.name))
                .collect();
            names.sort();
            serde_json::json!(names)
        };
        let found = decayed(&learner.autoencoder().params, "model.");
        assert_eq!(found, golden.constants["decayed"]);
        let found = decayed(&learner.prior().params, "");
        assert_eq!(found, golden.constants["prior_decayed"]);
    }
}

fn search(golden: &Golden, plan: &serde_json::Value) -> LatentSearch<f64> {
    search_with(golden, plan, LatentPlanConfig::default())
}

/// With what the authors don't have as in `ours`.
fn search_with(
    golden: &Golden,
    plan: &serde_json::Value,
    ours: LatentPlanConfig,
) -> LatentSearch<f64> {
    let mut learner = learner(golden, "plan.prior.", DType::F64);
    for step in 0..golden.integer("steps") {
        let batch = batch(golden, step, DType::F64);
        learner
            .update_autoencoder(&batch, Dropout::off())
            .expect("an update");
    }
    let count = |key: &str| plan[key].as_u64().expect("a count") as usize;
    let number = |key: &str| plan[key].as_f64().expect("a number");
    let model = LatentModel {
        decoder: Arc::new(learner.decoder().expect("a decoder")),
        moments: (golden.numbers("plan.mean"), golden.numbers("plan.std")),
        discount: golden.number("discount"),
    };
    let config = LatentPlanConfig {
        horizon: count("horizon"),
        beam_width: count("beam_width"),
        n_expand: count("n_expand"),
        likelihood_threshold: number("prob_threshold"),
        likelihood_weight: number("likelihood_weight"),
        plan_every_steps: count("plan_freq"),
        ..ours
    };
    LatentSearch::new(model, config).expect("settings that fit")
}

/// Codes, objectives and likelihoods of every sequence that stayed, after every code; actions of the policy around it.
#[test]
fn plans_and_actions_equal_the_authors_with_recorded_draws() {
    for (file, which) in [("tap", "a"), ("tap_options", "b")] {
        let golden = Golden::load(file);
        let plan = &golden.constants["plans"][which];
        let every = plan["plan_freq"].as_u64().expect("a count") as usize;
        let uniforms = golden.numbers(&format!("plan.{which}.uniforms"));
        let observations = golden.tensor("plan.observations");
        let (count, o) = observations.dims2().expect("rows");

        let mut found_by = search(&golden, plan);
        let mut recorded = Recorded {
            uniforms: uniforms.clone(),
            used: 0,
        };
        for step in (0..count).step_by(every) {
            let observation =
                golden.numbers("plan.observations")[step * o..(step + 1) * o].to_vec();
            let observation: Vec<f32> = observation.into_iter().map(|x| x as f32).collect();
            let found = found_by
                .plan(&observation, 0, &mut recorded)
                .expect("a plan");
            let latent = golden.integer("latent_step");
            assert_eq!(
                found.history.len(),
                plan["horizon"].as_u64().unwrap() as usize / latent
            );
            for (code, kept) in found.history.iter().enumerate() {
                let place = format!("plan.{which}.{step}.{}", (code + 1) * latent);
                let expected = golden.integers(&format!("{place}.codes"));
                // The authors keep one sequence after the last code.
                let kept = &kept[..expected.len() / (code + 1)];
                let codes: Vec<u32> = kept.iter().flat_map(|kept| kept.codes.clone()).collect();
                assert_eq!(codes, expected, "{place}");
                let numbers = |of: fn(&trajformer::planning::latent_search::Kept) -> f64| {
                    Tensor::from_iter(kept.iter().map(of), &Device::Cpu).expect("numbers")
                };
                for (name, found) in [
                    ("objectives", numbers(|kept| kept.score)),
                    ("log_probs", numbers(|kept| kept.log_likelihood)),
                ] {
                    let name = format!("{place}.{name}");
                    check_close(&name, &found, golden.tensor(&name), 100.0 * ROUNDING);
                }
            }
        }
        assert_eq!(recorded.used, uniforms.len(), "{file}");

        let a = golden.integer("action_dim");
        let unbounded = (vec![f32::MIN; a], vec![f32::MAX; a]);
        let planner = LatentPlanner::new(search(&golden, plan), unbounded.0, unbounded.1);
        let mut planner = planner.expect("a planner");
        planner.begin(&starts(&[0])).expect("a start");
        let mut recorded = Recorded { uniforms, used: 0 };
        let mut actions = Vec::new();
        for step in 0..count {
            let observation = observations.narrow(0, step, 1).expect("a row");
            actions.push(
                planner
                    .act_with(&observation, &[true], &mut recorded)
                    .expect("an action"),
            );
        }
        let actions = Tensor::cat(&actions, 0).expect("actions");
        let name = format!("plan.{which}.actions");
        // What a policy gives out is f32.
        check_close(&name, &actions, golden.tensor(&name), 1e-6);
    }
}

/// Of the authors' plans and draws: each code's likelihood is held to the threshold by itself. What a code costs is the difference of two
/// log-likelihoods that the history has.
#[test]
fn a_threshold_of_each_code_lets_no_likely_code_make_up_for_an_unlikely_one() {
    let golden = Golden::load("tap");
    let mut plan = golden.constants["plans"]["a"].clone();
    // Above the uniform one of a code, so that some are on either side.
    let threshold = 1.5 / golden.integer("codes") as f64;
    plan["prob_threshold"] = threshold.into();
    let weight = plan["likelihood_weight"].as_f64().expect("a weight");
    let o = golden.integer("observation_dim");
    let observation = golden.numbers("plan.observations")[..o].to_vec();
    let observation: Vec<f32> = observation.into_iter().map(|x| x as f32).collect();
    let histories = [LikelihoodOf::Plan, LikelihoodOf::Code].map(|likelihood_of| {
        let ours = LatentPlanConfig {
            likelihood_of,
            ..LatentPlanConfig::default()
        };
        let mut recorded = Recorded {
            uniforms: golden.numbers("plan.a.uniforms"),
            used: 0,
        };
        search_with(&golden, &plan, ours)
            .plan(&observation, 0, &mut recorded)
            .expect("a plan")
            .history
    });
    // Sequences that both searches keep are worth the same but for the last term.
    let codes = histories[0].len();
    let mut compared = [[0, 0], [0, 0]];
    for at in 0..codes {
        for kept in &histories[1][at] {
            let of_plan = histories[0][at].iter().find(|it| it.codes == kept.codes);
            let Some(of_plan) = of_plan else { continue };
            // What each code costs is the difference of two log-likelihoods of the history.
            let mut before = 0.0;
            let mut capped = 0.0;
            for (upto, layer) in histories[1][..=at].iter().enumerate() {
                let part = &kept.codes[..=upto];
                let part = layer.iter().find(|it| it.codes == part);
                let so_far = part.expect("it stayed").log_likelihood;
                capped += (so_far - before).min(threshold.ln());
                before = so_far;
            }
            let of_whole = kept.log_likelihood.min(codes as f64 * threshold.ln());
            let expected = of_plan.score + weight * (capped - of_whole);
            assert!((kept.score - expected).abs() < 1e-9 * expected.abs().max(1.0));
            let sure = capped > kept.log_likelihood - 1e-12;
            compared[usize::from(at > 0)][usize::from(sure)] += 1;
        }
    }
    assert!(
        compared.iter().all(|of| of.iter().sum::<i32>() > 0),
        "{compared:?}"
    );
    assert!(compared.iter().any(|of| of[0] > 0), "{compared:?}");
}

/// The file's episodes.
fn episodes(golden: &Golden) -> Dataset {
    let (o, a) = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let singles = |name: &str| {
        golden
            .numbers(name)
            .into_iter()
            .map(|x| x as f32)
            .collect::<Vec<f32>>()
    };
    let terminals = golden.numbers("terminals");
    let mut start = 0;
    let lengths = golden.constants["lengths"].as_array().expect("lengths");
    let episodes = lengths.iter().map(|length| {
        let steps = length.as_u64().expect("a length") as usize;
        let first = start;
        start += steps;
        let terminated = terminals[start - 1] == 1.0;
        Episode {
            terminated,
            truncated: !terminated,
            ..Episode::new(first, steps)
        }
    });
    Dataset {
        action_kind: ActionKind::Continuous,
        observations: singles("observations"),
        actions: singles("actions"),
        rewards: singles("rewards"),
        episodes: episodes.collect(),
        ..dataset::Dataset::blank(o, a)
    }
}

#[test]
fn windows_of_data_are_the_authors() {
    let golden = Golden::load("tap_windows");
    let data = episodes(&golden);
    for (name, penalty) in [("penalty", Some(golden.number("penalty"))), ("plain", None)] {
        let path = golden.constants["max_path"][name].as_u64().expect("steps") as usize;
        let options = WindowOptions {
            window_transitions: golden.integer("window"),
            discount: golden.number("discount"),
            termination_penalty: penalty,
            max_path_steps: Some(path),
        };
        let windows = StepWindows::new(&data, &options, "TAP", &Device::Cpu).expect("windows");
        assert_eq!(
            windows.len(),
            golden.tensor(&format!("{name}.starts")).elem_count()
        );
        let all: Vec<usize> = (0..windows.len()).collect();
        let found = windows.batch(&all).expect("a batch");
        for (part, found) in [
            ("joined", found.joined),
            ("terminals", found.terminals),
            ("mask", found.mask),
            ("mean", windows.normalizer().mean().clone()),
            ("std", windows.normalizer().scale().clone()),
        ] {
            let part = format!("{name}.{part}");
            check_close(&part, &found, golden.tensor(&part), STATISTICS);
        }
    }
    let different = relative_maximum(
        golden.tensor("plain.joined"),
        golden.tensor("penalty.joined"),
    );
    assert!(different > 0.1, "the penalty changes nothing");
}
