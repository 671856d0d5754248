//! The errors of a shared store.

use thiserror::Error as ThisError;

/// Why a store cannot be used.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The place is neither a folder nor a bucket.
    #[error("`{0}` is not a place for a shared KV cache: expected a folder, or s3://BUCKET/PREFIX")]
    Place(String),
    /// The folder cannot be created or opened.
    #[error("{path} cannot be made a shared KV cache: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// It was made with another secret.
    #[error(
        "it was made with another secret than that of --kv-secret: give the same file to all servers"
    )]
    Secret,
    /// The place holds something else.
    #[error(
        "it holds other files, such as {0}: expected an empty place, one that does not exist \
         yet, or an earlier shared KV cache"
    )]
    NotOurs(String),
    /// It was made by a later version.
    #[error("it was made by a later version of this program: run the same version everywhere")]
    Later,
    /// The store refuses, or cannot be reached.
    #[error("{0}")]
    Store(#[from] object_store::Error),
    /// The store did not answer in time.
    #[error("it did not answer within {0} s")]
    Silent(u64),
    /// The system gives no thread or timer.
    #[error(transparent)]
    System(#[from] std::io::Error),
}
