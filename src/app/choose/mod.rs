//! [`choose`]: which of several runs to deploy, from data alone.
//!
//! Every run's policy is judged by fitted Q evaluation ([`fqe`](crate::app::fqe)) on the same ground: the same resamples of the episodes, the same
//! critics at first, the same batches. So two runs differ in a resample by their actions alone, and their difference is compared
//! within resamples. Choosing by such values is Paine et al. 2020, <https://arxiv.org/abs/2007.09055>; regret and rank correlation as measures of
//! it are Fu et al. 2021, <https://arxiv.org/abs/2103.16596>.

mod histories;
pub mod judged;
pub mod ranking;
mod runs;
pub mod wording;

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::app::act::{self, ActOptions};
use crate::app::choose::histories::Histories;
use crate::app::choose::judged::{Judged, Known};
use crate::app::choose::ranking::{Interval, standings};
use crate::app::choose::runs::{Contender, Rewards, Shared};
use crate::app::fqe::{Asked, FqeConfig, Ground};
use crate::app::progress::duration;
use crate::app::run;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};
use trajformer_models::rng::Streams;

/// Episodes that are taken by default where a run plans, which takes about 0.1 s per step.
const PLANNED_EPISODES: usize = 20;
/// Episodes that are taken by default where a run remembers: it acts at every step of them, with its history.
const REMEMBERED_EPISODES: usize = 30;
/// Widths of the critics' hidden layers by default: small ones, because every run has critics of its own.
pub const HIDDEN: [usize; 2] = [64, 64];
/// Resamples of fewer episodes say little of what others would have been.
const FEW_EPISODES: usize = 10;
/// With fewer resamples all of them agree by chance more often than one time in twenty: 0.5⁴ is 6 %.
const FEWEST_MEMBERS: usize = 5;
/// Rows that critics are asked at a time.
const ROWS: usize = 4096;

/// What is asked of [`choose`]; by default everything, with critics of [`HIDDEN`] units.
#[derive(Debug, Clone)]
pub struct ChooseOptions {
    /// Data to judge by; default: the runs' own, if it is the same.
    pub data: Option<PathBuf>,
    /// Episodes that are drawn from it, without replacement, for all runs alike. Default: all, but 30 where a run remembers
    /// earlier steps and 20 where one plans.
    pub episodes: Option<usize>,
    /// Settings of fitted Q evaluation; its token stops it after the runs that are judged.
    pub fqe: FqeConfig,
    /// Whether the choice is compared with the scores that the runs have got in their environment.
    pub judge: bool,
}

impl Default for ChooseOptions {
    fn default() -> Self {
        Self {
            data: None,
            episodes: None,
            fqe: FqeConfig {
                hidden: HIDDEN.to_vec(),
                ..FqeConfig::default()
            },
            judge: false,
        }
    }
}

/// What [`choose`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// Whether it was stopped before all runs were judged: what is here is no result then.
    pub interrupted: bool,
    /// Runs that were to be judged.
    pub planned_runs: usize,
    /// The run with the highest value.
    pub chosen: String,
    /// By how much the best run of a resample is better than the chosen one, on average over the resamples; discounted rewards.
    pub expected_regret: f64,
    /// Runs that are not told apart from the chosen one: the 90 % interval of its lead in the same resample is not above 0. Empty: the
    /// choice is clear.
    pub not_told_apart: Vec<String>,
    /// Why nothing can be told, whatever the intervals say: too few resamples, critics that have not settled, or runs that are not judged yet.
    /// Empty: `not_told_apart` decides.
    pub undecided: Vec<String>,
    /// The runs, from the highest value to the lowest.
    pub runs: Vec<Candidate>,
    /// Files that the data is from.
    pub data: Vec<PathBuf>,
    /// Episodes that the runs were judged by.
    pub episodes: usize,
    /// Episodes of the data.
    pub episodes_of_data: usize,
    /// Steps of the episodes that the runs were judged by.
    pub steps: usize,
    /// Mean discounted return of the complete ones.
    pub data_value: Option<f64>,
    /// Their best one.
    pub data_best: Option<f64>,
    /// Discount of all values.
    pub discount: f64,
    /// Updates of each run's critics.
    pub updates: u64,
    /// Critics, each with its own resample.
    pub members: usize,
    /// Share of the critics' first values that is left in the values.
    pub unsettled: f64,
    /// What the choice was worth by the runs' scores, if that was asked for.
    pub judged: Option<Judged>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One run among others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// As it was named.
    pub name: String,
    /// Its folder.
    pub run: PathBuf,
    /// Its algorithm.
    pub algorithm: String,
    /// Updates of its checkpoint.
    pub train_updates: u64,
    /// Estimated discounted return from the data's start states: mean over the resamples.
    pub value: f64,
    /// 90 % of the resamples.
    pub interval: Interval,
    /// Share of the resamples in which it is the best.
    pub probability_best: f64,
    /// What is lost on average by choosing it, if the resamples are right.
    pub expected_regret: f64,
    /// 90 % interval of the chosen run's value minus this one's in the same resample.
    pub behind: Interval,
    /// Its value in each resample; all runs have the same resamples.
    pub members: Vec<f64>,
    /// Whether its actions depend on the steps before.
    pub has_history: bool,
    /// Root of the mean square of its actions minus the data's, for a range of ±1; of choices the share of steps where they differ.
    pub action_distance: f64,
    /// The same for each dimension of the actions.
    pub action_distances: Vec<f64>,
    /// Root of the mean square temporal-difference error of its own critics on the data, in the environment's rewards; `None` where it
    /// has no critics.
    pub td_error: Option<f64>,
    /// Whether its value is above the data's best return: nothing in the data shows that it can be reached.
    pub above_data: bool,
    /// Its score in the environment, if the choice is judged and it has one.
    pub score: Option<f64>,
}

