//! Values of perceptrons with ReLU and one output, N side by side, and the gradients of these values with respect to
//! the last inputs, as one operation that is differentiable with respect to the parameters.
//!
//! With masks D of the ReLUs, h the hidden layers, W the weights (in, out) and w the last:
//!
//! ```text
//! u_L = D_L w,  u_l = D_l (u_{l+1} W_{l+1}ᵀ),  slopes = u_1 W_1ᵀ
//! ```
//!
//! The masks don't change with the parameters, so a gradient ds of the slopes passes forwards through the same
//! layers: t_0 = ds, t_l = D_l (t_{l-1} W_l). The gradient of what the ReLU l is given is u_l times that of
//! the value, dq. So both share one product per weight: dW_l = (dq h_{l-1} + t_{l-1})ᵀ u_l.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::{Mlps, Piece};
use crate::kernels::dispatch::vectorized;
use crate::kernels::packed::Saved;
use crate::kernels::parallel;
use crate::kernels::pool::Buffer;
use crate::kernels::product::{Finish, Matrix, MatrixMut, multiply, multiply_then};
use crate::kernels::real::Real;
use crate::kernels::rows;
use crate::kernels::storage::{slice, with_slice};

/// Settings of the operation.
#[derive(Debug, Clone)]
pub struct MlpSlopes {
    /// The perceptrons: ReLU without norms, one output, at least one hidden layer, weights (in, out).
    pub mlps: Mlps,
    /// Number of inputs, the last ones, with respect to which gradients are taken.
    pub inputs: usize,
}

impl MlpSlopes {
    /// (N, B, 1 + inputs) of x (B, in), which is a constant, and the packed parameters: a value and its slopes.
    ///
    /// # Errors
    /// If they are not contiguous CPU tensors of fitting size, both f32 or both f64.
    pub fn apply(self, x: &Tensor, packed: &Tensor) -> Result<Tensor> {
        let (_, inputs) = x.dims2()?;
        let mlps = &self.mlps;
        let ends_fit = mlps.sizes.first() == Some(&inputs) && mlps.sizes.last() == Some(&1);
        if !ends_fit
            || mlps.layers() < 2
            || mlps.norm_epsilon.is_some()
            || !(1..=inputs).contains(&self.inputs)
            || !mlps.inputs_first
            || packed.elem_count() != mlps.parameters()
        {
            bail!("{self:?} for {:?}, {:?}", x.dims(), packed.dims());
        }
        let x = x.detach().contiguous()?;
        let saved = packed.track_op().then(Saved::empty);
        if saved.is_some() {
            x.apply_op2(
                packed,
                Operation {
                    settings: self,
                    saved,
                },
            )
        } else {
            x.apply_op2_no_bwd(
                packed,
                &Operation {
                    settings: self,
                    saved,
                },
            )
        }
    }

