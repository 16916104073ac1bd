//! Learning online as runs do it: when steps are taken, in which share batches are mixed, exact resume for every method, what Cal-QL is
//! calibrated with.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Device};
use trajformer::algorithms::cql::{Cql, CqlConfig};
use trajformer::algorithms::{ALGORITHMS, Algorithm, Build, OnlinePhase, Source};
use trajformer::config::{OnlineConfig, RunConfig};
use trajformer::data::{ActionBounds, ActionKind, DataShare, Rows, TransitionsConfig};
use trajformer::envs::{EnvSpec, Environment, Step};
use trajformer::offpolicy::{InitContext, OffPolicy};
use trajformer::online::Interaction;
use trajformer::rng::{Rng, Streams};
use trajformer::run;

use crate::runs::{check_same_checkpoint, config, pendulum_data, write_data};

/// Episodes of three steps with rewards 1, 2, 3: the even ones end, the odd ones are broken off. Counts its steps, and panics
/// at one after an end.
struct Counting {
    spec: EnvSpec,
    episode: usize,
    step: usize,
    steps: Arc<Mutex<u64>>,
}

impl Environment for Counting {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, _: u64) -> trajformer::Result<Vec<f32>> {
        self.episode += 1;
        self.step = 0;
        Ok(vec![0.1; 3])
    }

    fn step(&mut self, _: &[f32]) -> trajformer::Result<Step> {
        assert!(self.step < 3, "a step after the end of an episode");
        self.step += 1;
        *self.steps.lock().unwrap() += 1;
        let (last, even) = (self.step == 3, self.episode % 2 == 1);
        Ok(Step {
            observation: vec![self.step as f32; 3],
            reward: self.step as f32,
            terminated: last && even,
            truncated: last && !even,
        })
    }
}

pub fn counting() -> (Box<dyn Environment>, Arc<Mutex<u64>>) {
    let steps = Arc::new(Mutex::new(0));
    let spec = EnvSpec {
        name: "counting".to_owned(),
        observation_dim: 3,
        action_dim: 1,
        action_kind: ActionKind::Continuous,
        action_low: vec![-2.0],
        action_high: vec![2.0],
        max_episode_steps: 3,
    };
    let env = Counting {
        spec,
        episode: 0,
        step: 0,
        steps: Arc::clone(&steps),
    };
    (Box::new(env), steps)
}

/// CQL on the pendulum's data, calibrated or not; half of the return is discounted per step.
fn cql(calibrate: bool) -> OffPolicy<Cql> {
    let config = CqlConfig {
        calibrate,
        discount: 0.5,
        hidden: vec![8],
        actions: 2,
        ..CqlConfig::default()
    };
    let view = TransitionsConfig {
        monte_carlo_returns: calibrate,
        returns_discount: config.discount,
        ..TransitionsConfig::default()
    };
    let data = pendulum_data();
    let build = Build {
        source: Source::Train(&data),
        bounds: &ActionBounds::new(&[-2.0], &[2.0], &Device::Cpu).unwrap(),
        fast: None,
        encoder: None,
        training_updates: 0,
        device: &Device::Cpu,
        rng: &mut Streams::from_seed(1).stream("init"),
    };
    let new = |start: &mut InitContext<'_>, _: &_| Cql::new(&config, start);
    OffPolicy::in_dtype(DType::F32, build, &view, 16, new).unwrap()
}

#[test]
fn cal_ql_collects_an_episode_and_learns_as_often_others_after_every_step() {
    for (calibrate, expected) in [
        (true, [3, 3, 3, 6, 6, 6, 9]),
        (false, [1, 2, 3, 4, 5, 6, 7]),
    ] {
        let mut algorithm = cql(calibrate);
        let (env, steps) = counting();
        let streams = Streams::from_seed(0);
        let mut interaction = Interaction::new(env, &OnlineConfig::default(), streams);
        let mut rng = Rng::from_seed(0);
        let mut returns = Vec::new();
        for (updates, expected) in expected.into_iter().enumerate() {
            let found = interaction.collect(&mut algorithm, updates as u64, &mut rng);
            returns.extend(found.unwrap());
            assert_eq!(*steps.lock().unwrap(), expected, "before update {updates}");
            algorithm.update(&mut rng).unwrap();
        }
        assert_eq!(returns, vec![6.0; expected[6] as usize / 3]);
        if !calibrate {
            continue;
        }
        // 1 + 2/2 + 3/4, 2 + 3/2, 3; of the episode that was broken off too much is missing.
        let batch = Rows {
            data: vec![],
            collected: (0..6).collect(),
        };
        let reached = algorithm
            .batch(&batch)
            .unwrap()
            .monte_carlo_returns
            .unwrap();
        let reached = reached.to_vec1::<f32>().unwrap();
        assert_eq!(reached[..3], [2.75, 3.5, 3.0]);
        assert_eq!(reached[3..], [f32::MIN; 3]);
    }
}