/// Judges the runs at or below `paths` by data alone, and says which one to take and how sure that is.
///
/// # Errors
/// If there are fewer than two runs, their shapes or the way they read data differ, there is no common data, it has one episode
/// alone, a policy needs what the data has not, or it is interrupted before two runs are judged.
pub fn choose(paths: &[PathBuf], options: &ChooseOptions) -> Result<Choice> {
    options.fqe.check()?;
    let mut notes = Vec::new();
    let mut contenders = runs::found(paths, &mut notes)?;
    let shared = Shared::of(&mut contenders, options.data.as_deref(), &mut notes)?;
    let scored_in = if options.judge {
        Some(scored_in(&contenders)?)
    } else {
        None
    };
    options.fqe.warn_of_unsettled();
    let whole = &shared.data;
    let some = subset(&contenders, whole, options)?;
    let data = some.as_ref().unwrap_or(whole);
    if data.episodes.len() < 2 {
        return Err(Error::Unsuitable(format!(
            "{}: runs are told apart by resamples of episodes, and it has one alone: expected at least 2",
            whole.source_names()
        )));
    }
    if data.episodes.len() < FEW_EPISODES {
        notes.push(format!(
            "{} episodes are few: resamples of them say little of what others would have been",
            data.episodes.len()
        ));
    }
    let stage = Stage {
        ground: Ground::new(data, &shared.bounds, &options.fqe)?,
        histories: Histories::new(data),
        shared: &shared,
        scored_in,
        options,
    };
    let fqe = &options.fqe;
    tracing::info!(
        "{} runs on {} of {} episodes ({} steps): for each {} critics ({} units), {} updates; how long that takes is said after \
         some of them",
        contenders.len(),
        data.episodes.len(),
        whole.episodes.len(),
        data.steps(),
        fqe.members,
        widths(&fqe.hidden),
        fqe.updates
    );
    let found = stage.judged(&contenders, &mut notes)?;
    let (planned, judged) = (contenders.len(), found.len());
    let (contenders, found) = settled(contenders, found, &mut notes)?;
    let mut choice = stage.ranked(&contenders, found, notes)?;
    choice.planned_runs = planned;
    choice.interrupted = judged < planned;
    choice.episodes_of_data = whole.episodes.len();
    choice.episodes = data.episodes.len();
    choice.steps = data.steps();
    choice.undecided = undecided(&choice, &options.fqe);
    Ok(choice)
}

/// The judged runs whose critics have not diverged: one impossible value would swamp what every other run is compared with.
///
/// # Errors
/// If fewer than two are left.
fn settled(
    contenders: Vec<Contender>,
    found: Vec<Found>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Contender>, Vec<Found>)> {
    let judged = contenders.into_iter().zip(found);
    let left: Vec<(Contender, Found)> = judged
        .filter(|(contender, found)| {
            if let Some(problem) = &found.diverged {
                notes.push(format!(
                    "{} can't be judged and is left out: {problem}",
                    contender.name
                ));
            }
            found.diverged.is_none()
        })
        .collect();
    if left.len() < 2 {
        return Err(Error::Unsuitable(format!(
            "{} of the runs can be judged, and a choice needs two: {}",
            left.len(),
            notes.join("; ")
        )));
    }
    Ok(left.into_iter().unzip())
}

