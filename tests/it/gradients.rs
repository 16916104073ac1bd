//! Every trainable tensor of every network gets a gradient that central differences confirm.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use trajformer_models::Result;
use trajformer_models::activation::Activation;
use trajformer_models::actor::{ActorConfig, DeterministicActor};
use trajformer_models::critic::{CriticConfig, Critics};
use trajformer_models::decision_transformer::{
    Contexts, DecisionTransformer, DecisionTransformerConfig,
};
use trajformer_models::dropout::Dropout;
use trajformer_models::encoder::EncoderFactory;
use trajformer_models::gpt::{HiddenLayer, Scores};
use trajformer_models::norm::NormKind;
use trajformer_models::params::Params;
use trajformer_models::precision::Precision;
use trajformer_models::rng::Rng;
use trajformer_models::trajectory_transformer::{
    Positions, Recipe, TokenBatch, TrajectoryTransformer, TrajectoryTransformerConfig,
};
use trajformer_models::value::{StateValue, StateValueConfig};

use crate::encoder::Blocks;

/// Half the distance of the two losses that are compared.
const STEP: f64 = 1e-5;
/// Of the largest gradient element of a tensor: the differences have errors of about STEP² from
/// their form and 1e-16 / STEP from rounding, relative to a loss around 1.
const TOLERANCE: f64 = 1e-5;

/// Moves every parameter away from special values such as zero biases.
fn stir(params: &Params, rng: &mut Rng) -> Result<()> {
    for param in params.iter().filter(|param| param.trainable) {
        let noise = rng.normal_tensor(param.slot.shape(), DType::F64, &Device::Cpu)?;
        param.slot.set(&(param.slot.tensor()? + (noise * 0.1)?)?)?;
    }
    Ok(())
}

fn number(loss: &Tensor) -> f64 {
    loss.to_scalar::<f64>().expect("a scalar")
}

/// Compares the gradients of `loss` with central differences: for each tensor at its largest
/// gradient element and at two others. `zero` says which have none in exact arithmetic.
fn check(params: &Params, loss: impl Fn() -> Result<Tensor>, zero: fn(&str) -> bool) -> Result<()> {
    let gradients = loss()?.backward()?;
    for param in params.iter() {
        let name = &param.name;
        let found = param.slot.gradient(&gradients)?;
        if !param.trainable {
            assert!(found.is_none(), "frozen `{name}` has a gradient");
            continue;
        }
        let found = found.unwrap_or_else(|| panic!("`{name}` has no gradient"));
        let found = found.flatten_all()?.to_vec1::<f64>()?;
        assert!(found.iter().all(|g| g.is_finite()), "gradient of `{name}`");
        let largest = (0..found.len()).max_by(|&a, &b| found[a].abs().total_cmp(&found[b].abs()));
        let largest = largest.expect("an element");
        if zero(name) {
            assert!(
                found[largest].abs() < 1e-12,
                "gradient of `{name}`: {}",
                found[largest]
            );
            continue;
        }
        assert!(found[largest] != 0.0, "gradient of `{name}` is zero");
        let start = param.slot.tensor()?.copy()?;
        let values = start.flatten_all()?.to_vec1::<f64>()?;
        for element in [largest, 0, found.len() / 2] {
            let at = |move_by: f64| -> Result<f64> {
                let mut values = values.clone();
                values[element] += move_by;
                param
                    .slot
                    .set(&Tensor::from_vec(values, start.shape(), &Device::Cpu)?)?;
                Ok(number(&loss()?))
            };
            let difference = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
            let error = (difference - found[element]).abs() / found[largest].abs();
            let absolute = (difference - found[element]).abs();
            assert!(
                error < TOLERANCE || absolute < 1e-10,
                "`{name}`[{element}]: gradient {}, difference {difference}",
                found[element]
            );
        }
        param.slot.set(&start)?;
    }
    Ok(())
}

/// Parameters of a network, and its loss on a batch of its own.
type Case = (Params, Box<dyn Fn() -> Result<Tensor>>);

fn trajectory_transformer(precision: Precision) -> Result<Case> {
    trajectory_transformer_with(precision, Activation::Gelu, Recipe::default())
}

