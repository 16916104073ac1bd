//! The error type of this crate: what was expected, what was found, where, what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Everything that can go wrong outside the networks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A network, parameter or optimiser failed.
    #[error(transparent)]
    Models(#[from] trajformer_models::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// Reading or writing failed.
    #[error("{path}: {source}{advice}", path = path.display(), advice = advice(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A data file is not what it should be. `problem` names array and row where there is one.
    #[error("{path}: {problem}", path = path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        problem: String,
    },
    /// A tensor, table or list has another shape than it must have.
    #[error("{what}: found {found}, expected {expected}")]
    Shape {
        /// What it is, by its name where it has one.
        what: String,
        /// Its shape or length.
        found: String,
        /// The one that was needed, and why where that is not plain.
        expected: String,
    },
    /// The data can't be used in the way that was asked for.
    #[error("{0}")]
    Unsuitable(String),
    /// A configuration key has a value that can't be.
    #[error(
        "configuration: {}`{key}` is {found}, expected {expected}",
        front(origin)
    )]
    Config {
        /// The whole key, e.g. `algorithm.bc.fraction`.
        key: String,
        /// Its value.
        found: String,
        /// Values that can be.
        expected: String,
        /// What set it, where that is known.
        origin: Option<Origin>,
    },
    /// A configuration key that is needed has no value.
    #[error("configuration: `{key}` is not set: {problem}")]
    NotSet {
        /// The whole key, e.g. `data.path`.
        key: String,
        /// What needs it, or what to give.
        problem: String,
    },
    /// A configuration can't be read, its keys don't fit each other or what they are for, or a setting of a function is wrong.
    #[error("configuration: {}{problem}", front(origin))]
    Settings {
        /// What was expected, what was found, what to do.
        problem: String,
        /// The file or the overrides that say so, where that is known.
        origin: Option<Origin>,
    },
    /// Something has other numbers of observations and actions than what it is to be used with.
    #[error("{problem}")]
    Dimensions {
        /// Both, and what to do.
        problem: String,
        /// Numbers in an observation and in an action, as they are.
        found: (usize, usize),
        /// As they would have to be.
        expected: (usize, usize),
    },
    /// A model of another library lacks what only data can say: give the data that it was trained on.
    #[error("{path}: {problem}", path = path.display())]
    NoData {
        /// The model's folder, or the file in it that is damaged.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// Several runs have no data in common, and none is given to judge them by.
    #[error("{problem}")]
    NoCommonData {
        /// Which runs, and what to do.
        problem: String,
    },
    /// Curves are to be drawn over seconds that nobody has written down: draw them over updates.
    #[error("{problem}")]
    NoSeconds {
        /// Which runs.
        problem: String,
    },
    /// The data of a run is not where it was: name its place.
    #[error("{path}: {problem}", path = path.display())]
    DataMoved {
        /// Where it was.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The data of a new run is not where `data.path` says.
    #[error("{path}: {problem}", path = path.display())]
    DataMissing {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong, and where such data comes from.
        problem: String,
    },
    /// A run was opened without its data and is asked to learn: resume it instead.
    #[error(
        "this run was opened without its data: it can act, but not learn; continue its training by resuming it"
    )]
    OpenedWithoutData,
    /// A policy that was trained with goals acts in an environment that offers none, and `evaluate.goal` names none.
    #[error(
        "environment `{env}`: it has no goal of its own and this policy was trained with goals: name one in \
         `evaluate.goal` ({observation_dim} numbers, an observation), or set `evaluate.episodes=0` to train without scores"
    )]
    NoGoal {
        /// The environment.
        env: String,
        /// Numbers in a goal.
        observation_dim: usize,
    },
    /// A policy is told what it has no embedding of: encode it first.
    #[error(
        "the instruction `{text}` is not among the {known} that are known, and was not encoded"
    )]
    UnknownInstruction {
        /// What it was told.
        text: String,
        /// How many instructions it knows.
        known: usize,
    },
    /// Nothing has the name that was asked for.
    #[error("{problem}")]
    Unknown {
        /// The name.
        name: String,
        /// What there is, and where.
        problem: String,
    },
    /// A policy, an algorithm or an environment can't do what was asked of it: ask another one, or leave it out.
    #[error("{problem}")]
    Unsupported {
        /// What it lacks.
        ability: Ability,
        /// Why, and what to do.
        problem: String,
    },
    /// Of several ranks that train together another one has failed, and says why.
    #[error("another rank could not begin, and says why")]
    OtherRank,
    /// This build leaves something out: build with the feature.
    #[error("{problem}")]
    NotBuilt {
        /// The feature of the crate `trajformer`.
        feature: &'static str,
        /// What needs it.
        problem: String,
    },
    /// The file of a policy's weights does not say what its activations are, and nothing else does: say it.
    #[error("{path}: {problem}", path = path.display())]
    NoActivations {
        /// The file.
        path: PathBuf,
        /// What is missing, and where it can be said.
        problem: String,
    },
    /// A device is known, but can't be used in this build or on this machine.
    #[error("device `{name}`: {problem}")]
    NoDevice {
        /// Its name in configurations.
        name: String,
        /// Why, and what to do.
        problem: String,
    },
    /// An encoder of the caller's own is given where it has no place, or missing where a run has one.
    #[error("encoder `{name}`: {problem}")]
    Encoder {
        /// Its name.
        name: String,
        /// Why it can't be used, and what to do.
        problem: String,
    },
    /// An environment is unknown, not built in, or failed.
    #[error("environment `{name}`: {problem}")]
    Env {
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// MuJoCo's library or a model of its robots is not on this machine, or is not what is needed.
    #[error("environment `{name}`: {problem}")]
    Mujoco {
        /// The environment's name.
        name: String,
        /// What is wrong, where it was looked for, and what to do.
        problem: String,
    },
    /// MuJoCo can't be installed.
    #[error("MuJoCo: {problem}")]
    Setup {
        /// What is wrong and what to do.
        problem: String,
    },
    /// There is a run where one was to begin: resume it, or choose another folder.
    #[error(
        "run {path}: there is a run already; continue it by resuming it, or choose another folder",
        path = path.display()
    )]
    RunExists {
        /// The run directory.
        path: PathBuf,
    },
    /// A folder is in use, or holds what would be overwritten: choose another one.
    #[error("run {path}: {problem}", path = path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is there, and what to do.
        problem: String,
    },
    /// Another process has a run now: wait for its end.
    #[error("run {path}: another process trains it now: {advice}", path = path.display())]
    InTraining {
        /// The run directory.
        path: PathBuf,
        /// What to do.
        advice: String,
    },
    /// There is no run directory.
    #[error("run {path}: {problem}", path = path.display())]
    NoRun {
        /// Where it was looked for.
        path: PathBuf,
        /// What is there instead, and what may be meant.
        problem: String,
    },
    /// A run has no checkpoint yet: train it first.
    #[error("run {path}: no state.toml: it has no checkpoint yet; resuming it starts it anew", path = path.display())]
    NoCheckpoint {
        /// The run directory.
        path: PathBuf,
    },
    /// A run directory can't be read, or does not fit.
    #[error("run {path}: {problem}", path = path.display())]
    Run {
        /// The run directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A known data set is named that is not on this machine: fetch it.
    #[error(
        "{name}: a public data set that has not been fetched yet; it would be {place}",
        place = place.display()
    )]
    NotFetched {
        /// Its name.
        name: String,
        /// Where it will be.
        place: PathBuf,
    },
    /// A model or a data set can't be fetched from the Hugging Face Hub or another server, or published there.
    #[error("{what}: {problem}")]
    Hub {
        /// The model, as `hf://ID`, the data set's name, or the server.
        what: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Training can't go on.
    #[error("training stopped at update {update}: {problem}")]
    Training {
        /// The update that failed, counted from 1.
        update: u64,
        /// What happened and what to do.
        problem: String,
        /// The run directory whose last checkpoint can be resumed, if going on may help.
        resumable: Option<PathBuf>,
    },
    /// Something is not as this library itself should have left it.
    #[error("{0}: this is a bug in trajformer, please report it")]
    Internal(String),
    /// The work's [`Interrupt`](crate::interrupt::Interrupt) was set before it was done.
    #[error("interrupted")]
    Interrupted,
    /// The same, of an estimate or a choice that is of use before it is done, but not yet.
    #[error("{problem}")]
    NothingYet {
        /// How far it has come, and why nothing follows from that.
        problem: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What says something in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A file, as it was named.
    File(String),
    /// Overrides (`KEY=VALUE`), as they were given.
    Overrides(Vec<String>),
}

impl Origin {
    /// One override.
    pub fn of_override(text: impl Into<String>) -> Self {
        Self::Overrides(vec![text.into()])
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Overrides(texts) => write!(f, "`{}`", texts.join(" ")),
        }
    }
}

