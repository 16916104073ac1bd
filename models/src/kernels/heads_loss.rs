//! Cross entropy of per-position heads as one operation: place p of a sequence is classified by head
//! p mod D. Logits exist for one place at a time; gradients are computed on the way.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::packed::{Saved, tensors_of};
use super::pool::Buffer;
use super::product::{Matrix, MatrixMut, multiply};
use super::real::Real;
use super::rows;
use super::storage::slice;

/// What is to be classified.
#[derive(Debug, Clone)]
pub struct HeadsLoss {
    /// Target classes (B, T), row-major; each must be smaller than the heads' classes.
    pub targets: Vec<u32>,
    /// Factors of the cross entropies (B, T), row-major, the share of the mean included.
    pub weights: Vec<f64>,
}

/// Where the hidden states lie.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    time: usize,
    width: usize,
    heads: usize,
    classes: usize,
}

impl HeadsLoss {
    /// The weighted sum of cross entropies, a scalar, of hidden states (B, T, width) and heads
    /// (D, classes, width).
    ///
    /// # Errors
    /// If they are not contiguous CPU tensors of fitting size, both f32 or both f64, or a target is
    /// out of range.
    pub fn apply(self, hidden: &Tensor, heads: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = hidden.dims3()?;
        let (count, classes, head_width) = heads.dims3()?;
        let positions = [self.targets.len(), self.weights.len()];
        if head_width != width || positions != [batch * time; 2] {
            bail!(
                "heads {:?} for {:?} with {positions:?} targets",
                heads.dims(),
                hidden.dims()
            );
        }
        if let Some(wrong) = self
            .targets
            .iter()
            .find(|&&target| target as usize >= classes)
        {
            bail!("target {wrong}, there are {classes} classes");
        }
        let sizes = Sizes {
            time,
            width,
            heads: count,
            classes,
        };
        let hidden = hidden.contiguous()?;
        if hidden.track_op() || heads.track_op() {
            let saved = Some(Saved::empty());
            hidden.apply_op2(
                heads,
                Operation {
                    what: self,
                    sizes,
                    saved,
                },
            )
        } else {
            hidden.apply_op2_no_bwd(
                heads,
                &Operation {
                    what: self,
                    sizes,
                    saved: None,
                },
            )
        }
    }
}

struct Operation {
    what: HeadsLoss,
    sizes: Sizes,
    saved: Option<Saved>,
}

/// The share of one head.
struct Share<T: Real> {
    loss: f64,
    /// Gradients of its hidden states (rows, width), if wanted.
    dhidden: Option<Buffer<T>>,
}

impl Operation {
    /// Places of head `head` in all sequences, as rows of the hidden states.
    fn places(&self, head: usize) -> impl Iterator<Item = usize> + Clone {
        let Sizes { time, heads, .. } = self.sizes;
        let sequences = self.what.targets.len() / time.max(1);
        (0..sequences).flat_map(move |b| (head..time).step_by(heads).map(move |p| b * time + p))
    }

    fn forward<T: Real>(&self, hidden: &[T], heads: &[T]) -> Result<T> {
        let Sizes { width, classes, .. } = self.sizes;
        let mut dheads = Buffer::<T>::take(if self.saved.is_some() { heads.len() } else { 0 });
        let weights = heads.par_chunks(classes * width);
        let shares: Vec<Share<T>> = match self.saved {
            None => weights
                .enumerate()
                .map(|(head, weight)| self.head(head, hidden, weight, None))
                .collect(),
            Some(_) => weights
                .zip(dheads.par_chunks_mut(classes * width))
                .enumerate()
                .map(|(head, (weight, dweight))| self.head(head, hidden, weight, Some(dweight)))
                .collect(),
        };
        if let Some(saved) = &self.saved {
            let mut dhidden = vec![T::ZERO; hidden.len()];
            for (head, share) in shares.iter().enumerate() {
                let Some(rows) = &share.dhidden else { continue };
                for (row, place) in rows.chunks(width).zip(self.places(head)) {
                    dhidden[place * width..(place + 1) * width].copy_from_slice(row);
                }
            }
            saved.set((dhidden, dheads.to_vec()));
        }
        Ok(T::of(shares.iter().map(|share| share.loss).sum::<f64>()))
    }

    /// Loss and, if wanted, gradients of one head.
    fn head<T: Real>(
        &self,
        head: usize,
        hidden: &[T],
        weight: &[T],
        dweight: Option<&mut [T]>,
    ) -> Share<T> {
        let Sizes { width, classes, .. } = self.sizes;
        let count = self.places(head).count();
        let mut states = Buffer::take(count * width);
        for (row, place) in states.chunks_mut(width).zip(self.places(head)) {
            row.copy_from_slice(&hidden[place * width..(place + 1) * width]);
        }
        let mut logits = Buffer::take(count * classes);
        let states_matrix = Matrix::rows(&states, count, width);
        let weight = Matrix::rows(weight, classes, width);
        multiply(
            MatrixMut::rows(&mut logits, count, classes),
            states_matrix,
            weight.t(),
        );
        let mut loss = 0.0;
        for (logits, place) in logits.chunks_mut(classes).zip(self.places(head)) {
            let target = self.what.targets[place] as usize;
            let factor = self.what.weights[place];
            let chosen = logits[target];
            let (top, sum) = rows::softmax_plainly(logits);
            if factor != 0.0 {
                loss += factor * (top.to_f64() + sum.to_f64().ln() - chosen.to_f64());
            }
            rows::scale(logits, T::of(factor) / sum);
            logits[target] -= T::of(factor);
        }
        let Some(dweight) = dweight else {
            return Share {
                loss,
                dhidden: None,
            };
        };
        let dlogits = Matrix::rows(&logits, count, classes);
        multiply(
            MatrixMut::rows(dweight, classes, width),
            dlogits.t(),
            states_matrix,
        );
        multiply(MatrixMut::rows(&mut states, count, width), dlogits, weight);
        Share {
            loss,
            dhidden: Some(states),
        }
    }

    fn gradients<T: Real>(
        &self,
        hidden: &Tensor,
        heads: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = &self.saved else {
            bail!("the forward pass kept nothing")
        };
        let factor = T::of(gradient.to_dtype(DType::F64)?.to_scalar::<f64>()?);
        saved.with(|(dhidden, dheads): &(Vec<T>, Vec<T>)| {
            let scaled = |x: &[T]| {
                let mut x = x.to_vec();
                if factor != T::ONE {
                    rows::scale(&mut x, factor);
                }
                x
            };
            tensors_of((scaled(dhidden), hidden), (scaled(dheads), heads))
        })
    }
}

impl CustomOp2 for Operation {
    fn name(&self) -> &'static str {
        "heads-loss"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let loss = match s1 {
            CpuStorage::F32(_) => {
                CpuStorage::F32(vec![self.forward(slice(s1, l1)?, slice(s2, l2)?)?])
            }
            CpuStorage::F64(_) => {
                CpuStorage::F64(vec![self.forward(slice(s1, l1)?, slice(s2, l2)?)?])
            }
            _ => bail!("the loss kernel handles f32 and f64"),
        };
        Ok((loss, Shape::from(())))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        heads: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match hidden.dtype() {
            DType::F32 => self.gradients::<f32>(hidden, heads, gradient),
            _ => self.gradients::<f64>(hidden, heads, gradient),
        }
    }
}
