//! [`Bert`]: the encoder of Devlin et al. 2019 ("BERT: Pre-training of Deep Bidirectional Transformers for Language
//! Understanding"), for one text at a time. It has no pooler, no dropout and no heads of tasks. Parameters are named as
//! `transformers` names those of `BertModel`.

use candle_core::{D, Tensor};

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::linear::{Linear, lookup};
use crate::norm::{LayerNorm, softmax};
use crate::params::Scope;

/// Sizes of a [`Bert`].
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Words that the network knows (V).
    pub vocabulary: usize,
    /// Kinds of text: 2 where pairs of texts were trained on.
    pub kinds: usize,
    /// Longest text, in tokens.
    pub positions: usize,
    /// Numbers per token (D), a multiple of `heads`.
    pub width: usize,
    /// Attention heads of a layer.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Width inside of a layer's feed-forward part.
    pub feed_forward: usize,
    /// Its nonlinearity.
    pub activation: Activation,
    /// Added to the variance in layer normalization.
    pub epsilon: f64,
}

/// The network.
#[derive(Debug, Clone)]
pub struct Bert {
    words: Tensor,     // (V, D)
    positions: Tensor, // (longest text, D)
    kinds: Tensor,     // (kinds, D)
    norm: LayerNorm,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    joined: Linear,
    attention_norm: LayerNorm,
    widened: Linear,
    narrowed: Linear,
    output_norm: LayerNorm,
    heads: usize,
    activation: Activation,
}

impl Bert {
    /// With all weights 0: they are to be loaded.
    ///
    /// # Errors
    /// If `width` is no positive multiple of `heads`, or the scope's parameters don't fit.
    pub fn new(config: &BertConfig, scope: &mut Scope<'_>) -> Result<Self> {
        if config.heads == 0 || config.width == 0 || !config.width.is_multiple_of(config.heads) {
            return Err(Error::Config {
                what: "BERT",
                reason: format!(
                    "the width {} is no positive multiple of the number of heads {}",
                    config.width, config.heads
                ),
            });
        }
        let (width, epsilon) = (config.width, config.epsilon);
        let mut embeddings = scope.sub("embeddings");
        let mut table = |name: &str, rows: usize| {
            let shape = (rows, width);
            embeddings
                .sub(name)
                .param("weight", shape, Init::Zeros.fill())
        };
        let words = table("word_embeddings", config.vocabulary)?;
        let positions = table("position_embeddings", config.positions)?;
        let kinds = table("token_type_embeddings", config.kinds)?;
        let norm = LayerNorm::new(width, epsilon, &mut embeddings.sub("LayerNorm"))?;
        let mut encoder = scope.sub("encoder");
        let mut layers = encoder.sub("layer");
        let layers = (0..config.layers)
            .map(|layer| Layer::new(config, &mut layers.sub(layer)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            words,
            positions,
            kinds,
            norm,
            layers,
        })
    }

    /// The last hidden states (T, D) of a text's tokens (T), each of the kind (T) that is given; all take part.
    ///
    /// # Errors
    /// If there are more tokens than positions, or a token or kind that the network does not have.
    pub fn forward(&self, tokens: &Tensor, kinds: &Tensor) -> Result<Tensor> {
        let positions = self.positions.narrow(0, 0, tokens.dim(0)?)?;
        let embedded = ((lookup(&self.words, tokens)? + lookup(&self.kinds, kinds)?)? + positions)?;
        let mut hidden = self.norm.forward(&embedded)?; // (T, D)
        for layer in &self.layers {
            hidden = layer.forward(&hidden)?;
        }
        Ok(hidden)
    }
}

impl Layer {
    fn new(config: &BertConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let (width, wide, epsilon) = (config.width, config.feed_forward, config.epsilon);
        let linear = |inputs, outputs, scope: &mut Scope<'_>| {
            Linear::with_init(inputs, outputs, Init::Zeros, Init::Zeros, scope)
        };
        let mut attention = scope.sub("attention");
        let mut inside = attention.sub("self");
        let query = linear(width, width, &mut inside.sub("query"))?;
        let key = linear(width, width, &mut inside.sub("key"))?;
        let value = linear(width, width, &mut inside.sub("value"))?;
        let mut after = attention.sub("output");
        let joined = linear(width, width, &mut after.sub("dense"))?;
        let attention_norm = LayerNorm::new(width, epsilon, &mut after.sub("LayerNorm"))?;
        let widened = linear(width, wide, &mut scope.sub("intermediate").sub("dense"))?;
        let mut output = scope.sub("output");
        Ok(Self {
            query,
            key,
            value,
            joined,
            attention_norm,
            widened,
            narrowed: linear(wide, width, &mut output.sub("dense"))?,
            output_norm: LayerNorm::new(width, epsilon, &mut output.sub("LayerNorm"))?,
            heads: config.heads,
            activation: config.activation,
        })
    }

    /// (T, D) -> (T, D).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let attended = self.joined.forward(&self.attention(x)?)?;
        let x = self.attention_norm.forward(&(attended + x)?)?;
        let wide = self.activation.forward(&self.widened.forward(&x)?)?;
        self.output_norm
            .forward(&(self.narrowed.forward(&wide)? + x)?)
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let head_width = width / self.heads;
        let by_head = |x: Tensor| {
            let x = x.reshape((tokens, self.heads, head_width))?;
            x.transpose(0, 1)?.contiguous() // (heads, T, D / heads)
        };
        let query = by_head(self.query.forward(x)?)?;
        let key = by_head(self.key.forward(x)?)?;
        let value = by_head(self.value.forward(x)?)?;
        let scores = (query.matmul(&key.t()?)? / (head_width as f64).sqrt())?; // (heads, T, T)
        let mixed = softmax(&scores)?.matmul(&value)?; // (heads, T, D / heads)
        Ok(mixed
            .transpose(0, 1)?
            .contiguous()?
            .flatten_from(D::Minus2)?) // (T, D)
    }
}