/// Why nothing follows from the values.
fn undecided(choice: &Choice, fqe: &FqeConfig) -> Vec<String> {
    let mut reasons = Vec::new();
    if choice.interrupted {
        reasons.push(format!(
            "{} of {} runs are judged",
            choice.runs.len(),
            choice.planned_runs
        ));
    }
    if choice.members < FEWEST_MEMBERS {
        reasons.push(format!(
            "{} of at least {FEWEST_MEMBERS} resamples were drawn, and fewer have no 90 % interval (take more critics, one is fitted to each)",
            choice.members
        ));
    }
    if fqe.is_unsettled() {
        reasons.push(format!(
            "{:.0} % of the critics' first values are left after {} updates (take more updates)",
            100.0 * choice.unsettled,
            choice.updates
        ));
    }
    reasons
}

/// The episodes that runs are judged by, if they are not all.
fn subset(
    contenders: &[Contender],
    data: &Dataset,
    options: &ChooseOptions,
) -> Result<Option<Dataset>> {
    let (usual, why) = if contenders.iter().any(Contender::plans) {
        let why = "a run plans, which takes about 0.1 s per step";
        (PLANNED_EPISODES, why)
    } else if contenders.iter().any(Contender::remembers) {
        let why = "a run remembers earlier steps and acts at every step of them with its history";
        (REMEMBERED_EPISODES, why)
    } else {
        (usize::MAX, "")
    };
    let count = options.episodes.unwrap_or(usual);
    let all = data.episodes.len();
    if count < 2 {
        return Err(Error::settings(format!(
            "{count} episodes: runs are told apart by resamples of episodes, expected at least 2"
        )));
    }
    if count >= all {
        return Ok(None);
    }
    if options.episodes.is_none() {
        tracing::info!("{count} of {all} episodes are taken, because {why}");
    }
    let mut rng = Streams::from_seed(options.fqe.seed).stream("episodes");
    let mut rows: Vec<usize> = (0..all).collect();
    for place in 0..count {
        rows.swap(place, place + rng.below(all - place));
    }
    rows.truncate(count);
    rows.sort_unstable();
    Ok(Some(data.of_episodes(&rows)))
}

/// An error with the run that it is about.
fn of_run(error: Error, contender: &Contender) -> Error {
    match error {
        Error::Unsuitable(problem) => Error::Unsuitable(format!("{}: {problem}", contender.name)),
        Error::Training {
            update, problem, ..
        } => Error::Training {
            update,
            problem: format!("{}: {problem}", contender.name),
            resumable: None,
        },
        other => other,
    }
}

/// What all runs are judged on.
struct Stage<'a> {
    ground: Ground,
    histories: Histories,
    shared: &'a Shared,
    /// The environment whose scores judge the choice, if they do.
    scored_in: Option<String>,
    options: &'a ChooseOptions,
}

/// What is found of one run.
struct Found {
    members: Vec<f64>,
    has_history: bool,
    updates: u64,
    distance: f64,
    distances: Vec<f64>,
    td_error: Option<f64>,
    /// Why its values mean nothing, if they do.
    diverged: Option<String>,
    /// Seconds until its actions were known.
    acting_seconds: f64,
    /// Seconds that its critics took.
    fitting_seconds: f64,
}