#[test]
fn batches_are_mixed_as_each_method_does_it_or_as_they_are_asked_to() {
    let drawn = |calibrate, data_share| {
        let mut algorithm = cql(calibrate);
        let (env, _) = counting();
        let online = OnlineConfig {
            data_share,
            ..OnlineConfig::default()
        };
        let mut interaction = Interaction::new(env, &online, Streams::from_seed(0));
        let mut rng = Rng::from_seed(0);
        interaction.collect(&mut algorithm, 0, &mut rng).unwrap();
        let rows: Vec<Rows> = (0..100).map(|_| algorithm.draw_rows(&mut rng)).collect();
        assert!(
            rows.iter()
                .all(|rows| rows.data.len() + rows.collected.len() == 16)
        );
        let counts: Vec<usize> = rows.iter().map(|rows| rows.data.len()).collect();
        (counts.iter().min().copied(), counts.iter().max().copied())
    };
    assert_eq!(drawn(true, DataShare::Method), (Some(8), Some(8)));
    assert_eq!(drawn(true, DataShare::Share(0.3)), (Some(4), Some(4)));
    assert_eq!(drawn(false, DataShare::Share(0.3)), (Some(4), Some(4)));
    // A collected step or three beside some 800 of the data.
    for found in [
        drawn(true, DataShare::Uniform),
        drawn(false, DataShare::Method),
    ] {
        assert!(found.0 >= Some(13) && found.1 == Some(16), "{found:?}");
    }
}

#[test]
fn the_share_of_the_data_is_a_key_that_is_checked() {
    let with = |value: &str| {
        let text = format!("[online]\ndata_share = {value}\n[algorithm.td3_bc]\n");
        RunConfig::parse(&text).map(|config| config.online.data_share)
    };
    assert_eq!(with("0.25").unwrap(), DataShare::Share(0.25));
    assert_eq!(with("1").unwrap(), DataShare::Share(1.0));
    assert_eq!(with("\"uniform\"").unwrap(), DataShare::Uniform);
    assert_eq!(with("\"method\"").unwrap(), DataShare::Method);
    for wrong in ["1.5", "-0.1", "\"half\""] {
        let error = with(wrong).unwrap_err().to_string();
        assert!(error.contains("data_share"), "{error}");
    }
    for share in ["0.25", "\"uniform\""] {
        let text = format!("[online]\ndata_share = {share}\n[algorithm.td3_bc]\n");
        let config = RunConfig::parse(&text).unwrap();
        let again = RunConfig::parse(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again, config);
    }
}

/// Whether an algorithm learns online.
fn learns_online(config: &RunConfig) -> bool {
    let data = pendulum_data();
    let build = Build {
        source: Source::Train(&data),
        bounds: &ActionBounds::new(&[-2.0], &[2.0], &Device::Cpu).unwrap(),
        fast: None,
        encoder: None,
        training_updates: 10,
        device: &Device::Cpu,
        rng: &mut Streams::from_seed(1).stream("init"),
    };
    let mut algorithm = config.algorithm.build(build).unwrap();
    let learner = algorithm.interactive();
    learner.is_some_and(|learner| learner.check(&OnlinePhase::default()).is_ok())
}

#[test]
fn every_method_that_learns_online_goes_on_exactly_where_it_was() {
    let mut checked = Vec::new();
    let names = ALGORITHMS
        .iter()
        .map(|algorithm| (algorithm.name, 14, &[][..]));
    // Across the end of an episode, which has 200 steps; the penalty of ReBRAC depends on how many there are to be.
    let more: [(_, _, &[&str]); 2] = [
        ("cql", 210, &["cql.calibrate=true", "cql.actions=2"]),
        ("rebrac", 14, &["rebrac.online_penalty_share=1"]),
    ];
    for (name, steps, keys) in names.chain(more) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write_data(folder);
        let mut keys: Vec<String> = keys.iter().map(|key| format!("algorithm.{key}")).collect();
        keys.push("evaluate.episodes=0".to_owned());
        let config = config(folder, name, 6).with_overrides(&keys).unwrap();
        if !learns_online(&config) || (name == "rebrac" && keys.len() == 1) {
            continue;
        }
        let online = |steps: u64| format!("online.steps={steps}");
        let all = config.with_overrides(&[online(steps)]).unwrap();
        let (whole, parts) = (folder.join("whole"), folder.join("parts"));
        run::start(&all, &whole).unwrap();
        run::start(&config, &parts).unwrap();
        for part in [steps / 2, steps - 1, steps] {
            run::resume(&parts, &[online(part)]).unwrap();
        }
        check_same_checkpoint(&whole, &parts, name);
        checked.push(name);
    }
    for name in [
        "awac",
        "cql",
        "iql",
        "online_dt",
        "rebrac",
        "sac",
        "td3",
        "td3_bc",
    ] {
        assert!(checked.contains(&name), "{name}: {checked:?}");
    }
}

