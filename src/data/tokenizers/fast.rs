//! [`Fast`]: FAST, frequency-space action sequence tokenization.
//!
//! Pertsch et al. 2025, <https://arxiv.org/abs/2501.09747>; authors' code physical-intelligence/fast on the Hub,
//! `processing_action_tokenizer.py`. A chunk (T, A) of actions that lie mostly in ±1 becomes
//!
//! ```text
//! c = round(scale * DCT(chunk))             orthonormal, along time; halves to even
//! text = chr(max(c - min_token, 0)) ...     row-major: all dimensions of frequency 0 first
//! tokens = byte-level BPE of the text       merges learned from the data
//! ```
//!
//! and back; tokens that do not stand for T A coefficients give zeros. Tokens are those of the authors' code but for
//! coefficients within rounding of a half (lengths that are squares have such, of actions on a grid), where SciPy's transform
//! decides by its last bit and ours, a matrix, is exact more often. Deviations: a token sequence that breaks a character
//! gives zeros, where theirs takes the replacement character for a coefficient; tokens that mean nothing are counted
//! ([`Fast::malformed`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use trajformer_core::fast_files::FastSettings;

use rayon::prelude::*;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{ModelWrapper, Tokenizer};
use trajformer_models::params::StateVisitor;

use crate::tokenizers::dct::Dct;
use crate::tokenizers::tokenizer::{Decoded, check_rows};
use trajformer_core::error::{Error, Result};

/// A pair is merged if it occurs so often; the authors'.
const MIN_FREQUENCY: u64 = 2;
/// Characters of the longest token; the authors'.
const MAX_TOKEN_LENGTH: usize = 10_000;
/// A coefficient is a character: Unicode has so many.
const MOST_CHARACTERS: f64 = 1_114_111.0;

/// Arguments of [`Fast::fit`]. Defaults: the authors'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FastOptions {
    /// Factor of coefficients before they are rounded: larger is finer and longer.
    pub scale: f64,
    /// Tokens that merging may make, the alphabet included.
    pub vocab_size: usize,
}

impl Default for FastOptions {
    fn default() -> Self {
        Self {
            scale: 10.0,
            vocab_size: 1024,
        }
    }
}

/// The tokenizer: settings, and merges as the Hugging Face package `tokenizers` keeps them.
pub struct Fast {
    settings: FastSettings,
    bpe: Tokenizer,
    json: Vec<u8>,
    malformed: AtomicU64,
}

impl fmt::Debug for Fast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Fast");
        shown.field("settings", &self.settings);
        shown
            .field("tokens", &self.tokens())
            .finish_non_exhaustive()
    }
}

impl Clone for Fast {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings,
            bpe: self.bpe.clone(),
            json: self.json.clone(),
            malformed: AtomicU64::new(0),
        }
    }
}

impl Fast {
    /// From the content of `tokenizer.json` and the keys of `processor_config.json`.
    ///
    /// # Errors
    /// If the file is no byte-level BPE, or the scale is not a positive number.
    pub fn from_parts(json: &[u8], settings: FastSettings) -> Result<Self> {
        if !(settings.scale > 0.0 && settings.scale.is_finite()) {
            let scale = settings.scale;
            return Err(unsuitable(format!(
                "the scale is {scale}, expected a positive number"
            )));
        }
        Ok(Self {
            settings,
            bpe: parsed(json)?,
            json: json.to_vec(),
            malformed: AtomicU64::new(0),
        })
    }

