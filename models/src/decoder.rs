//! [`Decoder`]: next-token logits of a Trajectory Transformer, token by token, with an exact
//! key/value cache.
//!
//! The decoder is a snapshot of a network's weights on the CPU. What it returns equals a forward
//! pass over the whole sequence: value tokens, which nothing attends to, get no cache entry; logits
//! are computed for the last position only. Positions count from the start of the window, so a
//! caller that crops the sequence starts a new cache.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::decode::{
    Float, HeadLayout, Packed, Slots, Store, Visible, attend, gelu, layer_norm,
};

/// Epsilon of the authors' layer norms (PyTorch's default).
const EPSILON: f64 = 1e-5;
/// Tokens that one task takes through the network together, so that they stay in its cache.
const TASK_TOKENS: usize = 64;

/// What the weights' shapes do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderShape {
    /// D, tokens per transition; the last of them is the value.
    pub transition_tokens: usize,
    /// N, bins per token; token N is the termination token.
    pub bins: usize,
    /// Attention heads.
    pub heads: usize,
}

/// Weights of a Trajectory Transformer, packed for decoding on the CPU.
#[derive(Debug)]
pub struct Decoder<T> {
    shape: DecoderShape,
    /// C, numbers per token.
    width: usize,
    /// How queries, keys and values are laid out: rows of K numbers.
    layout: HeadLayout,
    /// Longest sequence.
    window_tokens: usize,
    token_embedding: Vec<T>,    // (N * D + 1, C)
    position_embedding: Vec<T>, // (window, C)
    blocks: Vec<Block<T>>,
    final_norm: Norm<T>,
    /// One head per position in a transition, C -> N + 1.
    heads: Vec<Packed<T>>,
}

#[derive(Debug)]
struct Block<T> {
    norm1: Norm<T>,
    query_key_value: Packed<T>, // C -> 3 K
    projection: Packed<T>,      // K -> C
    norm2: Norm<T>,
    up: Packed<T>,   // C -> 4 C
    down: Packed<T>, // 4 C -> C
}

#[derive(Debug)]
struct Norm<T> {
    weight: Vec<T>,
    bias: Vec<T>,
}

impl<T: Float> Norm<T> {
    fn forward(&self, x: &[T], y: &mut Vec<T>) {
        y.resize(x.len(), T::ZERO);
        layer_norm(x, &self.weight, &self.bias, EPSILON, y);
    }
}

/// Keys and values of S sequences of equal length that grow together.
///
/// Sequences list the slots of their tokens in a shared pool, so copying, reordering or sharing a
/// prefix moves indices, not numbers.
#[derive(Debug, Clone, Default)]
pub struct Cache<T> {
    /// Slot after slot: layers x (keys, values), and padding.
    pool: Vec<T>,
    /// Slots in use or no longer used; new ones follow.
    used: usize,
    /// Slots that are dead are reclaimed when more than this many are used.
    reclaim_at: usize,
    /// Slots of every sequence, (S, `visible`).
    entries: Vec<u32>,
    /// Tokens of each sequence that have a slot.
    visible: usize,
    sequences: usize,
    /// Tokens of each sequence, value tokens included.
    length: usize,
}

impl<T: Float> Cache<T> {
    /// Forgets everything; `sequences` empty sequences are ready to grow.
    pub fn start(&mut self, sequences: usize) {
        self.used = 0;
        self.reclaim_at = 4096;
        self.entries.clear();
        self.visible = 0;
        self.sequences = sequences;
        self.length = 0;
    }

    /// Tokens of each sequence, value tokens included.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the sequences are empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Sequence `i` becomes a copy of what `sources[i]` was.
    ///
    /// # Panics
    /// If a source does not exist.
    pub fn gather(&mut self, sources: &[usize]) {
        let mut entries = Vec::with_capacity(sources.len() * self.visible);
        for &source in sources {
            assert!(
                source < self.sequences,
                "sequence {source} of {}",
                self.sequences
            );
            entries.extend_from_slice(&self.entries[source * self.visible..][..self.visible]);
        }
        self.entries = entries;
        self.sequences = sources.len();
    }

