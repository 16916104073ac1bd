//! What a model on the Hub consists of.

use std::path::PathBuf;

use serde::Serialize;

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
