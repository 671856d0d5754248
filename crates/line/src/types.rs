//! The types that callers pass to the line and get from it; no behaviour.

use delayline_plan::{Extent, ExtentId, Mode};

use crate::window::Key;

/// The sizes and limits of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Length of the window in bytes, which is memory `[0, window)`; a multiple
    /// of `plan::ALIGN`, 0 if nothing is streamed.
    ///
    /// Extents that are leased together have to fit together. Because an extent is
    /// contiguous and room becomes free in order, an acquire certainly finds room if
    /// the window holds `n + m` bytes, where `n` is the sum of all extents leased
    /// since the oldest outstanding lease, this one included, and `m` the longest of
    /// them.
    pub window: u64,
    /// Largest single read or write in bytes, a multiple of `plan::ALIGN`.
    pub read_len: u32,
    /// How often a read or a write that failed or was short is tried again.
    pub retries: u32,
}

/// The extents of a line, and where they are.
#[derive(Clone, Debug)]
pub struct LineSetup {
    /// The extents, by their id.
    pub extents: Vec<Extent>,
    /// Length of each part in bytes.
    pub part_lens: Vec<u64>,
    /// One entry per extent: `Some(at)` makes it resident, read once to
    /// memory position `at` after the window; `None` streams it through the
    /// window.
    pub homes: Vec<Option<u64>>,
    /// Sizes and limits.
    pub config: Config,
}

/// Proof that an extent is whole in memory and stays so. Return it with
/// [`crate::Line::release`], or with [`crate::Line::write_back`] if its bytes
/// have changed. A lease that is dropped keeps its part of the window for good.
#[derive(Debug)]
#[must_use = "a lease that is not released holds its part of the window for good"]
pub struct Lease {
    pub(crate) extent: ExtentId,
    pub(crate) mode: Mode,
    pub(crate) at: u64,
    /// The window's load; `None` for a resident extent.
    pub(crate) key: Option<Key>,
}

impl Lease {
    /// Which extent.
    pub fn extent(&self) -> ExtentId {
        self.extent
    }

    /// Memory position of its first byte.
    pub fn at(&self) -> u64 {
        self.at
    }
}

/// Consecutive bytes of a part, and their position in memory. For a fetch, offset,
/// length and position are multiples of `plan::ALIGN`; like an extent, the span may
/// reach past the end of the part by less than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSpan {
    /// Index of the file.
    pub part: u16,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Memory position. For a fetch, outside the window and all homes.
    pub at: u64,
}

/// A fetch under way, for [`crate::Line::fetched`].
#[derive(Debug)]
#[must_use = "pass the ticket to `Line::fetched` to know whether the bytes are there"]
pub struct Ticket(pub(crate) u32);

/// What the line has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes read and used: of streamed extents, counted when they are leased; of
    /// resident ones, when they are loaded; of fetches, when they are read. Where a file
    /// ends within an extent, only the file's bytes count.
    pub bytes_read: u64,
    /// Bytes read and not used: of extents that were skipped or dropped, of cancelled
    /// guesses, and the unaligned ends of short reads.
    pub bytes_wasted: u64,
    /// Bytes of guesses submitted, promoted or not.
    pub bytes_guessed: u64,
    /// Reads submitted, retries included.
    pub reads: u64,
    /// Bytes of extents that were written.
    pub bytes_written: u64,
    /// Writes submitted, retries included.
    pub writes: u64,
    /// Syncs submitted.
    pub syncs: u64,
    /// Reads that returned fewer bytes than expected.
    pub short_reads: u64,
    /// Retries of reads and writes.
    pub retried: u64,
    /// Time in which [`crate::Line::acquire`] and [`crate::Line::fetched`]
    /// waited, in nanoseconds.
    pub stall_ns: u64,
    /// How often they waited.
    pub stalls: u64,
}