    /// Moves the slots that sequences use to the front of the pool.
    fn reclaim(&mut self, stride: usize) {
        let mut moved = vec![u32::MAX; self.used];
        for &slot in &self.entries {
            moved[slot as usize] = 0;
        }
        let mut live = 0;
        for (slot, to) in moved.iter_mut().enumerate() {
            if *to == 0 {
                self.pool
                    .copy_within(slot * stride..(slot + 1) * stride, live * stride);
                *to = live as u32;
                live += 1;
            }
        }
        for slot in &mut self.entries {
            *slot = moved[*slot as usize];
        }
        self.used = live;
        self.reclaim_at = 2 * live + 4096;
    }
}

impl<T: Float> Decoder<T> {
    /// Copies the weights in `tensors`, which carry the authors' names (`tok_emb.weight`,
    /// `pos_emb`, `blocks.I...`, `ln_f`, `head.weight`).
    ///
    /// # Errors
    /// If one is missing or has a shape that does not fit.
    pub fn new(tensors: &BTreeMap<String, Tensor>, shape: DecoderShape) -> Result<Self> {
        let DecoderShape {
            transition_tokens: d,
            bins: n,
            heads,
        } = shape;
        let source = Source { tensors };
        let positions = source.get("pos_emb")?;
        let (window_tokens, width) = match *positions.dims() {
            [1, window, width] if heads > 0 && width % heads == 0 => (window, width),
            _ => {
                return Err(Error::TensorShape {
                    name: "pos_emb".to_owned(),
                    found: positions.dims().to_vec(),
                    expected: vec![1, 10 * d - 1, 32 * heads],
                });
            }
        };
        let layout = HeadLayout::new(heads, width / heads)
            .ok_or_else(|| invalid(format!("{heads} attention heads, expected 1 to 16")))?;
        let count = (0..)
            .take_while(|i| source.has(&format!("blocks.{i}.ln1.weight")))
            .count();
        let head = source.numbers("head.weight", &[d, n + 1, width])?;
        Ok(Self {
            shape,
            width,
            layout,
            window_tokens,
            token_embedding: source.numbers("tok_emb.weight", &[n * d + 1, width])?,
            position_embedding: source.numbers("pos_emb", &[1, window_tokens, width])?,
            blocks: (0..count)
                .map(|i| source.block(i, width, layout))
                .collect::<Result<_>>()?,
            final_norm: source.norm("ln_f", width)?,
            heads: head
                .chunks_exact((n + 1) * width)
                .map(|head| Packed::new(head, None, width))
                .collect(),
        })
    }

    /// D, N and heads.
    pub fn shape(&self) -> DecoderShape {
        self.shape
    }

    /// Tokens in the longest sequence.
    pub fn window_tokens(&self) -> usize {
        self.window_tokens
    }

