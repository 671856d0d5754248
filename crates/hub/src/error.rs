//! The errors of this crate.

use std::io;
use std::path::PathBuf;

/// Why a model was not found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is malformed.
    #[error("expected hf:ORG/REPO or hf:ORG/REPO:QUANT, such as hf:org/model-GGUF:Q4_K_M")]
    Name,
    /// The environment does not say where the cache is.
    #[error("there is no HOME: set HF_HUB_CACHE to the folder of the hub's cache")]
    NoCache,
    /// The cache does not have the model, or not all of it.
    #[error(
        "{what}: fetch it with `hf download {repo} --include '*{include}*'`, or set \
         HF_HUB_CACHE to the folder where it is"
    )]
    NotCached {
        /// What is missing.
        what: String,
        /// `ORG/REPO`.
        repo: String,
        /// Which of its files to fetch.
        include: String,
    },
    /// The name matches none of the models, or several.
    #[error(
        "{} of the models of {repo} matches `{quant}`: there are {}",
        if *none { "none" } else { "more than one" },
        names.join(", ")
    )]
    Unclear {
        /// Whether it matches none.
        none: bool,
        /// `ORG/REPO`.
        repo: String,
        /// The quantisation that was looked for.
        quant: String,
        /// Names of the models there.
        names: Vec<String>,
    },
    /// The hub cannot be reached.
    #[error("{endpoint} cannot be reached: {why}")]
    Unreachable {
        /// Address of the hub.
        endpoint: String,
        /// The error of the connection.
        why: String,
    },
    /// The hub refuses the request.
    #[error("{endpoint} does not provide {what}: {why}")]
    Refused {
        /// Address of the hub.
        endpoint: String,
        /// The repository, model or file requested.
        what: String,
        /// The reason, from the status of the response.
        why: String,
    },
    /// The hub's response is malformed or contradicts itself.
    #[error("{endpoint} sent an invalid response: {what}")]
    InvalidResponse {
        /// Address of the hub.
        endpoint: String,
        /// What is wrong with the response.
        what: String,
    },
    /// The hub stopped sending.
    #[error(
        "{file}: the hub stopped after {got} of {len} bytes ({why}); these are kept: start \
         again to fetch the rest"
    )]
    Stopped {
        /// The file.
        file: String,
        /// Bytes fetched.
        got: u64,
        /// Length of the file.
        len: u64,
        /// The error of the connection.
        why: String,
    },
    /// The bytes fetched have another checksum than the hub's.
    #[error(
        "{file}: the bytes fetched do not have the checksum that the hub gives; they were \
         removed: start again"
    )]
    WrongBytes {
        /// The file.
        file: String,
    },
    /// There is not enough room for the model.
    #[error(
        "{} has {free} bytes free, but {needed} are needed: make room, or set HF_HUB_CACHE to \
         another folder",
        folder.display()
    )]
    NoRoom {
        /// A folder of the cache.
        folder: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes still to be fetched.
        needed: u64,
    },
    /// The caller stopped the fetch.
    #[error("the fetch was interrupted")]
    Interrupted,
    /// The cache cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}
