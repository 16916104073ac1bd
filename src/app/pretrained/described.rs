//! Weights of a model that a `config.json` describes.

use std::path::Path;

use crate::app::pretrained::keys::JsonConfig;
use crate::app::pretrained::{other_files, weights};
use trajformer_core::error::{Error, Result};
use trajformer_models::pretrained::Tensors;

/// The model's tensors in `folder`; says so where only an adapter's are there, or quantized ones.
pub(crate) fn read_weights(folder: &Path, json: &JsonConfig) -> Result<Tensors> {
    json.refuse_quantized()?;
    let adapter = "adapter_config.json";
    if weights::source(folder)?.is_none() && folder.join(adapter).exists() {
        return Err(Error::data(folder, other_files::adapter(adapter)));
    }
    weights::read_folder(folder)
}

/// Says where tensors that don't fit come from.
pub(crate) fn in_folder(folder: &Path, error: trajformer_models::Error) -> Error {
    Error::data(folder, error.to_string())
}
