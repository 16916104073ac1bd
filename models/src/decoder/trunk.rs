//! The blocks of a minGPT trunk and the last norm, packed for decoding on the CPU: what every decoder takes
//! embedded tokens through.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::Cache;
use super::multi_token::{More, MultiTokenScratch};
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::gpt::{HiddenLayer, Parts, Scores};
use crate::kernels::decode::{
    Float, HeadLayout, Packed, Slots, Store, Visible, attend, gelu, layer_norm, normalize_heads,
    rms_norm, squared_relu, swiglu,
};
use crate::norm::NormKind;

/// Epsilon of all norms (PyTorch's default of layer norms).
const EPSILON: f64 = 1e-5;
/// Tokens that one task takes through the network together, so that they stay in its cache.
const TASK_TOKENS: usize = 64;

/// Blocks and last norm.
#[derive(Debug)]
pub(super) struct Trunk<T> {
    /// C, numbers per token.
    pub(super) width: usize,
    /// How queries, keys and values are laid out: rows of K numbers.
    layout: HeadLayout,
    /// Activation of the hidden layers.
    hidden: Hidden,
    scores: Scores,
    blocks: Vec<Block<T>>,
    final_norm: Norm<T>,
}

#[derive(Debug, Clone, Copy)]
enum Hidden {
    Gelu,
    SquaredRelu,
    SwiGlu,
}

#[derive(Debug)]
struct Block<T> {
    norm1: Norm<T>,
    query_key_value: Packed<T>, // C -> 3 K
    projection: Packed<T>,      // K -> C
    norm2: Norm<T>,
    up: Packed<T>,   // C -> H, or with gates 2 H
    down: Packed<T>, // H -> C
}

#[derive(Debug)]
struct Norm<T> {
    weight: Vec<T>,
    /// Of a layer norm; one of root mean squares has none.
    bias: Option<Vec<T>>,
}

impl<T: Float> Norm<T> {
    fn forward(&self, x: &[T], y: &mut Vec<T>) {
        y.resize(x.len(), T::ZERO);
        match &self.bias {
            Some(bias) => layer_norm(x, &self.weight, bias, EPSILON, y),
            None => rms_norm(x, &self.weight, EPSILON, y),
        }
    }
}

/// What the names of a trunk's weights and their shapes do not tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockShape {
    pub(super) heads: usize,
    /// Activation of the hidden layers.
    pub(super) activation: Activation,
    pub(super) parts: Parts,
}

impl BlockShape {
    /// GPT-2's blocks.
    pub(super) fn plain(heads: usize) -> Self {
        Self {
            heads,
            activation: Activation::Gelu,
            parts: Parts::default(),
        }
    }
}

impl<T: Float> Trunk<T> {
    /// Copies `blocks.I...` and `ln_f` of this width.
    pub(super) fn new(source: &Source<'_>, width: usize, shape: BlockShape) -> Result<Self> {
        let BlockShape {
            heads,
            activation,
            parts,
        } = shape;
        let hidden = match (parts.hidden, activation) {
            (HiddenLayer::SwiGlu, _) => Hidden::SwiGlu,
            (HiddenLayer::Plain, Activation::Gelu) => Hidden::Gelu,
            (HiddenLayer::Plain, Activation::SquaredRelu) => Hidden::SquaredRelu,
            (HiddenLayer::Plain, other) => {
                return Err(invalid(format!(
                    "{other:?} in a block, which it can't decode"
                )));
            }
        };
        let layout = HeadLayout::new(heads, width / heads)
            .ok_or_else(|| invalid(format!("{heads} attention heads, expected 1 to 16")))?;
        let count = (0..)
            .take_while(|i| source.has(&format!("blocks.{i}.ln1.weight")))
            .count();
        Ok(Self {
            width,
            layout,
            hidden,
            scores: parts.scores,
            blocks: (0..count)
                .map(|i| source.block(i, width, (layout, parts)))
                .collect::<Result<_>>()?,
            final_norm: source.norm("ln_f", width, parts.norm)?,
        })
    }

