//! How the sequence models start, parameter by parameter, beside the authors' own constructors: moments and range of what is
//! drawn over many seeds.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use trajformer_models::activation::Activation;
use trajformer_models::decision_transformer::{
    DecisionTransformer, DecisionTransformerConfig as DecisionSizes,
};
use trajformer_models::lamo::{Lamo, LamoConfig as LamoSizes, gpt2_trunk};
use trajformer_models::params::{Params, Scope};
use trajformer_models::precision::Precision;
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::{
    TrajectoryTransformer, TrajectoryTransformerConfig as TrajectorySizes,
};

use crate::golden::Golden;

/// Seeds that ours are drawn with: fewer than the authors', so that these decide how exact the comparison is.
const SEEDS: u64 = 100;
/// Standard errors of a difference that are allowed: with 300 comparisons one is beyond four in fifty runs, and seeds are fixed.
const STANDARD_ERRORS: f64 = 4.5;

/// Moments and range of the numbers of one parameter.
struct Statistics {
    count: f64,
    mean: f64,
    deviation: f64,
    kurtosis: f64,
    least: f64,
    greatest: f64,
}

impl Statistics {
    fn of(x: &[f64]) -> Self {
        let count = x.len() as f64;
        let mean = x.iter().sum::<f64>() / count;
        let moment = |power: i32| x.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / count;
        let fold = |f: fn(f64, f64) -> f64| x.iter().copied().reduce(f).unwrap();
        let (least, greatest) = (fold(f64::min), fold(f64::max));
        if least == greatest {
            return Self::read(&[count, least, 0.0, 0.0, least, greatest]);
        }
        let deviation = moment(2).sqrt();
        let kurtosis = moment(4) / deviation.powi(4);
        Self::read(&[count, mean, deviation, kurtosis, least, greatest])
    }

    fn read(row: &[f64]) -> Self {
        let &[count, mean, deviation, kurtosis, least, greatest] = row else {
            panic!("{row:?}")
        };
        Self {
            count,
            mean,
            deviation,
            kurtosis,
            least,
            greatest,
        }
    }

    fn check(&self, expected: &Self, name: &str) {
        if expected.deviation == 0.0 {
            let found = (self.least, self.greatest);
            assert_eq!(found, (expected.mean, expected.mean), "{name}: a constant");
            return;
        }
        assert!(self.deviation > 0.0, "{name}: a constant, {}", self.mean);
        let shares = 1.0 / self.count + 1.0 / expected.count;
        let allowed = STANDARD_ERRORS * expected.deviation * shares.sqrt();
        let error = (self.mean - expected.mean).abs();
        assert!(
            error < allowed,
            "{name}: mean {} for {}",
            self.mean,
            expected.mean
        );
        // The variance of a sample's standard deviation, by its fourth moment.
        let spread = (expected.kurtosis - 1.0) / 4.0 * shares;
        let allowed = STANDARD_ERRORS * spread.sqrt();
        let ratio = self.deviation / expected.deviation;
        assert!(
            (ratio - 1.0).abs() < allowed,
            "{name}: deviation {ratio} times theirs"
        );
        // A uniform distribution has 1.8, a normal one 3 (and heavy tails in the estimate: at least 1,200 numbers here).
        let error = (self.kurtosis - expected.kurtosis).abs();
        assert!(
            error < 0.6,
            "{name}: kurtosis {} for {}",
            self.kurtosis,
            expected.kurtosis
        );
        if expected.kurtosis < 2.4 {
            // A uniform one's ends: the largest of n lies about 1/n below the bound.
            let allowed = 20.0 * shares;
            for (ours, theirs) in [
                (self.least, expected.least),
                (self.greatest, expected.greatest),
            ] {
                assert!(
                    (ours / theirs - 1.0).abs() < allowed,
                    "{name}: {ours} for {theirs}"
                );
            }
        }
    }
}

