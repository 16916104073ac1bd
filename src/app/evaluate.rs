//! Scoring: a policy acts in many copies of an environment at once.

use std::sync::Arc;

use serde::Serialize;

use crate::app::collect::empty;
use crate::app::config::sections::EvaluateConfig;
use crate::app::progress::Progress;
use crate::envs;
use trajformer_core::dataset::{ActionKind, Dataset, Episode};
use trajformer_core::error::{Error, Result};
use trajformer_core::interrupt::Interrupt;
use trajformer_core::planning::PlanningSummary;
use trajformer_core::policy::{EpisodeStart, Policy};
pub use trajformer_core::statistics::mean_std;
use trajformer_models::rng::Streams;

/// Most episodes that run side by side.
const MOST_ROWS: usize = 1_000_000;
/// Plans with a budget are compared with those of full searches once in so many steps, this one first: not at the start, where there
/// is no plan to go on with.
const COMPARED_STEPS: usize = 50;
const FIRST_COMPARED_STEP: usize = 9;

/// What one evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Environment.
    pub env: String,
    /// How many episodes.
    pub episodes: usize,
    /// Undiscounted return of every episode; empty where only the table of a run is known.
    pub returns: Vec<f64>,
    /// Steps of every episode.
    pub lengths: Vec<usize>,
    /// Mean return.
    pub return_mean: f64,
    /// Standard deviation of the returns (over the episodes, not of the mean).
    pub return_std: f64,
    /// Mean normalised score: 0 is random, 100 is expert; `None` without reference returns.
    pub score_mean: Option<f64>,
    /// Standard deviation of the normalised scores.
    pub score_std: Option<f64>,
    /// One entry per target return, where a policy aims at several; the numbers above are the
    /// first's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_target: Vec<TargetEvaluation>,
    /// What the policy's plans were, where each had a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planning: Option<Box<PlanningSummary>>,
}

/// What an evaluation found for one target return.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetEvaluation {
    /// The return aimed at, in the environment's units.
    pub target_return: f32,
    /// Mean return.
    pub return_mean: f64,
    /// Standard deviation of the returns.
    pub return_std: f64,
    /// Mean normalised score.
    pub score_mean: Option<f64>,
    /// Standard deviation of the normalised scores.
    pub score_std: Option<f64>,
}

/// One step of one episode, as a [`Recorder`] sees it.
#[derive(Debug, Clone, Copy)]
pub struct RecordedStep<'a> {
    /// Which episode.
    pub row: usize,
    /// Observation before the action (O).
    pub observation: &'a [f32],
    /// The action (A).
    pub action: &'a [f32],
    /// Its reward.
    pub reward: f32,
    /// The task ended.
    pub terminated: bool,
    /// The time limit was reached.
    pub truncated: bool,
    /// Observation after the action (O).
    pub next_observation: &'a [f32],
}

/// Observer of every step of an evaluation, e.g. to keep it or to draw it.
pub trait Recorder {
    /// Called once per step, row by row.
    fn record(&mut self, step: RecordedStep<'_>);
}

/// Runs whole episodes of one environment, all side by side.
///
/// Start states and the policy's randomness come from the evaluation's own seed: every evaluation
/// starts from the same states, and evaluating more often never changes training.
pub struct Evaluator {
    envs: envs::VectorEnv,
    episodes: usize,
    seed: u64,
    /// Instead of the environment's own.
    goal: Option<Vec<f32>>,
    /// Instead of the environment's own, where there are any.
    instructions: Vec<Arc<str>>,
    interrupt: Interrupt,
    /// Whether it shows how far it has come with a bar, where there is a terminal.
    says_progress: bool,
}

impl Evaluator {
    /// An evaluator for `[evaluate]`, or `None` if it names no environment or no episodes.
    ///
    /// # Errors
    /// If the environment is unknown or can't be made in this build.
    pub fn new(config: &EvaluateConfig) -> Result<Option<Self>> {
        config.check()?;
        match &config.env {
            Some(name) if config.episodes > 0 => {
                let options = config.gym_options();
                let envs = envs::VectorEnv::make_with(name, config.episodes, &options)?;
                Ok(Some(Self {
                    envs,
                    episodes: config.episodes,
                    seed: config.seed,
                    goal: config.goal.clone(),
                    instructions: config
                        .instructions
                        .iter()
                        .map(|text| text.as_str().into())
                        .collect(),
                    interrupt: Interrupt::new(),
                    says_progress: false,
                }))
            }
            _ => Ok(None),
        }
    }

