//! What an update costs on paper: floating-point operations of the networks' matrix products, counted from their sizes.
//!
//! Each kind of network has a function here, whose [`Passes`] then collect how often an update runs that network. A
//! multiplication with its addition counts as two operations; biases, norms, activations and optimisers don't count.

use crate::actor::ActorConfig;
use crate::choices::ChoiceCritics;
use crate::conditional_gpt::ConditionalGptConfig;
use crate::critic::CriticConfig;
use crate::decision_transformer::DecisionTransformerConfig;
use crate::gaussian::TanhGaussianActorConfig;
use crate::gpt::HiddenLayer;
use crate::lamo::LamoConfig;
use crate::online_decision_transformer::OnlineDecisionTransformerConfig;
use crate::reinformer::ReinformerConfig;
use crate::rnd::RndConfig;
use crate::tap::{AutoencoderConfig, PriorConfig};
use crate::trajectory_transformer::TrajectoryTransformerConfig;
use crate::twin_critics::TwinCriticsConfig;
use crate::vae::VaeConfig;
use crate::value::StateValueConfig;

/// How often an update runs a network, and the operations of that for one row of the batch: a transition, or a sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passes {
    /// Operations of one forward pass.
    all: f64,
    /// Those of them that only read the network's inputs, to which no gradient need be passed on.
    first: f64,
    /// Operations of all passes so far.
    flops: f64,
}

impl Passes {
    /// No pass yet, through a network with so many weights, `first` of them in layers that read its inputs.
    fn through_weights(weights: usize, first: usize) -> Self {
        Self {
            all: 2.0 * weights as f64,
            first: 2.0 * first as f64,
            flops: 0.0,
        }
    }

    /// `times` more forward passes, without any gradient.
    #[must_use]
    pub fn forward(self, times: f64) -> Self {
        self.plus(times * self.all)
    }

    /// `times` more forward passes, with the gradient to the network's inputs alone.
    #[must_use]
    pub fn through(self, times: f64) -> Self {
        self.plus(times * 2.0 * self.all)
    }

    /// `times` more forward passes, with the gradients of all weights.
    #[must_use]
    pub fn train(self, times: f64) -> Self {
        self.plus(times * (3.0 * self.all - self.first))
    }

    /// `times` more forward passes, with the gradients of all weights and to the network's inputs.
    #[must_use]
    pub fn train_through(self, times: f64) -> Self {
        self.plus(times * 3.0 * self.all)
    }

    fn plus(self, flops: f64) -> Self {
        Self {
            flops: self.flops + flops,
            ..self
        }
    }

    /// Operations of all these passes, per row of the batch.
    pub fn flops(&self) -> f64 {
        self.flops
    }
}

/// A multilayer perceptron; `sizes` are the widths from input to output, e.g. `[17, 256, 256, 1]`.
pub fn mlp(sizes: &[usize]) -> Passes {
    ensemble(sizes, 1)
}

fn ensemble(sizes: &[usize], members: usize) -> Passes {
    let weights: usize = sizes.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let first: usize = sizes.iter().take(2).product();
    Passes::through_weights(members * weights, members * first)
}

/// A [`DeterministicActor`](crate::actor::DeterministicActor), or the network of a
/// [`GaussianActor`](crate::gaussian::GaussianActor).
pub fn actor(config: &ActorConfig) -> Passes {
    mlp(&config.sizes(1))
}

/// A [`TanhGaussianActor`](crate::gaussian::TanhGaussianActor).
pub fn tanh_gaussian_actor(config: &TanhGaussianActorConfig) -> Passes {
    mlp(&config.net.sizes(2))
}

/// All members of [`Critics`](crate::critic::Critics).
pub fn critics(config: &CriticConfig) -> Passes {
    ensemble(&config.sizes(), config.members)
}

/// All members of [`ChoiceCritics`].
pub fn choice_critics(config: &CriticConfig) -> Passes {
    ensemble(&ChoiceCritics::sizes(config), config.members)
}

/// An update of SAC's networks: the actor acts and learns, all critics judge and learn, and the actor's gradient passes them.
pub fn soft_actor_critic(actor: &TanhGaussianActorConfig, critic: &CriticConfig) -> Vec<Passes> {
    vec![
        tanh_gaussian_actor(actor).forward(1.0).train(1.0),
        critics(critic).forward(1.0).through(1.0).train(1.0),
    ]
}

