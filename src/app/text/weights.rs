//! A language model's weights, as `transformers` keeps them in a folder, under their plain names.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use trajformer_models::pretrained;

use crate::app::pretrained::weights;
use trajformer_core::error::{Error, Result};

/// Reads a folder's weights, f32. Names begin with the first of `prefixes` under which there is a tensor called `first`;
/// what lies elsewhere (heads of tasks) and what is no float (masks) is left out.
///
/// # Errors
/// If a file is missing or damaged, no tensor is called `first`, or a number is not finite.
pub(super) fn read(
    folder: &Path,
    prefixes: &[&str],
    first: &str,
    device: &Device,
) -> Result<HashMap<String, Tensor>> {
    let path = weights::place(folder);
    let found = pretrained::unwrapped_names(weights::read_folder(folder)?)
        .map_err(|error| Error::data(&path, error.to_string()))?;
    let prefix = prefixes
        .iter()
        .find(|prefix| found.contains_key(&format!("{prefix}{first}")))
        .ok_or_else(|| {
            Error::data(
                &path,
                format!("tensor `{first}` is missing: another kind of model"),
            )
        })?;
    let mut tensors = HashMap::new();
    for (name, tensor) in found {
        let plain = name.strip_prefix(prefix);
        let Some(plain) = plain.filter(|_| tensor.dtype().is_float()) else {
            continue;
        };
        let tensor = tensor.to_device(device)?.to_dtype(DType::F32)?;
        if !pretrained::is_finite(&tensor)? {
            let problem = format!("tensor `{name}` holds a number that is not finite");
            return Err(Error::data(&path, problem));
        }
        tensors.insert(plain.to_owned(), tensor);
    }
    Ok(tensors)
}
