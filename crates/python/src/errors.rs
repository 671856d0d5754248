//! Converts the errors of `delayline-graph` to exceptions of Python, and any error to a
//! message with its sources.

use delayline_graph::Error;
use pyo3::PyErr;
use pyo3::exceptions::{
    PyFileNotFoundError, PyIndexError, PyOSError, PyRuntimeError, PyValueError,
};
use std::io::ErrorKind;

/// The exception for an error of `delayline-graph`.
pub(crate) fn exception(error: Error) -> PyErr {
    let message = message(&error);
    match error {
        Error::Open { source, .. } if source.kind() == ErrorKind::NotFound => {
            PyFileNotFoundError::new_err(message)
        }
        Error::Open { .. }
        | Error::Changed { .. }
        | Error::Read { .. }
        | Error::Write { .. }
        | Error::Exists { .. }
        | Error::Line(_)
        | Error::Medium(_)
        | Error::Memory(_) => PyOSError::new_err(message),
        Error::NoSuchRow { .. } => PyIndexError::new_err(message),
        Error::Format { .. }
        | Error::Length { .. }
        | Error::Budget { .. }
        | Error::Buffer { .. }
        | Error::Graph(_) => PyValueError::new_err(message),
        Error::Thread { .. }
        | Error::NothingAhead
        | Error::Busy
        | Error::Stopped
        | Error::Interrupted
        | Error::Forked { .. } => PyRuntimeError::new_err(message),
    }
}

/// The message of an error with those of its sources, unless it quotes them already.
pub(crate) fn message(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let reason_message = reason.to_string();
        if !message.contains(&reason_message) {
            message = format!("{message}: {reason_message}");
        }
        source = reason.source();
    }
    message
}
