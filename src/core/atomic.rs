//! Files that are there as a whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file beside its place, then renames it into place: a reader, or a process that is killed, sees the old
/// content or the new one.
///
/// # Errors
/// If the disk fails.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    write_synced(&beside, bytes)?;
    fs::rename(&beside, path).map_err(Error::io(path))
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