    /// An evaluator of these copies, one episode each: for environments of one's own. Of several
    /// target returns the first is taken, unless more copies can be made
    /// ([`VectorEnv::from_factory`](envs::VectorEnv::from_factory)).
    pub fn of(envs: envs::VectorEnv, seed: u64) -> Self {
        Self {
            episodes: envs.len(),
            envs,
            seed,
            goal: None,
            instructions: Vec::new(),
            interrupt: Interrupt::new(),
            says_progress: false,
        }
    }

    /// The same evaluator with a token that stops it: what it was about to find is lost then, and [`Error::Interrupted`]
    /// is returned.
    pub fn with_interrupt(self, interrupt: &Interrupt) -> Self {
        Self {
            interrupt: interrupt.clone(),
            ..self
        }
    }

    /// The same evaluator with a bar on a terminal; inside of training that is the updates'. Elsewhere lines say how far it has come.
    pub fn with_progress(self) -> Self {
        Self {
            says_progress: true,
            ..self
        }
    }

    /// Instructions that conditioned policies receive, one after the other over the episodes: of the environment's
    /// own as many as there are episodes.
    pub fn instructions(&self) -> Vec<Arc<str>> {
        if self.instructions.is_empty() {
            self.envs
                .instructions()
                .into_iter()
                .take(self.episodes)
                .map(Arc::from)
                .collect()
        } else {
            self.instructions.clone()
        }
    }

    /// The same for `policy`: none if it follows none.
    fn instructions_for(&self, policy: &dyn Policy) -> Result<Vec<Arc<str>>> {
        let wrong = |problem: &str| {
            Err(Error::settings(format!(
                "`evaluate.instructions`: {problem}"
            )))
        };
        if !policy.needs_instruction() {
            return if self.instructions.is_empty() {
                Ok(Vec::new())
            } else {
                wrong("this policy was trained without instructions; leave the key out")
            };
        }
        let instructions = self.instructions();
        if instructions.is_empty() {
            wrong(
                "the environment has none of its own and this policy was trained with instructions: name some, or \
             set `evaluate.episodes=0` to train without scores",
            )
        } else {
            Ok(instructions)
        }
    }

    /// The environment.
    pub fn spec(&self) -> &envs::EnvSpec {
        self.envs.spec()
    }

    /// Fails unless the environment has observations and actions of these numbers, and actions of this kind.
    ///
    /// # Errors
    /// If it does not: data or run and environment don't belong together.
    pub fn check_dimensions(&self, dims: (usize, usize), kind: ActionKind) -> Result<()> {
        self.spec().check_fits(dims, kind, "the data")
    }

    /// Fails if the policy needs goals or instructions and nothing names any, or doesn't take the configured ones.
    ///
    /// # Errors
    /// If so: what to set.
    pub fn check_goal(&self, policy: &dyn Policy) -> Result<()> {
        self.instructions_for(policy)?;
        let goal = self.starting_goal(policy, 0)?;
        require_goal(policy, self.spec(), goal.as_deref())
    }

    fn starting_goal(&self, policy: &dyn Policy, row: usize) -> Result<Option<Vec<f32>>> {
        let offered = self.envs.goal(row);
        starting_goal(policy, self.spec(), self.goal.as_deref(), offered)
    }

