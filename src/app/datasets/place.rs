//! Where fetched data sets lie: `TRAJFORMER_DATA`, else `trajformer/data` in `XDG_CACHE_HOME` or `~/.cache`.

use std::path::{Path, PathBuf};

/// Endings of files that a reader here may open, by their content.
pub const READABLE: [&str; 3] = ["hdf5", "h5", "npz"];

/// The path that a variable names; `None` if it is not set or empty.
pub fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Where programs keep what they can fetch again: `XDG_CACHE_HOME`, else `~/.cache`.
pub fn caches() -> PathBuf {
    let user = || named("HOME").unwrap_or_default().join(".cache");
    named("XDG_CACHE_HOME").unwrap_or_else(user)
}

/// The folder of data sets.
pub fn root() -> PathBuf {
    named("TRAJFORMER_DATA").unwrap_or_else(|| caches().join("trajformer/data"))
}

/// What a reader is to open of a folder from the Hub: the folder itself if it is a data set of Minari, else the only data
/// file that is in it; `None` if there is none, or more than one.
pub fn readable(folder: &Path) -> Option<PathBuf> {
    if folder.is_file() {
        return Some(folder.to_path_buf());
    }
    if folder.join("data/metadata.json").is_file() {
        return Some(folder.to_path_buf());
    }
    let mut found = files(folder);
    let one = found.pop()?;
    found.is_empty().then_some(one)
}

/// The data files in a folder and those below it, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(inside).into_iter().flatten().flatten() {
            let path = entry.path();
            let ending = path
                .extension()
                .and_then(|ending| ending.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if READABLE.contains(&ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
