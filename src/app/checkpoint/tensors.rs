//! The tensors of a checkpoint: collected from an algorithm, checked, and given back to it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::app::checkpoint::seal::UNSEALED;
use candle_core::{DType, Device, Tensor};
use trajformer_models::params::{Slot, StateVisitor};

use trajformer_core::algorithm::Algorithm;
use trajformer_core::error::{Error, Result};

pub(super) const GROUPS: [&str; 3] = ["model", "policy", "training"];

/// Fails if a number of the algorithm's state is not finite: the update broke it.
///
/// # Errors
/// [`Error::Training`], naming the tensor.
pub fn check_finite(algorithm: &mut dyn Algorithm, update: u64) -> Result<()> {
    let mut check = FiniteCheck::default();
    algorithm.state(&mut check)?;
    refuse_not_finite(check.bad, update)
}

fn refuse_not_finite(bad: Option<String>, update: u64) -> Result<()> {
    match bad {
        None => Ok(()),
        Some(name) => Err(Error::Training {
            resumable: None,
            update,
            problem: format!(
                "`{name}` holds numbers that are not finite after this update, nothing of it is \
                 saved. Lower the learning rate, or check the data's scale"
            ),
        }),
    }
}

/// Looks at the state, keeps nothing of it.
#[derive(Default)]
struct FiniteCheck {
    /// The first tensor that is not finite.
    bad: Option<String>,
}

impl FiniteCheck {
    fn see(&mut self, name: &str, tensor: &Tensor) -> trajformer_models::Result<()> {
        if self.bad.is_some() || tensor.dtype().is_int() {
            return Ok(());
        }
        // 0 times an infinity is NaN, and NaN survives a sum.
        let sum = (tensor.flatten_all()? * 0.0)?.sum_all()?;
        let sum = sum.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        if !sum.to_scalar::<f64>()?.is_finite() {
            self.bad = Some(name.to_owned());
        }
        Ok(())
    }
}

impl StateVisitor for FiniteCheck {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        self.see(name, &slot.tensor()?)
    }

    fn number(&mut self, name: &str, value: &mut f64) -> trajformer_models::Result<()> {
        if !value.is_finite() {
            self.bad.get_or_insert_with(|| name.to_owned());
        }
        Ok(())
    }
}

/// The state of `algorithm` after `update`, by group, as the content of the tensor files.
///
/// # Errors
/// If a number is not finite: such a state is never saved.
pub(super) fn serialized(
    algorithm: &mut dyn Algorithm,
    update: u64,
    folder: &Path,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut saver = Saver::default();
    algorithm.state(&mut saver)?;
    refuse_not_finite(saver.check.bad, update)?;
    let mut files = Vec::with_capacity(GROUPS.len());
    for group in GROUPS {
        let tensors = saver.groups.remove(group).unwrap_or_default();
        files.push((format!("{group}.safetensors"), serialize(&tensors, folder)?));
    }
    Ok(files)
}

/// One group of the state of `algorithm` as the content of its file, with further `metadata` and room for its seal.
///
/// # Errors
/// As [`serialized`].
pub(super) fn serialized_group(
    algorithm: &mut dyn Algorithm,
    group: &str,
    folder: &Path,
    metadata: (&str, String),
) -> Result<Vec<u8>> {
    let mut saver = Saver::default();
    algorithm.state(&mut saver)?;
    refuse_not_finite(saver.check.bad, 0)?;
    let tensors = saver.groups.remove(group).unwrap_or_default();
    let (key, value) = metadata;
    let further = [(key, value), ("checksum", UNSEALED.to_owned())];
    serialize_with(&tensors, folder, &further)
}

fn serialize(tensors: &HashMap<String, Tensor>, folder: &Path) -> Result<Vec<u8>> {
    serialize_with(tensors, folder, &[])
}

fn serialize_with(
    tensors: &HashMap<String, Tensor>,
    folder: &Path,
    further: &[(&str, String)],
) -> Result<Vec<u8>> {
    let ordered: BTreeMap<&str, &Tensor> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    // The mark by which `transformers` knows that the tensors are in PyTorch's layout.
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let further = further.iter();
    metadata.extend(further.map(|(key, value)| ((*key).to_owned(), value.clone())));
    safetensors::serialize(ordered, Some(metadata)).map_err(|e| Error::Run {
        path: folder.to_path_buf(),
        problem: e.to_string(),
    })
}

/// Collects the state, by group.
#[derive(Default)]
struct Saver {
    groups: HashMap<String, HashMap<String, Tensor>>,
    check: FiniteCheck,
}

