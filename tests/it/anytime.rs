//! Plans within a budget: a budget for everything changes nothing, one of time is kept, and a cut search promises no less than going on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Tensor};
use trajformer::clock::Clock;
use trajformer::config::RunConfig;
use trajformer::planning::{
    Allowance, BeamPlanner, BeamSearch, Budget, Companion, PlanConfig, Prefix, Window,
};
use trajformer::policy::{Decision, PlanOrigin, Policy};
use trajformer::rng::Rng;

use crate::planner::{Tiny, random_prefix, roll_out, small, starts, streams, tiny};

/// f64 sums of a few hundred terms, in another order.
const ROUNDING: f64 = 1e-12;
/// What the whole search of `small` samples: 5 ((2 + 2) 2 · 4 + 3 · 3).
const WHOLE: u64 = 5 * (4 * 2 * 4 + 3 * 3);

/// A clock that each look at it sets forward, by 1 ms to 1.5 ms in turn.
#[derive(Debug, Clone, Default)]
struct Ticking {
    looks: Arc<AtomicU64>,
    /// Milliseconds for one millisecond, from the look of this number on.
    slow: Option<(u64, f64)>,
}

impl Clock for Ticking {
    fn seconds(&self) -> f64 {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let tick = |look: u64| {
            let factor = self
                .slow
                .filter(|slow| look >= slow.0)
                .map_or(1.0, |slow| slow.1);
            factor * (1e-3 + 1e-4 * (look % 6) as f64)
        };
        (0..looks).map(tick).sum()
    }
}

fn within(config: PlanConfig, tokens: u64) -> PlanConfig {
    PlanConfig {
        budget_tokens: Some(tokens),
        ..config
    }
}

/// What remains of a plan for `prefix` after one step.
fn rest(search: &mut BeamSearch<f64>, prefix: &Prefix, seed: u64) -> Vec<u32> {
    let prefixes = std::slice::from_ref(prefix);
    let plans = search
        .plan(prefixes, &mut streams(&[seed]))
        .expect("a plan");
    plans[0].tokens[7..4 * 7].to_vec()
}

fn companion(rest: &[u32], prefix: &Prefix, promised: f64) -> Option<Companion> {
    Companion::new(rest, 7, &prefix.tokens[prefix.tokens.len() - 3..], promised)
}

#[test]
fn a_budget_for_everything_gives_the_same_bits_as_none() {
    for window in [Window::Crop, Window::Grow] {
        for every in [1, 3] {
            let config = PlanConfig {
                plan_every_steps: every,
                ..small(window)
            };
            let free = roll_out(&config, &[1, 2, 3], (1, 4));
            let whole = roll_out(&within(config.clone(), WHOLE), &[1, 2, 3], (1, 4));
            assert_eq!(free, whole, "{window:?}");
            let less = roll_out(&within(config, WHOLE - 1), &[1, 2, 3], (1, 4));
            assert_ne!(free, less, "{window:?}: the budget must matter");
        }
    }
}

#[test]
fn a_budget_of_tokens_gives_the_same_bits_beside_others_and_on_any_number_of_threads() {
    let config = within(small(Window::Crop), 90);
    let together = roll_out(&config, &[1, 2, 3], (1, 4));
    for threads in 1..4 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let alone = pool
            .expect("threads")
            .install(|| roll_out(&config, &[3], (9, 0)));
        for (step, (together, alone)) in together.iter().zip(&alone).enumerate() {
            assert_eq!(together[2], alone[0], "step {step}, {threads} threads");
        }
    }
}

