//! The second half of a transformer block as one operation: `y = x + dropout(mlp(norm(x)))`.
//!
//! A thread works on rows in pieces that stay in its cache, or all share larger ones ([`Spread`]); only the hidden layer before its
//! activation is kept for the backward pass. Parameters come packed in one vector, see [`MlpBlock::apply`].

use candle_core::{Result, Tensor};

use super::block::{self, Block};
use super::layer_norm::Norm;
use super::packed::{Saved, Weight};
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut};
use super::real::Real;
use super::spread::Spread;
use super::{gate, rows};
use crate::activation::Activation;
use crate::dropout::DropoutMask;
use crate::gpt::HiddenLayer;
use crate::norm::NormKind;

/// Most rows whose activations are in a thread's cache together.
const PIECE: usize = 256;
/// Tasks of the backward pass, one thread's each, with parameter gradients of their own.
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
    /// Its activation, where it has no gates.
    pub activation: Activation,
    /// Whether it has gates.
    pub hidden: HiddenLayer,
    /// The norm.
    pub norm: NormKind,
    /// Its epsilon.
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
    /// y of x (.., width) and the packed parameters: norm weight, norm bias if it has one, hidden weight (with that of
    /// the gates after it on the output side), hidden bias, output weight, output bias.
    ///
    /// # Errors
    /// If x or the parameters are not contiguous CPU tensors of fitting size, both f32 or both f64.
    pub fn apply(self, x: &Tensor, packed: &Tensor) -> Result<Tensor> {
        block::apply(self, x, packed)
    }

    fn hidden_weight(&self) -> Weight {
        Weight::new(self.width, self.wide(), self.inputs_first)
    }

    /// Numbers of a row before the activation: the hidden layer, with gates twice as many.
    fn wide(&self) -> usize {
        match self.hidden {
            HiddenLayer::Plain => self.inner,
            HiddenLayer::SwiGlu => 2 * self.inner,
        }
    }

    fn output_weight(&self) -> Weight {
        Weight::new(self.inner, self.width, self.inputs_first)
    }

    fn sizes(&self) -> [usize; 6] {
        let (width, inner) = (self.width, self.inner);
        let [norm_weight, norm_bias] = self.norm().sizes(width);
        [
            norm_weight,
            norm_bias,
            width * self.wide(),
            self.wide(),
            inner * width,
            width,
        ]
    }

    fn norm(&self) -> Norm {
        Norm::of(self.norm, self.epsilon)
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

    /// Who works on the rows of a pass with so many numbers.
    fn spread(&self, x: usize) -> Spread {
        Spread::of(self.sizes().iter().sum(), x / self.width.max(1))
    }

    /// One piece of rows: y from x, leaving the hidden layer before its activation in `hidden`.
    fn piece<T: Real>(
        &self,
        parts: &Parts<'_, T>,
        (first, x): (usize, &[T]),
        hidden: &mut [T],
        y: &mut [T],
        spread: Spread,
    ) {
        let (width, inner, wide) = (self.width, self.inner, self.wide());
        let count = x.len() / width;
        let of_norm = (parts.norm_weight, parts.norm_bias);
        let normal = self.norm().normal_rows(x, of_norm, (width, spread));
        let weight = self.hidden_weight().matrix(parts.hidden);
        let normal = Matrix::rows(&normal, count, width);
        spread.multiply(MatrixMut::rows(hidden, count, wide), normal, weight);
        let mut activated = Buffer::take(count * inner);
        let (to, from) = ((&mut activated[..], inner), (hidden, wide));
        spread.two_rows(to, from, |_, activated, hidden| {
            rows::add_bias(hidden, parts.hidden_bias);
            match self.hidden {
                HiddenLayer::Plain => rows::activate(self.activation, hidden, activated),
                HiddenLayer::SwiGlu => gate::swiglu(hidden, inner, activated),
            }
        });
        let activated = Matrix::rows(&activated, count, inner);
        let weight = self.output_weight().matrix(parts.output);
        spread.multiply(MatrixMut::rows(y, count, width), activated, weight);
        spread.rows((y, width), |row, y| {
            rows::add_bias(y, parts.output_bias);
            rows::drop_out(self.dropout, first + row, width, y);
            rows::add(y, &x[row * width..][..y.len()]);
        });
    }

    /// Gradients of x and of the packed parameters.
    fn gradients<T: Real>(
        &self,
        x: &[T],
        packed: &[T],
        (hidden, dy): (&[T], &[T]),
    ) -> Result<(Vec<T>, Vec<T>)> {
        let spread = self.spread(x.len());
        let parts = self.parts(packed)?;
        let (width, wide) = (self.width, self.wide());
        let mut dx = dy.to_vec();
        let all = x.len() / width;
        let (task, piece) = match spread {
            Spread::Rows => {
                let task = all.div_ceil(TASKS).max(1);
                (task, task.div_ceil(task.div_ceil(PIECE)))
            }
            Spread::Products => (all.max(1), Spread::shared_rows(all)),
        };
        let tasks = dx.chunks_mut(task * width).zip(x.chunks(task * width));
        let tasks = tasks.zip(dy.chunks(task * width).zip(hidden.chunks(task * wide)));
        let tasks = tasks.enumerate().collect();
        let dpacked = spread.sum(
            packed.len(),
            tasks,
            |(i, ((dx, x), (dy, hidden))), dpacked| {
                let pieces = dx.chunks_mut(piece * width).zip(x.chunks(piece * width));
                let pieces = pieces.zip(dy.chunks(piece * width).zip(hidden.chunks(piece * wide)));
                for (j, ((dx, x), (dy, hidden))) in pieces.enumerate() {
                    let first = i * task + j * piece;
                    self.piece_backward(&parts, (first, x), (hidden, dy), (dx, dpacked), spread)?;
                }
                Ok(())
            },
        )?;
        Ok((dx, dpacked))
    }

    fn piece_backward<T: Real>(
        &self,
        parts: &Parts<'_, T>,
        (first, x): (usize, &[T]),
        (hidden, dy): (&[T], &[T]),
        (dx, dpacked): (&mut [T], &mut [T]),
        spread: Spread,
    ) -> Result<()> {
        let (width, inner, wide) = (self.width, self.inner, self.wide());
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
        spread.rows((&mut dout, width), |row, dout| {
            dout.copy_from_slice(&dy[row * width..][..dout.len()]);
            rows::drop_out(self.dropout, first + row, width, dout);
        });
        spread.add_rows(&dout, doutput_bias);
        let dout = Matrix::rows(&dout, count, width);

        let mut dactivated = Buffer::take(count * inner);
        let output = self.output_weight();
        let to = MatrixMut::rows(&mut dactivated, count, inner);
        spread.multiply(to, dout, output.matrix(parts.output).t());
        let mut activated = Buffer::take(count * inner);
        let dhidden = match self.hidden {
            HiddenLayer::Plain => {
                let to = ((&mut activated[..], inner), (&mut dactivated[..], inner));
                spread.two_rows(to.0, to.1, |row, activated, dactivated| {
                    let hidden = &hidden[row * inner..][..activated.len()];
                    rows::activate_backward(self.activation, hidden, activated, dactivated);
                });
                dactivated
            }
            HiddenLayer::SwiGlu => {
                let mut dhidden = Buffer::take(hidden.len());
                let to = ((&mut activated[..], inner), (&mut dhidden[..], wide));
                spread.two_rows(to.0, to.1, |row, activated, dhidden| {
                    let hidden = &hidden[row * wide..][..dhidden.len()];
                    let dactivated = &dactivated[row * inner..][..activated.len()];
                    gate::swiglu_backward(hidden, inner, dactivated, activated, dhidden);
                });
                dhidden
            }
        };
        let activated = Matrix::rows(&activated, count, inner);
        spread.multiply_add(output.matrix_mut(doutput), activated.t(), dout);
        spread.add_rows(&dhidden, dhidden_bias);

        let of_norm = (parts.norm_weight, parts.norm_bias);
        let mut normal = self.norm().normal_rows(x, of_norm, (width, spread));
        let weight = self.hidden_weight();
        let dhidden = Matrix::rows(&dhidden, count, wide);
        let normal_matrix = Matrix::rows(&normal, count, width);
        spread.multiply_add(
            weight.matrix_mut(dhidden_weight),
            normal_matrix.t(),
            dhidden,
        );
        let to = MatrixMut::rows(&mut normal, count, width);
        spread.multiply(to, dhidden, weight.matrix(parts.hidden).t());
        let of_norm = [dnorm_weight, dnorm_bias];
        spread.rows_and_sums((dx, width), of_norm, |row, dx, [dweight, dbias]| {
            let here = row * width..row * width + dx.len();
            let dnormal = &normal[here.clone()];
            self.norm()
                .rows_backward((&x[here], parts.norm_weight), dnormal, dx, (dweight, dbias));
        });
        Ok(())
    }
}

