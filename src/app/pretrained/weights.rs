//! Reads a model's tensors from a folder: `model.safetensors`, else the pickle `pytorch_model.bin`, of any PyTorch,
//! whole or split over several files with an index (`NAME.index.json`).
//!
//! What a file is, its first bytes say, not its name. Masks that networks build themselves are never looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use trajformer_models::pretrained::{Tensors, is_mask};

use crate::app::pretrained::element::Element;
use crate::app::pretrained::other_files;
use crate::app::pretrained::torch_file;
use crate::app::pretrained::torch_file::Problem;
use trajformer_core::error::{Error, Result};
use trajformer_core::stand_in;

/// Name of the file of a model's tensors that is read first.
pub const SAFETENSORS: &str = "model.safetensors";
/// The other.
pub const PICKLE: &str = "pytorch_model.bin";

/// The file that says in which files the tensors of a weights file are that was split.
pub fn index_name(weights: &str) -> String {
    format!("{weights}.index.json")
}

/// Where a model's tensors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In one file.
    File(PathBuf),
    /// In several, by this index.
    Index(PathBuf),
}

/// Where the tensors of the model in `folder` are, in the order in which `transformers` looks; `None` if nowhere.
///
/// # Errors
/// If a file is a link to nothing.
pub fn source(folder: &Path) -> Result<Option<Source>> {
    for name in [SAFETENSORS, PICKLE] {
        let (file, index) = (folder.join(name), folder.join(index_name(name)));
        for (path, source) in [
            (&file, Source::File(file.clone())),
            (&index, Source::Index(index.clone())),
        ] {
            if path.is_file() {
                return Ok(Some(source));
            }
            if let Ok(target) = path.read_link() {
                let problem = format!(
                    "is a link to {}, which is not there: fetch the model again",
                    target.display()
                );
                return Err(Error::data(path, problem));
            }
        }
    }
    Ok(None)
}

/// The model's tensors in `folder`, on the CPU, in the types of the file.
///
/// # Errors
/// If there is no file of them, or one can't be read.
pub fn read_folder(folder: &Path) -> Result<Tensors> {
    match source(folder)? {
        Some(Source::File(file)) => read(&file),
        Some(Source::Index(index)) => read_split(folder, &Index::read(&index)?),
        None => Err(Error::data(folder, missing(&other_files::names_in(folder)))),
    }
}

/// The file that messages about the weights in `folder` name: theirs, or their index; the folder where there is neither.
pub fn place(folder: &Path) -> PathBuf {
    match source(folder) {
        Ok(Some(Source::File(path) | Source::Index(path))) => path,
        _ => folder.to_path_buf(),
    }
}

/// What is said of a folder or repository with these files and no weights that are read.
pub fn missing(names: &[String]) -> String {
    let instead = other_files::said(names).map_or_else(String::new, |said| format!("; {said}"));
    format!(
        "it has neither {SAFETENSORS} nor {PICKLE}, nor an index of one: the weights are missing{instead}"
    )
}

/// Which tensors are in which files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    path: PathBuf,
    /// Names of tensors, by file.
    files: BTreeMap<String, BTreeSet<String>>,
}

impl Index {
    /// Reads `weight_map` of an index.
    ///
    /// # Errors
    /// If it can't be read, is no such index, or names a file outside of its folder.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let json = stand_in::json(path, &bytes)?;
        let fail = |problem: String| Error::data(path, problem);
        let map = json.get("weight_map").and_then(Value::as_object);
        let map = map.filter(|map| !map.is_empty()).ok_or_else(|| {
            fail("no `weight_map` from tensors to files: not an index of weights".to_owned())
        })?;
        let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (tensor, file) in map {
            let file = file.as_str().unwrap_or_default();
            let inside = |part| matches!(part, Component::Normal(_));
            if file.is_empty()
                || file.contains(['\\', ':'])
                || !Path::new(file).components().all(inside)
            {
                return Err(fail(format!(
                    "`weight_map` places `{tensor}` in `{file}`, expected a file beside the index: nothing outside of \
                     the model's folder is read"
                )));
            }
            files
                .entry(file.to_owned())
                .or_default()
                .insert(tensor.clone());
        }
        let path = path.to_path_buf();
        Ok(Self { path, files })
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Files of the index that are not in `folder`.
    pub fn lacking(&self, folder: &Path) -> Vec<&str> {
        self.files()
            .filter(|file| !folder.join(file).is_file())
            .collect()
    }
}

