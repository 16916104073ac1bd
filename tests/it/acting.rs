//! Value-based methods act as their references' own acting code does (tests/golden/acting.py): deterministic policies at
//! recorded observations, and those that draw candidates with recorded draws.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::bear::{Bear, BearConfig};
use trajformer::algorithms::brac::{Brac, BracConfig};
use trajformer::algorithms::cql::CqlConfig;
use trajformer::algorithms::crr::{Crr, CrrConfig};
use trajformer::algorithms::iql::{ActorKind, IqlConfig};
use trajformer::algorithms::{
    ALGORITHMS, AlgorithmConfig, Build, Source, Stage, awac::AwacConfig, bc::BcConfig,
    edac::EdacConfig, rebrac::RebracConfig, sac::SacConfig, sac_n::SacNConfig,
    sac_rnd::SacRndConfig, td3::Td3Config, td3_bc::Td3BcConfig,
};
use trajformer::config::RunConfig;
use trajformer::data::{ActionBounds, DataView, Normalizer};
use trajformer::offpolicy::{GradientWatch, InitContext, Learner, PolicyParts};
use trajformer::policy::EpisodeStart;
use trajformer_models::params::{Slot, StateVisitor};
use trajformer_models::rng::Rng;

use crate::golden::Golden;

/// Actions in f32 from single-precision networks of 16 units: some tens of roundings of numbers around 1.
const ACTION_TOLERANCE: f64 = 1e-5;

/// Puts `METHOD.start.*` into `model.*`.
struct Put<'a> {
    values: &'a BTreeMap<String, Tensor>,
    count: usize,
}

impl StateVisitor for Put<'_> {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        let value = name
            .strip_prefix("model.")
            .and_then(|name| self.values.get(name));
        if let Some(value) = value {
            slot.set(&value.to_dtype(slot.dtype())?)?;
            self.count += 1;
        }
        Ok(())
    }
}

/// One method's recorded numbers.
struct Recorded<'a> {
    golden: &'a Golden,
    method: &'a str,
}

impl Recorded<'_> {
    fn tensor(&self, name: &str) -> Tensor {
        let tensor = self.golden.tensor(&format!("{}.{name}", self.method));
        tensor.to_dtype(DType::F32).unwrap()
    }

    /// Has every recorded parameter put where `state` shows it.
    fn put(&self, state: impl FnOnce(&mut dyn StateVisitor)) {
        let values = self.golden.below(&format!("{}.start.", self.method));
        let mut put = Put {
            values: &values,
            count: 0,
        };
        state(&mut put);
        assert_eq!(put.count, values.len(), "{}: parameters", self.method);
    }

    fn check(&self, found: &Tensor, expected: &Tensor) {
        assert_eq!(found.dims(), expected.dims(), "{}", self.method);
        let error = (found - expected)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        let error = f64::from(error.to_scalar::<f32>().unwrap());
        assert!(
            error <= ACTION_TOLERANCE,
            "{}: actions differ by {error:e}",
            self.method
        );
    }
}

fn policy_parts(golden: &Golden) -> PolicyParts {
    let (o, a) = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    PolicyParts {
        normalizer: Normalizer::identity(o, &Device::Cpu).unwrap(),
        bounds: ActionBounds::unit(a, &Device::Cpu).unwrap(),
        device: Device::Cpu,
    }
}

fn learner<L: Learner>(recorded: &Recorded<'_>, new: impl Fn(&mut InitContext<'_>) -> L) -> L {
    let golden = recorded.golden;
    let mut learner = new(&mut InitContext {
        observation_dim: golden.integer("observation_dim"),
        action_dim: golden.integer("action_dim"),
        choices: None,
        stage: Stage::Learning,
        training_updates: 1_000,
        encoder: None,
        watch: &GradientWatch::default(),
        dtype: DType::F32,
        device: &Device::Cpu,
        rng: &mut Rng::from_seed(0),
    });
    recorded.put(|visitor| learner.state(visitor).unwrap());
    learner
}

