//! A network of one's own in place of the perceptrons of IQL: a tower for the pendulum's angle and one for the rest, joined by a
//! residual block with layer norm. It is trained by the shared trainer, with checkpoints, exact resume and evaluation.
//!
//! ```sh
//! cargo run --release --example encoder
//! ```

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use trajformer::candle_core::{D, Device, Tensor, safetensors};
use trajformer::models;
use trajformer::models::activation::Activation;
use trajformer::models::encoder::{Encoder, EncoderFactory, EncoderInput};
use trajformer::models::linear::Linear;
use trajformer::models::norm::LayerNorm;
use trajformer::models::params::Scope;
use trajformer::policy::simple::RandomPolicy;
use trajformer::run::{self, RunOptions};
use trajformer::{Result, RunConfig, data, envs};

/// Columns of an observation that are the angle's cosine and sine; behind them are its velocity and, in a critic, the action.
const ANGLE: usize = 2;

/// Sizes of [`Towers`].
struct TowersFactory {
    /// Features of each tower.
    width: usize,
}

impl EncoderFactory for TowersFactory {
    fn name(&self) -> String {
        format!("towers-{}", self.width)
    }

    fn build(
        &self,
        input: EncoderInput,
        scope: &mut Scope<'_>,
    ) -> models::Result<Box<dyn Encoder>> {
        let (tower, width) = (self.width, 2 * self.width);
        let rest = input.width() - ANGLE;
        Ok(Box::new(Towers {
            angle: Linear::new(ANGLE, tower, &mut scope.sub("angle"))?,
            rest: Linear::new(rest, tower, &mut scope.sub("rest"))?,
            norm: LayerNorm::new(width, 1e-5, &mut scope.sub("block.norm"))?,
            up: Linear::new(width, width, &mut scope.sub("block.up"))?,
            down: Linear::new(width, width, &mut scope.sub("block.down"))?,
            width,
        }))
    }
}

/// h = [relu(angle), relu(rest)]; features h + down(relu(up(norm(h)))).
struct Towers {
    angle: Linear,
    rest: Linear,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    width: usize,
}

impl Encoder for Towers {
    fn forward(&self, x: &Tensor) -> models::Result<Tensor> {
        let relu = |x: Tensor| Activation::Relu.forward(&x);
        let columns = x.dim(D::Minus1)?;
        let angle = x.narrow(D::Minus1, 0, ANGLE)?.contiguous()?;
        let rest = x.narrow(D::Minus1, ANGLE, columns - ANGLE)?.contiguous()?;
        let towers = [
            relu(self.angle.forward(&angle)?)?,
            relu(self.rest.forward(&rest)?)?,
        ];
        let hidden = Tensor::cat(&towers, D::Minus1)?; // (B, H)
        let block = relu(self.up.forward(&self.norm.forward(&hidden)?)?)?;
        Ok((self.down.forward(&block)? + hidden)?)
    }

    fn output_dim(&self) -> usize {
        self.width
    }
}

/// The networks' tensors of a run's last checkpoint.
fn networks(run: &Path) -> Result<HashMap<String, Tensor>> {
    Ok(safetensors::load(
        run.join("model.safetensors"),
        &Device::Cpu,
    )?)
}

/// Checks that every tensor of the towers is in both checkpoints and was trained between them.
fn check_trained(before: &HashMap<String, Tensor>, after: &HashMap<String, Tensor>) -> Result<()> {
    for network in ["actor", "critics.0", "critics.1", "value"] {
        for layer in ["angle", "rest", "block.norm", "block.up", "block.down"] {
            for part in ["weight", "bias"] {
                let name = format!("{network}.encoder.{layer}.{part}");
                let (before, after) = (&before[&name], &after[&name]);
                let moved = (before - after)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(moved > 0.0, "{name} was not trained");
            }
        }
    }
    assert!(!after.keys().any(|name| name.contains(".net.")));
    Ok(())
}

fn main() -> Result<()> {
    let mut env = envs::make("pendulum-v1")?;
    let mut random = RandomPolicy::new(env.spec());
    let dataset = data::collect::collect(&mut *env, &mut random, 2_000, 0)?;

    // The actor's rate is the same however long the run is: with the default it falls to 0 at the end of the updates.
    let config = |updates: u64| {
        RunConfig::parse(&format!(
            "[train]\nupdates = {updates}\n[evaluate]\nenv = 'pendulum-v1'\nepisodes = 3\n\
             [algorithm.iql]\nbatch_size = 64\nactor_decay_updates = 'none'\n"
        ))
    };
    let options = RunOptions {
        data: Some(&dataset),
        encoder: Some(Arc::new(TowersFactory { width: 16 })),
        ..RunOptions::default()
    };

    // Twenty updates are the same as ten, a checkpoint, and ten more by another process.
    let out = std::env::temp_dir().join(format!("trajformer-encoder-{}", std::process::id()));
    let (whole, parts) = (out.join("whole"), out.join("parts"));
    run::start_with(&config(20)?, &whole, &options)?;
    run::start_with(&config(10)?, &parts, &options)?;
    let after_ten = networks(&parts)?;
    run::resume_with(&parts, &["train.updates=20".to_owned()], &options)?;
    for file in ["model", "policy", "training"] {
        let bytes = |run: &Path| fs::read(run.join(format!("{file}.safetensors")));
        let (whole, parts) = (bytes(&whole).ok(), bytes(&parts).ok());
        assert!(
            whole.is_some() && whole == parts,
            "{file}.safetensors differs"
        );
    }
    check_trained(&after_ten, &networks(&whole)?)?;

    let outcome = run::resume_with(&whole, &["train.updates=300".to_owned()], &options)?;
    let mut trained = run::open_custom(&whole, &[], &options)?;
    let found = trained.evaluate()?;
    assert_eq!(outcome.evaluation.as_ref(), Some(&found));
    println!("IQL after {} updates: {}", outcome.update, found.summary());

    // A program without the encoder is told which one it lacks.
    let refused = run::open(&whole, &[]).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|problem| problem.contains("encoder `towers-16`")));
    println!("the runs are in {}", out.display());
    Ok(())
}
