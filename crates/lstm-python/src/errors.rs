//! The library's errors as Python's: the sentence stays, the type says which kind of error it is.

use std::io;

use lstm::formats::FormatError;
use lstm::nn::config::ConfigError;
use lstm::run::error::TrainError;
use lstm::text::TextError;
use pyo3::PyErr;
use pyo3::exceptions::{
    PyFileExistsError, PyFileNotFoundError, PyFloatingPointError, PyOSError, PyPermissionError, PyValueError,
};

/// A setting.
pub(crate) fn of_setting(error: ConfigError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A text.
pub(crate) fn of_text(error: TextError) -> PyErr {
    match &error {
        TextError::Io { source, .. } => of_system(source, error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// A file.
pub(crate) fn of_file(error: FormatError) -> PyErr {
    match &error {
        FormatError::Read { source, .. } | FormatError::Write { source, .. } => of_system(source, error.to_string()),
        FormatError::Unusable { .. } | FormatError::Conflict { .. } => PyValueError::new_err(error.to_string()),
    }
}

/// A run that begins: a folder that does not go with what was asked for is one that is taken.
pub(crate) fn of_new_run(error: TrainError) -> PyErr {
    match error {
        TrainError::Format(FormatError::Conflict { .. }) => PyFileExistsError::new_err(error.to_string()),
        error => of_training(error),
    }
}

/// A training, or a run that is opened.
pub(crate) fn of_training(error: TrainError) -> PyErr {
    match error {
        TrainError::Config(error) => of_setting(error),
        TrainError::Text(error) => of_text(error),
        TrainError::Format(error) => of_file(error),
        TrainError::NotFinite { .. } | TrainError::Diverged { .. } => PyFloatingPointError::new_err(error.to_string()),
        TrainError::NoModel { .. } => PyFileNotFoundError::new_err(error.to_string()),
        TrainError::Data(_) | TrainError::Unusable(_) => PyValueError::new_err(error.to_string()),
    }
}

fn of_system(source: &io::Error, said: String) -> PyErr {
    match source.kind() {
        io::ErrorKind::NotFound => PyFileNotFoundError::new_err(said),
        io::ErrorKind::PermissionDenied => PyPermissionError::new_err(said),
        _ => PyOSError::new_err(said),
    }
}
