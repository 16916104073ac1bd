//! Behaviour that single slips of the pen would change: units and scales on the way to an algorithm, what a policy sees, from where
//! targets are compared, values judged by data alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use trajformer::algorithms::crr::{Crr, CrrConfig};
use trajformer::algorithms::rebrac::{Rebrac, RebracConfig};
use trajformer::algorithms::{Build, Source, Stage};
use trajformer::checkpoint::RunDir;
use trajformer::checkpoint::fingerprint::DataFingerprint;
use trajformer::config::RunConfig;
use trajformer::data::action_chunks::padded_actions;
use trajformer::data::discretizer::DiscretizerKind;
use trajformer::data::replay::{Experience, Replay};
use trajformer::data::sequences::{GoalPrefix, TokenOptions, TokenSequences, ValueColumn};
use trajformer::data::{
    ActionBounds, Dataset, Episode, Normalizer, RewardTransform, Rows, Transitions,
    TransitionsConfig,
};
use trajformer::envs::{self, VectorEnv};
use trajformer::evaluate::Evaluator;
use trajformer::fqe::{Estimate, FqeConfig, estimate};
use trajformer::offpolicy::{
    CandidatePolicy, Choice, GradientWatch, InitContext, OffPolicy, PolicyParts, repeated,
};
use trajformer::policy::return_conditioned::{
    Choosing, ContextNetwork, ContextOptions, ReturnConditionedPolicy, State,
};
use trajformer::policy::{ActorPolicy, EpisodeStart, Policy};
use trajformer::rng::Rng;
use trajformer::{Result, metrics, run};
use trajformer_models::decision_transformer::Contexts;
use trajformer_models::params::{Slot, StateVisitor};

use crate::runs::{config, pendulum_data, small, write_data};

/// Sums of a few numbers in f32.
const TOLERANCE: f32 = 1e-5;
/// Small critics after a thousand updates, beside values of about 1.
const VALUE_TOLERANCE: f64 = 0.15;

const CPU: &Device = &Device::Cpu;

/// Episodes of one observation and one action per step: (observations, actions, rewards, terminated, truncated).
type Told<'a> = (&'a [f32], &'a [f32], &'a [f32], bool, bool);

fn data(told: &[Told<'_>]) -> Dataset {
    let mut data = Dataset::blank(1, 1);
    for &(observations, actions, rewards, terminated, truncated) in told {
        data.episodes.push(Episode {
            terminated,
            truncated,
            ..Episode::new(data.rewards.len(), rewards.len())
        });
        data.observations.extend_from_slice(observations);
        data.actions.extend_from_slice(actions);
        data.rewards.extend_from_slice(rewards);
    }
    data
}

fn row(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, (values.len(), 1), CPU).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn check_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    let far = |(a, b): (&f32, &f32)| (a - b).abs() > TOLERANCE * b.abs().max(1.0);
    let differs = found.iter().zip(expected).any(far);
    assert!(!differs, "{found:?}, expected {expected:?}");
}

fn start(seed: u64) -> EpisodeStart {
    EpisodeStart {
        rng: Rng::from_seed(seed),
        target_return: None,
        goal: None,
        instruction: None,
    }
}

fn policy_parts() -> PolicyParts {
    PolicyParts {
        normalizer: Normalizer::from_moments(&[2.0], &[4.0], CPU).unwrap(),
        bounds: ActionBounds::new(&[-2.0], &[6.0], CPU).unwrap(),
        device: Device::Cpu,
    }
}

#[test]
fn rewards_are_scaled_first_and_shifted_then_in_the_data_and_online() {
    let data = data(&[(&[0.0; 3], &[0.0; 3], &[0.0, 0.5, 1.0], true, false)]);
    let config = TransitionsConfig {
        rewards: RewardTransform::Affine {
            scale: 10.0,
            shift: -5.0,
        },
        ..TransitionsConfig::default()
    };
    let found = Transitions::new(&data, &policy_parts().bounds, &config, CPU).unwrap();
    let expected = [-5.0, 0.0, 5.0];
    assert_eq!(numbers(found.rewards()), expected);
    let online = data.rewards.iter().map(|&raw| found.reward(raw));
    assert_eq!(online.collect::<Vec<f32>>(), expected);
}

