//! [`preview`]: one plan from a start state, and what happens when it is carried out. [`preview_logged`]: one from a step of a data
//! set, with its history, beside what was logged after it.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};

use crate::app::config::RunConfig;
use crate::app::evaluate::{require_goal, starting_goal};
use crate::app::progress::Progress;
use crate::envs;
use crate::report::plan;
use crate::report::plan::PlanPanel;
use trajformer_core::dataset::{Dataset, Episode};
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::planning::PlanningSummary;
use trajformer_core::policy::Imagined;
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Streams;

/// Dimensions of observations, and of actions, that a picture shows: those that move most.
const OBSERVATIONS: usize = 5;
const ACTIONS: usize = 3;

/// One plan beside what really happened.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Seconds that the plan took.
    pub seconds: f64,
    /// What the plan was, if it had a budget: also beside the full search.
    pub planning: Option<PlanningSummary>,
    /// What the model expected.
    pub imagined: Imagined,
    /// Observations, those before the plan first where it was made from data: at `at` stands the one that the plan was made from. In an
    /// environment those that the best plan's actions led to.
    pub observations: Vec<Vec<f32>>,
    /// Actions at these observations; the last observation may have none.
    pub actions: Vec<Vec<f32>>,
    /// Rewards of these actions.
    pub rewards: Vec<f32>,
    /// Place in `observations` of the one that the plan was made from.
    pub at: usize,
    /// Number of the first observation's step in its episode.
    pub first_step: usize,
    /// The episode and step of the data set that it was made from; `None` if it was carried out in an environment.
    pub logged: Option<LoggedStep>,
}

/// A step of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedStep {
    /// Number of the episode.
    pub episode: usize,
    /// Number of the step in it.
    pub step: usize,
}

impl LoggedStep {
    /// The step with this row number in the whole data set.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn of_row(data: &Dataset, row: usize) -> Result<Self> {
        let mut episodes = data.episodes.iter().enumerate();
        let found = episodes.find(|(_, episode)| episode.range().contains(&row));
        found
            .map(|(number, episode)| Self {
                episode: number,
                step: row - episode.start,
            })
            .ok_or_else(|| {
                Error::Unsuitable(format!(
                    "{}: there is no row {row}, expected 0 to {}",
                    data.source_names(),
                    data.steps().saturating_sub(1)
                ))
            })
    }

    /// Its episode.
    ///
    /// # Errors
    /// If there is no such episode, or it has no such step.
    fn found(self, data: &Dataset) -> Result<&Episode> {
        let names = data.source_names();
        let Some(episode) = data.episodes.get(self.episode) else {
            return Err(Error::Unsuitable(format!(
                "{names}: there is no episode {}, expected 0 to {}",
                self.episode,
                data.episodes.len().saturating_sub(1)
            )));
        };
        if self.step < episode.steps {
            return Ok(episode);
        }
        Err(Error::Unsuitable(format!(
            "{names}: episode {} has no step {}, expected 0 to {}",
            self.episode,
            self.step,
            episode.steps - 1
        )))
    }
}
/// Plans once from the start state of `seed` in the run's environment and carries the best plan
/// out.
///
/// # Errors
/// If the run names no environment, there is no goal for a policy that needs one, the policy does not
/// plan, or planning or simulation fails.
pub fn preview(policy: &mut dyn Policy, config: &RunConfig, seed: u64) -> Result<Preview> {
    let name = config
        .evaluate
        .env
        .as_deref()
        .ok_or_else(|| Error::NotSet {
            key: "evaluate.env".to_owned(),
            problem: "the run names no environment to plan in".to_owned(),
        })?;
    let mut env = envs::make_with(name, &config.evaluation().gym_options())?;
    let streams = Streams::from_seed(seed);
    let start = env.reset(streams.numbered("environment", 0).bits())?;
    let configured = config.evaluate.goal.as_deref();
    let goal = starting_goal(policy, env.spec(), configured, env.goal())?;
    require_goal(policy, env.spec(), goal.as_deref())?;
    let rng = streams.numbered("policy", 0);
    policy.begin(&[EpisodeStart {
        rng,
        target_return: None,
        goal,
        instruction: None,
    }])?;
    let (imagined, seconds) = planned(policy, config, &start)?;
    policy.compare_plans()?;
    let spec = env.spec().clone();
    let (mut observations, mut actions, mut rewards) = (vec![start], Vec::new(), Vec::new());
    for action in imagined.actions.get(0)?.to_vec2::<f32>()? {
        let bounds = spec.action_low.iter().zip(&spec.action_high);
        let action: Vec<f32> = action
            .iter()
            .zip(bounds)
            .map(|(a, (low, high))| a.clamp(*low, *high))
            .collect();
        let step = env.step(&action)?;
        actions.push(action);
        observations.push(step.observation);
        rewards.push(step.reward);
        if step.terminated || step.truncated {
            break;
        }
    }
    Ok(Preview {
        seconds,
        planning: policy.planning(),
        imagined,
        observations,
        actions,
        rewards,
        at: 0,
        first_step: 0,
        logged: None,
    })
}

