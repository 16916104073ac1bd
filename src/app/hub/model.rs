//! What a model on the Hub consists of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::app::pretrained::weights;

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

/// A file of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its name, with folders below the data set's own.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

/// What the checksum of a data set was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// With the one that is published.
    Published,
    /// With the one that was noted when it first came.
    AsBefore,
    /// With nothing: none is published, and it came for the first time. It is noted now.
    First,
}

/// A data set on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct PulledData {
    /// Its name.
    pub name: String,
    /// Its file or folder.
    pub place: PathBuf,
    /// What a reader is to open; `None` where it has several data files, or none.
    pub path: Option<PathBuf>,
    /// The data files in its folder, where it is one.
    pub readable: Vec<PathBuf>,
    /// Its files.
    pub files: Vec<DataFile>,
    /// What the checksum of its first file was compared with.
    pub checked: Checked,
    /// Whether anything came over the network.
    pub is_new: bool,
}
