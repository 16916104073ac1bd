//! The Hugging Face Hub: models in, runs out; and public data sets, from the Hub and the servers of their publishers. Only this module uses the network, and the cache that Hub
//! libraries share. Its way of asking servers also serves Python's package index ([`index`]).
//!
//! Reading tries the cache first, without asking anybody; `hub pull` asks the Hub for what is new. Variables
//! mean what they mean to Hub users: `HF_HOME`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` and `XDG_CACHE_HOME`
//! say where the cache is, `HF_HUB_OFFLINE` forbids the network, `HF_ENDPOINT` names another Hub, `HF_TOKEN`
//! (or the token file of `hf auth login`, `HF_TOKEN_PATH`) opens private and gated repositories and is sent to the Hub
//! only, `HF_HUB_DOWNLOAD_TIMEOUT` says for how many seconds a server may be silent. `TRAJFORMER_DATA_MIRROR` names a server
//! that has D4RL's and OGBench's files under the same paths.

#[cfg(feature = "hub")]
mod address;
pub mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod data;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod explain;
#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
pub mod index;
#[cfg(feature = "hub")]
mod lfs;
pub mod model;
#[cfg(feature = "hub")]
mod network;
#[cfg(feature = "hub")]
mod progress;
#[cfg(feature = "hub")]
mod publish;
mod reference;
#[cfg(feature = "hub")]
mod token;

use std::path::{Path, PathBuf};

use cache::Cache;
pub use model::{Checked, DataFile, Pulled, PulledData};
pub use reference::Reference;

use crate::app::datasets::Named;
use trajformer_core::error::{Error, Result};

/// The folder of a model: `path` itself, or what `hf://ID[@REVISION]` names, from the cache or the Hub.
///
/// # Errors
/// If it is neither cached nor downloadable.
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
            let problem = if lacking.is_empty() {
                "not in the cache".to_owned()
            } else {
                format!("without `{}` in the cache", lacking.join("`, `"))
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

/// Fetches a data set into its place in the cache, or below the folder `to`; if it is there already, compares its checksum with
/// the published one, or with that of its first time.
///
/// A failure leaves nothing under the data set's name; what has come stays beside it, and the next call goes on from there.
///
/// # Errors
/// If a server can't be reached or refuses, what it sends is not what is known of the data set, or the disk fails; always
/// without the feature `hub`.
pub fn pull_data(named: &Named, to: Option<&Path>) -> Result<PulledData> {
    let place = to.map_or_else(|| named.cached(), |folder| named.below(folder));
    for folder in place.ancestors().skip(1) {
        if folder.exists() && !folder.is_dir() {
            let problem = format!(
                "is a file, where {} is to be put into a folder: name a folder, there or not",
                named.name()
            );
            return Err(Error::data(folder, problem));
        }
    }
    fetch_data(named, &place)
}

#[cfg(feature = "hub")]
fn fetch_data(named: &Named, place: &Path) -> Result<PulledData> {
    data::pull(named, place)
}

#[cfg(not(feature = "hub"))]
fn fetch_data(named: &Named, place: &Path) -> Result<PulledData> {
    Err(Error::NotBuilt {
        feature: "hub",
        problem: format!(
            "this build can't fetch data: build with the feature `hub` (a default one), or put {} at {}",
            named.name(),
            place.display()
        ),
    })
}

/// Why the network is not used, if it is not.
fn refusal() -> Option<&'static str> {
    if cfg!(not(feature = "hub")) {
        return Some(
            "this build can't reach the Hub: build with the feature `hub` (a default one), or fetch it with \
             another Hub library (`hf download ID`)",
        );
    }
    cache::offline().then_some("HF_HUB_OFFLINE is set: unset it to reach the Hub")
}

#[cfg(feature = "hub")]
fn fetch(cache: &Cache, reference: &Reference) -> Result<Pulled> {
    client::pull(cache, reference)
}

#[cfg(not(feature = "hub"))]
fn fetch(_: &Cache, reference: &Reference) -> Result<Pulled> {
    Err(unreachable(reference))
}

#[cfg(feature = "hub")]
/// Makes the repository if it is not there, and commits `files` and its README.md; the new commit's number.
///
/// # Errors
/// If the Hub can't be reached or refuses, or this build or `HF_HUB_OFFLINE` keeps from the network.
pub fn upload(
    reference: &Reference,
    files: &[PathBuf],
    card: &str,
    private: bool,
) -> Result<Option<String>> {
    if let Some(reason) = refusal() {
        return Err(Error::Hub {
            what: reference.to_string(),
            problem: reason.to_owned(),
        });
    }
    publish::push(reference, files, card, private)
}

#[cfg(not(feature = "hub"))]
/// Fails: this build can't reach the Hub.
///
/// # Errors
/// Always.
pub fn upload(reference: &Reference, _: &[PathBuf], _: &str, _: bool) -> Result<Option<String>> {
    Err(unreachable(reference))
}

#[cfg(not(feature = "hub"))]
fn unreachable(reference: &Reference) -> Error {
    Error::Hub {
        what: reference.to_string(),
        problem: refusal().unwrap_or_default().to_owned(),
    }
}
