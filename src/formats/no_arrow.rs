//! Stands in for the reader of Minari's Arrow storage in builds without the feature `arrow`: says what is missing.

use std::path::Path;

use crate::formats::format::Format;
use crate::formats::minari::arrow_format;
use crate::formats::options::LoadOptions;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// The format.
pub const FORMAT: Format = arrow_format(read);

fn read(folder: &Path, _: &LoadOptions) -> Result<Dataset> {
    Err(Error::data(
        folder,
        "is in Minari's Arrow storage, which this build can't read: build with the feature `arrow`, or \
         convert it to hdf5 storage with the minari package",
    ))
}