    /// Learns merges from `chunks`, each row-major (T, `dims`), of any lengths: the authors' `fit`.
    ///
    /// # Errors
    /// If there are no chunks, a number is not finite, or there are more different coefficients than `vocab_size`.
    pub fn fit(chunks: &[&[f64]], dims: usize, options: FastOptions) -> Result<Self> {
        let coefficients: Vec<Vec<i64>> = chunks
            .par_iter()
            .map(|chunk| coefficients(chunk, dims, options.scale))
            .collect::<Result<_>>()?;
        let all = || coefficients.iter().flatten().copied();
        let (Some(min), Some(max)) = (all().min(), all().max()) else {
            return Err(unsuitable("there are no chunks to learn from".into()));
        };
        let range = (max - min) as usize;
        if range > options.vocab_size {
            return Err(unsuitable(format!(
                "a vocabulary of {} is too small for coefficients from {min} to {max}: raise \
                 `vocab_size` above {range}, or lower `scale` ({})",
                options.vocab_size, options.scale
            )));
        }
        let texts: Vec<String> = coefficients
            .iter()
            .map(|coefficients| text(coefficients, min))
            .collect::<Result<_>>()?;
        let alphabet = (0..=range).map(|code| character(code as i64));
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(options.vocab_size)
            .min_frequency(MIN_FREQUENCY)
            .initial_alphabet(alphabet.collect::<Result<_>>()?)
            .max_token_length(Some(MAX_TOKEN_LENGTH))
            .show_progress(false)
            .build()
            .into();
        let mut bpe = Tokenizer::new(BPE::default());
        bpe.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
        bpe.with_decoder(Some(ByteLevel::default()));
        bpe.with_post_processor(Some(ByteLevel::default().trim_offsets(false)));
        bpe.train(&mut trainer, texts.iter())
            .map_err(|error| unsuitable(format!("learning merges failed: {error}")))?;
        let json = bpe
            .to_string(true)
            .map_err(|error| unsuitable(format!("merges can't be written: {error}")))?;
        let settings = FastSettings {
            scale: options.scale,
            vocab_size: options.vocab_size,
            min_token: min,
            time_horizon: None,
            action_dim: None,
        };
        // What is used is what was saved.
        Self::from_parts(json.as_bytes(), settings)
    }

    /// Its settings.
    pub fn settings(&self) -> FastSettings {
        self.settings
    }

    /// The content of its `tokenizer.json`.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// How many different tokens there are.
    pub fn tokens(&self) -> usize {
        self.bpe.get_vocab_size(true)
    }

