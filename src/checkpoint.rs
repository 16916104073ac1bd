//! Run directories: what a run keeps on disk, written so that a kill at any moment loses nothing.
//!
//! | file | what |
//! |---|---|
//! | `config.toml` | the resolved configuration |
//! | `config.json` | shapes and bounds; for models that other libraries know, their own keys |
//! | `model.safetensors` | networks only |
//! | `policy.safetensors` | what a policy needs beside them: normaliser, discretiser, bounds |
//! | `training.safetensors` | targets and optimiser |
//! | `state.toml` | written last: the update, the random stream, and the checksums of the three |
//! | `metrics.csv`, `evaluations.csv` | rows past the checkpoint are cut on resume |
//!
//! The three tensor files are first written beside their place (`*.new`), then `state.toml` is
//! renamed into place, then they are. A reader takes, of each file and its `.new`, the one that
//! `state.toml` names.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use trajformer_models::params::StateVisitor;

use crate::algorithms::Algorithm;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::rng::{Rng, RngState};

const GROUPS: [&str; 3] = ["model", "policy", "training"];
const FORMAT: u32 = 1;

/// What a run's networks see and do: enough to rebuild them without the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Numbers in an observation (O).
    pub observation_dim: usize,
    /// Numbers in an action (A).
    pub action_dim: usize,
    /// Lowest action that policies return (A).
    pub action_low: Vec<f32>,
    /// Highest action that policies return (A).
    pub action_high: Vec<f32>,
    /// The data's environment name, if it has one.
    pub env_name: Option<String>,
}

