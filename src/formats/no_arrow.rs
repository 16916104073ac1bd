//! Stands in for the reader of Minari's Arrow storage in builds without the feature `arrow`: says what is missing.

use std::path::{Path, PathBuf};

use crate::formats::format::{Format, Place};
use crate::formats::minari::{FOLDER, Storage, storage};
use crate::formats::options::LoadOptions;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// The format.
pub const FORMAT: Format = Format {
    name: "Minari",
    file: None,
    folder: Some(FOLDER),
    range_keys: "`action_space`",
    detect,
    read,
    writer: None,
};

fn detect(place: &Place<'_>) -> Result<Option<PathBuf>> {
    if place.signature.is_some() {
        return Ok(None);
    }
    Ok(match storage(place.path)? {
        Some(Storage::Arrow(folder)) => Some(folder),
        _ => None,
    })
}

fn read(folder: &Path, _: &LoadOptions) -> Result<Dataset> {
    Err(Error::data(
        folder,
        "is in Minari's Arrow storage, which this build can't read: build with the feature `arrow` (a default one), or \
         convert it to hdf5 storage with the minari package",
    ))
}