fn read_split(folder: &Path, index: &Index) -> Result<Tensors> {
    let lacking = index.lacking(folder);
    if !lacking.is_empty() {
        return Err(Error::data(
            &index.path,
            format!(
                "the tensors are in {} files, of which {} not here: `{}`; fetch the whole model again",
                index.files.len(),
                if lacking.len() == 1 {
                    "one is"
                } else {
                    "some are"
                },
                lacking.join("`, `")
            ),
        ));
    }
    let mut tensors = Tensors::new();
    for (file, names) in &index.files {
        let path = folder.join(file);
        let mut found = read(&path)?;
        let absent: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !found.contains_key(*name) && !is_mask(name))
            .collect();
        if !absent.is_empty() {
            let problem = format!(
                "it lacks `{}`, which {} places in it: they are not of one model, or the file is an older one; fetch \
                 both again",
                absent.join("`, `"),
                index.path.file_name().unwrap_or_default().to_string_lossy()
            );
            return Err(Error::data(&path, problem));
        }
        // Where two files have a tensor, the index says which of them counts.
        let elsewhere = |name: &String| {
            index
                .files
                .iter()
                .any(|(other, names)| other != file && names.contains(name))
        };
        found.retain(|name, _| names.contains(name) || !elsewhere(name));
        tensors.append(&mut found);
    }
    Ok(tensors)
}

/// The tensors of one file: safetensors, or a pickle that `torch.save` wrote. Masks are left out.
///
/// # Errors
/// If it can't be read, is damaged, is something else, or holds no tensors.
pub fn read(file: &Path) -> Result<Tensors> {
    let bytes = std::fs::read(file).map_err(Error::io(file))?;
    let told = stand_in::problem_of_binary(&bytes).or_else(|| other_files::told_by_content(&bytes));
    if let Some(problem) = told {
        return Err(Error::data(file, problem));
    }
    let named = file.extension().is_some_and(|e| e == "safetensors");
    let safetensors = begins_as_safetensors(&bytes) || (named && !torch_file::begins(&bytes));
    let tensors = if safetensors {
        read_safetensors(file, &bytes)?
    } else {
        read_pickle(file, &bytes)?
    };
    if tensors.is_empty() {
        Err(Error::data(
            file,
            "it holds no tensors, expected a model's state_dict",
        ))
    } else {
        Ok(tensors)
    }
}

/// Whether a length of a header that can be stands in front, and an object of JSON after it.
fn begins_as_safetensors(bytes: &[u8]) -> bool {
    let length = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length < bytes.len() as u64) && bytes.get(8) == Some(&b'{')
}

fn read_safetensors(file: &Path, bytes: &[u8]) -> Result<Tensors> {
    let fail = |problem: String| Error::data(file, problem);
    let size = bytes.len();
    let damaged = |error: safetensors::SafeTensorError| {
        fail(format!(
            "not a whole safetensors file ({size} bytes): {error}; fetch it again, or export the model anew"
        ))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let notes = header.metadata().clone().unwrap_or_default();
    if let Some(format @ ("tf" | "flax")) = notes.get("format").map(String::as_str) {
        let argument = if format == "tf" {
            "from_tf"
        } else {
            "from_flax"
        };
        return Err(fail(format!(
            "its tensors are named and laid out for another library (`format` is `{format}`): open it in Python with \
             `from_pretrained(..., {argument}=True)`, then `save_pretrained`"
        )));
    }
    let whole = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let mut tensors = Tensors::new();
    for (name, view) in whole.iter().filter(|(name, _)| !is_mask(name)) {
        let (kind, shape) = (view.dtype(), view.shape());
        let element = Element::of_safetensors(kind).ok_or_else(|| {
            fail(format!(
                "tensor `{name}` {shape:?} has numbers of the type {kind:?}, which is not read: convert it in Python, \
                 e.g. `.float()`"
            ))
        })?;
        let tensor = element.tensor(view.data(), shape);
        let tensor = tensor.map_err(|error| fail(format!("tensor `{name}`: {error}")))?;
        tensors.insert(name.to_owned(), tensor);
    }
    // Parameters that share their numbers are stored once; the header says under which name.
    for (name, stored) in &notes {
        if !tensors.contains_key(name)
            && let Some(tensor) = tensors.get(stored).cloned()
        {
            tensors.insert(name.clone(), tensor);
        }
    }
    Ok(tensors)
}

fn read_pickle(file: &Path, bytes: &[u8]) -> Result<Tensors> {
    torch_file::read(bytes).map_err(|problem| {
        let problem = match problem {
            Problem::NotRead(problem) => format!("a pickle that can't be read: {problem}"),
            Problem::Damaged(problem) => format!(
                "not a pickle of tensors that can be read ({} bytes): {problem}; fetch it again, or save the model as \
                 safetensors",
                bytes.len()
            ),
        };
        Error::data(file, problem)
    })
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
