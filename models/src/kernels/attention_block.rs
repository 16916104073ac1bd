//! The first half of a transformer block as one operation: `y = x + dropout(attention(norm(x)))`,
//! causal multi-head self-attention with hidden columns.
//!
//! A thread works on one sequence at a time, on scores in blocks of rows that see only the columns before
//! them; the scores of a whole batch never exist. Queries, keys, values, mixed values and the
//! logarithms of the softmax sums are kept for the backward pass, which computes scores again.

use candle_core::{Result, Tensor, bail};

use super::block::{self, Block};
use super::layer_norm::Norm;
use super::packed::{Saved, Weight, split, split_mut};
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut, multiply, multiply_add, product};
use super::real::Real;
use super::spread::Spread;
use super::{rms, rows};
use crate::dropout::DropoutMask;
use crate::gpt::Scores;
use crate::norm::NormKind;

/// Rows of scores that are computed together.
const BLOCK: usize = 64;
/// One thread's task takes whole sequences of at least this many rows together.
const TASK_ROWS: usize = 240;

/// Settings of the operation.
#[derive(Debug, Clone)]
pub struct AttentionBlock {
    /// T, rows of a sequence.
    pub time: usize,
    /// D, width of x.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// The norm.
    pub norm: NormKind,
    /// What scores are.
    pub scores: Scores,
    /// Epsilon of the norm, and of that of queries and keys.
    pub epsilon: f64,
    /// Whether weights are stored as (in, out), as in GPT-2, or (out, in), as in PyTorch's Linear.
    pub inputs_first: bool,
    /// Keys that no row sees: (T) for all sequences or (B, T).
    pub hidden: Vec<bool>,
    /// Dropout of attention weights; its rows are those of (B, heads, T).
    pub attention_dropout: Option<DropoutMask>,
    /// Dropout of what is added.
    pub dropout: Option<DropoutMask>,
}

/// The parameters in the order in which they are packed, all flat.
struct Parts<'a, T> {
    norm_weight: &'a [T],
    norm_bias: &'a [T],
    inputs: &'a [T],
    inputs_bias: &'a [T],
    output: &'a [T],
    output_bias: &'a [T],
}

/// What the forward pass leaves for one or more sequences.
struct Kept<'a, T> {
    /// Queries, keys and values (rows, 3 D), the first two as they are compared.
    inputs: &'a mut [T],
    /// Mixed values (rows, D).
    mixed: &'a mut [T],
    /// Of each sequence logarithms of the softmax sums (heads, T), then factors of queries and keys (T, 2 heads) where scores are
    /// cosines.
    statistics: &'a mut [T],
}

impl AttentionBlock {
    /// y of x (B, T, D) and the packed parameters: norm weight, norm bias if it has one, weight and bias of
    /// queries, keys and values (one after the other on the output side), output weight and bias.
    ///
    /// # Errors
    /// If x or the parameters are not contiguous CPU tensors of fitting size, both f32 or both f64.
    pub fn apply(self, x: &Tensor, packed: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        let known = [time, batch * time].contains(&self.hidden.len());
        if time != self.time || width != self.width || !known || width % self.heads != 0 {
            bail!(
                "attention over {:?} with settings for another shape",
                x.dims()
            );
        }
        block::apply(self, x, packed)
    }

    fn sizes(&self) -> [usize; 6] {
        let width = self.width;
        let [norm_weight, norm_bias] = self.norm().sizes(width);
        [
            norm_weight,
            norm_bias,
            3 * width * width,
            3 * width,
            width * width,
            width,
        ]
    }

