//! Scratch buffers that are used again: fresh pages from the system cost more than most kernels.

use std::ops::{Deref, DerefMut};

use super::real::Real;

/// A buffer that goes back to the pool when dropped. Its first contents are arbitrary.
#[derive(Debug)]
pub struct Buffer<T: Real> {
    data: Vec<T>,
    length: usize,
}

impl<T: Real> Buffer<T> {
    /// A buffer of this length; what it holds is arbitrary (old numbers or zeros).
    pub fn take(length: usize) -> Self {
        let mut pool = T::pool()
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let fits = |(_, buffer): &(usize, &Vec<T>)| buffer.len() >= length;
        let smallest = pool
            .iter()
            .enumerate()
            .filter(fits)
            .min_by_key(|(_, b)| b.len());
        let data = match smallest {
            // Not one that is far too large: it would be missing elsewhere.
            Some((i, b)) if b.len() <= 2 * length + 4096 => Some(pool.swap_remove(i)),
            _ => None,
        };
        drop(pool);
        Self {
            data: data.unwrap_or_else(|| vec![T::ZERO; length]),
            length,
        }
    }

    /// A buffer of zeros.
    pub fn zeros(length: usize) -> Self {
        let mut buffer = Self::take(length);
        buffer.fill(T::ZERO);
        buffer
    }
}

/// Buffers beyond this number are given back to the system.
const MOST: usize = 128;

impl<T: Real> Drop for Buffer<T> {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        if let Ok(mut pool) = T::pool().lock()
            && pool.len() < MOST
        {
            pool.push(data);
        }
    }
}

impl<T: Real> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[..self.length]
    }
}

impl<T: Real> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.length]
    }
}