/// The plan at an observation, and the seconds that it took.
fn planned(
    policy: &mut dyn Policy,
    config: &RunConfig,
    observation: &[f32],
) -> Result<(Imagined, f64)> {
    let input = Tensor::from_slice(observation, (1, observation.len()), &Device::Cpu)?;
    let begin = Instant::now();
    policy.act(&input, &[true])?;
    let seconds = begin.elapsed().as_secs_f64();
    let imagined = policy.imagined(0)?.ok_or_else(|| {
        let what = config.algorithm.name();
        let problem = format!("`{what}` does not plan; try a run of trajectory_transformer or tap");
        Error::unsupported(Ability::Planning, problem)
    })?;
    Ok((imagined, seconds))
}

/// Plans once from a step of a data set, after the steps before it in its episode, and puts what was logged around it beside. A policy
/// that needs a goal gets `evaluate.goal`, else the episode's last observation; one that follows instructions the episode's.
///
/// # Errors
/// If there is no such step, the data has other dimensions than the run, the policy does not plan, or planning fails.
pub fn preview_logged(
    policy: &mut dyn Policy,
    config: &RunConfig,
    data: &Dataset,
    place: LoggedStep,
    seed: u64,
) -> Result<Preview> {
    let episode = place.found(data)?;
    let rows: Vec<Vec<f32>> = episode
        .range()
        .map(|row| data.observation(row).to_vec())
        .collect();
    let end = episode.final_observation.as_deref().map(<[f32]>::to_vec);
    let goal = policy.needs_goal().then(|| {
        let configured = config.evaluate.goal.clone();
        configured
            .or_else(|| end.clone())
            .unwrap_or_else(|| rows[rows.len() - 1].clone())
    });
    policy.begin(&[EpisodeStart {
        rng: Streams::from_seed(seed).numbered("policy", 0),
        target_return: None,
        goal,
        instruction: episode.instruction.clone(),
    }])?;
    let progress = Progress::of("steps before it", 0, place.step as u64);
    for (step, observation) in rows.iter().take(place.step).enumerate() {
        progress.set(step as u64);
        let row = episode.start + step;
        let tensor = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu);
        let (observation, action) = (tensor(observation)?, tensor(data.action(row))?);
        policy.recall(&observation, &action, &[data.rewards[row]])?;
    }
    progress.finish();
    let (imagined, seconds) = planned(policy, config, &rows[place.step])?;
    policy.compare_plans()?;
    let horizon = imagined.rewards.dim(1)?;
    let first_step = place.step.saturating_sub(horizon);
    let last_step = (place.step + horizon).min(episode.steps);
    let steps = episode.start + first_step..episode.start + last_step;
    let observations = rows.into_iter().chain(end);
    Ok(Preview {
        seconds,
        planning: policy.planning(),
        imagined,
        observations: observations.take(last_step + 1).skip(first_step).collect(),
        actions: steps.clone().map(|row| data.action(row).to_vec()).collect(),
        rewards: data.rewards[steps].to_vec(),
        at: place.step - first_step,
        first_step,
        logged: Some(place),
    })
}

/// The numbers of the columns that move most, in ascending order, `most` at the most.
fn moving(rows: &[Vec<f32>], most: usize) -> Vec<usize> {
    let width = rows.first().map_or(0, Vec::len);
    let movement = |column: usize| {
        let values = || rows.iter().map(|row| row[column]);
        values().fold(f32::MIN, f32::max) - values().fold(f32::MAX, f32::min)
    };
    let mut columns: Vec<(usize, f32)> = (0..width).map(|at| (at, movement(at))).collect();
    columns.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut shown: Vec<usize> = columns.iter().take(most).map(|(at, _)| *at).collect();
    shown.sort_unstable();
    shown
}

/// `observations 0, 3 of 11`, or `all 3 observations`.
fn listed(what: &str, shown: &[usize], all: usize) -> String {
    if shown.len() == all {
        return format!("all {all} {what}");
    }
    let numbers: Vec<String> = shown.iter().map(usize::to_string).collect();
    format!("{what} {} of {all}", numbers.join(", "))
}

impl Preview {
    /// Rewards that really followed the plan's first steps.
    pub fn rewards_after(&self) -> &[f32] {
        self.rewards.get(self.at..).unwrap_or_default()
    }

