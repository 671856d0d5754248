//! What can go wrong with a store or with activations, as values.

use delayline_line::MediumError;
use delayline_medium::{MemoryError, OpenError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a step cannot go on. What was committed last stands after each of them.
#[derive(Debug, Error)]
pub enum Error {
    /// The memory does not suffice.
    #[error("a memory of {memory} bytes is too small: {what} take {need}; allow at least that")]
    Memory {
        /// What was allowed.
        memory: u64,
        /// What would work.
        need: u64,
        /// For what.
        what: &'static str,
    },
    /// Items in the caller's hands leave no room.
    #[error(
        "{len} bytes find no room: {held} of {memory} bytes are held by what is in use; let go of \
         tensors that are kept, or allow more memory"
    )]
    NoRoom {
        /// Bytes that were asked for.
        len: u64,
        /// Bytes that cannot be moved.
        held: u64,
        /// All there are.
        memory: u64,
    },
    /// Bytes could not be moved.
    #[error(
        "item {item} could not be {}, tried {attempts} times; check the drive and its free space",
        if *write { "written" } else { "read" }
    )]
    Moved {
        /// Which item.
        item: u32,
        /// Written, not read.
        write: bool,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt said.
        source: MediumError,
    },
    /// The drive brings other bytes than were written.
    #[error(
        "item {item} is not what was written: its checksum differs, {attempts} times in a row; the \
         drive or its connection brings wrong bytes, nothing of this is used"
    )]
    Checksum {
        /// Which item.
        item: u32,
        /// How often it was read.
        attempts: u32,
    },
    /// An item is asked for that has no bytes.
    #[error("item {item} holds nothing yet: it has to be written first")]
    Nothing {
        /// Which item.
        item: u32,
    },
    /// An item that is to be committed is still in somebody's hands to be changed.
    #[error(
        "item {item} is being changed by somebody who holds it; let go of it before the step is committed"
    )]
    Held {
        /// Which item.
        item: u32,
    },
    /// What was written may not survive a power cut.
    #[error("the drive could not promise to keep what was written")]
    Sync {
        /// What the medium said.
        source: MediumError,
    },
    /// An earlier commit failed half-way.
    #[error("an earlier commit failed half-way: open the store again, the last commit stands")]
    Broken,
    /// A commit record that does not fit.
    #[error(
        "a commit record of {len} bytes does not fit: there is room for {room}; keep less of your own in it"
    )]
    Record {
        /// Bytes of the record.
        len: u64,
        /// Bytes there are.
        room: u64,
    },
    /// There is no whole commit record.
    #[error("no whole commit record is found: {what}")]
    NoRecord {
        /// What is wrong.
        what: String,
    },
    /// A store with one copy that was changed after its last commit.
    #[error(
        "the store keeps one copy of everything and ended within a step, so that its bytes are of two \
         steps; it cannot be opened (stores with two copies survive this)"
    )]
    Torn,
    /// The files are not those of this store.
    #[error("{what}")]
    Layout {
        /// What differs, and what was expected.
        what: String,
    },
    /// Another process has the store.
    #[error("{}: another process uses this store; end it first, or name another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A child of the process that opened it uses it.
    #[error(
        "opened in process {opened}, and this is process {here}: a forked worker has none of its memory; \
         use it in the process that opened it"
    )]
    Forked {
        /// Where it was opened.
        opened: u32,
        /// Where it is used.
        here: u32,
    },
    /// A file or folder.
    #[error("{}: {what}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The files cannot be opened or created.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Memory cannot be had.
    #[error(transparent)]
    Reserve(#[from] MemoryError),
    /// The medium broke its contract: it waited and had nothing to say.
    #[error(
        "the medium has {operations} operations under way but returned from waiting without a completion; this is a bug of the medium"
    )]
    Lost {
        /// Operations submitted and not completed.
        operations: usize,
    },
}
