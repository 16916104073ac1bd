//! Goals and imitation from start to end: collected data, the repository's configurations, training,
//! scoring, plans, stored runs.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use trajformer::config::{EvaluateConfig, RunConfig};
use trajformer::data::{self, Dataset};
use trajformer::envs::pointmaze::{self, Layout, PointMaze};
use trajformer::envs::{self, Environment};
use trajformer::evaluate::Evaluator;
use trajformer::policy::behavior::behavior;
use trajformer::policy::file::FilePolicyOptions;
use trajformer::policy::{EpisodeStart, Policy};
use trajformer::{preview, run};

/// Centre of umaze's goal cell, at rest.
const UMAZE_GOAL: [f32; 4] = [1.5, 3.5, 0.0, 0.0];
/// The other end of the maze.
const OTHER_GOAL: [f32; 4] = [1.5, 1.5, 0.0, 0.0];

fn write_data(folder: &Path, env: &str, policy: &str) -> PathBuf {
    let mut env = envs::make(env).unwrap();
    let mut policy = behavior(policy, env.spec(), &FilePolicyOptions::default()).unwrap();
    let dataset = data::collect::collect(&mut *env, &mut *policy, 900, 1).unwrap();
    let path = folder.join("data.npz");
    data::save(&dataset, &path).unwrap();
    path
}

/// A configuration of the repository, on this data, made small.
fn config(name: &str, data: &Path, more: &[&str]) -> RunConfig {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/trajectory_transformer");
    let mut overrides = vec![format!("data.path=\"{}\"", data.display())];
    let small = [
        "train.updates=20",
        "evaluate.episodes=2",
        "algorithm.trajectory_transformer.batch_size=8",
        "algorithm.trajectory_transformer.planner.beam_width=2",
    ];
    overrides.extend(small.iter().chain(more).map(|&text| text.to_owned()));
    RunConfig::load(&root.join(format!("{name}.toml")), &overrides).unwrap()
}

fn goal(goal: &[f32]) -> String {
    format!("evaluate.goal={goal:?}")
}

/// Roll-outs of a stored run, opened with these overrides.
fn roll_outs(out: &Path, overrides: &[String]) -> Dataset {
    let stored = run::open(out, overrides).unwrap();
    let mut evaluator = Evaluator::new(&stored.config.evaluate).unwrap().unwrap();
    let mut policy = stored.algorithm.policy().unwrap();
    evaluator.run_recorded(&mut *policy).unwrap().1
}

#[test]
fn a_goal_run_is_trained_scored_stored_and_goes_by_its_goal() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_data(folder.path(), "pointmaze-umaze", "random"); // no action is the usual one
    let config = config("pointmaze-umaze-goal", &data, &[]);
    let out = folder.path().join("run");
    let trained = run::start(&config, &out).unwrap().evaluation.unwrap();
    assert_eq!(trained.lengths, [300, 300]);
    fs::remove_file(data).unwrap();

    let stored = run::open(&out, &[]).unwrap();
    let mut policy = stored.algorithm.policy().unwrap();
    assert!(policy.needs_goal());
    let mut evaluator = Evaluator::new(&stored.config.evaluate).unwrap().unwrap();
    assert_eq!(evaluator.run(&mut *policy).unwrap(), trained);

    let own = roll_outs(&out, &[]);
    let named = roll_outs(&out, &[goal(&UMAZE_GOAL)]);
    let other = roll_outs(&out, &[goal(&OTHER_GOAL)]);
    assert!(
        own.actions == named.actions,
        "the maze's goal is the default"
    );
    assert!(own.actions != other.actions, "the goal makes no difference");
}

#[test]
fn a_plan_is_made_for_the_same_goal_as_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_data(folder.path(), "pointmaze-umaze", "random"); // no action is the usual one
    let out = folder.path().join("run");
    let config = config("pointmaze-umaze-goal", &data, &["evaluate.episodes=0"]);
    run::start(&config, &out).unwrap();
    let plan = |overrides: &[String]| -> Vec<Vec<Vec<f32>>> {
        let stored = run::open(&out, overrides).unwrap();
        let mut policy = stored.algorithm.policy().unwrap();
        let found = preview::preview(&mut *policy, &stored.config, 5).unwrap();
        found.imagined.actions.to_vec3().unwrap()
    };
    assert_eq!(plan(&[]), plan(&[goal(&UMAZE_GOAL)]));
    assert_ne!(plan(&[]), plan(&[goal(&OTHER_GOAL)]));
}

