//! GPT-2's weights as a trunk for models of one's own.

use std::path::Path;

use trajformer_models::activation::Activation;
use trajformer_models::gpt::{GptConfig, Layout, Parts};
use trajformer_models::precision::Precision;
use trajformer_models::pretrained::{self, Gpt2};

use crate::app::pretrained::described::{in_folder, read_weights};
use crate::app::pretrained::keys::JsonConfig;
use trajformer_core::error::{Error, Result};

/// Reads `config.json` and the weights of a `GPT2Model` or `GPT2LMHeadModel` of `transformers` from `folder`,
/// e.g. what [`crate::app::hub::local`] made of `hf://openai-community/gpt2`.
///
/// The trunk's parameters are `weights.trunk` (`h.I...`, `ln_f...`; matrices (in, out), the layout of
/// [`Layout::Gpt2`]): build a [`Gpt`](trajformer_models::gpt::Gpt) of `config` in a scope, and set its
/// parameters with [`pretrained::set`] after putting that scope's prefix in front of the names. Hidden states
/// of tokens are the trunk of `token_embedding[token] + position_embedding[position]`.
///
/// # Errors
/// If a file can't be read, `config.json` is of another model or has a setting that is not computed here, or
/// tables are missing.
pub fn load(folder: &Path) -> Result<Gpt2> {
    let json = JsonConfig::read(folder)?.ok_or_else(|| {
        Error::data(
            folder,
            "no config.json: expected the folder of a GPT-2 model",
        )
    })?;
    if let Some(found) = json.model_type().filter(|found| found != "gpt2") {
        return Err(Error::data(
            json.path(),
            format!("`model_type` is `{found}`, expected `gpt2`"),
        ));
    }
    check_attention(&json)?;
    let width = json.count("n_embd")?.unwrap_or(768);
    let config = GptConfig {
        layers: json.count("n_layer")?.unwrap_or(12),
        heads: json.count("n_head")?.unwrap_or(12),
        width,
        inner: json.count("n_inner")?.unwrap_or(4 * width),
        activation: activation(&json)?.unwrap_or(Activation::GeluTanh),
        attention_dropout: 0.0,
        residual_dropout: 0.0,
        layout: Layout::Gpt2,
        precision: Precision::Full,
        parts: Parts::default(),
    };
    let weights =
        pretrained::gpt2(read_weights(folder, &json)?).map_err(|error| in_folder(folder, error))?;
    for (name, table) in [
        ("wte.weight", &weights.token_embedding),
        ("wpe.weight", &weights.position_embedding),
    ] {
        if table.rank() != 2 || table.dims()[1] != width {
            let found = table.dims();
            return Err(Error::data(
                folder,
                format!("tensor `{name}` has shape {found:?}, expected (rows, {width})"),
            ));
        }
    }
    Ok(Gpt2 { config, weights })
}

/// `activation_function` of a GPT-2 or a Decision Transformer.
pub(crate) fn activation(json: &JsonConfig) -> Result<Option<Activation>> {
    json.text(
        "activation_function",
        Activation::from_transformers,
        "`relu`, `gelu` or `gelu_new`: others are not computed here",
    )
}

/// Refuses settings of attention and norms that are not computed here; the class's defaults are.
pub(crate) fn check_attention(json: &JsonConfig) -> Result<()> {
    let why = "another value is not computed here";
    json.require_number("layer_norm_epsilon", 1e-5, why)?;
    json.require_flag("scale_attn_weights", true, why)?;
    json.require_flag("scale_attn_by_inverse_layer_idx", false, why)?;
    json.require_flag("add_cross_attention", false, why)
}
