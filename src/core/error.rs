//! The error type of this crate: what was expected, what was found, where, what to do.

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
    #[error("{path}: {source}", path = path.display())]
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
    /// A configuration key or value is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// A device is known, but can't be used in this build or on this machine.
    #[error("device `{name}`: {problem}")]
    NoDevice {
        /// Its name in configurations.
        name: String,
        /// Why, and what to do.
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
    /// A run directory can't be read, or does not fit.
    #[error("run {path}: {problem}", path = path.display())]
    Run {
        /// The run directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A model can't be fetched from the Hugging Face Hub, or published there.
    #[error("{what}: {problem}")]
    Hub {
        /// The model, as `hf://ID`.
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
    },
    /// The work's [`Interrupt`](crate::interrupt::Interrupt) was set before it was done.
    #[error("interrupted")]
    Interrupted,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
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
        found: impl std::fmt::Display,
        expected: impl std::fmt::Display,
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
    fn paths_are_quoted_for_a_shell_where_they_need_it() {
        let quoted = |text: &str| shell_quoted(Path::new(text));
        assert_eq!(quoted("runs/bc-v2"), "runs/bc-v2");
        assert_eq!(quoted("my runs/it's"), "'my runs/it'\\''s'");
    }
}