#[test]
fn next_observations_are_normalised_like_observations() {
    let data = data(&[(&[1.0, 2.0, 6.0], &[0.0; 3], &[1.0; 3], true, false)]);
    let bounds = policy_parts().bounds;
    let found = Transitions::new(&data, &bounds, &TransitionsConfig::default(), CPU).unwrap();
    let (now, next) = (
        numbers(found.observations()),
        numbers(found.next_observations()),
    );
    assert_eq!(now[1..], next[..now.len() - 1]);
}

#[test]
fn the_datas_next_actions_have_the_units_of_its_actions() {
    let data = data(&[(&[0.0, 1.0, 2.0], &[-2.0, 6.0, 4.0], &[1.0; 3], true, false)]);
    let view = TransitionsConfig {
        next_actions: true,
        ..TransitionsConfig::default()
    };
    let build = Build {
        source: Source::Train(&data),
        bounds: &policy_parts().bounds,
        fast: None,
        encoder: None,
        training_updates: 1,
        device: CPU,
        rng: &mut Rng::from_seed(0),
    };
    let config = RebracConfig {
        hidden: vec![4],
        ..RebracConfig::default()
    };
    let learner = OffPolicy::new(build, &view, 2, |start| Rebrac::new(&config, start)).unwrap();
    let rows = Rows {
        data: vec![0, 1],
        collected: Vec::new(),
    };
    let batch = learner.batch(&rows).unwrap();
    check_close(&numbers(&batch.actions), &[-1.0, 1.0]);
    check_close(&numbers(&batch.next_actions.unwrap()), &[1.0, 0.5]);
}

#[test]
fn values_of_episodes_without_an_end_are_spread_like_those_that_are_known() {
    let (ten, five) = ([0.0f32; 10], [0.0f32; 5]);
    let edges = |told: &[Told<'_>]| {
        let options = TokenOptions {
            bins: 5,
            discretizer: DiscretizerKind::Quantile,
            window_transitions: 2,
            discount: 1.0,
            termination_penalty: None,
            max_path_steps: None,
            value: ValueColumn::Return,
            goal: GoalPrefix::None,
        };
        let found = TokenSequences::new(&data(told), &options).unwrap();
        found.discretizer().thresholds(3).to_vec()
    };
    // Values fall from 9 to 0.
    let whole: Told<'_> = (&ten, &ten, &[1.0; 10], true, false);
    let open: Told<'_> = (&five, &five, &[1.0; 5], false, false);
    assert_eq!(edges(&[whole]), [0.0, 2.0, 4.0, 6.0, 8.0, 9.0]);
    assert_eq!(edges(&[whole, open]), edges(&[whole]));
}

#[test]
fn a_chunk_that_is_longer_than_its_episode_repeats_the_last_action() {
    let data = data(&[
        (&[0.0; 2], &[1.0, 2.0], &[0.0; 2], true, false),
        (&[0.0; 3], &[3.0, 4.0, 5.0], &[0.0; 3], true, false),
    ]);
    let (rows, starts) = padded_actions(&data, 3);
    assert_eq!(rows, [1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0]);
    assert_eq!(starts, [0, 1, 4, 5, 6]);
}

#[test]
fn actions_of_the_data_beyond_their_range_count_as_its_ends() {
    let bounds = policy_parts().bounds;
    let found = bounds.to_unit(&row(&[-3.0, -2.0, 2.0, 6.0, 7.0])).unwrap();
    check_close(&numbers(&found), &[-1.0, -1.0, 0.0, 1.0, 1.0]);
}

#[test]
fn an_experience_that_time_ended_is_not_remembered_as_terminated() {
    let mut replay = Replay::new(1, 1, None, CPU).unwrap();
    for (terminated, last) in [(false, false), (false, true), (true, true)] {
        let step = Experience {
            observation: row(&[0.0]),
            action: row(&[0.0]),
            reward: 0.0,
            next_observation: row(&[0.0]),
            terminated,
            last,
        };
        replay.push(&step).unwrap();
    }
    let found = replay.gather(&[0, 1, 2]).unwrap();
    assert_eq!(numbers(&found.terminated), [0.0, 0.0, 1.0]);
}

