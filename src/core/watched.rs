//! A policy that is watched while it acts.

use candle_core::Tensor;

use crate::error::Result;
use crate::planning::PlanningSummary;
use crate::policy::{EpisodeStart, Imagined, Policy};

/// What a [`Watched`] policy is watched at: after it has acted.
#[derive(Debug)]
pub struct Acted<'a> {
    /// Steps since the episodes began: 0 at the first.
    pub step: usize,
    /// What was seen (E, O).
    pub observations: &'a Tensor,
    /// Rows whose episodes go on, as in [`Policy::act`].
    pub active: &'a [bool],
}

/// A policy that acts as the one inside, in everything; after each step `hook` is called with the policy, whose
/// [plan](Policy::imagined) it may ask for. An error of the hook ends the step.
pub struct Watched<'a, H> {
    policy: &'a mut dyn Policy,
    step: usize,
    hook: H,
}

impl<'a, H: FnMut(&dyn Policy, Acted<'_>) -> Result<()> + Send> Watched<'a, H> {
    /// `policy`, with `hook` called after each step.
    pub fn new(policy: &'a mut dyn Policy, hook: H) -> Self {
        Self {
            policy,
            step: 0,
            hook,
        }
    }
}

impl<H: FnMut(&dyn Policy, Acted<'_>) -> Result<()> + Send> Policy for Watched<'_, H> {
    fn begin(&mut self, episodes: &[EpisodeStart]) -> Result<()> {
        self.step = 0;
        self.policy.begin(episodes)
    }

    fn act(&mut self, observations: &Tensor, active: &[bool]) -> Result<Tensor> {
        let actions = self.policy.act(observations, active)?;
        let acted = Acted {
            step: self.step,
            observations,
            active,
        };
        (self.hook)(&*self.policy, acted)?;
        self.step += 1;
        Ok(actions)
    }

    fn observe(&mut self, rewards: &[f32]) -> Result<()> {
        self.policy.observe(rewards)
    }

    fn imagined(&self, row: usize) -> Result<Option<Imagined>> {
        self.policy.imagined(row)
    }

    fn planning(&self) -> Option<PlanningSummary> {
        self.policy.planning()
    }

    fn compare_plans(&mut self) -> Result<()> {
        self.policy.compare_plans()
    }

    fn usual_target(&self) -> Option<f32> {
        self.policy.usual_target()
    }

    fn target_returns(&self) -> Vec<f32> {
        self.policy.target_returns()
    }

    fn is_memoryless(&self) -> bool {
        self.policy.is_memoryless()
    }

    fn draws(&self) -> bool {
        self.policy.draws()
    }

    fn needs_goal(&self) -> bool {
        self.policy.needs_goal()
    }

    fn needs_instruction(&self) -> bool {
        self.policy.needs_instruction()
    }
}
