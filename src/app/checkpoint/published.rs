//! Which files of a run directory are published.

use std::path::PathBuf;

use crate::app::checkpoint::RunDir;
use crate::app::checkpoint::folders::bytes_of;
use crate::app::checkpoint::tensors::GROUPS;
use trajformer_core::error::Result;

impl RunDir {
    /// What another machine needs to act as this run does, and its scores: configuration, networks, what a
    /// policy needs beside them, instructions that it knows, `state.toml`, the table of evaluations.
    ///
    /// # Errors
    /// If there is no checkpoint, or a tensor file is not the one that `state.toml` names.
    pub fn published_files(&self) -> Result<Vec<PathBuf>> {
        let state = self.saved_state()?;
        let mut files: Vec<PathBuf> = ["config.toml", "config.json", "state.toml"]
            .map(|name| self.file(name))
            .to_vec();
        for group in &GROUPS[..2] {
            let name = format!("{group}.safetensors");
            let bytes = bytes_of(self.path(), &name)?;
            if state.checksums.get(&name) != Some(&format!("{:08x}", crc32fast::hash(&bytes))) {
                return Err(self.fail(format!(
                    "{name} is not the one that state.toml names: a save was interrupted, or the file is \
                     damaged; resuming the run completes a save"
                )));
            }
            files.push(self.file(&name));
        }
        let optional = ["instructions.safetensors", "evaluations.csv"].map(|name| self.file(name));
        files.extend(optional.into_iter().filter(|path| path.exists()));
        Ok(files)
    }
}
