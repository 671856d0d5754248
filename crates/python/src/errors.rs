//! Errors of the library as Python's, with the whole chain of reasons in the words.

use delayline_graph::Error;
use pyo3::PyErr;
use pyo3::exceptions::{
    PyFileNotFoundError, PyIndexError, PyOSError, PyRuntimeError, PyValueError,
};
use std::error::Error as _;
use std::io::ErrorKind;

/// The exception for an error.
pub(crate) fn exception(error: Error) -> PyErr {
    let words = words(&error);
    match error {
        Error::Open { source, .. } if source.kind() == ErrorKind::NotFound => {
            PyFileNotFoundError::new_err(words)
        }
        Error::Open { .. }
        | Error::Changed { .. }
        | Error::Read { .. }
        | Error::Write { .. }
        | Error::Exists { .. }
        | Error::Line(_)
        | Error::Medium(_)
        | Error::Memory(_) => PyOSError::new_err(words),
        Error::NoSuchRow { .. } => PyIndexError::new_err(words),
        Error::Format { .. }
        | Error::Length { .. }
        | Error::Budget { .. }
        | Error::Buffer { .. }
        | Error::Graph(_) => PyValueError::new_err(words),
        Error::Thread { .. }
        | Error::NothingAhead
        | Error::Busy
        | Error::Stopped
        | Error::Interrupted
        | Error::Forked { .. } => PyRuntimeError::new_err(words),
    }
}

fn words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let reason_words = reason.to_string();
        if !words.contains(&reason_words) {
            words = format!("{words}: {reason_words}");
        }
        source = reason.source();
    }
    words
}