/// `state.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Format of the run directory.
    pub format: u32,
    /// Updates done.
    pub update: u64,
    /// Seconds spent training and evaluating.
    pub seconds: f64,
    /// State of the training stream.
    pub rng: String,
    /// Update and score (return where there is no score) of the best evaluation so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// CRC-32 of the tensor files that belong to this state.
    pub checksums: BTreeMap<String, String>,
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this many updates.
    pub update: u64,
    /// Mean normalised score, or mean return where there are no reference returns.
    pub score: f64,
}

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory and writes `config.toml` and `config.json`.
    ///
    /// # Errors
    /// If a run is there already, or the disk fails.
    pub fn create(
        path: &Path,
        config: &RunConfig,
        spec: &RunSpec,
        model: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self> {
        if path.join("config.toml").exists() {
            return Err(Error::Run {
                path: path.to_path_buf(),
                problem: "there is a run already; continue it with `train --resume`, or choose \
                          another folder with `--out`"
                    .to_owned(),
            });
        }
        fs::create_dir_all(path).map_err(Error::io(path))?;
        let mut description = model;
        description
            .entry("model_type")
            .or_insert_with(|| format!("trajformer_{}", config.algorithm.name()).into());
        let spec = serde_json::to_value(spec).map_err(|e| Error::Config(e.to_string()))?;
        description.insert("trajformer".to_owned(), spec);
        let json =
            serde_json::to_string_pretty(&description).map_err(|e| Error::Config(e.to_string()))?;
        write_atomically(&path.join("config.json"), (json + "\n").as_bytes())?;
        write_atomically(&path.join("config.toml"), config.to_toml()?.as_bytes())?;
        Ok(Self {
            path: path.to_path_buf(),
        })
    }

    /// Opens an existing run.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            return Err(Error::Run {
                path: path.to_path_buf(),
                problem: "no config.toml: not a run directory".to_owned(),
            });
        }
        Ok(Self {
            path: path.to_path_buf(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The stored configuration.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::load(&self.file("config.toml"), &[])
    }

    /// Replaces the stored configuration.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_config(&self, config: &RunConfig) -> Result<()> {
        write_atomically(&self.file("config.toml"), config.to_toml()?.as_bytes())
    }

    /// The stored shapes and bounds.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn spec(&self) -> Result<RunSpec> {
        let path = self.file("config.json");
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let fail = |problem: String| Error::Run {
            path: self.path.clone(),
            problem,
        };
        let mut value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| fail(format!("config.json: {e}")))?;
        serde_json::from_value(value["trajformer"].take())
            .map_err(|e| fail(format!("config.json, key `trajformer`: {e}")))
    }

    /// The stored state, or `None` before the first checkpoint.
    ///
    /// # Errors
    /// If it can't be read or is of another format.
    pub fn state(&self) -> Result<Option<RunState>> {
        let path = self.file("state.toml");
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let fail = |problem: String| Error::Run {
            path: self.path.clone(),
            problem,
        };
        let state: RunState =
            toml::from_str(&text).map_err(|e| fail(format!("state.toml: {e}")))?;
        if state.format != FORMAT {
            return Err(fail(format!(
                "state.toml has format {}, this build reads {FORMAT}",
                state.format
            )));
        }
        Ok(Some(state))
    }

    /// Writes a checkpoint; `state.checksums` and `state.rng` are filled in here.
    ///
    /// # Errors
    /// If the disk fails: the previous checkpoint stays whole.
    pub fn save(
        &self,
        algorithm: &mut dyn Algorithm,
        rng: &Rng,
        mut state: RunState,
    ) -> Result<()> {
        let mut saver = Saver::default();
        algorithm.state(&mut saver)?;
        state.rng = rng.state().0;
        for group in GROUPS {
            let tensors = saver.groups.remove(group).unwrap_or_default();
            let name = format!("{group}.safetensors");
            let bytes = serialize(&tensors, self)?;
            write_synced(&self.file(&format!("{name}.new")), &bytes)?;
            state
                .checksums
                .insert(name, format!("{:08x}", crc32fast::hash(&bytes)));
        }
        let text = toml::to_string(&state).map_err(|e| Error::Config(e.to_string()))?;
        write_atomically(&self.file("state.toml"), text.as_bytes())?;
        for group in GROUPS {
            let name = format!("{group}.safetensors");
            let place = self.file(&name);
            fs::rename(self.file(&format!("{name}.new")), &place).map_err(Error::io(&place))?;
        }
        Ok(())
    }

    /// Restores the whole state for training; returns the random stream and the state.
    ///
    /// # Errors
    /// If there is no checkpoint, a file is damaged, or names or shapes don't fit.
    pub fn restore(&self, algorithm: &mut dyn Algorithm) -> Result<(Rng, RunState)> {
        let state = self.load_into(algorithm, &GROUPS)?;
        self.finish_renames(&state)?;
        let rng = Rng::from_state(&RngState(state.rng.clone())).ok_or_else(|| Error::Run {
            path: self.path.clone(),
            problem: "state.toml: `rng` is not a random stream's state".to_owned(),
        })?;
        Ok((rng, state))
    }

    /// Restores what a policy needs: networks and what stands beside them.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn restore_policy(&self, algorithm: &mut dyn Algorithm) -> Result<RunState> {
        self.load_into(algorithm, &GROUPS[..2])
    }

    /// Completes a save that was killed after `state.toml` was in place: the next one would write
    /// over the only good copies.
    fn finish_renames(&self, state: &RunState) -> Result<()> {
        for (name, checksum) in &state.checksums {
            let (place, beside) = (self.file(name), self.file(&format!("{name}.new")));
            let Ok(bytes) = fs::read(&beside) else {
                continue;
            };
            if *checksum == format!("{:08x}", crc32fast::hash(&bytes)) {
                fs::rename(&beside, &place).map_err(Error::io(&place))?;
            }
        }
        Ok(())
    }

    fn load_into(&self, algorithm: &mut dyn Algorithm, groups: &[&str]) -> Result<RunState> {
        let state = self.state()?.ok_or_else(|| Error::Run {
            path: self.path.clone(),
            problem: "no state.toml: it has no checkpoint yet; start it again with another `--out`"
                .to_owned(),
        })?;
        let mut loader = Loader {
            groups: BTreeMap::new(),
            dir: self,
            skip_training: groups.len() < 3,
        };
        for group in groups {
            let bytes = self.tensor_file(&format!("{group}.safetensors"), &state)?;
            let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
            loader.groups.insert((*group).to_owned(), tensors);
        }
        algorithm.state(&mut loader)?;
        let left: Vec<String> = loader
            .groups
            .iter()
            .flat_map(|(group, tensors)| tensors.keys().map(move |name| format!("{group}.{name}")))
            .collect();
        if !left.is_empty() {
            return Err(trajformer_models::Error::UnexpectedTensors { names: left }.into());
        }
        Ok(state)
    }

    /// The content of a tensor file that `state` names: the file, or the one beside it.
    fn tensor_file(&self, name: &str, state: &RunState) -> Result<Vec<u8>> {
        let expected = state.checksums.get(name);
        for candidate in [self.file(name), self.file(&format!("{name}.new"))] {
            if let Ok(bytes) = fs::read(&candidate)
                && expected == Some(&format!("{:08x}", crc32fast::hash(&bytes)))
            {
                return Ok(bytes);
            }
        }
        Err(Error::Run {
            path: self.path.clone(),
            problem: format!(
                "{name} is missing or damaged (state.toml names checksum {}); restore it from a copy",
                expected.map_or("none", String::as_str)
            ),
        })
    }
}

