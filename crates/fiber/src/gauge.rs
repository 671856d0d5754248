//! What a loop reports while the line owns it: figures, and events for a person. It
//! measures nothing.

use crate::orbit::Orbit;
use crate::spec::LoopSpec;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// What a loop is and has done so far; serialized, it is the report to programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoopFigures {
    /// Length of a loop in km.
    pub length_km: f64,
    /// Speed of light in vacuum over its speed in the fiber.
    pub group_index: f64,
    /// Loops in parallel.
    pub loops: u32,
    /// Gross rate of one loop, in bit/s.
    pub rate_bit_per_s: f64,
    /// Share of it for framing and error correction.
    pub overhead: f64,
    /// Dark time after each piece, in seconds.
    pub guard_s: f64,
    /// Share of bits that flip in each lap of the light, after error correction.
    pub residual_ber: f64,
    /// Bytes of the model that pass each second, all loops together.
    pub net_rate_bytes_per_s: f64,
    /// One lap of the light, in seconds.
    pub lap_s: f64,
    /// Copies of each piece on the loop: it passes as often in a lap.
    pub copies: u32,
    /// From one pass of a piece to the next, in seconds: `lap_s / copies`.
    pub turn_s: f64,
    /// Bytes of a model that the loops hold, once.
    pub capacity_bytes: u64,
    /// Bytes of the model on the loop, in pieces, each counted once.
    pub placed_bytes: u64,
    /// Streamed bytes of a lap that come from the drive, because the loop has no room.
    pub left_out_bytes: u64,
    /// Bytes in flight, all copies, framing and error correction included.
    pub in_flight_bytes: u64,
    /// Reads that the bytes on the loop are cut into.
    pub pieces: u64,
    /// Pieces taken from the loop.
    pub pieces_taken: u64,
    /// Their bytes.
    pub bytes_taken: u64,
    /// Passes in which a piece was not taken, after it was first taken.
    pub passes_missed: u64,
    /// Reads from the medium behind of what is not on the loop, or is no whole piece of
    /// it (rows of tables, experts, what stays).
    #[serde(skip)]
    pub reads_beside: u64,
    /// Their bytes.
    pub beside_bytes: u64,
    /// Bits that flipped in flight, of the pieces that were read.
    pub wrong_bits: u64,
    /// Pieces whose checksum was wrong, and which were sent again.
    pub pieces_scrubbed: u64,
    /// Times the light failed.
    pub cuts: u64,
    /// Bytes that were read from the medium behind because the loop was dark.
    pub dark_bytes: u64,
    /// Pieces that this host had not copied yet when they had passed: the emulated loop
    /// is then slower than a real one.
    pub pieces_late: u64,
    /// Compute of a lap of the model, in seconds, for which the pieces were placed; 0
    /// where it is not known.
    pub placed_for_compute_s: f64,
    /// Predicted time of such a lap, in seconds.
    pub predicted_lap_s: f64,
    /// The same with the pieces in plain order.
    pub predicted_plain_lap_s: f64,
}

impl LoopFigures {
    /// Of a loop that has done nothing yet and carries these pieces.
    pub(crate) fn at_start(spec: &LoopSpec, orbit: &Orbit) -> Self {
        let placed_bytes = orbit.pieces.iter().map(|p| u64::from(p.len)).sum();
        let in_flight = placed_bytes as f64 * f64::from(spec.copies) / (1.0 - spec.overhead);
        Self {
            length_km: spec.length_km,
            group_index: spec.group_index,
            loops: spec.loops,
            rate_bit_per_s: spec.rate_bit_per_s,
            overhead: spec.overhead,
            guard_s: spec.guard_s,
            residual_ber: spec.residual_ber,
            net_rate_bytes_per_s: spec.net_bytes_per_s(),
            lap_s: spec.lap_s(),
            copies: spec.copies,
            turn_s: spec.turn_s(),
            capacity_bytes: spec.capacity_bytes(),
            placed_bytes,
            in_flight_bytes: in_flight.round() as u64,
            pieces: orbit.pieces.len() as u64,
            ..Self::default()
        }
    }

    /// Whether the loop has no room for a part of what streams.
    pub fn is_split(&self) -> bool {
        self.left_out_bytes > 0
    }
}

/// An event that a person should know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopNotice {
    /// The light is gone, and the bytes in it.
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

/// Access to the figures and events of a loop that something else owns.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Rc<RefCell<(LoopFigures, Vec<LoopNotice>)>>);

impl Gauge {
    /// What it has done so far.
    pub fn figures(&self) -> LoopFigures {
        self.0.borrow().0
    }

    /// The events since the last call.
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
