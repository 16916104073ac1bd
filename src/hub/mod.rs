//! The Hugging Face Hub: models in, runs out. Only this module uses the network, and the cache that Hub
//! libraries share.
//!
//! Reading tries the cache first, without asking anybody; `hub pull` asks the Hub for what is new. Variables
//! mean what they mean to Hub users: `HF_HOME`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` and `XDG_CACHE_HOME`
//! say where the cache is, `HF_HUB_OFFLINE` forbids the network, `HF_ENDPOINT` names another Hub, `HF_TOKEN`
//! (or the token file of `hf auth login`) opens private and gated repositories.

pub mod cache;
pub mod card;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod explain;
#[cfg(feature = "hub")]
mod progress;
mod reference;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::checkpoint::RunDir;
use crate::error::{Error, Result};
use crate::pretrained::weights;
use cache::Cache;
pub use reference::Reference;

/// Files of a model that are fetched, in this order: what is small first, so that weights complete a model.
pub const WANTED: [&str; 18] = [
    "config.json",
    "config.toml",
    "state.toml",
    "evaluations.csv",
    "policy.safetensors",
    "instructions.safetensors",
    "README.md",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "special_tokens_map.json",
    "processor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "generation_config.json",
];

/// Weights: the first of them that a repository has, after everything else; or, in its place, its index and the files
/// that this names.
pub const WEIGHTS: [&str; 2] = [weights::SAFETENSORS, weights::PICKLE];

/// A model on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct Pulled {
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// The commit that it is of.
    pub commit: String,
    /// Its files with their sizes in bytes.
    pub files: Vec<(String, u64)>,
}

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

/// The folder of a model: `path` itself, or what `hf://ID[@REVISION]` names, from the cache or the Hub.
///
/// # Errors
/// If it is neither in the cache nor to be had.
pub fn local(path: &Path) -> Result<PathBuf> {
    if let Some(problem) = path.to_str().and_then(reference::address) {
        return Err(problem);
    }
    let Some(reference) = path.to_str().and_then(Reference::of_url).transpose()? else {
        return Ok(path.to_path_buf());
    };
    match Cache::from_environment().model(&reference) {
        Some(folder) => Ok(folder),
        None => Ok(pull(&reference)?.folder),
    }
}

/// Brings the cached copy of a model up to date, and says what it is.
///
/// # Errors
/// If the Hub can't be reached, refuses, or has no such model; offline or without the feature `hub`, if it
/// is not in the cache.
pub fn pull(reference: &Reference) -> Result<Pulled> {
    let cache = Cache::from_environment();
    match (refusal(), cache.model(reference)) {
        (None, _) => fetch(&cache, reference),
        (Some(_), Some(folder)) => cache::describe(folder),
        (Some(reason), None) => {
            let lacking = cache.lacking(reference);
            let problem = match lacking.is_empty() {
                true => "not in the cache".to_owned(),
                false => format!("without `{}` in the cache", lacking.join("`, `")),
            };
            Err(Error::Hub {
                what: reference.to_string(),
                problem: format!(
                    "{problem} {}, and {reason}; or put its files into a folder, and name the folder",
                    cache.root().display()
                ),
            })
        }
    }
}

/// Why the network is not used, if it is not.
fn refusal() -> Option<&'static str> {
    if cfg!(not(feature = "hub")) {
        return Some(
            "this build can't reach the Hub: build with the feature `hub` (a default one), or fetch it with \
             another Hub library (`hf download ID`)",
        );
    }
    cache::offline().then_some("HF_HUB_OFFLINE is set: unset it to fetch the model")
}

#[cfg(feature = "hub")]
fn fetch(cache: &Cache, reference: &Reference) -> Result<Pulled> {
    client::pull(cache, reference)
}

#[cfg(not(feature = "hub"))]
fn fetch(_: &Cache, reference: &Reference) -> Result<Pulled> {
    Err(unreachable(reference))
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
    let card = match own.exists() {
        true => std::fs::read_to_string(&own).map_err(Error::io(&own))?,
        false => card::card(&directory, reference)?,
    };
    let mut listed: Vec<(String, u64)> = files
        .iter()
        .map(|(name, size, _)| (name.clone(), *size))
        .collect();
    listed.push(("README.md".to_owned(), card.len() as u64));
    let mut pushed = Pushed {
        url: format!("{}/{}", cache::endpoint(), reference.id()),
        commit: None,
        files: listed,
        card,
    };
    if options.dry_run {
        return Ok(pushed);
    }
    if let Some(reason) = refusal() {
        return Err(Error::Hub {
            what: reference.to_string(),
            problem: reason.to_owned(),
        });
    }
    let paths: Vec<PathBuf> = files.into_iter().map(|(_, _, path)| path).collect();
    pushed.commit = send(reference, &paths, &pushed.card, options)?;
    Ok(pushed)
}

#[cfg(feature = "hub")]
fn send(
    reference: &Reference,
    files: &[PathBuf],
    card: &str,
    options: &PushOptions,
) -> Result<Option<String>> {
    client::push(reference, files, card, options)
}

#[cfg(not(feature = "hub"))]
fn send(reference: &Reference, _: &[PathBuf], _: &str, _: &PushOptions) -> Result<Option<String>> {
    Err(unreachable(reference))
}

#[cfg(not(feature = "hub"))]
fn unreachable(reference: &Reference) -> Error {
    Error::Hub {
        what: reference.to_string(),
        problem: refusal().unwrap_or_default().to_owned(),
    }
}
