//! Data-set files: one reader (and writer) per format; nothing else opens data-set files.
//!
//! The format is told by content, never by the file's name.

mod arrays;
pub mod d4rl_hdf5;
mod flat;
mod hdf5;
mod npy;
pub mod npz;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// A kind of data-set file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// D4RL's HDF5 layout, one row a step.
    D4rlHdf5,
    /// NumPy's npz.
    Npz,
}

/// Tells the format of a file or folder by its content.
///
/// # Errors
/// If it can't be read, or is of no known format: says what is known.
pub fn detect(path: &Path) -> Result<Format> {
    let signature = signature(path)?;
    if signature.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Ok(Format::D4rlHdf5);
    }
    if signature.starts_with(b"PK\x03\x04") || signature.starts_with(b"PK\x05\x06") {
        return Ok(Format::Npz);
    }
    Err(Error::data(
        path,
        "is neither HDF5 (D4RL or Minari) nor npz by its first bytes; a Minari data set is given by \
         its folder",
    ))
}

fn signature(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(8)
        .read_to_end(&mut bytes)
        .map_err(Error::io(path))?;
    Ok(bytes)
}
