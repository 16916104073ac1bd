//! QT: a Decision Transformer that also climbs the values of two critics.
//!
//! Hu et al. 2024, "Q-value Regularized Transformer for Offline Reinforcement Learning", <https://arxiv.org/abs/2405.17098>; authors'
//! code charleshsc/QT @ cb9e1a4. The transformer reads (return-to-go, state, action) triples of K steps and gives each action and each
//! next observation. Two critics learn the discounted return of a step up to the window's last state, and from there on what the critics'
//! slow copies say of the action of the actor's slow copy:
//!
//! ```text
//! y_t = Σ_{t <= j < K} γ^(j-t) r_j + γ^(K-t) min_i Q̄_i(s_K, π̄(window)_K)
//! L(Q) = Σ_i mean_t (Q_i(s_t, a_t) - y_t)²
//! L(π) = w [mean (π_t - a_t)² + mean (ŝ_{t+1} - s_{t+1})²] - η mean_t Q_i(s_t, π_t) / mean_t |Q_j(s_t, π_t)|,  {i, j} drawn
//! ```
//!
//! Acting makes candidates by asking for several returns, and draws one of their actions by its value: `qt/acting.rs`. The update is in
//! `qt/learner.rs`.
//!
//! Deviations, each of which a setting takes back to the authors':
//!
//! * A window that ends a task: the authors drop its last reward, bootstrap with 0 and never train the last step's value; where a
//!   reward comes with the end (antmaze) it is never seen. Here the reward counts and the last step is trained (`terminal_rewards`).
//! * Candidates' returns when acting (`candidate_returns`).
//!
//! Their options `--sar` (rewards in the place of returns), `--lambda` and `--reward_tune` are left out. Actions are mapped to ±1 (the
//! same for D4RL's locomotion). `use_discount` without effect is `discount = 1`.

mod acting;
mod config;
mod learner;

pub use acting::{
    CandidateReturns, Choice, Draws as ActingDraws, History, Options as ActingOptions, choose,
};
pub use config::{Backup, QtConfig};
pub use learner::{Draws, Learner, Windows};

use candle_core::{DType, Device, Tensor};
use trajformer_models::decision_transformer::{Contexts, DecisionTransformer as Network};
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::twin_critics::TwinCritics;
use trajformer_models::work;

use acting::QtPolicy;
use trajformer_core::algorithm::{Algorithm, Build, Work};
use trajformer_core::error::Result;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::Policy;
use trajformer_data::return_sequences;
use trajformer_data::return_sequences::{Padding, ReturnOptions};
use trajformer_data::return_view::ReturnView;
use trajformer_data::reward_windows::RewardWindows;
use trajformer_models::rng::Rng;

impl QtConfig {
    /// Makes the algorithm.
    ///
    /// # Errors
    /// If no episode of the data is complete, none is long enough for `starts`, or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<Qt> {
        let (o, a) = build.source.dims();
        let options = ReturnOptions {
            context_steps: self.context_steps,
            return_scale: self.return_scale,
            max_episode_steps: self.max_episode_steps,
            padding: Padding::LeftZeros,
        };
        if let Some(data) = build.source.data() {
            return_sequences::misfits(data, &options, &self.target_returns, "algorithm.qt")
                .iter()
                .for_each(|text| tracing::warn!("{text}"));
        }
        let view = ReturnView::new(build.source, "QT", build.bounds, build.device, options)?;
        let mut actor = Params::new(DType::F32, build.device);
        Network::new(&self.sizes(o, a), &mut actor.init(build.rng))?;
        let mut critics = Params::new(DType::F32, build.device);
        TwinCritics::new(&self.critic_sizes(o, a), &mut critics.init(build.rng))?;
        Ok(Qt {
            windows: RewardWindows::new(
                view.sequences,
                build.source.data(),
                self.context_steps,
                self.starts,
            )?,
            normalizer: view.normalizer,
            bounds: build.bounds.clone(),
            best_return: view.best_return,
            learner: Learner::new(
                self,
                (o, a),
                (actor, critics),
                build.training_updates,
                build.source.stage(),
            )?,
        })
    }
}

/// QT on a data set.
pub struct Qt {
    windows: RewardWindows,
    normalizer: Normalizer,
    bounds: ActionBounds,
    best_return: f64,
    learner: Learner,
}

impl Algorithm for Qt {
    /// One step of the critics and one of the actor, on one batch of windows.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let (config, device) = (self.learner.config().clone(), self.learner.device().clone());
        let batch = self.windows.sample(config.batch_size, rng, &device)?; // (B, K, ..)
        let windows = Windows {
            contexts: Contexts {
                returns: batch.steps.returns_to_go,
                observations: batch.steps.states,
                actions: batch.steps.actions,
                timesteps: batch.steps.timesteps,
                mask: batch.steps.mask,
                instructions: None,
            },
            rewards: batch.rewards,
            terminated: batch.terminated,
        };
        let draws = Draws::draw(&config, rng);
        self.learner.update(&windows, &draws)
    }

    fn work(&self) -> Option<Work> {
        let (config, learner) = (self.learner.config(), &self.learner);
        let steps = config.context_steps;
        let actor = work::decision_transformer(learner.actor_sizes(), steps);
        let critics = work::twin_critics(learner.critic_sizes());
        let passes = [
            actor.forward(1.0).train(1.0),
            critics
                .train(steps as f64)
                .forward(1.0)
                .through(steps as f64),
        ];
        Some(Work::of(&passes, config.batch_size, 3 * steps))
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        let (config, learner) = (self.learner.config(), &self.learner);
        let targets = if config.target_returns.is_empty() {
            vec![self.best_return as f32]
        } else {
            config.target_returns.clone()
        };
        Ok(Box::new(QtPolicy::new(
            (learner.actor()?, learner.acting_critics()?),
            (self.normalizer.clone(), self.bounds.clone()),
            learner.device().clone(),
            (config.acting(), config.context_steps, targets),
        )))
    }

    fn action_values(&self, observations: &Tensor, actions: &Tensor) -> Result<Option<Tensor>> {
        let device = self.learner.device();
        let observations = self.normalizer.apply(&observations.to_device(device)?)?;
        let actions = self.bounds.to_unit(&actions.to_device(device)?)?;
        let values = self
            .learner
            .acting_critics()?
            .smaller(&observations, &actions)?;
        Ok(Some(values.to_device(&Device::Cpu)?))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.learner.visit(visitor)?;
        self.normalizer.visit("policy.normalizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        Ok(visitor.number("policy.best_return", &mut self.best_return)?)
    }
}
