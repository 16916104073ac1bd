//! Whether the files of a run are there, and its tensors as long as they say, without reading their numbers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::app::checkpoint::lost::{Fault, lost, remedy};
use crate::app::checkpoint::{RunDir, RunState};
use trajformer_core::error::Result;

/// No header of a safetensors file is longer.
const LONGEST_HEADER: u64 = 100_000_000;

impl RunDir {
    /// Fails if a tensor file that `state` names is missing, or shorter or longer than its own header says. Its numbers are not read: those
    /// that were exchanged are found when the run is opened.
    ///
    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn check_lengths(&self, state: &RunState) -> Result<()> {
        self.check_some(state, |_| true)
    }

    /// As [`Self::check_lengths`], of the files that a policy is made from: `training.safetensors` is needed by training alone.
    ///
    /// # Errors
    /// As [`Self::check_lengths`].
    pub fn check_policy_lengths(&self, state: &RunState) -> Result<()> {
        self.check_some(state, |name| name != "training.safetensors")
    }

    fn check_some(&self, state: &RunState, counts: fn(&str) -> bool) -> Result<()> {
        for name in state.checksums.keys().filter(|name| counts(name)) {
            // A save that was killed in its last step has left a file beside its place.
            let problems = [self.file(name), self.file(&format!("{name}.new"))]
                .map(|path| length_problem(&path));
            if let [Some(problem), Some(_)] = problems {
                return Err(self.fail(lost(self.path(), name).unwrap_or_else(|| {
                    let remedy = remedy(self.path(), name, Fault::Damaged);
                    format!("{name} {problem}; {remedy}")
                })));
            }
        }
        Ok(())
    }
}

/// What is wrong with a safetensors file, by its header and its length.
fn length_problem(path: &Path) -> Option<String> {
    let Ok(mut file) = File::open(path) else {
        return Some("is missing".to_owned());
    };
    let found = file.metadata().map_or(0, |file| file.len());
    let mut header = || {
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length);
        if length > found.min(LONGEST_HEADER) {
            return None;
        }
        let mut text = vec![0; usize::try_from(length).ok()?];
        file.read_exact(&mut text).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let tensors = value.as_object()?.iter();
        let tensors = tensors.filter(|(name, _)| *name != "__metadata__");
        let ends = tensors.map(|(_, tensor)| tensor["data_offsets"][1].as_u64());
        let ends: Option<Vec<u64>> = ends.collect();
        Some(8 + length + ends?.into_iter().max().unwrap_or(0))
    };
    match header() {
        None => Some("is damaged or cut off: it has no whole header".to_owned()),
        Some(expected) if expected != found => Some(format!(
            "is damaged or cut off: it has {found} bytes, {expected} by its header"
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_compared_with_the_header() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        assert_eq!(length_problem(&path).as_deref(), Some("is missing"));
        let header = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
        let mut whole = (header.len() as u64).to_le_bytes().to_vec();
        whole.extend(header.as_bytes());
        whole.extend([0; 8]);
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            length_problem(&path)
        };
        assert_eq!(said(&whole), None);
        for cut in [0, 4, 8, 30, whole.len() - 1] {
            let problem = said(&whole[..cut]).unwrap_or_default();
            assert!(problem.contains("cut off"), "{cut}: {problem}");
        }
        whole.push(0);
        assert!(said(&whole).is_some());
        assert!(said(&[255; 40]).is_some());
    }
}
