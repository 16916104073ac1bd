//! A language model's weights, as `transformers` keeps them in a folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};

/// Weights, and where they come from.
pub(super) struct Weights {
    pub path: PathBuf,
    /// By their plain names, f32.
    pub tensors: HashMap<String, Tensor>,
}

/// Reads `model.safetensors`, or without it `pytorch_model.bin`. Names begin with the first of `prefixes` under
/// which there is a tensor called `first`; what lies elsewhere (heads of tasks) and what is no float (masks) is left
/// out.
///
/// # Errors
/// If there is neither file, it is damaged, no tensor is called `first`, or a number is not finite.
pub(super) fn read(
    folder: &Path,
    prefixes: &[&str],
    first: &str,
    device: &Device,
) -> Result<Weights> {
    let (safe, pickle) = (
        folder.join("model.safetensors"),
        folder.join("pytorch_model.bin"),
    );
    let damaged = |path: &Path, error: candle_core::Error| {
        Error::data(
            path,
            format!("is damaged or cut off ({error}); download it again"),
        )
    };
    let (path, found) = if safe.is_file() {
        let found = candle_core::safetensors::load(&safe, device).map_err(|e| damaged(&safe, e))?;
        (safe, found)
    } else if pickle.is_file() {
        let found = candle_core::pickle::read_all(&pickle).map_err(|e| damaged(&pickle, e))?;
        (pickle, found.into_iter().collect())
    } else {
        let problem = "holds neither model.safetensors nor pytorch_model.bin: expected a folder as `transformers` \
                       keeps a model in";
        return Err(Error::data(folder, problem));
    };
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
        let Some(plain) = name
            .strip_prefix(prefix)
            .filter(|_| tensor.dtype().is_float())
        else {
            continue;
        };
        let tensor = tensor.to_device(device)?.to_dtype(DType::F32)?;
        // 0 times an infinity is NaN, and NaN survives a sum.
        let sum = (tensor.flatten_all()? * 0.0)?
            .sum_all()?
            .to_scalar::<f32>()?;
        if !sum.is_finite() {
            let problem = format!("tensor `{name}` holds a number that is not finite");
            return Err(Error::data(&path, problem));
        }
        tensors.insert(plain.to_owned(), tensor);
    }
    Ok(Weights { path, tensors })
}
