//! Whole multilayer perceptrons, N side by side, as one operation.
//!
//! Every member sees the same rows. Work is cut into members and pieces of rows; each piece runs
//! through all layers while it is in the cache. Hidden layers are kept for the backward pass.

pub(crate) mod slopes;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::packed::{Saved, Weight, tensors_of};
use super::parallel;
use super::pool::Buffer;
use super::product::{Finish, Matrix, MatrixMut, multiply_then};
use super::real::Real;
use super::rows;
use super::storage::{slice, with_slice};
use crate::activation::Activation;

/// Rows of one piece, and rows of a weight, as it is stored, whose gradient is one task.
const PART: usize = 128;
/// From this many members on they are tasks enough: parts are larger, and weights packed less often.
const MANY: usize = 8;
/// Up to this width products of several rows may take gemm's ways for vectors, or for few results.
const NARROW: usize = 2;

/// Settings of the operation.
#[derive(Debug, Clone)]
pub struct Mlps {
    /// Which members are evaluated, N of them.
    pub members: std::ops::Range<usize>,
    /// How many members the packed parameters have.
    pub of: usize,
    /// Widths from input to output.
    pub sizes: Vec<usize>,
    /// Activation after each layer but the last.
    pub activation: Activation,
    /// Epsilon of a layer norm after each activation, which must be the ReLU, if there is one.
    pub norm_epsilon: Option<f64>,
    /// Whether weights are stored as (in, out) or (out, in).
    pub inputs_first: bool,
}

impl Mlps {
    /// (N, B, out) of x (B, in) and the packed parameters: for each layer the weights of all members
    /// and then the biases of all members; then, if a norm follows, its weights and its biases.
    ///
    /// # Errors
    /// If they are not contiguous CPU tensors of fitting size, both f32 or both f64, or a norm follows
    /// another activation than the ReLU.
    pub fn apply(self, x: &Tensor, packed: &Tensor) -> Result<Tensor> {
        let (_, inputs) = x.dims2()?;
        if self.sizes.first() != Some(&inputs)
            || packed.elem_count() != self.parameters()
            || self.norm_epsilon.is_some() && self.activation != Activation::Relu
        {
            bail!(
                "{:?} for inputs {:?}, parameters {:?}",
                self,
                x.dims(),
                packed.dims()
            );
        }
        let x = x.contiguous()?;
        if x.track_op() || packed.track_op() {
            x.apply_op2(
                packed,
                Operation {
                    settings: self,
                    saved: Some(Saved::empty()),
                },
            )
        } else {
            x.apply_op2_no_bwd(
                packed,
                &Operation {
                    settings: self,
                    saved: None,
                },
            )
        }
    }

    fn layers(&self) -> usize {
        self.sizes.len() - 1
    }

    fn parameters(&self) -> usize {
        self.before(self.layers())
    }

    /// Parameters of the layers below this one, all members together.
    fn before(&self, layer: usize) -> usize {
        let numbers = |layer: usize| {
            let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
            self.of * ((inputs + 1) * outputs + self.norm_numbers(layer))
        };
        (0..layer).map(numbers).sum()
    }

    /// Parameters of a member's norm after a layer.
    fn norm_numbers(&self, layer: usize) -> usize {
        if self.norm_epsilon.is_some() && layer + 1 < self.layers() {
            2 * self.sizes[layer + 1]
        } else {
            0
        }
    }

    /// Whether what a hidden layer keeps is what went on from it.
    fn keeps_results(&self) -> bool {
        self.activation == Activation::Relu && self.norm_epsilon.is_none()
    }

    fn weight(&self, layer: usize) -> Weight {
        Weight::new(self.sizes[layer], self.sizes[layer + 1], self.inputs_first)
    }

    /// Rows of a part.
    fn part(&self) -> usize {
        if self.members.len() >= MANY {
            2 * PART
        } else {
            PART
        }
    }

    /// Rows of the pieces that so many rows are cut into: two parts together where every thread has one nevertheless, so that
    /// weights are laid out half as often. Nothing that is computed can tell (see [`Self::multiply`]).
    fn piece_rows(&self, rows: usize) -> usize {
        let (part, together) = (self.part(), 2 * PART);
        let pieces = self.members.len() * rows / together;
        if rows.is_multiple_of(together) && pieces >= rayon::current_num_threads() {
            part.max(together)
        } else {
            part
        }
    }

    /// Stored rows of a weight whose gradient is one task, as in [`Self::piece_rows`].
    fn panel_rows(&self, stored: usize, width: usize) -> usize {
        let (part, together) = (self.part(), 2 * PART);
        let enough = self.members.len() >= rayon::current_num_threads();
        if stored.is_multiple_of(together) && width > NARROW && enough {
            part.max(together)
        } else {
            part
        }
    }