/// How long the runs after those that are judged take, by what these took: acting with a history is another thing than without.
fn left(found: &[Found], contenders: &[Contender]) -> String {
    let mean = |seconds: Vec<f64>| {
        (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
    };
    let fitting = found.iter().map(|one| one.fitting_seconds).collect();
    let mut seconds = 0.0;
    let mut unknown = 0;
    for contender in &contenders[found.len()..] {
        let remembers = contender.remembers();
        let alike = found.iter().filter(|one| one.has_history == remembers);
        let acting = mean(alike.map(|one| one.acting_seconds).collect());
        unknown += usize::from(acting.is_none() && remembers);
        seconds += acting.unwrap_or(0.0);
    }
    seconds += (contenders.len() - found.len()) as f64 * mean(fitting).unwrap_or(0.0);
    let more = match unknown {
        0 => "",
        _ => ", and what runs that remember need to act with their histories",
    };
    format!("about {} left{more}", duration(seconds))
}

/// `64x64`.
fn widths(hidden: &[usize]) -> String {
    let widths: Vec<String> = hidden.iter().map(ToString::to_string).collect();
    widths.join("x")
}

impl Stage<'_> {
    /// All runs, or those that came before it was interrupted, if they are at least two.
    fn judged(&self, contenders: &[Contender], notes: &mut Vec<String>) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = Vec::new();
        let count = contenders.len();
        for (at, contender) in contenders.iter().enumerate() {
            match self.judge(contender, count - at - 1, notes) {
                Ok(Some(judged)) => found.push(judged),
                Ok(None) | Err(Error::Interrupted | Error::NothingYet { .. }) => break,
                Err(error) => return Err(of_run(error, contender)),
            }
            if at + 1 < count {
                let left = left(&found, contenders);
                tracing::info!("{} of {count} runs ({}), {left}", at + 1, contender.name);
            }
        }
        let problem = match &found[..] {
            [] => format!(
                "interrupted in the first of {count} runs ({}): nothing can be said yet",
                contenders[0].name
            ),
            [only] => {
                let value = only.members.iter().sum::<f64>() / only.members.len() as f64;
                format!(
                    "interrupted after 1 of {count} runs: nothing can be said of a choice yet, which needs two. The value of {} is \
                     {value:.1}",
                    contenders[0].name
                )
            }
            _ => return Ok(found),
        };
        Err(Error::NothingYet { problem })
    }

    /// One run; `None` if it was interrupted on the way.
    fn judge(
        &self,
        contender: &Contender,
        following: usize,
        notes: &mut Vec<String>,
    ) -> Result<Option<Found>> {
        let (fqe, begin) = (&self.options.fqe, Instant::now());
        let mut trained = run::open(&contender.folder, &[])?;
        let mut policy = trained.algorithm.policy()?;
        let has_history = !policy.is_memoryless();
        let asked = if has_history {
            let options = ActOptions {
                interrupt: fqe.interrupt.clone(),
                ..ActOptions::default()
            };
            tracing::info!("{}: acting with its history", contender.name);
            let acted = act::act(&mut trained, &self.histories.recorded, &options)?;
            let bounds = &self.shared.bounds;
            self.histories.asked(&acted.actions, &self.ground, bounds)?
        } else {
            self.ground.ask(&mut *policy, fqe.seed)?
        };
        let td_error = match contender.rewards(self.shared, notes)? {
            Some(rewards) => self.td_error(&trained, &asked, rewards)?,
            None => None,
        };
        let acting_seconds = begin.elapsed().as_secs_f64();
        let fitted = self.ground.fit(&asked, fqe, following)?;
        if fitted.updates < fqe.updates {
            return Ok(None);
        }
        Ok(Some(Found {
            members: fitted.members,
            diverged: fitted.diverged,
            has_history,
            updates: trained.state.update,
            distance: self.ground.distance(&asked)?,
            distances: self.ground.distances(&asked)?,
            td_error,
            acting_seconds,
            fitting_seconds: begin.elapsed().as_secs_f64() - acting_seconds,
        }))
    }

    /// Root mean square of r + γ Q(s', π(s')) - Q(s, a) by the run's own critics, in the environment's rewards.
    fn td_error(
        &self,
        trained: &run::TrainedRun,
        asked: &Asked,
        rewards: Rewards,
    ) -> Result<Option<f64>> {
        let (transitions, bounds) = (self.ground.transitions(), &self.shared.bounds);
        let (scale, shift) = (f64::from(rewards.scale), f64::from(rewards.shift));
        let raw = transitions.rewards().to_vec1::<f32>()?;
        let ends = transitions.terminated().to_vec1::<f32>()?;
        let mut sum = 0.0;
        for first in (0..raw.len()).step_by(ROWS) {
            let rows = ROWS.min(raw.len() - first);
            let values = |observations: &candle_core::Tensor, actions: &candle_core::Tensor| {
                let actions = bounds.from_unit(&actions.narrow(0, first, rows)?)?;
                let observations = observations.narrow(0, first, rows)?;
                trained.algorithm.action_values(&observations, &actions)
            };
            let Some(now) = values(transitions.observations(), transitions.actions())? else {
                return Ok(None);
            };
            let Some(next) = values(transitions.next_observations(), &asked.next)? else {
                return Ok(None);
            };
            let pairs = now
                .to_vec1::<f32>()?
                .into_iter()
                .zip(next.to_vec1::<f32>()?);
            for (row, (now, next)) in pairs.enumerate() {
                let (reward, end) = (f64::from(raw[first + row]), f64::from(ends[first + row]));
                let target =
                    reward * scale + shift + rewards.discount * (1.0 - end) * f64::from(next);
                sum += ((target - f64::from(now)) / scale).powi(2);
            }
        }
        Ok(Some((sum / raw.len() as f64).sqrt()))
    }

    fn ranked(
        &self,
        contenders: &[Contender],
        found: Vec<Found>,
        mut notes: Vec<String>,
    ) -> Result<Choice> {
        let members: Vec<Vec<f64>> = found.iter().map(|one| one.members.clone()).collect();
        let (standings, top) = standings(&members);
        let (data_best, fqe) = (self.ground.data_best(), &self.options.fqe);
        let env = self.scored_in.as_deref();
        let judged = env
            .and_then(|env| measured(contenders, &found, &standings, (env, data_best), &mut notes));
        let (scores, judged) = judged.unzip();
        let mut candidates: Vec<Candidate> = Vec::new();
        for (at, ((contender, found), standing)) in
            contenders.iter().zip(found).zip(&standings).enumerate()
        {
            candidates.push(Candidate {
                name: contender.name.clone(),
                run: contender.folder.clone(),
                algorithm: contender.run.algorithm.clone(),
                train_updates: found.updates,
                value: standing.value,
                interval: standing.interval,
                probability_best: standing.probability_best,
                expected_regret: standing.expected_regret,
                behind: standing.behind,
                members: found.members,
                has_history: found.has_history,
                action_distance: found.distance,
                action_distances: found.distances,
                td_error: found.td_error,
                above_data: data_best.is_some_and(|best| standing.value > best),
                score: scores
                    .as_ref()
                    .and_then(|scores: &Vec<Option<f64>>| scores[at]),
            });
        }
        let first = candidates.remove(top);
        candidates.sort_by(|a, b| b.value.total_cmp(&a.value));
        let unclear = candidates.iter().filter(|one| !one.behind.is_positive());
        let not_told_apart = unclear.map(|one| one.name.clone()).collect();
        candidates.insert(0, first);
        Ok(Choice {
            interrupted: false,
            planned_runs: candidates.len(),
            chosen: candidates[0].name.clone(),
            expected_regret: candidates[0].expected_regret,
            not_told_apart,
            undecided: Vec::new(),
            runs: candidates,
            data: self.shared.data.sources.clone(),
            episodes: 0,
            episodes_of_data: 0,
            steps: 0,
            data_value: self.ground.data_value(),
            data_best,
            discount: fqe.discount,
            updates: fqe.updates,
            members: fqe.members,
            unsettled: fqe.unsettled(),
            judged,
            notes,
        })
    }
}

