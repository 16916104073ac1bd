//! The Online Decision Transformer online: when episodes are collected, what is learned of them, which episodes give way, and that it goes on
//! exactly where it was, in the middle of an episode too.

use std::collections::BTreeMap;
use std::fs;

use candle_core::{Device, Tensor};
use trajformer::algorithms::online_dt::{OnlineDt, OnlineDtConfig};
use trajformer::algorithms::{Algorithm, Build, Interactive, OnlinePhase, Source};
use trajformer::config::{OnlineConfig, RunConfig};
use trajformer::data::{ActionBounds, DataShare};
use trajformer::online::Interaction;
use trajformer::policy::EpisodeStart;
use trajformer::rng::{Rng, Streams};
use trajformer::run;
use trajformer_models::params::{Slot, StateVisitor};

use crate::online::counting;
use crate::runs::{config, pendulum_data, write_data};

fn small() -> OnlineDtConfig {
    OnlineDtConfig {
        context_steps: 6,
        acting_context_steps: 3,
        layers: 1,
        heads: 2,
        embedding: 8,
        batch_size: 4,
        warmup_updates: 2,
        replay_episodes: 3,
        updates_per_episode: 2,
        ..OnlineDtConfig::default()
    }
}

/// On the pendulum's data.
fn built(config: &OnlineDtConfig) -> OnlineDt {
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
    config.build(build).unwrap()
}

#[test]
fn an_episode_is_collected_before_every_few_updates_and_none_between() {
    let mut algorithm = built(&small());
    let (env, steps) = counting();
    let online = OnlineConfig::default();
    let mut interaction = Interaction::new(env, &online, Streams::from_seed(0));
    let mut rng = Rng::from_seed(0);
    let mut returns = Vec::new();
    for (update, expected) in [3, 3, 6, 6, 9, 9, 12].into_iter().enumerate() {
        let found = interaction.collect(&mut algorithm, update as u64, &mut rng);
        returns.extend(found.unwrap());
        assert_eq!(*steps.lock().unwrap(), expected, "before update {update}");
        algorithm.update(&mut rng).unwrap();
    }
    assert_eq!(returns, [6.0; 4]);
}

/// Keeps all that is shown to it, or gives it back.
#[derive(Default)]
struct Kept {
    tensors: BTreeMap<String, Tensor>,
    counters: BTreeMap<String, u64>,
    numbers: BTreeMap<String, f64>,
    restores: bool,
}

impl StateVisitor for Kept {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        if self.restores {
            return slot.set(&self.tensors[name]);
        }
        self.tensors.insert(name.to_owned(), slot.tensor()?.copy()?);
        Ok(())
    }

    fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
        if self.restores {
            *value = self.counters[name];
        }
        self.counters.insert(name.to_owned(), *value);
        Ok(())
    }

    fn number(&mut self, name: &str, value: &mut f64) -> trajformer_models::Result<()> {
        if self.restores {
            *value = self.numbers[name];
        }
        self.numbers.insert(name.to_owned(), *value);
        Ok(())
    }
}

/// So many steps of an environment that answers with what was done, in episodes of five; an update after each.
fn live(algorithm: &mut OnlineDt, steps: std::ops::Range<usize>, rng: &mut Rng) -> Vec<f32> {
    let mut done = Vec::new();
    for step in steps {
        let observation = [0.1 * step as f32, -0.3, (step % 5) as f32];
        let action = algorithm.explore(&observation, None, rng).unwrap();
        let outcome = trajformer::algorithms::Step {
            observation: &observation,
            reward: action[0] - step as f32 * 0.5,
            terminated: false,
        };
        algorithm.learn(&outcome, step % 5 == 4).unwrap();
        algorithm.update(rng).unwrap();
        done.extend(action);
    }
    done
}

#[test]
fn what_was_collected_is_kept_and_an_episode_goes_on_in_its_middle() {
    let phase = OnlinePhase::default();
    // In the first episode, while there is room, when the data's have given way, and when its own have.
    for stop in [3, 8, 17, 33] {
        let (mut rng, config) = (Rng::from_seed(7), small());
        let mut whole = built(&config);
        whole.prepare(&phase).unwrap();
        live(&mut whole, 0..stop, &mut rng);
        let mut kept = Kept::default();
        whole.state(&mut kept).unwrap();
        let steps = kept.tensors["training.replay.rewards"].elem_count();
        let ended = (stop / 5).min(config.replay_episodes);
        assert_eq!(steps, 5 * ended + stop % 5, "stopped after {stop}");

        let mut parts = built(&config);
        parts.prepare(&phase).unwrap();
        kept.restores = true;
        parts.state(&mut kept).unwrap();
        assert_eq!(parts.running().unwrap(), whole.running().unwrap());
        assert_eq!(parts.running().unwrap().0, stop as u64 / 5);
        let mut again = rng.clone();
        let expected = live(&mut whole, stop..stop + 25, &mut rng);
        let found = live(&mut parts, stop..stop + 25, &mut again);
        assert_eq!(found, expected, "stopped after {stop}");
        let states = [&mut whole, &mut parts].map(|algorithm| {
            let mut kept = Kept::default();
            algorithm.state(&mut kept).unwrap();
            kept
        });
        assert_eq!(states[0].counters, states[1].counters);
        for (name, tensor) in &states[0].tensors {
            let bits = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(bits(tensor), bits(&states[1].tensors[name]), "{name}");
        }
    }
}

