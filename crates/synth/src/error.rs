//! The errors of making and writing a model file.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why no file was written. Nothing is left behind.
#[derive(Debug, Error)]
pub enum Error {
    /// The disk, or a quota on it, is full.
    #[error(
        "{} does not fit: it needs {needed} bytes, the disk was full after {written}: free at least {} bytes or choose a smaller shape",
        .path.display(), .needed - .written
    )]
    DiskFull {
        /// The file that was to be written.
        path: PathBuf,
        /// Its length in bytes.
        needed: u64,
        /// How many bytes of it were written.
        written: u64,
    },
    /// The operating system's error.
    #[error("{} cannot be written: {source}", .path.display())]
    Io {
        /// The file that was to be written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path names no file.
    #[error("{} names no file, expected a path that ends in NAME.gguf", .path.display())]
    NoFileName {
        /// What was given.
        path: PathBuf,
    },
    /// The model cannot be split into so many parts.
    #[error("cannot split into {parts} parts, expected 1 to {tensors}, the number of tensors")]
    Parts {
        /// How many were asked for.
        parts: u16,
        /// How many tensors there are.
        tensors: usize,
    },
    /// A model whose number of experts a token uses cannot be changed.
    #[error(
        "how many experts a token uses can be chosen for the shapes of mixtures of experts alone, \
         such as qwen3-30b-a3b"
    )]
    NoExperts,
    /// More experts than there are, or none.
    #[error("a token cannot use {used} experts: a layer has {count}")]
    ExpertsUsed {
        /// How many were asked for.
        used: u32,
        /// How many a layer has.
        count: u32,
    },
    /// A model without choices that could be made like a trained one's.
    #[error("{name} cannot have the routing of a trained model, expected one of {}",
            crate::Blueprint::routable().collect::<Vec<_>>().join(", "))]
    Routing {
        /// The model's name.
        name: &'static str,
    },
    /// A vocabulary beyond what can be made up.
    #[error("cannot make up {vocab} tokens, expected {least} to {most}")]
    Vocab {
        /// How many were asked for.
        vocab: u32,
        /// The smallest size: the bytes and the special tokens.
        least: u32,
        /// The largest size: with all words.
        most: u32,
    },
    /// The shape makes no valid file.
    #[error("this shape makes no valid model file: {0}")]
    Shape(#[from] delayline_gguf::Error),
}

impl Error {
    /// The error of a failed write after `written` of `needed` bytes.
    pub(crate) fn writing(path: &Path, needed: u64, written: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
                path,
                needed,
                written: written.min(needed),
            },
            _ => Error::Io { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_how_much_is_needed() {
        let check = |kind: io::ErrorKind, expect: &str| {
            let error = Error::writing(Path::new("/d/m.gguf"), 1000, 300, kind.into());
            let message = error.to_string();
            assert!(message.contains(expect), "{message}");
            assert!(message.contains("/d/m.gguf"), "{message}");
        };
        check(
            io::ErrorKind::StorageFull,
            "needs 1000 bytes, the disk was full after 300: free at least 700",
        );
        check(io::ErrorKind::QuotaExceeded, "needs 1000 bytes");
        check(
            io::ErrorKind::PermissionDenied,
            "cannot be written: permission denied",
        );
    }
}
