//! [`SentenceEncoder`]: BERT, MiniLM and GPT-2 as sentence encoders, from a folder as `transformers` and
//! `sentence-transformers` keep it.
//!
//! The networks are frozen. The sentence's embedding is the mean over its tokens (those with attention, \[CLS\] and \[SEP\]
//! among them), scaled to length 1: what `sentence-transformers/all-MiniLM-L6-v2` is trained for
//! (its `modules.json`: Transformer, Pooling, Normalize). GPT-2 is our own trunk; nobody trained it for sentences, and
//! its embedding is the same mean over its last hidden states.
//!
//! Sentence embeddings separate antonyms ("left", "right") poorly; the mean of the input word embeddings
//! ([`SentenceEncoder::encode_words`]) is appended to tell them apart.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use tokenizers::{Encoding, Tokenizer, TruncationParams};
use trajformer_models::activation::Activation;
use trajformer_models::bert::{Bert, BertConfig};
use trajformer_models::dropout::Dropout;
use trajformer_models::gpt::{AttentionMask, Gpt};
use trajformer_models::params::Params;
use trajformer_models::pretrained as pretrained_weights;

use crate::app::hub;
use crate::app::pretrained;
use crate::app::text::weights;
use trajformer_core::error::{Error, Result};
use trajformer_core::stand_in;
use trajformer_models::rng::Rng;

/// Longest sentence in tokens where the folder does not say: that of all-MiniLM-L6-v2.
const LONGEST: usize = 256;

/// Key prefixes of known checkpoint classes.
const PREFIXES: [&str; 3] = ["", "bert.", "0.auto_model."];
/// A weight that every BERT has.
const FIRST: &str = "embeddings.word_embeddings.weight";

/// A frozen sentence encoder.
pub struct SentenceEncoder {
    folder: PathBuf,
    tokenizer: Tokenizer,
    network: Network,
    /// Embeddings of its words (vocabulary, E).
    words: Tensor,
    dimension: usize,
    device: Device,
}

enum Network {
    Bert(Box<Bert>),
    Gpt2 {
        /// (longest sentence, E).
        positions: Tensor,
        trunk: Box<Gpt>,
    },
}

impl SentenceEncoder {
    /// Opens a folder with `config.json`, `tokenizer.json`, and `model.safetensors` or `pytorch_model.bin`; or a
    /// repository of the Hub, `hf://ID`.
    ///
    /// # Errors
    /// If a file is missing or damaged, the model is no BERT or GPT-2, or weights don't fit its configuration: names
    /// the file.
    pub fn open(name: &str, device: &Device) -> Result<Self> {
        let folder = hub::local(Path::new(name))?;
        let path = folder.join("config.json");
        let json = stand_in::json(&path, &read_bytes(&path)?)?;
        match json["model_type"].as_str() {
            Some("bert") | None => Self::open_bert(folder, &path, json, device),
            Some("gpt2") => Self::open_gpt2(folder, device),
            Some(other) => {
                let problem =
                    format!("`model_type` is {other}, expected bert (BERT, MiniLM) or gpt2");
                Err(Error::data(&path, problem))
            }
        }
    }

    fn open_bert(
        folder: PathBuf,
        path: &Path,
        json: serde_json::Value,
        device: &Device,
    ) -> Result<Self> {
        let config = bert_config(path, json)?;
        let longest = (LONGEST, config.positions);
        let tokenizer = read_tokenizer(&folder, config.vocabulary, longest)?;
        let weights = weights::read(&folder, &PREFIXES, FIRST, device)?;
        let words = weights.get(FIRST).cloned();
        let path = pretrained::weights::place(&folder);
        let words = words.ok_or_else(|| Error::data(&path, format!("`{FIRST}` is missing")))?;
        let mut params = Params::new(DType::F32, device);
        Bert::new(&config, &mut params.init(&mut Rng::from_seed(0)))?;
        let weights = weights
            .into_iter()
            .filter(|(name, _)| params.get(name).is_some());
        params.load(&weights.collect()).map_err(|error| {
            Error::data(&path, format!("weights don't fit config.json: {error}"))
        })?;
        let model = Bert::new(&config, &mut params.detached())?;
        Ok(Self {
            folder,
            tokenizer,
            network: Network::Bert(Box::new(model)),
            words,
            dimension: config.width,
            device: device.clone(),
        })
    }

