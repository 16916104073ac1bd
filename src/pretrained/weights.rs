//! Reads a model's tensors from a folder: `model.safetensors`, else the pickle `pytorch_model.bin`, of any PyTorch.

use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::pickle::PthTensors;
use trajformer_models::pretrained::Tensors;

use super::old_pickle;
use crate::error::{Error, Result};

/// Of the files that hold a model's tensors, the one that is read.
pub const SAFETENSORS: &str = "model.safetensors";
/// The other.
pub const PICKLE: &str = "pytorch_model.bin";

/// The file that holds the tensors of the model in `folder`.
///
/// # Errors
/// If there is none.
pub fn file(folder: &Path) -> Result<PathBuf> {
    let mut files = [SAFETENSORS, PICKLE]
        .map(|name| folder.join(name))
        .into_iter();
    files.find(|file| file.exists()).ok_or_else(|| {
        let shards = folder.join("model.safetensors.index.json").exists();
        let problem = match shards {
            true => "its weights are split over several files, which is not read: join them first",
            false => {
                "it holds neither model.safetensors nor pytorch_model.bin: the weights are missing"
            }
        };
        Error::data(folder, problem)
    })
}

/// The model's tensors in `folder`, on the CPU, in the types of the file.
///
/// # Errors
/// If there is no file of them, or it can't be read.
pub fn read_folder(folder: &Path) -> Result<Tensors> {
    read(&file(folder)?)
}

/// The tensors of one file: safetensors, or for other endings a pickle that `torch.save` wrote.
///
/// # Errors
/// If it can't be read, is damaged, or holds no tensors.
pub fn read(file: &Path) -> Result<Tensors> {
    let tensors = match file.extension().is_some_and(|e| e == "safetensors") {
        true => read_safetensors(file)?,
        false => read_pickle(file)?,
    };
    match tensors.is_empty() {
        true => Err(Error::data(
            file,
            "it holds no tensors, expected a model's state_dict",
        )),
        false => Ok(tensors),
    }
}

fn read_safetensors(file: &Path) -> Result<Tensors> {
    let bytes = std::fs::read(file).map_err(Error::io(file))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| {
        let size = bytes.len();
        let problem = format!(
            "not a whole safetensors file ({size} bytes): {error}; fetch it again, or export the model anew"
        );
        Error::data(file, problem)
    })?;
    Ok(tensors.into_iter().collect())
}

fn read_pickle(file: &Path) -> Result<Tensors> {
    let mut start = Vec::new();
    let reader = std::fs::File::open(file).map_err(Error::io(file))?;
    reader
        .take(32)
        .read_to_end(&mut start)
        .map_err(Error::io(file))?;
    let size = std::fs::metadata(file).map_err(Error::io(file))?.len();
    let fail = |problem: String| {
        Error::data(
            file,
            format!(
                "not a pickle of tensors that can be read ({size} bytes): {problem}; fetch it again, or save \
                 the model as safetensors"
            ),
        )
    };
    // The reader indexes what a malformed pickle promises: its panic is a damaged file, said as an error.
    let read = match old_pickle::begins(&start) {
        true => {
            let bytes = std::fs::read(file).map_err(Error::io(file))?;
            std::panic::catch_unwind(|| old_pickle::read(&bytes))
        }
        false => std::panic::catch_unwind(|| read_entries(file, size)),
    };
    match read {
        Ok(Ok(tensors)) => Ok(tensors),
        Ok(Err(error)) => Err(fail(error.to_string())),
        Err(_) => Err(fail("its structure is damaged".to_owned())),
    }
}

fn read_entries(file: &Path, size: u64) -> candle_core::Result<Tensors> {
    let entries = PthTensors::new(file, None)?;
    let mut tensors = Tensors::new();
    for (name, info) in entries.tensor_infos() {
        // A damaged shape must not ask for more memory than the file can fill.
        let bytes = info.dtype.size_in_bytes() as u64;
        let needed = info
            .layout
            .dims()
            .iter()
            .fold(bytes, |product, &dim| product.saturating_mul(dim as u64));
        if needed > size {
            candle_core::bail!("`{name}` would have {needed} bytes");
        }
        if let Some(tensor) = entries.get(name)? {
            tensors.insert(name.clone(), tensor);
        }
    }
    Ok(tensors)
}

/// The last (highest numbered) `state_N.pt` of the Trajectory Transformer's authors in `folder`.
pub fn last_state(folder: &Path) -> Option<PathBuf> {
    let number = |path: &Path| -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("state_")?
            .strip_suffix(".pt")?
            .parse()
            .ok()
    };
    let entries = std::fs::read_dir(folder).ok()?;
    let states = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        Some((number(&path)?, path))
    });
    states.max().map(|(_, path)| path)
}
