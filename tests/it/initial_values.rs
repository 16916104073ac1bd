//! The first values of every network of a value-based method are drawn as its reference draws them
//! (tests/golden/initial_values.py): the same family, support, moments and quantiles, tensor by tensor.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use serde_json::Value;
use trajformer::algorithms::cql::CqlConfig;
use trajformer::algorithms::iql::{ActorKind, IqlConfig};
use trajformer::algorithms::{
    AlgorithmConfig, Build, Source, awac::AwacConfig, bc::BcConfig, bear::BearConfig,
    brac::BracConfig, crr::CrrConfig, edac::EdacConfig, rebrac::RebracConfig, sac::SacConfig,
    sac_n::SacNConfig, sac_rnd::SacRndConfig, td3::Td3Config, td3_bc::Td3BcConfig,
};
use trajformer::data::ActionBounds;
use trajformer::offpolicy::EnsembleStart;
use trajformer_models::params::{Slot, StateVisitor};
use trajformer_models::rng::Rng;

/// How often each network is made: a tensor of one number of a single network has that many.
const SEEDS: u64 = 600;
/// Largest and smallest of uniform values, as a share of the bound: of 600 draws the largest misses 1 % of it by
/// chance once in 400 times, 3 % never.
const BOUND_TOLERANCE: f64 = 0.03;
/// Standard deviations, as a share: 600 draws of a uniform scatter by 1.8 % and the reference's 1,000 by 1.4 %. A bound
/// that is off by a tenth is off by a tenth here.
const DEVIATION_TOLERANCE: f64 = 0.06;
/// Means and quantiles, in standard deviations: the median of 600 draws of a uniform scatters by 0.07.
const QUANTILE_TOLERANCE: f64 = 0.25;
/// Constants and orthogonal matrices in f32, as a share.
const ROUNDING: f64 = 1e-5;

/// All values of a tensor under all seeds, and its shape.
#[derive(Clone)]
struct Drawn {
    shape: Vec<usize>,
    values: Vec<f64>,
}

/// Collects `model.*` of a state.
struct Models<'a>(&'a mut BTreeMap<String, Drawn>);

impl StateVisitor for Models<'_> {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        if let Some(name) = name.strip_prefix("model.") {
            let tensor = slot.tensor()?;
            let drawn = self.0.entry(name.to_owned()).or_insert_with(|| Drawn {
                shape: tensor.dims().to_vec(),
                values: Vec::new(),
            });
            let flat = tensor.to_dtype(DType::F64)?.flatten_all()?;
            drawn.values.extend(flat.to_vec1::<f64>()?);
        }
        Ok(())
    }
}

/// The networks of an algorithm as it is built, on data of this shape, under many seeds.
fn draw(
    config: &AlgorithmConfig,
    (observations, actions): (usize, usize),
) -> BTreeMap<String, Drawn> {
    let (source, device) = (
        Source::Act {
            observation_dim: observations,
            action_dim: actions,
        },
        &Device::Cpu,
    );
    let bounds = ActionBounds::unit(actions, device).unwrap();
    let mut drawn = BTreeMap::new();
    for seed in 0..SEEDS {
        let build = Build {
            source,
            bounds: &bounds,
            fast: None,
            encoder: None,
            training_updates: 1_000,
            device,
            rng: &mut Rng::from_seed(seed),
        };
        let mut algorithm = config.build(build).unwrap();
        algorithm.state(&mut Models(&mut drawn)).unwrap();
    }
    drawn
}

/// Mean, standard deviation and the sorted values.
fn moments(drawn: &Drawn) -> (f64, f64, Vec<f64>) {
    let mut sorted = drawn.values.clone();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / count;
    let variance = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt(), sorted)
}

/// Largest difference of the trailing matrices' Gram matrices from gain² times the identity, as a share of gain².
fn from_orthogonal(drawn: &Drawn, gain: f64) -> f64 {
    let [.., rows, columns] = drawn.shape[..] else {
        return f64::INFINITY;
    };
    let (count, length) = (rows.min(columns), rows.max(columns));
    let entry = |matrix: &[f64], vector: usize, i: usize| {
        if rows <= columns {
            matrix[vector * columns + i]
        } else {
            matrix[i * columns + vector]
        }
    };
    let mut worst = 0f64;
    for matrix in drawn.values.chunks(rows * columns).take(8) {
        for a in 0..count {
            for b in 0..count {
                let product = (0..length).map(|i| entry(matrix, a, i) * entry(matrix, b, i));
                let expected = f64::from(u8::from(a == b)) * gain * gain;
                worst = worst.max((product.sum::<f64>() - expected).abs());
            }
        }
    }
    worst / (gain * gain)
}