#[test]
fn actors_and_candidates_see_normalised_observations() {
    let PolicyParts {
        normalizer,
        bounds,
        device,
    } = policy_parts();
    let observations = row(&[2.0, 4.0]);
    // (x - 2) / 4 is 0 and 0.5: actions of 2 and 4 in -2..6.
    let mut actor = ActorPolicy::new(normalizer, bounds, device, |x| Ok(x.clone()));
    let found = actor.act(&observations, &[true; 2]).unwrap();
    check_close(&numbers(&found), &[2.0, 4.0]);

    let candidates = |observations: &Tensor, noise: &Tensor| -> Result<(Tensor, Tensor)> {
        let (s, e, a) = noise.dims3()?;
        let actions = repeated(observations, s)?.reshape((s, e, a))?;
        Ok((actions, noise.squeeze(2)?))
    };
    let mut policy =
        CandidatePolicy::new(policy_parts(), Box::new(candidates), (3, 1), Choice::Best);
    policy.begin(&[start(0), start(1)]).unwrap();
    let found = policy.act(&observations, &[true; 2]).unwrap();
    check_close(&numbers(&found), &[2.0, 4.0]);
}

#[test]
fn candidates_of_an_episode_come_from_its_own_stream() {
    let drawn = |starts: &[EpisodeStart]| {
        let candidates = |_: &Tensor, noise: &Tensor| -> Result<(Tensor, Tensor)> {
            Ok((noise.tanh()?, noise.squeeze(2)?))
        };
        let mut policy =
            CandidatePolicy::new(policy_parts(), Box::new(candidates), (1, 1), Choice::Best);
        policy.begin(starts).unwrap();
        let observations = row(&vec![0.0; starts.len()]);
        numbers(
            &policy
                .act(&observations, &vec![true; starts.len()])
                .unwrap(),
        )
    };
    let both = drawn(&[start(1), start(2)]);
    assert_eq!(both, [drawn(&[start(1)])[0], drawn(&[start(2)])[0]]);
    assert!(both[0] != both[1], "{both:?}");
}

#[test]
fn crr_draws_its_candidates_and_then_one_of_them_from_the_episodes_stream() {
    let start_values = &mut InitContext {
        observation_dim: 1,
        action_dim: 1,
        choices: None,
        stage: Stage::Learning,
        training_updates: 1,
        encoder: None,
        watch: &GradientWatch::default(),
        dtype: DType::F32,
        device: CPU,
        rng: &mut Rng::from_seed(3),
    };
    let config = CrrConfig {
        hidden: vec![8],
        samples: 6,
        ..CrrConfig::default()
    };
    let crr = Crr::new(&config, start_values).unwrap();
    let observation = row(&[1.0]);
    for seed in 0..8 {
        let mut policy = crr.weighted_policy(policy_parts()).unwrap();
        policy.begin(&[start(seed)]).unwrap();
        let found = policy.act(&observation, &[true]).unwrap();
        let mut stream = Rng::from_seed(seed);
        let drawn: Vec<[f32; 2]> = (0..config.samples)
            .map(|_| [stream.normal() as f32, (1.0 - stream.uniform()) as f32])
            .collect();
        let column = |at: usize| -> Vec<f32> { drawn.iter().map(|pair| pair[at]).collect() };
        let normals = Tensor::from_vec(column(0), (config.samples, 1, 1), CPU).unwrap();
        let expected = policy
            .choose(&observation, &normals, Some(&row(&column(1))))
            .unwrap();
        assert_eq!(numbers(&found), numbers(&expected), "{seed}");
    }
}

/// Answers with the return that it is asked for.
struct Returns;

impl ContextNetwork for Returns {
    fn actions(&self, contexts: &Contexts) -> Result<Tensor> {
        Ok(contexts.returns.clone())
    }
}

