//! `policy.safetensors` beside a model that other software trained: what acting needs and its own files lack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::app::checkpoint::fingerprint::DataFingerprint;
use crate::app::checkpoint::seal::{Seal, sealed};
use crate::app::checkpoint::tensors::{Loader, serialized_group};
use trajformer_core::algorithm::Algorithm;
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};
use trajformer_core::stand_in;

/// Its name, in run directories too.
pub const POLICY_FILE: &str = "policy.safetensors";
const GROUP: &str = "policy";

/// Writes what `algorithm` needs beside its networks into `folder`, with the data it was fitted to.
///
/// # Errors
/// If a number is not finite, or the folder can't be written to.
pub fn save_policy(
    algorithm: &mut dyn Algorithm,
    folder: &Path,
    data: &DataFingerprint,
) -> Result<PathBuf> {
    let data = serde_json::to_string(data).map_err(Error::internal)?;
    let bytes = serialized_group(algorithm, GROUP, folder, ("data", data))?;
    let path = folder.join(POLICY_FILE);
    write_atomically(&path, &sealed(bytes))?;
    Ok(path)
}

/// Restores what [`save_policy`] wrote; networks stay as they are.
///
/// # Errors
/// If the file can't be read, or its tensors don't fit.
pub fn load_policy(algorithm: &mut dyn Algorithm, folder: &Path) -> Result<()> {
    let tensors = read(folder)?;
    let mut loader = Loader {
        groups: BTreeMap::from([(GROUP.to_owned(), tensors)]),
        folder,
    };
    algorithm.state(&mut loader)?;
    loader.finish()
}

/// How many actions the policy in `folder` has.
///
/// # Errors
/// If the file can't be read, or says nothing of actions.
pub fn policy_action_dim(folder: &Path) -> Result<usize> {
    let tensors = read(folder)?;
    let bounds = tensors.get("action_bounds.center");
    let dim = bounds.filter(|bounds| bounds.rank() == 1 && bounds.elem_count() > 0);
    dim.map(|bounds| bounds.elem_count()).ok_or_else(|| {
        no_policy(
            &folder.join(POLICY_FILE),
            "no tensor `action_bounds.center`: not what stands beside a policy",
        )
    })
}

fn read(folder: &Path) -> Result<std::collections::HashMap<String, candle_core::Tensor>> {
    let path = folder.join(POLICY_FILE);
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    if let Some(problem) = stand_in::problem_of_binary(&bytes) {
        return Err(Error::data(&path, problem));
    }
    if Seal::of(&bytes) == Seal::Broken {
        return Err(no_policy(
            &path,
            "it is not what was written (its checksum is another): it is damaged",
        ));
    }
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| no_policy(&path, &format!("not a whole safetensors file: {error}")))
}

/// What is said of a file that is not what it should be.
fn no_policy(path: &Path, problem: &str) -> Error {
    Error::NoData {
        path: path.to_path_buf(),
        problem: format!("{problem}; remove it, and give the data that the model was trained on"),
    }
}
