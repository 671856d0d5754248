//! The errors of a store or of activations.

use delayline_line::MediumError;
use delayline_medium::{MemoryError, OpenError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// An error of a store or of activations. The last commit is intact after each of them.
#[derive(Debug, Error)]
pub enum Error {
    /// Not enough memory is allowed, or not enough room on the medium.
    #[error("{memory} bytes are too few: {what} need {need}; allow at least that many")]
    Memory {
        /// Bytes that are allowed.
        memory: u64,
        /// The fewest bytes that work.
        need: u64,
        /// What needs them.
        what: &'static str,
    },
    /// The items that the caller holds leave no room.
    #[error(
        "there is no room for {len} bytes: items in use hold {held} of {memory} bytes; release \
         tensors that you keep, or allow more memory"
    )]
    NoRoom {
        /// Bytes of the item.
        len: u64,
        /// Bytes of the items that are held.
        held: u64,
        /// Bytes of memory for items.
        memory: u64,
    },
    /// An item could not be read or written.
    #[error(
        "item {item} could not be {}, tried {attempts} times; check the drive and its free space",
        if *write { "written" } else { "read" }
    )]
    Moved {
        /// The item.
        item: u32,
        /// Whether it was being written, rather than read.
        write: bool,
        /// Number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: MediumError,
    },
    /// The drive returns other bytes than were written.
    #[error(
        "item {item} is not what was written: its checksum was wrong {attempts} times in a row; the \
         drive or its connection returns wrong bytes, which are not used"
    )]
    Checksum {
        /// The item.
        item: u32,
        /// How often it was read.
        attempts: u32,
    },
    /// An item was requested that was never written.
    #[error("item {item} is empty: write it first")]
    Nothing {
        /// The item.
        item: u32,
    },
    /// A commit while an item is leased for writing.
    #[error("item {item} is still leased for writing; release it before the step is committed")]
    Held {
        /// The item.
        item: u32,
    },
    /// A commit record could not be written, or a sync failed.
    #[error(
        "the drive does not guarantee that the commit survives a power cut; open the store again, \
         which finds this commit or the one before"
    )]
    Sync {
        /// The medium's error.
        source: MediumError,
    },
    /// An earlier commit failed after its record may have been written.
    #[error("an earlier commit failed half-way: open the store again, its last commit is intact")]
    Broken,
    /// A commit record that does not fit.
    #[error(
        "a commit record of {len} bytes does not fit into {room} bytes; put less of your own data \
         into the commit"
    )]
    Record {
        /// Bytes of the record.
        len: u64,
        /// Bytes that are reserved for it.
        room: u64,
    },
    /// There is no complete commit record.
    #[error("no complete commit record was found: {what}")]
    NoRecord {
        /// What is wrong.
        what: String,
    },
    /// A store with one copy that was changed after its last commit.
    #[error(
        "the store has one copy of everything and ended within a step, so that its bytes are of two \
         steps; it cannot be opened (a store with two copies can)"
    )]
    Torn,
    /// The files are not those of this store, or are in the way of a new one.
    #[error("{what}")]
    Layout {
        /// What is wrong, what was expected and what to do.
        what: String,
    },
    /// Another process uses the store.
    #[error("{}: another process uses this store; end it first, or name another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A store is used in a fork of the process that opened it.
    #[error(
        "opened in process {opened}, and this is process {here}: a forked worker has none of its memory; \
         use it in the process that opened it"
    )]
    Forked {
        /// The process that opened it.
        opened: u32,
        /// The process that uses it.
        here: u32,
    },
    /// A file or folder cannot be used.
    #[error("{}: {what}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The files cannot be opened or created.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The memory cannot be allocated.
    #[error(transparent)]
    Reserve(#[from] MemoryError),
    /// The medium broke its contract: it returned from waiting without a completion.
    #[error(
        "the medium has {operations} operations under way but returned from waiting without a completion; \
         this is a bug of the medium"
    )]
    Lost {
        /// Operations submitted and not completed.
        operations: usize,
    },
}