    /// The last inputs' part (inputs, out) of the first layer's weight.
    fn first_weight<'a, T>(&self, member: usize, packed: &'a [T]) -> Matrix<'a, T> {
        let (inputs, outputs) = (self.mlps.sizes[0], self.mlps.sizes[1]);
        let weight = &packed[self.mlps.places(member, 0).0];
        let part = &weight[(inputs - self.inputs) * outputs..];
        Matrix::rows(part, self.inputs, outputs)
    }

    /// Hidden layers and then all u, which the backward pass wants, are kept.
    fn forward<T: Real>(&self, x: &[T], packed: &[T], saved: Option<&Saved>) -> Vec<T> {
        let (mlps, inputs, width) = (&self.mlps, self.mlps.sizes[0], 1 + self.inputs);
        let count = x.len() / inputs;
        let mut out = vec![T::ZERO; mlps.members.len() * count * width];
        let numbers = mlps.hidden_numbers(count);
        let mut kept = Buffer::take(2 * numbers);
        let (hidden, slopes) = kept.split_at_mut(numbers);
        let mut tasks = Vec::new();
        let mut rest = &mut out[..];
        let slopes = mlps.cut(slopes, count, mlps.part());
        for (hidden, slopes) in mlps.cut(hidden, count, mlps.part()).into_iter().zip(slopes) {
            let (out, after) = rest.split_at_mut(hidden.rows.len() * width);
            rest = after;
            tasks.push((hidden, slopes.layers, out));
        }
        parallel::each(tasks, |(hidden, slopes, out)| {
            let x = &x[hidden.rows.start * inputs..hidden.rows.end * inputs];
            self.piece(hidden, slopes, (x, packed), out);
        });
        if let Some(saved) = saved {
            saved.set(kept);
        }
        out
    }

    /// One piece of rows through one member and back.
    fn piece<T: Real>(
        &self,
        mut hidden: Piece<'_, T>,
        slopes: Vec<&mut [T]>,
        (x, packed): (&[T], &[T]),
        out: &mut [T],
    ) {
        let (mlps, member, count) = (&self.mlps, hidden.member, hidden.rows.len());
        let mut values = Buffer::take(count);
        let again = Piece {
            member,
            rows: hidden.rows.clone(),
            layers: hidden.layers.iter_mut().map(|layer| &mut **layer).collect(),
        };
        mlps.piece(again, packed, x, &mut values);
        let mut above: Option<&[T]> = None;
        for (layer, to) in slopes.into_iter().enumerate().rev() {
            let kept = &*hidden.layers[layer];
            match above {
                // The last weight is (out, 1).
                None => {
                    repeat(&packed[mlps.places(member, layer + 1).0], to);
                    rows::relu_backward(kept, to);
                }
                Some(above) => {
                    let to = (&mut *to, Finish::Where(kept));
                    mlps.through(member, layer + 1, above, packed, to);
                }
            }
            above = Some(to);
        }
        let width = 1 + self.inputs;
        for (out, value) in out.chunks_exact_mut(width).zip(values.iter()) {
            out[0] = *value;
        }
        if let (Some(lowest), false) = (above, count == 0) {
            let to = MatrixMut::strided(&mut out[1..], (count, self.inputs), (width, 1));
            let lowest = Matrix::rows(lowest, count, mlps.sizes[1]);
            multiply(to, lowest, self.first_weight(member, packed).t());
        }
    }

    /// Gradients of the packed parameters.
    fn backward<T: Real>(&self, (x, packed): (&[T], &[T]), kept: &[T], dout: &[T]) -> Vec<T> {
        let (mlps, inputs, width) = (&self.mlps, self.mlps.sizes[0], 1 + self.inputs);
        let (count, members) = (x.len() / inputs, mlps.members.len());
        let mut dpacked = vec![T::ZERO; packed.len()];
        if count == 0 {
            return dpacked;
        }
        let (hidden, slopes) = kept.split_at(kept.len() / 2);
        let dvalues: Vec<T> = dout.chunks_exact(width).map(|row| row[0]).collect(); // (N, B)
        // dq h + t, of the input and of every hidden layer.
        let mut lowest = Buffer::take(members * count * inputs);
        let mut mixed = Buffer::take(hidden.len());
        let mut rest = &mut lowest[..];
        let mut tasks = Vec::new();
        for piece in mlps.cut(&mut mixed, count, mlps.part()) {
            let (lowest, after) = std::mem::take(&mut rest).split_at_mut(piece.rows.len() * inputs);
            rest = after;
            tasks.push((piece, lowest));
        }
        parallel::each(tasks, |(piece, lowest)| {
            let first = piece.member * count + piece.rows.start;
            let rows = first..first + piece.rows.len();
            let dout = &dout[rows.start * width..rows.end * width];
            self.mix(piece, lowest, (x, packed, hidden), (&dvalues[rows], dout));
        });
        let ones = vec![T::ONE; count];
        parallel::each(
            self.parameter_tasks(&mut dpacked),
            |(layer, member, first, to)| {
                let (inputs, outputs) = (mlps.sizes[layer], mlps.sizes[layer + 1]);
                let dvalues = &dvalues[member * count..(member + 1) * count];
                // The last layer's u is 1.
                let upstream = if layer + 1 == mlps.layers() {
                    &ones[..]
                } else {
                    mlps.layer(slopes, count, member, layer)
                };
                let upstream = Matrix::rows(upstream, count, outputs);
                let Some(first) = first else {
                    let dvalues = Matrix::rows(dvalues, 1, count);
                    multiply(MatrixMut::rows(to, 1, outputs), dvalues, upstream);
                    return;
                };
                let below = match layer {
                    0 => &lowest[member * count * inputs..(member + 1) * count * inputs],
                    _ => mlps.layer(&mixed, count, member, layer - 1),
                };
                let numbers = to.len() / outputs;
                let below = Matrix::strided(&below[first..], (count, numbers), (inputs, 1));
                multiply(MatrixMut::rows(to, numbers, outputs), below.t(), upstream);
            },
        );
        dpacked
    }

    /// Cuts gradients of the packed parameters into tasks: layer, member, the first row of a part of the weight, or
    /// none for the bias, and its place.
    fn parameter_tasks<'a, T>(
        &self,
        mut rest: &'a mut [T],
    ) -> Vec<(usize, usize, Option<usize>, &'a mut [T])> {
        let mlps = &self.mlps;
        let mut tasks = Vec::new();
        let mut take = |numbers: usize| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(numbers);
            rest = after;
            part
        };
        let (before, after) = (mlps.members.start, mlps.of - mlps.members.end);
        for layer in 0..mlps.layers() {
            let (inputs, outputs) = (mlps.sizes[layer], mlps.sizes[layer + 1]);
            take(before * inputs * outputs);
            for member in 0..mlps.members.len() {
                for first in (0..inputs).step_by(mlps.part()) {
                    let numbers = (first + mlps.part()).min(inputs) - first;
                    tasks.push((layer, member, Some(first), take(numbers * outputs)));
                }
            }
            take(after * inputs * outputs + before * outputs);
            for member in 0..mlps.members.len() {
                tasks.push((layer, member, None, take(outputs)));
            }
            take(after * outputs);
        }
        tasks
    }

    /// dq h + t of one piece: of the input to `lowest`, of the hidden layers to the piece.
    fn mix<T: Real>(
        &self,
        piece: Piece<'_, T>,
        lowest: &mut [T],
        (x, packed, hidden): (&[T], &[T], &[T]),
        (dvalues, dout): (&[T], &[T]),
    ) {
        let (mlps, member) = (&self.mlps, piece.member);
        let (inputs, width, count) = (mlps.sizes[0], 1 + self.inputs, dvalues.len());
        let all = x.len() / inputs;
        let x = &x[piece.rows.start * inputs..piece.rows.end * inputs];
        let rows = lowest.chunks_exact_mut(inputs).zip(x.chunks_exact(inputs));
        for ((to, x), dout) in rows.zip(dout.chunks_exact(width)) {
            for (to, x) in to.iter_mut().zip(x) {
                *to = *x * dout[0];
            }
            rows::add(&mut to[inputs - self.inputs..], &dout[1..]);
        }
        let dslopes = Matrix::strided(&dout[1..], (count, self.inputs), (width, 1));
        let mut tangent = Buffer::take(count * mlps.sizes[1]);
        let kept = |layer: usize| {
            let (kept, width) = (
                mlps.layer(hidden, all, member, layer),
                mlps.sizes[layer + 1],
            );
            &kept[piece.rows.start * width..piece.rows.end * width]
        };
        let to = MatrixMut::rows(&mut tangent, count, mlps.sizes[1]);
        let weight = self.first_weight(member, packed);
        multiply_then(to, dslopes, weight, Finish::Where(kept(0)));
        for (layer, to) in piece.layers.into_iter().enumerate() {
            let (hidden, outputs) = (kept(layer), mlps.sizes[layer + 1]);
            if layer > 0 {
                let inputs = mlps.sizes[layer];
                let mut next = Buffer::take(count * outputs);
                let weight = &packed[mlps.places(member, layer).0];
                let weight = mlps.weight(layer).matrix(weight);
                let from = Matrix::rows(&tangent, count, inputs);
                let to = MatrixMut::rows(&mut next, count, outputs);
                multiply_then(to, from, weight, Finish::Where(hidden));
                tangent = next;
            }
            scale_rows_and_add(hidden, dvalues, &tangent, to);
        }
    }
}