/// The environment in which the runs were scored.
///
/// # Errors
/// If they name none, or fewer than two have a score of their checkpoint there.
fn scored_in(contenders: &[Contender]) -> Result<String> {
    let first = contenders.iter().find_map(|one| one.run.task.env.clone());
    let env = first.ok_or_else(|| {
        Error::Unsuitable(
            "the runs name no environment (`evaluate.env`), so there are no scores to judge the choice by"
                .to_owned(),
        )
    })?;
    let is_scored = |one: &&Contender| {
        let last = one.evaluations_in(&env).pop();
        last.is_some_and(|row| row.update == one.updates)
    };
    let scored = contenders.iter().filter(is_scored).count();
    if scored < 2 {
        return Err(Error::Unsuitable(format!(
            "{scored} of {} runs have a score of their checkpoint in {env}: a choice is judged by at least 2; train with \
             `evaluate.episodes` above 0",
            contenders.len()
        )));
    }
    Ok(env)
}

/// The scores of the runs' checkpoints in `env`, and what the choice was worth by them; `None`, with a note, if fewer than two have one.
fn measured(
    contenders: &[Contender],
    found: &[Found],
    standings: &[ranking::Standing],
    (env, data_best): (&str, Option<f64>),
    notes: &mut Vec<String>,
) -> Option<(Vec<Option<f64>>, Judged)> {
    let known = contenders.iter().zip(found).zip(standings);
    let known = known.map(|((contender, found), standing)| Known {
        value: standing.value,
        above_data: data_best.is_some_and(|best| standing.value > best),
        updates: found.updates,
        distance: found.distance,
        td_error: found.td_error,
        evaluations: contender.evaluations_in(env),
    });
    let known: Vec<Known> = known.collect();
    let is_scored = |run: &&Known| judged::score(run, false).is_some();
    let scored: Vec<Known> = known.iter().filter(is_scored).cloned().collect();
    let missing = known.len() - scored.len();
    if scored.len() < 2 {
        notes.push(format!(
            "{} of the {} runs that are judged have a score of their checkpoint in {env}: too few to judge the choice by",
            scored.len(),
            known.len()
        ));
        return None;
    }
    if missing > 0 {
        notes.push(format!(
            "{missing} of {} runs have no score of their checkpoint in {env}: the choice is judged among the others",
            known.len()
        ));
    }
    let judged = judged::judged(&scored, env)?;
    let normalized = judged.measure == "score";
    let scores = known.iter().map(|run| judged::score(run, normalized));
    Some((scores.collect(), judged))
}
