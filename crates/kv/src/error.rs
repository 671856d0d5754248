//! What is wrong with a folder.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a folder cannot be a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is something else in it.
    #[error(
        "{path} holds other files, {name} for one: expected an empty folder, one that does not \
         exist yet, or an earlier KV cache"
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// A file in it.
        name: String,
    },
    /// It was written by a later version.
    #[error(
        "{path} is a KV cache of version {found}, this program knows version {known}: name another folder, or remove this one"
    )]
    Later {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The last one that is known.
        known: u32,
    },
    /// Another process has it.
    #[error("{path} is in use by another process: give each server a folder of its own")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It is smaller than what is to go into it.
    #[error("a KV cache of {size} bytes holds not even one block: expected {least} bytes or more")]
    TooSmall {
        /// What was asked for.
        size: u64,
        /// The least.
        least: u64,
    },
    /// What should be a secret can be guessed.
    #[error(
        "the secret of --kv-secret has {len} bytes: expected {least} or more, such as from \
         `openssl rand -hex 32`"
    )]
    Secret {
        /// How many it has.
        len: usize,
        /// The least.
        least: usize,
    },
    /// A shared store cannot be had.
    #[error("the shared KV cache at {place} cannot be used: {what}")]
    Shared {
        /// Which.
        place: String,
        /// Why, and what to do.
        what: String,
    },
    /// The system refuses.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}