    /// to <- from times the weight, finished. Where results or sums are so narrow that gemm's way could depend on the number of
    /// rows, part by part.
    fn multiply<T: Real>(
        &self,
        (to, columns): (&mut [T], usize),
        (from, depth): (&[T], usize),
        weight: Matrix<'_, T>,
        finish: Finish<'_, T>,
    ) {
        let count = from.len() / depth;
        let rows = if columns.min(depth) <= NARROW {
            self.part()
        } else {
            count
        };
        let parts = to.chunks_mut(rows * columns).zip(from.chunks(rows * depth));
        for (i, (to, from)) in parts.enumerate() {
            let finish = match finish {
                Finish::Where(kept) => Finish::Where(&kept[i * rows * columns..][..to.len()]),
                other => other,
            };
            let count = from.len() / depth;
            let from = Matrix::rows(from, count, depth);
            multiply_then(MatrixMut::rows(to, count, columns), from, weight, finish);
        }
    }

    /// Places of an evaluated member's weight and bias of a layer among the packed parameters.
    fn places(
        &self,
        member: usize,
        layer: usize,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let before = self.before(layer);
        let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
        let member = self.members.start + member;
        let weight = before + member * inputs * outputs;
        let bias = before + self.of * inputs * outputs + member * outputs;
        (weight..weight + inputs * outputs, bias..bias + outputs)
    }

    /// Places of an evaluated member's weight and bias of the norm after a layer.
    fn norm_places(
        &self,
        member: usize,
        layer: usize,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let (inputs, width) = (self.sizes[layer], self.sizes[layer + 1]);
        let member = self.members.start + member;
        let weight = self.before(layer) + self.of * (inputs + 1) * width + member * width;
        let bias = weight + self.of * width;
        (weight..weight + width, bias..bias + width)
    }

    /// Numbers that hidden layers of these rows take, all members together.
    fn hidden_numbers(&self, rows: usize) -> usize {
        self.members.len() * rows * self.sizes[1..self.layers()].iter().sum::<usize>()
    }

