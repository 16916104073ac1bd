//! The demonstration: from no data at all to a planner that beats the behaviour it learned from.
//!
//! A waypoint controller wanders through a maze towards random places. From that log, and without
//! the maze, behaviour cloning and a small Trajectory Transformer are trained. Cloning wanders too;
//! planning with beam search on predicted rewards and values goes to the goal and stays.

mod pictures;

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;
use serde::Serialize;

use crate::config::{EvaluateConfig, RunConfig};
use crate::data::{self, Dataset};
use crate::envs::pointmaze::Layout;
use crate::envs::score::normalized_score;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, Evaluator, RecordedStep, Recorder, mean_std};
use crate::planning::Imagined;
use crate::policy::behavior::behavior;
use crate::policy::file::FilePolicyOptions;
use crate::policy::{EpisodeStart, Policy};
use crate::report::bars::Emphasis;
use crate::{envs, run};
use pictures::{LossPicture, Shown, draw_scores};

const ENV: &str = "pointmaze-umaze";
const STEPS: usize = 50_000;
const EPISODES: usize = 20;
const SEED: u64 = 0;
/// Plans are kept every so many steps; every `plan_every_steps` of the configuration there is one.
const KEPT_PLAN_EVERY_STEPS: usize = 3;

/// What `demo` leaves in its folder, apart from pictures.
const DATA: &str = "data.npz";
const BC_RUN: &str = "bc";
const PLANNER_RUN: &str = "planner";
const PICTURES: [&str; 5] = [
    "maze.png",
    "maze.svg",
    "scores.png",
    "learning.png",
    "learning-bc.png",
];

const PLANNER_CONFIG: &str =
    include_str!("../../configs/trajectory_transformer/pointmaze-umaze.toml");
const BC_CONFIG: &str = include_str!("../../configs/bc/pointmaze-umaze.toml");

/// Mean normalised scores (0 random, 100 controller) and how long everything took.
#[derive(Debug, Clone, Serialize)]
pub struct DemoResult {
    /// The Trajectory Transformer's beam-search planner.
    pub planner_score: f64,
    /// Behaviour cloning.
    pub bc_score: f64,
    /// The data's own episodes.
    pub data_score: f64,
    /// Random actions, measured in this run.
    pub random_score: f64,
    /// The controller that knows the maze, heading for the goal, measured in this run.
    pub controller_score: f64,
    /// Seconds for everything.
    pub seconds: f64,
    /// The pictures.
    pub pictures: Vec<PathBuf>,
}

/// Runs the demonstration in the folder `out`, which must not hold one already.
///
/// # Errors
/// If the folder is in use or can't be written, or something fails on the way.
pub fn demo(out: &Path) -> Result<DemoResult> {
    let begin = Instant::now();
    let layout = Layout::named(ENV).ok_or_else(|| Error::Env {
        name: ENV.to_owned(),
        problem: "missing".to_owned(),
    })?;
    refuse_used(out)?;
    std::fs::create_dir_all(out).map_err(Error::io(out))?;

    tracing::info!("collecting {STEPS} steps towards random places in {ENV}");
    let dataset = collect()?;
    let data_path = out.join(DATA);
    data::save(&dataset, &data_path)?;

    let random = score_behavior("random")?;
    let controller = score_behavior("waypoint-goal")?;
    tracing::info!("random actions: {}", random.evaluation.summary());
    let summary = controller.evaluation.summary();
    tracing::info!("controller that knows the maze: {summary}");

    tracing::info!("behaviour cloning");
    let bc = train(BC_CONFIG, &dataset, &data_path, &out.join(BC_RUN))?;
    tracing::info!("Trajectory Transformer, then beam search (a few minutes)");
    let planner = train(PLANNER_CONFIG, &dataset, &data_path, &out.join(PLANNER_RUN))?;

    let reference = layout.reference();
    let data_scores: Vec<f64> = dataset
        .returns()
        .into_iter()
        .map(|value| normalized_score(reference, value))
        .collect();
    let (data_mean, data_std) = mean_std(&data_scores);

    let pictures = PICTURES.map(|name| out.join(name));
    let shown = Shown {
        layout: &layout,
        dataset: &dataset,
        bc: &bc,
        planner: &planner,
    };
    shown.draw(&pictures[0])?;
    shown.draw(&pictures[1])?;
    let scores = [
        ("random actions", random.score(), Emphasis::Quiet),
        ("the data", (data_mean, data_std), Emphasis::Quiet),
        ("behaviour cloning", bc.score(), Emphasis::Quiet),
        ("planner", planner.score(), Emphasis::Strong),
        (
            "controller that knows the maze",
            controller.score(),
            Emphasis::Quiet,
        ),
    ];
    draw_scores(&pictures[2], &scores)?;
    LossPicture::PLANNER.draw(&out.join(PLANNER_RUN), &pictures[3])?;
    LossPicture::BC.draw(&out.join(BC_RUN), &pictures[4])?;
    Ok(DemoResult {
        planner_score: planner.score().0,
        bc_score: bc.score().0,
        data_score: data_mean,
        random_score: random.score().0,
        controller_score: controller.score().0,
        seconds: begin.elapsed().as_secs_f64(),
        pictures: pictures.to_vec(),
    })
}