/// The front of a message about what `origin` says.
fn front(origin: &Option<Origin>) -> String {
    origin
        .as_ref()
        .map_or_else(String::new, |origin| format!("{origin}: "))
}

/// What a policy, an algorithm or an environment may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// To act by the present observation alone.
    Memoryless,
    /// To follow instructions in words.
    Instructions,
    /// To aim at goals.
    Goals,
    /// To draw actions from a distribution.
    Sampling,
    /// To plan ahead.
    Planning,
    /// To learn from its own experience.
    OnlineLearning,
    /// To say its loss on episodes that it doesn't learn from.
    HeldOutLoss,
    /// To be written as a graph.
    Export,
    /// To be drawn as a maze.
    MazePicture,
    /// A learning rule that this program knows.
    Rule,
    /// To be taken apart, to see where its score goes.
    Diagnosis,
    /// To be trained by several ranks together.
    Ranks,
}

/// What to do about a failure that the system names.
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    /// EIO, which has no kind.
    const DISK: Option<i32> = Some(5);
    match error.kind() {
        Kind::NotFound => "; check the path",
        Kind::NotADirectory => "; a part of the path is a file, where a folder is needed",
        Kind::AlreadyExists => "; something else is in its place: choose another name",
        Kind::IsADirectory => "; it is a folder: name a file",
        Kind::PermissionDenied => {
            "; make it readable and writable for you, or choose another place"
        }
        Kind::ReadOnlyFilesystem => {
            "; nothing can be written there: make it writable, or choose another place"
        }
        Kind::StorageFull | Kind::QuotaExceeded => "; free space there",
        _ if cfg!(unix) && error.raw_os_error() == DISK => {
            "; the disk or the way to it has failed: the system's log says more"
        }
        _ => "",
    }
}