/// One member of [`Critics`](crate::critic::Critics).
pub fn critic(config: &CriticConfig) -> Passes {
    mlp(&config.sizes())
}

/// Both [`TwinCritics`](crate::twin_critics::TwinCritics).
pub fn twin_critics(config: &TwinCriticsConfig) -> Passes {
    ensemble(&config.sizes(), 2)
}

/// A [`StateValue`](crate::value::StateValue).
pub fn state_value(config: &StateValueConfig) -> Passes {
    mlp(&config.sizes())
}

/// The encoder of a [`Vae`](crate::vae::Vae).
pub fn vae_encoder(config: &VaeConfig) -> Passes {
    mlp(&config.encoder_sizes())
}

/// The decoder of a [`Vae`](crate::vae::Vae).
pub fn vae_decoder(config: &VaeConfig) -> Passes {
    mlp(&config.decoder_sizes())
}

/// An [`RndPredictor`](crate::rnd::RndPredictor).
pub fn rnd_predictor(config: &RndConfig) -> Passes {
    mlp(&config.predictor_sizes())
}

/// An [`RndTarget`](crate::rnd::RndTarget).
pub fn rnd_target(config: &RndConfig) -> Passes {
    let (net, film) = (mlp(&config.target_sizes()), mlp(&config.film_sizes()));
    Passes {
        all: net.all + film.all,
        first: net.first + film.first,
        flops: 0.0,
    }
}

/// The blocks of a [`DecisionTransformer`](crate::decision_transformer::DecisionTransformer) on a context of `steps`; the
/// products of its embeddings and heads, below one hundredth of theirs in the paper's sizes, don't count.
pub fn decision_transformer(config: &DecisionTransformerConfig, steps: usize) -> Passes {
    let blocks = Blocks {
        layers: config.layers,
        width: config.hidden,
        inner: config.inner,
    };
    blocks.and_head(0, 3 * steps)
}

/// The blocks of an [`OnlineDecisionTransformer`](crate::online_decision_transformer::OnlineDecisionTransformer) on a context of
/// `steps`; embeddings and heads don't count.
pub fn online_decision_transformer(
    config: &OnlineDecisionTransformerConfig,
    steps: usize,
) -> Passes {
    let blocks = Blocks {
        layers: config.layers,
        width: config.hidden,
        inner: 4 * config.hidden,
    };
    blocks.and_head(0, 3 * steps)
}

/// The blocks of a [`Reinformer`](crate::reinformer::Reinformer) on a context of `steps`; embeddings and heads don't count.
pub fn reinformer(config: &ReinformerConfig, steps: usize) -> Passes {
    let blocks = Blocks {
        layers: config.layers,
        width: config.hidden,
        inner: 4 * config.hidden,
    };
    blocks.and_head(0, 3 * steps)
}

/// The blocks of a [`Lamo`](crate::lamo::Lamo) on a context of `steps`, as if all their weights were trained; what is added to
/// them, embeddings, heads and text don't count.
pub fn lamo(config: &LamoConfig, steps: usize) -> Passes {
    let blocks = Blocks {
        layers: config.trunk.layers,
        width: config.trunk.width,
        inner: config.trunk.inner,
    };
    blocks.and_head(0, 3 * steps)
}

/// A [`TrajectoryTransformer`](crate::trajectory_transformer::TrajectoryTransformer) on a whole window, one head per token.
pub fn trajectory_transformer(config: &TrajectoryTransformerConfig) -> Passes {
    let hidden = config.recipe.parts.hidden;
    let inner = hidden.inner(config.embedding);
    let blocks = Blocks {
        layers: config.layers,
        width: config.embedding,
        inner: match hidden {
            HiddenLayer::Plain => inner,
            HiddenLayer::SwiGlu => 3 * inner / 2, // two matrices with as many weights as its three
        },
    };
    let passes = blocks.and_head(config.bins + 1, config.block_size());
    if !config.recipe.multi_token {
        return passes;
    }
    let predicted = config.window_transitions * (config.observation_dim + 1);
    let each = config.embedding * (config.embedding + config.bins + 1);
    Passes {
        all: passes.all + 2.0 * (predicted * each) as f64,
        ..passes
    }
}

/// Encoder and decoder of an [`Autoencoder`](crate::tap::Autoencoder) on a whole window; the products of its embeddings and
/// codes, below one tenth of theirs in the paper's sizes, don't count.
pub fn tap_autoencoder(config: &AutoencoderConfig) -> Passes {
    let blocks = Blocks {
        layers: 2 * config.layers,
        width: config.embedding,
        inner: 4 * config.embedding,
    };
    blocks.and_head(0, config.window_transitions)
}