impl Block for MlpBlock {
    const NAME: &'static str = "mlp-block";

    fn forward<T: Real>(&self, x: &[T], packed: &[T], saved: Option<&Saved>) -> Result<Vec<T>> {
        let spread = self.spread(x.len());
        let parts = self.parts(packed)?;
        let (width, wide) = (self.width, self.wide());
        let mut y = vec![T::ZERO; x.len()];
        let all = x.len() / width;
        let piece = match spread {
            Spread::Rows => piece_rows(all),
            Spread::Products => Spread::shared_rows(all),
        };
        let pieces = y.chunks_mut(piece * width).zip(x.chunks(piece * width));
        let pieces = pieces.enumerate();
        match saved {
            None => spread.each(pieces.collect(), |(i, (y, x))| {
                let mut hidden = Buffer::take(x.len() / width * wide);
                self.piece(&parts, (i * piece, x), &mut hidden, y, spread);
            }),
            Some(saved) => {
                let mut hidden = Buffer::take(all * wide);
                let pieces = pieces.zip(hidden.chunks_mut(piece * wide));
                spread.each(pieces.collect(), |((i, (y, x)), hidden)| {
                    self.piece(&parts, (i * piece, x), hidden, y, spread);
                });
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
        saved.with(|kept: &Vec<Buffer<T>>| self.gradients(x, packed, (&kept[0], dy)))
    }
}
