//! The errors of a medium, with the system's error unchanged.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::Asked;

/// Why an operation failed. Cheap to clone: the system's error is shared.
#[derive(Clone, Debug, Error)]
pub enum MediumError {
    /// This operation failed; another attempt may succeed.
    #[error("{medium}: {asked} failed: {source}")]
    Failed {
        /// File or device, for a person.
        medium: String,
        /// The operation.
        asked: Asked,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The medium as a whole is gone (a cut fiber, a pulled drive, no power).
    #[error("{medium}: the medium is gone: {source}")]
    Gone {
        /// File or device, for a person.
        medium: String,
        /// The cause, as far as it is known.
        source: Arc<io::Error>,
    },
    /// The medium cannot do this: it is read-only, there is no such part, or
    /// the write does not end within its part.
    #[error("{medium}: {asked} is refused: {source}")]
    Refused {
        /// File or device, for a person.
        medium: String,
        /// The operation.
        asked: Asked,
        /// The reason.
        source: Arc<io::Error>,
    },
}

impl MediumError {
    /// The operation `asked` of `medium` failed.
    pub fn failed(medium: impl Into<String>, asked: Asked, source: io::Error) -> Self {
        Self::Failed {
            medium: medium.into(),
            asked,
            source: Arc::new(source),
        }
    }

    /// `medium` is gone.
    pub fn gone(medium: impl Into<String>, source: io::Error) -> Self {
        Self::Gone {
            medium: medium.into(),
            source: Arc::new(source),
        }
    }

    /// `medium` cannot do what was `asked`.
    pub fn refused(medium: impl Into<String>, asked: Asked, source: io::Error) -> Self {
        Self::Refused {
            medium: medium.into(),
            asked,
            source: Arc::new(source),
        }
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.io().kind()
    }

    /// The system's error.
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Failed { source, .. }
            | Self::Gone { source, .. }
            | Self::Refused { source, .. } => source,
        }
    }

    /// Whether the same operation may succeed when it is tried again.
    pub fn is_worth_retrying(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// The same error of a medium that is part of a larger one: `whole` is put
    /// before its name.
    pub fn within(mut self, whole: &str) -> Self {
        let (Self::Failed { medium, .. }
        | Self::Gone { medium, .. }
        | Self::Refused { medium, .. }) = &mut self;
        *medium = format!("{whole}, {medium}");
        self
    }
}

impl PartialEq for MediumError {
    /// Whether kind and message are the same.
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_string() == other.to_string()
    }
}

impl Eq for MediumError {}
