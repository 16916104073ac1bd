//! Training windows: tokens against the authors' numbers, returns-to-go against a small example.

use candle_core::{DType, Device, Tensor};
use trajformer::data::discretizer::DiscretizerKind;
use trajformer::data::return_sequences::{
    Padding, ReturnOptions, ReturnSequences, observation_normalizer,
};
use trajformer::data::sequences::{GoalPrefix, TokenOptions, TokenSequences, ValueColumn};
use trajformer::data::{ActionKind, Dataset, Episode};
use trajformer::rng::Rng;

use crate::golden::Golden;

fn dataset(rows: [&[f32]; 3], action_dim: usize, episodes: Vec<Episode>) -> Dataset {
    let [observations, actions, rewards] = rows;
    Dataset {
        observation_dim: observations.len() / rewards.len(),
        action_dim,
        action_kind: ActionKind::Continuous,
        observations: observations.to_vec(),
        actions: actions.to_vec(),
        rewards: rewards.to_vec(),
        episodes,
        env_name: None,
        reference_returns: None,
        action_bounds: None,
        sources: Vec::new(),
        warnings: Vec::new(),
    }
}

fn episode(start: usize, steps: usize, terminated: bool, truncated: bool) -> Episode {
    Episode {
        terminated,
        truncated,
        ..Episode::new(start, steps)
    }
}

/// The golden data set, without its last row: the authors' reader always loses it.
fn golden_dataset(golden: &Golden) -> Dataset {
    let numbers = |name: &str| -> Vec<f32> {
        golden
            .numbers(&format!("raw.{name}"))
            .iter()
            .map(|&value| value as f32)
            .collect()
    };
    let (terminals, timeouts) = (
        golden.integers("raw.terminals"),
        golden.integers("raw.timeouts"),
    );
    let rows = terminals.len() - 1;
    let mut episodes = Vec::new();
    let mut start = 0;
    for row in 0..rows {
        if terminals[row] + timeouts[row] > 0 || row + 1 == rows {
            // The authors take what the end of the file cuts off for a whole episode.
            let truncated = timeouts[row] == 1 || row + 1 == rows;
            let terminated = terminals[row] == 1;
            episodes.push(episode(start, row + 1 - start, terminated, truncated));
            start = row + 1;
        }
    }
    let (o, a) = (
        golden.integer("observation_dim"),
        golden.integer("action_dim"),
    );
    let (observations, actions) = (numbers("observations"), numbers("actions"));
    let rewards = numbers("rewards");
    dataset(
        [
            &observations[..rows * o],
            &actions[..rows * a],
            &rewards[..rows],
        ],
        a,
        episodes,
    )
}

fn options(golden: &Golden, termination_penalty: Option<f64>) -> TokenOptions {
    TokenOptions {
        bins: golden.integer("bins"),
        discretizer: DiscretizerKind::Quantile,
        window_transitions: golden.integer("window"),
        discount: golden.number("discount"),
        termination_penalty,
        max_path_steps: Some(golden.integer("longest_path")),
        value: ValueColumn::Return,
        goal: GoalPrefix::None,
    }
}