fn check(golden: &Golden, model: &str, make: impl Fn(&mut Scope<'_>), name: fn(&str) -> String) {
    let mut drawn: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut params = Params::new(DType::F64, &Device::Cpu);
        make(&mut params.init(&mut Rng::from_seed(seed)));
        for param in params.iter() {
            let numbers = param
                .slot
                .tensor()
                .and_then(|x| Ok(x.flatten_all()?.to_vec1()?));
            let all = drawn.entry(param.name.clone()).or_default();
            all.extend(numbers.unwrap() as Vec<f64>);
        }
    }
    let mut seen = 0;
    for (authors, row) in golden.below(&format!("{model}.")) {
        let Some(ours) = drawn.get(&name(&authors)) else {
            let unused = [
                "predict_state",
                "predict_return",
                "wpe.weight",
                "wte.weight",
            ];
            assert!(
                unused.iter().any(|part| authors.contains(part)),
                "{model}: {authors}"
            );
            continue;
        };
        let expected = Statistics::read(&row.to_vec1().unwrap());
        Statistics::of(ours).check(&expected, &format!("{model}: {authors}"));
        seen += 1;
    }
    // The Decision Transformer's positions are kept for the layout's sake: see its module.
    let own = drawn
        .keys()
        .filter(|name| name.ends_with("wpe.weight"))
        .count();
    assert_eq!(seen + own, drawn.len(), "{model}");
}

#[test]
fn the_decision_transformer_starts_as_the_authors() {
    let golden = Golden::load("sequence_starts");
    let count = |key: &str| golden.integer(key);
    let sizes = DecisionSizes {
        hidden: count("width"),
        layers: count("layers"),
        heads: count("heads"),
        inner: 4 * count("width"),
        activation: Activation::Relu,
        max_timesteps: count("longest_episode"),
        ..DecisionSizes::paper(count("state_dim"), count("action_dim"))
    };
    let make = |scope: &mut Scope<'_>| drop(DecisionTransformer::new(&sizes, scope).unwrap());
    check(&golden, "decision_transformer", make, |name| {
        match name.strip_prefix("transformer.") {
            Some(rest) => format!("encoder.{rest}"),
            None => name.to_owned(),
        }
    });
}

#[test]
fn the_trajectory_transformer_starts_as_the_authors() {
    let golden = Golden::load("sequence_starts");
    let count = |key: &str| golden.integer(key);
    let sizes = TrajectorySizes {
        observation_dim: count("state_dim"),
        action_dim: count("action_dim"),
        bins: count("bins"),
        layers: count("layers"),
        heads: count("heads"),
        embedding: count("width"),
        window_transitions: count("window"),
        embedding_dropout: 0.1,
        residual_dropout: 0.1,
        attention_dropout: 0.1,
        action_weight: 5.0,
        reward_weight: 1.0,
        value_weight: 1.0,
        multi_token_weight: 1.0,
        precision: Precision::Full,
        instruction_dim: 0,
        activation: trajformer_models::activation::Activation::Gelu,
        recipe: trajformer_models::trajectory_transformer::Recipe::default(),
    };
    let make = |scope: &mut Scope<'_>| drop(TrajectoryTransformer::new(&sizes, scope).unwrap());
    check(&golden, "trajectory_transformer", make, str::to_owned);
}

/// Without a language model: with one, only the trunk's values are others, and those are its.
#[test]
fn lamo_starts_as_the_authors() {
    let golden = Golden::load("sequence_starts");
    let count = |key: &str| golden.integer(key);
    let sizes = LamoSizes {
        observation_dim: count("state_dim"),
        action_dim: count("action_dim"),
        trunk: gpt2_trunk(count("layers"), count("heads"), count("width")),
        max_timesteps: count("longest_episode"),
        embedding_dropout: 0.1,
        rank: count("rank"),
        alpha: 32.0,
        vocabulary: 7,
    };
    let make = |scope: &mut Scope<'_>| drop(Lamo::new(&sizes, scope).unwrap());
    check(&golden, "lamo", make, |name| {
        name.strip_prefix("transformer_model.")
            .unwrap_or(name)
            .to_owned()
    });
}
