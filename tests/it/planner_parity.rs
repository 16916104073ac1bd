//! The planner beside the authors', with recorded uniforms: planned tokens, values, context and actions over eight environment
//! steps under every setting, and beams by likelihood.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use trajformer::data::discretizer::{Discretizer, DiscretizerKind};
use trajformer::planning::{BeamPlanner, BeamSearch, Objective, PlanConfig, Prefix, SearchModel};
use trajformer::policy::Policy;

use crate::golden::{Golden, check_close};
use crate::planner::{Recorded, config, model, starts};

/// f64 sums over a few hundred terms in another order than PyTorch's: about 1e-13 of the values, ten times that at most.
const ROUNDING: f64 = 1e-12;
/// What a policy gives out is f32: 24 bits.
const SINGLE: f64 = 1e-7;

const FILES: [&str; 3] = ["beam_plan_hopper", "beam_plan_halfcheetah", "beam_options"];

/// Names of a file's settings.
fn settings(golden: &Golden) -> Vec<String> {
    let settings = golden.constants["settings"].as_object().expect("settings");
    assert!(settings.len() > 1);
    settings.keys().cloned().collect()
}

/// The model with the setting's bins: of equal width in `uniform`.
fn model_of(golden: &Golden, which: &str) -> SearchModel<f64> {
    match which {
        "uniform" => SearchModel {
            discretizer: Arc::new(uniform(golden)),
            ..model(golden)
        },
        _ => model(golden),
    }
}

fn uniform(golden: &Golden) -> Discretizer {
    let data = golden.numbers("uniform_discretizer.data");
    let dims = golden.dims("uniform_discretizer.data")[1];
    let fitted = Discretizer::fit(
        &data,
        dims,
        golden.integer("bins"),
        DiscretizerKind::Uniform,
    );
    // The authors' bins stand for their middles, whatever lies in them.
    let fitted = fitted.and_then(|fitted| fitted.with_middles());
    fitted.expect("finite data")
}

fn search(golden: &Golden, which: &str, config: PlanConfig) -> BeamSearch<f64> {
    BeamSearch::new(model_of(golden, which), config).expect("settings that fit")
}

fn without_goal(tokens: Vec<u32>) -> Prefix {
    Prefix {
        tokens,
        goal: None,
        instruction: None,
    }
}

#[test]
fn planned_tokens_and_values_equal_the_authors_under_every_setting() {
    for name in FILES {
        let golden = Golden::load(name);
        for which in settings(&golden) {
            let config = config(&golden, &which);
            let (every, mut search) = (config.plan_every_steps, search(&golden, &which, config));
            let uniforms = golden.numbers(&format!("{which}.uniforms"));
            let mut uniforms = Recorded { uniforms, used: 0 };
            for step in (0..golden.integer("steps")).step_by(every) {
                let place = format!("{name} {which} step {step}");
                let prefix = golden.integers(&format!("{which}.step{step}.prefix"));
                let plans = search.plan(&[without_goal(prefix)], &mut uniforms);
                let plans = plans.expect("a plan");
                let beams = golden.integers(&format!("{which}.step{step}.beams"));
                assert_eq!(plans[0].tokens, beams, "{place}");
                let values = golden.numbers(&format!("{which}.step{step}.values"));
                let found: Vec<f64> = plans[0].history.concat();
                assert_eq!(found.len(), values.len(), "{place}");
                for (found, expected) in found.iter().zip(&values) {
                    let error = (found - expected).abs() / expected.abs();
                    assert!(error < ROUNDING, "{place}: {found} {expected}");
                }
            }
            assert_eq!(uniforms.used, uniforms.uniforms.len(), "{name} {which}");
        }
    }
}

/// The whole policy beside the authors' loop: context from its own actions and the rewards it is
/// told, prefix, plan, action; between plans, the actions of the last one.
#[test]
fn the_policy_acts_as_the_authors_over_eight_environment_steps() {
    for name in FILES {
        let golden = Golden::load(name);
        // All other options say what is searched, not what is done with it.
        let of_acting = |which: &String| {
            name != "beam_options" || ["context", "freq"].iter().any(|part| which.contains(part))
        };
        for which in settings(&golden).into_iter().filter(of_acting) {
            check_acting(&golden, &which, &format!("{name} {which}"));
        }
    }
}

