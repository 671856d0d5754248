//! The seam to where the extents are: one kind of operation, its completion, and
//! the trait that every medium implements.

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
    /// Bytes of the part go into the buffer.
    Read,
    /// Bytes of the buffer go into the part.
    Write,
    /// Every write to the part that had completed when this was submitted
    /// survives a power cut, once this has completed without an error.
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
/// multiples of what [`Caps::align`] says; multiples of `plan::ALIGN` suit every
/// medium.
///
/// Operations under way that touch the same bytes of a part, at least one of
/// them a write, take effect in any order.
#[derive(Debug, PartialEq, Eq)]
pub struct Op {
    /// The caller's own name for it, returned in the completion. Names of
    /// operations under way differ.
    pub id: u64,
    /// What to do.
    pub verb: Verb,
    /// Which file of the model.
    pub part: u16,
    /// First byte in that file. A read may reach past the end of the part and is
    /// short then; a write has to end within it. 0 for a sync.
    pub offset: u64,
    /// The memory, of the operation's length. It belongs to the operation until
    /// that completes. [`Buffer::empty`] for a sync.
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

    /// What it asks for, for messages.
    pub fn asked(&self) -> Asked {
        Asked {
            verb: self.verb,
            offset: self.offset,
            len: self.buffer.len(),
        }
    }

    /// Ends it: the buffer goes back with the result.
    pub fn complete(self, result: Result<u32, MediumError>) -> Completion {
        Completion {
            id: self.id,
            buffer: self.buffer,
            result,
        }
    }
}

/// What an operation asked for, without its buffer.
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

/// What became of an [`Op`].
#[derive(Debug, PartialEq, Eq)]
pub struct Completion {
    /// The operation's name.
    pub id: u64,
    /// The memory, back from the medium.
    pub buffer: Buffer,
    /// How many bytes, from the buffer's start, were read or written; 0 for a
    /// sync. Fewer than asked is a short operation, which the caller judges (a
    /// read at the end of a part is right to be short).
    ///
    /// After an error nobody knows what the buffer of a read holds, nor which
    /// bytes of a write arrived; after one of a sync, nobody knows which of the
    /// writes since the last good sync survive.
    pub result: Result<u32, MediumError>,
}

/// Where extents are: takes operations, gives completions, in any order.
pub trait Medium {
    /// What it can do. The answer never changes.
    fn caps(&self) -> &Caps;

    /// Queues an operation. Never blocks; may batch until the next
    /// [`Medium::poll`]. What the medium does not do, such as a write to a
    /// read-only one, completes with an error.
    ///
    /// # Panics
    /// When more than [`Caps::depth`] operations are under way, or the buffer is
    /// of another memory than the medium's: the caller counts and knows.
    fn submit(&mut self, op: Op);

    /// Hands queued operations on and appends what has completed to `done`. With
    /// `wait`, returns only with at least one completion, unless no operation is
    /// under way. In virtual time, waiting advances the clock.
    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>);

    /// What it has done so far.
    fn stats(&self) -> Stats;

    /// Appends what happened since this was last asked and a person, or the
    /// caller, should know: each fallback, a loss, a recovery.
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