/// What tells `drawn` from the reference's numbers, if anything does.
fn difference(drawn: &Drawn, expected: &Value, levels: &[f64]) -> Option<String> {
    let number = |name: &str| expected[name].as_f64().unwrap();
    let shape: Vec<usize> = numbers(&expected["shape"])
        .iter()
        .map(|&n| n as usize)
        .collect();
    if drawn.shape != shape {
        return Some(format!("shape {:?}, expected {shape:?}", drawn.shape));
    }
    let (mean, deviation, sorted) = moments(drawn);
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let apart = |name: &str, found: f64, expected: f64, scale: f64, tolerance: f64| {
        let wrong = (found - expected).abs() > tolerance * scale;
        wrong.then(|| format!("{name} is {found}, expected {expected}"))
    };
    let family = expected["family"].as_str().unwrap();
    if family == "constant" {
        let value = number("largest");
        let scale = value.abs().max(1.0);
        let found = [
            apart("largest", high, value, scale, ROUNDING),
            apart("smallest", low, value, scale, ROUNDING),
        ];
        return found.into_iter().flatten().next();
    }
    if family == "orthogonal" {
        let error = from_orthogonal(drawn, number("gain"));
        if error > ROUNDING {
            return Some(format!(
                "not orthogonal with gain {}, by {error}",
                number("gain")
            ));
        }
    }
    let spread = number("deviation");
    let mut found = vec![
        apart("deviation", deviation, spread, spread, DEVIATION_TOLERANCE),
        apart("mean", mean, number("mean"), spread, QUANTILE_TOLERANCE),
    ];
    if family == "uniform" {
        let bound = number("largest");
        found.push(apart("largest", high, bound, bound, BOUND_TOLERANCE));
        found.push(apart("smallest", low, -bound, bound, BOUND_TOLERANCE));
    }
    for (level, expected) in levels.iter().zip(numbers(&expected["quantiles"])) {
        let place = (level * (sorted.len() - 1) as f64).round() as usize;
        let name = format!("quantile {level}");
        found.push(apart(
            &name,
            sorted[place],
            expected,
            spread,
            QUANTILE_TOLERANCE,
        ));
    }
    let zeros = sorted.iter().filter(|v| **v == 0.0).count() as f64 / sorted.len() as f64;
    found.push(apart("share of zeros", zeros, number("zeros"), 1.0, 1e-3));
    found.into_iter().flatten().next()
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap();
    list.iter().map(|v| v.as_f64().unwrap()).collect()
}

struct Reference {
    sizes: (usize, usize),
    hidden: usize,
    levels: Vec<f64>,
    cases: Value,
}

fn reference() -> Reference {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/initial_values.json"
    );
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let count = |name: &str| all[name].as_u64().unwrap() as usize;
    Reference {
        sizes: (count("observation_dim"), count("action_dim")),
        hidden: count("hidden"),
        levels: numbers(&all["levels"]),
        cases: all["cases"].clone(),
    }
}

/// All networks of a case but those named.
fn check(reference: &Reference, case: &str, config: &AlgorithmConfig, but: &[&str]) {
    let drawn = draw(config, reference.sizes);
    let networks = reference.cases[case].as_object().unwrap();
    for (network, expected) in networks.iter().filter(|(n, _)| !but.contains(&n.as_str())) {
        let expected = expected.as_object().unwrap();
        let prefix = format!("{network}.");
        let found: Vec<&str> = drawn
            .keys()
            .filter_map(|n| n.strip_prefix(&prefix))
            .collect();
        let names: Vec<&str> = expected.keys().map(String::as_str).collect();
        assert_eq!(found, names, "{case}: {network}");
        for (name, expected) in expected {
            let full = format!("{network}.{name}");
            if let Some(problem) = difference(&drawn[&full], expected, &reference.levels) {
                panic!("{case}: {full}: {problem}");
            }
        }
    }
}

#[test]
fn methods_without_critics_of_their_own_kind_start_as_pytorch_does() {
    let r = &reference();
    let two = vec![r.hidden; 2];
    let hidden = || two.clone();
    let td3 = Td3Config {
        hidden: hidden(),
        ..Td3Config::default()
    };
    check(r, "td3", &AlgorithmConfig::Td3(td3), &[]);
    let td3_bc = Td3BcConfig {
        hidden: hidden(),
        ..Td3BcConfig::default()
    };
    check(r, "td3_bc", &AlgorithmConfig::Td3Bc(td3_bc), &[]);
    let bc = BcConfig {
        hidden: hidden(),
        ..BcConfig::default()
    };
    check(r, "bc", &AlgorithmConfig::Bc(bc), &[]);
    for (case, actor) in [
        ("iql", ActorKind::Gaussian),
        ("iql_deterministic", ActorKind::Deterministic),
    ] {
        let iql = IqlConfig {
            hidden: hidden(),
            actor,
            ..IqlConfig::default()
        };
        check(r, case, &AlgorithmConfig::Iql(iql), &[]);
    }
    let awac = AwacConfig {
        hidden: vec![r.hidden; 3],
        ..AwacConfig::default()
    };
    check(r, "awac", &AlgorithmConfig::Awac(awac), &[]);
    let crr = CrrConfig {
        hidden: hidden(),
        members: 2,
        ..CrrConfig::default()
    };
    check(r, "crr", &AlgorithmConfig::Crr(crr), &[]);
    let bear = BearConfig {
        hidden: hidden(),
        vae_hidden: hidden(),
        ..BearConfig::default()
    };
    check(r, "bear", &AlgorithmConfig::Bear(bear), &[]);
}