fn check_acting(golden: &Golden, which: &str, name: &str) {
    let (o, a) = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let config = config(golden, which);
    let every = config.plan_every_steps;
    let unbounded = (vec![f32::MIN; a], vec![f32::MAX; a]);
    let search = search(golden, which, config);
    let planner = BeamPlanner::new(search, unbounded.0, unbounded.1);
    let mut planner = planner.expect("a planner");
    planner.begin(&starts(&[0])).expect("a start");
    let uniforms = golden.numbers(&format!("{which}.uniforms"));
    let mut uniforms = Recorded { uniforms, used: 0 };
    for (step, reward) in golden.numbers("rewards").into_iter().enumerate() {
        let place = |what: &str| format!("{name} step {step}: {what}");
        let expected = |what: &str| golden.tensor(&format!("{which}.step{step}.{what}"));
        let observation = golden.tensor("observations").narrow(0, step, 1);
        let observation = observation.expect("a row");
        if step % every == 0 {
            let prefixes = planner.prefixes(&observation, &[true]).expect("a prefix");
            let tokens = expected("prefix").to_vec1::<u32>().expect("tokens");
            assert_eq!(prefixes.len(), 1);
            assert_eq!(prefixes[0].tokens, tokens, "{}", place("prefix"));
        }
        let action = planner.act_with(&observation, &[true], &mut uniforms);
        let action = action.and_then(|x| Ok(x.squeeze(0)?)).expect("an action");
        check_close(&place("action"), &action, expected("action"), SINGLE);
        let imagined = planner.imagined(0).expect("tensors").expect("a plan");
        let column = |x: &Tensor| x.unsqueeze(2).expect("a column");
        for (what, found, first) in [
            ("observations", imagined.observations.clone(), 0),
            ("actions", imagined.actions.clone(), o),
            ("rewards", column(&imagined.rewards), o + a),
            ("values", column(&imagined.values), o + a + 1),
        ] {
            // What the authors have left of the plan: the steps from this one on.
            let best = found.get(0).expect("a beam"); // (horizon, ..)
            let rest = expected("reconstructed").dims()[0];
            let best = best.narrow(0, best.dims()[0] - rest, rest).expect("steps");
            let width = best.dims()[1];
            let expected = expected("reconstructed").narrow(1, first, width);
            check_close(&place(what), &best, &expected.expect("columns"), SINGLE);
        }
        if step % every == 0 {
            let best = Tensor::new(&imagined.scores[..1], &Device::Cpu).expect("a score");
            check_close(&place("score"), &best, expected("best_value"), ROUNDING);
        }
        planner.observe(&[reward as f32]).expect("a reward");
    }
    assert_eq!(uniforms.used, uniforms.uniforms.len(), "{name}");
}

