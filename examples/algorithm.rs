//! A learning rule of one's own: advantage-weighted regression on the data's returns to go, trained by the shared trainer,
//! with checkpoints, exact resume and evaluation.
//!
//! Peng et al. 2019, <https://arxiv.org/abs/1910.00177>, with a learned V(s) as baseline:
//!
//! ```text
//! L_V = mean (V(s) - G)²,   L_π = mean w (π(s) - a)²,   w = min(exp((G - V(s)) / temperature), 20)
//! ```
//!
//! ```sh
//! cargo run --release --example algorithm
//! ```

use std::fs;
use std::path::Path;

use trajformer::algorithms::{AlgorithmConfig, Build, CustomConfig};
use trajformer::candle_core::{DType, Tensor};
use trajformer::data::{RewardTransform, Transitions, TransitionsConfig};
use trajformer::metrics::Metrics;
use trajformer::models::activation::Activation;
use trajformer::models::actor::{ActorConfig, DeterministicActor};
use trajformer::models::init::StackInit;
use trajformer::models::mlp::{Mlp, MlpConfig};
use trajformer::models::params::StateVisitor;
use trajformer::offpolicy::{GradientWatch, InitContext, Trained};
use trajformer::policy::{ActorPolicy, simple::RandomPolicy};
use trajformer::rng::Rng;
use trajformer::run::{self, RunOptions};
use trajformer::{Algorithm, Policy, Result, RunConfig, data, envs};

/// Weights are at most this.
const MOST_WEIGHT: f64 = 20.0;
/// Transitions in a batch.
const BATCH: usize = 64;

/// Observations are normalised, actions in ±1.
struct Awr {
    data: Transitions,
    actor: Trained<DeterministicActor>,
    value: Trained<Mlp>,
    temperature: f64,
    learning_rate: f64,
}

impl Awr {
    fn new(settings: &CustomConfig, build: Build<'_>) -> Result<Self> {
        let (o, a) = build.source.dims();
        let view = TransitionsConfig {
            // Pendulum's rewards lie in -16..0: returns of a size of about 1.
            rewards: RewardTransform::Scale(0.01),
            returns_discount: settings.number("discount")?,
            ..TransitionsConfig::default()
        };
        let data = Transitions::of_source(build.source, build.bounds, &view, build.device)?;
        let mut start = InitContext {
            observation_dim: o,
            action_dim: a,
            choices: None,
            stage: build.source.stage(),
            training_updates: build.training_updates,
            encoder: build.encoder,
            watch: &GradientWatch::default(),
            dtype: DType::F32,
            device: build.device,
            rng: build.rng,
        };
        let actor = ActorConfig {
            observation_dim: o,
            action_dim: a,
            hidden: vec![32, 32],
            ..ActorConfig::default()
        };
        let value = MlpConfig {
            sizes: vec![o, 32, 32, 1],
            activation: Activation::Relu,
            init: StackInit::default(),
        };
        Ok(Self {
            actor: Trained::new("actor", actor, &mut start)?,
            value: Trained::new("value", value, &mut start)?,
            temperature: settings.number("temperature")?,
            learning_rate: settings.number("learning_rate")?,
            data,
        })
    }
}

impl Algorithm for Awr {
    /// One batch of transitions.
    fn update(&mut self, rng: &mut Rng) -> Result<Metrics> {
        let (batch, returns) = self.data.sample_judged(BATCH, rng)?; // (B, O), (B, A), .., (B)
        let values = self.value.net.forward(&batch.observations)?.squeeze(1)?; // (B)
        let advantages = (&returns - &values)?.detach();
        let value_loss = (values - returns)?.sqr()?.mean_all()?;
        self.value.minimize(&value_loss, self.learning_rate)?;

        let weights = (advantages / self.temperature)?
            .exp()?
            .minimum(MOST_WEIGHT)?; // (B)
        let errors = (self.actor.net.forward(&batch.observations)? - &batch.actions)?;
        let actor_loss = (weights * errors.sqr()?.sum(1)?)?.mean_all()?;
        self.actor.minimize(&actor_loss, self.learning_rate)?;

        let mut metrics = Metrics::new();
        metrics.push("value_loss", &value_loss);
        metrics.push("actor_loss", &actor_loss);
        Ok(metrics)
    }

    fn policy(&self) -> Result<Box<dyn Policy>> {
        let actor = self.actor.snapshot()?;
        let device = self.actor.params.device().clone();
        let act = move |observations: &Tensor| Ok(actor.forward(observations)?);
        let (normalizer, bounds) = (self.data.normalizer().clone(), self.data.bounds().clone());
        Ok(Box::new(ActorPolicy::new(normalizer, bounds, device, act)))
    }

    fn state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        self.actor.visit(visitor)?;
        self.value.visit(visitor)?;
        self.data.visit(visitor)
    }
}

fn main() -> Result<()> {
    let mut env = envs::make("pendulum-v1")?;
    let mut random = RandomPolicy::new(env.spec());
    let dataset = data::collect::collect(&mut *env, &mut random, 2_000, 0)?;

    let config = |updates: u64| {
        RunConfig::parse(&format!(
            "[train]\nupdates = {updates}\n[evaluate]\nenv = 'pendulum-v1'\nepisodes = 3\n[algorithm.custom]\n\
             name = 'awr'\n[algorithm.custom.settings]\ntemperature = 0.1\ndiscount = 0.95\nlearning_rate = 3e-4\n"
        ))
    };
    let AlgorithmConfig::Custom(settings) = config(1)?.algorithm else {
        unreachable!("the configuration has a table `[algorithm.custom]`");
    };
    let rule = |build: Build<'_>| -> Result<Box<dyn Algorithm>> {
        Ok(Box::new(Awr::new(&settings, build)?))
    };
    let options = RunOptions {
        data: Some(&dataset),
        rule: Some(&rule),
        ..RunOptions::default()
    };

    // Twenty updates are the same as ten, a checkpoint, and ten more by another process.
    let out = std::env::temp_dir().join(format!("trajformer-awr-{}", std::process::id()));
    let (whole, parts) = (out.join("whole"), out.join("parts"));
    run::start_with(&config(20)?, &whole, &options)?;
    run::start_with(&config(10)?, &parts, &options)?;
    run::resume_with(&parts, &["train.updates=20".to_owned()], &options)?;
    for file in ["model", "policy", "training"] {
        let bytes = |run: &Path| fs::read(run.join(format!("{file}.safetensors")));
        let same = bytes(&whole).ok() == bytes(&parts).ok();
        assert!(same, "{file}.safetensors differs");
    }

    let outcome = run::resume_with(&whole, &["train.updates=500".to_owned()], &options)?;
    let mut trained = run::open_custom(&whole, &[], &options)?;
    let found = trained.evaluate()?;
    assert_eq!(outcome.evaluation.as_ref(), Some(&found));
    println!("AWR after {} updates: {}", outcome.update, found.summary());
    println!("the runs are in {}", out.display());
    Ok(())
}
