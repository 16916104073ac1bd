//! The demonstration: from no data at all to a planner that beats the behaviour it learned from.
//!
//! A waypoint controller wanders through a maze towards random places. From that log, and without
//! the maze, behaviour cloning and a small Trajectory Transformer are trained. Cloning wanders too;
//! planning with beam search on predicted rewards and values goes to the goal and stays.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::config::{EvaluateConfig, RunConfig};
use crate::data::{self, Dataset};
use crate::envs::pointmaze::{Layout, SECONDS_PER_STEP};
use crate::envs::score::normalized_score;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, Evaluator, RecordedStep, Recorder, mean_std};
use crate::metrics::table;
use crate::policy::behavior::behavior;
use crate::policy::file::FilePolicyOptions;
use crate::policy::{EpisodeStart, Policy};
use crate::report::bars::{Bar, Bars, Emphasis};
use crate::report::curves::{Curves, ReferenceLine, Series};
use crate::report::maze::{Geometry, MazePanel, MazePath, Mazes, Role};
use crate::report::{bars, curves, maze};
use crate::rng::Streams;
use crate::{envs, run};

const ENV: &str = "pointmaze-umaze";
const STEPS: usize = 50_000;
const EPISODES: usize = 20;
const SEED: u64 = 0;
/// Paths in a picture: more hide the maze.
const SHOWN_DATA_EPISODES: usize = 6;
const SHOWN_EPISODES: usize = 6;
const SHOWN_PLANS: usize = 4;
const PLAN_EVERY_STEPS: usize = 8;

const PLANNER_CONFIG: &str = include_str!("../configs/trajectory_transformer/pointmaze-umaze.toml");
const BC_CONFIG: &str = include_str!("../configs/bc/pointmaze-umaze.toml");

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
    std::fs::create_dir_all(out).map_err(Error::io(out))?;

    tracing::info!("collecting {STEPS} steps towards random places in {ENV}");
    let dataset = collect()?;
    let data_path = out.join("data.npz");
    data::save(&dataset, &data_path)?;

    let random = score_behavior("random")?;
    let controller = score_behavior("waypoint-goal")?;
    tracing::info!("random actions: {}", random.0.summary());
    tracing::info!("controller that knows the maze: {}", controller.0.summary());

    tracing::info!("behaviour cloning");
    let bc = train(BC_CONFIG, &dataset, &data_path, &out.join("bc"))?;
    tracing::info!("Trajectory Transformer, then beam search (a few minutes)");
    let planner = train(PLANNER_CONFIG, &dataset, &data_path, &out.join("planner"))?;

    let reference = layout.reference();
    let data_scores: Vec<f64> = dataset
        .returns()
        .into_iter()
        .map(|value| normalized_score(reference, value))
        .collect();
    let (data_mean, data_std) = mean_std(&data_scores);

    let pictures =
        ["maze.png", "maze.svg", "scores.png", "learning.png"].map(|name| out.join(name));
    let shown = Shown {
        layout: &layout,
        dataset: &dataset,
        bc: &bc,
        planner: &planner,
    };
    shown.draw(&pictures[0])?;
    shown.draw(&pictures[1])?;
    let scores = [
        ("random actions", score(&random.0), Emphasis::Quiet),
        ("the data", (data_mean, data_std), Emphasis::Quiet),
        ("behaviour cloning", score(&bc.0), Emphasis::Quiet),
        ("planner", score(&planner.0), Emphasis::Strong),
        (
            "controller that knows the maze",
            score(&controller.0),
            Emphasis::Quiet,
        ),
    ];
    draw_scores(&pictures[2], &scores)?;
    draw_learning(&pictures[3], out)?;
    Ok(DemoResult {
        planner_score: score(&planner.0).0,
        bc_score: score(&bc.0).0,
        data_score: data_mean,
        random_score: score(&random.0).0,
        controller_score: score(&controller.0).0,
        seconds: begin.elapsed().as_secs_f64(),
        pictures: pictures.to_vec(),
    })
}