/// Several episodes in one search, prefixes longer than what the network is shown, filters and temperatures.
#[test]
fn beams_by_likelihood_equal_the_authors_token_by_token() {
    let golden = Golden::load("beam_options");
    let (o, longest) = (
        golden.integer("observation_dim"),
        golden.integer("max_context_transitions"),
    );
    let settings = golden.constants["likelihood"]
        .as_object()
        .expect("settings");
    let (mut cropped, mut searches) = (0, 0);
    for (which, setting) in settings {
        let number = |key: &str| setting[key].as_f64().unwrap_or(0.0);
        let (k, cdf) = (number("topk") as usize, number("cdf"));
        let config = PlanConfig {
            horizon: number("horizon") as usize,
            beam_width: number("beam_width") as usize,
            k_obs: k,
            k_act: k,
            k_rew: k,
            cdf_obs: cdf,
            cdf_act: cdf,
            cdf_rew: cdf,
            temperature: number("temperature"),
            max_context_transitions: longest,
            objective: Objective::Likelihood,
            ..PlanConfig::default()
        };
        let of = |episode: usize, what: &str| format!("likelihood.{which}.{episode}.{what}");
        let below = golden.below(&format!("likelihood.{which}."));
        let episodes = below.keys().filter(|key| key.ends_with(".best")).count();
        let prefixes: Vec<Prefix> = (0..episodes)
            .map(|episode| without_goal(golden.integers(&of(episode, "prefix"))))
            .collect();
        let mut search = search(&golden, which, config);
        let mut unused = Recorded {
            uniforms: Vec::new(),
            used: 0,
        };
        let plans = search.plan(&prefixes, &mut unused).expect("plans");
        for (episode, plan) in plans.iter().enumerate() {
            let best = golden.integers(&of(episode, "best"));
            assert_eq!(plan.tokens[..best.len()], best, "{which} {episode}");
            assert_eq!(plan.tokens.len(), plan.scores.len() * best.len(), "{which}");
            let mut expected = golden.numbers(&of(episode, "history")).into_iter();
            let counts = golden.integers(&of(episode, "counts"));
            assert_eq!(counts.len(), best.len() - o, "{which} {episode}");
            for (token, (kept, count)) in plan.history.iter().zip(&counts).enumerate() {
                assert_eq!(
                    kept.len(),
                    *count as usize,
                    "{which} {episode} token {token}"
                );
                for (found, expected) in kept.iter().zip(expected.by_ref()) {
                    let error = (found - expected).abs() / expected.abs();
                    assert!(error < ROUNDING, "{which} {episode}: {found} {expected}");
                }
            }
            assert_eq!(expected.next(), None, "{which} {episode}");
            let scores = golden.numbers(&of(episode, "scores"));
            assert_eq!(plan.history.last(), Some(&plan.scores));
            assert_eq!(plan.scores.len(), scores.len(), "{which} {episode}");
            searches += 1;
            let whole = prefixes[episode].tokens.len() + best.len() - o;
            cropped +=
                usize::from(whole > golden.integers(&of(episode, "longest"))[0] as usize + 1);
        }
    }
    assert!(searches > 10 && cropped > 5, "{searches} {cropped}");
}

/// Thresholds are NumPy's, tokens and what they stand for the authors' on them: their own class knows quantiles only.
#[test]
fn bins_of_equal_width_equal_numpys_and_are_used_as_the_authors_use_theirs() {
    let golden = Golden::load("beam_options");
    let discretizer = uniform(&golden);
    let dims = discretizer.dims();
    let of = |what: &str| format!("uniform_discretizer.{what}");
    let close = |found: f64, expected: f64, scale: f64, place: &str| {
        assert!(
            (found - expected).abs() <= ROUNDING * scale,
            "{place}: {found} {expected}"
        );
    };
    for (at, expected) in golden.numbers(&of("thresholds")).into_iter().enumerate() {
        let thresholds = discretizer.thresholds(at % dims);
        let span = thresholds[thresholds.len() - 1] - thresholds[0];
        close(thresholds[at / dims], expected, span, "threshold");
    }
    for (numbers, tokens) in [("data", "indices"), ("queries", "query_indices")] {
        let mut found = Vec::new();
        for row in golden.numbers(&of(numbers)).chunks(dims) {
            discretizer.encode_slice(row, 0, &mut found);
        }
        assert_eq!(found, golden.integers(&of(tokens)), "{numbers}");
    }
    let tokens = golden.integers(&of("query_indices"));
    let decoded = golden.numbers(&of("query_reconstructed"));
    for (at, (&token, expected)) in tokens.iter().zip(decoded).enumerate() {
        close(
            discretizer.decode(token, at % dims),
            expected,
            100.0,
            "decoded",
        );
    }
    let classes = discretizer.bins() + 1;
    let probabilities = golden.numbers(&of("probabilities"));
    for (which, level) in [("mean", None), ("0.5", Some(0.5)), ("0.9", Some(0.9))] {
        let expected = golden.numbers(&of(&format!("value_fn.{which}")));
        for (at, expected) in expected.into_iter().enumerate() {
            let (row, dim) = (&probabilities[at * classes..], dims - 2 + at % 2);
            let found = match level {
                None => discretizer.expectation(row, dim),
                Some(level) => discretizer.percentile(row, level, dim),
            };
            let wraps = level.map(|_| golden.integers(&of(&format!("wraps.{which}")))[at]);
            let expected = match wraps {
                Some(1) => discretizer.decode(0, dim), // deliberate: theirs is the largest threshold
                _ => expected,
            };
            close(found, expected, 100.0, which);
        }
    }
    // Quantiles are something else.
    assert_ne!(
        crate::planner::discretizer(&golden).thresholds(0),
        discretizer.thresholds(0)
    );
}
