//! Online Decision Transformer: a Decision Transformer with a distribution of actions, which goes on learning from its own episodes.
//!
//! Zheng et al. 2022, "Online Decision Transformer", <https://arxiv.org/abs/2202.05607>; authors' code facebookresearch/online-dt @
//! c376fa1. A causal transformer reads (return-to-go, state, action) triples and gives each action's distribution, the tanh of a normal one.
//! Its likelihood is raised while the entropy is held near a target by a learned temperature (equations 4 to 6):
//!
//! ```text
//! ln σ   = -5 + 3.5 (tanh(x) + 1)
//! L(π)   = -mean over valid steps of (Σ ln π(a_t | ..) + α H_t),  H_t = -ln π(ã_t | ..), ã_t ~ π
//! L(α)   = α (mean H_t - H_target),  H_target = -A
//! ```
//!
//! It acts by the tanh of the mean, aiming at a target return that each reward is taken off.
//!
//! Deviations: actions are mapped to ±1 (the same for D4RL's locomotion). The authors' mean entropy counts padding, whose rows mean
//! nothing: here it is over valid steps, as the likelihood. Their list of episodes lacks the worst one, since a loop over them ends one too
//! soon. With `--ordering 1` their table is one of time steps in the episode, whatever its name says, and so it is here. When acting, steps
//! before the start are left out instead of padded and masked, which gives the same actions.

mod config;
mod exploring;
mod learner;

pub use config::OnlineDtConfig;
pub use learner::Learner;

use candle_core::{DType, Device, Tensor};
use trajformer_models::decision_transformer::Contexts;
use trajformer_models::dropout::Dropout;
use trajformer_models::gaussian::{BOUND, TanhGaussian};
use trajformer_models::online_decision_transformer::OnlineDecisionTransformer as Network;
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::work;

use crate::policies::return_conditioned::{
    Choosing, ContextNetwork, ContextOptions, ReturnConditionedPolicy, State,
};
use trajformer_core::algorithm::{Algorithm, Build, Interactive, Work};
use trajformer_core::error::Result;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::Policy;
use trajformer_data::return_sequences;
use trajformer_data::return_sequences::episode_replay::EpisodeReplay;
use trajformer_data::return_sequences::{Padding, ReturnOptions, ReturnSequences};
use trajformer_data::return_view::ReturnView;
use trajformer_models::rng::Rng;

impl OnlineDtConfig {
    /// Makes the algorithm.
    ///
    /// # Errors
    /// If no episode of the data is complete, or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<OnlineDt> {
        let (o, a) = build.source.dims();
        let options = ReturnOptions {
            context_steps: self.context_steps,
            return_scale: self.return_scale,
            max_episode_steps: self.max_episode_steps,
            padding: Padding::LeftZeros,
        };
        if let Some(data) = build.source.data() {
            let (targets, table) = (&self.target_returns, "algorithm.online_dt");
            // Without a table of steps none is too late.
            let told = ReturnOptions {
                max_episode_steps: if self.timestep_embedding {
                    self.max_episode_steps
                } else {
                    usize::MAX
                },
                ..options.clone()
            };
            return_sequences::misfits(data, &told, targets, table)
                .iter()
                .for_each(|text| tracing::warn!("{text}"));
        }
        let view = ReturnView::new(
            build.source,
            "the Online Decision Transformer",
            build.bounds,
            build.device,
            options,
        )?;
        let mut params = Params::new(DType::F32, build.device);
        Network::new(&self.sizes(o, a), &mut params.init(build.rng))?;
        Ok(OnlineDt {
            sequences: view.sequences,
            normalizer: view.normalizer,
            bounds: build.bounds.clone(),
            best_return: view.best_return,
            replay: None,
            pending: None,
            learner: Learner::new(self, (o, a), params, build.source.stage())?,
        })
    }
}

/// The Online Decision Transformer on a data set.
pub struct OnlineDt {
    sequences: ReturnSequences,
    normalizer: Normalizer,
    bounds: ActionBounds,
    best_return: f64,
    /// Once it learns online.
    replay: Option<EpisodeReplay>,
    /// Normalised observation (O) and action (A) in ±1 of a step whose outcome is not known yet.
    pending: Option<(Vec<f32>, Vec<f32>)>,
    learner: Learner,
}