    /// Appends `tokens` (S, n), without offsets, to the sequences of `cache` and puts the logits of
    /// the token that follows into `logits` (S, N + 1).
    ///
    /// # Errors
    /// If the sequences outgrow the window, or tokens are out of range or not n per sequence.
    pub fn extend(&self, cache: &mut Cache<T>, tokens: &[u32], logits: &mut Vec<T>) -> Result<()> {
        let DecoderShape {
            transition_tokens: d,
            bins,
            ..
        } = self.shape;
        let sequences = cache.sequences;
        if sequences == 0 || tokens.is_empty() || !tokens.len().is_multiple_of(sequences) {
            return Err(invalid(format!(
                "{} tokens for {sequences} sequences",
                tokens.len()
            )));
        }
        self.check_tokens(tokens, bins)?;
        let count = tokens.len() / sequences;
        let end = cache.length + count;
        if end > self.window_tokens {
            return Err(invalid(format!(
                "a sequence of {end} tokens is longer than the window of {}",
                self.window_tokens
            )));
        }
        // Value tokens that something follows are never looked at.
        let is_value = |position: usize| position % d == d - 1;
        let kept: Vec<usize> = (0..count)
            .filter(|i| i + 1 == count || !is_value(cache.length + i))
            .collect();
        let cached = kept.len() - usize::from(is_value(end - 1));
        let mut x = Vec::with_capacity(sequences * kept.len() * self.width);
        for tokens in tokens.chunks_exact(count) {
            for &i in &kept {
                self.push_embedding(tokens[i] as usize, cache.length + i, &mut x);
            }
        }
        logits.resize(sequences * (bins + 1), T::ZERO);
        let head = &self.heads[(end - 1) % d];
        self.run(cache, x, kept.len(), cached, head, logits);
        cache.length = end;
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32], highest: usize) -> Result<()> {
        match tokens.iter().find(|&&token| token as usize > highest) {
            Some(token) => Err(invalid(format!("token {token} is above {highest}"))),
            None => Ok(()),
        }
    }

    fn push_embedding(&self, token: usize, position: usize, x: &mut Vec<T>) {
        let DecoderShape {
            transition_tokens: d,
            bins,
            ..
        } = self.shape;
        let row = if token == bins {
            bins * d
        } else {
            (position % d) * bins + token
        };
        let token = &self.token_embedding[row * self.width..][..self.width];
        let position = &self.position_embedding[position * self.width..][..self.width];
        x.extend(
            token
                .iter()
                .zip(position)
                .map(|(&token, &position)| token + position),
        );
    }

    /// Takes `count` embedded tokens per sequence, `x` (S, `count`, C), through the network; the
    /// first `cached` of them get a cache entry, the last one logits from `head`.
    fn run(
        &self,
        cache: &mut Cache<T>,
        mut x: Vec<T>,
        count: usize,
        cached: usize,
        head: &Packed<T>,
        logits: &mut [T],
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
        tasks
            .zip(logits.par_chunks_mut(per_task * head.outputs()))
            .for_each_init(
                Scratch::default,
                |scratch, (((new, x), entries), logits)| {
                    let part = Part {
                        old,
                        entries,
                        visible,
                        count,
                        cached,
                    };
                    self.run_part(part, new, x, head, logits, scratch);
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
        } = scratch;
        for (layer, block) in self.blocks.iter().enumerate() {
            let offset = 2 * layer * row;
            block.norm1.forward(x, normal);
            wide.resize(sequences * count * 3 * row, T::ZERO);
            block.query_key_value.forward(normal, wide, Store::Replace);
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
            gelu(wide);
            block.down.forward(wide, x, Store::Add);
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
}

/// The entries of every `per_task` sequences; empty slices while nothing is visible.
fn entry_chunks(entries: &[u32], visible: usize, sequences: usize, per_task: usize) -> Vec<&[u32]> {
    let starts = (0..sequences).step_by(per_task);
    let chunk =
        |start: usize| &entries[start * visible..(start + per_task).min(sequences) * visible];
    starts.map(chunk).collect()
}

fn invalid(reason: String) -> Error {
    Error::Config {
        what: "Decoder",
        reason,
    }
}

/// Weights by name, as numbers of the decoder's type.
struct Source<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
}

impl Source<'_> {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn get(&self, name: &str) -> Result<&Tensor> {
        let missing = || Error::MissingTensor {
            name: name.to_owned(),
            expected: Vec::new(),
        };
        self.tensors.get(name).ok_or_else(missing)
    }

    fn numbers<T: Float>(&self, name: &str, expected: &[usize]) -> Result<Vec<T>> {
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

    fn norm<T: Float>(&self, name: &str, width: usize) -> Result<Norm<T>> {
        Ok(Norm {
            weight: self.numbers(&format!("{name}.weight"), &[width])?,
            bias: self.numbers(&format!("{name}.bias"), &[width])?,
        })
    }

    fn linear<T: Float>(&self, name: &str, outputs: usize, inputs: usize) -> Result<Packed<T>> {
        let weight: Vec<T> = self.numbers(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias: Vec<T> = self.numbers(&format!("{name}.bias"), &[outputs])?;
        Ok(Packed::new(&weight, Some(&bias), inputs))
    }

    fn block<T: Float>(&self, index: usize, width: usize, layout: HeadLayout) -> Result<Block<T>> {
        let name = format!("blocks.{index}");
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
            norm1: self.norm(&format!("{name}.ln1"), width)?,
            query_key_value: Packed::new(&weight, Some(&bias), width),
            projection: Packed::new(&projection, Some(&projection_bias), row),
            norm2: self.norm(&format!("{name}.ln2"), width)?,
            up: self.linear(&format!("{name}.mlp.0"), 4 * width, width)?,
            down: self.linear(&format!("{name}.mlp.2"), width, 4 * width)?,
        })
    }
}