impl Error {
    /// An [`Error::Config`]: the value of `key` is `found`, but must be `expected`.
    pub fn config(
        key: impl Into<String>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self::Config {
            key: key.into(),
            found: found.to_string(),
            expected: expected.to_string(),
            origin: None,
        }
    }

    /// An [`Error::Settings`] of which nobody says yet what said so.
    pub fn settings(problem: impl Into<String>) -> Self {
        Self::Settings {
            problem: problem.into(),
            origin: None,
        }
    }

    /// The error about a configuration with what said what is wrong, unless it knows already; other errors as they are.
    #[must_use]
    pub fn said_by(mut self, said_by: Option<Origin>) -> Self {
        if let Self::Config { origin, .. } | Self::Settings { origin, .. } = &mut self
            && origin.is_none()
        {
            *origin = said_by;
        }
        self
    }

    /// What set the key that the error is about, if it is about one.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Config { origin, .. } | Self::Settings { origin, .. } => origin.as_ref(),
            _ => None,
        }
    }

    /// An [`Error::Unsupported`].
    pub fn unsupported(ability: Ability, problem: impl Into<String>) -> Self {
        Self::Unsupported {
            ability,
            problem: problem.into(),
        }
    }

    /// An [`Error::Internal`] from what failed; for `map_err`.
    pub fn internal(error: impl fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }

    /// An [`Error::Io`] about `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    /// An [`Error::Shape`]: `what` is `found`, but must be `expected`.
    pub fn shape(
        what: impl Into<String>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self::Shape {
            what: what.into(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    /// An [`Error::Data`] about `path`.
    pub fn data(path: &Path, problem: impl Into<String>) -> Self {
        Self::Data {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }
}

/// A path as a shell takes it: in quotes where it needs them.
pub fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:=,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_configuration_names_key_value_and_the_first_who_says_so() {
        let error = Error::config("train.updates", 0, "at least 1");
        assert_eq!(
            error.to_string(),
            "configuration: `train.updates` is 0, expected at least 1"
        );
        let said = Some(Origin::of_override("train.updates=0"));
        let error = error
            .said_by(said.clone())
            .said_by(Some(Origin::File("a.toml".to_owned())));
        assert_eq!(error.origin(), said.as_ref());
        assert_eq!(
            error.to_string(),
            "configuration: `train.updates=0`: `train.updates` is 0, expected at least 1"
        );
        let error = Error::settings("no TOML").said_by(Some(Origin::File("a.toml".to_owned())));
        assert_eq!(error.to_string(), "configuration: a.toml: no TOML");
        let other = Error::Internal("x".to_owned()).said_by(said);
        assert_eq!(other.origin(), None);
    }

    #[test]
    fn paths_are_quoted_for_a_shell_where_they_need_it() {
        let quoted = |text: &str| shell_quoted(Path::new(text));
        assert_eq!(quoted("runs/bc-v2"), "runs/bc-v2");
        assert_eq!(quoted("my runs/it's"), "'my runs/it'\\''s'");
    }
}