#[test]
fn a_search_that_is_cut_to_nothing_goes_on_with_the_plan_before() {
    let tiny = tiny(3, 2, 8);
    let mut search = tiny.search::<f64>(false, small(Window::Crop));
    let before = random_prefix(&mut Rng::from_seed(1), 1);
    let rest = rest(&mut search, &before, 5);
    let now = random_prefix(&mut Rng::from_seed(2), 2);
    let mut allowance = Allowance::new(Budget::Tokens(1), None);
    let going_on = companion(&rest, &now, 0.25);
    let found = search.plan_within(&now, going_on, &mut streams(&[6]), &mut allowance);
    let (plan, decision) = found.expect("a plan");
    assert_eq!(plan.tokens[..3], now.tokens[14..], "what is seen now");
    assert_eq!(plan.tokens[3..], rest[3..]);
    let expected = Decision {
        origin: PlanOrigin::WentOn,
        beams: 0,
        transitions: 3,
        tokens: 0,
        seconds: None,
        predicted_return: 0.25,
    };
    assert_eq!(decision, expected);
    // Without one, the narrowest search imagines one transition all the same.
    let found = search.plan_within(&now, None, &mut streams(&[6]), &mut allowance);
    let (plan, decision) = found.expect("a plan");
    assert_eq!(
        (decision.origin, decision.transitions),
        (PlanOrigin::Cut, 1)
    );
    assert_eq!(plan.tokens[..3], now.tokens[14..]);
}

/// The return that `actions` promise, by forward passes over everything: everything else is what is likeliest.
fn promised(tiny: &Tiny, prefix: &Prefix, rest: &[u32], transitions: usize) -> f64 {
    let (d, kept) = (7, 3 * 7 - 1);
    let mut tokens = prefix.tokens.clone();
    let (mut earned, mut score) = (0.0, 0.0);
    for t in 0..transitions {
        let discount = 0.9f64.powi(t as i32);
        for place in if t == 0 { 3..d } else { 0..d } {
            let cut = tokens.len().saturating_sub(kept).next_multiple_of(d);
            let logits = tiny.logits(&tokens[cut..], None);
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let probabilities: Vec<f64> = logits.iter().map(|logit| logit.exp() / sum).collect();
            if place == 5 {
                earned += discount * tiny.discretizer.expectation(&probabilities, 5);
            }
            if place == 6 {
                score = earned + discount * 0.9 * tiny.discretizer.expectation(&probabilities, 6);
            }
            let likeliest = (0..8).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            tokens.push(match place {
                3 | 4 => rest[t * d + place],
                _ => likeliest.expect("a token") as u32,
            });
        }
    }
    score
}

#[test]
fn a_cut_search_promises_no_less_than_going_on() {
    let tiny = tiny(3, 2, 8);
    let mut search = tiny.search::<f64>(false, small(Window::Crop));
    let (mut went_on, mut cut) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng::from_seed(seed);
        let before = random_prefix(&mut rng, 1);
        let rest = rest(&mut search, &before, seed);
        let now = random_prefix(&mut rng, 2);
        let budget = 8 + rng.below(WHOLE as usize - 8) as u64;
        let mut allowance = Allowance::new(Budget::Tokens(budget), None);
        let going_on = companion(&rest, &now, f64::INFINITY);
        let found = search.plan_within(&now, going_on, &mut streams(&[seed]), &mut allowance);
        let (plan, decision) = found.expect("a plan");
        assert!(decision.tokens <= budget, "{decision:?}");
        let scored = decision.transitions.min(3);
        match decision.origin {
            PlanOrigin::WentOn => {
                went_on += 1;
                // Imagined anew as far as the search went.
                let far = (1..=3).map(|t| promised(&tiny, &now, &rest, t));
                let mut errors = far.map(|promised| (plan.scores[0] - promised).abs());
                assert!(errors.any(|error| error < ROUNDING), "{plan:?}");
                let actions = |tokens: &[u32]| -> Vec<u32> {
                    tokens.chunks(7).flat_map(|t| t[3..5].to_vec()).collect()
                };
                assert_eq!(actions(&plan.tokens), actions(&rest));
            }
            PlanOrigin::Cut => {
                cut += 1;
                let least = promised(&tiny, &now, &rest, scored);
                assert!(plan.scores[0] >= least - ROUNDING, "{decision:?} {least}");
            }
            PlanOrigin::Full => panic!("{budget} of {WHOLE} tokens are not everything"),
        }
        assert_eq!(decision.predicted_return, plan.scores[0]);
    }
    assert!(went_on > 5 && cut > 5, "{went_on} and {cut}");
}

