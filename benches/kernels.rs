//! `kernel/<name>/{fused,plain}`: every fused operation beside its slow twin in plain tensor operations,
//! forward and backward, at the sizes of the papers' models.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use criterion::{Criterion, criterion_group};
use trajformer_models::activation::Activation;
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::dropout::Dropout;
use trajformer_models::gpt::{AttentionMask, Gpt, GptConfig, Layout, Parts};
use trajformer_models::kernels::switch::Kernel;
use trajformer_models::norm::LayerNorm;
use trajformer_models::optim::{Adam, AdamConfig, ParamGroup, polyak_update};
use trajformer_models::params::Params;
use trajformer_models::precision::Precision;
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::{
    TokenBatch, TrajectoryTransformer, TrajectoryTransformerConfig,
};
use trajformer_models::{Result, kernels};

/// Work that a kernel does, or its twin.
type Work = Box<dyn FnMut() -> Result<()>>;

fn normal(shape: &[usize], seed: u64) -> Result<Tensor> {
    Ok(Rng::from_seed(seed).normal_tensor(shape, DType::F32, &Device::Cpu)?)
}

/// Parameters of the size of ten critics, and gradients of all.
fn parameters() -> Result<(Params, GradStore)> {
    let mut params = Params::new(DType::F32, &Device::Cpu);
    let mut gradients = GradStore::default();
    let param = params.insert("weight", &normal(&[10, 256, 256], 0)?, true)?;
    gradients.insert(param.slot.var(), normal(&[10, 256, 256], 1)?);
    Ok((params, gradients))
}

/// The Trajectory Transformer's loss on 8 windows of 10 transitions, halfcheetah's dimensions.
fn tokens(layers: usize) -> Result<Work> {
    let config = TrajectoryTransformerConfig {
        observation_dim: 17,
        action_dim: 6,
        bins: 100,
        layers,
        heads: 4,
        embedding: 128,
        window_transitions: 10,
        embedding_dropout: 0.1,
        residual_dropout: 0.1,
        attention_dropout: 0.1,
        action_weight: 5.0,
        reward_weight: 1.0,
        value_weight: 1.0,
        multi_token_weight: 1.0,
        precision: Precision::Full,
        instruction_dim: 0,
        activation: trajformer_models::activation::Activation::Gelu,
        recipe: trajformer_models::trajectory_transformer::Recipe::default(),
    };
    let (mut params, rng) = (
        Params::new(DType::F32, &Device::Cpu),
        &mut Rng::from_seed(0),
    );
    TrajectoryTransformer::new(&config, &mut params.init(rng))?;
    let network = TrajectoryTransformer::new(&config, &mut params.tracked())?;
    let shape = (8, config.block_size());
    let draw: Vec<u32> = (0..shape.0 * shape.1)
        .map(|_| rng.below(100) as u32)
        .collect();
    let tokens = Tensor::from_vec(draw, shape, &Device::Cpu)?;
    let batch = TokenBatch {
        inputs: tokens.clone(),
        targets: tokens,
        mask: Tensor::ones(shape, DType::F32, &Device::Cpu)?,
        instructions: None,
    };
    Ok(Box::new(move || {
        let loss = network.loss(&batch, Dropout::draw(&mut Rng::from_seed(1)))?;
        loss.backward()?;
        Ok(())
    }))
}

fn work(kernel: Kernel) -> Result<Work> {
    let mut params = Params::new(DType::F32, &Device::Cpu);
    let rng = &mut Rng::from_seed(0);
    Ok(match kernel {
        Kernel::Adam => {
            let (params, gradients) = parameters()?;
            let group = |_: &str| ParamGroup::decay(0.0);
            let mut adam = Adam::new(&params, AdamConfig::default(), group)?;
            Box::new(move || adam.step(&gradients, 1e-4).map(|_| ()))
        }
        Kernel::Polyak => {
            let (params, _) = parameters()?;
            let target = params.deep_copy(false)?;
            Box::new(move || polyak_update(&target, &params, 0.005))
        }
        Kernel::LayerNorm => {
            let norm = LayerNorm::new(128, 1e-5, &mut params.init(rng))?;
            let x = Var::from_tensor(&normal(&[8 * 249, 128], 0)?)?;
            Box::new(move || {
                norm.forward(&x)?.sqr()?.sum_all()?.backward()?;
                Ok(())
            })
        }
        Kernel::Mlp => {
            let config = CriticConfig {
                observation_dim: 17,
                action_dim: 6,
                hidden: vec![256, 256],
                members: 2,
                ..CriticConfig::default()
            };
            let critics = Critics::new(&config, &mut params.init(rng))?;
            let (observations, actions) = (normal(&[256, 17], 1)?, normal(&[256, 6], 2)?);
            Box::new(move || {
                let values = critics.forward(&observations, &actions)?;
                values.sqr()?.sum_all()?.backward()?;
                Ok(())
            })
        }
        Kernel::MlpSlopes => {
            let config = CriticConfig {
                observation_dim: 17,
                action_dim: 6,
                hidden: vec![256, 256, 256],
                members: 10,
                ..CriticConfig::default()
            };
            let critics = Critics::new(&config, &mut params.init(rng))?;
            let (observations, actions) = (normal(&[256, 17], 1)?, normal(&[256, 6], 2)?);
            Box::new(move || {
                let (values, gradients) =
                    critics.values_and_action_gradients(&observations, &actions)?;
                let sum = (values.sqr()?.sum_all()? + gradients.sqr()?.sum_all()?)?;
                sum.backward()?;
                Ok(())
            })
        }
        Kernel::Blocks => {
            let config = GptConfig {
                layers: 1,
                heads: 4,
                width: 128,
                inner: 512,
                activation: Activation::Gelu,
                attention_dropout: 0.1,
                residual_dropout: 0.1,
                layout: Layout::MinGpt,
                precision: Precision::Full,
                parts: Parts::default(),
            };
            let gpt = Gpt::new(&config, &mut params.init(rng))?;
            let x = normal(&[8, 249, 128], 0)?;
            Box::new(move || {
                let dropout = Dropout::draw(&mut Rng::from_seed(1));
                let y = gpt.forward(&x, &AttentionMask::default(), dropout, 1)?;
                y.sqr()?.sum_all()?.backward()?;
                Ok(())
            })
        }
        Kernel::HeadsLoss => tokens(0)?,
    })
}

fn pairs(criterion: &mut Criterion) {
    kernels::memory::keep_freed_blocks();
    for kernel in Kernel::ALL {
        let mut group = criterion.benchmark_group(format!("kernel/{}", kernel.name()));
        group.sample_size(10);
        for (name, on) in [("fused", true), ("plain", false)] {
            kernel.set(on);
            let mut work = work(kernel).expect("work to measure");
            group.bench_function(name, |bencher| {
                bencher.iter(|| work().expect("measured work"))
            });
        }
        kernel.set(true);
        group.finish();
    }
}

criterion_group!(group, pairs);