    /// Takes `count` embedded tokens per sequence, `x` (S, `count`, C), through the network; the
    /// first `cached` of them get a cache entry, the last one logits from `head`.
    pub(super) fn run(
        &self,
        cache: &mut Cache<T>,
        x: Vec<T>,
        count: usize,
        cached: usize,
        head: &Packed<T>,
        logits: &mut [T],
    ) {
        self.run_with(cache, x, (count, cached), (head, logits), None);
    }

    /// [`run`](Self::run), and what several tokens are predicted from at the last one, if that is asked for.
    pub(super) fn run_with(
        &self,
        cache: &mut Cache<T>,
        mut x: Vec<T>,
        (count, cached): (usize, usize),
        (head, logits): (&Packed<T>, &mut [T]),
        more: Option<More<'_, T>>,
    ) {
        let (sequences, stride) = (cache.sequences, self.slot_stride());
        if cache.used > cache.reclaim_at {
            cache.reclaim(stride);
        }
        let first_slot = cache.used;
        let slots = first_slot + sequences * count;
        if cache.pool.len() < slots * stride {
            cache.pool.resize(slots * stride, T::ZERO);
        }
        let (old, new) = cache.pool.split_at_mut(first_slot * stride);
        let threads = rayon::current_num_threads();
        let per_task = sequences
            .div_ceil(threads)
            .min((TASK_TOKENS / count).max(1));
        let entries = entry_chunks(&cache.entries, cache.visible, sequences, per_task);
        let tasks = new[..sequences * count * stride].par_chunks_mut(per_task * count * stride);
        let tasks = tasks
            .zip(x.par_chunks_mut(per_task * count * self.width))
            .zip(entries);
        let visible = cache.visible;
        let more = More::parts(more, sequences, per_task);
        tasks
            .zip(logits.par_chunks_mut(per_task * head.outputs()))
            .zip(more)
            .for_each_init(
                Scratch::default,
                |scratch, ((((new, x), entries), logits), more)| {
                    let part = Part {
                        old,
                        entries,
                        visible,
                        count,
                        cached,
                    };
                    self.run_part(part, new, x, head, logits, scratch);
                    if let Some(more) = more {
                        more.predict(&scratch.normal, &mut scratch.more);
                    }
                },
            );
        let mut entries = Vec::with_capacity(sequences * (cache.visible + cached));
        for sequence in 0..sequences {
            entries.extend_from_slice(&cache.entries[sequence * cache.visible..][..cache.visible]);
            let first = (first_slot + sequence * count) as u32;
            entries.extend(first..first + cached as u32);
        }
        cache.entries = entries;
        cache.visible += cached;
        cache.used = slots;
    }

    /// Queries and keys of `rows` (.., 3 K) as they are compared: the cache holds such keys.
    fn prepare(&self, rows: &mut [T]) {
        if self.scores == Scores::Plain {
            return;
        }
        let (layout, row) = (self.layout, self.layout.width());
        for token in rows.chunks_exact_mut(3 * row) {
            normalize_heads(&mut token[..row], layout, EPSILON);
            normalize_heads(&mut token[row..2 * row], layout, EPSILON);
        }
    }

    /// Numbers from one slot to the next: not a power of two, so that slots fall into different
    /// sets of the processor's cache.
    fn slot_stride(&self) -> usize {
        2 * self.blocks.len() * self.layout.width() + 16
    }

