//! Files of models that other libraries trained: weights, their sizes, a language model's trunk.
//!
//! Models that act are opened as runs by [`imported`](crate::app::imported). Where a folder comes from is
//! [`hub`](crate::app::hub)'s matter.

pub(crate) mod described;
mod element;
pub mod gpt2;
pub mod keys;
pub(crate) mod other_files;
mod pickle;
mod torch_file;
pub mod weights;
