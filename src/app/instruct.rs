//! Policies conditioned on language instructions: their instructions are encoded before training and kept with the run, and
//! each can be scored by itself.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use serde::Serialize;

use crate::app::config::sections::EvaluateConfig;
use crate::app::evaluate::{Evaluation, Evaluator, RecordedStep, Recorder};
use crate::app::run::TrainedRun;
use crate::app::text;
use crate::envs::pointmaze::Layout;
use crate::report::maze;
use crate::report::maze::{Geometry, MazePanel, MazePath, Mazes, Role};
use trajformer_core::error::{Ability, Error, Result};

/// Tells a trained run further instructions; those that it knows need no encoder.
///
/// # Errors
/// If the run follows no instructions, or the encoder fails.
pub fn teach(run: &mut TrainedRun, texts: &[Arc<str>]) -> Result<()> {
    let name = run.config.algorithm.name();
    let Some(told) = run.algorithm.instructed() else {
        let problem = format!(
            "this run ({name}) was trained without instructions; train one with a table \
             `[algorithm.decision_transformer.text]` (or of trajectory_transformer, fast)"
        );
        return Err(Error::unsupported(Ability::Instructions, problem));
    };
    let mut known = (**told.known()).clone();
    let texts = texts.iter().map(|text| &**text);
    text::encode(&mut known, texts, told.text(), &Device::Cpu)?;
    told.set(Arc::new(known), None)
}

/// What an evaluation found for one instruction.
#[derive(Debug, Clone, Serialize)]
pub struct InstructionScore {
    /// What was to be done.
    pub instruction: String,
    /// Whether the run knew it, from its data or its own evaluations.
    pub known: bool,
    /// Share of the episodes whose last step was rewarded: in a maze of rooms, that end in the room.
    pub success_rate: f64,
    /// Its episodes.
    pub evaluation: Evaluation,
    /// Observations of every episode, the last one included.
    #[serde(skip)]
    paths: Vec<Vec<Vec<f32>>>,
}

/// Scores a run by each of these instructions, over the same start states.
///
/// # Errors
/// If the run follows no instructions, one is empty or unknown to the environment, or the encoder fails.
pub fn score(
    run: &mut TrainedRun,
    texts: &[String],
    settings: &EvaluateConfig,
) -> Result<Vec<InstructionScore>> {
    let asked: Vec<Arc<str>> = texts.iter().map(|text| text.as_str().into()).collect();
    let is_known = |run: &mut TrainedRun, text: &str| {
        let told = run.algorithm.instructed();
        told.is_some_and(|told| told.known().row(text).is_some())
    };
    let known: Vec<bool> = asked.iter().map(|text| is_known(run, text)).collect();
    teach(run, &asked)?;
    let mut policy = run.algorithm.policy()?;
    let mut scores = Vec::with_capacity(texts.len());
    for (text, known) in texts.iter().zip(known) {
        let settings = EvaluateConfig {
            instructions: vec![text.clone()],
            ..settings.clone()
        };
        let Some(mut evaluator) = Evaluator::new(&settings)? else {
            return Err(Error::settings(
                "nothing to evaluate: no environment, or 0 episodes",
            ));
        };
        evaluator.check_dimensions(run.spec.dims(), run.spec.action_kind())?;
        let mut watched = Watched {
            paths: vec![Vec::new(); settings.episodes],
            rewarded: vec![false; settings.episodes],
        };
        let evaluation = evaluator.run_with(&mut *policy, |_| {}, Some(&mut watched))?;
        let successes = watched
            .rewarded
            .iter()
            .filter(|rewarded| **rewarded)
            .count();
        scores.push(InstructionScore {
            instruction: text.clone(),
            known,
            success_rate: successes as f64 / settings.episodes as f64,
            evaluation,
            paths: watched.paths,
        });
    }
    Ok(scores)
}

/// Keeps paths, and whether the last step was rewarded.
struct Watched {
    paths: Vec<Vec<Vec<f32>>>,
    rewarded: Vec<bool>,
}

impl Recorder for Watched {
    fn record(&mut self, step: RecordedStep<'_>) {
        let path = &mut self.paths[step.row];
        if path.is_empty() {
            path.push(step.observation.to_vec());
        }
        path.push(step.next_observation.to_vec());
        self.rewarded[step.row] = step.reward > 0.0;
    }
}

/// Draws one maze with a path per instruction, all of the first episode that starts at the same place for all.
///
/// # Errors
/// If they are not from a point maze, no episode has one start for all, or the picture can't be written.
pub fn draw(path: &Path, scores: &[InstructionScore]) -> Result<()> {
    let env = scores.first().map_or("", |score| &score.evaluation.env);
    let layout = Layout::named(env).ok_or_else(|| {
        let problem = format!("a picture of instructions draws point mazes, and `{env}` is none");
        Error::unsupported(Ability::MazePicture, problem)
    })?;
    let episodes = scores
        .iter()
        .map(|score| score.paths.len())
        .min()
        .unwrap_or(0);
    let start = |score: &InstructionScore, episode: usize| score.paths[episode].first().cloned();
    let shared = |&episode: &usize| {
        let first = start(&scores[0], episode);
        scores.iter().all(|score| start(score, episode) == first)
    };
    let episode = (0..episodes).find(shared).ok_or_else(|| {
        Error::settings("no episode starts at the same place for all instructions: ask for more")
    })?;
    let place = |observation: &Vec<f32>| (f64::from(observation[0]), f64::from(observation[1]));
    let taken = scores.iter().enumerate().map(|(number, score)| MazePath {
        points: score.paths[episode].iter().map(place).collect(),
        role: Role::Named(number),
    });
    let paths: Vec<MazePath> = taken.collect();
    let (columns, rows) = layout.size();
    let walls = (0..rows).map(|row| {
        (0..columns)
            .map(|column| layout.is_wall(column, row))
            .collect()
    });
    let panel = MazePanel {
        geometry: Geometry {
            walls: walls.collect(),
            cell: 1.0,
            origin: (0.0, 0.0),
        },
        starts: paths.iter().take(1).map(|path| path.points[0]).collect(),
        paths,
        ..MazePanel::default()
    };
    let picture = Mazes {
        title: "One policy, several instructions".to_owned(),
        subtitle: "the same start, a path for each instruction".to_owned(),
        panels: vec![panel],
        names: scores
            .iter()
            .map(|score| score.instruction.clone())
            .collect(),
    };
    maze::draw(path, &picture)
}
