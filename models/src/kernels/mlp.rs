//! Whole multilayer perceptrons, N side by side, as one operation.
//!
//! Every member sees the same rows. Work is cut into members and pieces of rows; each piece runs
//! through all layers while it is in the cache. Hidden layers before their activation are kept for
//! the backward pass.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::packed::{Saved, Weight, tensors_of};
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut, multiply, multiply_add};
use super::real::Real;
use super::rows;
use super::storage::{slice, with_slice};
use crate::activation::Activation;

/// Rows of one piece.
const PIECE: usize = 128;
/// Largest number of pieces per member that have partial sums of their own in the backward pass.
const TASKS: usize = 8;

/// Settings of the operation.
#[derive(Debug, Clone)]
pub struct Mlps {
    /// N.
    pub members: usize,
    /// Widths from input to output.
    pub sizes: Vec<usize>,
    /// Activation after each layer but the last.
    pub activation: Activation,
    /// Whether weights are stored as (in, out) or (out, in).
    pub inputs_first: bool,
}

impl Mlps {
    /// (N, B, out) of x (B, in) and the packed parameters: for each layer the weights of all members
    /// and then the biases of all members.
    ///
    /// # Errors
    /// If they are not contiguous CPU tensors of fitting size, both f32 or both f64.
    pub fn apply(self, x: &Tensor, packed: &Tensor) -> Result<Tensor> {
        let (_, inputs) = x.dims2()?;
        if self.sizes.first() != Some(&inputs) || packed.elem_count() != self.parameters() {
            bail!(
                "{:?} for inputs {:?}, parameters {:?}",
                self,
                x.dims(),
                packed.dims()
            );
        }
        let x = x.contiguous()?;
        match x.track_op() || packed.track_op() {
            true => x.apply_op2(
                packed,
                Operation {
                    settings: self,
                    saved: Some(Saved::empty()),
                },
            ),
            false => x.apply_op2_no_bwd(
                packed,
                &Operation {
                    settings: self,
                    saved: None,
                },
            ),
        }
    }

    fn layers(&self) -> usize {
        self.sizes.len() - 1
    }

    fn parameters(&self) -> usize {
        self.sizes
            .windows(2)
            .map(|pair| self.members * (pair[0] + 1) * pair[1])
            .sum()
    }

    fn weight(&self, layer: usize) -> Weight {
        Weight::new(self.sizes[layer], self.sizes[layer + 1], self.inputs_first)
    }

    /// Places of a member's weight and bias of a layer among the packed parameters.
    fn places(
        &self,
        member: usize,
        layer: usize,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let size = |pair: &[usize]| self.members * (pair[0] + 1) * pair[1];
        let before: usize = self.sizes.windows(2).take(layer).map(size).sum();
        let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
        let weight = before + member * inputs * outputs;
        let bias = before + self.members * inputs * outputs + member * outputs;
        (weight..weight + inputs * outputs, bias..bias + outputs)
    }

    /// Numbers that all hidden layers of one row take.
    fn hidden_width(&self) -> usize {
        self.sizes[1..self.layers()].iter().sum()
    }

    /// One piece of rows through one member; hidden layers go to `hidden`, one after the other.
    fn piece<T: Real>(
        &self,
        member: usize,
        packed: &[T],
        x: &[T],
        hidden: &mut [T],
        out: &mut [T],
    ) {
        let count = x.len() / self.sizes[0];
        let mut input = Buffer::take(x.len());
        input.copy_from_slice(x);
        let mut rest = hidden;
        for layer in 0..self.layers() {
            let (weight, bias) = self.places(member, layer);
            let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
            let last = layer + 1 == self.layers();
            let to = match last {
                true => &mut *out,
                false => {
                    let (to, after) = std::mem::take(&mut rest).split_at_mut(count * outputs);
                    rest = after;
                    to
                }
            };
            let from = Matrix::rows(&input, count, inputs);
            let weight = self.weight(layer).matrix(&packed[weight]);
            multiply(MatrixMut::rows(to, count, outputs), from, weight);
            rows::add_bias(to, &packed[bias]);
            if !last {
                input = Buffer::take(to.len());
                rows::activate(self.activation, to, &mut input);
            }
        }
    }

    fn forward<T: Real>(&self, x: &[T], packed: &[T], saved: Option<&Saved>) -> Vec<T> {
        let (inputs, outputs) = (self.sizes[0], self.sizes[self.layers()]);
        let count = x.len() / inputs;
        let mut out = vec![T::ZERO; self.members * count * outputs];
        let mut hidden = Buffer::take(self.members * count * self.hidden_width());
        if count == 0 {
            return out;
        }
        let hiddens = cut(&mut hidden, self.members, count, self.hidden_width());
        let outs = cut(&mut out, self.members, count, outputs);
        let tasks: Vec<_> = hiddens.into_iter().zip(outs).collect();
        tasks
            .into_par_iter()
            .for_each(|((member, rows, hidden), (_, _, out))| {
                let x = &x[rows.start * inputs..rows.end * inputs];
                self.piece(member, packed, x, hidden, out);
            });
        if let Some(saved) = saved {
            saved.set(hidden);
        }
        out
    }