#[test]
fn a_step_is_taken_before_every_update_online_the_first_included() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["online.steps=3", "evaluate.episodes=0"].map(str::to_owned);
    let config = config(folder, "td3_bc", 5).with_overrides(&keys).unwrap();
    let out = folder.join("run");
    run::start(&config, &out).unwrap();
    let saved = candle_core::safetensors::load(out.join("training.safetensors"), &Device::Cpu);
    let rewards = &saved.unwrap()["replay.rewards"];
    assert_eq!(rewards.elem_count(), 3);
}

#[test]
fn rebracs_penalty_falls_online_to_its_share_and_takes_the_run_s_length() {
    let data = pendulum_data();
    let penalties = |share: f64, steps: u64| {
        let text = format!(
            "[algorithm.rebrac]\nhidden = [8]\nbatch_size = 8\npolicy_delay = 1\nactor_penalty = 1e6\n\
             online_penalty_share = {share}\n"
        );
        let config = RunConfig::parse(&text).unwrap();
        let build = Build {
            source: Source::Train(&data),
            bounds: &ActionBounds::new(&[-2.0], &[2.0], &Device::Cpu).unwrap(),
            fast: None,
            encoder: None,
            training_updates: 1,
            device: &Device::Cpu,
            rng: &mut Streams::from_seed(1).stream("init"),
        };
        let mut algorithm = config.algorithm.build(build).unwrap();
        let phase = OnlinePhase {
            steps,
            ..OnlinePhase::default()
        };
        let mut rng = Rng::from_seed(0);
        let mut found = Vec::new();
        for update in 0..=steps {
            if update == 1 {
                algorithm.interactive().unwrap().prepare(&phase).unwrap();
            }
            let metrics = algorithm.update(&mut rng).unwrap().values().unwrap();
            let of = |name: &str| metrics.iter().find(|(other, _)| *other == name).unwrap().1;
            // Beside a penalty as large as this the value's term is nothing.
            found.push((of("actor_loss") / of("cloning_loss") / 1e4).round() / 100.0);
        }
        found
    };
    assert_eq!(penalties(0.5, 4), [1.0, 1.0, 0.75, 0.5, 0.5]);
    assert_eq!(penalties(0.1, 4), [1.0, 1.0, 0.75, 0.5, 0.25]);
}

#[test]
fn methods_without_a_distribution_explore_with_their_own_noise_unless_another_is_asked_for() {
    let data = pendulum_data();
    for (algorithm, own) in [
        ("td3", 0.1),
        ("td3_bc", 0.1),
        ("iql]\nactor = \"deterministic\"\n#", 0.03),
        ("rebrac", 0.0),
    ] {
        let config = RunConfig::parse(&format!("[algorithm.{algorithm}]\n")).unwrap();
        let build = Build {
            source: Source::Train(&data),
            bounds: &ActionBounds::new(&[-2.0], &[2.0], &Device::Cpu).unwrap(),
            fast: None,
            encoder: None,
            training_updates: 1,
            device: &Device::Cpu,
            rng: &mut Streams::from_seed(1).stream("init"),
        };
        let mut algorithm = config.algorithm.build(build).unwrap();
        let learner = algorithm.interactive().unwrap();
        let mut rng = Rng::from_seed(0);
        let mut explore = |noise| {
            learner
                .explore(data.observation(0), noise, &mut rng)
                .unwrap()[0]
        };
        let center = explore(Some(0.0));
        for (noise, expected) in [(None, own), (Some(0.2), 0.2)] {
            let squares: f32 = (0..400).map(|_| (explore(noise) - center).powi(2)).sum();
            let found = (squares / 400.0).sqrt() / 2.0; // for a range of 1
            // Four standard errors of a standard deviation from 400 draws are a seventh of it.
            let error = (found - expected).abs();
            assert!(
                error <= expected / 7.0,
                "{}: {found}",
                config.algorithm.name()
            );
        }
    }
}

#[test]
fn an_endless_failure_has_no_return_without_a_discount() {
    let keys = "[algorithm.cql]\ncalibrate = true\nfailure_reward = -1.0\ndiscount = ";
    let error = RunConfig::parse(&format!("{keys}1.0\n"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("`algorithm.cql.discount` is 1"), "{error}");
    assert!(RunConfig::parse(&format!("{keys}0.99\n")).is_ok());
}