fn score(evaluation: &Evaluation) -> (f64, f64) {
    (
        evaluation.score_mean.unwrap_or(f64::NAN),
        evaluation.score_std.unwrap_or(f64::NAN),
    )
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

type Scored = (Evaluation, Paths);

fn score_behavior(name: &str) -> Result<Scored> {
    let env = envs::make(ENV)?;
    let mut policy = behavior(name, env.spec(), &FilePolicyOptions::default())?;
    score_policy(&mut *policy)
}

fn score_policy(policy: &mut dyn Policy) -> Result<Scored> {
    let mut paths = Paths {
        rows: vec![Vec::new(); EPISODES],
        plans: Vec::new(),
    };
    let evaluation = evaluator()?.run_with(policy, |_| {}, Some(&mut paths))?;
    paths.plans = plans_along(policy, &paths.rows[0])?;
    Ok((evaluation, paths))
}

/// Plans made afresh at a few places of one path; empty for policies that do not plan.
fn plans_along(policy: &mut dyn Policy, path: &[(f64, f64)]) -> Result<Vec<Beams>> {
    let mut plans = Vec::new();
    for (index, pair) in path
        .windows(2)
        .step_by(PLAN_EVERY_STEPS)
        .take(SHOWN_PLANS)
        .enumerate()
    {
        let rng = Streams::from_seed(SEED).numbered("plans", index as u64);
        policy.begin(&[EpisodeStart {
            rng,
            target_return: None,
            goal: None,
        }])?;
        let [(x, y), (next_x, next_y)] = [pair[0], pair[1]];
        let speed = |from: f64, to: f64| ((to - from) / SECONDS_PER_STEP) as f32;
        let state = [x as f32, y as f32, speed(x, next_x), speed(y, next_y)];
        policy.act(&Tensor::from_slice(&state, (1, 4), &Device::Cpu)?, &[true])?;
        let Some(imagined) = policy.imagined(0)? else {
            break;
        };
        let beams = imagined.observations.to_vec3::<f32>()?;
        let path = |beam: &Vec<Vec<f32>>| beam.iter().map(|row| position(row)).collect();
        plans.push(beams.iter().map(path).collect());
    }
    Ok(plans)
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

/// The paths of one plan's beams, the best first.
type Beams = Vec<Vec<(f64, f64)>>;

/// Positions of every episode, and some of the plans that were made on the way.
struct Paths {
    rows: Vec<Vec<(f64, f64)>>,
    plans: Vec<Beams>,
}

impl Recorder for Paths {
    fn record(&mut self, step: RecordedStep<'_>) {
        let row = &mut self.rows[step.row];
        if row.is_empty() {
            row.push(position(step.observation));
        }
        row.push(position(step.next_observation));
    }
}

fn position(observation: &[f32]) -> (f64, f64) {
    (f64::from(observation[0]), f64::from(observation[1]))
}

/// What the maze picture shows.
struct Shown<'a> {
    layout: &'a Layout,
    dataset: &'a Dataset,
    bc: &'a Scored,
    planner: &'a Scored,
}

impl Shown<'_> {
    fn draw(&self, path: &Path) -> Result<()> {
        let (planner_score, bc_score) = (score(&self.planner.0).0, score(&self.bc.0).0);
        let panels = vec![
            self.panel(
                "What was logged",
                "a controller on its way to random places",
                self.logged(),
            ),
            self.panel(
                "Behaviour cloning",
                &format!("score {bc_score:.0}: does what was logged"),
                taken(&self.bc.1, Role::Imitator),
            ),
            self.panel(
                "Planning with a Trajectory Transformer",
                &format!("score {planner_score:.0}: imagines, chooses, goes to the goal"),
                self.imagined()
                    .into_iter()
                    .chain(taken(&self.planner.1, Role::Planner)),
            ),
        ];
        let picture = Mazes {
            title: "One log, two ways to use it".to_owned(),
            subtitle:
                "Reward is paid only near the goal; nobody in the log was going there. Score: \
                       0 random actions, 100 a controller that knows the maze."
                    .to_owned(),
            panels,
        };
        maze::draw(path, &picture)
    }

    fn panel(
        &self,
        title: &str,
        note: &str,
        paths: impl IntoIterator<Item = MazePath>,
    ) -> MazePanel {
        let (columns, rows) = self.layout.size();
        let row = |row: usize| {
            (0..columns)
                .map(|column| self.layout.is_wall(column, row))
                .collect()
        };
        let paths: Vec<MazePath> = paths.into_iter().collect();
        let real = paths
            .iter()
            .filter(|path| !matches!(path.role, Role::Imagined | Role::Chosen));
        let goal = self.layout.goal();
        MazePanel {
            title: title.to_owned(),
            note: note.to_owned(),
            geometry: Geometry {
                walls: (0..rows).map(row).collect(),
                cell: 1.0,
                origin: (0.0, 0.0),
            },
            starts: real
                .filter_map(|path| path.points.first().copied())
                .collect(),
            goals: vec![(goal[0], goal[1])],
            paths,
        }
    }

    fn logged(&self) -> impl Iterator<Item = MazePath> + '_ {
        let episodes = self.dataset.episodes.iter().take(SHOWN_DATA_EPISODES);
        episodes.map(|episode| MazePath {
            points: episode
                .range()
                .map(|step| position(self.dataset.observation(step)))
                .collect(),
            role: Role::Data,
        })
    }

    /// The beams of the plans that the planner makes on its way, at a few of its states.
    fn imagined(&self) -> Vec<MazePath> {
        let mut paths = Vec::new();
        for plan in &self.planner.1.plans {
            for beam in plan.iter().skip(1) {
                paths.push(MazePath {
                    points: beam.clone(),
                    role: Role::Imagined,
                });
            }
            if let Some(best) = plan.first() {
                paths.push(MazePath {
                    points: best.clone(),
                    role: Role::Chosen,
                });
            }
        }
        paths
    }
}

fn taken(paths: &Paths, role: Role) -> impl Iterator<Item = MazePath> + '_ {
    let shown = paths.rows.iter().take(SHOWN_EPISODES);
    shown.map(move |points| MazePath {
        points: points.clone(),
        role,
    })
}

fn draw_scores(path: &Path, scores: &[(&str, (f64, f64), Emphasis)]) -> Result<()> {
    let bars = scores.iter().map(|(label, (value, error), emphasis)| Bar {
        label: (*label).to_owned(),
        value: *value,
        error: Some(*error),
        emphasis: *emphasis,
    });
    bars::draw(
        path,
        &Bars {
            title: "Who gets to the goal".to_owned(),
            subtitle: format!(
                "mean and deviation over {EPISODES} episodes from starts all over the maze"
            ),
            value_label: "normalised score".to_owned(),
            bars: bars.collect(),
            reference_lines: Vec::new(),
        },
    )
}

fn draw_learning(path: &Path, out: &Path) -> Result<()> {
    let rows = table::numbers(&out.join("planner/metrics.csv"), ["update", "loss"])?;
    let points = rows.iter().map(|&[update, loss]| (update, loss)).collect();
    curves::draw(
        path,
        &Curves {
            title: "Learning to predict the log".to_owned(),
            subtitle: "Trajectory Transformer, weighted cross-entropy per token".to_owned(),
            x_label: "updates".to_owned(),
            y_label: "loss (nats)".to_owned(),
            series: vec![Series::line("training loss", points)],
            reference_lines: Vec::<ReferenceLine>::new(),
            ..Curves::default()
        },
    )
}