/// The whole algorithm's policy, as evaluation gets it.
fn check_policy(golden: &Golden, method: &str, config: &AlgorithmConfig, answer: &str) {
    let recorded = Recorded { golden, method };
    let (o, a) = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let build = Build {
        source: Source::Act {
            observation_dim: o,
            action_dim: a,
        },
        bounds: &ActionBounds::unit(a, &Device::Cpu).unwrap(),
        fast: None,
        encoder: None,
        training_updates: 1_000,
        device: &Device::Cpu,
        rng: &mut Rng::from_seed(0),
    };
    let mut algorithm = config.build(build).unwrap();
    recorded.put(|visitor| algorithm.state(visitor).unwrap());
    let mut policy = algorithm.policy().unwrap();
    let observations = recorded.tensor("observations");
    let episodes = observations.dim(0).unwrap();
    let start = |row| EpisodeStart {
        rng: Rng::from_seed(row),
        target_return: None,
        goal: None,
        instruction: None,
    };
    let starts: Vec<EpisodeStart> = (0..episodes as u64).map(start).collect();
    policy.begin(&starts).unwrap();
    let found = policy.act(&observations, &vec![true; episodes]).unwrap();
    // Beyond the bounds the reference leaves it to the environment.
    recorded.check(&found, &recorded.tensor(answer).clamp(-1f32, 1f32).unwrap());
}

#[test]
fn policies_without_chance_answer_as_their_references() {
    let golden = &Golden::load("acting");
    let two = || vec![golden.integer("hidden"); 2];
    let three = || vec![golden.integer("hidden"); 3];
    let iql = |actor| {
        AlgorithmConfig::Iql(IqlConfig {
            hidden: two(),
            actor,
            data: DataView::PLAIN,
            ..IqlConfig::default()
        })
    };
    let configs = [
        (
            "td3",
            AlgorithmConfig::Td3(Td3Config {
                hidden: two(),
                ..Td3Config::default()
            }),
        ),
        (
            "sac",
            AlgorithmConfig::Sac(SacConfig {
                hidden: two(),
                ..SacConfig::default()
            }),
        ),
        (
            "td3_bc",
            AlgorithmConfig::Td3Bc(Td3BcConfig {
                hidden: two(),
                data: DataView::PLAIN,
                ..Td3BcConfig::default()
            }),
        ),
        (
            "bc",
            AlgorithmConfig::Bc(BcConfig {
                hidden: two(),
                normalize_observations: false,
                ..BcConfig::default()
            }),
        ),
        ("iql", iql(ActorKind::Gaussian)),
        ("iql_deterministic", iql(ActorKind::Deterministic)),
        (
            "awac",
            AlgorithmConfig::Awac(AwacConfig {
                hidden: three(),
                data: DataView::PLAIN,
                ..AwacConfig::default()
            }),
        ),
        (
            "cql",
            AlgorithmConfig::Cql(CqlConfig {
                hidden: three(),
                data: DataView::PLAIN,
                ..CqlConfig::default()
            }),
        ),
        (
            "sac_n",
            AlgorithmConfig::SacN(SacNConfig {
                hidden: three(),
                ..SacNConfig::default()
            }),
        ),
        (
            "edac",
            AlgorithmConfig::Edac(EdacConfig {
                hidden: three(),
                ..EdacConfig::default()
            }),
        ),
        (
            "rebrac",
            AlgorithmConfig::Rebrac(RebracConfig {
                hidden: three(),
                ..RebracConfig::default()
            }),
        ),
        (
            "sac_rnd",
            AlgorithmConfig::SacRnd(SacRndConfig {
                hidden: three(),
                ..SacRndConfig::default()
            }),
        ),
    ];
    for (method, config) in &configs {
        check_policy(golden, method, config, "action");
    }
}

#[test]
fn the_means_of_policies_that_draw_candidates_are_the_references() {
    let golden = &Golden::load("acting");
    let hidden = || vec![golden.integer("hidden"); 2];
    let crr = CrrConfig {
        hidden: hidden(),
        members: 2,
        weighted_acting: false,
        ..CrrConfig::default()
    };
    check_policy(golden, "crr", &AlgorithmConfig::Crr(crr), "mean");
}

#[test]
fn bear_and_brac_take_the_candidate_with_the_largest_first_value() {
    let golden = &Golden::load("acting");
    let hidden = || vec![golden.integer("hidden"); 2];
    let (method, recorded) = (
        "bear",
        Recorded {
            golden,
            method: "bear",
        },
    );
    let bear = BearConfig {
        hidden: hidden(),
        ..BearConfig::default()
    };
    let bear = learner(&recorded, |start| Bear::new(&bear, start).unwrap());
    let policy = bear.best_of_many(policy_parts(golden)).unwrap();
    let answer = |recorded: &Recorded<'_>, policy: &trajformer::offpolicy::CandidatePolicy| {
        let (observations, normals) = (recorded.tensor("observations"), recorded.tensor("normals"));
        policy.choose(&observations, &normals, None).unwrap()
    };
    assert_eq!(recorded.tensor("normals").dims()[0], 100, "{method}");
    recorded.check(&answer(&recorded, &policy), &recorded.tensor("action"));

    let recorded = Recorded {
        golden,
        method: "brac",
    };
    let brac = BracConfig {
        hidden: hidden(),
        actor_hidden: hidden(),
        ..BracConfig::default()
    };
    let brac = learner(&recorded, |start| Brac::new(&brac, start).unwrap());
    let policy = brac.best_of_several(policy_parts(golden)).unwrap();
    assert_eq!(recorded.tensor("normals").dims()[0], 10);
    recorded.check(&answer(&recorded, &policy), &recorded.tensor("action"));
}