/// Fails if the folder holds anything that would be overwritten.
fn refuse_used(out: &Path) -> Result<()> {
    let mut names = [DATA, BC_RUN, PLANNER_RUN].into_iter().chain(PICTURES);
    match names.find(|name| out.join(name).exists()) {
        Some(name) => Err(Error::Run {
            path: out.to_path_buf(),
            problem: format!(
                "a demonstration is there already (`{name}`); remove the folder, or choose another \
                 with `--out`"
            ),
        }),
        None => Ok(()),
    }
}

fn collect() -> Result<Dataset> {
    let mut env = envs::make(ENV)?;
    let options = FilePolicyOptions {
        sample: true,
        ..FilePolicyOptions::default()
    };
    let mut controller = behavior("waypoint", env.spec(), &options)?;
    data::collect::collect(&mut *env, &mut *controller, STEPS, SEED)
}

fn evaluator() -> Result<Evaluator> {
    let config = EvaluateConfig {
        env: Some(ENV.to_owned()),
        every_updates: 0,
        episodes: EPISODES,
        ..EvaluateConfig::default()
    };
    Evaluator::new(&config)?
        .ok_or_else(|| Error::Config("the demonstration evaluates nothing".to_owned()))
}

/// What a policy scored, and what it did.
struct Scored {
    evaluation: Evaluation,
    /// Positions of every episode.
    rows: Vec<Vec<(f64, f64)>>,
    /// Plans that were made on the way; none for policies that do not plan.
    plans: Vec<Plan>,
}

impl Scored {
    /// Mean and deviation of the normalised score.
    fn score(&self) -> (f64, f64) {
        (
            self.evaluation.score_mean.unwrap_or(f64::NAN),
            self.evaluation.score_std.unwrap_or(f64::NAN),
        )
    }
}

fn score_behavior(name: &str) -> Result<Scored> {
    let env = envs::make(ENV)?;
    let mut policy = behavior(name, env.spec(), &FilePolicyOptions::default())?;
    score_policy(&mut *policy)
}

fn score_policy(policy: &mut dyn Policy) -> Result<Scored> {
    let mut paths = Paths(vec![Vec::new(); EPISODES]);
    let mut watched = Watched {
        policy,
        steps: 0,
        plans: Vec::new(),
    };
    let evaluation = evaluator()?.run_with(&mut watched, |_| {}, Some(&mut paths))?;
    Ok(Scored {
        evaluation,
        rows: paths.0,
        plans: watched.plans,
    })
}

/// Trains a configuration of the repository, without evaluation on the way, and scores it.
fn train(text: &str, dataset: &Dataset, data_path: &Path, out: &Path) -> Result<Scored> {
    let mut config = RunConfig::parse(text)?;
    config.data.path = vec![data_path.to_path_buf()];
    config.evaluate.episodes = 0;
    run::start_on(&config, dataset, out)?;
    let trained = run::open(out, &[])?;
    score_policy(&mut *trained.algorithm.policy()?)
}

/// Positions of every episode.
struct Paths(Vec<Vec<(f64, f64)>>);

impl Recorder for Paths {
    fn record(&mut self, step: RecordedStep<'_>) {
        let row = &mut self.0[step.row];
        if row.is_empty() {
            row.push(position(step.observation));
        }
        row.push(position(step.next_observation));
    }
}

/// A plan that was made at a step of an episode.
struct Plan {
    episode: usize,
    step: usize,
    /// Positions of each imagined future, the chosen one first; all begin where the plan was made.
    futures: Vec<Vec<(f64, f64)>>,
}

impl Plan {
    fn place(&self) -> (f64, f64) {
        self.futures[0][0]
    }
}

/// A policy that acts as it always does while its plans are kept.
struct Watched<'a> {
    policy: &'a mut dyn Policy,
    steps: usize,
    plans: Vec<Plan>,
}

impl Watched<'_> {
    fn keep_plans(&mut self, observations: &Tensor, active: &[bool]) -> Result<()> {
        for (episode, observation) in observations.to_vec2::<f32>()?.iter().enumerate() {
            let Some(imagined) = self.policy.imagined(episode)?.filter(|_| active[episode]) else {
                continue;
            };
            let mut futures = Vec::new();
            for future in imagined.observations.to_vec3::<f32>()? {
                let later = future.iter().skip(1).map(|row| position(row));
                futures.push(
                    std::iter::once(position(observation))
                        .chain(later)
                        .collect(),
                );
            }
            self.plans.push(Plan {
                episode,
                step: self.steps,
                futures,
            });
        }
        Ok(())
    }
}

impl Policy for Watched<'_> {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.steps = 0;
        self.policy.begin(episodes)
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let actions = self.policy.act(observations, active)?;
        if self.steps.is_multiple_of(KEPT_PLAN_EVERY_STEPS) {
            self.keep_plans(observations, active)?;
        }
        self.steps += 1;
        Ok(actions)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        self.policy.observe(rewards)
    }

    fn imagined(&self, row: usize) -> Result<Option<Imagined>> {
        self.policy.imagined(row)
    }

    fn target_returns(&self) -> Vec<f32> {
        self.policy.target_returns()
    }

    fn needs_goal(&self) -> bool {
        self.policy.needs_goal()
    }
}

fn position(observation: &[f32]) -> (f64, f64) {
    (f64::from(observation[0]), f64::from(observation[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_demonstration_is_refused_before_anything_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data.npz");
        std::fs::write(&data, "older").expect("a file");
        let message = demo(folder.path()).expect_err("refused").to_string();
        assert!(
            message.contains("data.npz") && message.contains("--out"),
            "{message}"
        );
        assert_eq!(std::fs::read(&data).expect("kept"), b"older");
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("a folder").count(),
            1
        );
    }
}
