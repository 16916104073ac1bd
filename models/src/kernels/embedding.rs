//! Token and position embeddings with dropout as one operation; the gradient of a table adds up
//! where a row is taken several times.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::packed::tensors_of;
use super::real::Real;
use super::rows;
use super::storage::{slice, with_slice};
use crate::dropout::DropoutMask;

/// Rows per piece of parallel work.
const PIECE: usize = 256;

/// What is to be looked up.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// Rows of the token table (B, T), row-major.
    pub rows: Vec<u32>,
    /// T.
    pub time: usize,
    /// Dropout of the result.
    pub dropout: Option<DropoutMask>,
}

impl Embedding {
    /// dropout(table[rows] + positions[0..T]): (B, T, width) of a table (R, width) and positions
    /// (1, P, width) with P >= T.
    ///
    /// # Errors
    /// If they are not contiguous CPU tensors of fitting size, both f32 or both f64, or a row does
    /// not exist.
    pub fn apply(self, table: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (count, width) = table.dims2()?;
        let (_, longest, position_width) = positions.dims3()?;
        if position_width != width || self.time > longest || self.time == 0 {
            bail!(
                "{} positions of {:?} for {:?}",
                self.time,
                positions.dims(),
                table.dims()
            );
        }
        if let Some(wrong) = self.rows.iter().find(|&&row| row as usize >= count) {
            bail!("row {wrong} of a table with {count} rows");
        }
        table.apply_op2(positions, self)
    }

    fn forward<T: Real>(&self, table: &[T], positions: &[T], width: usize) -> Vec<T> {
        let mut out = vec![T::ZERO; self.rows.len() * width];
        let pieces = out
            .par_chunks_mut(PIECE * width)
            .zip(self.rows.par_chunks(PIECE));
        pieces.enumerate().for_each(|(i, (out, piece))| {
            for (j, (out, &row)) in out.chunks_mut(width).zip(piece).enumerate() {
                let (row, position) = (row as usize, (i * PIECE + j) % self.time);
                out.copy_from_slice(&table[row * width..(row + 1) * width]);
                rows::add(out, &positions[position * width..(position + 1) * width]);
            }
            rows::drop_out(self.dropout, i * PIECE, width, out);
        });
        out
    }

    /// Gradients of the table and the positions, both zero before.
    fn backward<T: Real>(&self, width: usize, dout: &[T], dtable: &mut [T], dpositions: &mut [T]) {
        let mut dropped = super::pool::Buffer::take(dout.len());
        let pieces = dropped
            .par_chunks_mut(PIECE * width)
            .zip(dout.par_chunks(PIECE * width));
        pieces.enumerate().for_each(|(i, (dropped, dout))| {
            dropped.copy_from_slice(dout);
            rows::drop_out(self.dropout, i * PIECE, width, dropped);
        });
        // One thread each: sums stay in the order of the tokens.
        let table = || {
            for (&row, d) in self.rows.iter().zip(dropped.chunks(width)) {
                let first = row as usize * width;
                rows::add(&mut dtable[first..first + width], d);
            }
        };
        let positions = || {
            for sequence in dropped.chunks(self.time * width) {
                rows::add(&mut dpositions[..sequence.len()], sequence);
            }
        };
        rayon::join(table, positions);
    }

    fn gradients<T: Real>(
        &self,
        table: &Tensor,
        positions: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, width) = table.dims2()?;
        let gradient = gradient.contiguous()?;
        let mut dtable = vec![T::ZERO; table.elem_count()];
        let mut dpositions = vec![T::ZERO; positions.elem_count()];
        with_slice::<T, _>(&gradient, |gradient| {
            self.backward(width, gradient, &mut dtable, &mut dpositions);
            Ok(())
        })?;
        tensors_of((dtable, table), (dpositions, positions))
    }
}

impl CustomOp2 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = l1.shape().dims2()?;
        let out = match s1 {
            CpuStorage::F32(_) => {
                CpuStorage::F32(self.forward(slice(s1, l1)?, slice(s2, l2)?, width))
            }
            CpuStorage::F64(_) => {
                CpuStorage::F64(self.forward(slice(s1, l1)?, slice(s2, l2)?, width))
            }
            _ => bail!("the embedding kernel handles f32 and f64"),
        };
        Ok((
            out,
            Shape::from((self.rows.len() / self.time, self.time, width)),
        ))
    }

    fn bwd(
        &self,
        table: &Tensor,
        positions: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match table.dtype() {
            DType::F32 => self.gradients::<f32>(table, positions, gradient),
            _ => self.gradients::<f64>(table, positions, gradient),
        }
    }
}
