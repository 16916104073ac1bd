//! [`ConditionalDecoder`]: next-token logits of a [`ConditionalGpt`](crate::conditional_gpt::ConditionalGpt), token
//! by token, with an exact key/value cache.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::Cache;
use super::instruction::PackedInstruction;
use super::trunk::{BlockShape, Source, Trunk, invalid};
use crate::error::{Error, Result};
use crate::kernels::decode::{Float, Packed, Store};

/// Weights of a conditional GPT, packed for decoding on the CPU.
#[derive(Debug)]
pub struct ConditionalDecoder<T> {
    /// Longest sequence, the condition included.
    positions: usize,
    /// V, values of a token; class V is the end.
    vocabulary: usize,
    condition: Packed<T>, // O -> C
    /// What is added to conditions, in networks that read instructions.
    instruction: Option<PackedInstruction<T>>,
    token_embedding: Vec<T>,    // (V, C)
    position_embedding: Vec<T>, // (positions, C)
    trunk: Trunk<T>,
    head: Packed<T>, // C -> V + 1
}

impl<T: Float> ConditionalDecoder<T> {
    /// Copies the weights in `tensors`, which carry the network's names.
    ///
    /// # Errors
    /// If one is missing or has a shape that does not fit.
    pub fn new(tensors: &BTreeMap<String, Tensor>, heads: usize) -> Result<Self> {
        let source = Source { tensors };
        let (positions, width) = match *source.get("pos_emb")?.dims() {
            [1, positions, width] if heads > 0 && width % heads == 0 => (positions, width),
            _ => {
                return Err(Error::TensorShape {
                    name: "pos_emb".to_owned(),
                    found: source.get("pos_emb")?.dims().to_vec(),
                    expected: vec![1, 2, 32 * heads],
                });
            }
        };
        let vocabulary = source.get("tok_emb.weight")?.dim(0)?;
        let inputs = source.get("condition.weight")?.dim(1)?;
        let head = source.numbers("head.weight", &[1, vocabulary + 1, width])?;
        Ok(Self {
            positions,
            vocabulary,
            condition: source.linear("condition", width, inputs)?,
            instruction: PackedInstruction::new(&source, width)?,
            token_embedding: source.numbers("tok_emb.weight", &[vocabulary, width])?,
            position_embedding: source.numbers("pos_emb", &[1, positions, width])?,
            trunk: Trunk::new(&source, width, BlockShape::plain(heads))?,
            head: Packed::new(&head, None, width),
        })
    }

    /// V, values of a token; class V of the logits is the end.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Tokens in the longest sequence.
    pub fn most_tokens(&self) -> usize {
        self.positions - 1
    }

    /// Starts a sequence per condition, (S, O) or (S, O + E) row-major, in `cache`, and puts the logits of the first tokens into
    /// `logits` (S, V + 1).
    ///
    /// # Errors
    /// If these are not whole rows.
    pub fn begin(&self, cache: &mut Cache<T>, conditions: &[T], logits: &mut Vec<T>) -> Result<()> {
        let inputs = self.condition.inputs();
        let instruction = self.instruction.as_ref();
        let row = inputs + instruction.map_or(0, PackedInstruction::inputs);
        let sequences = conditions.len() / row;
        if sequences == 0 || !conditions.len().is_multiple_of(row) {
            return Err(invalid(format!(
                "{} numbers are not rows of {row}",
                conditions.len()
            )));
        }
        cache.start(sequences);
        let rows = conditions.chunks_exact(row);
        let mut x = match instruction {
            Some(network) => network.forward(rows.clone().flat_map(|row| &row[inputs..]).copied()),
            None => vec![T::ZERO; sequences * self.trunk.width],
        };
        let rows: Vec<T> = rows.flat_map(|row| &row[..inputs]).copied().collect();
        self.condition.forward(&rows, &mut x, Store::Add);
        self.step(cache, x, logits);
        Ok(())
    }

    /// Appends one of `tokens` (S) to every sequence of `cache` and puts the logits of the tokens that follow into
    /// `logits` (S, V + 1).
    ///
    /// # Errors
    /// If the sequences outgrow the positions, or tokens are out of range or not one per sequence.
    pub fn extend(&self, cache: &mut Cache<T>, tokens: &[u32], logits: &mut Vec<T>) -> Result<()> {
        if tokens.is_empty() || tokens.len() != cache.sequences || cache.is_empty() {
            let (found, sequences) = (tokens.len(), cache.sequences);
            return Err(invalid(format!("{found} tokens for {sequences} sequences")));
        }
        if cache.len() == self.positions {
            let most = self.most_tokens();
            return Err(invalid(format!("a sequence of more than {most} tokens")));
        }
        let width = self.trunk.width;
        let mut x = Vec::with_capacity(tokens.len() * width);
        for &token in tokens {
            let row = token as usize * width;
            let row = self.token_embedding.get(row..row + width);
            let above = || invalid(format!("token {token} is not below {}", self.vocabulary));
            x.extend_from_slice(row.ok_or_else(above)?);
        }
        self.step(cache, x, logits);
        Ok(())
    }

    /// Takes one embedded token per sequence, without its position, (S, C), through the network.
    fn step(&self, cache: &mut Cache<T>, mut x: Vec<T>, logits: &mut Vec<T>) {
        let width = self.trunk.width;
        let position = &self.position_embedding[cache.length * width..][..width];
        for row in x.chunks_exact_mut(width) {
            row.iter_mut()
                .zip(position)
                .for_each(|(x, &position)| *x += position);
        }
        logits.resize(cache.sequences * (self.vocabulary + 1), T::ZERO);
        self.trunk.run(cache, x, 1, 1, &self.head, logits);
        cache.length += 1;
    }
}
