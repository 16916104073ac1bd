//! The error type of this crate.

/// What can go wrong in a network, its parameters or its optimiser.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A stored tensor set lacks a parameter.
    #[error("tensor `{name}` is missing (expected shape {expected:?})")]
    MissingTensor {
        /// Name of the parameter.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// A stored tensor set holds a tensor that nothing asked for.
    #[error("unexpected tensors: {}", names.join(", "))]
    UnexpectedTensors {
        /// Their names.
        names: Vec<String>,
    },
    /// A stored tensor has another shape than the parameter.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// Name of the parameter.
        name: String,
        /// Shape in the file or argument.
        found: Vec<usize>,
        /// Shape of the parameter.
        expected: Vec<usize>,
    },
    /// A network was asked to be built with sizes that make no sense.
    #[error("{what}: {reason}")]
    Config {
        /// The network or layer.
        what: &'static str,
        /// Why it can't be built.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
