//! [`Network`]: what all networks have in common, and [`Scalar`], the smallest of them.

use std::sync::Arc;

use candle_core::Tensor;

use crate::actor::{ActorConfig, DeterministicActor};
use crate::conditional_gpt::{ConditionalGpt, ConditionalGptConfig};
use crate::critic::{CriticConfig, Critics};
use crate::decision_transformer::{DecisionTransformer, DecisionTransformerConfig};
use crate::encoder::EncoderFactory;
use crate::error::Result;
use crate::gaussian::{
    GaussianActor, GaussianActorConfig, TanhGaussianActor, TanhGaussianActorConfig,
};
use crate::init::Init;
use crate::lamo::{Lamo, LamoConfig};
use crate::mlp::{Mlp, MlpConfig};
use crate::params::Scope;
use crate::trajectory_transformer::{TrajectoryTransformer, TrajectoryTransformerConfig};
use crate::twin_critics::{TwinCritics, TwinCriticsConfig};
use crate::vae::{Vae, VaeConfig};
use crate::value::{StateValue, StateValueConfig};

/// A network that its configuration describes in full, up to the values of its parameters.
pub trait Network: Sized {
    /// Its sizes.
    type Config: Clone;

    /// Makes the network from the parameters of `scope`, which creates or finds them.
    ///
    /// # Errors
    /// If a size is zero or the scope's parameters don't fit.
    fn build(config: &Self::Config, scope: &mut Scope<'_>) -> Result<Self>;

    /// These sizes with an encoder in place of the hidden layers: of actors, critics and V. Other networks have no such place:
    /// theirs stay as they are.
    fn with_encoder(config: Self::Config, encoder: &Arc<dyn EncoderFactory>) -> Self::Config {
        let _ = encoder;
        config
    }
}

impl Network for Mlp {
    type Config = MlpConfig;

    fn build(config: &MlpConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::with_init(
            &config.sizes,
            config.activation,
            config.init,
            &mut scope.sub("net"),
        )
    }
}

impl Network for DeterministicActor {
    type Config = ActorConfig;

    fn build(config: &ActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }

    fn with_encoder(config: ActorConfig, encoder: &Arc<dyn EncoderFactory>) -> ActorConfig {
        ActorConfig {
            encoder: Some(Arc::clone(encoder)),
            ..config
        }
    }
}

impl Network for GaussianActor {
    type Config = GaussianActorConfig;

    fn build(config: &GaussianActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }

    fn with_encoder(
        config: GaussianActorConfig,
        encoder: &Arc<dyn EncoderFactory>,
    ) -> GaussianActorConfig {
        GaussianActorConfig {
            net: DeterministicActor::with_encoder(config.net, encoder),
            ..config
        }
    }
}

impl Network for TanhGaussianActor {
    type Config = TanhGaussianActorConfig;

    fn build(config: &TanhGaussianActorConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }

    fn with_encoder(
        config: TanhGaussianActorConfig,
        encoder: &Arc<dyn EncoderFactory>,
    ) -> TanhGaussianActorConfig {
        TanhGaussianActorConfig {
            net: DeterministicActor::with_encoder(config.net, encoder),
            ..config
        }
    }
}

impl Network for Critics {
    type Config = CriticConfig;

    fn build(config: &CriticConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }

    fn with_encoder(config: CriticConfig, encoder: &Arc<dyn EncoderFactory>) -> CriticConfig {
        CriticConfig {
            encoder: Some(Arc::clone(encoder)),
            ..config
        }
    }
}

impl Network for StateValue {
    type Config = StateValueConfig;

    fn build(config: &StateValueConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }

    fn with_encoder(
        config: StateValueConfig,
        encoder: &Arc<dyn EncoderFactory>,
    ) -> StateValueConfig {
        StateValueConfig {
            encoder: Some(Arc::clone(encoder)),
            ..config
        }
    }
}

impl Network for Vae {
    type Config = VaeConfig;

    fn build(config: &VaeConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

impl Network for DecisionTransformer {
    type Config = DecisionTransformerConfig;

    fn build(config: &DecisionTransformerConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

impl Network for TrajectoryTransformer {
    type Config = TrajectoryTransformerConfig;

    fn build(config: &TrajectoryTransformerConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

impl Network for ConditionalGpt {
    type Config = ConditionalGptConfig;

    fn build(config: &ConditionalGptConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

impl Network for TwinCritics {
    type Config = TwinCriticsConfig;

    fn build(config: &TwinCriticsConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

impl Network for Lamo {
    type Config = LamoConfig;

    fn build(config: &LamoConfig, scope: &mut Scope<'_>) -> Result<Self> {
        Self::new(config, scope)
    }
}

/// A trained number, e.g. the logarithm of a temperature or of a multiplier.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// (1)
    pub value: Tensor,
}

/// Name and first value of a [`Scalar`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalarConfig {
    /// Name of its parameter.
    pub name: &'static str,
    /// First value.
    pub start: f64,
}

impl Network for Scalar {
    type Config = ScalarConfig;

    fn build(config: &ScalarConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let value = scope.param(config.name, 1, Init::Constant(config.start).fill())?;
        Ok(Self { value })
    }
}
