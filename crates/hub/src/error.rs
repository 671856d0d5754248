//! What can go wrong with a model of the hub, in words.

use std::io;
use std::path::PathBuf;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no name.
    #[error("expected hf:ORG/REPO or hf:ORG/REPO:QUANT, such as hf:org/model-GGUF:Q4_K_M")]
    Name,
    /// Nobody said where the cache is.
    #[error("there is no HOME: set HF_HUB_CACHE to the folder of the hub's cache")]
    NoCache,
    /// The cache does not have it whole.
    #[error(
        "{what}: fetch it with `hf download {repo} --include '*{include}*'`, or set \
         HF_HUB_CACHE to the folder where it is"
    )]
    NotCached {
        /// What is not there.
        what: String,
        /// `ORG/REPO`.
        repo: String,
        /// What is to be fetched of it.
        include: String,
    },
    /// The name means none of the models, or several.
    #[error(
        "{} of the models of {repo} is meant by `{quant}`: there are {}",
        if *none { "none" } else { "more than one" },
        names.join(", ")
    )]
    Unclear {
        /// Whether none was meant.
        none: bool,
        /// `ORG/REPO`.
        repo: String,
        /// What was asked for.
        quant: String,
        /// What there is.
        names: Vec<String>,
    },
    /// The hub was not reached.
    #[error("{endpoint} cannot be reached: {why}")]
    Unreachable {
        /// Where it should be.
        endpoint: String,
        /// What the network says.
        why: String,
    },
    /// The hub does not give it.
    #[error("{endpoint} does not give {what}: {why}")]
    Refused {
        /// Where it was asked.
        endpoint: String,
        /// What was asked for.
        what: String,
        /// Its reason, as far as its status tells.
        why: String,
    },
    /// What the hub says contradicts itself or is no answer.
    #[error("{endpoint} answers with what cannot be: {what}")]
    Senseless {
        /// Who said it.
        endpoint: String,
        /// What is wrong with it.
        what: String,
    },
    /// It stopped sending.
    #[error(
        "{file}: the hub stopped after {got} of {len} bytes ({why}); what has come is kept, \
         start again to go on from there"
    )]
    Stopped {
        /// What was fetched.
        file: String,
        /// Bytes that are there.
        got: u64,
        /// Bytes there should be.
        len: u64,
        /// What the network says.
        why: String,
    },
    /// It sent other bytes than it promised.
    #[error(
        "{file}: the bytes that came are not those whose checksum the hub names; they were \
         removed, start again to fetch it anew"
    )]
    WrongBytes {
        /// What was fetched.
        file: String,
    },
    /// There is no room for it.
    #[error("{} has {free} bytes free, and {needed} are to come", folder.display())]
    NoRoom {
        /// The folder of the cache.
        folder: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that it would take.
        needed: u64,
    },
    /// The caller wants no more.
    #[error("it was stopped")]
    Interrupted,
    /// The cache cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}