fn trajectory_transformer_with(
    precision: Precision,
    activation: Activation,
    recipe: Recipe,
) -> Result<Case> {
    let config = TrajectoryTransformerConfig {
        observation_dim: 3,
        action_dim: 2,
        bins: 5,
        layers: 2,
        heads: 2,
        embedding: 8,
        window_transitions: 3,
        embedding_dropout: 0.1,
        residual_dropout: 0.1,
        attention_dropout: 0.1,
        action_weight: 5.0,
        reward_weight: 1.0,
        value_weight: 1.0,
        multi_token_weight: 1.0,
        precision,
        instruction_dim: 0,
        activation,
        recipe,
    };
    let rng = &mut Rng::from_seed(1);
    let mut params = Params::new(DType::F64, &Device::Cpu);
    let network = TrajectoryTransformer::new(&config, &mut params.init(rng))?;
    stir(&params, rng)?;
    let (batch, time) = (3, config.block_size());
    let mut tokens = || -> Result<Tensor> {
        let tokens: Vec<u32> = (0..batch * time).map(|_| rng.below(6) as u32).collect();
        Ok(Tensor::from_vec(tokens, (batch, time), &Device::Cpu)?)
    };
    let batch = TokenBatch {
        inputs: tokens()?,
        targets: tokens()?,
        mask: Tensor::ones((batch, time), DType::F64, &Device::Cpu)?,
        instructions: None,
    };
    let dropout = Dropout::draw(rng);
    let loss = move || network.loss(&batch, dropout);
    Ok((params, Box::new(loss)))
}

fn decision_transformer(precision: Precision) -> Result<Case> {
    let config = DecisionTransformerConfig {
        hidden: 8,
        layers: 2,
        heads: 2,
        inner: 12,
        max_timesteps: 3,
        positions: 4,
        precision,
        ..DecisionTransformerConfig::paper(3, 2)
    };
    let rng = &mut Rng::from_seed(2);
    let mut params = Params::new(DType::F64, &Device::Cpu);
    let network = DecisionTransformer::new(&config, &mut params.init(rng))?;
    stir(&params, rng)?;
    let (batch, time) = (3, 4);
    let mut normal =
        |width: usize| rng.normal_tensor((batch, time, width), DType::F64, &Device::Cpu);
    let contexts = Contexts {
        returns: normal(1)?,
        observations: normal(3)?,
        actions: normal(2)?,
        timesteps: Tensor::new(&[[0u32, 0, 1, 2], [0, 1, 2, 2], [0, 0, 0, 1]], &Device::Cpu)?,
        mask: Tensor::new(&[[0u32, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]], &Device::Cpu)?,
        instructions: None,
    };
    let dropout = Dropout::draw(rng);
    let valid = contexts.mask.to_dtype(DType::F64)?.unsqueeze(2)?;
    let loss = move || {
        let predicted = network.predictions(&contexts, dropout)?;
        let all = [predicted.actions, predicted.observations, predicted.returns];
        let all = Tensor::cat(&all, 2)?.broadcast_mul(&valid)?;
        Ok((all.sqr()?.sum_all()? + all.sum_all()?)?)
    };
    Ok((params, Box::new(loss)))
}

#[test]
fn of_the_trajectory_transformer_agree_with_central_differences() -> Result<()> {
    use Activation::{Gelu, SquaredRelu};
    let papers = Recipe::default();
    let with = |change: fn(&mut Recipe)| {
        let mut recipe = papers;
        change(&mut recipe);
        recipe
    };
    for (activation, recipe) in [
        (Gelu, papers),
        (SquaredRelu, papers),
        (Gelu, with(|recipe| recipe.parts.scores = Scores::Cosine)),
        (Gelu, with(|recipe| recipe.parts.norm = NormKind::Rms)),
        (
            Gelu,
            with(|recipe| recipe.positions = Positions::StepAndDimension),
        ),
        (Gelu, with(|recipe| recipe.tied_heads = true)),
        (Gelu, with(|recipe| recipe.multi_token = true)),
        (
            Gelu,
            with(|recipe| recipe.parts.hidden = HiddenLayer::SwiGlu),
        ),
    ] {
        let (params, loss) = trajectory_transformer_with(Precision::Full, activation, recipe)?;
        // A key's bias shifts all plain scores of a row alike.
        check(
            &params,
            loss,
            match recipe.parts.scores {
                Scores::Plain => |name| name.ends_with("attn.key.bias"),
                Scores::Cosine => |_| false,
            },
        )?;
    }
    Ok(())
}

#[test]
fn of_the_decision_transformer_agree_with_central_differences() -> Result<()> {
    let (params, loss) = decision_transformer(Precision::Full)?;
    check(&params, loss, |_| false)
}

