//! [`LatentDecoder`]: what the networks of the Trajectory Autoencoding Planner say of sequences of codes that grow together, code by
//! code, with exact key/value caches.
//!
//! Both of its transformers are causal: neither the prior's keys and values nor the steps that were decoded change when a code is
//! appended. So a code costs one token of the prior and `latent_steps` tokens of the decoder, where the authors' planner computes all
//! sequences from their beginning again.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::Cache;
use super::trunk::{BlockShape, Source, Trunk, invalid};
use crate::error::Result;
use crate::kernels::decode::{Float, Packed, Store};
use crate::tap::AutoencoderConfig;

/// Weights of an [`Autoencoder`](crate::tap::Autoencoder)'s decoder and of a [`Prior`](crate::tap::Prior), packed for the CPU.
#[derive(Debug)]
pub struct LatentDecoder<T> {
    sizes: AutoencoderConfig,
    prior: PriorNet<T>,
    /// Steps of a code.
    steps: StepNet<T>,
}

#[derive(Debug)]
struct PriorNet<T> {
    token_embedding: Vec<T>,    // (K, C)
    position_embedding: Vec<T>, // (N, C)
    state: Packed<T>,           // O -> C
    trunk: Trunk<T>,
    head: Packed<T>, // C -> K
}

#[derive(Debug)]
struct StepNet<T> {
    /// What a code adds to its tokens (K, C).
    codes: Vec<T>,
    position_embedding: Vec<T>, // (T, C)
    /// What the state adds, and the bias: O -> C.
    state: Packed<T>,
    trunk: Trunk<T>,
    predict: Packed<T>, // C -> O + A + 2
}

/// Sequences of codes that follow one state: what was computed of them.
#[derive(Debug, Clone, Default)]
pub struct LatentSequences<T> {
    /// The state (O).
    state: Vec<T>,
    /// What the state adds to tokens of the prior (C) and of the decoder (C).
    of_prior: Vec<T>,
    of_steps: Vec<T>,
    prior: Cache<T>,
    steps: Cache<T>,
}

impl<T: Float> LatentSequences<T> {
    /// Sequence `i` of the prior becomes a copy of what `sources[i]` was.
    ///
    /// # Panics
    /// If a source does not exist.
    pub fn gather_prior(&mut self, sources: &[usize]) {
        self.prior.gather(sources);
    }

    /// The same for the sequences that steps are decoded of.
    ///
    /// # Panics
    /// If a source does not exist.
    pub fn gather_steps(&mut self, sources: &[usize]) {
        self.steps.gather(sources);
    }
}

impl<T: Float> LatentDecoder<T> {
    /// Copies the weights of both networks, which carry their names.
    ///
    /// # Errors
    /// If one is missing or has a shape that does not fit `sizes`.
    pub fn new(
        autoencoder: &BTreeMap<String, Tensor>,
        prior: &BTreeMap<String, Tensor>,
        sizes: &AutoencoderConfig,
    ) -> Result<Self> {
        Ok(Self {
            prior: PriorNet::new(prior, sizes)?,
            steps: StepNet::new(autoencoder, sizes)?,
            sizes: sizes.clone(),
        })
    }

    /// The networks' sizes.
    pub fn sizes(&self) -> &AutoencoderConfig {
        &self.sizes
    }

    /// Forgets what `sequences` holds, starts one empty sequence there that follows a normalised `state` (O), and puts the logits of the
    /// first code into `logits` (1, K).
    ///
    /// # Errors
    /// If the state has another length.
    pub fn start(
        &self,
        sequences: &mut LatentSequences<T>,
        state: &[T],
        logits: &mut Vec<T>,
    ) -> Result<()> {
        let o = self.sizes.observation_dim;
        if state.len() != o {
            let found = state.len();
            return Err(invalid(format!("a state of {found} numbers, expected {o}")));
        }
        sequences.state = state.to_vec();
        let embed = |layer: &Packed<T>| {
            let mut x = vec![T::ZERO; layer.outputs()];
            layer.forward(state, &mut x, Store::Replace);
            x
        };
        sequences.of_prior = embed(&self.prior.state);
        sequences.of_steps = if self.sizes.state_conditional {
            embed(&self.steps.state)
        } else {
            let mut bias = vec![T::ZERO; self.steps.state.outputs()];
            let zeros = vec![T::ZERO; o];
            self.steps.state.forward(&zeros, &mut bias, Store::Replace);
            bias
        };
        sequences.prior.start(1);
        sequences.steps.start(1);
        let first = vec![T::ZERO; self.prior.trunk.width];
        self.prior.step(sequences, first, logits);
        Ok(())
    }

