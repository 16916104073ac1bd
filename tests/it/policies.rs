//! Behavior policies: actors from files, and the waypoint controller.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use trajformer::envs::pointmaze::{Layout, PointMaze, center};
use trajformer::envs::{self, EnvSpec, Environment};
use trajformer::policy::behavior::waypoint::{Goals, WaypointPolicy};
use trajformer::policy::file::{FilePolicy, FilePolicyOptions, HiddenActivation, OutputActivation};
use trajformer::policy::{EpisodeStart, Policy};
use trajformer::rng::Rng;

/// Activations in f32 against f64 on paper.
const TOLERANCE: f64 = 1e-6;

fn pendulum() -> EnvSpec {
    envs::make("pendulum-v1").expect("built in").spec().clone()
}

fn start(seed: u64) -> EpisodeStart {
    EpisodeStart {
        rng: Rng::from_seed(seed),
        target_return: None,
        goal: None,
        instruction: None,
    }
}

fn array(values: &[f64], shape: &[usize]) -> Tensor {
    let values = Tensor::from_slice(values, shape, &Device::Cpu).expect("array");
    values.to_dtype(DType::F32).expect("f32")
}

fn write(path: &Path, arrays: &[(&str, Tensor)]) {
    Tensor::write_npz(arrays, path).expect("npz");
}

fn options(output: OutputActivation) -> FilePolicyOptions {
    FilePolicyOptions {
        sample: false,
        hidden_activation: Some(HiddenActivation::Relu),
        output: Some(output),
    }
}

/// The pendulum policy in `arrays` at one observation, `steps` times in a row.
fn actions(
    arrays: &[(&str, Tensor)],
    options: FilePolicyOptions,
    observation: [f64; 3],
    steps: usize,
) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("actor.npz");
    write(&path, arrays);
    let mut policy = FilePolicy::load(&path, &pendulum(), &options).expect("policy");
    policy.begin(&[start(1)]).expect("begin");
    let observation = array(&observation, &[1, 3]);
    let act = |_| {
        let action = policy.act(&observation, &[true]).expect("act");
        f64::from(
            action
                .flatten_all()
                .and_then(|a| a.to_vec1::<f32>())
                .expect("action")[0],
        )
    };
    (0..steps).map(act).collect()
}

/// One hidden layer (ReLU) that keeps x0 - x1 and x2 apart, and their sum plus a half.
fn two_layers() -> Vec<(&'static str, Tensor)> {
    vec![
        ("w0", array(&[1.0, -1.0, 0.0, 0.0, 0.0, 1.0], &[2, 3])),
        ("b0", array(&[0.0, 0.1], &[2])),
        ("w1", array(&[1.0, 2.0], &[1, 2])),
        ("b1", array(&[0.5], &[1])),
    ]
}

#[test]
fn a_file_policy_computes_what_its_layers_say() {
    // Hidden: relu(0.2 - 0.5) = 0, relu(-0.3 + 0.1) = 0: the bias remains; then relu(0.3), relu(0.4).
    for (observation, sum) in [([0.2, 0.5, -0.3], 0.5), ([0.5, 0.2, 0.3], 0.5 + 0.3 + 0.8)] {
        let identity = actions(
            &two_layers(),
            options(OutputActivation::Identity),
            observation,
            1,
        );
        assert!((identity[0] - sum).abs() < TOLERANCE, "{identity:?}");
        // The pendulum's bounds are ±2, and tanh spans them.
        let tanh = actions(
            &two_layers(),
            options(OutputActivation::Tanh),
            observation,
            1,
        );
        assert!((tanh[0] - 2.0 * sum.tanh()).abs() < TOLERANCE, "{tanh:?}");
    }
    let clamped = actions(
        &two_layers(),
        options(OutputActivation::Identity),
        [9.0, 0.0, 0.0],
        1,
    );
    assert_eq!(clamped, [2.0]);
}

#[test]
fn observations_are_normalized_and_clamped_to_ten() {
    let mut arrays = vec![
        ("w0", array(&[0.1, 0.0, 0.1], &[1, 3])),
        ("b0", array(&[0.0], &[1])),
        ("obs_mean", array(&[1.0, 0.0, 0.0], &[3])),
    ];
    arrays.push(("obs_std", array(&[2.0, 1.0, 0.5], &[3])));
    let identity = options(OutputActivation::Identity);
    // (3 - 1) / 2 = 1 and 1 / 0.5 = 2; then 100 / 0.5 clamped to 10.
    assert!((actions(&arrays, identity, [3.0, 0.0, 1.0], 1)[0] - 0.3).abs() < TOLERANCE);
    assert!((actions(&arrays, identity, [3.0, 0.0, 100.0], 1)[0] - 1.1).abs() < TOLERANCE);
}

