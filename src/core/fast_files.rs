//! [`FastFiles`]: the files of a FAST tokenizer, read but not understood.

/// What stands in the two files of a FAST tokenizer that somebody else fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct FastFiles {
    /// The content of `tokenizer.json`: merges, as the package `tokenizers` keeps them.
    pub json: Vec<u8>,
    /// The keys of `processor_config.json`.
    pub settings: FastSettings,
}

/// The keys of `processor_config.json`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FastSettings {
    /// Factor of coefficients before they are rounded.
    pub scale: f64,
    /// Tokens that merging was allowed.
    pub vocab_size: usize,
    /// The coefficient that is character 0.
    pub min_token: i64,
    /// T, where it is fixed.
    pub time_horizon: Option<usize>,
    /// A, where it is fixed.
    pub action_dim: Option<usize>,
}
