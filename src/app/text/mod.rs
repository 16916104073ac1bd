//! Language models that read for policies: sentence encoders and the tokens of plain text ([`corpus`]). A build without the
//! feature `text` has none; instructions whose embeddings are stored with a run still work there.

pub mod corpus;
#[cfg(feature = "text")]
pub mod encoder;
#[cfg(feature = "text")]
mod weights;

use candle_core::Device;

#[cfg(feature = "text")]
pub use encoder::SentenceEncoder;
use trajformer_core::error::{Error, Result};
use trajformer_core::instructions::{Instructions, TextConfig};

#[cfg(feature = "text")]
/// What the sentence has of the squared length of an embedding that holds the words too. With less than half a classifier of
/// rooms is right in more wordings that it never saw.
const SENTENCE_SHARE: f32 = 1.0 / 6.0;

#[cfg(feature = "text")]
/// The embedding (E) of an instruction, of length 1: that of the sentence, then that of its words.
fn embed(config: &TextConfig, encoder: &SentenceEncoder, text: &str) -> Result<Vec<f32>> {
    let sentence = encoder.encode(text)?;
    if !config.words {
        return Ok(sentence);
    }
    let share = [SENTENCE_SHARE, 1.0 - SENTENCE_SHARE].map(f32::sqrt);
    let parts = [sentence, encoder.encode_words(text)?];
    let parts = parts.into_iter().zip(share);
    Ok(parts
        .flat_map(|(part, share)| part.into_iter().map(move |number| number * share))
        .collect())
}

/// Adds the embeddings of those of `texts` that `known` lacks, made as `config` says; its encoder is opened only if there
/// are any.
///
/// # Errors
/// If the encoder can't be opened, has embeddings of another size, or a text is empty.
pub fn encode<'a>(
    known: &mut Instructions,
    texts: impl IntoIterator<Item = &'a str>,
    config: &TextConfig,
    device: &Device,
) -> Result<()> {
    let unknown: Vec<&str> = texts
        .into_iter()
        .filter(|text| known.row(text).is_none())
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    add(known, &unknown, config, device)
}

/// Adds the embeddings of `texts`, one at least.
#[cfg(feature = "text")]
fn add(
    known: &mut Instructions,
    texts: &[&str],
    config: &TextConfig,
    device: &Device,
) -> Result<()> {
    let encoder = &config.encoder;
    let model = SentenceEncoder::open(encoder, device).map_err(|error| {
        Error::Unsuitable(format!(
            "the instruction `{}` needs the encoder: {error}",
            texts[0]
        ))
    })?;
    if model.dimension() != config.dimension {
        return Err(Error::settings(format!(
            "`text.dimension` is {}, but embeddings of {encoder} have {} numbers: set it to that",
            config.dimension,
            model.dimension()
        )));
    }
    for text in texts {
        known.insert(text, &embed(config, &model, text)?)?;
    }
    Ok(())
}

/// Fails: this build has no encoders.
#[cfg(not(feature = "text"))]
fn add(_: &mut Instructions, texts: &[&str], config: &TextConfig, _: &Device) -> Result<()> {
    Err(Error::NotBuilt {
        feature: "text",
        problem: format!(
            "the instruction `{}` needs the encoder {}, and this build has no language models: build with the feature \
             `text` (a default one)",
            texts[0], config.encoder
        ),
    })
}