#[test]
fn a_wider_first_layer_sees_the_time_left() {
    let arrays = [
        ("w0", array(&[0.0, 0.0, 0.0, 1.0], &[1, 4])),
        ("b0", array(&[0.0], &[1])),
    ];
    let found = actions(
        &arrays,
        options(OutputActivation::Identity),
        [1.0, 1.0, 1.0],
        3,
    );
    for (step, action) in found.iter().enumerate() {
        assert!(
            (action - (1.0 - step as f64 / 1000.0)).abs() < TOLERANCE,
            "{found:?}"
        );
    }
}

#[test]
fn sampling_adds_noise_of_the_stored_deviation() {
    let constant = [
        ("w0", array(&[0.0; 3], &[1, 3])),
        ("b0", array(&[0.2], &[1])),
    ];
    let fixed = ("log_std", array(&[0.3_f64.ln()], &[1]));
    let weights = ("log_std_w", array(&[0.3_f64.ln(), 0.0, 0.0], &[1, 3]));
    let from_features = [weights, ("log_std_b", array(&[0.0], &[1]))];
    let mut sampled = options(OutputActivation::Identity);
    sampled.sample = true;
    for extra in [vec![fixed], from_features.to_vec()] {
        let arrays: Vec<_> = constant.iter().cloned().chain(extra).collect();
        let found = actions(&arrays, sampled, [1.0, 0.0, 0.0], 4000);
        let mean = found.iter().sum::<f64>() / 4000.0;
        let variance = found.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4000.0;
        // Four standard errors at 4,000 draws.
        assert!((mean - 0.2).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() - 0.3).abs() < 0.014, "{}", variance.sqrt());
        let mode = actions(
            &arrays,
            options(OutputActivation::Identity),
            [1.0, 0.0, 0.0],
            2,
        );
        assert!(mode.iter().all(|v| (v - 0.2).abs() < TOLERANCE), "{mode:?}");
    }
    // e^-30 is raised to e^-20, which is still nothing; e^30 is cut to e^2.
    let wide = ("log_std_w", array(&[30.0, 0.0, 0.0], &[1, 3]));
    let arrays: Vec<_> = constant
        .iter()
        .cloned()
        .chain([wide, ("log_std_b", array(&[0.0], &[1]))])
        .collect();
    let found = actions(&arrays, sampled, [1.0, 0.0, 0.0], 2000);
    let inside = found.iter().filter(|v| v.abs() < 2.0).count() as f64 / 2000.0;
    // Within ±2 of 0.2 at a standard deviation of e²: 0.2131; four standard errors.
    assert!((inside - 0.2131).abs() < 0.037, "{inside}");
}

#[test]
fn activations_come_from_the_manifest_beside_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("actor.npz");
    write(&path, &two_layers());
    let load = || FilePolicy::load(&path, &pendulum(), &FilePolicyOptions::default());
    let problem = load().expect_err("no manifest").to_string();
    assert!(
        problem.contains("actor.npz") && problem.contains("manifest.json"),
        "{problem}"
    );
    let manifest = r#"[{"file": "other.npz", "hidden_activation": "tanh", "output": "tanh"},
        {"file": "actor.npz", "hidden_activation": "relu", "output": "identity"}]"#;
    std::fs::write(folder.path().join("manifest.json"), manifest).expect("manifest");
    let mut policy = load().expect("policy");
    policy.begin(&[start(0)]).expect("begin");
    let action = policy
        .act(&array(&[0.5, 0.2, 0.3], &[1, 3]), &[true])
        .expect("act");
    let action = action.to_vec2::<f32>().expect("action")[0][0];
    assert!((f64::from(action) - 1.6).abs() < TOLERANCE, "{action}");
}

