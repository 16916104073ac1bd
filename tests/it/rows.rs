//! What a policy does in one episode does not depend on how many others run beside it, nor on which of them have ended: the same
//! bits, for every algorithm.

use candle_core::{Device, Tensor};
use trajformer::algorithms::{ALGORITHMS, Build, Source};
use trajformer::config::RunConfig;
use trajformer::data::dataset::{ActionKind, Episode};
use trajformer::data::{ActionBounds, Dataset};
use trajformer::policy::{EpisodeStart, Policy};
use trajformer::rng::{Rng, Streams};

use crate::device;
use crate::runs::small;

/// Hopper's numbers of observations and actions: products with few columns are computed in ways of their own.
const SIZES: (usize, usize) = (11, 3);
/// Longer than the context of any of the sequence models.
const STEPS: usize = 12;
/// Numbers of episodes that run side by side: around the sizes of groups, and the largest that is cheap.
const EPISODES: [usize; 7] = [1, 2, 3, 7, 8, 9, 20];

fn data() -> Dataset {
    let rng = &mut Rng::from_seed(5);
    let (o, a) = SIZES;
    let (episodes, steps) = (6, 40);
    let mut numbers = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| (rng.uniform() * 2.0 - 1.0) as f32)
            .collect()
    };
    let count = episodes * steps;
    Dataset {
        observation_dim: o,
        action_dim: a,
        action_kind: ActionKind::Continuous,
        observations: numbers(count * o),
        actions: numbers(count * a),
        rewards: numbers(count),
        episodes: (0..episodes)
            .map(|i| Episode {
                terminated: i % 2 == 0,
                truncated: i % 2 == 1,
                ..Episode::new(i * steps, steps)
            })
            .collect(),
        ..Dataset::blank(o, a)
    }
}

/// Keys at which products have the sizes that people use, where that is quick.
fn wide(name: &str) -> &'static str {
    match name {
        "decision_transformer" => "embedding = 128\nlayers = 1\ncontext_steps = 5\nbatch_size = 2",
        "lamo" => "embedding = 64\nheads = 2\nlayers = 1\ncontext_steps = 5\nbatch_size = 2",
        "qt" => {
            "embedding = 128\nlayers = 1\ncontext_steps = 5\ncandidates = 12\nbatch_size = 2\ntarget_returns = [3.0, 1.0]"
        }
        "online_dt" => {
            "embedding = 128\nlayers = 1\nbatch_size = 2\ncontext_steps = 6\ntarget_returns = [3.0, 1.0]"
        }
        "reinformer" => "embedding = 128\nlayers = 1\nbatch_size = 2",
        "trajectory_transformer" => {
            "bins = 20\nlayers = 1\nheads = 4\nembedding_per_head = 16\nwindow_transitions = 4\nbatch_size = 2\n\
             planner.horizon = 2\nplanner.beam_width = 8\nplanner.max_context_transitions = 2"
        }
        "fast" => {
            "chunk_steps = 4\nexecute_steps = 2\nvocab_size = 128\nlayers = 1\nheads = 2\nembedding = 64\n\
             temperature = 0.5\nbatch_size = 2"
        }
        "tap" => {
            "codes = 32\ncode_width = 16\nlayers = 1\nheads = 4\nembedding_per_head = 16\nwindow_transitions = 6\n\
             batch_size = 2\nplanner.horizon = 6\nplanner.beam_width = 40"
        }
        "bear" | "brac" => "acting_samples = 10\nbatch_size = 16",
        _ => "batch_size = 16",
    }
}

fn policy(name: &str, keys: &str, data: &Dataset) -> Box<dyn Policy> {
    let config = RunConfig::parse(&format!("[algorithm.{name}]\n{keys}\n")).unwrap();
    let device = &device::open();
    let (low, high) = (vec![-1.0; SIZES.1], vec![1.0; SIZES.1]);
    let mut algorithm = config
        .algorithm
        .build(Build {
            source: Source::Train(data),
            bounds: &ActionBounds::new(&low, &high, device).unwrap(),
            fast: None,
            encoder: None,
            training_updates: 10,
            device,
            rng: &mut Streams::from_seed(1).stream("init"),
        })
        .unwrap();
    let rng = &mut Rng::from_seed(2);
    (0..4).for_each(|_| drop(algorithm.update(rng).unwrap()));
    algorithm.policy().unwrap()
}

/// Actions of every step and episode, as bits; observations and rewards are recorded ones, as if an environment gave them.
/// Episode i ends after `ends[i]` steps.
fn acted(
    policy: &mut dyn Policy,
    episodes: usize,
    ends: impl Fn(usize) -> usize,
) -> Vec<Vec<Vec<u32>>> {
    let (o, a) = SIZES;
    let streams = Streams::from_seed(9);
    let starts: Vec<EpisodeStart> = (0..episodes)
        .map(|row| EpisodeStart {
            rng: streams.numbered("policy", row as u64),
            target_return: Some(3.0),
            goal: None,
            instruction: None,
        })
        .collect();
    policy.begin(&starts).unwrap();
    let mut worlds: Vec<Rng> = (0..episodes as u64)
        .map(|row| streams.numbered("world", row))
        .collect();
    let mut actions = vec![Vec::new(); episodes];
    for step in 0..STEPS {
        let active: Vec<bool> = (0..episodes).map(|row| step < ends(row)).collect();
        let mut observations = Vec::new();
        let mut rewards = Vec::new();
        for world in &mut worlds {
            observations.extend((0..o).map(|_| world.normal() as f32));
            rewards.push(world.normal() as f32);
        }
        let observations = Tensor::from_vec(observations, (episodes, o), &Device::Cpu).unwrap();
        let found = policy.act(&observations, &active).unwrap();
        assert_eq!(found.dims(), [episodes, a]);
        let found = found.to_vec2::<f32>().unwrap();
        for (row, action) in found.iter().enumerate().filter(|&(row, _)| active[row]) {
            actions[row].push(action.iter().map(|number| number.to_bits()).collect());
        }
        policy.observe(&rewards).unwrap();
    }
    actions
}

fn check(name: &str, keys: &str, data: &Dataset) {
    let mut policy = policy(name, keys, data);
    let most = EPISODES[EPISODES.len() - 1];
    let all = acted(&mut *policy, most, |_| STEPS);
    assert!(all.iter().all(|actions| actions.len() == STEPS));
    for episodes in EPISODES {
        let found = acted(&mut *policy, episodes, |_| STEPS);
        for (row, (found, all)) in found.iter().zip(&all).enumerate() {
            assert!(
                found == all,
                "{name}: episode {row} beside {episodes} and beside {most}"
            );
        }
    }
    // All but every third episode end early, at other times.
    let ends = |row: usize| {
        if row.is_multiple_of(3) {
            STEPS
        } else {
            1 + row % STEPS
        }
    };
    for (row, found) in acted(&mut *policy, most, ends).iter().enumerate() {
        assert!(
            found[..] == all[row][..ends(row)],
            "{name}: episode {row} beside ended ones"
        );
    }
}

#[test]
fn an_episode_is_the_same_however_many_run_beside_it() {
    // A GPU takes all rows in one product.
    if !device::open().is_cpu() {
        return;
    }
    let data = data();
    for algorithm in ALGORITHMS {
        check(algorithm.name, small(algorithm.name), &data);
        check(algorithm.name, wide(algorithm.name), &data);
    }
}
