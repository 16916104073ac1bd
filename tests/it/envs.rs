//! Environments against Gymnasium's own rollouts, and the point mazes' reference returns.

use trajformer::data::{ActionKind, collect};
use trajformer::envs::acrobot::Acrobot;
use trajformer::envs::cartpole::CartPole;
use trajformer::envs::pendulum::Pendulum;
use trajformer::envs::{self, Environment, VectorEnv};
use trajformer::policy::EpisodeStart;
use trajformer::policy::behavior::behavior;
use trajformer::rng::Streams;

use crate::golden::Golden;

/// The same library computes the same operations in the same order; what is left is rounding in
/// our own sums, and in sine and cosine of another C library, amplified over 60 steps.
const TOLERANCE: f64 = 1e-10;

/// A recorded array with one row per step.
fn rows(golden: &Golden, name: &str) -> Vec<Vec<f64>> {
    let width = golden.dims(name)[1];
    golden
        .numbers(name)
        .chunks(width)
        .map(<[f64]>::to_vec)
        .collect()
}

fn largest_difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

#[test]
fn the_pendulum_moves_exactly_like_gymnasiums() {
    let golden = Golden::load("gymnasium_v4");
    for episode in 0..2 {
        let name = |array: &str| format!("pendulum-v1.{episode}.{array}");
        let mut env = Pendulum::new();
        let (angle, velocity) = (
            golden.numbers(&name("positions"))[0],
            golden.numbers(&name("velocities"))[0],
        );
        env.set_state(angle, velocity);
        let rewards = golden.numbers(&name("rewards"));
        let states = rows(&golden, &name("observations"));
        for (step, action) in rows(&golden, &name("actions")).iter().enumerate() {
            let reward = env.apply(action[0]);
            let (angle, velocity) = env.state();
            let found = [angle, velocity, reward];
            let expected = [states[step][0], states[step][1], rewards[step]];
            assert!(
                largest_difference(&found, &expected) < TOLERANCE,
                "step {step}: {found:?}"
            );
        }
    }
}

/// Replays the recorded choices of every episode of `name` from its start; `step` moves the environment and gives its state.
fn check_choices<E: Environment>(
    name: &str,
    mut env: E,
    ends: [(usize, bool); 3],
    set_state: impl Fn(&mut E, [f64; 4]),
    state: impl Fn(&E) -> [f64; 4],
) {
    let golden = Golden::load("classic_control");
    for (episode, (steps, terminates)) in ends.into_iter().enumerate() {
        let array = |array: &str| golden.numbers(&format!("{name}.{episode}.{array}"));
        let start: [f64; 4] = array("start").try_into().expect("four numbers");
        set_state(&mut env, start);
        let (states, observations) = (array("states"), array("observations"));
        let (rewards, width) = (array("rewards"), env.spec().observation_dim);
        let (terminated, truncated) = (array("terminated"), array("truncated"));
        let actions = array("actions");
        assert_eq!(actions.len(), steps, "{name}, episode {episode}");
        assert_eq!(terminated[steps - 1] == 1.0, terminates);
        for (step, &action) in actions.iter().enumerate() {
            let found = env.step(&[action as f32]).expect("step");
            let place = format!("{name}, episode {episode}, step {step}");
            let difference = largest_difference(&state(&env), &states[4 * step..][..4]);
            assert!(difference < TOLERANCE, "{place}: state off by {difference}");
            for (a, &b) in found.observation.iter().zip(&observations[width * step..]) {
                // Both are rounded to f32 from states that are this close.
                assert!(
                    (f64::from(*a) - b).abs() <= 1e-7 * b.abs().max(1e-3),
                    "{place}: {a} {b}"
                );
            }
            assert_eq!(f64::from(found.reward), rewards[step], "{place}");
            assert_eq!(found.terminated, terminated[step] == 1.0, "{place}");
            assert_eq!(found.truncated, truncated[step] == 1.0, "{place}");
        }
    }
}