#[test]
fn an_imitating_run_is_trained_scored_and_stored() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_data(folder.path(), "pointmaze-umaze", "random"); // no action is the usual one
    let out = folder.path().join("run");
    let config = config("pointmaze-umaze-imitation", &data, &[]);
    let trained = run::start(&config, &out).unwrap().evaluation.unwrap();
    let stored = run::open(&out, &[]).unwrap();
    let mut policy = stored.algorithm.policy().unwrap();
    assert!(!policy.needs_goal());
    let mut evaluator = Evaluator::new(&stored.config.evaluate).unwrap().unwrap();
    assert_eq!(evaluator.run(&mut *policy).unwrap(), trained);
    // Nothing is drawn: the most likely future is the same in every stream.
    let mut act = |seed: u64| {
        let rng = trajformer::rng::Rng::from_seed(seed);
        let start = EpisodeStart {
            rng,
            target_return: None,
            goal: None,
            instruction: None,
        };
        policy.begin(&[start]).unwrap();
        let observation = Tensor::from_slice(&OTHER_GOAL, (1, 4), &Device::Cpu).unwrap();
        policy
            .act(&observation, &[true])
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    assert_eq!(act(1), act(2));
}

#[test]
fn a_goal_that_is_missing_is_asked_for_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_data(folder.path(), "pendulum-v1", "random");
    let out = folder.path().join("run");
    let start = |more: &[&str]| {
        let more = [&["evaluate.env=pendulum-v1"], more].concat();
        run::start(&config("pointmaze-umaze-goal", &data, &more), &out)
    };
    let error = start(&[]).unwrap_err().to_string();
    assert!(
        ["`pendulum-v1`", "evaluate.goal", "3 numbers", "episodes=0"]
            .iter()
            .all(|part| error.contains(part)),
        "{error}"
    );
    assert!(!out.exists(), "nothing was begun");
    for wrong in ["evaluate.goal=[1.0, 0.0]", "evaluate.goal=[1.0, nan, 0.0]"] {
        let error = start(&[wrong]).unwrap_err().to_string();
        assert!(error.contains("expected an observation"), "{error}");
    }

    // Without scores there is nothing to ask; planning asks again.
    start(&["evaluate.episodes=0"]).unwrap();
    let plan = |overrides: &[String]| {
        let stored = run::open(&out, overrides).unwrap();
        let mut policy = stored.algorithm.policy().unwrap();
        preview::preview(&mut *policy, &stored.config, 0).map(|found| found.rewards.len())
    };
    let error = plan(&[]).unwrap_err().to_string();
    assert!(error.contains("evaluate.goal"), "{error}");
    assert_eq!(plan(&[goal(&[1.0, 0.0, 0.0])]).unwrap(), 9);
}

/// Remembers the goals of its episodes and stands still.
struct Asker {
    needs_goal: bool,
    goals: Vec<Option<Vec<f32>>>,
}

impl Policy for Asker {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> trajformer::Result<()> {
        self.goals = episodes.iter().map(|start| start.goal.clone()).collect();
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, _: &[bool]) -> trajformer::Result<Tensor> {
        Ok(Tensor::zeros(
            (observations.dim(0)?, 2),
            DType::F32,
            &Device::Cpu,
        )?)
    }

    fn needs_goal(&self) -> bool {
        self.needs_goal
    }
}

#[test]
fn episodes_start_with_the_goal_that_was_named_last() {
    let evaluator = |goal: Option<&[f32]>| {
        let config = EvaluateConfig {
            env: Some("pointmaze-umaze".to_owned()),
            episodes: 2,
            goal: goal.map(<[f32]>::to_vec),
            ..EvaluateConfig::default()
        };
        Evaluator::new(&config).unwrap().unwrap()
    };
    let mut asker = Asker {
        needs_goal: true,
        goals: Vec::new(),
    };
    let mut check = |goal: Option<&[f32]>, prepared: Option<&[f32]>, expected: [f32; 4]| {
        let prepare = |start: &mut EpisodeStart| {
            start.goal = prepared.map(<[f32]>::to_vec).or(start.goal.take());
        };
        evaluator(goal).run_with(&mut asker, prepare, None).unwrap();
        assert_eq!(asker.goals, vec![Some(expected.to_vec()); 2]);
    };
    let third = [2.5, 1.5, 0.0, 0.0];
    check(None, None, UMAZE_GOAL);
    check(Some(&OTHER_GOAL), None, OTHER_GOAL);
    check(Some(&OTHER_GOAL), Some(&third), third);

    asker.needs_goal = false;
    evaluator(None).run(&mut asker).unwrap();
    assert_eq!(asker.goals, [None, None]);
    let error = evaluator(Some(&OTHER_GOAL)).run(&mut asker).unwrap_err();
    assert!(
        error.to_string().contains("trained without goals"),
        "{error}"
    );
}

#[test]
fn a_mazes_goal_is_where_it_pays() {
    for name in pointmaze::names() {
        let mut env = PointMaze::new(Layout::named(name).unwrap());
        let goal: Vec<f64> = env.goal().unwrap().into_iter().map(f64::from).collect();
        env.set_state([goal[0], goal[1]], [goal[2], goal[3]])
            .unwrap();
        let step = env.step(&[0.0, 0.0]).unwrap();
        assert_eq!(step.reward, 1.0, "{name}");
        assert_eq!(Some(step.observation), env.goal(), "{name}: at rest");
    }
    assert_eq!(envs::make("pendulum-v1").unwrap().goal(), None);
}
