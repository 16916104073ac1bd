//! How a run directory comes to be: as a whole, or so that it can be made again.

use std::fs;
use std::path::Path;

use crate::app::checkpoint::folders::refuse_inside_of_a_run;
use crate::app::checkpoint::instructions;
use crate::app::checkpoint::places::FOLDER;
use crate::app::checkpoint::seal::{UNSEALED, sealed};
use crate::app::checkpoint::{LOCK, RunDir, RunSpec, runs_inside};
use crate::app::config::RunConfig;
use trajformer_core::algorithm::Algorithm;
use trajformer_core::atomic::{remove_unfinished, write_atomically, write_synced};
use trajformer_core::error::{Error, Result};

/// What a run keeps in its folder, event files aside: nothing of it may be there before.
const FILES: [&str; 11] = [
    "config.json",
    "state.toml",
    "model.safetensors",
    "policy.safetensors",
    "training.safetensors",
    "instructions.safetensors",
    "metrics.csv",
    "evaluations.csv",
    "origin.json",
    "config.toml",
    FOLDER,
];
pub(super) const EVENTS: &str = "events.out.tfevents.";
/// What is written before `config.toml`.
const CREATED: [&str; 3] = ["instructions.safetensors", "origin.json", "config.json"];
/// What to do where another process trains a run that was to be made.
const IN_TRAINING: &str = "wait for its end, or choose another folder";
/// There while a run is made.
const UNFINISHED: &str = "unfinished";
const UNFINISHED_MEANS: &str = "A run is being made here, or was when its process ended: without config.toml it is none yet.\n";

impl RunDir {
    /// Makes the directory and writes the instructions that the run knows, if it follows any, `origin.json`, `config.json`,
    /// and last `config.toml`, with which it is a run. Nobody else can train there meanwhile. What a creation that was killed has
    /// left there is replaced: a file `unfinished` says that it is one's.
    ///
    /// # Errors
    /// If a run or a part of one is there already, or the disk fails.
    pub fn create(
        path: &Path,
        config: &RunConfig,
        spec: &RunSpec,
        algorithm: &mut dyn Algorithm,
    ) -> Result<Self> {
        refuse_inside_of_a_run(path)?;
        fs::create_dir_all(path).map_err(Error::io(path))?;
        let run = Self {
            path: path.to_path_buf(),
            _lock: None,
        };
        let refused = run.refuse_foreign_files();
        refused.map_err(|error| run.in_training_or(error))?;
        let run = run.locked(IN_TRAINING)?;
        run.refuse_foreign_files()?;
        let mut description = algorithm.description();
        description
            .entry("model_type")
            .or_insert_with(|| format!("trajformer_{}", config.algorithm.name()).into());
        let told = algorithm.instructed().map(|told| told.known().clone());
        let spec = RunSpec {
            instructions: told.as_deref().map(instructions::checksum).transpose()?,
            ..spec.clone()
        };
        let mut spec = serde_json::to_value(spec).map_err(Error::internal)?;
        spec["checksum"] = UNSEALED.into();
        description.insert("trajformer".to_owned(), spec);
        let json = serde_json::to_string_pretty(&description).map_err(Error::internal)?;
        config.to_toml()?;
        run.start_creation()?;
        if let Some(known) = &told {
            run.save_instructions(known)?;
        }
        run.save_origin()?;
        let json = sealed((json + "\n").into_bytes());
        write_atomically(&path.join("config.json"), &json)?;
        run.set_config(config)?;
        run.finish_creation()?;
        Ok(run)
    }

    /// The error about a run that is there already, or that another process trains it: then it can't be resumed now either.
    pub(super) fn in_training_or(&self, error: Error) -> Error {
        if !matches!(error, Error::RunExists { .. }) || !self.file(LOCK).is_file() {
            return error;
        }
        match self.clone().locked(IN_TRAINING) {
            Err(busy @ Error::InTraining { .. }) => busy,
            _ => error,
        }
    }

    /// Says that what a run has before its `config.toml` is a creation's, and removes what an earlier one has left.
    fn start_creation(&self) -> Result<()> {
        write_synced(&self.file(UNFINISHED), UNFINISHED_MEANS.as_bytes())?;
        for name in CREATED {
            remove(&self.file(name))?;
        }
        remove_unfinished(&self.path, &CREATED)
    }

    /// Removes what a process that was killed has left beside files of the run.
    pub(super) fn remove_unfinished(&self) -> Result<()> {
        remove_unfinished(&self.path, &FILES)
    }

    /// Takes the word back, once the run is whole.
    pub(super) fn finish_creation(&self) -> Result<()> {
        remove(&self.file(UNFINISHED))
    }

    /// Fails if the folder holds a file that a new run would overwrite or mix with its own.
    fn refuse_foreign_files(&self) -> Result<()> {
        if self.file("config.toml").exists() {
            return Err(Error::RunExists {
                path: self.path.clone(),
            });
        }
        if let Some(inside) = runs_inside(&self.path).first() {
            return Err(self.occupied(format!(
                "it holds runs ({}), which a run in their place would hide; choose another folder, or train that \
                 seed beside them",
                inside.display()
            )));
        }
        let own: &[&str] = if self.file(UNFINISHED).exists() {
            &CREATED
        } else {
            &[]
        };
        let entries = fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
        for entry in entries {
            let name = entry.map_err(Error::io(&self.path))?.file_name();
            let name = name.to_string_lossy();
            let whole = name.strip_suffix(".new").unwrap_or(&name);
            let is_own = own.contains(&&*name);
            if (FILES.contains(&whole) && !is_own) || name.starts_with(EVENTS) {
                return Err(self.occupied(format!(
                    "`{name}` is there already, which a run would overwrite or mix with its own; \
                     choose another folder, or move it away"
                )));
            }
        }
        Ok(())
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io(path)),
    }
}
