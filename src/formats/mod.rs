//! Data-set files: one reader (and writer) per format; nothing else opens data-set files.
//!
//! [`FORMATS`] lists them. The format is detected from the content, never by the file's name.

mod arrays;
mod bounds;
pub mod columns;
pub mod d4rl_hdf5;
mod ends;
pub mod fast_folder;
pub mod files;
mod flat;
pub mod format;
mod hdf5;
mod hdf5_bytes;
mod hdf5_errors;
mod hdf5_group;
mod hdf5_links;
pub mod in_memory;
mod limits;
mod minari;
#[cfg(feature = "arrow")]
pub mod minari_arrow;
#[cfg(not(feature = "arrow"))]
#[path = "no_arrow.rs"]
pub mod minari_arrow;
pub mod minari_hdf5;
mod minari_spaces;
mod npy;
pub mod npz;
pub mod options;
mod successors;
mod vectors;
pub mod whole;

use std::path::{Path, PathBuf};

pub use format::{Format, Place, Writer};
use trajformer_core::error::{Error, Result};
use trajformer_core::stand_in;

/// The formats: one line each. What a line names is in the format's own file. The first that finds what it reads is
/// taken.
pub const FORMATS: &[&Format] = &[
    &minari_hdf5::FORMAT,
    &minari_arrow::FORMAT,
    &d4rl_hdf5::FORMAT,
    &npz::FORMAT,
];

/// Tells the format of a file or folder by its content, and what its reader opens.
///
/// # Errors
/// If it can't be read, or is of no known format: says what is known.
pub fn detect(path: &Path) -> Result<(&'static Format, PathBuf)> {
    let place = Place::at(path)?;
    for &format in FORMATS {
        if let Some(found) = (format.detect)(&place)? {
            return Ok((format, found));
        }
    }
    let problem = match &place.signature {
        None => unknown_folder(),
        Some(signature) => {
            let mut others = OTHERS.iter();
            let other = others.find(|(first, _)| signature.starts_with(first));
            let known = stand_in::problem(signature);
            known.unwrap_or_else(|| other.map_or_else(unknown_file, |(_, say)| (*say).to_owned()))
        }
    };
    Err(Error::data(path, problem))
}

/// What is said of a file of another format.
fn unknown_file() -> String {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for format in FORMATS {
        let Some(file) = format.file else { continue };
        match kinds.iter_mut().find(|(kind, _)| *kind == file) {
            Some((_, names)) => names.push(format.name),
            None => kinds.push((file, vec![format.name])),
        }
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, names)| match &names[..] {
            [name] if *name == kind => kind.to_owned(),
            _ => format!("{kind} ({})", names.join(" or ")),
        })
        .collect();
    let (last, first) = kinds
        .split_last()
        .map_or(("", &[][..]), |(l, f)| (&l[..], f));
    format!(
        "is neither {} nor {last} by its first bytes; a {} data set is given by its folder",
        first.join(", "),
        folders().0
    )
}

/// What is said of a folder of another kind.
fn unknown_folder() -> String {
    let (names, content) = folders();
    format!("is no {names} data set: {content}; name data files one by one")
}

/// The formats that are folders, and what was looked for in them.
fn folders() -> (String, String) {
    let (mut names, mut contents) = (Vec::new(), Vec::new());
    for format in FORMATS {
        if let Some(content) = format.folder.filter(|_| !names.contains(&format.name)) {
            names.push(format.name);
            contents.push(content);
        }
    }
    (names.join(" or "), contents.join("; "))
}

/// How names tell in which format a data set is saved, e.g. `.hdf5 (D4RL), .npz, or a folder (Minari)`.
pub fn written() -> String {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for format in FORMATS {
        let Some(writer) = &format.writer else {
            continue;
        };
        match writer.endings.first() {
            Some(ending) if *ending == format.name => files.push(format!(".{ending}")),
            Some(ending) => files.push(format!(".{ending} ({})", format.name)),
            None => folders.push(format!("a folder without ending ({})", format.name)),
        }
    }
    format!("{}, or {}", files.join(", "), folders.join(" or "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_no_format_is_answered_with_all_that_there_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("notes.hdf5");
        std::fs::write(&file, "nothing of this kind").expect("written");
        let problem = detect(&file).expect_err("text").to_string();
        let known = "is neither HDF5 (Minari or D4RL) nor npz by its first bytes; a Minari data set is given by its folder";
        assert!(problem.contains(known), "{problem}");
        let problem = detect(folder.path()).expect_err("empty").to_string();
        let known = "is no Minari data set: neither it nor its folder `data` holds main_data.hdf5";
        assert!(problem.contains(known), "{problem}");
        for format in FORMATS {
            let endings = format
                .writer
                .iter()
                .flat_map(|writer| writer.endings.first());
            for ending in endings {
                assert!(written().contains(&format!(".{ending}")), "{}", written());
            }
        }
    }
}