    /// Appends one of `codes` (S) to every sequence of the prior and puts the logits of the codes that follow into `logits` (S, K).
    ///
    /// # Errors
    /// If codes are out of range or not one per sequence, or a window has no place for another code after these.
    pub fn extend_prior(
        &self,
        sequences: &mut LatentSequences<T>,
        codes: &[u32],
        logits: &mut Vec<T>,
    ) -> Result<()> {
        self.check(codes, &sequences.prior, self.sizes.window_codes())?;
        let width = self.prior.trunk.width;
        let mut x = Vec::with_capacity(codes.len() * width);
        for &code in codes {
            x.extend_from_slice(&self.prior.token_embedding[code as usize * width..][..width]);
        }
        self.prior.step(sequences, x, logits);
        Ok(())
    }

    /// Appends one of `codes` (S) to every sequence that steps are decoded of and puts its transitions into `found`
    /// (S, `latent_steps`, O + A + 2), normalised.
    ///
    /// # Errors
    /// If codes are out of range or not one per sequence, or the window ends before them.
    pub fn extend_steps(
        &self,
        sequences: &mut LatentSequences<T>,
        codes: &[u32],
        found: &mut Vec<T>,
    ) -> Result<()> {
        let (window, latent) = (self.sizes.window_transitions, self.sizes.latent_steps);
        self.check(codes, &sequences.steps, window + 1 - latent)?;
        let (net, joined) = (&self.steps, self.sizes.joined_dim());
        let (width, o) = (net.trunk.width, self.sizes.observation_dim);
        found.resize(codes.len() * latent * joined, T::ZERO);
        let mut step = vec![T::ZERO; codes.len() * joined];
        let mask = self.sizes.mask();
        for at in 0..latent {
            let position = sequences.steps.length;
            let row = &net.position_embedding[position * width..][..width];
            let shared: Vec<T> = row
                .iter()
                .zip(&sequences.of_steps)
                .map(|(&position, &state)| position + state)
                .collect();
            let mut x = Vec::with_capacity(codes.len() * width);
            for &code in codes {
                let code = &net.codes[code as usize * width..][..width];
                x.extend(
                    code.iter()
                        .zip(&shared)
                        .map(|(&code, &shared)| code + shared),
                );
            }
            // A hidden step sees what came before, and nothing sees it.
            let cached = usize::from(!mask.hides(position));
            net.trunk
                .run(&mut sequences.steps, x, 1, cached, &net.predict, &mut step);
            sequences.steps.length += 1;
            let to = found.chunks_exact_mut(latent * joined);
            for (to, from) in to.zip(step.chunks_exact(joined)) {
                let to = &mut to[at * joined..][..joined];
                to.copy_from_slice(from);
                let observation = to[..o].iter_mut().zip(&sequences.state);
                observation.for_each(|(to, &state)| *to += state);
            }
        }
        Ok(())
    }

    fn check(&self, codes: &[u32], cache: &Cache<T>, most: usize) -> Result<()> {
        if codes.is_empty() || codes.len() != cache.sequences {
            let (found, sequences) = (codes.len(), cache.sequences);
            return Err(invalid(format!("{found} codes for {sequences} sequences")));
        }
        if cache.length >= most {
            return Err(invalid("sequences of codes outgrow the window".to_owned()));
        }
        match codes
            .iter()
            .find(|&&code| code as usize >= self.sizes.codes)
        {
            Some(code) => Err(invalid(format!(
                "code {code} is not below {}",
                self.sizes.codes
            ))),
            None => Ok(()),
        }
    }
}

