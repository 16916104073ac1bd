//! Weights that other libraries trained: their tensors under our names, and one check of all of them.
//!
//! Files are read elsewhere; here are names and shapes. Buffers that old files carry (causal masks) are left
//! out, everything else that does not fit is an error. Names may have in front, or between, what programs put there
//! that wrap a model or hold it as a part: see [`plain_names`].

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
/// [`Error::TensorMismatch`] with all tensors that are missing, unknown, of another shape, not finite or of
/// integers; nothing is changed then.
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
    let mut integers = Vec::new();
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
            // Cast, they would be other weights: what stores integers keeps scales beside them.
            Some(found) if found.dtype().is_int() => {
                integers.push(format!("`{name}` {:?}", found.dtype()));
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
    let lists = [&missing, &misshapen, &unexpected, &not_finite, &integers];
    if lists.iter().any(|names| !names.is_empty()) {
        return Err(Error::TensorMismatch {
            missing: missing.into(),
            misshapen: misshapen.into(),
            unexpected: unexpected.into(),
            not_finite: not_finite.into(),
            integers: integers.into(),
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

/// What wraps a model or a part of one, as its component in names: DataParallel and DistributedDataParallel,
/// `torch.compile`, fully sharded training, recomputation of activations.
const WRAPPERS: [&str; 4] = [
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];

/// A name without the components of wrappers, wherever they stand.
fn unwrapped(name: &str) -> String {
    let kept = name.split('.').filter(|part| !WRAPPERS.contains(part));
    kept.collect::<Vec<_>>().join(".")
}

/// Tensors under the names that the model's class gives them. Left out of names are components of wrappers (`module.` of
/// DataParallel, `_orig_mod.` of `torch.compile`, and their like) wherever they stand, and what stands in front of
/// `first` (`model.` of a Lightning module, `transformer.` of a model with a head), a name that every model of the class
/// has. Tensors without that front keep their names.
///
/// # Errors
/// If two tensors come to the same name, or `first` stands there behind several fronts.
pub fn plain_names(tensors: Tensors, first: &str) -> Result<Tensors> {
    let unwrapped_all = unwrapped_names(tensors)?;
    let front = |name: &str| {
        let front = name.strip_suffix(first)?;
        (front.is_empty() || front.ends_with('.')).then(|| front.to_owned())
    };
    let fronts: Vec<String> = unwrapped_all
        .keys()
        .filter_map(|name| front(name))
        .collect();
    let front = match &fronts[..] {
        [] => return Ok(unwrapped_all),
        [front] => front,
        // A model beside copies of itself.
        several if several.iter().any(String::is_empty) => return Ok(unwrapped_all),
        several => {
            return Err(bad_names(format!(
                "`{first}` is there several times, after `{}`: save one model",
                several.join("`, `")
            )));
        }
    };
    let renamed = unwrapped_all.into_iter().map(|(name, tensor)| {
        let plain = name.strip_prefix(front.as_str()).map(str::to_owned);
        (plain.unwrap_or(name), tensor)
    });
    Ok(renamed.collect())
}

/// Tensors under names without the components of wrappers.
///
/// # Errors
/// If two tensors come to the same name.
pub fn unwrapped_names(tensors: Tensors) -> Result<Tensors> {
    let mut found = Tensors::new();
    for (name, tensor) in tensors {
        let plain = unwrapped(&name);
        if found.insert(plain.clone(), tensor).is_some() {
            return Err(bad_names(format!(
                "several tensors are `{plain}` once wrappers are left out ({}): save one model",
                WRAPPERS.join(", ")
            )));
        }
    }
    Ok(found)
}

fn bad_names(reason: String) -> Error {
    Error::Config {
        what: "names of tensors",
        reason,
    }
}

/// Tensors of `transformers`' `DecisionTransformerModel` under our names, which are its own ([`plain_names`]), without
/// the mask buffers `encoder.h.I.attn.{bias,masked_bias}` of files from before version 4.31. The authors' own
/// (kzl/decision-transformer at e2d82e6) call the trunk `transformer` and have no positions: theirs get a table
/// `encoder.wpe.weight` of one row of zeros.
///
/// # Errors
/// As [`plain_names`].
pub fn decision_transformer(tensors: Tensors) -> Result<Tensors> {
    let plain = plain_names(without_masks(tensors), "embed_timestep.weight")?;
    if plain.keys().any(|name| name.starts_with("encoder.")) {
        return Ok(plain);
    }
    let renamed = plain.into_iter().map(|(name, tensor)| {
        let ours = name.strip_prefix("transformer.");
        let ours = ours.map(|rest| format!("encoder.{rest}"));
        (ours.unwrap_or(name), tensor)
    });
    let mut renamed: Tensors = renamed.collect();
    let table = "encoder.wpe.weight";
    let norm = renamed.get("encoder.ln_f.bias").cloned();
    if let Some(norm) = norm.filter(|_| !renamed.contains_key(table)) {
        renamed.insert(table.to_owned(), norm.zeros_like()?.unsqueeze(0)?);
    }
    Ok(renamed)
}

/// Tensors of `transformers`' `TrajectoryTransformerModel` or of its authors' (jannerm/trajectory-transformer
/// at 8834a6e) under our names, which are the authors' ([`plain_names`]): `blocks.I.l1` is `blocks.I.mlp.0`,
/// `blocks.I.l2` is `blocks.I.mlp.2`. Without the mask buffers `blocks.I.attn.mask`.
///
/// # Errors
/// As [`plain_names`].
pub fn trajectory_transformer(tensors: Tensors) -> Result<Tensors> {
    let plain = plain_names(without_masks(tensors), "tok_emb.weight")?;
    let renamed = plain.into_iter().map(|(name, tensor)| {
        let ours = if name.starts_with("blocks.") {
            name.replace(".l1.", ".mlp.0.").replace(".l2.", ".mlp.2.")
        } else {
            name
        };
        (ours, tensor)
    });
    Ok(renamed.collect())
}

/// A GPT-2's weights.
#[derive(Debug, Clone)]
pub struct Gpt2Weights {
    /// Tensors of a [`Gpt`](crate::gpt::Gpt) of layout [`Gpt2`](crate::gpt::Layout::Gpt2), under its names:
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

/// Takes `transformers`' `GPT2Model` or a model with a head on it apart: names may have `transformer.` or more in front
/// ([`plain_names`]); mask buffers and heads are left out. Where the word embeddings are stored under the name of the
/// language model's head alone, which shares them, they are taken from there.
///
/// Whether `trunk` is whole is found out where it is used: see [`set`].
///
/// # Errors
/// As [`plain_names`], and [`Error::MissingTensor`] if there is no `wte.weight` or `wpe.weight`.
pub fn gpt2(tensors: Tensors) -> Result<Gpt2Weights> {
    let mut trunk = plain_names(without_masks(tensors), "wpe.weight")?;
    let is_table = |name: &&String| format!(".{name}").ends_with(".lm_head.weight");
    let head = trunk.keys().find(is_table).cloned();
    if let Some(head) = head.and_then(|name| trunk.remove(&name)) {
        trunk.entry("wte.weight".to_owned()).or_insert(head);
    }
    let is_head = |name: &str| {
        HEADS
            .iter()
            .any(|head| name.split('.').any(|part| part == *head))
    };
    trunk.retain(|name, _| !is_head(name));
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

/// Heads that GPT-2 models of `transformers` and TRL have beside the trunk.
const HEADS: [&str; 6] = [
    "lm_head",
    "score",
    "classifier",
    "multiple_choice_head",
    "qa_outputs",
    "v_head",
];

/// Whether a tensor of this name is the buffer of an attention mask, which networks build themselves: `attn.bias`,
/// `attn.masked_bias`, `attn.mask`, whatever stands in front.
pub fn is_mask(name: &str) -> bool {
    const MASKS: [&str; 3] = ["attn.bias", "attn.masked_bias", "attn.mask"];
    let name = unwrapped(name);
    let ends = |mask: &str| {
        name.strip_suffix(mask)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
    };
    MASKS.iter().any(|mask| ends(mask))
}

fn without_masks(mut tensors: Tensors) -> Tensors {
    tensors.retain(|name, _| !is_mask(name));
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Tensors {
        let tensor = |i: usize| Tensor::new(i as f32, &Device::Cpu).expect("a number");
        let all = names.iter().enumerate();
        all.map(|(i, &name)| (name.to_owned(), tensor(i))).collect()
    }

    fn names(tensors: &Tensors) -> Vec<&str> {
        tensors.keys().map(String::as_str).collect()
    }

    #[test]
    fn wrappers_and_fronts_are_left_out_of_names() -> Result<()> {
        for front in [
            "",
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "model.",
            "model.module.",
            "_forward_module._orig_mod.model.",
            "pretrained_model.transformer.",
        ] {
            let wrapped: Vec<String> = ["h._orig_mod.0.ln_1.bias", "wpe.weight"]
                .map(|name| format!("{front}{name}"))
                .to_vec();
            let wrapped: Vec<&str> = wrapped.iter().map(String::as_str).collect();
            let found = plain_names(named(&wrapped), "wpe.weight")?;
            assert_eq!(names(&found), ["h.0.ln_1.bias", "wpe.weight"], "{front}");
        }
        // What lies elsewhere keeps its name; a model beside its copy is the model.
        let found = plain_names(named(&["model.wpe.weight", "loss.weight"]), "wpe.weight")?;
        assert_eq!(names(&found), ["loss.weight", "wpe.weight"]);
        let found = plain_names(named(&["wpe.weight", "copy.wpe.weight"]), "wpe.weight")?;
        assert_eq!(names(&found), ["copy.wpe.weight", "wpe.weight"]);
        let twice = [
            &["a.wpe.weight", "b.wpe.weight"][..],
            &["h.bias", "module.h.bias"],
        ];
        for twice in twice {
            assert!(
                plain_names(named(twice), "wpe.weight").is_err(),
                "{twice:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn masks_are_known_by_their_names() {
        for name in [
            "encoder.h.0.attn.bias",
            "h.11.attn.masked_bias",
            "module.blocks.0.attn.mask",
            "h.0.attn._orig_mod.bias",
            "attn.bias",
        ] {
            assert!(is_mask(name), "{name}");
        }
        for name in [
            "h.0.attn.c_attn.bias",
            "h.0.crossattn.bias",
            "attn.biases",
            "ln_f.bias",
        ] {
            assert!(!is_mask(name), "{name}");
        }
    }

    #[test]
    fn a_trunk_is_found_without_its_heads() -> Result<()> {
        let heads = [
            "v_head.summary.weight",
            "transformer.wpe.weight",
            "transformer.ln_f.bias",
        ];
        let shared = gpt2(named(&[&heads[..], &["lm_head.weight"]].concat()))?;
        assert_eq!(names(&shared.trunk), ["ln_f.bias"]);
        assert_eq!(shared.token_embedding.to_scalar::<f32>()?, 3.0);
        assert!(gpt2(named(&heads)).is_err());
        Ok(())
    }

    #[test]
    fn integers_are_no_weights() -> Result<()> {
        let mut params = Params::new(DType::F32, &Device::Cpu);
        let rng = &mut crate::rng::Rng::from_seed(0);
        crate::linear::Linear::new(2, 1, &mut params.init(rng))?;
        let copy = |(name, tensor): (String, Tensor)| Ok((name, tensor.copy()?));
        let mut tensors: Tensors = params
            .tensors()?
            .into_iter()
            .map(copy)
            .collect::<Result<_>>()?;
        set(&params, &tensors)?;
        let whole = tensors["weight"].to_dtype(DType::I64)?;
        tensors.insert("weight".to_owned(), whole);
        let error = set(&params, &tensors).expect_err("integers").to_string();
        assert!(error.contains("1 of integers: `weight` I64"), "{error}");
        Ok(())
    }
}