    /// [`run`](Self::run) for a few sequences on one thread.
    fn run_part(
        &self,
        part: Part<'_, T>,
        new: &mut [T],
        x: &mut [T],
        head: &Packed<T>,
        logits: &mut [T],
        scratch: &mut Scratch<T>,
    ) {
        let (width, stride, count) = (self.width, self.slot_stride(), part.count);
        let row = self.layout.width(); // K
        let sequences = x.len() / (count * width);
        let Scratch {
            normal,
            wide,
            attended,
            scores,
            last,
            gated,
            more: _,
        } = scratch;
        for (layer, block) in self.blocks.iter().enumerate() {
            let offset = 2 * layer * row;
            block.norm1.forward(x, normal);
            wide.resize(sequences * count * 3 * row, T::ZERO);
            block.query_key_value.forward(normal, wide, Store::Replace);
            self.prepare(wide);
            for (slot, token) in new.chunks_exact_mut(stride).zip(wide.chunks_exact(3 * row)) {
                slot[offset..offset + 2 * row].copy_from_slice(&token[row..]);
            }
            // Above the last layer only the last token is needed.
            let queries = if layer + 1 == self.blocks.len() {
                count - 1..count
            } else {
                0..count
            };
            let old_slots = Slots {
                data: part.old,
                stride,
                layer_offset: offset,
            };
            let new_slots = Slots {
                data: new,
                stride,
                layer_offset: offset,
            };
            attended.resize(sequences * queries.len() * row, T::ZERO);
            let mut outputs = attended.chunks_exact_mut(row);
            for sequence in 0..sequences {
                let old = &part.entries[sequence * part.visible..][..part.visible];
                for i in queries.clone() {
                    let query = &wide[(sequence * count + i) * 3 * row..][..row];
                    let new = (i + 1).min(part.cached);
                    let visible = Visible {
                        old,
                        first_new: sequence * count,
                        new,
                    };
                    if let Some(output) = outputs.next() {
                        attend(
                            query,
                            old_slots,
                            new_slots,
                            visible,
                            self.layout,
                            scores,
                            output,
                        );
                    }
                }
            }
            let x = if queries.len() < count {
                last.clear();
                let rows = x.chunks_exact(width).skip(count - 1).step_by(count);
                rows.for_each(|row| last.extend_from_slice(row));
                &mut last[..]
            } else {
                &mut x[..]
            };
            block.projection.forward(attended, x, Store::Add);
            block.norm2.forward(x, normal);
            wide.resize(x.len() / width * block.up.outputs(), T::ZERO);
            block.up.forward(normal, wide, Store::Replace);
            let hidden = match self.hidden {
                Hidden::Gelu => {
                    gelu(wide);
                    &*wide
                }
                Hidden::SquaredRelu => {
                    squared_relu(wide);
                    &*wide
                }
                Hidden::SwiGlu => {
                    gated.resize(wide.len() / 2, T::ZERO);
                    swiglu(wide, block.up.outputs() / 2, gated);
                    &*gated
                }
            };
            block.down.forward(hidden, x, Store::Add);
        }
        let rows = if count > 1 && !self.blocks.is_empty() {
            &last[..]
        } else {
            x
        };
        self.final_norm.forward(rows, normal);
        head.forward(normal, logits, Store::Replace);
    }
}

/// The part of a step that one task does.
#[derive(Clone, Copy)]
struct Part<'a, T> {
    old: &'a [T],
    entries: &'a [u32],
    visible: usize,
    count: usize,
    cached: usize,
}

/// Buffers of one task.
#[derive(Default)]
struct Scratch<T> {
    normal: Vec<T>,
    wide: Vec<T>,
    attended: Vec<T>,
    scores: Vec<T>,
    last: Vec<T>,
    gated: Vec<T>,
    more: MultiTokenScratch<T>,
}

/// The entries of every `per_task` sequences; empty slices while nothing is visible.
fn entry_chunks(entries: &[u32], visible: usize, sequences: usize, per_task: usize) -> Vec<&[u32]> {
    let starts = (0..sequences).step_by(per_task);
    let chunk =
        |start: usize| &entries[start * visible..(start + per_task).min(sequences) * visible];
    starts.map(chunk).collect()
}

pub(super) fn invalid(reason: String) -> Error {
    Error::Config {
        what: "Decoder",
        reason,
    }
}

/// Weights by name, as numbers of the decoder's type.
pub(super) struct Source<'a> {
    pub(super) tensors: &'a BTreeMap<String, Tensor>,
}