    fn parts<'a, T>(&self, packed: &'a [T]) -> Result<Parts<'a, T>> {
        let [
            norm_weight,
            norm_bias,
            inputs,
            inputs_bias,
            output,
            output_bias,
        ] = split(packed, self.sizes())?;
        Ok(Parts {
            norm_weight,
            norm_bias,
            inputs,
            inputs_bias,
            output,
            output_bias,
        })
    }

    fn inputs_weight(&self) -> Weight {
        Weight::new(self.width, 3 * self.width, self.inputs_first)
    }

    fn output_weight(&self) -> Weight {
        Weight::new(self.width, self.width, self.inputs_first)
    }

    /// Who works on the rows of a pass with so many numbers.
    fn spread(&self, x: usize) -> Spread {
        Spread::of(self.sizes().iter().sum(), x / self.width.max(1))
    }

    /// Sequences per task of the forward pass, of `all`.
    fn sequences(&self, all: usize, spread: Spread) -> usize {
        let time = self.time.max(1);
        match spread {
            Spread::Rows => TASK_ROWS.div_ceil(time),
            Spread::Products => Spread::shared_rows(all * time).div_ceil(time),
        }
    }

    /// 0 for visible and -∞ for hidden keys of a sequence.
    fn hidden_scores<T: Real>(&self, sequence: usize) -> Vec<T> {
        let first = if self.hidden.len() == self.time {
            0
        } else {
            sequence * self.time
        };
        let hidden = &self.hidden[first..first + self.time];
        hidden
            .iter()
            .map(|h| if *h { T::NEGATIVE_INFINITY } else { T::ZERO })
            .collect()
    }

    /// Factor of the scores.
    fn scale<T: Real>(&self) -> T {
        T::of(1.0 / ((self.width / self.heads) as f64).sqrt())
    }

    fn norm(&self) -> Norm {
        Norm::of(self.norm, self.epsilon)
    }

    /// Numbers of statistics that a row keeps.
    fn kept_per_row(&self) -> usize {
        match self.scores {
            Scores::Plain => self.heads,
            Scores::Cosine => 3 * self.heads,
        }
    }

    /// Some whole sequences, `first` being the number of the first.
    fn task<T: Real>(
        &self,
        parts: &Parts<'_, T>,
        (first, x): (usize, &[T]),
        kept: Kept<'_, T>,
        y: &mut [T],
        spread: Spread,
    ) {
        let (width, time) = (self.width, self.time);
        let count = x.len() / width;
        let of_norm = (parts.norm_weight, parts.norm_bias);
        let normal = self.norm().normal_rows(x, of_norm, (width, spread));
        let normal = Matrix::rows(&normal, count, width);
        let to = MatrixMut::rows(kept.inputs, count, 3 * width);
        spread.multiply(to, normal, self.inputs_weight().matrix(parts.inputs));
        spread.rows((kept.inputs, 3 * width), |_, inputs| {
            rows::add_bias(inputs, parts.inputs_bias);
        });
        let sequences = kept
            .inputs
            .chunks_mut(3 * width * time)
            .zip(kept.mixed.chunks_mut(width * time));
        let sequences = sequences.zip(kept.statistics.chunks_mut(self.kept_per_row() * time));
        let sequences = sequences.enumerate().collect();
        spread.inner(sequences, |(i, ((inputs, mixed), statistics))| {
            let mut scores = Buffer::take(BLOCK * time);
            let hidden = self.hidden_scores(first + i);
            let (log_sums, factors) = statistics.split_at_mut(self.heads * time);
            if self.scores == Scores::Cosine {
                let (head_width, epsilon) = (width / self.heads, T::of(self.epsilon));
                rms::normalize_parts(inputs, 3 * width, head_width, epsilon, factors);
            }
            for (head, log_sums) in log_sums.chunks_mut(time).enumerate() {
                let place = (first + i, head);
                self.mix(place, &hidden, inputs, mixed, log_sums, &mut scores);
            }
        });
        let mixed = Matrix::rows(kept.mixed, count, width);
        let weight = self.output_weight().matrix(parts.output);
        spread.multiply(MatrixMut::rows(y, count, width), mixed, weight);
        spread.rows((y, width), |row, y| {
            rows::add_bias(y, parts.output_bias);
            rows::drop_out(self.dropout, first * time + row, width, y);
            rows::add(y, &x[row * width..][..y.len()]);
        });
    }

    /// Queries (0), keys (1) or values (2) of one head, rows `from` to `to` of a sequence.
    fn head<'a, T>(
        &self,
        inputs: &'a [T],
        (which, head): (usize, usize),
        (from, to): (usize, usize),
    ) -> Matrix<'a, T> {
        let (width, head_width) = (self.width, self.width / self.heads);
        let start = from * 3 * width + which * width + head * head_width;
        Matrix::strided(&inputs[start..], (to - from, head_width), (3 * width, 1))
    }

    /// Attention of one head of one sequence.
    fn mix<T: Real>(
        &self,
        (sequence, head): (usize, usize),
        hidden: &[T],
        inputs: &[T],
        mixed: &mut [T],
        log_sums: &mut [T],
        scores: &mut [T],
    ) {
        let (time, width, head_width) = (self.time, self.width, self.width / self.heads);
        for from in (0..time).step_by(BLOCK) {
            let to = (from + BLOCK).min(time);
            let scores = &mut scores[..(to - from) * to];
            let query = self.head(inputs, (0, head), (from, to));
            let key = self.head(inputs, (1, head), (0, to));
            multiply(MatrixMut::rows(scores, to - from, to), query, key.t());
            let mut sums = [T::ZERO; BLOCK];
            for (i, scores) in scores.chunks_mut(to).enumerate() {
                let (visible, later) = scores.split_at_mut(from + i + 1);
                later.fill(T::ZERO);
                let (top, sum) = rows::softmax(visible, &hidden[..from + i + 1], self.scale());
                let exists = sum > T::ZERO;
                // An infinite sum makes every weight zero in the backward pass.
                log_sums[from + i] = if exists {
                    top + sum.ln()
                } else {
                    -T::NEGATIVE_INFINITY
                };
                sums[i] = if exists { T::ONE / sum } else { T::ZERO };
            }
            let first = (sequence * self.heads + head) * time + from;
            rows::drop_out(self.attention_dropout, first, to, scores);
            let weights = Matrix::rows(scores, to - from, to);
            let start = from * width + head * head_width;
            let size = (to - from, head_width);
            let out = MatrixMut::strided(&mut mixed[start..], size, (width, 1));
            multiply(out, weights, self.head(inputs, (2, head), (0, to)));
            for (i, factor) in sums.iter().enumerate().take(to - from) {
                let start = (from + i) * width + head * head_width;
                rows::scale(&mut mixed[start..start + head_width], *factor);
            }
        }
    }

    /// Gradients of x and of the packed parameters.
    fn gradients<T: Real>(
        &self,
        x: &[T],
        packed: &[T],
        (kept, dy): (&[Buffer<T>], &[T]),
    ) -> Result<(Vec<T>, Vec<T>)> {
        let spread = self.spread(x.len());
        let parts = self.parts(packed)?;
        let [inputs, mixed, statistics] = kept else {
            bail!("the forward pass kept something else")
        };
        let mut dx = dy.to_vec();
        let all = x.len() / (self.width * self.time).max(1);
        let sequences = match spread {
            // Twice the forward pass's: fewer partial sums of parameter gradients.
            Spread::Rows => 2 * self.sequences(all, spread),
            Spread::Products => self.sequences(all, spread),
        };
        let task = sequences * self.time;
        let (wide, heads) = (task * self.width, task * self.kept_per_row());
        let tasks = dx.chunks_mut(wide).zip(x.chunks(wide)).zip(dy.chunks(wide));
        let kept = inputs.chunks(3 * wide).zip(mixed.chunks(wide));
        let tasks = tasks.zip(kept.zip(statistics.chunks(heads))).enumerate();
        let dpacked = spread.sum(packed.len(), tasks.collect(), |task, dpacked| {
            let (i, (((dx, x), dy), ((inputs, mixed), statistics))) = task;
            let first = i * sequences;
            let kept = [inputs, mixed, statistics];
            self.task_backward(&parts, (first, x), (kept, dy), (dx, dpacked), spread)
        })?;
        Ok((dx, dpacked))
    }

    fn task_backward<T: Real>(
        &self,
        parts: &Parts<'_, T>,
        (first, x): (usize, &[T]),
        (kept, dy): ([&[T]; 3], &[T]),
        (dx, dpacked): (&mut [T], &mut [T]),
        spread: Spread,
    ) -> Result<()> {
        let (width, time, [inputs, mixed, statistics]) = (self.width, self.time, kept);
        let count = x.len() / width;
        let [
            dnorm_weight,
            dnorm_bias,
            dinputs_weight,
            dinputs_bias,
            doutput,
            doutput_bias,
        ] = split_mut(dpacked, self.sizes())?;
        let mut dout = Buffer::take(dy.len());
        spread.rows((&mut dout, width), |row, dout| {
            dout.copy_from_slice(&dy[row * width..][..dout.len()]);
            rows::drop_out(self.dropout, first * time + row, width, dout);
        });
        spread.add_rows(&dout, doutput_bias);
        let dout = Matrix::rows(&dout, count, width);
        let output = self.output_weight();
        let mixed_matrix = Matrix::rows(mixed, count, width);
        spread.multiply_add(output.matrix_mut(doutput), mixed_matrix.t(), dout);
        let mut dmixed = Buffer::take(dy.len());
        let to = MatrixMut::rows(&mut dmixed, count, width);
        spread.multiply(to, dout, output.matrix(parts.output).t());

        let mut dinputs = Buffer::take(inputs.len());
        let sequences = dinputs.chunks_mut(3 * width * time);
        let sequences = sequences.zip(statistics.chunks(self.kept_per_row() * time));
        let sequences = sequences.enumerate().collect();
        spread.inner(sequences, |(i, (dinputs, statistics))| {
            dinputs.fill(T::ZERO);
            let mut scratch = Buffer::take(3 * BLOCK * time);
            let (log_sums, factors) = statistics.split_at(self.heads * time);
            let hidden = self.hidden_scores(first + i);
            let wide = i * width * time..(i + 1) * width * time;
            let sequence = Sequence {
                number: first + i,
                hidden: &hidden,
                inputs: &inputs[3 * wide.start..3 * wide.end],
                mixed: &mixed[wide.clone()],
                dmixed: &dmixed[wide],
                log_sums,
            };
            for head in 0..self.heads {
                self.mix_backward(&sequence, head, dinputs, &mut scratch);
            }
            if self.scores == Scores::Cosine {
                let (row, head_width) = (3 * width, width / self.heads);
                rms::normalize_parts_backward(sequence.inputs, row, head_width, factors, dinputs);
            }
        });

        spread.add_rows(&dinputs, dinputs_bias);
        let of_norm = (parts.norm_weight, parts.norm_bias);
        let mut normal = self.norm().normal_rows(x, of_norm, (width, spread));
        let weight = self.inputs_weight();
        let dinputs = Matrix::rows(&dinputs, count, 3 * width);
        let normal_matrix = Matrix::rows(&normal, count, width);
        spread.multiply_add(
            weight.matrix_mut(dinputs_weight),
            normal_matrix.t(),
            dinputs,
        );
        let to = MatrixMut::rows(&mut normal, count, width);
        spread.multiply(to, dinputs, weight.matrix(parts.inputs).t());
        let of_norm = [dnorm_weight, dnorm_bias];
        spread.rows_and_sums((dx, width), of_norm, |row, dx, [dweight, dbias]| {
            let here = row * width..row * width + dx.len();
            let dnormal = &normal[here.clone()];
            self.norm()
                .rows_backward((&x[here], parts.norm_weight), dnormal, dx, (dweight, dbias));
        });
        Ok(())
    }

    /// Backward of [`Self::mix`]: adds to the gradients of keys and values, sets those of queries.
    fn mix_backward<T: Real>(
        &self,
        sequence: &Sequence<'_, T>,
        head: usize,
        dinputs: &mut [T],
        scratch: &mut [T],
    ) {
        let (time, width, head_width) = (self.time, self.width, self.width / self.heads);
        let (weights, rest) = scratch.split_at_mut(BLOCK * time);
        let (dweights, dropped) = rest.split_at_mut(BLOCK * time);
        let inputs = sequence.inputs;
        for from in (0..time).step_by(BLOCK) {
            let to = (from + BLOCK).min(time);
            let (count, size) = (to - from, (to - from) * to);
            let (weights, dweights) = (&mut weights[..size], &mut dweights[..size]);
            let query = self.head(inputs, (0, head), (from, to));
            let key = self.head(inputs, (1, head), (0, to));
            multiply(MatrixMut::rows(weights, count, to), query, key.t());
            for (i, weights) in weights.chunks_mut(to).enumerate() {
                let row = from + i;
                let (visible, later) = weights.split_at_mut(row + 1);
                later.fill(T::ZERO);
                let log_sum = sequence.log_sums[head * time + row];
                let hidden = &sequence.hidden[..row + 1];
                rows::softmax_again(visible, hidden, self.scale(), log_sum);
            }
            let start = from * width + head * head_width;
            let dmixed = &sequence.dmixed[start..];
            let dmixed_matrix = Matrix::strided(dmixed, (count, head_width), (width, 1));
            let value = self.head(inputs, (2, head), (0, to));
            multiply(
                MatrixMut::rows(dweights, count, to),
                dmixed_matrix,
                value.t(),
            );

            let first = (sequence.number * self.heads + head) * time + from;
            let used = match self.attention_dropout {
                None => &*weights,
                Some(_) => {
                    let dropped = &mut dropped[..size];
                    dropped.copy_from_slice(weights);
                    rows::drop_out(self.attention_dropout, first, to, dropped);
                    rows::drop_out(self.attention_dropout, first, to, dweights);
                    dropped
                }
            };
            let dvalue = self.head_mut(dinputs, (2, head), (0, to));
            multiply_add(dvalue, Matrix::rows(used, count, to).t(), dmixed_matrix);
            for (i, dweights) in dweights.chunks_mut(to).enumerate() {
                let start = (from + i) * width + head * head_width;
                let mixed = &sequence.mixed[start..start + head_width];
                let along = rows::row_dot(&sequence.dmixed[start..start + head_width], mixed);
                rows::softmax_backward(
                    &weights[i * to..(i + 1) * to],
                    dweights,
                    along,
                    self.scale(),
                );
            }
            let dscores = Matrix::rows(dweights, count, to);
            let dquery = self.head_mut(dinputs, (0, head), (from, to));
            product(dquery, dscores, key, T::ONE, false);
            let dkey = self.head_mut(dinputs, (1, head), (0, to));
            multiply_add(dkey, dscores.t(), query);
        }
    }

    fn head_mut<'a, T>(
        &self,
        inputs: &'a mut [T],
        (which, head): (usize, usize),
        (from, to): (usize, usize),
    ) -> MatrixMut<'a, T> {
        let (width, head_width) = (self.width, self.width / self.heads);
        let start = from * 3 * width + which * width + head * head_width;
        MatrixMut::strided(
            &mut inputs[start..],
            (to - from, head_width),
            (3 * width, 1),
        )
    }
}