#[test]
fn the_return_aimed_at_is_the_episodes_else_the_configurations_else_the_datas_best() {
    let first = |targets: Vec<f32>, asked: Option<f32>| {
        let PolicyParts {
            normalizer, device, ..
        } = policy_parts();
        let mut policy = ReturnConditionedPolicy {
            network: Box::new(Returns),
            normalizer,
            bounds: ActionBounds::unit(1, CPU).unwrap(),
            device,
            options: ContextOptions {
                context_steps: 3,
                return_scale: 10.0,
                target_returns: targets,
                best_return: 8.0,
                max_episode_steps: 5,
            },
            instructed: None,
            choosing: Choosing::Likeliest,
            state: State::default(),
        };
        let begun = EpisodeStart {
            target_return: asked,
            ..start(0)
        };
        policy.begin(&[begun]).unwrap();
        let act = |policy: &mut ReturnConditionedPolicy| {
            numbers(&policy.act(&row(&[0.0]), &[true]).unwrap())[0]
        };
        let before = act(&mut policy);
        policy.observe(&[1.0]).unwrap();
        (before, act(&mut policy))
    };
    for (found, expected) in [
        (first(vec![], None), 0.8),
        (first(vec![4.0, 6.0], None), 0.4),
        (first(vec![4.0, 6.0], Some(6.0)), 0.6),
    ] {
        check_close(&[found.0, found.1], &[expected, expected - 0.1]);
    }
}

/// What a policy was started with: first observations and targets.
#[derive(Default)]
struct Begun {
    targets: Vec<Option<f32>>,
    observations: Vec<Vec<f32>>,
}

/// Does nothing, aims at two returns, and remembers how it was started.
struct Watching(Arc<Mutex<Begun>>);

impl Policy for Watching {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.0.lock().unwrap().targets = episodes.iter().map(|e| e.target_return).collect();
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, _: &[bool]) -> Result<Tensor> {
        let begun = &mut self.0.lock().unwrap().observations;
        if begun.is_empty() {
            *begun = observations.to_vec2()?;
        }
        Ok(Tensor::zeros((observations.dim(0)?, 1), DType::F32, CPU)?)
    }

    fn target_returns(&self) -> Vec<f32> {
        vec![1.0, 2.0]
    }
}

#[test]
fn every_target_is_tried_from_the_same_starts_which_differ_from_each_other() {
    let begun = Arc::default();
    let envs = VectorEnv::make("pendulum-v1", 3).unwrap();
    let mut evaluator = Evaluator::of(envs, 5);
    evaluator.run(&mut Watching(Arc::clone(&begun))).unwrap();
    let begun = begun.lock().unwrap();
    let (one, two) = (Some(1.0), Some(2.0));
    assert_eq!(begun.targets, [one, one, one, two, two, two]);
    let (first, second) = begun.observations.split_at(3);
    assert_eq!(first, second);
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");
}

#[test]
fn all_targets_are_tried_in_copies_that_a_factory_makes_and_the_first_alone_in_given_ones() {
    let targets = |envs: VectorEnv| {
        let begun = Arc::default();
        let mut evaluator = Evaluator::of(envs, 5);
        let found = evaluator.run(&mut Watching(Arc::clone(&begun))).unwrap();
        let begun = begun.lock().unwrap().targets.clone();
        (begun, found.by_target.len())
    };
    let (one, two) = (Some(1.0), Some(2.0));
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let factory = move || {
        count.fetch_add(1, Ordering::Relaxed);
        envs::make("pendulum-v1")
    };
    let envs = VectorEnv::from_factory(Box::new(factory), 2).unwrap();
    assert_eq!(targets(envs), (vec![one, one, two, two], 2));
    // The first copies are used again.
    assert_eq!(made.load(Ordering::Relaxed), 4);
    // Copies of one's own, though there is a registered environment of this name.
    let given = (0..2).map(|_| envs::make("pendulum-v1").unwrap()).collect();
    assert_eq!(targets(VectorEnv::new(given).unwrap()), (vec![one, one], 1));
}

#[test]
fn the_best_evaluation_is_the_one_with_the_highest_score() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let out = folder.path().join("run");
    run::start(&config(folder.path(), "td3", 25), &out).unwrap();
    let table = out.join("evaluations.csv");
    let rows = metrics::table::numbers(&table, ["update", "return_mean"]).unwrap();
    let best = rows.iter().max_by(|a, b| a[1].total_cmp(&b[1])).unwrap();
    let worst = rows.iter().min_by(|a, b| a[1].total_cmp(&b[1])).unwrap();
    assert!(worst[1] < best[1], "all evaluations are alike: {rows:?}");
    let state = RunDir::open(&out).unwrap().state().unwrap().unwrap();
    assert_eq!(state.best.unwrap().update as f64, best[0], "{rows:?}");
}

