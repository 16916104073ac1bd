//! What is asked of a diagnosis, and what it finds.

use serde::Serialize;

use crate::app::diagnose::aims::{ActionErrors, Aim};
use crate::app::diagnose::codes::Codes;
use crate::app::diagnose::episodes::{Arm, Difference};
use crate::app::diagnose::replay::{Bins, Replay};
use crate::app::diagnose::search::Imagination;
use crate::app::diagnose::tokens::Tokens;
use crate::app::run::TrainedRun;
use trajformer_algorithms::planning::simulated::Worth;
use trajformer_core::dataset::Dataset;
use trajformer_core::interrupt::Interrupt;

/// What a diagnosis may cost.
#[derive(Debug, Clone)]
pub struct DiagnoseOptions {
    /// Episodes of everything that acts.
    pub episodes: usize,
    /// Plans of each search, over all episodes: episodes are cut where they would need more. Policies that don't plan run whole
    /// episodes, unless they are held against a search.
    pub decisions: usize,
    /// Seed of starts and policies; default: the run's `evaluate.seed`.
    pub seed: Option<u64>,
    /// What ends of the search in the simulator are worth.
    pub worth: Worth,
    /// Stops it; what was found until then is kept.
    pub interrupt: Interrupt,
}

impl Default for DiagnoseOptions {
    fn default() -> Self {
        Self {
            episodes: 10,
            decisions: 600,
            seed: None,
            worth: Worth::Model,
            interrupt: Interrupt::new(),
        }
    }
}

/// The data that a run is held against.
#[derive(Debug, Default)]
pub struct Logged {
    /// What it learned from, where that is still to be found.
    pub training: Option<Dataset>,
    /// Of the same data what training kept apart (`train.held_out_fraction`), where nothing is given.
    pub held_out: Option<Dataset>,
    /// What is given beside it: other episodes of the same task, say.
    pub given: Option<Dataset>,
}

/// Another run, whose actions are put through the bins.
pub struct Other {
    /// What it is called.
    pub name: String,
    /// It.
    pub run: TrainedRun,
}

/// Where the score goes. Parts that do not apply, or that an interruption left out, are empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// Registered name.
    pub algorithm: &'static str,
    /// Environment; `None` where none is named.
    pub env: Option<String>,
    /// Episodes of everything that acts.
    pub episodes: usize,
    /// Steps after which they are cut.
    pub steps: usize,
    /// Whether that is their whole length.
    pub whole_episodes: bool,
    /// Steps that follow one plan; `None` for policies that don't plan.
    pub plan_every_steps: Option<usize>,
    /// What ends of the search in the simulator were worth.
    pub simulated_worth: Option<&'static str>,
    /// Returns of the data's episodes, over as many steps.
    pub data: Vec<Returned>,
    /// What bins cost.
    pub bins: Option<Bins>,
    /// Tokens told, of each data set.
    pub tokens: Vec<Tokens>,
    /// What codes keep, of each data set.
    pub codes: Vec<Codes>,
    /// Logged actions in the simulator as they are and as their codes keep them.
    pub code_replay: Option<Replay>,
    /// Most likely actions, without a search; of TAP codes as they are drawn.
    pub greedy: Option<Arm>,
    /// The search with the simulator in place of what is imagined; of TAP the best, by the simulator, of the plans that its search ends with.
    pub simulated: Option<Arm>,
    /// The policy as it is configured.
    pub configured: Option<Arm>,
    /// What plans promised, and what came.
    pub imagination: Option<Imagination>,
    /// Returns asked for and reached.
    pub aims: Vec<Aim>,
    /// Errors of actions along logged episodes, of each data set.
    pub actions: Vec<ActionErrors>,
    /// Where return is lost, most first.
    pub losses: Vec<Loss>,
    /// The same in a sentence.
    pub verdict: String,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// Whether it was stopped early.
    pub interrupted: bool,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Returns of a data set's episodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Returned {
    /// Which data: `training`, `held-out` or `given`.
    pub data: &'static str,
    /// The files.
    pub files: String,
    /// All episodes.
    pub all: Arm,
    /// The best tenth of them.
    pub best: Arm,
}

/// Where return can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Actions are rounded to what their bins stand for.
    Bins,
    /// Actions lose what codes don't keep.
    Codes,
    /// The most likely actions return less than the data's episodes do.
    Imitation,
    /// The search returns more when the simulator answers in place of what is imagined.
    Imagination,
    /// Even with the simulator the search returns less than the best tenth of the data's episodes: what it proposes, how far it
    /// looks, and what it takes ends to be worth.
    Proposals,
    /// Less is reached than is asked for.
    Aiming,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loss {
    /// Where.
    pub place: Place,
    /// How much return, in the environment's units; below 0: gained.
    pub lost: Difference,
}

impl Loss {
    /// Whether its interval leaves no doubt that something is lost.
    pub fn is_certain(&self) -> bool {
        self.lost
            .interval
            .is_some_and(|interval| interval.low > 0.0)
    }
}

impl Place {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bins => "the bins",
            Self::Codes => "the codes",
            Self::Imitation => "imitation",
            Self::Imagination => "imagination",
            Self::Proposals => "proposals and values",
            Self::Aiming => "aiming",
        }
    }

    /// What it means, as a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Bins => "Actions that are rounded to what their bins stand for return less.",
            Self::Codes => "Actions that are encoded and decoded return less.",
            Self::Imitation => {
                "What the network does without a search returns less than the episodes that it learned from."
            }
            Self::Imagination => {
                "With the simulator in place of imagined observations and rewards the same search returns more."
            }
            Self::Proposals => {
                "Even with the simulator the search stays below the best tenth of the data's episodes: by the actions that it tries, \
                 by how far it looks, or by what it takes the ends to be worth."
            }
            Self::Aiming => "The run's own target is asked for, and less is reached.",
        }
    }
}
