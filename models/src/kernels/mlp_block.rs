//! The second half of a transformer block as one operation: `y = x + dropout(mlp(norm(x)))`.
//!
//! Rows are worked on in pieces that stay in the cache; only the hidden layer before its activation
//! is kept for the backward pass. Parameters come packed in one vector, see [`MlpBlock::apply`].

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::block::{self, Block};
use super::packed::{Saved, Weight, sum_in_order};
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut, multiply, multiply_add};
use super::real::Real;
use super::rows;
use crate::activation::Activation;
use crate::dropout::DropoutMask;

/// Most rows whose activations are in the cache together.
const PIECE: usize = 256;
/// Tasks of the backward pass, each with parameter gradients of its own.
const TASKS: usize = 8;

/// Rows per piece: at most [`PIECE`], and so many pieces that two, four or eight threads get equal
/// shares of a large batch.
fn piece_rows(rows: usize) -> usize {
    let pieces = rows.div_ceil(PIECE);
    let even = if pieces > 2 {
        pieces.next_multiple_of(4)
    } else {
        pieces
    };
    rows.div_ceil(even.max(1)).max(1)
}

/// Settings of the operation.
#[derive(Debug, Clone)]
pub struct MlpBlock {
    /// Width of x.
    pub width: usize,
    /// Width of the hidden layer.
    pub inner: usize,
    /// Its activation.
    pub activation: Activation,
    /// Epsilon of the norm.
    pub epsilon: f64,
    /// Whether weights are stored as (in, out), as in GPT-2, or (out, in), as in PyTorch's Linear.
    pub inputs_first: bool,
    /// Dropout of what is added.
    pub dropout: Option<DropoutMask>,
}

/// The parameters in the order in which they are packed, all flat.
struct Parts<'a, T> {
    norm_weight: &'a [T],
    norm_bias: &'a [T],
    hidden: &'a [T],
    hidden_bias: &'a [T],
    output: &'a [T],
    output_bias: &'a [T],
}

impl MlpBlock {
    /// y of x (.., width) and the packed parameters: norm weight, norm bias, hidden weight, hidden
    /// bias, output weight, output bias.
    ///
    /// # Errors
    /// If x or the parameters are not contiguous CPU tensors of fitting size, both f32 or both f64.
    pub fn apply(self, x: &Tensor, packed: &Tensor) -> Result<Tensor> {
        block::apply(self, x, packed)
    }

    fn hidden_weight(&self) -> Weight {
        Weight::new(self.width, self.inner, self.inputs_first)
    }

    fn output_weight(&self) -> Weight {
        Weight::new(self.inner, self.width, self.inputs_first)
    }

    fn sizes(&self) -> [usize; 6] {
        let (width, inner) = (self.width, self.inner);
        [width, width, width * inner, inner, inner * width, width]
    }