    /// Runs the episodes, once for every target return of the policy, all in one batch; for the first alone where no
    /// further copies of the environment can be made.
    ///
    /// # Errors
    /// If the policy or the environment fails.
    pub fn run(&mut self, policy: &mut dyn Policy) -> Result<Evaluation> {
        let mut targets = policy.target_returns();
        if !self.envs.can_grow() {
            targets.truncate(1);
        }
        let (returns, lengths) = self.run_rows(policy, &targets, |_| {}, None)?;
        let env = self.spec().name.clone();
        let parts: Vec<Evaluation> = returns
            .chunks_exact(self.episodes)
            .zip(lengths.chunks_exact(self.episodes))
            .map(|(returns, lengths)| Evaluation::new(&env, returns.to_vec(), lengths.to_vec()))
            .collect();
        let by_target = targets
            .iter()
            .zip(&parts)
            .map(|(&target_return, part)| TargetEvaluation {
                target_return,
                return_mean: part.return_mean,
                return_std: part.return_std,
                score_mean: part.score_mean,
                score_std: part.score_std,
            });
        Ok(Evaluation {
            by_target: by_target.collect(),
            planning: policy.planning().map(Box::new),
            ..parts[0].clone()
        })
    }

    /// Runs the episodes and keeps the roll-outs as a data set. Of several target returns the first
    /// is taken.
    ///
    /// # Errors
    /// If the policy or the environment fails.
    pub fn run_recorded(&mut self, policy: &mut dyn Policy) -> Result<(Evaluation, Dataset)> {
        let rows = (0..self.episodes).map(|_| RecordedRow::default()).collect();
        let mut recorder = EpisodeRecorder { rows };
        let found = self.run_with(policy, |_| {}, Some(&mut recorder))?;
        Ok((found, recorder.into_dataset(self.envs.spec())))
    }

    /// Runs the episodes; `prepare` may set a row's target or replace its goal, `recorder` sees every
    /// step.
    ///
    /// # Errors
    /// If the policy or the environment fails.
    pub fn run_with(
        &mut self,
        policy: &mut dyn Policy,
        prepare: impl Fn(&mut EpisodeStart),
        recorder: Option<&mut dyn Recorder>,
    ) -> Result<Evaluation> {
        let (returns, lengths) = self.run_rows(policy, &[], prepare, recorder)?;
        Ok(Evaluation {
            planning: policy.planning().map(Box::new),
            ..Evaluation::new(&self.spec().name, returns, lengths)
        })
    }

    /// Returns and lengths of the episodes, for one target after the other.
    fn run_rows(
        &mut self,
        policy: &mut dyn Policy,
        targets: &[f32],
        prepare: impl Fn(&mut EpisodeStart),
        mut recorder: Option<&mut dyn Recorder>,
    ) -> Result<(Vec<f64>, Vec<usize>)> {
        let rows = self.episodes * targets.len().max(1);
        if rows > MOST_ROWS {
            return Err(Error::settings(format!(
                "{} episodes for each of {} target returns are {rows} at once, expected at most \
                 {MOST_ROWS}: lower `evaluate.episodes`",
                self.episodes,
                targets.len()
            )));
        }
        self.envs.resize(rows)?;
        self.begin(policy, targets, prepare)?;
        let mut active = vec![true; rows];
        let (mut returns, mut lengths) = (vec![0.0; rows], vec![0; rows]);
        let limit = self.spec().max_episode_steps;
        // Environments of Python may have no time limit: then nobody knows how many steps there will be.
        let limit = (limit < usize::MAX / MOST_ROWS).then_some(limit);
        let progress = match limit {
            Some(limit) => Progress::of("steps", 0, (rows * limit) as u64),
            None => Progress::of("episodes", 0, rows as u64),
        };
        let progress = (self.says_progress || progress.writes_lines()).then_some(progress);
        let mut steps = 0;
        while active.contains(&true) {
            if self.interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            let observations = self.envs.observations()?; // (E, O)
            let actions = policy.act(&observations, &active)?; // (E, A)
            if steps % COMPARED_STEPS == FIRST_COMPARED_STEP {
                policy.compare_plans()?;
            }
            steps += 1;
            let step = self.envs.step(&actions, &active)?;
            if let Some(recorder) = recorder.as_deref_mut() {
                let observations = observations.to_vec2::<f32>()?;
                let actions = actions.to_vec2::<f32>()?;
                for row in (0..rows).filter(|&row| active[row]) {
                    recorder.record(RecordedStep {
                        row,
                        observation: &observations[row],
                        action: &actions[row],
                        reward: step.rewards[row],
                        terminated: step.terminated[row],
                        truncated: step.truncated[row],
                        next_observation: self.envs.observation(row),
                    });
                }
            }
            for row in (0..rows).filter(|&row| active[row]) {
                returns[row] += f64::from(step.rewards[row]);
                lengths[row] += 1;
            }
            policy.observe(&step.rewards)?;
            for (row, active) in active.iter_mut().enumerate() {
                *active &= !(step.terminated[row] || step.truncated[row]);
            }
            if let Some(progress) = &progress {
                let step = lengths.iter().max().copied().unwrap_or(0);
                let ended = active.iter().filter(|active| !**active).count();
                let said = format!("{ended} of {rows} episodes have ended, in step {step}");
                progress.say(said.clone(), said);
                match limit {
                    Some(limit) => {
                        // At most: those that run may go on to the time limit.
                        let done: usize = lengths.iter().sum();
                        let running = lengths.iter().zip(&active).filter(|(_, active)| **active);
                        let left: usize = running
                            .map(|(length, _)| limit.saturating_sub(*length))
                            .sum();
                        progress.set_of(done as u64, (done + left) as u64);
                    }
                    None => progress.set(ended as u64),
                }
            }
        }
        if let Some(progress) = &progress {
            progress.finish();
        }
        Ok((returns, lengths))
    }