    /// Gradients of x and, if wanted, of the packed parameters.
    fn backward<T: Real>(
        &self,
        (x, packed): (&[T], &[T]),
        hidden: &[T],
        dout: &[T],
        (want_x, want_packed): (bool, bool),
    ) -> (Vec<T>, Vec<T>) {
        let (inputs, outputs) = (self.sizes[0], self.sizes[self.layers()]);
        let count = x.len() / inputs;
        let task_rows = count.div_ceil(TASKS).next_multiple_of(PIECE);
        let tasks: Vec<(usize, usize)> = (0..self.members)
            .flat_map(|member| (0..count).step_by(task_rows).map(move |row| (member, row)))
            .collect();
        let results = tasks.par_iter().map(|&(member, first)| {
            let last = (first + task_rows).min(count);
            let wide = if want_packed {
                packed.len() / self.members
            } else {
                0
            };
            let mut dpacked = Buffer::zeros(wide);
            let mut dx = Buffer::take(if want_x { (last - first) * inputs } else { 0 });
            for start in (first..last).step_by(PIECE) {
                let end = (start + PIECE).min(last);
                let row = member * count + start;
                let hidden = &hidden[row * self.hidden_width()..];
                let dout = &dout[row * outputs..(row + end - start) * outputs];
                let x = &x[start * inputs..end * inputs];
                let dx = match want_x {
                    true => Some(&mut dx[(start - first) * inputs..(end - first) * inputs]),
                    false => None,
                };
                let dpacked = want_packed.then_some(&mut *dpacked);
                self.piece_backward(member, (x, packed), (hidden, dout), dx, dpacked);
            }
            (dpacked, dx)
        });
        let results: Vec<_> = results.collect();
        let mut dx = vec![T::ZERO; if want_x { x.len() } else { 0 }];
        let mut dpacked = vec![T::ZERO; if want_packed { packed.len() } else { 0 }];
        for ((member, first), (part, rows_part)) in tasks.iter().zip(&results) {
            if want_x {
                rows::add(
                    &mut dx[first * inputs..first * inputs + rows_part.len()],
                    rows_part,
                );
            }
            if want_packed {
                self.add_member(*member, part, &mut dpacked);
            }
        }
        (dx, dpacked)
    }

    /// Adds the gradients of one member's parameters, layer by layer, to those of all.
    fn add_member<T: Real>(&self, member: usize, part: &[T], dpacked: &mut [T]) {
        let mut rest = part;
        for layer in 0..self.layers() {
            let (weight, bias) = self.places(member, layer);
            for place in [weight, bias] {
                let (part, after) = rest.split_at(place.len());
                rest = after;
                rows::add(&mut dpacked[place], part);
            }
        }
    }

    /// Backward of [`Self::piece`]; `dpacked` holds this member's parameters only, layer by layer.
    fn piece_backward<T: Real>(
        &self,
        member: usize,
        (x, packed): (&[T], &[T]),
        (hidden, dout): (&[T], &[T]),
        dx: Option<&mut [T]>,
        mut dpacked: Option<&mut [T]>,
    ) {
        let count = x.len() / self.sizes[0];
        let mut dlayer = Buffer::take(dout.len());
        dlayer.copy_from_slice(dout);
        let mut dx = dx;
        for layer in (0..self.layers()).rev() {
            let (inputs, outputs) = (self.sizes[layer], self.sizes[layer + 1]);
            let first: usize = self.sizes[1..layer.max(1)].iter().sum();
            let before = match layer {
                0 => x,
                _ => &hidden[count * first..count * (first + inputs)],
            };
            let upstream = Matrix::rows(&dlayer, count, outputs);
            let (weight, _) = self.places(member, layer);
            let mut dbefore = Buffer::take(before.len());
            if layer > 0 || dx.is_some() {
                let weight = self.weight(layer).matrix(&packed[weight]);
                multiply(
                    MatrixMut::rows(&mut dbefore, count, inputs),
                    upstream,
                    weight.t(),
                );
            }
            let mut input = Buffer::take(before.len());
            match layer {
                0 => input.copy_from_slice(before),
                _ => rows::activate_backward(self.activation, before, &mut input, &mut dbefore),
            }
            if let Some(dpacked) = dpacked.as_deref_mut() {
                let size = |pair: &[usize]| (pair[0] + 1) * pair[1];
                let first: usize = self.sizes.windows(2).take(layer).map(size).sum();
                let (dweight, rest) = dpacked[first..].split_at_mut(inputs * outputs);
                let input = Matrix::rows(&input, count, inputs);
                multiply_add(self.weight(layer).matrix_mut(dweight), input.t(), upstream);
                rows::add_rows(&dlayer, &mut rest[..outputs]);
            }
            if layer == 0
                && let Some(dx) = dx.as_deref_mut()
            {
                dx.copy_from_slice(&dbefore);
            }
            dlayer = dbefore;
        }
    }
}

/// A piece of one member's rows: member, rows, numbers.
type Piece<'a, T> = (usize, std::ops::Range<usize>, &'a mut [T]);

/// Cuts (members, rows, width) into pieces of rows.
fn cut<T>(data: &mut [T], members: usize, rows: usize, width: usize) -> Vec<Piece<'_, T>> {
    let mut rest = data;
    let mut pieces = Vec::new();
    for member in 0..members {
        for start in (0..rows).step_by(PIECE) {
            let end = (start + PIECE).min(rows);
            let (piece, after) = std::mem::take(&mut rest).split_at_mut((end - start) * width);
            rest = after;
            pieces.push((member, start..end, piece));
        }
    }
    pieces
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
        Ok((out, Shape::from((settings.members, rows, outputs))))
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
