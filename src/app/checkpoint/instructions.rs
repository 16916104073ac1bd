//! `instructions.safetensors`: the instructions that a run knows, and their embeddings (I, E).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::app::checkpoint::RunDir;
use crate::app::checkpoint::folders::bytes_of;
use crate::app::checkpoint::lost::{Fault, remedy, said};
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};
use trajformer_core::instructions::Instructions;

const FILE: &str = "instructions.safetensors";
const EMBEDDINGS: &str = "embeddings";
/// Key of the file's metadata: the instructions, a JSON list.
const TEXTS: &str = "instructions";

impl RunDir {
    /// Keeps the instructions that a run knows.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn save_instructions(&self, known: &Instructions) -> Result<()> {
        write_atomically(&self.file(FILE), &serialized(known)?)
    }

    /// The instructions that the run knows; `None` if it keeps none.
    ///
    /// # Errors
    /// If the file can't be read, is damaged, or doesn't hold one embedding per instruction.
    pub fn instructions(&self) -> Result<Option<Instructions>> {
        let path = self.file(FILE);
        match Fault::at(&path) {
            Some(Fault::Missing) => Ok(None),
            Some(fault) => Err(self.fail(said(self.path(), FILE, fault))),
            None => {
                let bytes = bytes_of(self.path(), FILE)?;
                let known = parse(&path, &bytes)?;
                let expected = self.spec()?.instructions;
                if expected.is_some_and(|expected| expected != crc(&bytes)) {
                    return Err(self.fail(said(self.path(), FILE, Fault::Damaged)));
                }
                Ok(Some(known))
            }
        }
    }
}

/// The checksum of the file that holds what is `known`.
///
/// # Errors
/// If the embeddings can't be read.
pub(super) fn checksum(known: &Instructions) -> Result<String> {
    Ok(crc(&serialized(known)?))
}

fn crc(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

fn serialized(known: &Instructions) -> Result<Vec<u8>> {
    let texts: Vec<&str> = known.texts().iter().map(|text| &**text).collect();
    let texts = serde_json::to_string(&texts).map_err(Error::internal)?;
    // One entry: the order of several is not always the same.
    let metadata = HashMap::from([(TEXTS.to_owned(), texts)]);
    let embeddings = known.tensor(&Device::Cpu)?;
    let tensors = BTreeMap::from([(EMBEDDINGS, &embeddings)]);
    safetensors::serialize(tensors, Some(metadata)).map_err(Error::internal)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Instructions> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let damaged = |problem: String| {
        let remedy = remedy(folder, FILE, Fault::Damaged);
        Error::data(path, format!("{problem}; {remedy}"))
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes)
        .map_err(|error| damaged(format!("is damaged or cut off ({error})")))?;
    let texts = header.metadata().as_ref().and_then(|m| m.get(TEXTS));
    let texts: Vec<String> = texts
        .and_then(|texts| serde_json::from_str(texts).ok())
        .ok_or_else(|| damaged("holds no list of instructions".to_owned()))?;
    let mut tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
        .map_err(|error| damaged(format!("is damaged or cut off ({error})")))?;
    let embeddings: Option<Tensor> = tensors.remove(EMBEDDINGS);
    let embeddings = embeddings.ok_or_else(|| damaged(format!("holds no `{EMBEDDINGS}`")))?;
    let wrong_shape = |shape: &[usize]| {
        damaged(format!(
            "`{EMBEDDINGS}` has shape {shape:?}, expected one row for each of {} instructions",
            texts.len()
        ))
    };
    let shape = embeddings.dims().to_vec();
    if shape.len() != 2 || shape[0] != texts.len() || embeddings.dtype() != candle_core::DType::F32
    {
        return Err(wrong_shape(&shape));
    }
    let mut known = Instructions::new(shape[1]);
    for (text, embedding) in texts.iter().zip(embeddings.to_vec2::<f32>()?) {
        known
            .insert(text, &embedding)
            .map_err(|error| damaged(error.to_string()))?;
    }
    if known.texts().len() == texts.len() {
        Ok(known)
    } else {
        Err(damaged("names an instruction twice".to_owned()))
    }
}
