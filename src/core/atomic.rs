//! Files that are there as a whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// End of the name of what [`write_atomically`] writes beside a file.
const BESIDE: &str = ".tmp";

/// Writes a file beside its place, as `NAME.PROCESS.tmp`, then renames it into place: a reader, or a process that is killed,
/// sees the old content or the new one, and of several processes that write it at the same time the last one wins. What
/// could not be written whole is removed.
///
/// # Errors
/// If the disk fails.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}{BESIDE}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = write_synced(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path).map_err(Error::io(path)));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Removes what processes that were killed in [`write_atomically`] have left in `folder` beside files of these names. Nobody else may be
/// writing them.
///
/// # Errors
/// If the folder can't be read or a file can't be removed.
pub fn remove_unfinished(folder: &Path, names: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let found = entry.file_name();
        let found = found.to_string_lossy();
        let Some((name, process)) = found
            .strip_suffix(BESIDE)
            .and_then(|front| front.rsplit_once('.'))
        else {
            continue;
        };
        let is_process = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        if is_process && names.contains(&name) {
            let left = entry.path();
            fs::remove_file(&left).map_err(Error::io(&left))?;
        }
    }
    Ok(())
}

/// Waits until the disk has the names of the files in `folder`, where the system can: of two renames the first comes to the disk first then,
/// also when the machine loses its power.
pub fn sync_folder(folder: &Path) {
    // Some file systems know no such thing, and some systems open no folders.
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Writes a file and waits until the disk has it.
///
/// # Errors
/// If the disk fails.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(Error::io(path))
}
