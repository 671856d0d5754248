//! What a loop tells of itself while the line owns it: figures, and events of
//! which a person should hear. It measures nothing.

use crate::orbit::Orbit;
use crate::spec::LoopSpec;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// What a loop is and has done so far. This is also how it is told to programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoopFigures {
    /// Length of a loop in km.
    pub length_km: f64,
    /// Vacuum light speed over the light's.
    pub group_index: f64,
    /// Loops in parallel.
    pub loops: u32,
    /// Gross rate of one loop.
    pub rate_bit_per_s: f64,
    /// Share of it for framing and error correction.
    pub overhead: f64,
    /// Dark time behind each piece.
    pub guard_s: f64,
    /// Share of bits that go wrong in each lap of the light.
    pub residual_ber: f64,
    /// Bytes of the model that pass each second, all loops together.
    pub net_rate_bytes_per_s: f64,
    /// One lap of the light.
    pub lap_s: f64,
    /// How often the pieces circulate, so that each comes by as often in a lap.
    pub copies: u32,
    /// From one pass of a piece to the next: `lap_s / copies`.
    pub turn_s: f64,
    /// What the loops hold of a model, once.
    pub capacity_bytes: u64,
    /// Bytes of the model on the loop, in pieces, each counted once.
    pub placed_bytes: u64,
    /// Streamed bytes of a lap for which there is no room, from the drive.
    pub left_out_bytes: u64,
    /// Bytes in flight, all copies, framing and error correction included: in the
    /// real machine they are in the glass.
    pub in_flight_bytes: u64,
    /// Reads that the bytes on the loop are cut into.
    pub pieces: u64,
    /// Pieces taken from the loop.
    pub pieces_taken: u64,
    /// Their bytes.
    pub bytes_taken: u64,
    /// Times a piece passed with nobody to take it, since it was first taken.
    pub passes_missed: u64,
    /// Reads of what is not on the loop, or not a whole piece of it (rows of
    /// tables, experts, what stays), from the medium behind.
    #[serde(skip)]
    pub reads_beside: u64,
    /// Their bytes.
    pub beside_bytes: u64,
    /// Bits that went wrong in flight, as far as they were looked at.
    pub wrong_bits: u64,
    /// Pieces that were wrong, found by their checksum and sent anew.
    pub pieces_scrubbed: u64,
    /// Times the light failed.
    pub cuts: u64,
    /// Bytes that were read from the medium behind because the loop was dark.
    pub dark_bytes: u64,
    /// Pieces that this host had not copied by the time at which they had
    /// passed: the loop is then slower than it would be.
    pub pieces_late: u64,
    /// Compute of a lap of the model for which the pieces were placed; 0 where
    /// nobody said.
    pub placed_for_compute_s: f64,
    /// What such a lap is predicted to take.
    pub predicted_lap_s: f64,
    /// And what it would with the pieces in plain order.
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

    /// Whether a part of what streams has no room in the loop.
    pub fn is_split(&self) -> bool {
        self.left_out_bytes > 0
    }
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
