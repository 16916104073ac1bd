//! [`LatentPlanner`]: a policy that searches over codes and executes the best plan's actions.

use candle_core::{DType, Device, Tensor};
use trajformer_core::policy::Imagined;
use trajformer_models::kernels::decode::Float;

use crate::planning::latent_search::{LatentPlan, LatentSearch};
use crate::planning::sampling::Uniforms;
use trajformer_core::error::{Error, Result};
use trajformer_core::policy::{EpisodeStart, Policy};
use trajformer_models::rng::Rng;

/// Plans every few steps for all running episodes, one after the other.
///
/// Mirrors the authors' `scripts/plan.py` (ZhengyaoJiang/latentplan, commit c096a5c), with one difference: actions are clipped to their
/// bounds. A plan knows the present observation alone. `plan_every_steps` is their `plan_freq`: between plans the steps of the
/// last one are executed.
#[derive(Debug)]
pub struct LatentPlanner<T = f32> {
    search: LatentSearch<T>,
    action_low: Vec<f32>,
    action_high: Vec<f32>,
    steps: usize,
    plans: Vec<Option<LatentPlan>>,
    streams: Streams,
}

/// The episodes' own random streams (E).
#[derive(Debug, Default)]
struct Streams(Vec<Rng>);

impl Uniforms for Streams {
    fn next(&mut self, episode: usize) -> f64 {
        self.0[episode].uniform()
    }
}

impl<T: Float> LatentPlanner<T> {
    /// A planner whose actions stay within `action_low` and `action_high` (A each).
    ///
    /// # Errors
    /// If the bounds have another length than actions.
    pub fn new(
        search: LatentSearch<T>,
        action_low: Vec<f32>,
        action_high: Vec<f32>,
    ) -> Result<Self> {
        let action_dim = search.model().decoder.sizes().action_dim;
        if action_low.len() != action_dim || action_high.len() != action_dim {
            let (low, high) = (action_low.len(), action_high.len());
            let found = format!("{low} and {high} numbers");
            return Err(Error::shape("action bounds", found, action_dim));
        }
        Ok(Self {
            search,
            action_low,
            action_high,
            steps: 0,
            plans: Vec::new(),
            streams: Streams::default(),
        })
    }

    /// Its search.
    pub fn search(&self) -> &LatentSearch<T> {
        &self.search
    }

    /// Lowest and highest actions (A each).
    pub fn action_bounds(&self) -> (&[f32], &[f32]) {
        (&self.action_low, &self.action_high)
    }

    /// [`Policy::act`] with the draws of `uniforms`, by row, in place of the episodes' own streams.
    ///
    /// # Errors
    /// If shapes do not fit or the network fails.
    pub fn act_with(
        &mut self,
        observations: &Tensor,
        active: &[bool],
        uniforms: &mut dyn Uniforms,
    ) -> Result<Tensor> {
        let rows = self.rows(observations, active)?;
        let step = self.steps % self.search.config().plan_every_steps;
        self.steps += 1;
        let mut actions = vec![0.0f32; rows.len() * self.action_low.len()];
        let outputs = actions.chunks_exact_mut(self.action_low.len());
        for (((index, row), &active), output) in rows.iter().enumerate().zip(active).zip(outputs) {
            if !active {
                continue;
            }
            if step == 0 {
                self.plans[index] = Some(self.search.plan(row, index, uniforms)?);
            }
            if let Some(plan) = &self.plans[index] {
                self.planned_action(plan, step, output);
            }
        }
        let shape = (rows.len(), self.action_low.len());
        Ok(Tensor::from_vec(actions, shape, &Device::Cpu)?)
    }

    /// The action of step `step` of a plan's best future, within bounds (A).
    fn planned_action(&self, plan: &LatentPlan, step: usize, output: &mut [f32]) {
        let sizes = self.search.model().decoder.sizes();
        let first = step * sizes.joined_dim() + sizes.observation_dim;
        let bounds = self.action_low.iter().zip(&self.action_high);
        for ((to, &planned), (low, high)) in output.iter_mut().zip(&plan.steps[first..]).zip(bounds)
        {
            *to = (planned as f32).max(*low).min(*high);
        }
    }

    fn rows(&self, observations: &Tensor, active: &[bool]) -> Result<Vec<Vec<f32>>> {
        let o = self.search.model().decoder.sizes().observation_dim;
        let expected = [self.plans.len(), o];
        if observations.dims() != expected || active.len() != self.plans.len() {
            let found = format!("{:?} and {} flags", observations.dims(), active.len());
            return Err(Error::shape("observations", found, format!("{expected:?}")));
        }
        Ok(observations
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .to_vec2()?)
    }
}

impl<T: Float> Policy for LatentPlanner<T> {
    fn imagined(&self, episode: usize) -> Result<Option<Imagined>> {
        let Some(plan) = self.plans.get(episode).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let sizes = self.search.model().decoder.sizes();
        let (d, o) = (sizes.joined_dim(), sizes.observation_dim);
        let steps: Vec<f32> = plan.steps.iter().map(|&x| x as f32).collect();
        let shape = (plan.scores.len(), self.search.config().horizon, d);
        let steps = Tensor::from_vec(steps, shape, &Device::Cpu)?;
        let part = |first, count| steps.narrow(2, first, count)?.contiguous();
        Ok(Some(Imagined {
            observations: part(0, o)?,
            actions: part(o, d - o - 2)?,
            rewards: part(d - 2, 1)?.squeeze(2)?,
            values: part(d - 1, 1)?.squeeze(2)?,
            scores: plan.scores.clone(),
        }))
    }

    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.steps = 0;
        self.plans = vec![None; episodes.len()];
        self.streams = Streams(episodes.iter().map(|start| start.rng.clone()).collect());
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let mut streams = std::mem::take(&mut self.streams);
        let actions = self.act_with(observations, active, &mut streams);
        self.streams = streams;
        actions
    }

    /// Without a plan: searching takes time, and the past changes nothing.
    fn recall(&mut self, observations: &Tensor, actions: &Tensor, rewards: &[f32]) -> Result<()> {
        self.rows(observations, &vec![true; rewards.len()])?;
        self.took(actions)
    }
}
