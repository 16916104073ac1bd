//! [`check_arrays`]: whether a file is one of arrays, whole as far as its own tables say it, for files that have just come from somewhere.
//!
//! It does not say whether a reader makes a data set of it: that is [`files`](crate::formats::files).

use std::path::Path;

use crate::formats::format::Place;
use crate::formats::hdf5_group::{Hdf5Group, is_hdf5};
use crate::formats::{detect, npz};
use trajformer_core::error::{Error, Result};
use trajformer_core::stand_in;

/// Bytes of a file's beginning that are quoted.
const QUOTED: usize = 24;

/// Opens an HDF5 or npz file with the library that reads it, and looks through its tables: all arrays lie inside of the file,
/// those of an npz file unpack to what their checksums say, and `names` are among them.
///
/// # Errors
/// If it can't be read, is a page or a pointer in a file's place, of another format, cut off, damaged, without arrays, or without one of
/// `names`: says what it begins with.
pub fn check_arrays(path: &Path, names: &[&str]) -> Result<()> {
    let place = Place::at(path)?;
    let start = place.signature.as_deref().unwrap_or_default();
    if let Some(problem) = stand_in::problem_of_binary(start) {
        return Err(Error::data(path, problem));
    }
    let found = if is_hdf5(&place) {
        Hdf5Group::open(path)?.check_arrays()?
    } else if npz::detect(&place)?.is_some() {
        npz::check_arrays(path)?
    } else {
        return Err(match detect(path) {
            Err(Error::Data { path, problem }) => {
                let quote = start[..start.len().min(QUOTED)].escape_ascii();
                Error::data(&path, format!("{problem}; it begins with `{quote}`"))
            }
            Err(other) => other,
            Ok(_) => Error::data(path, "is no HDF5 or npz file"),
        });
    };
    if found.is_empty() {
        return Err(Error::data(path, "holds no arrays"));
    }
    match names
        .iter()
        .find(|name| !found.iter().any(|key| key == *name))
    {
        Some(name) => Err(Error::data(
            path,
            format!(
                "has no array `{name}`, which this data set has: its arrays are `{}`",
                found[..found.len().min(8)].join("`, `")
            ),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_arrays_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data.part");
        let check = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            check_arrays(&path, &["observations"]).map_err(|error| error.to_string())
        };
        let mut empty_zip = b"PK\x05\x06".to_vec();
        empty_zip.extend([0; 18]);
        let cases: [(&[u8], &str); 6] = [
            (b"", "is empty"),
            (b"<!doctype html><p>Moved", "HTML"),
            (b"Entry not found", "Entry not found"),
            (&[0x00, 0x01, b'a', b'b'], "begins with `\\x00\\x01ab`"),
            (&empty_zip, "holds no arrays"),
            (b"\x89HDF\r\n\x1a\n and nothing more", "HDF5"),
        ];
        for (bytes, words) in cases {
            let problem = check(bytes).expect_err(words);
            assert!(problem.contains(words), "{problem}");
        }
        npz::write_array(&path, "rewards", &[3], &[1.0; 3]).expect("written");
        let whole = std::fs::read(&path).expect("read");
        let problem = check(&whole).expect_err("no observations");
        assert!(problem.contains("`observations`"), "{problem}");
        check_arrays(&path, &["rewards"]).expect("whole");
        for cut in [whole.len() - 1, whole.len() / 2, 10] {
            assert!(check(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
