//! The demonstration: from no data at all to a planner that beats the behaviour it learned from.
//!
//! A waypoint controller wanders through a maze towards random places. From that log, and without
//! the maze, behaviour cloning and a small Trajectory Transformer are trained. Cloning wanders too;
//! planning with beam search on predicted rewards and values goes to the goal and stays. Broken off, it goes on where it was:
//! data is collected with a seed, and runs are resumed.

mod pictures;
mod scored;

use crate::app::collect;
use crate::formats::files;
use scored::{Plan, Scored, position};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::app::behaviors::behavior;
use crate::app::behaviors::file::FilePolicyOptions;
use crate::app::checkpoint::fingerprint::DataFingerprint;
use crate::app::config::RunConfig;
use crate::app::config::sections::EvaluateConfig;
use crate::app::evaluate::{Evaluator, RecordedStep, Recorder, mean_std};
use crate::app::run::{self, RunOptions};
use crate::envs;
use crate::envs::pointmaze::Layout;
use crate::envs::score::normalized_score;
use crate::report::bars::Emphasis;
use pictures::{LossPicture, Shown, draw_scores};
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::policy::Policy;
use trajformer_core::watched::{Acted, Watched};

const ENV: &str = "pointmaze-umaze";
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
    include_str!("../../../configs/trajectory_transformer/pointmaze-umaze.toml");
const BC_CONFIG: &str = include_str!("../../../configs/bc/pointmaze-umaze.toml");

/// How much of everything the demonstration does.
struct Scale<'a> {
    /// Steps of data.
    steps: usize,
    /// Episodes of every score.
    episodes: usize,
    /// Configuration of the planner.
    planner: &'a str,
    /// Configuration of behavior cloning.
    cloning: &'a str,
    /// Stops it early.
    interrupt: &'a Interrupt,
}

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

/// Runs the demonstration in the folder `out`, or the rest of one that was broken off there; a whole one stays as it is.
///
/// # Errors
/// If the folder is in use or can't be written, or something fails on the way; [`Error::Interrupted`] once
/// `interrupt` is set, with all that is done kept.
pub fn demo(out: &Path, interrupt: &Interrupt) -> Result<DemoResult> {
    let full = Scale {
        steps: 50_000,
        episodes: 20,
        planner: PLANNER_CONFIG,
        cloning: BC_CONFIG,
        interrupt,
    };
    demo_at(&full, out)
}

