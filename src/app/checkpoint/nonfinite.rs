//! [`NumericFault`]: what is known of an update whose numbers are not finite, in words and in a file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use trajformer_core::atomic::write_atomically;
use trajformer_core::error::{Error, Result};
use trajformer_models::health::{Drawn, Fault, Health};

use crate::app::checkpoint::RunDir;
use crate::app::config::sections::OnNonfinite;

/// The file in a run's folder.
pub const NONFINITE: &str = "nonfinite.json";
/// So many numbers of a batch are in the sentence; the file has all.
const FIRST: usize = 5;

/// An update whose loss, metrics or gradients are not finite.
#[derive(Debug, Serialize)]
pub struct NumericFault {
    /// The update, counted from 1.
    update: u64,
    /// What is not finite.
    problem: String,
    /// Parameters whose gradients, or their squares, are not finite; empty where the loss is not, or where gradients were not looked at.
    gradients: Vec<Gradient>,
    /// What the update was made on.
    batches: Vec<Batch>,
    /// Update of the checkpoint on the disk.
    checkpoint: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Gradient {
    tensor: String,
    not_finite: usize,
    elements: usize,
}

#[derive(Debug, Serialize)]
struct Batch {
    /// `steps` of the data that is learned from, the first of each window; `collected steps`; `chunks`.
    of: &'static str,
    numbers: Vec<usize>,
}

/// What such a file says first.
#[derive(Debug, Deserialize)]
pub struct Told {
    /// The update, counted from 1.
    pub update: u64,
    /// What is not finite.
    pub problem: String,
}

impl Told {
    /// What the file says; `None` where there is none, or it can't be read: it is said beside other things only.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

impl NumericFault {
    /// What was found in this update, and the update of the checkpoint that stays.
    pub fn new(update: u64, problem: &str, health: &Health, checkpoint: Option<u64>) -> Self {
        let gradient = |fault: Fault| match fault {
            Fault::Loss { .. } => None,
            Fault::Gradient {
                tensor,
                not_finite,
                elements,
            } => Some(Gradient {
                tensor,
                not_finite,
                elements,
            }),
        };
        let batch = |drawn: Drawn| Batch {
            of: drawn.of,
            numbers: drawn.numbers,
        };
        Self {
            update,
            problem: problem.to_owned(),
            gradients: health.faults().into_iter().filter_map(gradient).collect(),
            batches: health.batches().into_iter().map(batch).collect(),
            checkpoint,
        }
    }

    /// What is said beside the problem, with its `; ` before it. The whole is written to the run's folder, if there is one.
    pub fn told(&self, run: Option<&RunDir>, on_nonfinite: OnNonfinite) -> String {
        let mut text = String::new();
        let more = self.gradients.len().saturating_sub(1);
        if more > 0 {
            text += &format!(", and those of {more} more tensors");
        }
        let drawn: Vec<String> = self.batches.iter().map(Batch::said).collect();
        if !drawn.is_empty() {
            text += &format!("; the batch has {}", drawn.join(" and "));
        }
        if let Some(run) = run {
            let path = run.file(NONFINITE);
            match self.write(&path) {
                Ok(()) => text += &format!(", all in {}", path.display()),
                Err(error) => text += &format!(" ({error})"),
            }
        }
        let skip = match on_nonfinite {
            OnNonfinite::Skip => "",
            OnNonfinite::Stop => ", or leave such steps out with `train.on_nonfinite = \"skip\"`",
        };
        let look = if drawn.is_empty() {
            "check the data's scale"
        } else {
            "look for extreme values there in the data"
        };
        text + &format!(". Lower the learning rate, {look}{skip}")
    }

    fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(Error::internal)?;
        write_atomically(path, &json)
    }
}

impl Batch {
    fn said(&self) -> String {
        let first = self.numbers.iter().take(FIRST);
        let first: Vec<String> = first.map(usize::to_string).collect();
        let more = match self.numbers.len().saturating_sub(FIRST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} {}{more}", self.of, first.join(", "))
    }
}
