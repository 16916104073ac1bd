//! Errors of the library as exceptions of Python, with the library's words.

use std::io::ErrorKind;

use pyo3::PyErr;
use pyo3::exceptions::{
    PyFileExistsError, PyFileNotFoundError, PyKeyboardInterrupt, PyOSError, PyRuntimeError,
    PyValueError,
};
use trajformer::Error;

/// The exception for an error: FileNotFoundError where nothing is there, FileExistsError where something is, OSError where the
/// system fails, ValueError where what was given can't be, else RuntimeError.
pub fn raised(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Interrupted => PyKeyboardInterrupt::new_err(text),
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            PyFileNotFoundError::new_err(text)
        }
        Error::Io { .. } => PyOSError::new_err(text),
        Error::NoRun { .. }
        | Error::NoCheckpoint { .. }
        | Error::DataMissing { .. }
        | Error::DataMoved { .. }
        | Error::NotFetched { .. } => PyFileNotFoundError::new_err(text),
        Error::RunExists { .. } | Error::Occupied { .. } => PyFileExistsError::new_err(text),
        Error::Data { .. }
        | Error::Shape { .. }
        | Error::Unsuitable(_)
        | Error::Config { .. }
        | Error::NotSet { .. }
        | Error::Settings { .. }
        | Error::Dimensions { .. }
        | Error::NoData { .. }
        | Error::NoGoal { .. }
        | Error::Unknown { .. }
        | Error::Unsupported { .. }
        | Error::NoActivations { .. }
        | Error::Encoder { .. } => PyValueError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}
