//! [`Format`]: what a file format of data sets is, and [`Place`]: what detection looks at.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::formats::options::LoadOptions;
use trajformer_core::dataset::Dataset;
use trajformer_core::error::{Error, Result};

/// Enough of a file to know what it is.
const SIGNATURE_BYTES: u64 = 2056;

/// A file format of data sets. Its own file defines it; [`FORMATS`](crate::formats::FORMATS) lists it.
#[derive(Debug)]
pub struct Format {
    /// Whose layout it is, e.g. `D4RL`.
    pub name: &'static str,
    /// The kind of file, e.g. `HDF5`, that may hold it; `None` if it is always a folder.
    pub file: Option<&'static str>,
    /// Of formats that are folders: what was looked for there, to say that it is missing.
    pub folder: Option<&'static str>,
    /// The key, or keys, that say the range of actions.
    pub range_keys: &'static str,
    /// What the reader is to open, if the content of a place is of this format.
    pub detect: fn(&Place<'_>) -> Result<Option<PathBuf>>,
    /// Reads what `detect` found.
    pub read: fn(&Path, &LoadOptions) -> Result<Dataset>,
    /// How a data set is saved, if it can be.
    pub writer: Option<Writer>,
}

/// How a data set is saved in a format.
#[derive(Debug)]
pub struct Writer {
    /// Endings of names that ask for it, in lower case, the usual one first; none for a folder, whose name has none.
    pub endings: &'static [&'static str],
    /// Writes a data set; the last argument is the name that was asked for, without its folders.
    pub write: fn(&Dataset, &Path, &str) -> Result<()>,
}

/// A file or folder whose format is to be detected.
#[derive(Debug)]
pub struct Place<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// The first bytes of a file; `None` for a folder.
    pub signature: Option<Vec<u8>>,
}

impl<'a> Place<'a> {
    /// Looks at a file or folder.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn at(path: &'a Path) -> Result<Self> {
        let mut signature = None;
        if !path.is_dir() {
            let mut bytes = Vec::new();
            let file = File::open(path).map_err(Error::io(path))?;
            file.take(SIGNATURE_BYTES)
                .read_to_end(&mut bytes)
                .map_err(Error::io(path))?;
            signature = Some(bytes);
        }
        Ok(Self { path, signature })
    }

    /// Whether it is a file with these bytes at one of these places.
    pub fn has(&self, bytes: &[u8], places: &[usize]) -> bool {
        let signature = self.signature.as_deref().unwrap_or_default();
        let has = |place: &usize| signature[(*place).min(signature.len())..].starts_with(bytes);
        places.iter().any(has)
    }
}