    /// How many token sequences so far stood for nothing.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// The tokens of a chunk, row-major (T, `dims`). Coefficients below `min_token` count as that.
    ///
    /// # Errors
    /// If the chunk is empty or not whole rows, or a number is not finite or far out of range.
    pub fn encode(&self, chunk: &[f64], dims: usize) -> Result<Vec<u32>> {
        let coefficients = coefficients(chunk, dims, self.settings.scale)?;
        let text = text(&coefficients, self.settings.min_token)?;
        let encoding = self.bpe.encode_fast(text, true);
        let encoding = encoding.map_err(|error| unsuitable(format!("can't encode: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The chunk (`steps`, `dims`) that tokens stand for; zeros, a count and a warning if they stand for none.
    pub fn decode(&self, tokens: &[u32], steps: usize, dims: usize) -> Decoded {
        let rows = self.try_decode(tokens, steps, dims);
        if rows.is_none() {
            self.warn(tokens.len(), steps * dims);
        }
        Decoded {
            valid: rows.is_some(),
            rows: rows.unwrap_or_else(|| vec![0.0; steps * dims]),
        }
    }

    /// The chunk (`steps`, `dims`) that tokens stand for, if they stand for one; nothing is counted.
    pub fn try_decode(&self, tokens: &[u32], steps: usize, dims: usize) -> Option<Vec<f64>> {
        let settings = self.settings;
        let text = self.bpe.decode(tokens, false).ok()?;
        let coefficient = |character: char| {
            let code = i64::from(u32::from(character));
            // What stands for bytes that are no character is none.
            (character != char::REPLACEMENT_CHARACTER)
                .then(|| (code + settings.min_token) as f64 / settings.scale)
        };
        let found: Vec<f64> = text.chars().map(coefficient).collect::<Option<_>>()?;
        (!found.is_empty() && found.len() == steps * dims).then(|| Dct::new(steps).inverse(&found))
    }

    /// Counts tokens that stand for nothing, and says so the 1st, 10th, 100th, ... time.
    fn warn(&self, tokens: usize, coefficients: usize) {
        let count = self.malformed.fetch_add(1, Ordering::Relaxed) + 1;
        if 10u64.pow(count.ilog10()) == count {
            tracing::warn!(
                "{tokens} tokens do not stand for {coefficients} coefficients: zeros in their place ({count} times so far)"
            );
        }
    }

    /// What every token adds to a text, in the order of the tokens: its bytes.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        let spelled = |token| self.bpe.id_to_token(token).map(|word| bytes_of(&word));
        let count = self.bpe.get_vocab_size(true) as u32;
        (0..count)
            .map(|token| spelled(token).unwrap_or_default())
            .collect()
    }

    /// Shows merges and settings to `visitor` under `prefix`.
    ///
    /// # Errors
    /// What the visitor says; if what was restored is damaged.
    pub fn state(&mut self, prefix: &str, visitor: &mut dyn StateVisitor) -> Result<()> {
        let (mut json, mut settings) = (self.json.clone(), self.settings);
        let (mut min_token, mut vocab_size) =
            (settings.min_token as f64, settings.vocab_size as u64);
        visitor.bytes(&format!("{prefix}json"), &mut json)?;
        visitor.number(&format!("{prefix}scale"), &mut settings.scale)?;
        visitor.number(&format!("{prefix}min_token"), &mut min_token)?;
        visitor.counter(&format!("{prefix}vocab_size"), &mut vocab_size)?;
        settings.min_token = min_token as i64;
        settings.vocab_size = vocab_size as usize;
        if json != self.json || settings != self.settings {
            *self = Self::from_parts(&json, settings).map_err(|error| {
                unsuitable(format!("`{prefix}json`: the file is damaged: {error}"))
            })?;
        }
        Ok(())
    }
}

fn parsed(json: &[u8]) -> Result<Tokenizer> {
    let bpe = Tokenizer::from_bytes(json).map_err(|error| {
        unsuitable(format!(
            "not a file that `tokenizers` reads, or cut off: {error}"
        ))
    })?;
    match bpe.get_model() {
        ModelWrapper::BPE(model) if model.dropout.is_none_or(|dropout| dropout == 0.0) => Ok(bpe),
        ModelWrapper::BPE(_) => Err(unsuitable(
            "merges are dropped at random (`dropout`): such tokens can't be repeated".into(),
        )),
        _ => Err(unsuitable(
            "the model is no BPE, as a FAST tokenizer's is".into(),
        )),
    }
}

/// Rounded coefficients of a chunk, row-major (T, `dims`).
fn coefficients(chunk: &[f64], dims: usize, scale: f64) -> Result<Vec<i64>> {
    if chunk.is_empty() || dims == 0 {
        return Err(unsuitable("a chunk has no rows".into()));
    }
    check_rows(chunk, dims)?;
    let frequencies = Dct::new(chunk.len() / dims).forward(chunk);
    let rounded = frequencies.into_iter().map(|coefficient| {
        let rounded = (coefficient * scale).round_ties_even();
        if rounded.abs() <= MOST_CHARACTERS {
            Ok(rounded as i64)
        } else {
            Err(unsuitable(format!(
                "a coefficient of {rounded} is too large: normalise actions to ±1"
            )))
        }
    });
    rounded.collect()
}

/// Coefficients as characters.
fn text(coefficients: &[i64], min_token: i64) -> Result<String> {
    let codes = coefficients.iter();
    codes.map(|&c| character((c - min_token).max(0))).collect()
}

fn character(code: i64) -> Result<char> {
    let known = u32::try_from(code).ok().and_then(char::from_u32);
    known.ok_or_else(|| {
        unsuitable(format!(
            "coefficient {code} above the smallest is no character: lower `scale`"
        ))
    })
}

/// The bytes of a byte-level token: GPT-2's visible stand-ins of bytes, or what is written, where a character is none.
fn bytes_of(word: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = word.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| word.as_bytes().to_vec())
}

/// The byte that a character stands for: visible ones of Latin-1 for themselves, those from U+0100 on for the others, in
/// order.
fn byte_of(character: char) -> Option<u8> {
    let visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(character) {
        Ok(byte) => visible(&byte).then_some(byte),
        Err(_) => {
            let place = u32::from(character) as usize - 0x100;
            (0..=255u8).filter(|byte| !visible(byte)).nth(place)
        }
    }
}

fn unsuitable(problem: String) -> Error {
    Error::Unsuitable(format!("FAST tokenizer: {problem}"))
}
