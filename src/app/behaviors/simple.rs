//! Policies that learn and know nothing: uniformly random actions, and a constant action.

use candle_core::{Device, Tensor};

use trajformer_core::dataset::ActionKind;
use trajformer_core::environment::EnvSpec;
use trajformer_core::error::Result;
use trajformer_core::policy::{EpisodeStart, Policy, check_rows};
use trajformer_models::rng::Rng;

/// Actions drawn uniformly between the environment's bounds, or among its choices.
#[derive(Debug, Clone)]
pub struct RandomPolicy {
    kind: ActionKind,
    low: Vec<f32>,
    high: Vec<f32>,
    rows: Vec<Rng>,
}

impl RandomPolicy {
    /// Random actions for this environment.
    pub fn new(spec: &EnvSpec) -> Self {
        Self {
            kind: spec.action_kind,
            low: spec.action_low.clone(),
            high: spec.action_high.clone(),
            rows: Vec::new(),
        }
    }
}

impl Policy for RandomPolicy {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.rows = episodes.iter().map(|start| start.rng.clone()).collect();
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let (rows, _) = observations.dims2()?;
        check_rows(self.rows.len(), rows)?;
        let mut actions = Vec::with_capacity(rows * self.low.len());
        for (rng, &active) in self.rows.iter_mut().zip(active) {
            if let ActionKind::Discrete { count } = self.kind {
                actions.push(if active { rng.below(count) as f32 } else { 0.0 });
                continue;
            }
            for (&low, &high) in self.low.iter().zip(&self.high) {
                let share = if active { rng.uniform() as f32 } else { 0.5 };
                actions.push(low + share * (high - low));
            }
        }
        Ok(Tensor::from_vec(
            actions,
            (rows, self.low.len()),
            &Device::Cpu,
        )?)
    }

    fn is_memoryless(&self) -> bool {
        true
    }

    fn draws(&self) -> bool {
        true
    }
}

/// A policy that always takes one action, e.g. no torque at all.
#[derive(Debug, Clone)]
pub struct ConstantPolicy {
    action: Vec<f32>,
}

impl ConstantPolicy {
    /// Always this action (A).
    pub fn new(action: Vec<f32>) -> Self {
        Self { action }
    }
}

impl Policy for ConstantPolicy {
    fn begin(&mut self, _episodes: &[EpisodeStart]) -> Result<()> {
        Ok(())
    }

    fn act(&mut self, observations: &Tensor, _active: &[bool]) -> Result<Tensor> {
        let (rows, _) = observations.dims2()?;
        Ok(Tensor::from_vec(
            self.action.repeat(rows),
            (rows, self.action.len()),
            &Device::Cpu,
        )?)
    }

    fn is_memoryless(&self) -> bool {
        true
    }
}