#[test]
fn files_that_are_no_policy_are_refused_by_array_and_reason() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("actor.npz");
    let check = |change: (&'static str, Option<Tensor>), sample: bool, expected: &str| {
        let mut arrays = two_layers();
        arrays.retain(|(name, _)| *name != change.0);
        arrays.extend(change.1.map(|array| (change.0, array)));
        write(&path, &arrays);
        let options = FilePolicyOptions {
            sample,
            ..options(OutputActivation::Tanh)
        };
        let problem = FilePolicy::load(&path, &pendulum(), &options).expect_err(expected);
        let problem = problem.to_string();
        assert!(
            problem.contains("actor.npz") && problem.contains(expected),
            "{problem}"
        );
    };
    check(("w0", None), false, "`w0` is missing");
    check(("b1", None), false, "`b1` is missing");
    check(
        ("b0", Some(array(&[0.0; 3], &[3]))),
        false,
        "`b0` has 3 numbers, expected 2",
    );
    check(
        ("b0", Some(array(&[0.0; 2], &[2, 1]))),
        false,
        "expected rank 1",
    );
    check(
        ("w1", Some(array(&[0.0; 3], &[1, 3]))),
        false,
        "`w1` takes 3 inputs, `w0` gives 2",
    );
    check(
        ("w0", Some(array(&[0.0; 12], &[2, 6]))),
        false,
        "maps 6 inputs",
    );
    check(
        ("w1", Some(array(&[f64::NAN, 0.0], &[1, 2]))),
        false,
        "`w1` holds NaN at 0",
    );
    check(
        ("obs_mean", Some(array(&[0.0; 3], &[3]))),
        false,
        "`obs_std` is missing",
    );
    check(
        ("obs_std", Some(array(&[0.0; 3], &[3]))),
        false,
        "`obs_mean` is missing",
    );
    check(("unknown", None), true, "`log_std`");
}

fn umaze() -> Layout {
    Layout::named("pointmaze-umaze").expect("built in")
}

/// Positions that one episode of the controller passes through.
fn path(goals: Goals, start: EpisodeStart, seed: u64) -> Vec<[f64; 2]> {
    let mut env = PointMaze::new(umaze());
    let mut policy = WaypointPolicy::new(umaze(), goals, 0.0);
    policy.begin(&[start]).expect("begin");
    let mut observation = env.reset(seed).expect("reset");
    let mut positions = Vec::new();
    for _ in 0..300 {
        let input = Tensor::from_slice(&observation, (1, 4), &Device::Cpu).expect("tensor");
        let action = policy
            .act(&input, &[true])
            .expect("act")
            .to_vec2::<f32>()
            .expect("force");
        observation = env.step(&action[0]).expect("step").observation;
        positions.push(env.state().0);
    }
    positions
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

#[test]
fn the_controller_reaches_the_goal_quickly_and_stays() {
    for seed in 0..10 {
        let positions = path(Goals::Fixed, start(0), seed);
        // Seven cells of about five steps each.
        assert!(
            positions[40..]
                .iter()
                .all(|&p| distance(p, umaze().goal()) < 0.5),
            "{seed}"
        );
        assert!(distance(positions[299], umaze().goal()) < 0.01, "{seed}");
    }
}

#[test]
fn the_controller_goes_to_another_goal_when_told_so() {
    let goal = Some(vec![1.6, 1.4, 0.0, 0.0]);
    let positions = path(Goals::Fixed, EpisodeStart { goal, ..start(0) }, 3);
    let (x, y) = (f64::from(1.6_f32), f64::from(1.4_f32));
    assert!(
        distance(positions[299], [x, y]) < 0.01,
        "{:?}",
        positions[299]
    );
    let mut policy = WaypointPolicy::new(umaze(), Goals::Fixed, 0.0);
    let in_a_wall = EpisodeStart {
        goal: Some(vec![1.5, 2.5, 0.0, 0.0]),
        ..start(0)
    };
    assert!(policy.begin(&[in_a_wall]).is_err());
}

#[test]
fn random_goals_lead_through_the_whole_maze() {
    let layout = umaze();
    let mut cells: Vec<_> = path(Goals::Random, start(4), 0)
        .into_iter()
        .map(|p| layout.cell_of(p))
        .collect();
    cells.sort_unstable();
    cells.dedup();
    assert_eq!(cells.len(), layout.free_cells().len());
}

#[test]
fn one_random_goal_per_episode_is_reached_and_kept() {
    let layout = umaze();
    let mut ends: Vec<_> = (0..20)
        .map(|seed| {
            let positions = path(Goals::RandomOnce, start(seed), seed);
            let end = layout.cell_of(positions[299]);
            assert!(
                positions[60..]
                    .iter()
                    .all(|&p| distance(p, center(end)) < 0.5),
                "{seed}"
            );
            end
        })
        .collect();
    ends.sort_unstable();
    ends.dedup();
    assert!(ends.len() > 4, "{ends:?}");
}

#[test]
fn acting_for_episodes_that_were_not_begun_is_refused() {
    let mut policy = WaypointPolicy::new(umaze(), Goals::Fixed, 0.0);
    policy.begin(&[start(0)]).expect("begin");
    let observations = array(&[1.5, 1.5, 0.0, 0.0, 1.5, 1.5, 0.0, 0.0], &[2, 4]);
    let problem = policy
        .act(&observations, &[true; 2])
        .expect_err("two rows")
        .to_string();
    assert!(
        problem.contains("2 rows, expected 1, one for each episode that was begun"),
        "{problem}"
    );
}