#[test]
fn sac_and_brac_start_with_xaviers_values() {
    let r = &reference();
    let hidden = || vec![r.hidden; 2];
    let sac = SacConfig {
        hidden: hidden(),
        ..SacConfig::default()
    };
    check(r, "sac", &AlgorithmConfig::Sac(sac), &[]);
    let brac = BracConfig {
        hidden: hidden(),
        actor_hidden: hidden(),
        ..BracConfig::default()
    };
    check(r, "brac", &AlgorithmConfig::Brac(brac), &[]);
}

#[test]
fn cql_starts_as_corl_but_for_the_actor_which_starts_as_the_authors_of_cal_ql_have_it() {
    let r = &reference();
    let hidden = || vec![r.hidden; 3];
    let cql = CqlConfig {
        hidden: hidden(),
        ..CqlConfig::default()
    };
    check(r, "cql", &AlgorithmConfig::Cql(cql), &["actor"]);
    let cal_ql = CqlConfig {
        hidden: vec![r.hidden; 2],
        calibrate: true,
        ..CqlConfig::default()
    };
    check(r, "cal_ql", &AlgorithmConfig::Cql(cal_ql), &[]);
    let plain = CqlConfig {
        hidden: hidden(),
        critic_hidden: Some(vec![r.hidden; 5]),
        orthogonal_init: false,
        log_std_scale: 0.7,
        ..CqlConfig::default()
    };
    check(r, "cql_plain", &AlgorithmConfig::Cql(plain), &[]);
}

#[test]
fn ensembles_start_as_their_authors_have_it_or_as_corl() {
    let r = &reference();
    let hidden = || vec![r.hidden; 3];
    let sac_n = |initialization| {
        AlgorithmConfig::SacN(SacNConfig {
            hidden: hidden(),
            members: 2,
            initialization,
            ..SacNConfig::default()
        })
    };
    let edac = |initialization| {
        AlgorithmConfig::Edac(EdacConfig {
            hidden: hidden(),
            members: 2,
            initialization,
            ..EdacConfig::default()
        })
    };
    check(
        r,
        "sac_n",
        &sac_n(SacNConfig::default().initialization),
        &[],
    );
    check(r, "sac_n_corl", &sac_n(EnsembleStart::Corl), &[]);
    check(r, "edac", &edac(EdacConfig::default().initialization), &[]);
    check(r, "edac_corl", &edac(EnsembleStart::Corl), &[]);
    assert_eq!(SacNConfig::default().initialization, EnsembleStart::Authors);
}

#[test]
fn rebrac_and_sac_rnd_start_as_their_authors_have_it() {
    let r = &reference();
    let rebrac = RebracConfig {
        hidden: vec![r.hidden; 3],
        actor_layer_norm: true,
        ..RebracConfig::default()
    };
    check(r, "rebrac", &AlgorithmConfig::Rebrac(rebrac), &[]);
    let sac_rnd = SacRndConfig {
        hidden: vec![r.hidden; 3],
        rnd_hidden: r.hidden,
        rnd_embedding: 8,
        ..SacRndConfig::default()
    };
    check(r, "sac_rnd", &AlgorithmConfig::SacRnd(sac_rnd), &[]);
}

#[test]
fn bounds_off_by_a_tenth_and_missing_biases_are_seen() {
    let r = &reference();
    let config = SacNConfig {
        hidden: vec![r.hidden; 3],
        members: 2,
        ..SacNConfig::default()
    };
    let drawn = draw(&AlgorithmConfig::SacN(config), r.sizes);
    let expected = &r.cases["sac_n"];
    let scaled = |drawn: &Drawn, factor: f64| Drawn {
        values: drawn.values.iter().map(|v| v * factor).collect(),
        ..drawn.clone()
    };
    for (name, expected) in [
        ("critics.net.0.weight", &expected["critics"]["net.0.weight"]),
        ("critics.net.6.bias", &expected["critics"]["net.6.bias"]),
        ("actor.net.0.bias", &expected["actor"]["net.0.bias"]),
    ] {
        assert_eq!(difference(&drawn[name], expected, &r.levels), None);
        for factor in [0.9, 1.1, 0.0] {
            assert!(difference(&scaled(&drawn[name], factor), expected, &r.levels).is_some());
        }
    }
}
