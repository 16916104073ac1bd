//! Reinformer: a sequence model that asks itself for the largest return that the data holds.
//!
//! Zhuang et al. 2024, "Reinformer: Max-Return Sequence Modeling for Offline RL", <https://arxiv.org/abs/2405.08740>; authors' code
//! Dragon-Zhuang/Reinformer @ 61eaed9. A causal transformer reads (state, return-to-go, action) triples of K steps. From a state's token it
//! gives the return-to-go, fitted as an expectile τ near 1, so nearly the largest that followed such states; from a return's token
//! the action, as a normal distribution whose entropy a learned temperature rewards:
//!
//! ```text
//! u      = (R_t - R̂_t) / mean |R|
//! L(R)   = mean |τ - 1(u < 0)| u²
//! L(π)   = -mean Σ ln N(a_t; tanh μ_t, σ) - α H(σ)
//! L(α)   = α (H(σ) - H_target),  H_target = -A
//! ```
//!
//! Acting predicts the return of the present state and then the action for it: no target has to be given.
//!
//! Deviations: actions are mapped to ±1 (the same for D4RL's locomotion). Episodes are drawn independently; the authors go through all of
//! them in a random order, over and over. Their antmaze rewards (100 r + 1) are left out.

mod acting;
mod config;
mod learner;

pub use acting::{History, choose};
pub use config::ReinformerConfig;
pub use learner::Learner;

use candle_core::DType;
use trajformer_models::dropout::Dropout;
use trajformer_models::params::{Params, StateVisitor};
use trajformer_models::reinformer::{Reinformer as Network, ReturnContexts};
use trajformer_models::work;

use acting::ReinformerPolicy;
use trajformer_core::algorithm::{Algorithm, Build, Work};
use trajformer_core::error::Result;
use trajformer_core::metrics::Metrics;
use trajformer_core::normalizer::{ActionBounds, Normalizer};
use trajformer_core::policy::Policy;
use trajformer_data::return_sequences;
use trajformer_data::return_sequences::{Padding, ReturnOptions, ReturnSequences};
use trajformer_data::return_view::ReturnView;
use trajformer_models::rng::Rng;

impl ReinformerConfig {
    /// Makes the algorithm.
    ///
    /// # Errors
    /// If no episode of the data is complete, or its actions are discrete.
    pub fn build(&self, build: Build<'_>) -> Result<Reinformer> {
        let (o, a) = build.source.dims();
        let options = ReturnOptions {
            context_steps: self.context_steps,
            return_scale: self.return_scale,
            max_episode_steps: self.max_episode_steps,
            padding: Padding::RightZeros,
        };
        if let Some(data) = build.source.data() {
            return_sequences::misfits(data, &options, &[], "algorithm.reinformer")
                .iter()
                .for_each(|text| tracing::warn!("{text}"));
        }
        let view = ReturnView::new(
            build.source,
            "the Reinformer",
            build.bounds,
            build.device,
            options,
        )?;
        let mut params = Params::new(DType::F32, build.device);
        Network::new(&self.sizes(o, a), &mut params.init(build.rng))?;
        Ok(Reinformer {
            sequences: view.sequences,
            normalizer: view.normalizer,
            bounds: build.bounds.clone(),
            learner: Learner::new(self, (o, a), params, build.source.stage())?,
        })
    }
}

/// The Reinformer on a data set.
pub struct Reinformer {
    sequences: ReturnSequences,
    normalizer: Normalizer,
    bounds: ActionBounds,
    learner: Learner,
}

impl Reinformer {
    fn acting(&self, samples: bool) -> Result<Box<dyn Policy>> {
        let learner = &self.learner;
        Ok(Box::new(ReinformerPolicy {
            network: learner.snapshot()?,
            normalizer: self.normalizer.clone(),
            bounds: self.bounds.clone(),
            device: learner.params().device().clone(),
            context_steps: learner.config().context_steps,
            samples,
            rows: Vec::new(),
        }))
    }
}

impl Algorithm for Reinformer {
    /// One step of the network and one of the temperature, on one batch of windows.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        self.sequences.require_steps()?;
        let (config, device) = (
            self.learner.config().clone(),
            self.learner.params().device().clone(),
        );
        let starts = self.sequences.draw_by_episode(config.batch_size, rng);
        let batch = self.sequences.batch(&starts, &device)?; // (B, K, ..)
        let contexts = ReturnContexts {
            returns: batch.returns_to_go,
            observations: batch.states,
            actions: batch.actions,
            timesteps: batch.timesteps,
        };
        let dropout = if config.dropout > 0.0 {
            Dropout::draw(rng)
        } else {
            Dropout::off()
        };
        self.learner.update(&contexts, &batch.mask, dropout)
    }

    fn work(&self) -> Option<Work> {
        let config = self.learner.config();
        let steps = config.context_steps;
        let passes = work::reinformer(self.learner.net().config(), steps).train(1.0);
        Some(Work::of(&[passes], config.batch_size, 3 * steps))
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        self.acting(false)
    }

    fn sampling_policy(&self) -> Result<Option<Box<dyn Policy>>> {
        Ok(Some(self.acting(true)?))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.learner.visit(visitor)?;
        self.normalizer.visit("policy.normalizer.", visitor)?;
        Ok(self.bounds.visit("policy.action_bounds.", visitor)?)
    }
}