#[test]
fn resuming_moves_the_files_of_a_save_that_was_broken_off_into_place() {
    let folder = tempfile::tempdir().unwrap();
    write_data(folder.path());
    let out = folder.path().join("run");
    let settings = config(folder.path(), "td3", 5);
    run::start(&settings, &out).unwrap();
    let place = out.join("model.safetensors");
    std::fs::rename(&place, out.join("model.safetensors.new")).unwrap();
    run::open(&out, &[]).unwrap();
    assert!(!place.exists(), "opening only reads");
    let data = pendulum_data();
    let mut algorithm = settings
        .algorithm
        .build(Build {
            source: Source::Train(&data),
            bounds: &ActionBounds::unit(1, CPU).unwrap(),
            fast: None,
            encoder: None,
            training_updates: 5,
            device: CPU,
            rng: &mut Rng::from_seed(0),
        })
        .unwrap();
    let run = RunDir::open_to_train(&out).unwrap();
    run.restore(&mut *algorithm).unwrap();
    assert!(place.exists());
    run.published_files().unwrap();
}

#[test]
fn every_number_of_a_data_set_counts_in_its_fingerprint() {
    let data = data(&[(&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0], true, false)]);
    let fingerprint = DataFingerprint::of(&data);
    assert_eq!(fingerprint, DataFingerprint::of(&data.clone()));
    let changes: [fn(&mut Dataset); 6] = [
        |data| data.observations[1] += 1.0,
        |data| data.actions[1] += 1.0,
        |data| data.rewards[1] += 1.0,
        |data| data.episodes[0].terminated = false,
        |data| data.episodes[0].truncated = true,
        |data| data.episodes[0].final_observation = Some([0.0].into()),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut other = data.clone();
        change(&mut other);
        assert!(
            fingerprint != DataFingerprint::of(&other),
            "change {number}"
        );
    }
}

/// Acts by a rule.
struct Rule(fn(f32) -> f32);

impl Policy for Rule {
    fn begin(&mut self, _: &[EpisodeStart]) -> Result<()> {
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, _: &[bool]) -> Result<Tensor> {
        let actions: Vec<f32> = numbers(observations).into_iter().map(self.0).collect();
        Ok(row(&actions))
    }

    fn is_memoryless(&self) -> bool {
        true
    }
}

fn judged(rule: fn(f32) -> f32, data: &Dataset, bound: f32) -> Estimate {
    let config = FqeConfig {
        updates: 1000,
        discount: 0.8,
        members: 10,
        hidden: vec![32],
        batch_size: 64,
        learning_rate: 3e-3,
        target_rate: 0.05,
        seed: 0,
        interrupt: Default::default(),
    };
    let bounds = ActionBounds::new(&[-bound], &[bound], CPU).unwrap();
    estimate(&mut Rule(rule), data, &bounds, &config).unwrap()
}

fn check_value(found: &Estimate, expected: f64) {
    let far = (found.value - expected).abs() > VALUE_TOLERANCE * expected.abs().max(1.0);
    assert!(!far, "{found:?}, expected {expected}");
}

#[test]
fn a_value_ends_where_episodes_do_and_starts_at_their_first_step() {
    let mut rng = Rng::from_seed(1);
    let mut action = || (2.0 * rng.uniform() - 1.0) as f32;
    let drawn: Vec<[f32; 2]> = (0..40).map(|_| [action(), action()]).collect();
    // 1 at the first step and -1 at the second, which ends: 1 - 0.8. The numbers are far from 0.
    let told: Vec<Told<'_>> = drawn
        .iter()
        .map(|actions| {
            (
                &[101.0, 99.0][..],
                &actions[..],
                &[1.0, -1.0][..],
                true,
                false,
            )
        })
        .collect();
    check_value(&judged(|_| 0.0, &data(&told), 1.0), 1.0 - 0.8);
}