impl Source<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Result<&Tensor> {
        let missing = || Error::MissingTensor {
            name: name.to_owned(),
            expected: Vec::new(),
        };
        self.tensors.get(name).ok_or_else(missing)
    }

    pub(super) fn numbers<T: Float>(&self, name: &str, expected: &[usize]) -> Result<Vec<T>> {
        let tensor = self.get(name)?;
        if tensor.dims() != expected {
            return Err(Error::TensorShape {
                name: name.to_owned(),
                found: tensor.dims().to_vec(),
                expected: expected.to_vec(),
            });
        }
        let tensor = tensor
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?
            .flatten_all()?;
        Ok(tensor.to_vec1::<f64>()?.into_iter().map(T::of).collect())
    }

    fn norm<T: Float>(&self, name: &str, width: usize, kind: NormKind) -> Result<Norm<T>> {
        let bias = || self.numbers(&format!("{name}.bias"), &[width]);
        Ok(Norm {
            weight: self.numbers(&format!("{name}.weight"), &[width])?,
            bias: match kind {
                NormKind::Layer => Some(bias()?),
                NormKind::Rms => None,
            },
        })
    }

    pub(super) fn linear<T: Float>(
        &self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Packed<T>> {
        let weight: Vec<T> = self.numbers(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias: Vec<T> = self.numbers(&format!("{name}.bias"), &[outputs])?;
        Ok(Packed::new(&weight, Some(&bias), inputs))
    }

    /// The linear layers `0` and `gate` as one, the gates behind what passes them.
    fn gated<T: Float>(&self, name: &str, inner: usize, width: usize) -> Result<Packed<T>> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for layer in ["0", "gate"] {
            let layer = format!("{name}.{layer}");
            weight.extend(self.numbers::<T>(&format!("{layer}.weight"), &[inner, width])?);
            bias.extend(self.numbers::<T>(&format!("{layer}.bias"), &[inner])?);
        }
        Ok(Packed::new(&weight, Some(&bias), width))
    }

    fn block<T: Float>(
        &self,
        index: usize,
        width: usize,
        (layout, parts): (HeadLayout, Parts),
    ) -> Result<Block<T>> {
        let name = format!("blocks.{index}");
        let inner = parts.hidden.inner(width);
        let row = layout.width();
        let mut weight = vec![T::ZERO; 3 * row * width];
        let mut bias = vec![T::ZERO; 3 * row];
        for (part, at) in ["query", "key", "value"].into_iter().zip([0, row, 2 * row]) {
            let part = format!("{name}.attn.{part}");
            let from: Vec<T> = self.numbers(&format!("{part}.weight"), &[width, width])?;
            let biases: Vec<T> = self.numbers(&format!("{part}.bias"), &[width])?;
            for (number, (from, &from_bias)) in from.chunks_exact(width).zip(&biases).enumerate() {
                let to = at + layout.place(number);
                weight[to * width..(to + 1) * width].copy_from_slice(from);
                bias[to] = from_bias;
            }
        }
        let from: Vec<T> = self.numbers(&format!("{name}.attn.proj.weight"), &[width, width])?;
        let mut projection = vec![T::ZERO; width * row];
        for (to, from) in projection
            .chunks_exact_mut(row)
            .zip(from.chunks_exact(width))
        {
            from.iter()
                .enumerate()
                .for_each(|(at, &number)| to[layout.place(at)] = number);
        }
        let projection_bias: Vec<T> = self.numbers(&format!("{name}.attn.proj.bias"), &[width])?;
        Ok(Block {
            norm1: self.norm(&format!("{name}.ln1"), width, parts.norm)?,
            query_key_value: Packed::new(&weight, Some(&bias), width),
            projection: Packed::new(&projection, Some(&projection_bias), row),
            norm2: self.norm(&format!("{name}.ln2"), width, parts.norm)?,
            up: match parts.hidden {
                HiddenLayer::Plain => self.linear(&format!("{name}.mlp.0"), inner, width)?,
                HiddenLayer::SwiGlu => self.gated(&format!("{name}.mlp"), inner, width)?,
            },
            down: self.linear(&format!("{name}.mlp.2"), width, inner)?,
        })
    }
}