    fn open_gpt2(folder: PathBuf, device: &Device) -> Result<Self> {
        let gpt2 = pretrained::gpt2::load(&folder)?;
        let mut params = Params::new(DType::F32, device);
        Gpt::new(&gpt2.config, &mut params.init(&mut Rng::from_seed(0)))?;
        pretrained_weights::set(&params, &gpt2.weights.trunk)?;
        let trunk = Gpt::new(&gpt2.config, &mut params.detached())?;
        let table = |table: &Tensor| table.to_device(device)?.to_dtype(DType::F32);
        let (tokens, positions) = (
            table(&gpt2.weights.token_embedding)?,
            table(&gpt2.weights.position_embedding)?,
        );
        let longest = positions.dim(0)?;
        Ok(Self {
            tokenizer: read_tokenizer(&folder, tokens.dim(0)?, (longest, longest))?,
            folder,
            words: tokens,
            network: Network::Gpt2 {
                positions,
                trunk: Box::new(trunk),
            },
            dimension: gpt2.config.width,
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
        // One sentence at a time: nothing is padded, so that every token has attention.
        let tokens = self.tokens(sentence, true)?;
        let row = |ids: &[u32]| Tensor::new(ids, &self.device);
        let ids = row(tokens.get_ids())?; // (T)
        let hidden = match &self.network {
            Network::Bert(model) => model.forward(&ids, &row(tokens.get_type_ids())?)?,
            Network::Gpt2 { positions, trunk } => {
                let positions = positions.narrow(0, 0, ids.dim(0)?)?;
                let x = (self.words.index_select(&ids, 0)? + positions)?.unsqueeze(0)?;
                trunk
                    .forward(&x, &AttentionMask::default(), Dropout::off(), 0)?
                    .squeeze(0)?
            }
        }; // (T, E)
        normalized_mean(&hidden)
    }

    /// The mean (E), scaled to length 1, of the embeddings with which the network reads the words of a sentence, each by
    /// itself, \[CLS\] and \[SEP\] left out: which words there are, in no order.
    ///
    /// # Errors
    /// If the sentence is empty.
    pub fn encode_words(&self, sentence: &str) -> Result<Vec<f32>> {
        let tokens = self.tokens(sentence, false)?;
        let ids = Tensor::new(tokens.get_ids(), &self.device)?;
        normalized_mean(&self.words.index_select(&ids, 0)?)
    }

    /// The tokens of a sentence, one at least, with or without those that stand around every sentence.
    fn tokens(&self, sentence: &str, special: bool) -> Result<Encoding> {
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
        let tokens = self.tokenizer.encode(sentence, special).map_err(broken)?;
        if tokens.is_empty() {
            Err(broken("it has no token for any of it".into()))
        } else {
            Ok(tokens)
        }
    }
}

/// The mean (E) of rows (T, E), scaled to length 1.
fn normalized_mean(rows: &Tensor) -> Result<Vec<f32>> {
    let mean = rows.mean(0)?.to_vec1::<f32>()?;
    let length = mean.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    let length = length.sqrt().max(1e-12); // as torch.nn.functional.normalize
    let scaled = mean.iter().map(|&x| (f64::from(x) / length) as f32);
    Ok(scaled.collect())
}

/// Bytes of a file that an encoder needs.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::data(
            path,
            "is missing: a text encoder is a folder with config.json, tokenizer.json, and model.safetensors or \
             pytorch_model.bin",
        ),
        _ => Error::io(path)(error),
    })
}

/// What is read of a BERT's `config.json`.
#[derive(Deserialize)]
struct BertFile {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

fn bert_config(path: &Path, json: serde_json::Value) -> Result<BertConfig> {
    let file: BertFile = serde_json::from_value(json)
        .map_err(|error| Error::data(path, format!("is no BERT's configuration: {error}")))?;
    let (width, heads) = (file.hidden_size, file.num_attention_heads);
    if heads == 0 || width == 0 || width % heads != 0 || file.max_position_embeddings < 2 {
        let problem = format!(
            "`hidden_size` {width} must be a positive multiple of `num_attention_heads` {heads}, and \
             `max_position_embeddings` {} at least 2",
            file.max_position_embeddings
        );
        return Err(Error::data(path, problem));
    }
    let unknown = |key: &str, found: &str, expected: &str| {
        let problem =
            format!("is no BERT's configuration: `{key}` is {found}, expected {expected}");
        Error::data(path, problem)
    };
    if let Some(kind) = file
        .position_embedding_type
        .filter(|kind| kind != "absolute")
    {
        return Err(unknown("position_embedding_type", &kind, "absolute"));
    }
    let activation = Activation::from_transformers(&file.hidden_act)
        .ok_or_else(|| unknown("hidden_act", &file.hidden_act, "gelu, gelu_new or relu"))?;
    Ok(BertConfig {
        vocabulary: file.vocab_size,
        kinds: file.type_vocab_size,
        positions: file.max_position_embeddings,
        width,
        heads,
        layers: file.num_hidden_layers,
        feed_forward: file.intermediate_size,
        activation,
        epsilon: file.layer_norm_eps,
    })
}

/// The tokenizer of a network that knows so many words, with the longest sentence that `sentence_bert_config.json` says
/// or `longest` (where it says nothing, and at most).
pub(super) fn read_tokenizer(
    folder: &Path,
    vocabulary: usize,
    longest: (usize, usize),
) -> Result<Tokenizer> {
    let (otherwise, most) = longest;
    let path = folder.join("tokenizer.json");
    let wrong = |error: tokenizers::Error| Error::data(&path, format!("is no tokenizer: {error}"));
    let bytes = read_bytes(&path)?;
    let mut tokenizer: Tokenizer = stand_in::text(&path, &bytes)?.parse().map_err(wrong)?;
    let beside = folder.join("sentence_bert_config.json");
    let longest = if beside.is_file() {
        stand_in::json(&beside, &read_bytes(&beside)?)?["max_seq_length"]
            .as_u64()
            .map(|length| length as usize)
    } else {
        None
    };
    let longest = longest.unwrap_or(otherwise).min(most);
    let truncation = TruncationParams {
        max_length: longest,
        ..TruncationParams::default()
    };
    tokenizer.with_truncation(Some(truncation)).map_err(wrong)?;
    tokenizer.with_padding(None);
    let words = tokenizer.get_vocab_size(true);
    if words > vocabulary {
        let problem =
            format!("has {words} words, the network {vocabulary}: they don't belong together");
        return Err(Error::data(&path, problem));
    }
    Ok(tokenizer)
}
