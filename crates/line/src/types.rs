//! What callers hand to the line and get from it; no behaviour.

use delayline_plan::{Extent, ExtentId, Mode};

use crate::window::Key;

/// The line's measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Length of the window in bytes, which is memory `[0, window)`; a multiple
    /// of `plan::ALIGN`, 0 if nothing is streamed.
    ///
    /// What is leased together has to fit together: since an extent is
    /// contiguous and space comes back in order, an acquire is sure to find room
    /// if the window holds `n + m` bytes. There `n` counts all extents leased
    /// since the oldest lease that is out, this one included, and `m` is the
    /// longest of them.
    pub window: u64,
    /// Largest single read or write in bytes, a multiple of `plan::ALIGN`.
    pub read_len: u32,
    /// How often a read or a write that failed or came short is tried again.
    pub retries: u32,
}

/// What a line is over.
#[derive(Clone, Debug)]
pub struct LineSetup {
    /// The extents, by their id.
    pub extents: Vec<Extent>,
    /// Length of each part in bytes.
    pub part_lens: Vec<u64>,
    /// One entry for each extent: `Some(at)` makes it resident, read once to
    /// memory position `at` behind the window; `None` streams it through the
    /// window.
    pub homes: Vec<Option<u64>>,
    /// The measures.
    pub config: Config,
}

/// Proof that an extent is whole in memory and stays so. It goes back with
/// [`crate::Line::release`], or with [`crate::Line::write_back`] when its bytes
/// have changed; one that is dropped instead holds its part of the
/// window for ever.
#[derive(Debug)]
#[must_use = "a lease that is not released holds its part of the window for ever"]
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

/// Consecutive bytes of a part, and where in memory they are or are to be. Of what is
/// fetched all figures are multiples of `plan::ALIGN`, in bytes; like an extent it may
/// reach past the end of the part by less than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSpan {
    /// Index of the file.
    pub part: u16,
    /// First byte in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// Memory position; of what is fetched outside the window and no other's home.
    pub at: u64,
}

/// A fetch under way, for [`crate::Line::fetched`].
#[derive(Debug)]
#[must_use = "until the ticket is redeemed nobody knows whether the bytes are there"]
pub struct Ticket(pub(crate) u32);

/// What the line has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that were of use: of extents when they were leased (resident ones:
    /// when they were loaded), of fetches when they came. Where a file ends
    /// within an extent, only the file's bytes count.
    pub bytes_read: u64,
    /// Bytes that came for nothing: of extents skipped or dropped, and what was
    /// cut off short reads.
    pub bytes_wasted: u64,
    /// Bytes of guesses that were submitted, whether they came true or not.
    pub bytes_guessed: u64,
    /// Reads submitted, further attempts included.
    pub reads: u64,
    /// Bytes of extents that were written.
    pub bytes_written: u64,
    /// Writes submitted, further attempts included.
    pub writes: u64,
    /// Syncs submitted.
    pub syncs: u64,
    /// Reads that brought less than they should.
    pub short_reads: u64,
    /// Further attempts.
    pub retried: u64,
    /// Time in which [`crate::Line::acquire`] and [`crate::Line::fetched`]
    /// waited, in nanoseconds.
    pub stall_ns: u64,
    /// How often they waited.
    pub stalls: u64,
}
