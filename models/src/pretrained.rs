//! Weights that other libraries trained: their tensors under our names, and one check of all of them.
//!
//! Files are read elsewhere; here are names and shapes. Buffers that old files carry (causal masks) are left
//! out, everything else that does not fit is an error.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::gpt::GptConfig;
use crate::params::Params;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Sets every parameter from `tensors`, as [`Params::load`], but says everything that is wrong with them.
///
/// # Errors
/// [`Error::TensorMismatch`] with all tensors that are missing, unknown, of another shape or not finite;
/// nothing is changed then.
pub fn set(params: &Params, tensors: &Tensors) -> Result<()> {
    set_part(params, tensors, |name| Some(name))
}

/// Sets those parameters that `called` has a name for among `tensors`, all of which must be used.
///
/// # Errors
/// As for [`set`].
pub fn set_part(
    params: &Params,
    tensors: &Tensors,
    called: impl for<'a> Fn(&'a str) -> Option<&'a str>,
) -> Result<()> {
    let (mut missing, mut misshapen, mut not_finite) = (Vec::new(), Vec::new(), Vec::new());
    let (mut found_all, mut used) = (Vec::new(), BTreeSet::new());
    for param in params.iter() {
        let Some(name) = called(&param.name) else {
            continue;
        };
        let expected = param.slot.dims();
        used.insert(name);
        match tensors.get(name) {
            None => missing.push(format!("`{name}` {expected:?}")),
            Some(found) if found.dims() != expected => {
                let found = found.dims();
                misshapen.push(format!("`{name}` {found:?} (expected {expected:?})"));
            }
            Some(found) if !is_finite(found)? => not_finite.push(format!("`{name}`")),
            Some(found) => found_all.push((&param.slot, found)),
        }
    }
    let unexpected: Vec<String> = tensors
        .iter()
        .filter(|(name, _)| !used.contains(name.as_str()))
        .map(|(name, tensor)| format!("`{name}` {:?}", tensor.dims()))
        .collect();
    let lists = [&missing, &misshapen, &unexpected, &not_finite];
    if lists.iter().any(|names| !names.is_empty()) {
        return Err(Error::TensorMismatch {
            missing,
            misshapen,
            unexpected,
            not_finite,
        });
    }
    for (slot, found) in found_all {
        slot.set(&found.to_device(params.device())?.to_dtype(params.dtype())?)?;
    }
    Ok(())
}

/// Whether every number is finite.
///
/// # Errors
/// If the device fails.
pub fn is_finite(tensor: &Tensor) -> Result<bool> {
    if tensor.dtype().is_int() {
        return Ok(true);
    }
    // 0 times an infinity is NaN, and NaN survives a sum.
    let sum = (tensor.to_dtype(DType::F32)?.flatten_all()? * 0.0)?.sum_all()?;
    Ok(sum.to_device(&Device::Cpu)?.to_scalar::<f32>()?.is_finite())
}

/// Tensors of `transformers`' `DecisionTransformerModel`, whose names are ours, without the mask buffers
/// `encoder.h.I.attn.{bias,masked_bias}` of files from before version 4.31.
pub fn decision_transformer(tensors: Tensors) -> Tensors {
    without_masks(tensors)
}

/// Tensors of `transformers`' `TrajectoryTransformerModel` or of its authors' (jannerm/trajectory-transformer
/// at 8834a6e) under our names, which are the authors': `blocks.I.l1` is `blocks.I.mlp.0`, `blocks.I.l2` is
/// `blocks.I.mlp.2`. Without the mask buffers `blocks.I.attn.mask`.
pub fn trajectory_transformer(tensors: Tensors) -> Tensors {
    let renamed = without_masks(tensors).into_iter().map(|(name, tensor)| {
        let ours = match name.starts_with("blocks.") {
            true => name.replace(".l1.", ".mlp.0.").replace(".l2.", ".mlp.2."),
            false => name,
        };
        (ours, tensor)
    });
    renamed.collect()
}

/// A GPT-2's weights.
#[derive(Debug, Clone)]
pub struct Gpt2Weights {
    /// Those of a [`Gpt`](crate::gpt::Gpt) of layout [`Gpt2`](crate::gpt::Layout::Gpt2), under its names:
    /// `h.I....`, `ln_f...`; matrices (in, out) as stored.
    pub trunk: Tensors,
    /// `wte` (vocabulary, D).
    pub token_embedding: Tensor,
    /// `wpe` (positions, D).
    pub position_embedding: Tensor,
}

/// A GPT-2: sizes and weights.
#[derive(Debug, Clone)]
pub struct Gpt2 {
    /// Sizes of its trunk, without dropout, whose names and layouts are those of `weights.trunk`.
    pub config: GptConfig,
    /// Its tensors, on the CPU.
    pub weights: Gpt2Weights,
}

/// Takes `transformers`' `GPT2Model` or `GPT2LMHeadModel` apart: names may have `transformer.` in front,
/// mask buffers and the head (which is `wte`) are left out.
///
/// Whether `trunk` is whole is found out where it is used: see [`set`].
///
/// # Errors
/// [`Error::MissingTensor`] if there is no `wte.weight` or `wpe.weight`.
pub fn gpt2(tensors: Tensors) -> Result<Gpt2Weights> {
    let mut trunk: Tensors = without_masks(tensors)
        .into_iter()
        .map(|(name, tensor)| {
            let bare = name.strip_prefix("transformer.").map(str::to_owned);
            (bare.unwrap_or(name), tensor)
        })
        .filter(|(name, _)| name != "lm_head.weight")
        .collect();
    let mut table = |name: &str| {
        trunk.remove(name).ok_or_else(|| Error::MissingTensor {
            name: name.to_owned(),
            expected: Vec::new(),
        })
    };
    Ok(Gpt2Weights {
        token_embedding: table("wte.weight")?,
        position_embedding: table("wpe.weight")?,
        trunk,
    })
}

/// Drops buffers of attention masks, which are rebuilt.
fn without_masks(tensors: Tensors) -> Tensors {
    const MASKS: [&str; 3] = [".attn.bias", ".attn.masked_bias", ".attn.mask"];
    let is_mask = |name: &str| MASKS.iter().any(|mask| name.ends_with(mask));
    let kept = tensors.into_iter().filter(|(name, _)| !is_mask(name));
    kept.collect()
}
