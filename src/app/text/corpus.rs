//! Reads plain text as a language model's tokens.

use std::path::Path;

#[cfg(feature = "text")]
use super::encoder::read_tokenizer;
use trajformer_core::corpus::{Corpus, CorpusConfig};
use trajformer_core::error::{Error, Result};

#[cfg(feature = "text")]
/// Reads the text of a configuration with the tokenizer (`tokenizer.json`) in `folder`: line by line, line ends
/// included, one after the other and cut into sequences; what is left at the end is dropped.
///
/// # Errors
/// If a file can't be read, the tokenizer knows more words than the configuration says, or the text is shorter than one
/// sequence.
pub fn read(config: &CorpusConfig, folder: &Path) -> Result<Corpus> {
    let path = &config.path;
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let most = (usize::MAX, usize::MAX);
    let mut tokenizer = read_tokenizer(folder, config.vocabulary, most)?;
    let broken =
        |error: tokenizers::Error| Error::data(&folder.join("tokenizer.json"), error.to_string());
    tokenizer.with_truncation(None).map_err(broken)?;
    let mut tokens = Vec::new();
    for line in text.split_inclusive('\n') {
        let line = tokenizer.encode(line, false).map_err(broken)?;
        tokens.extend_from_slice(line.get_ids());
    }
    Corpus::new(tokens, config.sequence_tokens)
        .map_err(|error| Error::data(path, error.to_string()))
}

#[cfg(not(feature = "text"))]
/// Fails: this build has no language models.
///
/// # Errors
/// Always.
pub fn read(config: &CorpusConfig, _: &Path) -> Result<Corpus> {
    Err(Error::NotBuilt {
        feature: "text",
        problem: format!(
            "{}: text is read with a language model's tokenizer, which this build can't: build with the feature `text` (a \
             default one)",
            config.path.display()
        ),
    })
}
