//! Publishes a run on the Hugging Face Hub, with its model card ([`card`]).

pub mod card;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::app::checkpoint::RunDir;
use crate::app::hub::{self, Reference};
use trajformer_core::error::{Error, Result};

/// What a repository became.
#[derive(Debug, Clone, Serialize)]
pub struct Pushed {
    /// Where people see it.
    pub url: String,
    /// Its new commit; none for a dry run.
    pub commit: Option<String>,
    /// Its files with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// Its README.md.
    #[serde(skip)]
    pub card: String,
}

/// How a run is published.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Whether a new repository is private.
    pub private: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// Publishes a run as a repository of the Hub, with a model card: README.md of the run directory, else one
/// that is made of what the run knows. Optimisers, targets and logs stay here.
///
/// # Errors
/// If the run has no whole checkpoint, or the Hub can't be reached or refuses.
pub fn push(run: &Path, reference: &Reference, options: &PushOptions) -> Result<Pushed> {
    let directory = RunDir::open(run)?;
    let mut files = Vec::new();
    for path in directory.published_files()? {
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let size = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        files.push((name, size, path));
    }
    let own = directory.file("README.md");
    let card = if own.exists() {
        std::fs::read_to_string(&own).map_err(Error::io(&own))?
    } else {
        card::card(&directory, reference)?
    };
    let mut listed: Vec<(String, u64)> = files
        .iter()
        .map(|(name, size, _)| (name.clone(), *size))
        .collect();
    listed.push(("README.md".to_owned(), card.len() as u64));
    let mut pushed = Pushed {
        url: format!("{}/{}", hub::cache::endpoint(), reference.id()),
        commit: None,
        files: listed,
        card,
    };
    if options.dry_run {
        return Ok(pushed);
    }
    let paths: Vec<PathBuf> = files.into_iter().map(|(_, _, path)| path).collect();
    pushed.commit = hub::upload(reference, &paths, &pushed.card, options.private)?;
    Ok(pushed)
}