    fn parts<'a, T>(&self, packed: &'a [T]) -> Result<Parts<'a, T>> {
        let [
            norm_weight,
            norm_bias,
            hidden,
            hidden_bias,
            output,
            output_bias,
        ] = super::packed::split(packed, self.sizes())?;
        Ok(Parts {
            norm_weight,
            norm_bias,
            hidden,
            hidden_bias,
            output,
            output_bias,
        })
    }

    /// One piece of rows: y from x, leaving the hidden layer before its activation in `hidden`.
    fn piece<T: Real>(
        &self,
        parts: &Parts<'_, T>,
        (first, x): (usize, &[T]),
        hidden: &mut [T],
        y: &mut [T],
    ) {
        let (width, inner) = (self.width, self.inner);
        let count = x.len() / width;
        let mut normal = Buffer::take(x.len());
        let epsilon = T::of(self.epsilon);
        rows::layer_norm(x, parts.norm_weight, parts.norm_bias, epsilon, &mut normal);
        let weight = self.hidden_weight().matrix(parts.hidden);
        let normal = Matrix::rows(&normal, count, width);
        multiply(MatrixMut::rows(hidden, count, inner), normal, weight);
        rows::add_bias(hidden, parts.hidden_bias);
        let mut activated = Buffer::take(hidden.len());
        rows::activate(self.activation, hidden, &mut activated);
        let activated = Matrix::rows(&activated, count, inner);
        let weight = self.output_weight().matrix(parts.output);
        multiply(MatrixMut::rows(y, count, width), activated, weight);
        rows::add_bias(y, parts.output_bias);
        rows::drop_out(self.dropout, first, width, y);
        rows::add(y, x);
    }

    /// Gradients of x and of the packed parameters.
    fn gradients<T: Real>(
        &self,
        x: &[T],
        packed: &[T],
        hidden: &[T],
        dy: &[T],
    ) -> Result<(Vec<T>, Vec<T>)> {
        let parts = self.parts(packed)?;
        let (width, inner) = (self.width, self.inner);
        let mut dx = dy.to_vec();
        let task = (x.len() / width).div_ceil(TASKS).max(1);
        let piece = task.div_ceil(task.div_ceil(PIECE));
        let tasks = dx
            .par_chunks_mut(task * width)
            .zip(x.par_chunks(task * width));
        let tasks = tasks.zip(
            dy.par_chunks(task * width)
                .zip(hidden.par_chunks(task * inner)),
        );
        let partial = tasks.enumerate().map(|(i, ((dx, x), (dy, hidden)))| {
            let mut dpacked = Buffer::zeros(packed.len());
            let pieces = dx.chunks_mut(piece * width).zip(x.chunks(piece * width));
            let pieces = pieces.zip(dy.chunks(piece * width).zip(hidden.chunks(piece * inner)));
            for (j, ((dx, x), (dy, hidden))) in pieces.enumerate() {
                let first = i * task + j * piece;
                self.piece_backward(&parts, (first, x), (hidden, dy), dx, &mut dpacked)?;
            }
            Ok(dpacked)
        });
        let partial = partial.collect::<Result<Vec<_>>>()?;
        Ok((dx, sum_in_order(partial, packed.len())))
    }

    fn piece_backward<T: Real>(
        &self,
        parts: &Parts<'_, T>,
        (first, x): (usize, &[T]),
        (hidden, dy): (&[T], &[T]),
        dx: &mut [T],
        dpacked: &mut [T],
    ) -> Result<()> {
        let (width, inner) = (self.width, self.inner);
        let count = x.len() / width;
        let [
            dnorm_weight,
            dnorm_bias,
            dhidden_weight,
            dhidden_bias,
            doutput,
            doutput_bias,
        ] = super::packed::split_mut(dpacked, self.sizes())?;
        let mut dout = Buffer::take(dy.len());
        dout.copy_from_slice(dy);
        rows::drop_out(self.dropout, first, width, &mut dout);
        rows::add_rows(&dout, doutput_bias);
        let dout = Matrix::rows(&dout, count, width);

        let mut dhidden = Buffer::take(hidden.len());
        let output = self.output_weight();
        let to = MatrixMut::rows(&mut dhidden, count, inner);
        multiply(to, dout, output.matrix(parts.output).t());
        let mut activated = Buffer::take(hidden.len());
        rows::activate_backward(self.activation, hidden, &mut activated, &mut dhidden);
        let activated = Matrix::rows(&activated, count, inner);
        multiply_add(output.matrix_mut(doutput), activated.t(), dout);
        rows::add_rows(&dhidden, dhidden_bias);

        let mut normal = Buffer::take(x.len());
        let epsilon = T::of(self.epsilon);
        rows::layer_norm(x, parts.norm_weight, parts.norm_bias, epsilon, &mut normal);
        let weight = self.hidden_weight();
        let dhidden = Matrix::rows(&dhidden, count, inner);
        let normal_matrix = Matrix::rows(&normal, count, width);
        multiply_add(
            weight.matrix_mut(dhidden_weight),
            normal_matrix.t(),
            dhidden,
        );
        let to = MatrixMut::rows(&mut normal, count, width);
        multiply(to, dhidden, weight.matrix(parts.hidden).t());
        rows::layer_norm_backward(
            x,
            parts.norm_weight,
            epsilon,
            &normal,
            dx,
            dnorm_weight,
            dnorm_bias,
            &mut Buffer::take(2 * width),
        );
        Ok(())
    }
}

impl Block for MlpBlock {
    const NAME: &'static str = "mlp-block";

    fn forward<T: Real>(&self, x: &[T], packed: &[T], saved: Option<&Saved>) -> Result<Vec<T>> {
        let parts = self.parts(packed)?;
        let (width, inner) = (self.width, self.inner);
        let mut y = vec![T::ZERO; x.len()];
        let piece = piece_rows(x.len() / width);
        let pieces = y
            .par_chunks_mut(piece * width)
            .zip(x.par_chunks(piece * width))
            .enumerate();
        match saved {
            None => pieces.for_each(|(i, (y, x))| {
                let mut hidden = Buffer::take(x.len() / width * inner);
                self.piece(&parts, (i * piece, x), &mut hidden, y);
            }),
            Some(saved) => {
                let mut hidden = Buffer::take(x.len() / width * inner);
                let hiddens = hidden.par_chunks_mut(piece * inner);
                pieces
                    .zip(hiddens)
                    .for_each(|((i, (y, x)), h)| self.piece(&parts, (i * piece, x), h, y));
                saved.set(vec![hidden]);
            }
        }
        Ok(y)
    }

    fn backward<T: Real>(
        &self,
        x: &[T],
        packed: &[T],
        saved: &Saved,
        dy: &[T],
    ) -> Result<(Vec<T>, Vec<T>)> {
        saved.with(|kept: &Vec<Buffer<T>>| self.gradients(x, packed, &kept[0], dy))
    }
}