    /// Draws rewards, and the observations and actions that move most, as predicted and as they were: the subtitle says which of how many.
    ///
    /// # Errors
    /// If the file can't be written or its ending is neither `.svg` nor `.png`.
    pub fn draw(&self, path: &Path, title: &str) -> Result<()> {
        let widths =
            [&self.observations, &self.actions].map(|rows| rows.first().map_or(0, Vec::len));
        let observations = moving(&self.observations, OBSERVATIONS);
        let actions = moving(&self.actions, ACTIONS);
        let mut panels = vec![self.reward_panel()?];
        for &dim in &observations {
            panels.push(self.observation_panel(dim)?);
        }
        for &dim in &actions {
            panels.push(self.action_panel(dim)?);
        }
        let what = match self.logged {
            None => "one plan from the start state, carried out without replanning".to_owned(),
            Some(LoggedStep { episode, step }) => {
                format!("one plan from step {step} of episode {episode}, beside what was logged")
            }
        };
        let picture = plan::Plan {
            title: title.to_owned(),
            subtitle: format!(
                "{what}; {} and {}, numbered from 0, in the data's units",
                listed("observations", &observations, widths[0]),
                listed("actions", &actions, widths[1])
            ),
            x_label: "step".to_owned(),
            planned_at: self.logged.map(|logged| logged.step as f64),
            panels,
        };
        plan::draw(path, &picture)
    }

    /// Numbers of real steps, at `offset` from the observation's, with what they had.
    fn real(&self, values: impl Iterator<Item = f32>, offset: usize) -> Vec<(f64, f64)> {
        let first = self.first_step + offset;
        let points = values.enumerate();
        points
            .map(|(step, value)| ((first + step) as f64, f64::from(value)))
            .collect()
    }

    /// Number of the step that the plan was made at.
    fn planned_at(&self) -> usize {
        self.first_step + self.at
    }

    fn observation_panel(&self, dim: usize) -> Result<PlanPanel> {
        let now = self.planned_at();
        let start = f64::from(self.observations[self.at][dim]);
        let mut imagined = Vec::new();
        for beam in self.imagined.observations.to_vec3::<f32>()? {
            // The model's first observation is the start state's bin; later ones are predictions.
            let later = beam.iter().enumerate().skip(1);
            let points = later.map(|(step, row)| ((now + step) as f64, f64::from(row[dim])));
            imagined.push(
                std::iter::once((now as f64, start))
                    .chain(points)
                    .collect::<Vec<_>>(),
            );
        }
        Ok(PlanPanel {
            label: format!("observation {dim}"),
            chosen: imagined[0].clone(),
            imagined,
            real: self.real(self.observations.iter().map(|row| row[dim]), 0),
        })
    }

    fn action_panel(&self, dim: usize) -> Result<PlanPanel> {
        let now = self.planned_at();
        let points = |beam: &Vec<Vec<f32>>| -> Vec<(f64, f64)> {
            let steps = beam.iter().enumerate();
            steps
                .map(|(step, row)| ((now + step) as f64, f64::from(row[dim])))
                .collect()
        };
        let imagined = self.imagined.actions.to_vec3::<f32>()?;
        let imagined: Vec<Vec<(f64, f64)>> = imagined.iter().map(points).collect();
        Ok(PlanPanel {
            label: format!("action {dim}"),
            chosen: imagined[0].clone(),
            imagined,
            real: self.real(self.actions.iter().map(|row| row[dim]), 0),
        })
    }

    fn reward_panel(&self) -> Result<PlanPanel> {
        let now = self.planned_at();
        let points = |values: &Vec<f32>| -> Vec<(f64, f64)> {
            let steps = values.iter().enumerate();
            // A reward comes with the observation after its action.
            steps
                .map(|(step, &reward)| ((now + step + 1) as f64, f64::from(reward)))
                .collect()
        };
        let imagined = self.imagined.rewards.to_vec2::<f32>()?;
        let imagined: Vec<Vec<(f64, f64)>> = imagined.iter().map(points).collect();
        Ok(PlanPanel {
            label: "reward".to_owned(),
            chosen: imagined[0].clone(),
            imagined,
            real: self.real(self.rewards.iter().copied(), 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_that_move_most_are_shown_in_their_order() {
        let rows = vec![vec![0.0, 5.0, 1.0], vec![3.0, 5.0, -1.0]];
        assert_eq!(moving(&rows, 2), [0, 2]);
        assert_eq!(listed("observations", &[0, 2], 3), "observations 0, 2 of 3");
        assert_eq!(listed("actions", &[0], 1), "all 1 actions");
        assert!(moving(&[], 2).is_empty());
    }

    #[test]
    fn rows_of_a_data_set_are_steps_of_its_episodes() {
        let data = Dataset {
            rewards: vec![0.0; 5],
            episodes: vec![Episode::new(0, 2), Episode::new(2, 3)],
            ..Dataset::blank(1, 1)
        };
        let found = LoggedStep::of_row(&data, 4).expect("a row");
        assert_eq!((found.episode, found.step), (1, 2));
        let error = LoggedStep::of_row(&data, 5).expect_err("too many");
        assert!(error.to_string().contains("expected 0 to 4"), "{error}");
        let beyond = |episode, step| {
            let place = LoggedStep { episode, step };
            place.found(&data).expect_err("beyond").to_string()
        };
        assert!(beyond(2, 0).contains("no episode 2, expected 0 to 1"));
        assert!(beyond(0, 2).contains("episode 0 has no step 2, expected 0 to 1"));
    }
}