impl Block for AttentionBlock {
    const NAME: &'static str = "attention-block";

    fn forward<T: Real>(&self, x: &[T], packed: &[T], saved: Option<&Saved>) -> Result<Vec<T>> {
        let spread = self.spread(x.len());
        let parts = self.parts(packed)?;
        let row_count = x.len() / self.width.max(1);
        let mut y = vec![T::ZERO; x.len()];
        let mut inputs = Buffer::take(3 * x.len());
        let mut mixed = Buffer::take(x.len());
        let mut statistics = Buffer::take(row_count * self.kept_per_row());
        let sequences = self.sequences(row_count / self.time.max(1), spread);
        let task = sequences * self.time;
        let (wide, heads) = (task * self.width, task * self.kept_per_row());
        let tasks = y.chunks_mut(wide).zip(x.chunks(wide));
        let kept = inputs.chunks_mut(3 * wide).zip(mixed.chunks_mut(wide));
        let tasks = tasks
            .zip(kept.zip(statistics.chunks_mut(heads)))
            .enumerate();
        spread.each(
            tasks.collect(),
            |(i, ((y, x), ((inputs, mixed), statistics)))| {
                let kept = Kept {
                    inputs,
                    mixed,
                    statistics,
                };
                self.task(&parts, (i * sequences, x), kept, y, spread);
            },
        );
        if let Some(saved) = saved {
            saved.set(vec![inputs, mixed, statistics]);
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
        saved.with(|kept: &Vec<Buffer<T>>| self.gradients(x, packed, (kept, dy)))
    }
}

/// One sequence in the backward pass.
struct Sequence<'a, T> {
    number: usize,
    hidden: &'a [T],
    inputs: &'a [T],
    mixed: &'a [T],
    dmixed: &'a [T],
    log_sums: &'a [T],
}