    /// Starts an episode in every row, in the environments and in the policy.
    fn begin(
        &mut self,
        policy: &mut dyn Policy,
        targets: &[f32],
        prepare: impl Fn(&mut EpisodeStart),
    ) -> Result<()> {
        let streams = Streams::from_seed(self.seed);
        let episodes: Vec<u64> = (0..self.envs.len())
            .map(|row| (row % self.episodes) as u64)
            .collect();
        let instructions = self.instructions_for(policy)?;
        let instruction = |episode: u64| match instructions.len() as u64 {
            0 => None,
            count => Some(Arc::clone(&instructions[(episode % count) as usize])),
        };
        for (row, &episode) in episodes.iter().enumerate() {
            if let Some(text) = instruction(episode) {
                self.envs.instruct(row, &text)?;
            }
        }
        let seed = |&episode: &u64| streams.numbered("environment", episode).bits();
        self.envs
            .reset(&episodes.iter().map(seed).collect::<Vec<_>>())?;
        let mut starts = Vec::with_capacity(episodes.len());
        for (row, &episode) in episodes.iter().enumerate() {
            let mut start = EpisodeStart {
                rng: streams.numbered("policy", episode),
                target_return: targets.get(row / self.episodes).copied(),
                goal: self.starting_goal(policy, row)?,
                instruction: instruction(episode),
            };
            prepare(&mut start);
            require_goal(policy, self.spec(), start.goal.as_deref())?;
            starts.push(start);
        }
        policy.begin(&starts)
    }
}

/// The goal of an episode: none for a policy that was trained without; else the configured one, else
/// the one that the environment offers.
///
/// # Errors
/// If a goal is configured for a policy that takes none, or is not a finite observation.
pub(crate) fn starting_goal(
    policy: &dyn Policy,
    spec: &envs::EnvSpec,
    configured: Option<&[f32]>,
    offered: Option<Vec<f32>>,
) -> Result<Option<Vec<f32>>> {
    let wrong = |problem: String| Err(Error::settings(format!("`evaluate.goal`: {problem}")));
    match configured {
        Some(_) if !policy.needs_goal() => {
            wrong("this policy was trained without goals; leave the key out".to_owned())
        }
        Some(goal) if goal.len() != spec.observation_dim || !goal.iter().all(|x| x.is_finite()) => {
            wrong(format!(
                "expected an observation of `{}`, {} finite numbers, found {goal:?}",
                spec.name, spec.observation_dim
            ))
        }
        Some(goal) => Ok(Some(goal.to_vec())),
        None => Ok(offered.filter(|_| policy.needs_goal())),
    }
}

/// Refuses an episode without a goal for a policy that needs one.
///
/// # Errors
/// If so: what to set.
pub(crate) fn require_goal(
    policy: &dyn Policy,
    spec: &envs::EnvSpec,
    goal: Option<&[f32]>,
) -> Result<()> {
    if goal.is_some() || !policy.needs_goal() {
        return Ok(());
    }
    Err(Error::NoGoal {
        env: spec.name.clone(),
        observation_dim: spec.observation_dim,
    })
}

/// Keeps whole episodes, one row after the other, as a data set.
struct EpisodeRecorder {
    rows: Vec<RecordedRow>,
}

#[derive(Default)]
struct RecordedRow {
    observations: Vec<f32>,
    actions: Vec<f32>,
    rewards: Vec<f32>,
    terminated: bool,
    truncated: bool,
    final_observation: Vec<f32>,
}

impl Recorder for EpisodeRecorder {
    fn record(&mut self, step: RecordedStep<'_>) {
        let row = &mut self.rows[step.row];
        row.observations.extend_from_slice(step.observation);
        row.actions.extend_from_slice(step.action);
        row.rewards.push(step.reward);
        (row.terminated, row.truncated) = (step.terminated, step.truncated);
        row.final_observation = step.next_observation.to_vec();
    }
}

impl EpisodeRecorder {
    fn into_dataset(self, spec: &envs::EnvSpec) -> Dataset {
        let mut dataset = Dataset {
            reference_returns: None,
            ..empty(spec)
        };
        for row in self.rows {
            dataset.episodes.push(Episode {
                terminated: row.terminated,
                truncated: row.truncated,
                final_observation: Some(row.final_observation.into_boxed_slice()),
                ..Episode::new(dataset.rewards.len(), row.rewards.len())
            });
            dataset.observations.extend(row.observations);
            dataset.actions.extend(row.actions);
            dataset.rewards.extend(row.rewards);
        }
        dataset
    }
}

impl Evaluation {
    /// Aggregates episodes of the environment `env`.
    pub fn new(env: &str, returns: Vec<f64>, lengths: Vec<usize>) -> Self {
        let (return_mean, return_std) = mean_std(&returns);
        let reference = envs::score::reference_for(env);
        let score = |value| reference.map(|r| envs::score::normalized_score(r, value));
        let scores: Option<Vec<f64>> = returns.iter().map(|&value| score(value)).collect();
        let (score_mean, score_std) = match scores.map(|scores| mean_std(&scores)) {
            Some((mean, std)) => (Some(mean), Some(std)),
            None => (None, None),
        };
        let (env, episodes) = (env.to_owned(), returns.len());
        Self {
            env,
            episodes,
            returns,
            lengths,
            return_mean,
            return_std,
            score_mean,
            score_std,
            by_target: Vec::new(),
            planning: None,
        }
    }
}

impl Evaluation {
    /// One line for people: score and return with their standard deviation over the episodes; one line more for
    /// each further target return, and some for plans that had a budget.
    pub fn summary(&self) -> String {
        let Self { episodes, env, .. } = self;
        let line = |aim: &str, returns: (f64, f64), score: Option<(f64, f64)>| {
            let returns = format!(
                "return {:.1} ± {:.1} over {episodes} episodes of {env}{aim}",
                returns.0, returns.1
            );
            match score {
                Some((mean, std)) => format!("score {mean:.1} ± {std:.1} ({returns})"),
                None => returns,
            }
        };
        let lines = self.by_target.iter().map(|target| {
            let score = target.score_mean.zip(target.score_std);
            let aim = format!(", aiming at {}", target.target_return);
            line(&aim, (target.return_mean, target.return_std), score)
        });
        let mut text = match self.by_target.len() {
            0 | 1 => {
                let score = self.score_mean.zip(self.score_std);
                line("", (self.return_mean, self.return_std), score)
            }
            _ => lines.collect::<Vec<_>>().join("\n  "),
        };
        if let Some(planning) = &self.planning {
            text += &format!("\n  {}", planning.lines());
        }
        text
    }
}
