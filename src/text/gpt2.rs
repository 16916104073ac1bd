//! GPT-2's trunk, for algorithms that start from a language model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use trajformer_models::gpt::GptConfig;
use trajformer_models::lamo::gpt2_trunk;

use super::weights;
use crate::error::{Error, Result};

/// Names of weights begin so, by whom they were saved.
const PREFIXES: [&str; 2] = ["", "transformer."];

/// A trunk that was read.
#[derive(Debug, Clone)]
pub struct Gpt2 {
    /// Where from.
    pub folder: PathBuf,
    /// Its sizes; without dropout.
    pub config: GptConfig,
    /// `h.I...` and `ln_f`, in the layout of `transformers`.
    pub trunk: BTreeMap<String, Tensor>,
}

/// Reads `config.json` and the weights of a `GPT2Model` or `GPT2LMHeadModel`. Token and position tables are left
/// out: a Decision Transformer has its own.
///
/// # Errors
/// If a file is missing or damaged, the model is no GPT-2, or computes what ours does not.
pub fn load(folder: &Path) -> Result<Gpt2> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Error::data(&path, format!("is no valid JSON: {error}")))?;
    let wrong = |problem: String| Err(Error::data(&path, problem));
    if json["model_type"] != "gpt2" {
        return wrong(format!(
            "`model_type` is {}, expected gpt2",
            json["model_type"]
        ));
    }
    let count = |key: &str, default: usize| match &json[key] {
        serde_json::Value::Null => Some(default),
        value => value
            .as_u64()
            .map(|n| n as usize)
            .filter(|n| (1..=1 << 16).contains(n)),
    };
    let sizes = (
        count("n_layer", 12),
        count("n_head", 12),
        count("n_embd", 768),
    );
    let (Some(layers), Some(heads), Some(width)) = sizes else {
        return wrong("`n_layer`, `n_head` or `n_embd` is no count of 1 to 65536".to_owned());
    };
    let Some(inner) = count("n_inner", 4 * width) else {
        return wrong("`n_inner` is no count of 1 to 65536".to_owned());
    };
    let expected = [
        ("activation_function", serde_json::json!("gelu_new")),
        ("layer_norm_epsilon", serde_json::json!(1e-5)),
        ("scale_attn_weights", true.into()),
        ("scale_attn_by_inverse_layer_idx", false.into()),
    ];
    for (key, value) in expected {
        if !json[key].is_null() && json[key] != value {
            return wrong(format!(
                "`{key}` is {}, only {value} is supported",
                json[key]
            ));
        }
    }
    let weights = weights::read(folder, &PREFIXES, "wte.weight", &Device::Cpu)?;
    let is_trunk = |name: &str| {
        let mask = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
        (name.starts_with("h.") || name.starts_with("ln_f.")) && !mask
    };
    Ok(Gpt2 {
        folder: folder.to_path_buf(),
        config: GptConfig {
            inner,
            ..gpt2_trunk(layers, heads, width)
        },
        trunk: weights
            .tensors
            .into_iter()
            .filter(|(name, _)| is_trunk(name))
            .collect(),
    })
}
