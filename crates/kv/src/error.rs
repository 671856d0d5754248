//! The errors of opening and maintaining a store.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a store cannot be opened or changed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder has other content.
    #[error(
        "{path} holds other files, {name} for one: expected an empty folder, one that does not \
         exist yet, or an earlier KV cache"
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// One of its files.
        name: String,
    },
    /// The folder was written by a later version.
    #[error(
        "{path} is a KV cache of version {found}, and this program knows versions up to {known}: \
         name another folder, or remove this one"
    )]
    Later {
        /// The folder.
        path: PathBuf,
        /// Its version; `u32::MAX` if it cannot be read.
        found: u32,
        /// The latest that this program knows.
        known: u32,
    },
    /// Another process has locked the folder.
    #[error("{path} is in use by another process: give each server a folder of its own")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The size is less than a store needs.
    #[error("a KV cache of {size} bytes is too small: expected {least} bytes or more")]
    TooSmall {
        /// The size asked for, in bytes.
        size: u64,
        /// The minimum, in bytes.
        least: u64,
    },
    /// The secret is too short.
    #[error(
        "the secret of --kv-secret has {len} bytes: expected {least} or more, such as from \
         `openssl rand -hex 32`"
    )]
    Secret {
        /// Its length in bytes.
        len: usize,
        /// The minimum, in bytes.
        least: usize,
    },
    /// The shared store cannot be opened.
    #[error("the shared KV cache at {place} cannot be used: {what}")]
    Shared {
        /// Its name, for a person.
        place: String,
        /// Why, and what to do.
        what: String,
    },
    /// A system call failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What failed, such as "cannot read".
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