    /// Cuts hidden layers, each (N, rows, width), into pieces of rows: for each member and piece its
    /// part of every layer.
    fn cut<'a, T>(
        &self,
        mut hidden: &'a mut [T],
        rows: usize,
        piece_rows: usize,
    ) -> Vec<Piece<'a, T>> {
        let starts = (0..rows).step_by(piece_rows);
        let ranges = starts.map(|start| start..(start + piece_rows).min(rows));
        let ranges: Vec<_> = ranges.collect();
        let empty = |member| {
            let piece = move |rows: &std::ops::Range<usize>| Piece {
                member,
                rows: rows.clone(),
                layers: Vec::with_capacity(self.layers()),
            };
            ranges.iter().map(piece)
        };
        let mut pieces: Vec<_> = (0..self.members.len()).flat_map(empty).collect();
        for width in &self.sizes[1..self.layers()] {
            for piece in &mut pieces {
                let numbers = piece.rows.len() * width;
                let (part, after) = std::mem::take(&mut hidden).split_at_mut(numbers);
                hidden = after;
                piece.layers.push(part);
            }
        }
        pieces
    }

    /// The hidden layer above `layer` of a member, (rows, width), out of all of them.
    fn layer<'a, T>(&self, hidden: &'a [T], rows: usize, member: usize, layer: usize) -> &'a [T] {
        let before: usize = self.sizes[1..layer + 1].iter().sum();
        let width = self.sizes[layer + 1];
        let first = rows * (self.members.len() * before + member * width);
        &hidden[first..first + rows * width]
    }

    /// One piece of rows through one member. Hidden layers stay behind: after a ReLU, before a norm or
    /// a GELU.
    fn piece<T: Real>(&self, piece: Piece<'_, T>, packed: &[T], x: &[T], out: &mut [T]) {
        let member = piece.member;
        let mut activated: Option<Buffer<T>> = None;
        let mut below: &[T] = x;
        let layers = piece.layers.into_iter().chain([out]);
        for (layer, to) in layers.enumerate() {
            let (weight, bias) = self.places(member, layer);
            let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
            let from = activated.as_deref().unwrap_or(below);
            let weight = self.weight(layer).matrix(&packed[weight]);
            let bias = &packed[bias];
            let last = layer + 1 == self.layers();
            let finish = match self.activation {
                Activation::Relu if !last => Finish::BiasRelu(bias),
                _ => Finish::Bias(bias),
            };
            self.multiply((to, outputs), (from, inputs), weight, finish);
            if last {
                return;
            }
            match (self.activation, self.norm_epsilon) {
                (Activation::Relu, None) => {}
                (Activation::Relu, Some(epsilon)) => {
                    let (weight, bias) = self.norm_places(member, layer);
                    let (weight, bias) = (&packed[weight], &packed[bias]);
                    let mut after = Buffer::take(to.len());
                    rows::layer_norm(to, weight, bias, T::of(epsilon), &mut after);
                    activated = Some(after);
                }
                (
                    Activation::Gelu
                    | Activation::GeluTanh
                    | Activation::SquaredRelu
                    | Activation::Mish,
                    _,
                ) => {
                    let mut after = Buffer::take(to.len());
                    rows::activate(self.activation, to, &mut after);
                    activated = Some(after);
                }
            }
            below = to;
        }
    }

    fn forward<T: Real>(&self, x: &[T], packed: &[T], saved: Option<&Saved>) -> Vec<T> {
        let (inputs, outputs) = (self.sizes[0], self.sizes[self.layers()]);
        let count = x.len() / inputs;
        let mut out = vec![T::ZERO; self.members.len() * count * outputs];
        let mut hidden = Buffer::take(self.hidden_numbers(count));
        if count == 0 {
            return out;
        }
        let mut tasks = Vec::new();
        let mut rest = &mut out[..];
        for piece in self.cut(&mut hidden, count, self.piece_rows(count)) {
            let (out, after) = rest.split_at_mut(piece.rows.len() * outputs);
            rest = after;
            tasks.push((piece, out));
        }
        parallel::each(tasks, |(piece, out)| {
            let x = &x[piece.rows.start * inputs..piece.rows.end * inputs];
            self.piece(piece, packed, x, out);
        });
        if let Some(saved) = saved {
            saved.set(hidden);
        }
        out
    }

    /// Gradients of x and, if wanted, of the packed parameters.
    ///
    /// First the gradients of all hidden layers, piece by piece; then those of the parameters, each
    /// from all rows at once and straight to its place.
    fn backward<T: Real>(
        &self,
        (x, packed): (&[T], &[T]),
        hidden: &[T],
        dout: &[T],
        (want_x, want_packed): (bool, bool),
    ) -> (Vec<T>, Vec<T>) {
        let inputs = self.sizes[0];
        let count = x.len() / inputs;
        let mut dx = vec![T::ZERO; if want_x { x.len() } else { 0 }];
        let mut dpacked = vec![T::ZERO; if want_packed { packed.len() } else { 0 }];
        if count == 0 {
            return (dx, dpacked);
        }
        let mut dhidden = Buffer::take(hidden.len());
        let exact = self.keeps_results();
        let mut activated = Buffer::take(if exact { 0 } else { hidden.len() });
        let numbers = if want_x {
            self.members.len() * x.len()
        } else {
            0
        };
        let mut dxs = Buffer::take(numbers);
        let pieces = self.members.len() * count.div_ceil(self.part());
        let mut dnorms = Buffer::zeros(pieces * self.norms_numbers());
        self.backward_hidden(
            (packed, hidden),
            dout,
            (&mut dhidden, &mut activated),
            (&mut dxs, &mut dnorms),
        );
        if want_x {
            dxs.chunks_exact(x.len())
                .for_each(|part| rows::add(&mut dx, part));
        }
        let below = if exact { hidden } else { &activated[..] };
        if want_packed {
            self.backward_parameters((x, below), (&dhidden, dout), &mut dpacked);
            self.sum_norms(&dnorms, pieces, &mut dpacked);
        }
        (dx, dpacked)
    }

    /// Parameters of all norms of a member.
    fn norms_numbers(&self) -> usize {
        (0..self.layers()).map(|l| self.norm_numbers(l)).sum()
    }

    /// Gradients of all norms from those of each piece, member by member: sums in the pieces' order.
    fn sum_norms<T: Real>(&self, dnorms: &[T], pieces: usize, dpacked: &mut [T]) {
        let numbers = self.norms_numbers();
        if numbers == 0 {
            return;
        }
        let of_member = numbers * (pieces / self.members.len());
        for (member, parts) in dnorms.chunks_exact(of_member).enumerate() {
            for part in parts.chunks_exact(numbers) {
                let mut rest = part;
                for layer in 0..self.layers() - 1 {
                    let width = self.sizes[layer + 1];
                    let (weight, bias) = self.norm_places(member, layer);
                    rows::add(&mut dpacked[weight], &rest[..width]);
                    rows::add(&mut dpacked[bias], &rest[width..2 * width]);
                    rest = &rest[2 * width..];
                }
            }
        }
    }

    /// Gradients of the hidden layers before their activation, the layers after it and their norm where
    /// `activated` has room, gradients of x by member (N, B, in) where `dxs` has, and each piece's of the norms.
    fn backward_hidden<T: Real>(
        &self,
        (packed, hidden): (&[T], &[T]),
        dout: &[T],
        (dhidden, activated): (&mut [T], &mut [T]),
        (dxs, dnorms): (&mut [T], &mut [T]),
    ) {
        let (inputs, outputs) = (self.sizes[0], self.sizes[self.layers()]);
        let count = dout.len() / outputs / self.members.len();
        let piece_rows = self.piece_rows(count);
        let pieces = self.cut(dhidden, count, piece_rows);
        let mut activations: Vec<_> = if activated.is_empty() {
            pieces.iter().map(|_| Vec::new()).collect()
        } else {
            self.cut(activated, count, piece_rows)
                .into_iter()
                .map(|p| p.layers)
                .collect()
        };
        let (mut rest, mut dnorms) = (dxs, dnorms);
        let mut tasks = Vec::with_capacity(pieces.len());
        for (piece, activated) in pieces.into_iter().zip(activations.drain(..)) {
            let wanted = if rest.is_empty() {
                0
            } else {
                piece.rows.len() * inputs
            };
            let (dx, after) = std::mem::take(&mut rest).split_at_mut(wanted);
            rest = after;
            let parts = piece.rows.len().div_ceil(self.part());
            let numbers = parts * self.norms_numbers();
            let (dnorm, after) = std::mem::take(&mut dnorms).split_at_mut(numbers);
            dnorms = after;
            tasks.push((piece, activated, dx, dnorm));
        }
        parallel::each(tasks, |(piece, mut activated, dx, dnorm)| {
            let Piece {
                member,
                rows,
                layers,
            } = piece;
            let number = member * count + rows.start;
            let mut upstream = &dout[number * outputs..(number + rows.len()) * outputs];
            let mut scratch = Buffer::take(*self.sizes.iter().max().unwrap_or(&0));
            for (below, to) in layers.into_iter().enumerate().rev() {
                let width = self.sizes[below + 1];
                let kept = self.layer(hidden, count, member, below);
                let kept = &kept[rows.start * width..rows.end * width];
                let finish = match (self.activation, self.norm_epsilon) {
                    (Activation::Relu, None) => Finish::Where(kept),
                    _ => Finish::Store,
                };
                self.through(member, below + 1, upstream, packed, (to, finish));
                match (self.activation, self.norm_epsilon) {
                    (Activation::Relu, None) => {}
                    (Activation::Relu, Some(epsilon)) => {
                        let (weight, bias) = self.norm_places(member, below);
                        let (weight, bias) = (&packed[weight], &packed[bias]);
                        let before: usize = (0..below).map(|l| self.norm_numbers(l)).sum();
                        let (epsilon, y) = (T::of(epsilon), &mut *activated[below]);
                        // Norms have gradients of every part, whatever the pieces.
                        let numbers = self.part() * width;
                        let parts = kept.chunks(numbers).zip(to.chunks_mut(numbers));
                        let parts = parts.zip(y.chunks_mut(numbers));
                        let dnorms = dnorm.chunks_exact_mut(self.norms_numbers());
                        for (((kept, to), y), dnorm) in parts.zip(dnorms) {
                            let of_norm = &mut dnorm[before..before + 2 * width];
                            let (dweight, dbias) = of_norm.split_at_mut(width);
                            rows::relu_layer_norm_backward(
                                kept,
                                weight,
                                bias,
                                epsilon,
                                to,
                                y,
                                dweight,
                                dbias,
                                &mut scratch,
                            );
                        }
                    }
                    (
                        Activation::Gelu
                        | Activation::GeluTanh
                        | Activation::SquaredRelu
                        | Activation::Mish,
                        _,
                    ) => {
                        rows::activate_backward(self.activation, kept, activated[below], to);
                    }
                }
                upstream = to;
            }
            if !dx.is_empty() {
                self.through(member, 0, upstream, packed, (dx, Finish::Store));
            }
        });
    }

    /// to <- the gradient of what a layer was given, from that of its result, finished.
    fn through<T: Real>(
        &self,
        member: usize,
        layer: usize,
        upstream: &[T],
        packed: &[T],
        (to, finish): (&mut [T], Finish<'_, T>),
    ) {
        let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
        let weight = &packed[self.places(member, layer).0];
        if let (1, Finish::Where(kept)) = (outputs, finish) {
            rows::scaled_row_relu_backward(kept, upstream, weight, to);
            return;
        }
        let weight = self.weight(layer).matrix(weight);
        self.multiply((to, inputs), (upstream, outputs), weight.t(), finish);
    }

    /// Gradients of all parameters from x, the hidden layers after their activation, and the
    /// gradients of the layers' results.
    fn backward_parameters<T: Real>(
        &self,
        (x, hidden): (&[T], &[T]),
        (dhidden, dout): (&[T], &[T]),
        dpacked: &mut [T],
    ) {
        let count = x.len() / self.sizes[0];
        let mut tasks = Vec::new();
        let mut rest = dpacked;
        for layer in 0..self.layers() {
            let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
            // Stored rows of the weight: its inputs or its outputs.
            let (stored, width) = if self.inputs_first {
                (inputs, outputs)
            } else {
                (outputs, inputs)
            };
            let skipped = |numbers: usize, rest: &mut &mut [T]| {
                let (_, after) = std::mem::take(rest).split_at_mut(numbers);
                *rest = after;
            };
            let (before, after) = (self.members.start, self.of - self.members.end);
            skipped(before * inputs * outputs, &mut rest);
            for member in 0..self.members.len() {
                let part = self.panel_rows(stored, width);
                for first in (0..stored).step_by(part) {
                    let numbers = (first + part).min(stored) - first;
                    let (to, after) = std::mem::take(&mut rest).split_at_mut(numbers * width);
                    rest = after;
                    tasks.push((layer, member, Some(first), to));
                }
            }
            skipped(after * inputs * outputs + before * outputs, &mut rest);
            for member in 0..self.members.len() {
                let (to, after) = std::mem::take(&mut rest).split_at_mut(outputs);
                rest = after;
                tasks.push((layer, member, None, to));
            }
            skipped(
                after * outputs + self.of * self.norm_numbers(layer),
                &mut rest,
            );
        }
        parallel::each(tasks, |(layer, member, panel, to)| {
            let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
            let upstream = if layer + 1 == self.layers() {
                &dout[member * count * outputs..(member + 1) * count * outputs]
            } else {
                self.layer(dhidden, count, member, layer)
            };
            let Some(first) = panel else {
                rows::add_rows(upstream, to);
                return;
            };
            let below = match layer {
                0 => x,
                _ => self.layer(hidden, count, member, layer - 1),
            };
            let (left, right) = if self.inputs_first {
                ((below, inputs), (upstream, outputs))
            } else {
                ((upstream, outputs), (below, inputs))
            };
            let numbers = to.len() / right.1;
            let left = Matrix::strided(&left.0[first..], (count, numbers), (left.1, 1));
            let to = MatrixMut::rows(to, numbers, right.1);
            let right = Matrix::rows(right.0, count, right.1);
            multiply_then(to, left.t(), right, Finish::Store);
        });
    }
}