/// Decisions of an episode with this clock.
fn decisions(budget_ms: f64, clock: Ticking, steps: usize) -> Vec<Decision> {
    let config = PlanConfig {
        budget_ms: Some(budget_ms),
        ..small(Window::Crop)
    };
    let search = tiny(17, 2, 8).search::<f32>(false, config);
    let planner = BeamPlanner::new(search, vec![-0.5; 2], vec![0.5; 2]);
    let mut planner = planner.expect("a planner").with_clock(Arc::new(clock));
    planner.begin(&starts(&[4])).expect("a start");
    for step in 0..steps {
        let numbers = (0..3).map(|i| ((3 * step + i) as f32).sin()).collect();
        let observation = Tensor::from_vec::<_, f32>(numbers, (1, 3), &Device::Cpu);
        let observation = observation.expect("numbers");
        planner.act(&observation, &[true]).expect("an action");
        planner.observe(&[0.5]).expect("a reward");
    }
    planner.decisions().to_vec()
}

#[test]
fn a_budget_of_time_is_kept_and_used() {
    // A look at the clock takes a millisecond or more, a call of the network three looks: the whole search about 25 calls.
    for budget_ms in [100.0, 150.0, 400.0] {
        let found = decisions(budget_ms, Ticking::default(), 60);
        assert_eq!(found.len(), 60);
        let late = |decision: &Decision| decision.seconds.expect("a clock") > budget_ms / 1e3;
        let late: Vec<&Decision> = found.iter().filter(|decision| late(decision)).collect();
        assert!(late.is_empty(), "{budget_ms} ms: {late:?}");
        let used: f64 = found[10..].iter().filter_map(|d| d.seconds).sum();
        let least = 0.3 * 50.0 * budget_ms.min(150.0) / 1e3;
        assert!(used > least, "{used} s of {budget_ms} ms each");
    }
    let plenty = decisions(1e6, Ticking::default(), 20);
    assert!(
        plenty.iter().all(|d| d.origin == PlanOrigin::Full),
        "{plenty:?}"
    );
    assert_eq!(plenty[19].beams, 5);
}

#[test]
fn a_machine_that_slows_down_is_late_until_each_width_was_measured_again() {
    let clock = Ticking {
        slow: Some((2_000, 3.0)),
        ..Ticking::default()
    };
    let found = decisions(150.0, clock, 120);
    let late: Vec<usize> = (0..found.len())
        .filter(|&i| found[i].seconds.expect("a clock") > 0.15)
        .collect();
    assert!(late.len() <= 5 && late.iter().all(|&i| i < 60), "{late:?}");
    // A call that no longer fits is not made: the rest of a transition, 80 ms now, would be later still.
    let latest = found.iter().filter_map(|decision| decision.seconds);
    let latest = latest.fold(0.0, f64::max);
    assert!(latest < 0.19, "{latest}");
    assert!(found[119].tokens < found[10].tokens, "{:?}", found[119]);
}

#[test]
fn a_budget_that_is_too_small_for_a_transition_is_missed_once_per_horizon() {
    let found = decisions(5.0, Ticking::default(), 12);
    for (step, decision) in found.iter().enumerate() {
        let late = decision.seconds.expect("a clock") > 5e-3;
        assert_eq!(late, step % 4 == 0, "step {step}: {found:?}");
        let expected = if late {
            PlanOrigin::Cut
        } else {
            PlanOrigin::WentOn
        };
        assert_eq!(
            (decision.origin, decision.transitions),
            (expected, 4 - step % 4)
        );
    }
}

