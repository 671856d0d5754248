//! The trait that every medium implements, with its operations and their completions.

mod buffer;
mod caps;
mod error;
mod stats;

use std::fmt;

pub use buffer::{Buffer, Region, RegionId};
pub use caps::{Alignment, Caps, Durability, Rates};
pub use error::MediumError;
pub use stats::{EventClass, MediumEvent, Stats, Tally};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Copies bytes of the part into the buffer.
    Read,
    /// Copies the buffer into the part.
    Write,
    /// Once it has completed without an error, every write to the part that had
    /// completed when it was submitted survives a power cut.
    Sync,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
        })
    }
}

/// One operation of a medium. Offset, length and position of the buffer are
/// multiples of [`Caps::align`]; multiples of `plan::ALIGN` suit every medium.
///
/// A write and another operation on the same bytes of a part that are under way
/// together take effect in either order.
#[derive(Debug, PartialEq, Eq)]
pub struct Op {
    /// The caller's identifier, returned in the completion; unique among the
    /// operations under way.
    pub id: u64,
    /// What to do.
    pub verb: Verb,
    /// Which file of the model.
    pub part: u16,
    /// First byte in that file. A read that reaches past the end of the part is
    /// short; a write has to end within it. 0 for a sync.
    pub offset: u64,
    /// The memory; its length is the operation's. The operation owns it until it
    /// completes. [`Buffer::empty`] for a sync.
    pub buffer: Buffer,
}

impl Op {
    /// A read of `buffer.len()` bytes.
    pub fn read(id: u64, part: u16, offset: u64, buffer: Buffer) -> Self {
        let verb = Verb::Read;
        Self {
            id,
            verb,
            part,
            offset,
            buffer,
        }
    }

    /// A write of `buffer.len()` bytes.
    pub fn write(id: u64, part: u16, offset: u64, buffer: Buffer) -> Self {
        let verb = Verb::Write;
        Self {
            id,
            verb,
            part,
            offset,
            buffer,
        }
    }

    /// A sync of a part.
    pub fn sync(id: u64, part: u16) -> Self {
        Self {
            id,
            verb: Verb::Sync,
            part,
            offset: 0,
            buffer: Buffer::empty(),
        }
    }

    /// The request without the buffer, for messages.
    pub fn asked(&self) -> Asked {
        Asked {
            verb: self.verb,
            offset: self.offset,
            len: self.buffer.len(),
        }
    }

    /// Its completion with `result`, which returns the buffer.
    pub fn complete(self, result: Result<u32, MediumError>) -> Completion {
        Completion {
            id: self.id,
            buffer: self.buffer,
            result,
        }
    }
}

/// An operation's request, without its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What to do.
    pub verb: Verb,
    /// First byte in the part.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, offset, len } = self;
        match verb {
            Verb::Sync => write!(f, "{verb}"),
            _ => write!(f, "{verb} of {len} bytes at {offset}"),
        }
    }
}

/// The outcome of an [`Op`].
#[derive(Debug, PartialEq, Eq)]
pub struct Completion {
    /// The operation's [`Op::id`].
    pub id: u64,
    /// The operation's buffer.
    pub buffer: Buffer,
    /// How many bytes, from the buffer's start, were read or written; 0 for a
    /// sync. Fewer than requested is a short operation; the caller decides whether
    /// that is correct, as for a read at the end of a part.
    ///
    /// After an error the contents of a read's buffer are undefined, and so is which
    /// bytes of a write are in the part; after a failed sync, which of the writes since
    /// the last successful one survive a power cut.
    pub result: Result<u32, MediumError>,
}

/// Where extents are: takes operations, and returns completions in any order.
pub trait Medium {
    /// What it can do. Never changes.
    fn caps(&self) -> &Caps;

    /// Queues an operation. Never blocks; may batch until the next
    /// [`Medium::poll`]. An operation that the medium does not support, such as a
    /// write to a read-only one, completes with an error.
    ///
    /// # Panics
    /// If more than [`Caps::depth`] operations are under way, or the buffer is of
    /// another memory than the medium's.
    fn submit(&mut self, op: Op);

    /// Starts queued operations and appends completions to `done`. With `wait`, returns
    /// only with at least one completion, unless no operation is under way. In virtual
    /// time, waiting advances the clock.
    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>);

    /// What it has done so far.
    fn stats(&self) -> Stats;

    /// Appends the events since the last call that a person or the caller should know:
    /// each fallback, loss and recovery.
    fn events(&mut self, out: &mut Vec<MediumEvent>);
}

impl<M: Medium + ?Sized> Medium for Box<M> {
    fn caps(&self) -> &Caps {
        (**self).caps()
    }

    fn submit(&mut self, op: Op) {
        (**self).submit(op);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        (**self).poll(wait, done);
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        (**self).events(out);
    }
}
