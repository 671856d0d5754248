//! What can go wrong with feature files, graphs and reading rows, as values.

use delayline_line::{LineError, MediumError};
use delayline_medium::{MemoryError, OpenError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why features or a graph cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be opened or examined.
    #[error("{}: cannot read it: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
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
    /// The file has not the bytes that its shape says.
    #[error(
        "{}: {rows} rows of {row_len} bytes from byte {offset} on need {need} bytes, but the file \
         has {have}; it is cut short, or has another shape",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Rows of the shape.
        rows: u64,
        /// Bytes of a row.
        row_len: u64,
        /// First byte of row 0.
        offset: u64,
        /// Bytes that there should be.
        need: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// The file is not what it was when it was opened.
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
        /// What was asked for.
        row: i64,
        /// How many there are.
        rows: u64,
    },
    /// The memory does not suffice.
    #[error(
        "a memory of {memory} bytes is too small for rows of {row_len} bytes: allow at least {need}"
    )]
    Budget {
        /// What was allowed.
        memory: u64,
        /// Bytes of a row.
        row_len: u64,
        /// What would work.
        need: u64,
    },
    /// Rows could not be read.
    #[error(
        "{}: rows could not be read: byte {offset}, tried {attempts} times; check the drive", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// First byte that did not come.
        offset: u64,
        /// How often it was asked for.
        attempts: u32,
        /// What the last attempt said.
        source: MediumError,
    },
    /// The line cannot work.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The medium cannot be opened.
    #[error(transparent)]
    Medium(#[from] OpenError),
    /// Memory cannot be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The thread that reads cannot be started.
    #[error("cannot start the thread that reads: {source}; allow more threads")]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
    /// Nothing was announced, or an error has ended the epoch.
    #[error("no batch is announced: an epoch that met an error has ended, start the next one")]
    NothingAhead,
    /// The buffer for a batch is not as long as its rows.
    #[error("the buffer has {have} bytes, but the batch has {need}")]
    Buffer {
        /// Bytes of the buffer.
        have: usize,
        /// Bytes of the batch.
        need: usize,
    },
    /// Rows were to be gathered beside batches that are announced.
    #[error(
        "batches are announced that were not taken: end that epoch first, or open the file once more"
    )]
    Busy,
    /// The thread that reads has ended, as it does when a medium loses a read.
    #[error("the thread that reads features has stopped after an error; open the features again")]
    Stopped,
    /// A child of the process that opened the features uses them.
    #[error(
        "these features were opened in process {opened}, and this is process {here}: a forked worker \
         has neither their memory nor their thread; gather in the process that opened them, or open them here"
    )]
    Forked {
        /// Where they were opened.
        opened: u32,
        /// Where they are used.
        here: u32,
    },
    /// A file cannot be written.
    #[error("{}: cannot be written: {source}; nothing of it is left", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something is where a graph was to be written.
    #[error("{} is there already{why}", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
        /// What to do, or why it is not replaced.
        why: &'static str,
    },
    /// Whoever is told of the progress has asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A graph that cannot be sampled.
    #[error("{0}")]
    Graph(String),
}