impl OnlineDt {
    fn acting(&self, choosing: Choosing) -> Result<Box<dyn Policy>> {
        let (learner, config) = (&self.learner, self.learner.config());
        Ok(Box::new(ReturnConditionedPolicy {
            network: Box::new(learner.snapshot()?),
            normalizer: self.normalizer.clone(),
            bounds: self.bounds.clone(),
            device: self.device().clone(),
            options: ContextOptions {
                context_steps: config.acting_context_steps,
                return_scale: config.return_scale,
                target_returns: config.target_returns.clone(),
                best_return: self.best_return as f32,
                max_episode_steps: config.max_episode_steps,
            },
            instructed: None,
            choosing,
            state: State::default(),
        }))
    }

    fn device(&self) -> &Device {
        self.learner.params().device()
    }
}

/// Actions inside of ±1 by [`BOUND`], where their likelihood under a tanh is finite; the authors clamp what the network reads as well.
fn inside(actions: &Tensor) -> Result<Tensor> {
    Ok(actions.clamp(-BOUND, BOUND)?)
}

/// The distribution's part for the last step of each context (B, A).
fn last_step(policy: &TanhGaussian) -> Result<TanhGaussian> {
    let mut policy = policy.clone();
    let steps = policy.gaussian.mean.dims3()?.1;
    for x in [&mut policy.gaussian.mean, &mut policy.gaussian.log_std] {
        *x = x.narrow(1, steps - 1, 1)?.squeeze(1)?;
    }
    Ok(policy)
}

/// Actions (B, A) at the last steps of contexts, drawn with standard normals (B, A).
fn drawn(network: &Network, contexts: &Contexts, normals: &Tensor) -> Result<Tensor> {
    let policy = network.distribution(contexts, Dropout::off())?;
    inside(&last_step(&policy)?.sample(normals)?.0)
}

impl ContextNetwork for Network {
    fn actions(&self, contexts: &Contexts) -> Result<Tensor> {
        inside(&self.distribution(contexts, Dropout::off())?.mode()?)
    }

    fn drawn(&self, contexts: &Contexts, normals: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(drawn(self, contexts, normals)?))
    }
}

impl Algorithm for OnlineDt {
    /// One step of the network and one of the temperature, on one batch of windows.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        self.sequences.require_steps()?;
        let (config, device) = (self.learner.config().clone(), self.device().clone());
        let batch = self.sequences.sample(config.batch_size, rng, &device)?; // (B, K, ..)
        let contexts = Contexts {
            returns: batch.returns_to_go,
            observations: batch.states,
            actions: inside(&batch.actions)?,
            timesteps: batch.timesteps,
            mask: batch.mask,
            instructions: None,
        };
        let normals = rng.normal_tensor(contexts.actions.shape(), DType::F32, &device)?;
        let dropout = if config.dropout > 0.0 {
            Dropout::draw(rng)
        } else {
            Dropout::off()
        };
        self.learner.update(&contexts, &normals, dropout)
    }

    fn work(&self) -> Option<Work> {
        let config = self.learner.config();
        let (steps, sizes) = (config.context_steps, self.learner.network().config());
        let passes = work::online_decision_transformer(sizes, steps).train(1.0);
        Some(Work::of(&[passes], config.batch_size, 3 * steps))
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        self.acting(Choosing::Likeliest)
    }

    fn sampling_policy(&self) -> Result<Option<Box<dyn Policy>>> {
        Ok(Some(self.acting(Choosing::Drawn)?))
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive> {
        Some(self)
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.learner.visit(visitor)?;
        self.normalizer.visit("policy.normalizer.", visitor)?;
        self.bounds.visit("policy.action_bounds.", visitor)?;
        visitor.number("policy.best_return", &mut self.best_return)?;
        match &mut self.replay {
            Some(replay) => replay.visit(&mut self.sequences, visitor),
            None => Ok(()),
        }
    }
}