#[test]
fn the_cart_and_the_links_move_exactly_like_gymnasiums() {
    check_choices(
        "cartpole-v1",
        CartPole::new(),
        [(413, true), (27, true), (500, false)],
        CartPole::set_state,
        CartPole::state,
    );
    check_choices(
        "acrobot-v1",
        Acrobot::new(),
        [(80, true), (500, false), (73, true)],
        Acrobot::set_state,
        Acrobot::state,
    );
}

#[test]
fn random_choices_drop_the_pole_after_some_twenty_steps() {
    let mut env = envs::make("cartpole-v1").expect("built in");
    let mut random = behavior("random", env.spec(), &Default::default()).expect("a policy");
    let data = collect::collect(&mut *env, &mut *random, 5000, 1).expect("collects");
    assert_eq!(data.action_kind, ActionKind::Discrete { count: 2 });
    assert!(
        data.actions
            .iter()
            .all(|&action| action == 0.0 || action == 1.0)
    );
    let right = data.actions.iter().filter(|&&action| action == 1.0).count();
    // 2500 expected; four standard deviations are 141.
    assert!(right.abs_diff(2500) < 142, "{right}");
    let returns = data.returns();
    let mean = returns.iter().sum::<f64>() / returns.len() as f64;
    // Gymnasium's mean over 20,000 random episodes is 22.2, with a standard deviation of 11.7: four standard errors of 220.
    assert!((mean - 22.2).abs() < 3.2, "{mean}");
    for name in ["zero", "policy.npz"] {
        let refused = behavior(name, env.spec(), &Default::default()).err();
        let refused = refused.expect("no such choice").to_string();
        assert!(refused.contains("`cartpole-v1` takes choices"), "{refused}");
    }
}

#[cfg(feature = "mujoco")]
mod mujoco {
    use super::*;
    use trajformer::envs::mujoco::Mujoco;

    fn check_replay(golden: &Golden, name: &str, ends: [bool; 2]) {
        for (episode, ends) in ends.into_iter().enumerate() {
            let array = |array: &str| format!("{name}.{episode}.{array}");
            let mut env = Mujoco::new(name).expect("tests/setup-mujoco has run");
            let positions = golden.numbers(&array("positions"));
            let velocities = golden.numbers(&array("velocities"));
            env.set_state(&positions, &velocities).expect("state");
            let observations = rows(golden, &array("observations"));
            let (rewards, terminated) = (
                golden.numbers(&array("rewards")),
                golden.numbers(&array("terminated")),
            );
            let actions = rows(golden, &array("actions"));
            for (step, action) in actions.iter().enumerate() {
                let found = env.exact_step(action).expect("step");
                let place = format!("{name}, episode {episode}, step {step}");
                let difference = largest_difference(&found.observation, &observations[step]);
                assert!(
                    difference < TOLERANCE,
                    "{place}: observation off by {difference}"
                );
                let difference = (found.reward - rewards[step]).abs();
                assert!(
                    difference < TOLERANCE,
                    "{place}: reward off by {difference}"
                );
                assert_eq!(found.terminated, terminated[step] == 1.0, "{place}");
            }
            assert_eq!(
                terminated.last() == Some(&1.0),
                ends,
                "{name}, episode {episode}"
            );
        }
    }

    #[test]
    fn version_4_robots_move_exactly_like_gymnasiums() {
        let golden = Golden::load("gymnasium_v4");
        check_replay(&golden, "hopper-v4", [true, true]);
        check_replay(&golden, "walker2d-v4", [true, true]);
        check_replay(&golden, "halfcheetah-v4", [false, false]);
        check_replay(&golden, "ant-v4", [true, false]);
    }

    #[test]
    fn version_5_robots_move_exactly_like_gymnasiums() {
        let golden = Golden::load("gymnasium_v5");
        check_replay(&golden, "hopper-v5", [true, true]);
        check_replay(&golden, "walker2d-v5", [true, true]);
        check_replay(&golden, "halfcheetah-v5", [false, false]);
        check_replay(&golden, "ant-v5", [true, false]);
    }