/// Some rows of one member, and its hidden layers there.
struct Piece<'a, T> {
    member: usize,
    rows: std::ops::Range<usize>,
    layers: Vec<&'a mut [T]>,
}

struct Operation {
    settings: Mlps,
    saved: Option<Saved>,
}

impl Operation {
    fn gradients<T: Real>(
        &self,
        x: &Tensor,
        packed: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = &self.saved else {
            bail!("the forward pass kept nothing")
        };
        let gradient = gradient.contiguous()?;
        let wanted = (x.track_op(), packed.track_op());
        let (dx, dpacked) = with_slice::<T, _>(x, |x| {
            with_slice::<T, _>(packed, |packed| {
                with_slice::<T, _>(&gradient, |dout| {
                    saved.with(|hidden: &Buffer<T>| {
                        Ok(self.settings.backward((x, packed), hidden, dout, wanted))
                    })
                })
            })
        })?;
        tensors_of((dx, x), (dpacked, packed))
    }
}

impl CustomOp2 for Operation {
    fn name(&self) -> &'static str {
        "mlps"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, _) = l1.shape().dims2()?;
        let (settings, saved) = (&self.settings, self.saved.as_ref());
        let out = match s1 {
            CpuStorage::F32(_) => {
                CpuStorage::F32(settings.forward(slice(s1, l1)?, slice(s2, l2)?, saved))
            }
            CpuStorage::F64(_) => {
                CpuStorage::F64(settings.forward(slice(s1, l1)?, slice(s2, l2)?, saved))
            }
            _ => bail!("the MLP kernel handles f32 and f64"),
        };
        let outputs = settings.sizes[settings.layers()];
        Ok((out, Shape::from((settings.members.len(), rows, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::F32 => self.gradients::<f32>(x, packed, gradient),
            _ => self.gradients::<f64>(x, packed, gradient),
        }
    }
}
