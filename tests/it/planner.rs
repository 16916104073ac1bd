//! The beam-search planner against the authors' numbers, and what must hold for any network.

use std::sync::Arc;

use trajformer::data::discretizer::{Discretizer, DiscretizerKind};
use trajformer::planning::sampling::Uniforms;
use trajformer::planning::{BeamSearch, PlanConfig, Prefix};
use trajformer_models::decoder::{Decoder, DecoderShape};

use crate::golden::Golden;

/// Sums in another order than PyTorch's, in f64, through a few hundred additions.
const ROUNDING: f64 = 1e-9;

/// Uniforms that were recorded in the order drawn.
struct Recorded {
    uniforms: Vec<f64>,
    used: usize,
}

impl Uniforms for Recorded {
    fn next(&mut self, _: usize) -> f64 {
        self.used += 1;
        self.uniforms[self.used - 1]
    }
}

fn shape(golden: &Golden) -> DecoderShape {
    DecoderShape {
        transition_tokens: golden.integer("observation_dim") + golden.integer("action_dim") + 2,
        bins: golden.integer("bins"),
        heads: golden.integer("heads"),
    }
}

fn decoder(golden: &Golden) -> Arc<Decoder<f64>> {
    Arc::new(Decoder::new(&golden.below("param."), shape(golden)).expect("golden parameters"))
}

/// The golden thresholds: a quantile table of N rows and their maximum is fitted by its own rows.
fn discretizer(golden: &Golden) -> Arc<Discretizer> {
    let (bins, dims) = (golden.integer("bins"), shape(golden).transition_tokens);
    let rows = golden.numbers("thresholds");
    let fitted = Discretizer::fit(&doubled(&rows, dims), dims, bins, DiscretizerKind::Quantile);
    let fitted = fitted.expect("golden thresholds");
    for (at, expected) in rows.iter().enumerate() {
        assert_eq!(fitted.thresholds(at % dims)[at / dims], *expected);
    }
    Arc::new(fitted)
}

/// Every row but the last twice, the second last once with the maximum: 2 N rows, so that every
/// second one is a threshold.
fn doubled(rows: &[f64], dims: usize) -> Vec<f64> {
    let rows: Vec<&[f64]> = rows.chunks(dims).collect();
    let (maximum, thresholds) = rows.split_last().expect("thresholds");
    let mut doubled: Vec<f64> = thresholds
        .iter()
        .flat_map(|row| [*row, *row].concat())
        .collect();
    let last = doubled.len() - dims;
    doubled[last..].copy_from_slice(maximum);
    doubled
}

fn config(golden: &Golden, which: &str) -> PlanConfig {
    let settings = &golden.constants["settings"][which];
    let count = |key: &str| settings[key].as_u64().unwrap_or(0) as usize;
    let share = |key: &str| settings[key].as_f64().unwrap_or(0.0);
    PlanConfig {
        horizon: count("horizon"),
        beam_width: count("beam_width"),
        n_expand: count("n_expand"),
        k_obs: count("k_obs"),
        k_act: count("k_act"),
        k_rew: count("k_rew"),
        cdf_obs: share("cdf_obs"),
        cdf_act: share("cdf_act"),
        cdf_rew: share("cdf_rew"),
        percentile: settings["percentile"].as_f64(),
        max_context_transitions: golden.integer("max_context_transitions"),
        ..PlanConfig::default()
    }
}

fn search(golden: &Golden, config: PlanConfig) -> BeamSearch<f64> {
    let observation_dim = golden.integer("observation_dim");
    let discount = golden.number("discount");
    BeamSearch::new(
        decoder(golden),
        discretizer(golden),
        observation_dim,
        discount,
        config,
    )
    .expect("settings that fit")
}

fn prefix(golden: &Golden, which: &str, step: usize) -> Prefix {
    Prefix {
        tokens: golden.integers(&format!("{which}.step{step}.prefix")),
        goal: None,
    }
}

#[test]
fn planned_tokens_and_values_equal_the_authors_over_eight_environment_steps() {
    for name in ["beam_plan_hopper", "beam_plan_halfcheetah"] {
        let golden = Golden::load(name);
        for which in ["a", "b"] {
            let mut search = search(&golden, config(&golden, which));
            let uniforms = golden.numbers(&format!("{which}.uniforms"));
            let mut uniforms = Recorded { uniforms, used: 0 };
            for step in 0..golden.integer("steps") {
                let place = format!("{name} {which} step {step}");
                let prefix = prefix(&golden, which, step);
                let plans = search.plan(&[prefix], &mut uniforms).expect("a plan");
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
