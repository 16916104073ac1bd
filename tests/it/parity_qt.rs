//! QT against the authors' PyTorch: losses by term, gradients, ten updates of their trainer with its schedules and slow copies, and
//! actions by each of their options.

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::Stage;
use trajformer::algorithms::qt::{
    ActingDraws, Backup, CandidateReturns, Choice, Draws, History, Learner, QtConfig, Windows,
    choose,
};
use trajformer::metrics::Metrics;
use trajformer_core::schedules::DecayUpdates;
use trajformer_models::decision_transformer::{Contexts, DecisionTransformer};
use trajformer_models::dropout::Dropout;
use trajformer_models::params::Params;
use trajformer_models::rng::Rng;
use trajformer_models::twin_critics::TwinCritics;

use crate::golden::{Golden, check_close};
use crate::parity::{
    EXACT, EXACT_CHANGES, SINGLE, SINGLE_CHANGES, check_changes, check_gradients, check_metric,
    set_parameters,
};

/// The trunk is called `transformer` by the authors; what they do with rewards is for an option that is left out.
fn name(name: &str) -> Option<String> {
    if name.contains("_rewards.") {
        return None;
    }
    Some(match name.strip_prefix("transformer.") {
        Some(rest) => format!("encoder.{rest}"),
        None => name.to_owned(),
    })
}

/// What is trained: their slow copy of the unused table changes by rounding, and ours stays.
fn trained(authors: &str) -> Option<String> {
    (authors != "transformer.wte.weight")
        .then(|| name(authors))
        .flatten()
}