#[test]
fn products_in_bf16_move_loss_and_gradients_a_little_and_lose_none() -> Result<()> {
    for case in [trajectory_transformer, decision_transformer] {
        let (params, loss) = case(Precision::Full)?;
        let (rounded_params, rounded_loss) = case(Precision::Bf16)?;
        let (loss, rounded_loss) = (loss()?, rounded_loss()?);
        assert_eq!(rounded_loss.dtype(), DType::F64);
        let (expected, found) = (number(&loss), number(&rounded_loss));
        // bf16 has 8 bits, the loss is a mean or sum over many elements; f64 has 53.
        let difference = (found - expected).abs() / expected.abs();
        assert!((1e-9..4e-3).contains(&difference), "{found}, {expected}");
        let (gradients, rounded) = (loss.backward()?, rounded_loss.backward()?);
        for (param, other) in params.iter().zip(rounded_params.iter()) {
            let Some(expected) = param.slot.gradient(&gradients)? else {
                continue;
            };
            let found = other.slot.gradient(&rounded)?.expect("a gradient");
            assert_eq!(found.dtype(), DType::F64);
            let norm = |x: &Tensor| Result::Ok(number(&x.sqr()?.sum_all()?).sqrt());
            let (size, difference) = (norm(&expected)?, norm(&(&found - &expected)?)?);
            let zero = param.name.ends_with("attn.key.bias");
            // A dozen roundings to 2^-9 in a row, added like random numbers.
            assert!(
                zero || difference < 0.05 * size,
                "{}: {difference}, {size}",
                param.name
            );
        }
    }
    Ok(())
}

#[test]
fn of_actor_and_critics_agree_with_central_differences() -> Result<()> {
    let (observation_dim, action_dim, hidden) = (4, 3, vec![10, 9]);
    let actor = ActorConfig {
        observation_dim,
        action_dim,
        hidden: hidden.clone(),
        max_action: 2.0,
        ..ActorConfig::default()
    };
    let critic = CriticConfig {
        observation_dim,
        action_dim,
        hidden,
        members: 3,
        ..CriticConfig::default()
    };
    let rng = &mut Rng::from_seed(3);
    let mut params = Params::new(DType::F64, &Device::Cpu);
    let actor = DeterministicActor::new(&actor, &mut params.init(rng).sub("actor"))?;
    let critics = Critics::new(&critic, &mut params.init(rng).sub("critics"))?;
    let observations = rng.normal_tensor((7, 4), DType::F64, &Device::Cpu)?;
    let loss = || {
        let actions = actor.forward(&observations)?;
        Ok(critics.forward(&observations, &actions)?.sqr()?.sum_all()?)
    };
    check(&params, loss, |_| false)
}

#[test]
fn of_networks_with_an_encoder_of_the_callers_own_agree_with_central_differences() -> Result<()> {
    let factory: Arc<dyn EncoderFactory> = Arc::new(Blocks {
        width: 7,
        blocks: 2,
    });
    let encoder = Some(factory);
    let actor = ActorConfig {
        observation_dim: 4,
        action_dim: 3,
        encoder: encoder.clone(),
        ..ActorConfig::default()
    };
    let critic = CriticConfig {
        observation_dim: 4,
        action_dim: 3,
        encoder: encoder.clone(),
        ..CriticConfig::default()
    };
    let value = StateValueConfig {
        observation_dim: 4,
        encoder,
        ..StateValueConfig::default()
    };
    let rng = &mut Rng::from_seed(4);
    let mut params = Params::new(DType::F64, &Device::Cpu);
    let actor = DeterministicActor::new(&actor, &mut params.init(rng).sub("actor"))?;
    let critics = Critics::new(&critic, &mut params.init(rng).sub("critics"))?;
    let value = StateValue::new(&value, &mut params.init(rng).sub("value"))?;
    stir(&params, rng)?;
    // Four networks, each with a first layer, two blocks of norm and layer, and a head.
    assert_eq!(params.len(), 4 * (2 + 2 * 4 + 2));
    let observations = rng.normal_tensor((7, 4), DType::F64, &Device::Cpu)?;
    let loss = || {
        // The actor's gradients come through the critics' inputs.
        let actions = actor.forward(&observations)?;
        let values = critics.forward(&observations, &actions)?; // (2, B)
        let errors = values.broadcast_sub(&value.forward(&observations)?)?;
        Ok(errors.sqr()?.sum_all()?)
    };
    check(&params, loss, |_| false)
}
