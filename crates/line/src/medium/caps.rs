//! What a medium can do, as figures; no behaviour.

/// What offset, length and memory position of reads and writes must be multiples of,
/// in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// First byte in the part.
    pub offset: u32,
    /// Length of the operation.
    pub len: u32,
    /// First byte of the buffer, from the start of its region.
    pub memory: u32,
}

impl Alignment {
    /// The same for all three.
    pub const fn all(bytes: u32) -> Self {
        Self {
            offset: bytes,
            len: bytes,
            memory: bytes,
        }
    }
}

/// Rates while the queue is never empty; `None` where they are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of reads alone.
    pub read_bytes_per_s: Option<u64>,
    /// Of writes alone.
    pub write_bytes_per_s: Option<u64>,
    /// Sum of both, when half of the bytes are read and half written.
    pub mixed_bytes_per_s: Option<u64>,
}

/// Which written bytes survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// None, nor the end of the process: a sync promises nothing.
    Volatile,
    /// Those written before a successful sync; of the others, any may.
    Synced,
}

/// What a medium can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Maximum number of operations under way.
    pub depth: usize,
    /// Alignment of reads and writes.
    pub align: Alignment,
    /// Longest operation in bytes.
    pub largest_len: u32,
    /// Shortest operation that reaches the full rate, in bytes.
    pub best_len: u32,
    /// Rates as far as they are known.
    pub rates: Rates,
    /// Whether it can write; if not, writes complete with an error.
    pub writable: bool,
    /// Which written bytes survive a power cut.
    pub durability: Durability,
}

impl Default for Caps {
    /// One operation at a time, of whole pages, read-only.
    fn default() -> Self {
        Self {
            depth: 1,
            align: Alignment::all(4096),
            largest_len: 1 << 30,
            best_len: 4 << 20,
            rates: Rates::default(),
            writable: false,
            durability: Durability::Volatile,
        }
    }
}
