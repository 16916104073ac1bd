//! [`preview`]: one plan from a start state, and what happens when it is carried out.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};

use crate::app::config::RunConfig;
use crate::app::evaluate::{require_goal, starting_goal};
use crate::envs;
use crate::report::plan;
use crate::report::plan::PlanPanel;
use trajformer_core::error::{Ability, Error, Result};
use trajformer_core::policy::Imagined;
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Streams;

/// One plan and its outcome. Steps are counted from the start state, which is step 0.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Seconds that the plan took.
    pub seconds: f64,
    /// What the model expected.
    pub imagined: Imagined,
    /// Observations that the best plan's actions really led to, the start state first.
    pub observations: Vec<Vec<f32>>,
    /// Rewards of those actions.
    pub rewards: Vec<f32>,
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
    let input = Tensor::from_slice(&start, (1, start.len()), &Device::Cpu)?;
    let begin = Instant::now();
    policy.act(&input, &[true])?;
    let seconds = begin.elapsed().as_secs_f64();
    let imagined = policy.imagined(0)?.ok_or_else(|| {
        let what = config.algorithm.name();
        let problem = format!("`{what}` does not plan; try a trajectory_transformer run");
        Error::unsupported(Ability::Planning, problem)
    })?;
    let spec = env.spec().clone();
    let (mut observations, mut rewards) = (vec![start], Vec::new());
    for action in imagined.actions.get(0)?.to_vec2::<f32>()? {
        let bounds = spec.action_low.iter().zip(&spec.action_high);
        let action: Vec<f32> = action
            .iter()
            .zip(bounds)
            .map(|(a, (low, high))| a.clamp(*low, *high))
            .collect();
        let step = env.step(&action)?;
        observations.push(step.observation);
        rewards.push(step.reward);
        if step.terminated || step.truncated {
            break;
        }
    }
    Ok(Preview {
        seconds,
        imagined,
        observations,
        rewards,
    })
}

impl Preview {
    /// Draws predicted and real rewards and the observations that move most.
    ///
    /// # Errors
    /// If the file can't be written or its ending is neither `.svg` nor `.png`.
    pub fn draw(&self, path: &Path, title: &str) -> Result<()> {
        const PANELS: usize = 5;
        let mut dims: Vec<(usize, f32)> = (0..self.observations[0].len())
            .map(|dim| (dim, self.movement(dim)))
            .collect();
        dims.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut shown: Vec<usize> = dims.iter().take(PANELS).map(|(dim, _)| *dim).collect();
        shown.sort_unstable();
        let mut panels = vec![self.reward_panel()?];
        for dim in shown {
            panels.push(self.observation_panel(dim)?);
        }
        let picture = plan::Plan {
            title: title.to_owned(),
            subtitle: "one plan from the start state, carried out without replanning".to_owned(),
            x_label: "step".to_owned(),
            planned_at: None,
            panels,
        };
        plan::draw(path, &picture)
    }

    fn movement(&self, dim: usize) -> f32 {
        let values = || self.observations.iter().map(|observation| observation[dim]);
        values().fold(f32::MIN, f32::max) - values().fold(f32::MAX, f32::min)
    }

    fn observation_panel(&self, dim: usize) -> Result<PlanPanel> {
        let start = f64::from(self.observations[0][dim]);
        let mut imagined = Vec::new();
        for beam in self.imagined.observations.to_vec3::<f32>()? {
            // The model's first observation is the start state's bin; later ones are predictions.
            let later = beam.iter().enumerate().skip(1);
            let points = later.map(|(step, row)| (step as f64, f64::from(row[dim])));
            imagined.push(
                std::iter::once((0.0, start))
                    .chain(points)
                    .collect::<Vec<_>>(),
            );
        }
        let real = self.observations.iter().enumerate();
        Ok(PlanPanel {
            label: format!("observation {dim}"),
            chosen: imagined[0].clone(),
            imagined,
            real: real
                .map(|(step, row)| (step as f64, f64::from(row[dim])))
                .collect(),
        })
    }

    fn reward_panel(&self) -> Result<PlanPanel> {
        let points = |values: &[f32]| -> Vec<(f64, f64)> {
            values
                .iter()
                .enumerate()
                .map(|(step, &r)| (step as f64 + 1.0, f64::from(r)))
                .collect()
        };
        let imagined: Vec<Vec<(f64, f64)>> = self
            .imagined
            .rewards
            .to_vec2::<f32>()?
            .iter()
            .map(|row| points(row))
            .collect();
        Ok(PlanPanel {
            label: "reward".to_owned(),
            chosen: imagined[0].clone(),
            imagined,
            real: points(&self.rewards),
        })
    }
}