impl<T: Float> PriorNet<T> {
    fn new(tensors: &BTreeMap<String, Tensor>, sizes: &AutoencoderConfig) -> Result<Self> {
        let source = Source { tensors };
        let (width, heads, o) = (sizes.embedding, sizes.heads, sizes.observation_dim);
        let codes = sizes.window_codes();
        let head: Vec<T> = source.numbers("head.weight", &[sizes.codes, width])?;
        Ok(Self {
            token_embedding: source.numbers("tok_emb.weight", &[sizes.codes, width])?,
            position_embedding: source.numbers("pos_emb", &[1, codes, width])?,
            state: source.linear("state_emb", width, o)?,
            trunk: Trunk::new(&source, width, BlockShape::plain(heads))?,
            head: Packed::new(&head, None, width),
        })
    }

    /// Takes one token per sequence, without its position and state (S, C), through the network.
    fn step(&self, sequences: &mut LatentSequences<T>, mut x: Vec<T>, logits: &mut Vec<T>) {
        let (width, cache) = (self.trunk.width, &mut sequences.prior);
        let position = &self.position_embedding[cache.length * width..][..width];
        let shared: Vec<T> = position
            .iter()
            .zip(&sequences.of_prior)
            .map(|(&position, &state)| position + state)
            .collect();
        for row in x.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(&shared)
                .for_each(|(x, &shared)| *x += shared);
        }
        logits.resize(cache.sequences * self.head.outputs(), T::ZERO);
        self.trunk.run(cache, x, 1, 1, &self.head, logits);
        cache.length += 1;
    }
}

impl<T: Float> StepNet<T> {
    fn new(tensors: &BTreeMap<String, Tensor>, sizes: &AutoencoderConfig) -> Result<Self> {
        // The trunk's names are those of a network with one.
        let renamed = |(name, tensor): (&String, &Tensor)| {
            let name = match name.strip_prefix("decoder.") {
                Some(rest) => format!("blocks.{rest}"),
                None => name.clone(),
            };
            (name, tensor.clone())
        };
        let tensors: BTreeMap<String, Tensor> = tensors.iter().map(renamed).collect();
        let source = Source { tensors: &tensors };
        let (width, o, inputs) = (sizes.embedding, sizes.observation_dim, sizes.code_width);
        let joined = sizes.joined_dim();
        let mixing: Vec<T> = source.numbers("latent_mixing.weight", &[width, o + inputs])?;
        let bias: Vec<T> = source.numbers("latent_mixing.bias", &[width])?;
        let part = |from: usize, count: usize| -> Vec<T> {
            let rows = mixing.chunks_exact(o + inputs);
            rows.flat_map(|row| &row[from..from + count])
                .copied()
                .collect()
        };
        let codebook: Vec<T> = source.numbers("codebook.embedding", &[sizes.codes, inputs])?;
        let mut codes = vec![T::ZERO; sizes.codes * width];
        Packed::new(&part(o, inputs), None, inputs).forward(&codebook, &mut codes, Store::Replace);
        let predict: Vec<T> = source.numbers("predict.weight", &[joined + 1, width])?;
        let predict_bias: Vec<T> = source.numbers("predict.bias", &[joined + 1])?;
        let positions = [1, sizes.window_transitions, width];
        Ok(Self {
            codes,
            position_embedding: source.numbers("pos_emb", &positions)?,
            state: Packed::new(&part(0, o), Some(&bias), o),
            trunk: Trunk::new(&source, width, BlockShape::plain(sizes.heads))?,
            // Whether the episode is over, the last number, is never asked for.
            predict: Packed::new(
                &predict[..joined * width],
                Some(&predict_bias[..joined]),
                width,
            ),
        })
    }
}
