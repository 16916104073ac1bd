//! A FAST tokenizer's folder, as physical-intelligence/fast has it on the Hub: `tokenizer.json` (merges) and
//! `processor_config.json` (scale, smallest coefficient), beside them what lets `transformers` open the merges.

use std::path::Path;

use serde_json::{Value, json};

use trajformer_core::error::{Error, Result};
use trajformer_core::fast_files::{FastFiles, FastSettings};
use trajformer_core::stand_in;
use trajformer_data::tokenizers::fast::Fast;

const TOKENIZER: &str = "tokenizer.json";
const PROCESSOR: &str = "processor_config.json";
const TRANSFORMERS: &str = "tokenizer_config.json";

/// Reads the tokenizer in a folder.
///
/// # Errors
/// As [`read_files`], and if the merges are none.
pub fn read(folder: &Path) -> Result<Fast> {
    let files = read_files(folder)?;
    Fast::from_parts(&files.json, files.settings)
        .map_err(|error| Error::data(&folder.join(TOKENIZER), error.to_string()))
}

/// Reads the files of a folder.
///
/// # Errors
/// If one is missing or cut off, or a key of `processor_config.json` is missing or of another type.
pub fn read_files(folder: &Path) -> Result<FastFiles> {
    let path = folder.join(PROCESSOR);
    let text = std::fs::read(&path).map_err(Error::io(&path))?;
    let keys = stand_in::json(&path, &text)?;
    let missing = |key: &str, expected: &str| {
        let found = keys.get(key).map_or("missing".to_owned(), Value::to_string);
        Error::data(&path, format!("`{key}` is {found}, expected {expected}"))
    };
    let optional = |key: &str| match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|&number| number > 0) {
            Some(number) => Ok(Some(number as usize)),
            None => Err(missing(key, "a positive integer or null")),
        },
    };
    let number = |key: &str| keys.get(key).and_then(Value::as_f64);
    let integer = |key: &str| keys.get(key).and_then(Value::as_i64);
    let settings = FastSettings {
        scale: number("scale")
            .filter(|&scale| scale > 0.0)
            .ok_or_else(|| missing("scale", "a positive number"))?,
        vocab_size: integer("vocab_size")
            .filter(|&size| size > 0)
            .ok_or_else(|| missing("vocab_size", "a positive integer"))?
            as usize,
        min_token: integer("min_token").ok_or_else(|| missing("min_token", "an integer"))?,
        time_horizon: optional("time_horizon")?,
        action_dim: optional("action_dim")?,
    };
    let path = folder.join(TOKENIZER);
    let json = std::fs::read(&path).map_err(Error::io(&path))?;
    if let Some(problem) = stand_in::problem(&json) {
        return Err(Error::data(&path, problem));
    }
    Ok(FastFiles { json, settings })
}

/// Writes a folder, which is made.
///
/// # Errors
/// If it can't be written.
pub fn write(fast: &Fast, folder: &Path) -> Result<()> {
    let settings = fast.settings();
    let processor = json!({
        "action_dim": settings.action_dim,
        "auto_map": {"AutoProcessor": "processing_action_tokenizer.UniversalActionProcessor"},
        "min_token": settings.min_token,
        "processor_class": "UniversalActionProcessor",
        "scale": settings.scale,
        "time_horizon": settings.time_horizon,
        "vocab_size": settings.vocab_size,
    });
    let transformers = json!({
        "clean_up_tokenization_spaces": false,
        "processor_class": "UniversalActionProcessor",
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let lines = |value: &Value| format!("{value:#}\n").into_bytes();
    for (name, bytes) in [
        (TOKENIZER, fast.json().to_vec()),
        (PROCESSOR, lines(&processor)),
        (TRANSFORMERS, lines(&transformers)),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(Error::io(&path))?;
    }
    Ok(())
}
