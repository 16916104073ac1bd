//! Data-set files: one reader (and writer) per format; nothing else opens data-set files.
//!
//! The format is told by content, never by the file's name.

mod arrays;
mod bounds;
pub mod columns;
pub mod d4rl_hdf5;
mod ends;
pub mod fast_folder;
pub mod files;
mod flat;
mod hdf5;
mod hdf5_bytes;
mod hdf5_errors;
mod hdf5_group;
mod hdf5_links;
mod limits;
mod minari;
#[cfg(feature = "arrow")]
pub mod minari_arrow;
pub mod minari_hdf5;
mod minari_spaces;
mod npy;
pub mod npz;
pub mod options;
mod successors;
mod vectors;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use trajformer_core::error::{Error, Result};
use trajformer_core::stand_in;

/// A kind of data set, and what its reader opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// D4RL's HDF5 layout, one row a step.
    D4rlHdf5(PathBuf),
    /// Minari's HDF5 storage: the HDF5 file.
    MinariHdf5(PathBuf),
    /// Minari's Arrow storage: the folder with the metadata.
    MinariArrow(PathBuf),
    /// NumPy's npz.
    Npz(PathBuf),
}

/// Tells the format of a file or folder by its content.
///
/// # Errors
/// If it can't be read, or is of no known format: says what is known.
pub fn detect(path: &Path) -> Result<Format> {
    if path.is_dir() {
        return detect_folder(path);
    }
    let signature = signature(path)?;
    let is_hdf5 = |place: &usize| signature[(*place).min(signature.len())..].starts_with(HDF5);
    if HDF5_PLACES.iter().any(is_hdf5) {
        let root = hdf5_group::Hdf5Group::open(path)?;
        // Names that can't be listed are named when they are read.
        let names = root.group_names().unwrap_or_default();
        let episodes = names
            .iter()
            .any(|name| minari_hdf5::episode_number(name).is_some());
        return Ok(if episodes {
            Format::MinariHdf5(path.to_path_buf())
        } else {
            Format::D4rlHdf5(path.to_path_buf())
        });
    }
    if signature.starts_with(b"PK\x03\x04") || signature.starts_with(b"PK\x05\x06") {
        return Ok(Format::Npz(path.to_path_buf()));
    }
    let otherwise = "is neither HDF5 (D4RL or Minari) nor npz by its first bytes; a Minari data set is \
                     given by its folder";
    let other = OTHERS
        .iter()
        .find(|(first, _)| signature.starts_with(first));
    let problem = match (stand_in::problem(&signature), other) {
        (Some(problem), _) => problem,
        (None, other) => other.map_or(otherwise, |(_, problem)| problem).to_owned(),
    };
    Err(Error::data(path, problem))
}

impl Format {
    /// The key, or keys, that say the range of actions in it.
    pub(crate) fn range_keys(&self) -> &'static str {
        match self {
            Self::MinariHdf5(_) | Self::MinariArrow(_) => "`action_space`",
            Self::D4rlHdf5(_) | Self::Npz(_) => "`action_low` and `action_high`",
        }
    }
}

/// First bytes of files that are easily taken for data sets, and what to do about them.
const OTHERS: [(&[u8], &str); 5] = [
    (
        b"\x93NUMPY",
        "is a single NumPy array: save all arrays of the data set in one file with np.savez",
    ),
    (
        b"\x80",
        "is a Python pickle, which is not read: save its arrays with np.savez",
    ),
    (
        b"ARROW1",
        "is one file of a data set in Minari's arrow storage: give the data set's folder",
    ),
    (
        b"PAR1",
        "is a Parquet file, which is not read: Minari's storages hdf5 and arrow are",
    ),
    (
        b"\x1f\x8b",
        "is packed with gzip: unpack it first (gunzip or tar)",
    ),
];

/// Minari's folders: the data set's, or the `data` folder inside it.
fn detect_folder(folder: &Path) -> Result<Format> {
    for inner in [folder.to_path_buf(), folder.join("data")] {
        let file = inner.join(minari_hdf5::MAIN_DATA);
        if file.is_file() {
            return Ok(Format::MinariHdf5(file));
        }
        if !inner.join(minari::METADATA).is_file() {
            continue;
        }
        return match minari::data_format(&inner)?.as_deref() {
            Some("arrow") => Ok(Format::MinariArrow(inner)),
            Some("hdf5") | None => Err(Error::data(
                &inner,
                format!("`{}` is missing", minari_hdf5::MAIN_DATA),
            )),
            Some(other) => {
                let problem = format!(
                    "Minari's {other} storage is not read, only hdf5 and arrow: make a copy of the data set in one \
                     of them with the minari package (`data_format=\"hdf5\"`)"
                );
                Err(Error::data(&inner, problem))
            }
        };
    }
    let problem = "is no Minari data set: neither it nor its folder `data` holds main_data.hdf5 or \
                   metadata.json; name data files one by one";
    Err(Error::data(folder, problem))
}

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Where HDF5 may begin: behind a block that others use, as in MATLAB's files.
const HDF5_PLACES: [usize; 4] = [0, 512, 1024, 2048];

/// Enough of a file to know what it is.
const SIGNATURE_BYTES: u64 = 2056;

fn signature(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(SIGNATURE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(Error::io(path))?;
    Ok(bytes)
}