/// A [`Prior`](crate::tap::Prior) on a window's codes.
pub fn tap_prior(config: &PriorConfig) -> Passes {
    let blocks = Blocks {
        layers: config.layers,
        width: config.embedding,
        inner: 4 * config.embedding,
    };
    blocks.and_head(config.codes, config.window_codes)
}

/// A [`ConditionalGpt`](crate::conditional_gpt::ConditionalGpt) on a sequence of `tokens`, its end included.
pub fn conditional_gpt(config: &ConditionalGptConfig, tokens: usize) -> Passes {
    let blocks = Blocks {
        layers: config.layers,
        width: config.embedding,
        inner: 4 * config.embedding,
    };
    blocks.and_head(config.vocabulary + 1, tokens)
}

/// Sizes of a causal transformer's blocks.
struct Blocks {
    layers: usize,
    width: usize,
    inner: usize,
}

impl Blocks {
    /// The blocks, and a head of `classes` after them, on a sequence of so many tokens. Of attention only the half that is seen
    /// counts. Training passes a gradient on to the tokens' embeddings.
    fn and_head(&self, classes: usize, tokens: usize) -> Passes {
        let Self {
            layers,
            width,
            inner,
        } = *self;
        let weights = 4 * width * width + 2 * width * inner;
        let attention = width * (tokens + 1); // a token's scores and sums, half of each
        let per_token = layers * (weights + attention) + width * classes;
        Passes::through_weights(tokens * per_token, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::critic::Critics;
    use crate::gaussian::{TanhCorrection, TanhGaussianActor};
    use crate::init::StackInit;
    use crate::network::Network;
    use crate::params::Params;
    use crate::precision::Precision;
    use crate::rnd::{RndPredictor, RndTarget};
    use crate::rng::Rng;
    use crate::trajectory_transformer::Recipe;
    use crate::vae::Vae;
    use crate::{DType, Device, Result};

    /// Numbers in the weights of a network of this kind whose names begin so, twice: the operations of a row's forward pass.
    fn twice_the_weights<N: Network>(config: &N::Config, prefix: &str) -> Result<f64> {
        let mut params = Params::new(DType::F32, &Device::Cpu);
        N::build(config, &mut params.init(&mut Rng::from_seed(0)))?;
        let of_layers = params
            .iter()
            .filter(|param| param.name.starts_with(prefix) && param.name.ends_with(".weight"));
        let counts = of_layers.map(|param| param.slot.dims().iter().product::<usize>());
        Ok(2.0 * counts.sum::<usize>() as f64)
    }

    #[test]
    fn a_forward_pass_takes_two_operations_per_weight_of_the_networks_that_are_built() -> Result<()>
    {
        let net = ActorConfig {
            observation_dim: 5,
            action_dim: 3,
            hidden: vec![7, 4],
            ..ActorConfig::default()
        };
        let found = actor(&net).forward(1.0).flops();
        let expected = twice_the_weights::<crate::actor::DeterministicActor>(&net, "net.")?;
        assert_eq!(found, expected);
        let config = TanhGaussianActorConfig {
            net,
            log_std_range: (-5.0, 2.0),
            log_std_affine: None,
            correction: TanhCorrection::Exact,
        };
        let found = tanh_gaussian_actor(&config).forward(1.0).flops();
        assert_eq!(
            found,
            twice_the_weights::<TanhGaussianActor>(&config, "net.")?
        );

        let config = CriticConfig {
            observation_dim: 5,
            action_dim: 3,
            hidden: vec![7, 4],
            members: 6,
            ..CriticConfig::default()
        };
        let found = critics(&config).forward(1.0).flops();
        assert_eq!(found, twice_the_weights::<Critics>(&config, "net.")?);
        assert_eq!(critic(&config).forward(6.0).flops(), found);

        let config = VaeConfig {
            observation_dim: 5,
            action_dim: 3,
            latent_dim: 2,
            hidden: vec![7, 4],
            log_std_range: (-4.0, 15.0),
            init: StackInit::default(),
        };
        let found = vae_encoder(&config).forward(1.0).flops();
        assert_eq!(found, twice_the_weights::<Vae>(&config, "encoder.")?);
        let found = vae_decoder(&config).forward(1.0).flops();
        assert_eq!(found, twice_the_weights::<Vae>(&config, "decoder.")?);

        let config = RndConfig {
            observation_dim: 5,
            action_dim: 3,
            hidden: 7,
            embedding: 4,
        };
        let found = rnd_predictor(&config).forward(1.0).flops();
        assert_eq!(found, twice_the_weights::<RndPredictor>(&config, "")?);
        let found = rnd_target(&config).forward(1.0).flops();
        assert_eq!(found, twice_the_weights::<RndTarget>(&config, "")?);
        Ok(())
    }

    #[test]
    fn passes_with_gradients_equal_a_count_by_hand() {
        // 2 -> 3 -> 1: 6 and 3 weights. Forwards 9; back 9 for the weights, 3 to the hidden layer, 6 to the inputs.
        let net = mlp(&[2, 3, 1]);
        assert_eq!(net.forward(1.0).flops(), 2.0 * 9.0);
        assert_eq!(net.through(1.0).flops(), 2.0 * (9.0 + 3.0 + 6.0));
        assert_eq!(net.train(1.0).flops(), 2.0 * (9.0 + 9.0 + 3.0));
        assert_eq!(
            net.train_through(1.0).flops(),
            2.0 * (9.0 + 9.0 + 3.0 + 6.0)
        );
        let all = net.forward(0.5).train(2.0).through(1.0);
        assert_eq!(all.flops(), 9.0 + 84.0 + 36.0);
    }

    #[test]
    fn a_transformers_passes_equal_a_count_by_hand() {
        // Width 1, four times that inside, two tokens: 12 weights each; three pairs of tokens, a score and a sum each.
        let config = DecisionTransformerConfig {
            hidden: 1,
            layers: 5,
            inner: 4,
            ..DecisionTransformerConfig::paper(3, 2)
        };
        let blocks = Blocks {
            layers: 5,
            width: 1,
            inner: 4,
        };
        let forward = 5.0 * 2.0 * (2.0 * 12.0 + 6.0);
        assert_eq!(blocks.and_head(0, 2).forward(1.0).flops(), forward);
        assert_eq!(blocks.and_head(0, 2).train(1.0).flops(), 3.0 * forward);
        // Seven classes: 7 weights per token.
        let with_head = blocks.and_head(7, 2).forward(1.0).flops();
        assert_eq!(with_head, forward + 2.0 * 2.0 * 7.0);
        let sizes = TrajectoryTransformerConfig {
            observation_dim: 1,
            action_dim: 1,
            bins: 6,
            layers: 5,
            heads: 1,
            embedding: 3,
            window_transitions: 1,
            embedding_dropout: 0.0,
            residual_dropout: 0.0,
            attention_dropout: 0.0,
            action_weight: 1.0,
            reward_weight: 1.0,
            value_weight: 1.0,
            multi_token_weight: 1.0,
            precision: Precision::Full,
            activation: Activation::Gelu,
            recipe: Recipe::default(),
            instruction_dim: 0,
        };
        let found = trajectory_transformer(&sizes).forward(1.0).flops();
        // Three tokens: 36 weights of attention and 72 of the MLP each, six pairs of width 3, seven classes.
        let classes = 2.0 * 3.0 * 21.0;
        let pairs = 5.0 * 2.0 * 2.0 * 6.0 * 3.0;
        assert_eq!(found, 5.0 * 2.0 * 3.0 * (36.0 + 72.0) + pairs + classes);
        let mut ahead = sizes.clone();
        ahead.recipe.multi_token = true;
        let more = trajectory_transformer(&ahead).forward(1.0).flops() - found;
        // A value and an observation: nine weights and seven classes each.
        assert_eq!(more, 2.0 * 2.0 * (9.0 + 21.0));
        let mut gated = sizes;
        gated.recipe.parts.hidden = HiddenLayer::SwiGlu;
        let found = trajectory_transformer(&gated).forward(1.0).flops();
        // Three matrices of 8 rows of 3 in the place of two of 12.
        assert_eq!(found, 5.0 * 2.0 * 3.0 * (36.0 + 72.0) + pairs + classes);
        // Two steps are six tokens: 21 pairs.
        let forward = 5.0 * 2.0 * (6.0 * 12.0 + 42.0);
        assert_eq!(
            decision_transformer(&config, 2).forward(1.0).flops(),
            forward
        );
    }
}