fn same(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// All but a key's bias, the middle third, whose gradient is zero in exact arithmetic.
fn compared(name: &str, tensor: &Tensor) -> Option<Tensor> {
    if !name.ends_with("attn.c_attn.bias") {
        return Some(tensor.clone());
    }
    let width = tensor.elem_count() / 3;
    let part = |i: usize| tensor.narrow(0, i * width, width).expect("a part");
    Some(Tensor::cat(&[part(0), part(2)], 0).expect("parts"))
}

fn all(_: &str, tensor: &Tensor) -> Option<Tensor> {
    Some(tensor.clone())
}

/// Sizes, and what the authors' code does otherwise than the defaults.
fn config(golden: &Golden) -> QtConfig {
    let width = golden.integer("width");
    QtConfig {
        context_steps: golden.integer("context"),
        layers: golden.integer("layers"),
        heads: golden.integer("heads"),
        embedding: width,
        critic_hidden: vec![width; 3],
        max_episode_steps: golden.integer("longest_episode"),
        dropout: 0.0,
        return_scale: golden.number("scale"),
        terminal_rewards: false,
        candidate_returns: CandidateReturns::Authors,
        ..QtConfig::default()
    }
}

fn training(golden: &Golden) -> QtConfig {
    let flag = |constant: &str| golden.constants[constant].as_bool().expect("a flag");
    let iteration = golden.integer("iteration") as u64;
    QtConfig {
        learning_rate: golden.number("lr"),
        // The authors' rate is a constant in the trainer.
        critic_learning_rate: 3e-4,
        decay_updates: DecayUpdates::Updates(iteration * golden.integer("lr_maxt") as u64),
        decay_every: iteration,
        weight_decay: golden.number("weight_decay"),
        clip_norm: golden.number("grad_norm"),
        discount: golden.number("discount"),
        target_rate: golden.number("tau"),
        average_rate: 1.0 - golden.number("ema_decay"),
        average_from: golden.integer("step_start_ema") as u64,
        average_every: golden.integer("update_ema_every") as u64,
        eta: golden.number("eta"),
        imitation_weight: golden.number("eta2"),
        backup: if flag("k_rewards") {
            Backup::Window
        } else {
            Backup::Step
        },
        max_backup: flag("max_q_backup"),
        ..config(golden)
    }
}

/// Parameters of actor and critics, as the golden run starts.
fn start(golden: &Golden, config: &QtConfig, dtype: DType) -> (Params, Params) {
    let (o, a) = (golden.integer("state_dim"), golden.integer("action_dim"));
    let rng = &mut Rng::from_seed(0);
    let (mut actor, mut critics) = (
        Params::new(dtype, &Device::Cpu),
        Params::new(dtype, &Device::Cpu),
    );
    DecisionTransformer::new(&config.sizes(o, a), &mut actor.init(rng)).expect("an actor");
    TwinCritics::new(&config.critic_sizes(o, a), &mut critics.init(rng)).expect("critics");
    set_parameters(&actor, golden, "actor.", name);
    set_parameters(&critics, golden, "critic.", same);
    assert_eq!(critics.len(), golden.under("critic.").count());
    (actor, critics)
}

fn windows(golden: &Golden, dtype: DType, step: usize) -> Windows {
    let row = |tensor: &str| {
        golden
            .tensor(&format!("steps.{tensor}"))
            .get(step)
            .expect("a step")
    };
    let float = |tensor: &str| {
        row(tensor)
            .to_dtype(dtype)
            .and_then(|x| x.contiguous())
            .expect("numbers")
    };
    let k = golden.integer("context");
    let column = |tensor: &str| float(tensor).squeeze(2).expect("one number a step");
    Windows {
        contexts: Contexts {
            returns: float("rtg")
                .narrow(1, 0, k)
                .and_then(|x| x.contiguous())
                .expect("returns"),
            observations: float("states"),
            actions: float("actions"),
            timesteps: row("timesteps").contiguous().expect("time steps"),
            mask: float("mask"),
            instructions: None,
        },
        rewards: column("rewards"),
        terminated: column("dones").get_on_dim(1, k - 1).expect("ends"),
    }
}

fn draws(golden: &Golden, step: usize) -> Draws {
    let noise = match golden.under("steps.noise").next() {
        Some((_, noise)) => noise
            .get(step)
            .and_then(|row| row.to_vec1())
            .expect("normals"),
        None => Vec::new(),
    };
    Draws {
        climbs_first: golden.numbers("steps.uniform")[step] > 0.5,
        noise,
        target_dropout: Dropout::off(),
        dropout: Dropout::off(),
    }
}

fn check(file: &str, dtype: DType, (tolerance, change_tolerance): (f64, f64)) {
    let golden = Golden::load(file);
    let config = training(&golden);
    let dims = (golden.integer("state_dim"), golden.integer("action_dim"));
    let params = start(&golden, &config, dtype);
    let mut learner = Learner::new(&config, dims, params, 12, Stage::Learning).expect("a learner");
    let (batch, first) = (windows(&golden, dtype, 0), draws(&golden, 0));
    let loss = learner
        .critic_loss(&batch, &first, &mut Metrics::new())
        .expect("a loss");
    let gradients = loss.backward().expect("gradients");
    check_gradients(
        learner.params().1,
        &gradients,
        &golden,
        ("critic_grad.", same, all),
        tolerance,
    );

    let steps = golden.dims("steps.lr")[0];
    let update = |step| learner.update(&windows(&golden, dtype, step), &draws(&golden, step));
    let metrics: trajformer::Result<Vec<Metrics>> = (0..steps).map(update).collect();
    let metrics = metrics.expect("ten updates");
    for (ours, theirs) in [
        ("critic_loss", "critic_loss"),
        ("critic_gradient_norm", "critic_norm"),
        ("actor_loss", "actor_loss"),
        ("action_loss", "action_loss"),
        ("value_loss", "ql_loss"),
        ("gradient_norm", "actor_norm"),
    ] {
        check_metric(
            &metrics,
            ours,
            golden.tensor(&format!("steps.{theirs}")),
            tolerance,
        );
    }
    // The authors log imitation's two terms as one.
    for (step, expected) in golden.numbers("steps.bc_loss").into_iter().enumerate() {
        let values = metrics[step].values().expect("numbers");
        let value = |name: &str| {
            values
                .iter()
                .find(|(other, _)| *other == name)
                .expect("a term")
                .1
        };
        let found = value("action_loss") + value("observation_loss");
        assert!(
            (found / expected - 1.0).abs() < tolerance,
            "imitation {step}: {found} {expected}"
        );
    }
    let (slow_actor, slow_critics) = learner.slow_params().expect("slow copies");
    let (actor, critics) = learner.params();
    for (params, before, after, names) in [
        (
            actor,
            "actor.",
            "after.actor.",
            name as fn(&str) -> Option<String>,
        ),
        (critics, "critic.", "after.critic.", same),
        (slow_actor, "actor.", "after.slow_actor.", trained),
        (slow_critics, "critic.", "after.slow_critic.", same),
    ] {
        check_changes(
            params,
            &golden,
            (before, after, names, all),
            change_tolerance,
        );
    }
}

const DOUBLE: (f64, f64) = (EXACT, EXACT_CHANGES);

#[test]
fn updates_agree_with_the_authors_in_double_precision() {
    check("qt_hopper", DType::F64, DOUBLE);
}

#[test]
fn the_largest_of_ten_futures_agrees_with_the_authors() {
    check("qt_backup", DType::F64, DOUBLE);
}

#[test]
fn targets_of_one_step_agree_with_the_authors() {
    check("qt_step", DType::F64, DOUBLE);
}

#[test]
fn all_agree_with_the_authors_in_single_precision() {
    for file in ["qt_hopper", "qt_backup", "qt_step"] {
        check(file, DType::F32, (SINGLE, SINGLE_CHANGES));
    }
}

/// The gradient of the actor's first loss: with the critics after their first step.
#[test]
fn the_actors_gradient_agrees_with_the_authors() {
    for file in ["qt_hopper", "qt_backup", "qt_step"] {
        let golden = Golden::load(file);
        let config = training(&golden);
        let dims = (golden.integer("state_dim"), golden.integer("action_dim"));
        let params = start(&golden, &config, DType::F64);
        let mut learner =
            Learner::new(&config, dims, params, 12, Stage::Learning).expect("a learner");
        learner
            .update(&windows(&golden, DType::F64, 0), &draws(&golden, 0))
            .expect("an update");
        let critics = learner.params().1.deep_copy(true).expect("a copy");
        let (actor, _) = start(&golden, &config, DType::F64);
        let learner =
            Learner::new(&config, dims, (actor, critics), 12, Stage::Learning).expect("a learner");
        let (batch, first) = (windows(&golden, DType::F64, 0), draws(&golden, 0));
        let loss = learner
            .actor_loss(&batch, &first, &mut Metrics::new())
            .expect("a loss");
        let gradients = loss.backward().expect("gradients");
        check_gradients(
            learner.params().0,
            &gradients,
            &golden,
            ("actor_grad.", name, compared),
            EXACT,
        );
    }
}

#[test]
fn acting_gives_the_authors_actions() {
    let golden = Golden::load("qt_acting");
    let base = config(&golden);
    let (actor, critics) = start(&golden, &base, DType::F64);
    let (o, a) = (golden.integer("state_dim"), golden.integer("action_dim"));
    let actor =
        DecisionTransformer::new(&base.sizes(o, a), &mut actor.detached()).expect("an actor");
    let critics =
        TwinCritics::new(&base.critic_sizes(o, a), &mut critics.detached()).expect("critics");
    let cases = golden.constants["cases"].as_array().expect("cases");
    for (number, case) in cases.iter().enumerate() {
        let integer = |key: &str| case[key].as_u64().expect("a number") as usize;
        let flag = |key: &str| case[key].as_bool().expect("a flag");
        let single = |tensor: &str| -> Vec<f32> {
            let numbers = golden.numbers(&format!("case{number}.{tensor}"));
            numbers.into_iter().map(|number| number as f32).collect()
        };
        let (length, k) = (integer("length"), base.context_steps);
        let left_out = length.saturating_sub(k);
        let rows = |tensor: &str, width: usize| {
            let rows = single(tensor);
            rows.chunks(width)
                .skip(left_out)
                .map(<[f32]>::to_vec)
                .collect()
        };
        let returns = single("returns");
        let returns = returns
            .chunks(length)
            .map(|row| row[left_out..].iter().copied().collect());
        let history = History {
            returns: returns.collect(),
            observations: rows("states", o),
            actions: rows("actions", a),
            reward: if length > 1 {
                single("rewards")[length - 2]
            } else {
                0.0
            },
            time: golden.integer("first_time") + length - 1,
        };
        let options = QtConfig {
            critic_return: !flag("no_q"),
            choice: if flag("first") {
                Choice::First
            } else {
                Choice::Weighted
            },
            ..base.clone()
        };
        let draws = ActingDraws {
            histories: single("histories"),
            noise: single("noise"),
            uniform: golden.numbers(&format!("case{number}.uniform"))[0],
        };
        let networks = (&actor, &critics);
        let action = choose(
            networks,
            &options.acting(),
            &history,
            &draws,
            (DType::F64, &Device::Cpu),
        );
        let found = Tensor::new(action.expect("an action"), &Device::Cpu).expect("a row");
        let expected = golden.tensor(&format!("case{number}.action"));
        check_close(&format!("action of case {number}"), &found, expected, EXACT);
    }
}

/// By hand, with a discount of a half: a window of two steps that ends a task with rewards 1 and 10.
#[test]
fn a_reward_that_comes_with_the_end_counts_unless_it_is_to_be_as_the_authors() {
    let base = QtConfig {
        context_steps: 2,
        layers: 1,
        heads: 1,
        embedding: 4,
        critic_hidden: vec![4],
        max_episode_steps: 5,
        dropout: 0.0,
        discount: 0.5,
        ..QtConfig::default()
    };
    let device = &Device::Cpu;
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F64, device).expect("zeros");
    let row = |values: [f64; 2]| Tensor::new(&[values], device).expect("a row");
    let windows = Windows {
        contexts: Contexts {
            returns: zeros(&[1, 2, 1]),
            observations: zeros(&[1, 2, 3]),
            actions: zeros(&[1, 2, 1]),
            timesteps: Tensor::new(&[[0u32, 1]], device).expect("time steps"),
            mask: row([1.0, 1.0]),
            instructions: None,
        },
        rewards: row([1.0, 10.0]),
        terminated: Tensor::new(&[1f64], device).expect("an end"),
    };
    // The mean of 1 + 10 / 2 and 10; or of the first step alone, without the last reward.
    for (terminal_rewards, expected) in [(true, 8.0), (false, 1.0)] {
        let config = QtConfig {
            terminal_rewards,
            ..base.clone()
        };
        let rng = &mut Rng::from_seed(0);
        let (mut actor, mut critics) = (
            Params::new(DType::F64, device),
            Params::new(DType::F64, device),
        );
        DecisionTransformer::new(&config.sizes(3, 1), &mut actor.init(rng)).expect("an actor");
        TwinCritics::new(&config.critic_sizes(3, 1), &mut critics.init(rng)).expect("critics");
        let learner = Learner::new(&config, (3, 1), (actor, critics), 10, Stage::Learning)
            .expect("a learner");
        let draws = Draws {
            climbs_first: true,
            noise: Vec::new(),
            target_dropout: Dropout::off(),
            dropout: Dropout::off(),
        };
        let mut metrics = Metrics::new();
        learner
            .critic_loss(&windows, &draws, &mut metrics)
            .expect("a loss");
        let values = metrics.values().expect("numbers");
        let (_, mean) = values
            .iter()
            .find(|(name, _)| *name == "target_q_mean")
            .expect("targets");
        assert!(
            (mean - expected).abs() < 1e-12,
            "{terminal_rewards}: {mean}"
        );
    }
}
