//! What is wrong with a shared store, in words.

use thiserror::Error as ThisError;

/// Why a store cannot be shared.
#[derive(Debug, ThisError)]
pub enum Error {
    /// It is no folder and no bucket.
    #[error("`{0}` is no place for a shared KV cache: expected a folder, or s3://BUCKET/PREFIX")]
    Place(String),
    /// The folder cannot be made or opened.
    #[error("{path} cannot be made a shared KV cache: {source}")]
    Folder {
        /// Which.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// It was made with another secret.
    #[error(
        "it was made with another secret than that of --kv-secret: give the same file to all servers"
    )]
    Secret,
    /// Something else is there.
    #[error(
        "it holds other things, {0} for one: expected an empty place, one that does not exist \
         yet, or an earlier shared KV cache"
    )]
    NotOurs(String),
    /// It was written by a later version.
    #[error("it is of a later version than this program knows: take the same version everywhere")]
    Later,
    /// The store refuses, or cannot be reached.
    #[error("{0}")]
    Store(#[from] object_store::Error),
    /// Nothing came.
    #[error("it did not answer within {0} s")]
    Silent(u64),
    /// The system refuses.
    #[error(transparent)]
    System(#[from] std::io::Error),
}