#[test]
fn windows_targets_and_masks_equal_the_authors() {
    let golden = Golden::load("trajectory_sequences");
    let data = golden_dataset(&golden);
    let penalties = [
        ("penalty", Some(golden.number("termination_penalty"))),
        ("plain", None),
    ];
    for (which, penalty) in penalties {
        let sequences = TokenSequences::new(&data, &options(&golden, penalty)).expect("windows");
        let thresholds = golden.numbers(&format!("{which}.thresholds"));
        let dims = sequences.discretizer().dims();
        for (at, expected) in thresholds.iter().enumerate() {
            let found = sequences.discretizer().thresholds(at % dims)[at / dims];
            // The data set is f32, the authors' numbers here are f64.
            assert!(
                (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
                "{which} {at}"
            );
        }
        let all: Vec<usize> = (0..sequences.len()).collect();
        let batch = sequences.batch(&all, &Device::Cpu).expect("a batch");
        let expected = |name: &str| golden.integers(&format!("{which}.{name}"));
        let found = |tensor: &Tensor| {
            let flat = tensor
                .to_dtype(DType::U32)
                .and_then(|tensor| tensor.flatten_all());
            flat.and_then(|flat| flat.to_vec1::<u32>())
                .expect("integers")
        };
        assert_eq!(batch.inputs.dims(), golden.dims(&format!("{which}.x")));
        assert_eq!(found(&batch.inputs), expected("x"), "{which}: inputs");
        assert_eq!(found(&batch.targets), expected("y"), "{which}: targets");
        assert_eq!(found(&batch.mask), expected("mask"), "{which}: mask");
    }
}

#[test]
fn a_goal_is_the_last_observation_of_the_episode_in_place_of_a_first_transition() {
    let golden = Golden::load("trajectory_sequences");
    let data = golden_dataset(&golden);
    let plain = TokenSequences::new(&data, &options(&golden, None)).expect("windows");
    let with_goals = TokenOptions {
        goal: GoalPrefix::FinalObservation,
        ..options(&golden, None)
    };
    let with_goals = TokenSequences::new(&data, &with_goals).expect("windows");
    // The first episode has 7 steps, so 6 windows; the seventh window is the second episode's.
    for (window, last_step) in [(0, 6), (5, 6), (6, 18)] {
        let rows = |sequences: &TokenSequences| {
            let batch = sequences.batch(&[window], &Device::Cpu).expect("a batch");
            let mask = batch.mask.to_dtype(DType::U32).expect("integers");
            [batch.inputs, mask].map(|t| t.to_vec2::<u32>().expect("integers").remove(0))
        };
        let ([tokens, mask], [plain_tokens, plain_mask]) = (rows(&with_goals), rows(&plain));
        let (o, d) = (data.observation_dim, plain.discretizer().dims());
        let goal: Vec<f64> = data
            .observation(last_step)
            .iter()
            .map(|&x| f64::from(x))
            .collect();
        let mut expected = Vec::new();
        plain.discretizer().encode_slice(&goal, 0, &mut expected);
        assert_eq!(tokens[..o], expected);
        assert!(
            tokens[o..d]
                .iter()
                .all(|&token| token as usize == plain.discretizer().bins())
        );
        assert_eq!(tokens[d..], plain_tokens[..plain_tokens.len() - d]);
        assert!(mask[..d].iter().all(|&counts| counts == 0));
        assert_eq!(mask[d..], plain_mask[..plain_mask.len() - d]);
    }
}

#[test]
fn sampling_windows_repeats_with_the_seed_and_reaches_all_of_them() {
    let golden = Golden::load("trajectory_sequences");
    let data = golden_dataset(&golden);
    let sequences = TokenSequences::new(&data, &options(&golden, None)).expect("windows");
    let draw = |seed| {
        let batch = sequences.sample(500, &mut Rng::from_seed(seed), &Device::Cpu);
        batch
            .expect("a batch")
            .inputs
            .to_vec2::<u32>()
            .expect("tokens")
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let distinct = |mut rows: Vec<Vec<u32>>| {
        rows.sort();
        rows.dedup();
        rows.len()
    };
    let all: Vec<usize> = (0..sequences.len()).collect();
    let all = sequences
        .batch(&all, &Device::Cpu)
        .expect("a batch")
        .inputs
        .to_vec2();
    assert_eq!(distinct(draw(3)), distinct(all.expect("tokens")));
}

/// Two complete episodes of 3 and 2 steps and one cut off by the end of the file.
fn returns_example(padding: Padding) -> (Dataset, ReturnSequences) {
    let observations: Vec<f32> = (0..7).map(|step| step as f32).collect();
    let actions: Vec<f32> = (0..7).map(|step| step as f32 / 10.0).collect();
    let rewards = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    let episodes = vec![
        episode(0, 3, true, false),
        episode(3, 2, false, true),
        episode(5, 2, false, false),
    ];
    let data = dataset([&observations, &actions, &rewards], 1, episodes);
    let options = ReturnOptions {
        context_steps: 3,
        return_scale: 2.0,
        max_episode_steps: 2,
        padding,
    };
    let sequences = ReturnSequences::new(&data, &[1.0], &[2.0], options).expect("sequences");
    (data, sequences)
}

fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    let (b, k) = (tensor.dims()[0], tensor.dims()[1]);
    tensor
        .reshape((b, k))
        .and_then(|tensor| tensor.to_vec2())
        .expect("numbers")
}

#[test]
fn stretches_hold_scaled_returns_to_go_and_padding_on_the_side_asked_for() {
    let (_, sequences) = returns_example(Padding::Left);
    assert_eq!(sequences.steps(), 5);
    let batch = sequences.batch(&[0, 1, 4], &Device::Cpu).expect("a batch");
    assert_eq!(
        rows(&batch.returns_to_go),
        [[3.5, 3.0, 2.0], [0.0, 3.0, 2.0], [0.0, 0.0, 8.0]]
    );
    assert_eq!(
        rows(&batch.states),
        [[-0.5, 0.0, 0.5], [-0.5, 0.0, 0.5], [-0.5, -0.5, 1.5]]
    );
    assert_eq!(
        rows(&batch.actions),
        [[0.0, 0.1, 0.2], [-10.0, 0.1, 0.2], [-10.0, -10.0, 0.4]]
    );
    assert_eq!(
        rows(&batch.mask),
        [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    );
    // The third step counts as the second: the embedding has two rows.
    let timesteps: Vec<Vec<u32>> = batch.timesteps.to_vec2().expect("integers");
    assert_eq!(timesteps, [[0, 1, 1], [0, 1, 1], [0, 0, 1]]);

    let (_, sequences) = returns_example(Padding::LeftZeros);
    let batch = sequences.batch(&[1], &Device::Cpu).expect("a batch");
    assert_eq!(rows(&batch.states), [[0.0, 0.0, 0.5]]);
    assert_eq!(rows(&batch.actions), [[0.0, 0.1, 0.2]]);

    let (_, sequences) = returns_example(Padding::RightZeros);
    let batch = sequences.batch(&[1], &Device::Cpu).expect("a batch");
    assert_eq!(rows(&batch.returns_to_go), [[3.0, 2.0, 0.0]]);
    assert_eq!(rows(&batch.actions), [[0.1, 0.2, 0.0]]);
    assert_eq!(rows(&batch.mask), [[1.0, 1.0, 0.0]]);
}

#[test]
fn episodes_are_drawn_in_proportion_to_their_length() {
    let (_, sequences) = returns_example(Padding::RightZeros);
    let batch = sequences
        .sample(10_000, &mut Rng::from_seed(0), &Device::Cpu)
        .expect("a batch");
    let first_actions = rows(&batch.actions);
    let share = |low: f32, high: f32| {
        let inside = first_actions
            .iter()
            .filter(|row| row[0] > low && row[0] < high)
            .count();
        inside as f64 / 10_000.0
    };
    // Four standard errors at 10,000 draws.
    assert!((share(-0.05, 0.25) - 0.6).abs() < 0.02);
    assert!((share(0.25, 0.45) - 0.4).abs() < 0.02);
    assert_eq!(share(0.45, 9.0), 0.0);
}

/// What an algorithm fits of its data is compared with the authors' in `return_conditioned`.
#[test]
fn observation_statistics_are_those_of_the_complete_episodes() {
    let (data, _) = returns_example(Padding::Left);
    let normalizer = observation_normalizer(&data, "a test", &Device::Cpu).unwrap();
    let [mean, deviation] =
        [normalizer.mean(), normalizer.scale()].map(|t| t.to_vec1::<f32>().unwrap());
    // Of 0 to 4, without the 5 and 6 of the episode that the file breaks off.
    assert_eq!(mean[0], 2.0);
    assert!((deviation[0] - 2.0f32.sqrt()).abs() < 1e-5, "{deviation:?}");
    let mut nothing = data.clone();
    nothing.episodes.drain(..2);
    let problem = observation_normalizer(&nothing, "a test", &Device::Cpu);
    let problem = problem.expect_err("no complete episode").to_string();
    assert!(problem.contains("no episode is complete"), "{problem}");
}

/// All numbers of a tensor, with its shape.
fn numbers(tensor: &Tensor) -> (Vec<usize>, Vec<f64>) {
    let here = tensor.to_device(&Device::Cpu);
    let flat = here.and_then(|tensor| tensor.to_dtype(DType::F64)?.flatten_all());
    let flat = flat.and_then(|flat| flat.to_vec1()).expect("numbers");
    (tensor.dims().to_vec(), flat)
}

#[test]
fn stretches_gathered_from_tables_equal_those_copied_together() {
    for padding in [Padding::Left, Padding::LeftZeros, Padding::RightZeros] {
        let (_, copied) = returns_example(padding);
        let mut gathered = copied.clone();
        gathered.move_to(&crate::device::open()).expect("tables");
        let starts = [4, 0, 1, 2, 3, 0];
        let fields = |sequences: &ReturnSequences| {
            let batch = sequences.batch(&starts, &Device::Cpu).expect("a batch");
            assert_eq!(batch.timesteps.dtype(), DType::U32);
            [
                batch.returns_to_go,
                batch.states,
                batch.actions,
                batch.timesteps,
                batch.mask,
            ]
            .map(|tensor| numbers(&tensor))
        };
        assert_eq!(fields(&copied), fields(&gathered), "{padding:?}");
    }
}

#[test]
fn windows_gathered_from_tables_equal_those_copied_together() {
    let golden = Golden::load("trajectory_sequences");
    let mut data = golden_dataset(&golden);
    // The last episode has no end: its values, and what follows, are not trained on.
    let last = data.episodes.last_mut().expect("episodes");
    (last.terminated, last.truncated) = (false, false);
    // An episode of one step has no window.
    let second = data.episodes[1].clone();
    let (first, rest) = (second.start, second.steps - 1);
    data.episodes[1] = episode(first, 1, true, false);
    data.episodes.insert(
        2,
        Episode {
            start: first + 1,
            steps: rest,
            ..second
        },
    );
    let goals = [GoalPrefix::None, GoalPrefix::FinalObservation];
    // Tokens in bytes and in words.
    for (goal, bins) in goals.into_iter().zip([golden.integer("bins"), 300]) {
        let options = TokenOptions {
            goal,
            bins,
            ..options(&golden, None)
        };
        let copied = TokenSequences::new(&data, &options).expect("windows");
        let mut gathered = copied.clone();
        gathered.move_to(&crate::device::open()).expect("tables");
        let all: Vec<usize> = (0..copied.len()).rev().collect();
        let fields = |sequences: &TokenSequences| {
            let batch = sequences.batch(&all, &Device::Cpu).expect("a batch");
            assert_eq!(batch.inputs.dtype(), DType::U32);
            [batch.inputs, batch.targets, batch.mask].map(|tensor| numbers(&tensor))
        };
        let (copied, gathered) = (fields(&copied), fields(&gathered));
        assert!(copied == gathered, "{goal:?}");
        assert!(copied[2].1.contains(&0.0) && copied[2].1.contains(&1.0));
    }
}