fn split(name: &str) -> trajformer_models::Result<(&str, &str)> {
    match name.split_once('.') {
        Some((group, rest)) if GROUPS.contains(&group) => Ok((group, rest)),
        _ => Err(trajformer_models::Error::Config {
            what: "state",
            reason: format!("`{name}` is not under model., policy. or training."),
        }),
    }
}

impl Saver {
    fn put(&mut self, name: &str, tensor: Tensor) -> trajformer_models::Result<()> {
        let (group, rest) = split(name)?;
        let tensors = self.groups.entry(group.to_owned()).or_default();
        if tensors.insert(rest.to_owned(), tensor).is_some() {
            return Err(trajformer_models::Error::Config {
                what: "state",
                reason: format!("`{name}` was shown twice"),
            });
        }
        Ok(())
    }
}

impl StateVisitor for Saver {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        let tensor = slot.tensor()?.to_device(&Device::Cpu)?.contiguous()?;
        self.check.see(name, &tensor)?;
        self.put(name, tensor)
    }

    fn number(&mut self, name: &str, value: &mut f64) -> trajformer_models::Result<()> {
        self.check.number(name, value)?;
        self.put(name, Tensor::new(*value, &Device::Cpu)?)
    }

    fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
        self.put(name, Tensor::new(*value as i64, &Device::Cpu)?)
    }

    fn bytes(&mut self, name: &str, value: &mut Vec<u8>) -> trajformer_models::Result<()> {
        let bytes = Tensor::from_slice(value, value.len(), &Device::Cpu)?;
        self.put(name, bytes)
    }
}

/// Restores the state, by group; what is left over at the end was not asked for.
pub(super) struct Loader<'a> {
    pub groups: BTreeMap<String, HashMap<String, Tensor>>,
    /// The run directory, for messages.
    pub folder: &'a Path,
}

impl Loader<'_> {
    /// Fails if something was read that nobody asked for.
    ///
    /// # Errors
    /// If so, naming all of it.
    pub fn finish(self) -> Result<()> {
        let left: Vec<String> = self
            .groups
            .iter()
            .flat_map(|(group, tensors)| tensors.keys().map(move |name| format!("{group}.{name}")))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(trajformer_models::Error::UnexpectedTensors { names: left }.into())
        }
    }

    /// The tensor, or `None` where the whole group stays as it is: it is not among those read.
    fn take(&mut self, name: &str, shape: &[usize]) -> trajformer_models::Result<Option<Tensor>> {
        let Some(tensor) = self.take_any(name, shape)? else {
            return Ok(None);
        };
        if tensor.dims() != shape {
            return Err(trajformer_models::Error::TensorShape {
                name: self.place(name)?,
                found: tensor.dims().to_vec(),
                expected: shape.to_vec(),
            });
        }
        Ok(Some(tensor))
    }

    /// Takes a tensor whatever its shape; `shape` is for the message.
    fn take_any(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> trajformer_models::Result<Option<Tensor>> {
        let (group, rest) = split(name)?;
        let Some(tensors) = self.groups.get_mut(group) else {
            return Ok(None);
        };
        match tensors.remove(rest) {
            Some(tensor) => Ok(Some(tensor)),
            None => Err(trajformer_models::Error::MissingTensor {
                name: self.place(name)?,
                expected: shape.to_vec(),
            }),
        }
    }

    /// Name and file of a tensor, for messages.
    fn place(&self, name: &str) -> trajformer_models::Result<String> {
        let (group, rest) = split(name)?;
        Ok(format!(
            "{rest} in {}/{group}.safetensors",
            self.folder.display()
        ))
    }
}

impl StateVisitor for Loader<'_> {
    fn tensor(&mut self, name: &str, slot: &Slot) -> trajformer_models::Result<()> {
        if let Some(tensor) = self.take(name, slot.dims())? {
            slot.set(&tensor.to_dtype(slot.dtype())?.to_device(slot.device())?)?;
        }
        Ok(())
    }

    fn number(&mut self, name: &str, value: &mut f64) -> trajformer_models::Result<()> {
        if let Some(tensor) = self.take(name, &[])? {
            *value = tensor.to_dtype(DType::F64)?.to_scalar()?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
        if let Some(tensor) = self.take(name, &[])? {
            *value = tensor.to_scalar::<i64>()? as u64;
        }
        Ok(())
    }

    fn bytes(&mut self, name: &str, value: &mut Vec<u8>) -> trajformer_models::Result<()> {
        if let Some(tensor) = self.take_any(name, &[])? {
            *value = tensor.to_vec1::<u8>()?;
        }
        Ok(())
    }

    /// Also where the whole group stays as it is.
    fn holds(&self, name: &str) -> bool {
        split(name).is_ok_and(|(group, rest)| {
            let tensors = self.groups.get(group);
            tensors.is_none_or(|tensors| tensors.contains_key(rest))
        })
    }
}
