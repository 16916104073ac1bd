//! [`SentenceEncoder`]: BERT and MiniLM as sentence encoders, from a folder as `sentence-transformers` keeps it.
//!
//! The network is candle-transformers' BERT: it is frozen here, which suits it, since its layer norms have no
//! backward pass. The sentence's embedding is the mean over its tokens (those with attention, \[CLS\] and \[SEP\]
//! among them), scaled to length 1: what `sentence-transformers/all-MiniLM-L6-v2` is trained for
//! (its `modules.json`: Transformer, Pooling, Normalize).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use tokenizers::{Tokenizer, TruncationParams};

use super::weights;
use crate::error::{Error, Result};
use crate::hub;
use crate::pretrained;

/// Longest sentence in tokens where the folder does not say: that of all-MiniLM-L6-v2.
const LONGEST: usize = 256;

/// What names of weights may have in front, by whom they were saved.
const PREFIXES: [&str; 3] = ["", "bert.", "0.auto_model."];
/// A weight that every BERT has.
const FIRST: &str = "embeddings.word_embeddings.weight";

/// A frozen sentence encoder.
pub struct SentenceEncoder {
    folder: PathBuf,
    tokenizer: Tokenizer,
    model: BertModel,
    dimension: usize,
    device: Device,
}

impl SentenceEncoder {
    /// Opens a folder with `config.json`, `tokenizer.json`, and `model.safetensors` or `pytorch_model.bin`; or a
    /// repository of the Hub, `hf://ID`.
    ///
    /// # Errors
    /// If a file is missing or damaged, the model is no BERT, or weights don't fit its configuration: names the
    /// file.
    pub fn open(name: &str, device: &Device) -> Result<Self> {
        let folder = hub::local(Path::new(name))?;
        let config = read_config(&folder.join("config.json"))?;
        let tokenizer = read_tokenizer(&folder, &config)?;
        let path = pretrained::weights::file(&folder)?;
        let weights = weights::read(&path, &PREFIXES, FIRST, device)?;
        let variables = VarBuilder::from_tensors(weights, DType::F32, device);
        let model = BertModel::load(variables, &config).map_err(|error| {
            Error::data(&path, format!("weights don't fit config.json: {error}"))
        })?;
        Ok(Self {
            folder,
            tokenizer,
            model,
            dimension: config.hidden_size,
            device: device.clone(),
        })
    }

    /// E, numbers in an embedding.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The embedding (E) of a sentence, of length 1. What goes beyond the encoder's longest sentence is cut off.
    ///
    /// # Errors
    /// If the sentence is empty, or the network fails.
    pub fn encode(&self, sentence: &str) -> Result<Vec<f32>> {
        if sentence.trim().is_empty() {
            return Err(Error::Unsuitable(
                "an instruction is empty: say in words what to do".to_owned(),
            ));
        }
        let broken = |error: tokenizers::Error| {
            Error::data(
                &self.folder.join("tokenizer.json"),
                format!("on `{sentence}`: {error}"),
            )
        };
        let tokens = self.tokenizer.encode(sentence, true).map_err(broken)?;
        // One sentence at a time: nothing is padded, so that every token has attention.
        let row = |ids: &[u32]| Tensor::new(ids, &self.device)?.unsqueeze(0);
        let (ids, kinds) = (row(tokens.get_ids())?, row(tokens.get_type_ids())?); // (1, T)
        let hidden = self.model.forward(&ids, &kinds, None)?; // (1, T, E)
        let mean = hidden.mean(1)?.squeeze(0)?.to_vec1::<f32>()?;
        let length = mean
            .iter()
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>()
            .sqrt();
        let length = length.max(1e-12); // as torch.nn.functional.normalize
        Ok(mean
            .iter()
            .map(|&x| (f64::from(x) / length) as f32)
            .collect())
    }
}

/// Text of a file that an encoder needs.
fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::data(
            path,
            "is missing: a text encoder is a folder with config.json, tokenizer.json, and model.safetensors or \
             pytorch_model.bin",
        ),
        _ => Error::io(path)(error),
    })
}

fn read_config(path: &Path) -> Result<Config> {
    let text = read_text(path)?;
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Error::data(path, format!("is no valid JSON: {error}")))?;
    match json["model_type"].as_str() {
        Some("bert") | None => {}
        Some(other) => {
            let problem = format!("`model_type` is {other}, expected bert (BERT, MiniLM)");
            return Err(Error::data(path, problem));
        }
    }
    let config: Config = serde_json::from_value(json)
        .map_err(|error| Error::data(path, format!("is no BERT's configuration: {error}")))?;
    let (width, heads) = (config.hidden_size, config.num_attention_heads);
    if heads == 0 || width == 0 || width % heads != 0 || config.max_position_embeddings < 2 {
        let problem = format!(
            "`hidden_size` {width} must be a positive multiple of `num_attention_heads` {heads}, and \
             `max_position_embeddings` {} at least 2",
            config.max_position_embeddings
        );
        return Err(Error::data(path, problem));
    }
    Ok(config)
}

/// The tokenizer, with the longest sentence that `sentence_bert_config.json` or the network allows.
fn read_tokenizer(folder: &Path, config: &Config) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    let wrong = |error: tokenizers::Error| Error::data(&path, format!("is no tokenizer: {error}"));
    let mut tokenizer: Tokenizer = read_text(&path)?.parse().map_err(wrong)?;
    let beside = folder.join("sentence_bert_config.json");
    let longest = match beside.is_file() {
        true => serde_json::from_str::<serde_json::Value>(&read_text(&beside)?)
            .map_err(|error| Error::data(&beside, format!("is no valid JSON: {error}")))?
            ["max_seq_length"]
            .as_u64()
            .map(|length| length as usize),
        false => None,
    };
    let longest = longest
        .unwrap_or(LONGEST)
        .min(config.max_position_embeddings);
    let truncation = TruncationParams {
        max_length: longest,
        ..TruncationParams::default()
    };
    tokenizer.with_truncation(Some(truncation)).map_err(wrong)?;
    tokenizer.with_padding(None);
    let words = tokenizer.get_vocab_size(true);
    if words > config.vocab_size {
        let problem = format!(
            "has {words} words, the network {}: they don't belong together",
            config.vocab_size
        );
        return Err(Error::data(&path, problem));
    }
    Ok(tokenizer)
}