#[test]
fn a_policy_is_judged_by_what_it_does_in_the_next_state_in_its_own_units() {
    let mut rng = Rng::from_seed(1);
    let mut action = || (4.0 * rng.uniform() - 2.0) as f32;
    let drawn: Vec<([f32; 2], [f32; 2])> = (0..200)
        .map(|_| [action(), action()])
        .map(|actions| (actions, [0.0, actions[1]]))
        .collect();
    // The second step pays its action, which ends the episode; the policy does -1 first and then 1.
    let told: Vec<Told<'_>> = drawn
        .iter()
        .map(|(actions, rewards)| (&[-1.0, 1.0][..], &actions[..], &rewards[..], true, false))
        .collect();
    check_value(&judged(f32::signum, &data(&told), 2.0), 0.8);
}

#[test]
fn the_interval_holds_what_other_rewards_and_other_starts_would_have_given() {
    let width = |found: &Estimate| found.high.unwrap() - found.low.unwrap();
    let one = [0.0f32];
    // Alike but for their rewards: only critics that were trained on other episodes differ.
    let rewards: Vec<[f32; 1]> = (0..12).map(|i| [f32::from(u8::from(i % 4 == 0))]).collect();
    let told: Vec<Told<'_>> = rewards
        .iter()
        .map(|reward| (&one[..], &one[..], &reward[..], true, false))
        .collect();
    let found = width(&judged(|_| 0.0, &data(&told), 1.0));
    // A share of 1/4 over twelve episodes has a standard deviation of 0.125; 90 % are 3.3 of them.
    assert!(found > 0.2, "{found}");
    // Starts decide the reward, so all critics agree: only how often each start was drawn differs.
    let kinds: Vec<[f32; 1]> = (0..24).map(|i| [(i % 2) as f32]).collect();
    let told: Vec<Told<'_>> = kinds
        .iter()
        .map(|kind| (&kind[..], &one[..], &kind[..], true, false))
        .collect();
    let found = width(&judged(|_| 0.0, &data(&told), 1.0));
    // A share of 1/2 over 24 episodes has a standard deviation of 0.1.
    assert!(found > 0.15, "{found}");
}

#[test]
fn the_datas_own_value_is_that_of_episodes_with_an_end() {
    let two = [0.0f32; 2];
    let told: [Told<'_>; 3] = [
        (&two, &two, &[1.0, 1.0], true, false),
        (&two, &two, &[0.0, 1.0], false, true),
        (&two, &two, &[100.0, 100.0], false, false),
    ];
    let found = judged(|_| 0.0, &data(&told), 1.0).data_value.unwrap();
    // Means of 1 + 0.8 and 0.8; the rewards are sums of whole numbers.
    assert!((found - (1.8 + 0.8) / 2.0).abs() < 1e-12, "{found}");
}

#[test]
fn the_entropy_that_a_temperature_steers_to_is_minus_the_number_of_actions() {
    let data = pendulum_data();
    for name in ["sac", "sac_n", "edac", "cql", "sac_rnd"] {
        let temperature = |key: &str| {
            let text = format!("[algorithm.{name}]\n{}\n{key}\n", small(name));
            let build = Build {
                source: Source::Train(&data),
                bounds: &ActionBounds::unit(1, CPU).unwrap(),
                fast: None,
                encoder: None,
                training_updates: 5,
                device: CPU,
                rng: &mut Rng::from_seed(1),
            };
            let config = RunConfig::parse(&text).unwrap().algorithm;
            let mut algorithm = config.build(build).unwrap();
            let mut rng = Rng::from_seed(2);
            (0..5).for_each(|_| drop(algorithm.update(&mut rng).unwrap()));
            let mut found = Temperature(None);
            algorithm.state(&mut found).unwrap();
            found.0.unwrap()
        };
        let default = temperature("");
        assert_eq!(default, temperature("target_entropy = -1.0"), "{name}");
        // Adam's first steps are as long as its rate, whatever the gradient but its sign.
        assert!(default != temperature("target_entropy = 10.0"), "{name}");
    }
}

/// ln α, as an algorithm shows it.
struct Temperature(Option<Vec<f32>>);

impl StateVisitor for Temperature {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        if name.starts_with("model.temperature.") {
            self.0 = Some(slot.tensor()?.flatten_all()?.to_vec1()?);
        }
        Ok(())
    }
}