#[test]
fn a_plan_that_was_cut_short_is_followed_by_the_next_one() {
    // One transition is all that fits: three steps per plan can't be.
    let config = PlanConfig {
        plan_every_steps: 3,
        ..within(small(Window::Crop), 8)
    };
    let search = tiny(17, 2, 8).search::<f32>(false, config);
    let mut planner = BeamPlanner::new(search, vec![-9.0; 2], vec![9.0; 2]).expect("a planner");
    planner.begin(&starts(&[5, 6])).expect("a start");
    for _ in 0..4 {
        let observation = Tensor::full(0.25f32, (2, 3), &Device::Cpu).expect("numbers");
        planner.act(&observation, &[true, true]).expect("actions");
        let imagined = planner.imagined(1).expect("tensors").expect("a plan");
        assert_eq!(imagined.rewards.dims(), [1, 1]);
        planner.observe(&[0.5, 0.5]).expect("rewards");
    }
    assert_eq!(planner.decisions().len(), 8);
    let summary = planner.planning().expect("plans");
    assert_eq!((summary.cut, summary.transitions_mean), (1.0, 1.0));
    assert_eq!((summary.budget_ms, summary.p50_ms), (None, None));
}

#[test]
fn plans_are_compared_with_full_ones_without_changing_what_follows() {
    let act = |compares: bool| {
        let search = tiny(17, 2, 8).search::<f32>(false, within(small(Window::Crop), 90));
        let planner = BeamPlanner::new(search, vec![-9.0; 2], vec![9.0; 2]);
        let mut planner = planner.expect("a planner");
        planner.begin(&starts(&[5, 6])).expect("a start");
        let mut actions = Vec::new();
        for step in 0..4 {
            let observation = Tensor::full(step as f32 / 4.0, (2, 3), &Device::Cpu);
            let action = planner.act(&observation.expect("numbers"), &[true, true]);
            actions.push(action.expect("actions").to_vec2::<f32>().expect("numbers"));
            if compares {
                planner.compare_plans().expect("plans");
            }
            planner.observe(&[0.5, 0.25]).expect("rewards");
        }
        (actions, planner.planning().expect("plans"))
    };
    let ((alone, without), (compared, with)) = (act(false), act(true));
    assert_eq!(alone, compared);
    assert_eq!((without.compared, with.compared), (0, 8));
    assert_eq!(without.full_return_mean, None);
    // A full search promises what it finds, whichever that is; the same plans were made.
    assert!(with.full_return_mean.expect("a mean").is_finite());
    assert_eq!(with.compared_return_mean, Some(with.predicted_return_mean));
}

#[test]
fn budgets_that_make_no_sense_say_what_to_do() {
    let problem = |keys: &str| {
        let text = format!("[algorithm.trajectory_transformer.planner]\n{keys}\n");
        let config = RunConfig::parse(&text).and_then(|config| config.check());
        config.expect_err("must not be").to_string()
    };
    for (keys, words) in [
        (
            "budget_ms = 0.0",
            "`algorithm.trajectory_transformer.planner.budget_ms`",
        ),
        ("budget_tokens = 0", "budget_tokens"),
        ("budget_ms = 1.0\nbudget_tokens = 9", "leave one out"),
        (
            "budget_ms = 1.0\nobjective = \"likelihood\"",
            "has no budget",
        ),
        ("value = \"critic\"", "planner.critic` is not set"),
    ] {
        assert!(problem(keys).contains(words), "{}", problem(keys));
    }
    let config = PlanConfig {
        budget_ms: Some(5.0),
        ..small(Window::Crop)
    };
    let search = tiny(17, 2, 8).search::<f32>(false, config);
    let mut planner = BeamPlanner::new(search, vec![-9.0; 2], vec![9.0; 2]).expect("a planner");
    planner.begin(&starts(&[5])).expect("a start");
    let observation = Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu);
    let error = planner.act(&observation.expect("numbers"), &[true]);
    let error = error.expect_err("no clock").to_string();
    assert!(error.contains("needs a clock"), "{error}");
}
