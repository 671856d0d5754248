//! The seam to where the extents are.

use thiserror::Error;

/// A range of the memory that the medium was built with, owned: it is neither
/// `Clone` nor `Copy`, moves into a [`Read`], belongs to the request until that
/// completes, and comes back in its [`Completion`].
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    at: u64,
    len: u32,
}

impl Slot {
    /// A claim on `len` bytes at byte `at` of the memory. Whoever makes one
    /// answers for it that no two live slots overlap; in production that is
    /// the line alone.
    pub fn claim(at: u64, len: u32) -> Self {
        Self { at, len }
    }

    /// First byte, from the start of the memory.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Length in bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it spans no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One request to a medium. Offset, length and memory position are multiples
/// of `plan::ALIGN`.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The line's own name for it, returned in the completion.
    pub id: u64,
    /// Which file of the model.
    pub part: u16,
    /// First byte in that file.
    pub offset: u64,
    /// Where the bytes go; its length is the length of the read.
    pub slot: Slot,
}

/// What became of a [`Read`].
#[derive(Debug, PartialEq, Eq)]
pub struct Completion {
    /// The read's name.
    pub id: u64,
    /// The memory, back from the medium.
    pub slot: Slot,
    /// How many bytes, from the slot's start, were filled; fewer than asked is
    /// a short read, which the line judges (at the end of a file it is right).
    pub result: Result<u32, ReadError>,
}

/// Why a read failed. The line retries, then gives up with the last of these.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The operating system's error.
    #[error("{source_name}: read of {len} bytes at {offset} failed: {message}")]
    Os {
        /// File or device, for a person.
        source_name: String,
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u32,
        /// The system's text.
        message: String,
    },
    /// The medium as a whole is gone (a cut fiber, a pulled drive).
    #[error("{source_name}: the medium is gone: {message}")]
    Gone {
        /// Which one.
        source_name: String,
        /// What is known of it.
        message: String,
    },
}

/// Where extents are: takes reads, gives completions, in any order.
pub trait Medium {
    /// How many reads it takes before completions must be reaped.
    fn depth(&self) -> usize;

    /// Queues a read. Never blocks; may batch until the next [`Medium::poll`].
    ///
    /// # Panics
    /// When more than [`Medium::depth`] reads are under way: the line counts.
    fn submit(&mut self, read: Read);

    /// Hands queued reads on and appends what has completed to `done`. With
    /// `wait`, returns only with at least one completion, unless no read is
    /// under way. In virtual time, waiting advances the clock.
    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>);
}

impl<M: Medium + ?Sized> Medium for Box<M> {
    fn depth(&self) -> usize {
        (**self).depth()
    }

    fn submit(&mut self, read: Read) {
        (**self).submit(read);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        (**self).poll(wait, done);
    }
}
