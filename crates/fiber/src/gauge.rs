//! What a loop tells of itself while the line owns it: figures, and events of
//! which a person should hear. It measures nothing.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// What a loop has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopFigures {
    /// One lap of the light, in nanoseconds.
    pub lap_ns: u64,
    /// Bytes of the model on the loop, in pieces, each counted once.
    pub placed_bytes: u64,
    /// How often they circulate, so that each comes by as often in a lap.
    pub copies: u32,
    /// Reads that it is cut into.
    pub pieces: u64,
    /// Bytes in flight, all copies, framing and error correction included; in the real
    /// machine they are in the glass.
    pub in_flight_bytes: u64,
    /// Pieces taken from the loop.
    pub taken: u64,
    /// Their bytes.
    pub taken_bytes: u64,
    /// Times a piece passed with nobody to take it, since it was first taken.
    pub missed: u64,
    /// Reads of what is not on the loop, or not a whole piece of it (rows of
    /// tables, experts, what stays), from the medium behind.
    pub beside: u64,
    /// Their bytes.
    pub beside_bytes: u64,
    /// Bits that went wrong in flight, as far as they were looked at.
    pub wrong_bits: u64,
    /// Pieces that were wrong, found by their checksum and sent anew.
    pub scrubbed: u64,
    /// Times the light failed.
    pub cuts: u64,
    /// Bytes that were read from the medium behind because the loop was dark.
    pub dark_bytes: u64,
    /// Pieces that this host had not copied by the time at which they had
    /// passed: the loop is then slower than it would be.
    pub late: u64,
}

/// Something a person should know while it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopNotice {
    /// The light is gone, with so many bytes.
    Cut {
        /// Bytes of the model that were in flight.
        bytes: u64,
    },
    /// The light is back; the loop is filled from what is read.
    Mended,
    /// Everything circulates again.
    Refilled,
}

impl fmt::Display for LoopNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { bytes } => write!(
                f,
                "the fiber is cut and the light is gone, {:.1} MB of it: reading from flash until it is mended",
                *bytes as f64 / 1e6
            ),
            Self::Mended => write!(
                f,
                "the fiber is mended: what is read from flash goes into the loop again"
            ),
            Self::Refilled => write!(f, "the loop is full again"),
        }
    }
}

/// A window into a loop that somebody else owns.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Rc<RefCell<(LoopFigures, Vec<LoopNotice>)>>);

impl Gauge {
    /// What it has done so far.
    pub fn figures(&self) -> LoopFigures {
        self.0.borrow().0
    }

    /// What happened since this was last asked.
    pub fn take_notices(&self) -> Vec<LoopNotice> {
        std::mem::take(&mut self.0.borrow_mut().1)
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut LoopFigures)) {
        change(&mut self.0.borrow_mut().0);
    }

    pub(crate) fn tell(&self, notice: LoopNotice) {
        self.0.borrow_mut().1.push(notice);
    }
}