/// Every row of `to` <- row.
fn repeat<T: Real>(row: &[T], to: &mut [T]) {
    for to in to.chunks_exact_mut(row.len()) {
        to.copy_from_slice(row);
    }
}

vectorized! {
    /// to <- each row of x times its scale, plus that of y.
    fn scale_rows_and_add<T: Real>(x: &[T], scales: &[T], y: &[T], to: &mut [T]) {
        let width = (to.len() / scales.len().max(1)).max(1);
        let rows = to.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for (((to, x), y), scale) in rows.zip(y.chunks_exact(width)).zip(scales) {
            for ((to, x), y) in to.iter_mut().zip(x).zip(y) {
                *to = x.mul_add(*scale, *y);
            }
        }
    }
}

struct Operation {
    settings: MlpSlopes,
    saved: Option<Saved>,
}

impl Operation {
    fn gradient<T: Real>(&self, x: &Tensor, packed: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let Some(saved) = &self.saved else {
            bail!("the forward pass kept nothing")
        };
        let gradient = gradient.contiguous()?;
        let dpacked = with_slice::<T, _>(x, |x| {
            with_slice::<T, _>(packed, |packed| {
                with_slice::<T, _>(&gradient, |dout| {
                    saved.with(|kept: &Buffer<T>| {
                        Ok(self.settings.backward((x, packed), kept, dout))
                    })
                })
            })
        })?;
        Tensor::from_vec(dpacked, packed.shape(), packed.device())
    }
}

impl CustomOp2 for Operation {
    fn name(&self) -> &'static str {
        "mlp-slopes"
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
        let members = settings.mlps.members.len();
        Ok((out, Shape::from((members, rows, 1 + settings.inputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dpacked = match x.dtype() {
            DType::F32 => self.gradient::<f32>(x, packed, gradient)?,
            _ => self.gradient::<f64>(x, packed, gradient)?,
        };
        Ok((None, Some(dpacked)))
    }
}
