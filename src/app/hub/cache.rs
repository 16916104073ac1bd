//! The cache that Hub libraries share, read without the network.
//!
//! ```text
//! CACHE/models--OWNER--NAME/refs/REVISION          the commit that a branch or tag was at
//!                          /snapshots/COMMIT/FILE  a link into blobs
//!                          /blobs/ETAG             content
//!                          /.no_exist/COMMIT/FILE  known not to be there
//! ```

use std::env;
use std::path::{Path, PathBuf};

use crate::app::datasets::place::{caches, named};
use crate::app::hub::model::{Pulled, WEIGHTS};
use crate::app::hub::reference::Reference;
use crate::app::pretrained::weights;
use crate::app::pretrained::weights::Index;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};

/// The Hub, where `HF_ENDPOINT` names no other.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Where pages and files are asked for: `HF_ENDPOINT`, else the Hub; no slash at its end.
pub fn endpoint() -> String {
    let named = env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
    let endpoint = named.unwrap_or_else(|| ENDPOINT.to_owned());
    endpoint.trim_end_matches('/').to_owned()
}

/// Whether `HF_HUB_OFFLINE` forbids the network: 1, ON, YES or TRUE.
pub fn offline() -> bool {
    is_on("HF_HUB_OFFLINE")
}

/// Whether a variable is 1, ON, YES or TRUE, in capitals or not.
pub fn is_on(variable: &str) -> bool {
    let value = env::var(variable).unwrap_or_default();
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

/// Where Hub libraries keep what they have: `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
pub fn home() -> PathBuf {
    named("HF_HOME").unwrap_or_else(|| caches().join("huggingface"))
}

/// A folder of models.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// At `root`.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` in `HF_HOME`, else in `huggingface` in
    /// `XDG_CACHE_HOME` or `~/.cache`.
    pub fn from_environment() -> Self {
        let folder = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE"));
        Self {
            root: folder.unwrap_or_else(|| home().join("hub")),
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a repository.
    pub fn repository(&self, reference: &Reference) -> PathBuf {
        let name = format!("models--{}", reference.id().replace('/', "--"));
        self.root.join(name)
    }

    /// The folder of the commit that a reference had when it was last asked for, whatever it holds.
    pub fn snapshot(&self, reference: &Reference) -> Option<PathBuf> {
        let repository = self.repository(reference);
        let commit = if reference.is_pinned() {
            reference.revision().to_owned()
        } else {
            let path = repository.join("refs").join(reference.revision());
            std::fs::read_to_string(path).ok()?.trim().to_owned()
        };
        self.commit(reference, &commit)
    }

    /// The folder of a commit, if there is one.
    pub fn commit(&self, reference: &Reference, commit: &str) -> Option<PathBuf> {
        let is_name = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric());
        let folder = self.repository(reference).join("snapshots").join(commit);
        (is_name && folder.is_dir()).then_some(folder)
    }

    /// Whether a commit is known to lack a file.
    pub fn is_known_missing(&self, reference: &Reference, commit: &str, name: &str) -> bool {
        self.marker(reference, commit, name).exists()
    }

    /// Notes that a commit lacks a file.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn mark_missing(&self, reference: &Reference, commit: &str, name: &str) -> Result<()> {
        let marker = self.marker(reference, commit, name);
        let folder = marker.parent().unwrap_or(&marker);
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        std::fs::write(&marker, []).map_err(Error::io(&marker))
    }

    fn marker(&self, reference: &Reference, commit: &str, name: &str) -> PathBuf {
        let markers = self.repository(reference).join(".no_exist");
        markers.join(commit).join(name)
    }

    /// Notes the commit that a branch or tag is at.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remember(&self, reference: &Reference, commit: &str) -> Result<()> {
        if reference.is_pinned() {
            return Ok(());
        }
        let path = self
            .repository(reference)
            .join("refs")
            .join(reference.revision());
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        write_atomically(&path, commit.as_bytes())
    }

    /// The snapshot, if it is whole: it has weights, all of them if they are split, or is a tokenizer alone.
    pub fn model(&self, reference: &Reference) -> Option<PathBuf> {
        let has = |folder: &Path, name: &str| folder.join(name).is_file();
        self.snapshot(reference).filter(|folder| {
            let tokenizer = has(folder, "tokenizer.json") && !has(folder, "config.json");
            let whole = |name: &&str| {
                has(folder, name) || lacking(folder, name).is_some_and(|l| l.is_empty())
            };
            WEIGHTS.iter().any(whole) || tokenizer
        })
    }

    /// Files of a snapshot's split weights that are not there.
    pub fn lacking(&self, reference: &Reference) -> Vec<String> {
        let folder = self.snapshot(reference);
        let found =
            folder.and_then(|folder| WEIGHTS.iter().find_map(|name| lacking(&folder, name)));
        found.unwrap_or_default()
    }
}

/// The files that the index of these weights names and `folder` lacks; `None` without an index. One that can't be read
/// lacks nothing: opening the model says what is wrong with it.
fn lacking(folder: &Path, weights_name: &str) -> Option<Vec<String>> {
    let path = folder.join(weights::index_name(weights_name));
    path.is_file().then(|| match Index::read(&path) {
        Ok(index) => index
            .lacking(folder)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        Err(_) => Vec::new(),
    })
}

/// What is in a snapshot.
///
/// # Errors
/// If the folder can't be read.
pub fn describe(folder: PathBuf) -> Result<Pulled> {
    let mut files = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(&inside).map_err(Error::io(&inside))? {
            let path = entry.map_err(Error::io(&inside))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&folder).unwrap_or(&path);
            let size = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
            files.push((name.to_string_lossy().into_owned(), size));
        }
    }
    files.sort();
    let commit = folder.file_name().unwrap_or_default();
    Ok(Pulled {
        commit: commit.to_string_lossy().into_owned(),
        folder,
        files,
    })
}