    #[test]
    fn starts_are_the_models_with_small_noise_and_repeat_with_the_seed() {
        for (name, scale) in [("hopper-v4", 5e-3), ("ant-v5", 0.1)] {
            let mut env = Mujoco::new(name).expect("tests/setup-mujoco has run");
            let (initial, _) = env.state();
            let first = envs::Environment::reset(&mut env, 3).expect("reset");
            let (positions, velocities) = env.state();
            let noise = largest_difference(&positions, &initial);
            assert!(noise <= scale && noise > 0.3 * scale, "{name}: {noise}");
            assert!(velocities.iter().all(|v| *v != 0.0));
            assert_ne!(envs::Environment::reset(&mut env, 4).expect("reset"), first);
            assert_eq!(envs::Environment::reset(&mut env, 3).expect("reset"), first);
        }
    }

    #[test]
    fn an_episode_is_truncated_after_1000_steps() {
        let mut env = envs::make("HalfCheetah-v4").expect("case does not matter");
        env.reset(0).expect("reset");
        for step in 1..=1000 {
            let after = env.step(&[0.0; 6]).expect("step");
            assert_eq!(
                (after.terminated, after.truncated),
                (false, step == 1000),
                "step {step}"
            );
        }
    }

    #[test]
    fn a_state_of_the_wrong_size_is_refused() {
        let mut env = Mujoco::new("hopper-v4").expect("tests/setup-mujoco has run");
        let problem = env
            .set_state(&[0.0; 5], &[0.0; 6])
            .expect_err("5 positions")
            .to_string();
        assert!(problem.contains("6 positions"), "{problem}");
        assert!(env.exact_step(&[0.0; 2]).is_err());
    }
}

/// Mean undiscounted return of a named policy over episodes that run side by side.
fn mean_return(name: &str, policy: &str, episodes: usize) -> f64 {
    let mut env = VectorEnv::make(name, episodes).expect(name);
    let mut policy = behavior(policy, env.spec(), &Default::default()).expect(policy);
    let streams = Streams::from_seed(0);
    let seeds: Vec<u64> = (0..episodes)
        .map(|row| streams.numbered("start", row as u64).bits())
        .collect();
    let starts: Vec<EpisodeStart> = (0..episodes)
        .map(|row| EpisodeStart {
            rng: streams.numbered("policy", row as u64),
            target_return: None,
            goal: None,
            instruction: None,
        })
        .collect();
    env.reset(&seeds).expect("reset");
    policy.begin(&starts).expect("begin");
    let mut total = 0.0;
    let mut active = vec![true; episodes];
    while active.iter().any(|&active| active) {
        let actions = policy
            .act(&env.observations().expect("observations"), &active)
            .expect("act");
        let step = env.step(&actions, &active).expect("step");
        total += step.rewards.iter().map(|&r| f64::from(r)).sum::<f64>();
        for (row, active) in active.iter_mut().enumerate() {
            *active &= !step.terminated[row] && !step.truncated[row];
        }
    }
    total / episodes as f64
}

#[test]
fn point_maze_scores_are_measured_against_the_random_policy_and_the_controller() {
    for name in envs::pointmaze::names() {
        let reference = envs::reference_for(name).expect("own reference returns");
        let score =
            |policy: &str| envs::normalized_score(reference, mean_return(name, policy, 200));
        // Three standard errors over 200 episodes: the random policy's returns deviate by about
        // their mean, the controller's by the way from the start.
        let (random, controller) = (score("random"), score("waypoint-goal"));
        println!("{name}: random {random:.2}, controller {controller:.2}");
        assert!(random.abs() < 4.0, "{name}: random policy scores {random}");
        assert!(
            (controller - 100.0).abs() < 4.0,
            "{name}: controller scores {controller}"
        );
    }
}
