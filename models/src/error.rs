//! The error type of this crate.

use crate::health::Fault;

/// What can go wrong in a network, its parameters or its optimiser.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A network was to take a step with a loss or gradients that are not finite.
    #[error("{0}")]
    NotFinite(Fault),
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
    /// Tensors of a file don't fit a network: everything that is wrong with them.
    #[error("{}", mismatch([missing, misshapen, unexpected, not_finite, integers]))]
    TensorMismatch {
        /// Parameters that no tensor is for, with their shapes.
        missing: Box<[String]>,
        /// Tensors of another shape than the parameter, with both.
        misshapen: Box<[String]>,
        /// Tensors that no parameter is for, with their shapes.
        unexpected: Box<[String]>,
        /// Tensors that hold NaN or infinities.
        not_finite: Box<[String]>,
        /// Tensors of integers (quantized weights), with their types.
        integers: Box<[String]>,
    },
    /// A network was asked to be built with sizes that make no sense.
    #[error("{what}: {reason}")]
    Config {
        /// The network or layer.
        what: &'static str,
        /// Why it can't be built.
        reason: String,
    },
    /// Processes that train together can't go on.
    #[error("{problem}")]
    Ranks {
        /// Why.
        problem: String,
    },
    /// A text is no state of a random stream.
    #[error("not a random stream's state")]
    NoStream,
    /// A state of a random stream that another build made.
    #[error(
        "the state of a random stream of version {found}, which this build does not know (it knows the first, whose states have no number in \
         front, and 2): go on with the version of Trajformer that wrote it, or a later one"
    )]
    StreamVersion {
        /// The version's number.
        found: String,
    },
}

fn mismatch(lists: [&[String]; 5]) -> String {
    let kinds = [
        "missing",
        "of another shape",
        "unknown",
        "not finite",
        "of integers",
    ];
    let texts: Vec<String> = kinds
        .into_iter()
        .zip(lists)
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{} {what}: {}", names.len(), names.join(", ")))
        .collect();
    format!("the tensors don't fit the network: {}", texts.join("; "))
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
