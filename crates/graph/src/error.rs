//! The errors of feature files, graphs and gathering.

use delayline_line::{LineError, MediumError};
use delayline_medium::{MemoryError, OpenError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// An error of features or of a graph.
#[derive(Debug, Error)]
pub enum Error {
    /// A file or folder cannot be opened or read.
    #[error("{}: cannot be read: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not an array that can be read row by row.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, what was expected and what to do.
        what: String,
    },
    /// The file is shorter than its shape needs.
    #[error(
        "{}: {rows} rows of {row_len} bytes from byte {offset} on need {need} bytes, but the file \
         has {have}; it is cut short, or has another shape",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Number of rows.
        rows: u64,
        /// Bytes of a row.
        row_len: u64,
        /// Offset of row 0 in bytes.
        offset: u64,
        /// Length that the file should have at least.
        need: u64,
        /// Length of the file.
        have: u64,
    },
    /// The file was changed after it was opened.
    #[error(
        "{}: the file has changed since it was opened; nothing more is read from it, open it again",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A row that the file does not have.
    #[error("row {row} is asked for, but the features have {rows} rows (0 to {})", rows.saturating_sub(1))]
    NoSuchRow {
        /// The row.
        row: i64,
        /// Number of rows in the file.
        rows: u64,
    },
    /// Not enough memory is allowed.
    #[error(
        "a memory of {memory} bytes is too small for rows of {row_len} bytes: allow at least {need}"
    )]
    Budget {
        /// Bytes that are allowed.
        memory: u64,
        /// Bytes of a row.
        row_len: u64,
        /// The fewest bytes that work.
        need: u64,
    },
    /// Rows could not be read.
    #[error(
        "{}: rows could not be read: byte {offset}, tried {attempts} times; check the drive", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Offset in the file of the first byte that could not be read.
        offset: u64,
        /// Number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: MediumError,
    },
    /// The read-ahead engine failed.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The file cannot be opened for direct reads.
    #[error(transparent)]
    Medium(#[from] OpenError),
    /// The memory cannot be allocated.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The thread that reads cannot be started.
    #[error("cannot start the thread that reads: {source}; allow this process more threads")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
    /// Nothing was announced, or an error has ended the epoch.
    #[error("no batch is announced; after an error the epoch is over, begin the next one")]
    NothingAhead,
    /// The buffer for a batch has the wrong length.
    #[error("the buffer has {have} bytes, expected {need}, the length of the batch")]
    Buffer {
        /// Bytes of the buffer.
        have: usize,
        /// Bytes of the batch.
        need: usize,
    },
    /// Rows cannot be gathered while batches are announced.
    #[error(
        "announced batches have not been taken: end that epoch first, or open the file a second time"
    )]
    Busy,
    /// The thread that reads has ended, because a read was submitted and never completed.
    #[error("the thread that reads features has stopped after an error; open the features again")]
    Stopped,
    /// The features are used in a fork of the process that opened them.
    #[error(
        "these features were opened in process {opened}, and this is process {here}: a forked worker \
         has neither their memory nor their thread; gather in the process that opened them, or open them here"
    )]
    Forked {
        /// The process that opened them.
        opened: u32,
        /// The process that uses them.
        here: u32,
    },
    /// A file or folder cannot be written.
    #[error("{}: cannot be written: {source}; nothing of it is left", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The output exists already.
    #[error("{} is there already{why}", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
        /// The rest of the message: why it is not replaced, and what to do.
        why: &'static str,
    },
    /// The caller stopped the work.
    #[error("interrupted")]
    Interrupted,
    /// A graph, or the parameters of sampling, cannot be used.
    #[error("{0}")]
    Graph(String),
}