#[test]
fn crr_draws_a_candidate_by_the_mean_of_its_critics_values() {
    let golden = &Golden::load("acting");
    for (method, members) in [("crr", 2), ("crr_one", 1)] {
        let recorded = Recorded { golden, method };
        let crr = CrrConfig {
            hidden: vec![golden.integer("hidden"); 2],
            members,
            ..CrrConfig::default()
        };
        let crr = learner(&recorded, |start| Crr::new(&crr, start).unwrap());
        let policy = crr.weighted_policy(policy_parts(golden)).unwrap();
        let (observations, normals) = (recorded.tensor("observations"), recorded.tensor("normals"));
        let uniforms = recorded.tensor("uniforms");
        let found = policy
            .choose(&observations, &normals, Some(&uniforms))
            .unwrap();
        recorded.check(&found, &recorded.tensor("action"));
    }
}

#[test]
fn brac_acts_by_its_policy_and_its_critics_once_both_had_an_update() {
    let data = crate::runs::pendulum_data();
    let config = BracConfig {
        hidden: vec![8],
        actor_hidden: vec![8],
        batch_size: 4,
        behavior_updates: 3,
        ..BracConfig::default()
    };
    let build = Build {
        source: Source::Train(&data),
        bounds: &ActionBounds::unit(1, &Device::Cpu).unwrap(),
        fast: None,
        encoder: None,
        training_updates: 5,
        device: &Device::Cpu,
        rng: &mut Rng::from_seed(0),
    };
    let mut brac = AlgorithmConfig::Brac(config).build(build).unwrap();
    let rng = &mut Rng::from_seed(1);
    for update in 0..5 {
        let mut policy = brac.policy().unwrap();
        let mut act = |seed: u64| {
            let start = EpisodeStart {
                rng: Rng::from_seed(seed),
                target_return: None,
                goal: None,
                instruction: None,
            };
            policy.begin(&[start]).unwrap();
            let observation = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
            let action = policy.act(&observation, &[true]).unwrap();
            action.to_vec2::<f32>().unwrap()
        };
        // Candidates are drawn; the behavior policy answers with its mean.
        assert_eq!(act(2) != act(3), update > 3, "after {update} updates");
        brac.update(rng).unwrap();
    }
}

/// Tensors of a state that only updates need.
#[derive(Default)]
struct OfTraining(Vec<String>);

impl StateVisitor for OfTraining {
    fn tensor(&mut self, name: &str, _: &Slot) -> trajformer_models::Result<()> {
        if name.starts_with("training.") {
            self.0.push(name.to_owned());
        }
        Ok(())
    }
}

#[test]
fn an_algorithm_made_to_act_holds_no_optimiser_and_no_targets_and_refuses_to_learn() {
    let data = crate::runs::pendulum_data();
    let act = Source::Act {
        observation_dim: data.observation_dim,
        action_dim: data.action_dim,
    };
    for registered in ALGORITHMS {
        let name = registered.name;
        let text = format!("[algorithm.{name}]\n{}\n", crate::runs::small(name));
        let config = RunConfig::parse(&text).unwrap().algorithm;
        let build = |source| {
            let build = Build {
                source,
                bounds: &ActionBounds::unit(1, &Device::Cpu).unwrap(),
                fast: None,
                encoder: None,
                training_updates: 1_000,
                device: &Device::Cpu,
                rng: &mut Rng::from_seed(0),
            };
            config.build(build).unwrap()
        };
        let held = |source| {
            let mut held = OfTraining::default();
            build(source).state(&mut held).unwrap();
            held.0
        };
        assert!(!held(Source::Train(&data)).is_empty(), "{name}");
        assert_eq!(held(act), Vec::<String>::new(), "{name}");
        let error = build(act).update(&mut Rng::from_seed(1)).err().unwrap();
        let error = error.to_string();
        assert!(
            error.contains("this run was opened without its data"),
            "{name}: {error}"
        );
    }
}