fn serialize(tensors: &HashMap<String, Tensor>, dir: &RunDir) -> Result<Vec<u8>> {
    let ordered: BTreeMap<&str, &Tensor> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    safetensors::serialize(ordered, None).map_err(|e| Error::Run {
        path: dir.path.clone(),
        problem: e.to_string(),
    })
}

/// Collects the state, by group.
#[derive(Default)]
struct Saver {
    groups: HashMap<String, HashMap<String, Tensor>>,
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
    fn tensor(&mut self, name: &str, var: &Var) -> trajformer_models::Result<()> {
        let tensor = var
            .as_detached_tensor()
            .to_device(&Device::Cpu)?
            .contiguous()?;
        self.put(name, tensor)
    }

    fn number(&mut self, name: &str, value: &mut f64) -> trajformer_models::Result<()> {
        self.put(name, Tensor::new(*value, &Device::Cpu)?)
    }

    fn counter(&mut self, name: &str, value: &mut u64) -> trajformer_models::Result<()> {
        self.put(name, Tensor::new(*value as i64, &Device::Cpu)?)
    }
}

/// Restores the state, by group; what is left over at the end was not asked for.
struct Loader<'a> {
    groups: BTreeMap<String, HashMap<String, Tensor>>,
    dir: &'a RunDir,
    skip_training: bool,
}

impl Loader<'_> {
    /// The tensor, or `None` where the whole group is skipped.
    fn take(&mut self, name: &str, shape: &[usize]) -> trajformer_models::Result<Option<Tensor>> {
        let (group, rest) = split(name)?;
        if group == "training" && self.skip_training {
            return Ok(None);
        }
        let named = || {
            format!(
                "{} in {}/{group}.safetensors",
                rest,
                self.dir.path.display()
            )
        };
        let missing = || trajformer_models::Error::MissingTensor {
            name: named(),
            expected: shape.to_vec(),
        };
        let tensor = self
            .groups
            .get_mut(group)
            .and_then(|g| g.remove(rest))
            .ok_or_else(missing)?;
        if tensor.dims() != shape {
            return Err(trajformer_models::Error::TensorShape {
                name: named(),
                found: tensor.dims().to_vec(),
                expected: shape.to_vec(),
            });
        }
        Ok(Some(tensor))
    }
}

impl StateVisitor for Loader<'_> {
    fn tensor(&mut self, name: &str, var: &Var) -> trajformer_models::Result<()> {
        if let Some(tensor) = self.take(name, var.dims())? {
            var.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?)?;
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
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(Error::io(path))
}

/// Writes beside `path`, then renames.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    write_synced(&beside, bytes)?;
    fs::rename(&beside, path).map_err(Error::io(path))
}

impl RunState {
    /// The state after `update` updates; stream and checksums are filled in when it is saved.
    pub fn new(update: u64, seconds: f64, best: Option<Best>) -> Self {
        let (rng, checksums) = (String::new(), BTreeMap::new());
        Self {
            format: FORMAT,
            update,
            seconds,
            rng,
            best,
            checksums,
        }
    }
}