#[test]
fn a_buffer_of_another_size_is_no_place_for_what_was_kept() {
    let mut rng = Rng::from_seed(7);
    let mut first = built(&small());
    first.prepare(&OnlinePhase::default()).unwrap();
    live(&mut first, 0..25, &mut rng);
    let mut kept = Kept::default();
    first.state(&mut kept).unwrap();
    kept.restores = true;
    let mut other = built(&OnlineDtConfig {
        replay_episodes: 5,
        ..small()
    });
    other.prepare(&OnlinePhase::default()).unwrap();
    let said = other.state(&mut kept).unwrap_err().to_string();
    assert!(
        said.contains("has 3 episodes, but 5 were collected"),
        "{said}"
    );
}

#[test]
fn it_explores_by_its_distribution_and_what_it_aims_at_counts() {
    let acts = |online_target_return, seed| {
        let mut algorithm = built(&OnlineDtConfig {
            online_target_return,
            ..small()
        });
        algorithm.prepare(&OnlinePhase::default()).unwrap();
        let rng = &mut Rng::from_seed(seed);
        algorithm.explore(&[0.3, 0.1, -0.2], None, rng).unwrap()
    };
    assert_eq!(acts(None, 1), acts(None, 1));
    assert_ne!(acts(None, 1), acts(None, 2));
    assert_ne!(acts(None, 1), acts(Some(90_000.0), 1));
    // The best return and its size once more: 0 below 0, twice it above.
    let best = pendulum_data().best_return();
    assert!(best < 0.0);
    assert_eq!(acts(None, 1), acts(Some(0.0), 1));
}

/// Whose means are the authors', action by action.
#[test]
fn it_explores_as_the_policy_that_draws_when_that_aims_as_high() {
    let mut algorithm = built(&OnlineDtConfig {
        online_target_return: Some(500.0),
        return_scale: 20.0,
        timestep_embedding: true,
        max_episode_steps: 6,
        ..small()
    });
    let mut rng = Rng::from_seed(3);
    (0..20).for_each(|_| drop(algorithm.update(&mut rng).unwrap()));
    let mut policy = algorithm.sampling_policy().unwrap().unwrap();
    let start = EpisodeStart {
        target_return: Some(500.0),
        ..EpisodeStart::new(Rng::from_seed(5))
    };
    policy.begin(&[start]).unwrap();
    algorithm.prepare(&OnlinePhase::default()).unwrap();
    let mut rng = Rng::from_seed(5);
    for step in 0..9u8 {
        let x = f32::from(step);
        let observation = [(x * 0.7).sin(), 0.2 * x, 1.0 - x];
        let tensor = Tensor::new(&[observation], &Device::Cpu).unwrap();
        let expected = policy.act(&tensor, &[true]).unwrap();
        let expected = expected.get(0).unwrap().to_vec1::<f32>().unwrap();
        let found = algorithm.explore(&observation, None, &mut rng).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-6,
                "step {step}: {found} {expected}"
            );
        }
        let outcome = trajformer::algorithms::Step {
            observation: &observation,
            reward: 40.0 - 3.0 * x,
            terminated: false,
        };
        algorithm.learn(&outcome, false).unwrap();
        policy.observe(&[outcome.reward]).unwrap();
    }
}

#[test]
fn a_share_of_the_data_is_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["online.steps=4", "online.data_share=0.5"].map(str::to_owned);
    let config = config(folder, "online_dt", 4)
        .with_overrides(&keys)
        .unwrap();
    assert_eq!(config.online.data_share, DataShare::Share(0.5));
    let said = run::start(&config, &folder.join("run")).unwrap_err();
    assert!(said.to_string().contains("`online.data_share`"), "{said}");
    assert!(!folder.join("run").exists());
}

#[test]
fn a_run_that_learned_online_opens_without_its_buffer_and_draws_its_actions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_data(folder);
    let keys = ["online.steps=8", "evaluate.episodes=0"].map(str::to_owned);
    let config = config(folder, "online_dt", 4)
        .with_overrides(&keys)
        .unwrap();
    let out = folder.join("run");
    run::start(&config, &out).unwrap();
    let training = fs::metadata(out.join("training.safetensors"))
        .unwrap()
        .len();
    // The last two of two episodes of 200 steps: 3 observations, an action, a reward, an end.
    assert!(training > 400 * 6 * 4, "{training}");
    let mut opened = run::open(&out, &[]).unwrap();
    let mut kept = Kept::default();
    opened.algorithm.state(&mut kept).unwrap();
    assert!(!kept.tensors.keys().any(|name| name.contains("replay")));
    let mut policy = opened.algorithm.sampling_policy().unwrap().unwrap();
    let observation = Tensor::new(&[[0.1f32, 0.2, 0.3]], &Device::Cpu).unwrap();
    let mut acts = |seed| {
        let start = EpisodeStart::new(Rng::from_seed(seed));
        policy.begin(&[start]).unwrap();
        let action = policy.act(&observation, &[true]).unwrap();
        action.to_vec2::<f32>().unwrap()
    };
    assert_eq!(acts(1), acts(1));
    assert_ne!(acts(1), acts(2));
}

#[test]
fn a_target_that_single_precision_does_not_hold_is_refused_at_once() {
    for (target, is_held) in [("1e300", false), ("-1e39", false), ("7200", true)] {
        let text = format!("[algorithm.online_dt]\nonline_target_return = {target}.0");
        let text = text.replace("e300.0", "e300").replace("e39.0", "e39");
        match RunConfig::parse(&text) {
            Ok(_) => assert!(is_held, "{target}"),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !is_held && error.contains("`algorithm.online_dt.online_target_return`"),
                    "{error}"
                );
            }
        }
    }
}
