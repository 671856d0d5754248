//! Errors of setting up a medium and of measuring a drive, and the fallbacks that a
//! medium reports. Failures of single operations are the line's `MediumError`.

use delayline_line::{EventClass, MediumEvent};
use delayline_plan::ALIGN;
use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why memory could not be reserved or populated.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// No address space.
    #[error(
        "cannot reserve {len} bytes of address space: {source}; \
         raise the limit on virtual memory (ulimit -v)"
    )]
    Reserve {
        /// Bytes asked for.
        len: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// No pages.
    #[error("cannot get {len} bytes of memory: {source}; free some memory or lower the budget")]
    Populate {
        /// Bytes asked for.
        len: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The system's pages are longer than an extent's alignment: single rows
    /// could not be given back, and budgets would not be kept.
    #[error(
        "this system has memory pages of {len} bytes, expected 4096: start a kernel with pages of 4 KiB"
    )]
    Pages {
        /// Bytes of a page.
        len: u64,
    },
}

/// Why files could not be opened or created for a medium.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No file was named.
    #[error("no file to read from: name at least one")]
    NoParts,
    /// One file cannot be opened or examined.
    #[error("{}: cannot open it: {source}", path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// One file cannot be created.
    #[error("{}: cannot create a file of {len} bytes: {source}{}", path.display(), room(source))]
    Create {
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        len: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// A file was to be created of a length that direct I/O cannot write in full.
    #[error("{}: cannot create a file of {len} bytes: expected a positive multiple of {ALIGN}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        len: u64,
    },
    /// Not a regular file or block device.
    #[error("{}: not a regular file or a block device; name the model's file itself", path.display())]
    NotAFile {
        /// The path that was given.
        path: PathBuf,
    },
    /// The depth is out of range.
    #[error("{depth} operations at once: expected between 1 and {max}")]
    Depth {
        /// Asked for.
        depth: usize,
        /// The maximum.
        max: usize,
    },
    /// io_uring was required and is refused.
    #[error(
        "io_uring is not available: {source}; allow it (sysctl kernel.io_uring_disabled, the container's seccomp profile) or read with threads"
    )]
    NoUring {
        /// The system's reason.
        source: io::Error,
    },
    /// The threads cannot be started.
    #[error(
        "cannot start {threads} threads to read with: {source}; lower the number of operations at once"
    )]
    Threads {
        /// How many were wanted.
        threads: usize,
        /// The system's reason.
        source: io::Error,
    },
}

/// What to do where there is no room for a file.
fn room(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some room on the drive or use another one"
        }
        _ => "",
    }
}

/// Why a measurement could not be made.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The files cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The buffers cannot be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A read failed while measuring.
    #[error(transparent)]
    Read(#[from] delayline_line::MediumError),
    /// The file of the measurement cannot be examined or written.
    #[error("{}: {what}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The files hold too little for even one read.
    #[error("the files hold {have} bytes: measuring needs at least {need}; name a larger file")]
    TooSmall {
        /// Bytes there are.
        have: u64,
        /// Bytes of one read.
        need: u64,
    },
}

/// A way of reading that the system refuses, and the medium replaces by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The file system refuses direct I/O on this file.
    DirectRefused {
        /// The file.
        path: PathBuf,
    },
    /// The file system accepts direct I/O but fills the page cache anyway.
    DirectCached {
        /// The file.
        path: PathBuf,
    },
    /// The kernel refuses io_uring.
    NoUring {
        /// The system's reason.
        message: String,
        /// Threads that read instead.
        threads: usize,
    },
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const THEN: &str = "reading through the page cache and dropping from it what was read, \
             which costs CPU time; move the file to a local xfs drive, or ext4 without data=journal, to avoid it";
        match self {
            Self::DirectRefused { path } => {
                write!(
                    f,
                    "{}: its file system refuses direct I/O: {THEN}",
                    path.display()
                )
            }
            Self::DirectCached { path } => write!(
                f,
                "{}: its file system takes direct I/O but caches it: {THEN}",
                path.display()
            ),
            Self::NoUring { message, threads } => write!(
                f,
                "io_uring is not available ({message}): reading with {threads} threads instead; \
                 allow it (sysctl kernel.io_uring_disabled, the container's seccomp profile) \
                 to save their CPU time"
            ),
        }
    }
}

impl From<Fallback> for MediumEvent {
    fn from(fallback: Fallback) -> Self {
        Self {
            class: EventClass::Fallback,
            message: fallback.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_drive_is_told_with_what_to_do() {
        for (number, expect) in [
            (libc::ENOSPC, true),
            (libc::EDQUOT, true),
            (libc::EIO, false),
        ] {
            let error = OpenError::Create {
                path: PathBuf::from("x"),
                len: 4096,
                source: io::Error::from_raw_os_error(number),
            };
            let told = error.to_string();
            assert_eq!(told.contains("free some room"), expect, "{told}");
        }
    }

    #[test]
    fn fallbacks_say_what_is_wrong_and_what_to_do() {
        let path = PathBuf::from("m.gguf");
        let cases = [
            (
                Fallback::DirectRefused { path: path.clone() },
                "m.gguf: its file system refuses direct I/O",
            ),
            (
                Fallback::DirectCached { path },
                "m.gguf: its file system takes direct I/O but caches it",
            ),
            (
                Fallback::NoUring {
                    message: "EPERM".into(),
                    threads: 32,
                },
                "(EPERM): reading with 32 threads",
            ),
        ];
        for (fallback, expect) in cases {
            let event = MediumEvent::from(fallback);
            assert_eq!(event.class, EventClass::Fallback);
            assert!(event.message.contains(expect), "{event}");
        }
    }
}