fn demo_at(scale: &Scale<'_>, out: &Path) -> Result<DemoResult> {
    let begin = Instant::now();
    let missing = || Error::Internal(format!("the maze `{ENV}` is missing"));
    let layout = Layout::named(ENV).ok_or_else(missing)?;
    refuse_whole(out)?;
    std::fs::create_dir_all(out).map_err(Error::io(out))?;

    let steps = scale.steps;
    tracing::info!("collecting {steps} steps towards random places in {ENV}");
    let dataset = collect(steps)?;
    let data_path = out.join(DATA);
    if data_path.exists() {
        refuse_other(out, &dataset)?
    } else {
        files::save(&dataset, &data_path)?
    }

    let random = scale.score_behavior("random")?;
    let controller = scale.score_behavior("waypoint-goal")?;
    tracing::info!("random actions: {}", random.evaluation.summary());
    let summary = controller.evaluation.summary();
    tracing::info!("controller that knows the maze: {summary}");

    tracing::info!("behaviour cloning");
    let bc = scale.train(scale.cloning, &data_path, &out.join(BC_RUN))?;
    tracing::info!("Trajectory Transformer, then beam search (a few minutes)");
    let planner = scale.train(scale.planner, &data_path, &out.join(PLANNER_RUN))?;

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
    draw_scores(&pictures[2], scale.episodes, &scores)?;
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

/// Fails if the folder holds a whole demonstration, or what belongs to none: its parts without its data.
fn refuse_whole(out: &Path) -> Result<()> {
    let parts = || [BC_RUN, PLANNER_RUN].into_iter().chain(PICTURES);
    let is_there = |name: &&str| out.join(name).exists();
    let refuse = |problem: String| {
        Err(Error::Occupied {
            path: out.to_path_buf(),
            problem: format!("{problem}; remove the folder, or choose another"),
        })
    };
    match (out.join(DATA).exists(), parts().find(is_there)) {
        (true, _) if parts().all(|name| is_there(&name)) => refuse(format!(
            "a demonstration is there already (`{DATA}` and all that follows)"
        )),
        (false, Some(name)) => refuse(format!(
            "`{name}` is there, but not the `{DATA}` of a demonstration"
        )),
        _ => Ok(()),
    }
}

/// Fails if the data in the folder is not what the demonstration collects.
fn refuse_other(out: &Path, collected: &Dataset) -> Result<()> {
    let found = files::load_one(&out.join(DATA));
    let expected = DataFingerprint::of(collected);
    let problem = match found {
        Ok(found) if DataFingerprint::of(&found) == expected => {
            tracing::info!("{}: going on with what is there", out.display());
            return Ok(());
        }
        Ok(_) => format!("`{DATA}` is there already, with other data than a demonstration's"),
        Err(error) => format!("`{DATA}` is there already, and is no data set ({error})"),
    };
    Err(Error::Occupied {
        path: out.to_path_buf(),
        problem: format!("{problem}; remove it, or choose another folder"),
    })
}

fn collect(steps: usize) -> Result<Dataset> {
    let mut env = envs::make(ENV)?;
    let options = FilePolicyOptions {
        sample: true,
        ..FilePolicyOptions::default()
    };
    let mut controller = behavior("waypoint", env.spec(), &options)?;
    collect::collect(&mut *env, &mut *controller, steps, SEED)
}

fn evaluator(episodes: usize) -> Result<Evaluator> {
    let config = EvaluateConfig {
        env: Some(ENV.to_owned()),
        every_updates: 0,
        episodes,
        ..EvaluateConfig::default()
    };
    Evaluator::new(&config)?
        .ok_or_else(|| Error::Internal("the demonstration evaluates nothing".to_owned()))
}

impl Scale<'_> {
    fn score_behavior(&self, name: &str) -> Result<Scored> {
        let env = envs::make(ENV)?;
        let mut policy = behavior(name, env.spec(), &FilePolicyOptions::default())?;
        self.score_policy(&mut *policy)
    }

    fn score_policy(&self, policy: &mut dyn Policy) -> Result<Scored> {
        let mut paths = Paths(vec![Vec::new(); self.episodes]);
        let mut plans = Vec::new();
        let mut watched = Watched::new(policy, |policy, acted| {
            if acted.step.is_multiple_of(KEPT_PLAN_EVERY_STEPS) {
                keep_plans(&mut plans, policy, &acted)?;
            }
            Ok(())
        });
        let mut evaluator = evaluator(self.episodes)?.with_interrupt(self.interrupt);
        let evaluation = evaluator.run_with(&mut watched, |_| {}, Some(&mut paths))?;
        Ok(Scored {
            evaluation,
            rows: paths.0,
            plans,
        })
    }

    /// Trains a configuration of the repository, without evaluation on the way, or what is left to train of it, and scores
    /// it.
    fn train(&self, text: &str, data_path: &Path, out: &Path) -> Result<Scored> {
        let mut config = RunConfig::parse(text)?;
        config.data.path = vec![data_path.to_path_buf()];
        config.evaluate.episodes = 0;
        let options = RunOptions {
            interrupt: self.interrupt.clone(),
            ..RunOptions::default()
        };
        if run::start_or_resume(&config, out, &options)?.interrupted {
            return Err(Error::Interrupted);
        }
        let trained = run::open(out, &[])?;
        self.score_policy(&mut *trained.algorithm.policy()?)
    }
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

/// Keeps the plans that `policy` has just made, of the episodes that go on.
fn keep_plans(plans: &mut Vec<Plan>, policy: &dyn Policy, acted: &Acted<'_>) -> Result<()> {
    for (episode, observation) in acted.observations.to_vec2::<f32>()?.iter().enumerate() {
        let Some(imagined) = policy.imagined(episode)?.filter(|_| acted.active[episode]) else {
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
        plans.push(Plan {
            episode,
            step: acted.step,
            futures,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A demonstration that takes a moment.
    fn small(interrupt: &Interrupt) -> Scale<'_> {
        Scale {
            steps: 400,
            episodes: 1,
            planner: "[train]\nupdates = 2\n[algorithm.trajectory_transformer]\nbins = 5\nbatch_size = 2\nlayers = 1\n\
                  heads = 1\nembedding_per_head = 4\nwindow_transitions = 2\nplanner.horizon = 10\n\
                  planner.beam_width = 2\nplanner.plan_every_steps = 10",
            cloning: "[train]\nupdates = 4\n[algorithm.bc]\nbatch_size = 8\nhidden = [8]",
            interrupt,
        }
    }

    #[test]
    fn a_folder_with_other_data_is_refused_before_anything_is_overwritten() {
        for (name, words) in [(DATA, "is no data set"), (BC_RUN, "but not the `data.npz`")] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join(name);
            std::fs::write(&file, "older").expect("a file");
            let message = demo_at(&small(&Interrupt::new()), folder.path())
                .expect_err("refused")
                .to_string();
            assert!(
                message.contains(name)
                    && message.contains("choose another")
                    && message.contains(words),
                "{message}"
            );
            assert_eq!(std::fs::read(&file).expect("kept"), b"older");
            let kept = std::fs::read_dir(folder.path()).expect("a folder");
            assert_eq!(kept.count(), 1);
        }
    }

    #[test]
    fn a_demonstration_that_was_broken_off_goes_on_and_a_whole_one_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
        let expected = demo_at(&small(&Interrupt::new()), &whole).expect("a demonstration");
        let message = demo_at(&small(&Interrupt::new()), &whole)
            .expect_err("refused")
            .to_string();
        assert!(
            message.contains("a demonstration is there already"),
            "{message}"
        );

        // BC is trained; the planner was killed before its first checkpoint, and half a picture is there.
        for run in [BC_RUN, PLANNER_RUN] {
            std::fs::create_dir_all(broken.join(run)).expect("a folder");
            for file in std::fs::read_dir(whole.join(run)).expect("a run") {
                let name = file.expect("a file").file_name();
                let started = ["config.toml", "config.json"]
                    .iter()
                    .any(|kept| name == *kept);
                if run == BC_RUN || started {
                    std::fs::copy(whole.join(run).join(&name), broken.join(run).join(&name))
                        .expect("a copy");
                }
            }
        }
        std::fs::copy(whole.join(DATA), broken.join(DATA)).expect("a copy");
        std::fs::write(broken.join(PICTURES[0]), "half").expect("a picture");
        let rows = |folder: &Path| {
            std::fs::read(folder.join(BC_RUN).join("metrics.csv")).expect("metrics")
        };
        let before = rows(&broken);
        let found = demo_at(&small(&Interrupt::new()), &broken).expect("the rest");
        assert_eq!(
            before,
            rows(&broken),
            "what is trained is not trained again"
        );
        assert_eq!(
            (found.planner_score, found.bc_score, found.data_score),
            (
                expected.planner_score,
                expected.bc_score,
                expected.data_score
            )
        );
        assert!(found.pictures.iter().all(|picture| picture.exists()));
    }
}
