//! When each piece of the model passes the tap. It knows the lap and the place of each
//! piece on it, not the bytes or who waits for them.

use crate::spec::LoopSpec;
use delayline_plan::Extent;
use std::collections::HashMap;

/// An extent and where it lies on the loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlacedExtent {
    /// Which bytes of the model.
    pub extent: Extent,
    /// When its first byte passes the tap in each turn, in seconds since the turn's
    /// start. A turn is a lap divided by the number of copies. With guard times, one
    /// follows each read.
    pub phase_s: f64,
}

/// What one read takes from the loop: consecutive bytes of one extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub part: u16,
    pub offset: u64,
    /// What is read; may reach past the file's end.
    pub len: u32,
    /// What the file has of it.
    pub bytes: u32,
    /// When its first bit passes, in nanoseconds since the turn's start.
    pub start_ns: u64,
    /// From the first bit to the last, in nanoseconds.
    pub takes_ns: u64,
}

/// All pieces, and the turn in which they pass.
pub(crate) struct Orbit {
    /// From one pass of a piece to the next, of whichever copy, in nanoseconds.
    turn_ns: u64,
    pub pieces: Vec<Piece>,
    by_place: HashMap<(u16, u64, u32), u32>,
}

/// The number of pieces that extents are cut into, in reads of at most `read_len` bytes.
pub fn pieces(extents: impl IntoIterator<Item = Extent>, read_len: u32) -> u64 {
    let each = extents.into_iter();
    each.map(|extent| extent.len.div_ceil(u64::from(read_len)))
        .sum()
}

impl Orbit {
    pub fn new(spec: &LoopSpec, placed: &[PlacedExtent], read_len: u32, part_lens: &[u64]) -> Self {
        let turn_ns = ((spec.turn_s() * 1e9).round() as u64).max(1);
        let rate = spec.net_bytes_per_s();
        let mut orbit = Self {
            turn_ns,
            pieces: Vec::new(),
            by_place: HashMap::new(),
        };
        for one in placed {
            let Extent { part, offset, len } = one.extent;
            let mut start_s = one.phase_s;
            for from in (0..len).step_by(read_len as usize) {
                let (offset, len) = (offset + from, (len - from).min(u64::from(read_len)));
                let end = part_lens[usize::from(part)];
                let takes_s = len as f64 / rate;
                let piece = Piece {
                    part,
                    offset,
                    len: len as u32,
                    bytes: end.saturating_sub(offset).min(len) as u32,
                    start_ns: (start_s * 1e9).round() as u64 % turn_ns,
                    takes_ns: (takes_s * 1e9).round() as u64,
                };
                start_s += takes_s + spec.guard_s;
                let key = (part, offset, piece.len);
                orbit.by_place.insert(key, orbit.pieces.len() as u32);
                orbit.pieces.push(piece);
            }
        }
        orbit
    }

    /// The piece that is exactly these bytes.
    pub fn find(&self, part: u16, offset: u64, len: u32) -> Option<u32> {
        self.by_place.get(&(part, offset, len)).copied()
    }

    /// The number of the first pass of the piece that begins at `from_ns` (since
    /// the first turn's start) or later.
    pub fn next_pass(&self, piece: u32, from_ns: u64) -> u64 {
        let start_ns = self.pieces[piece as usize].start_ns;
        from_ns.saturating_sub(start_ns).div_ceil(self.turn_ns)
    }

    /// When all of the piece has passed in that pass, in nanoseconds since the first turn's
    /// start.
    pub fn passed_ns(&self, piece: u32, pass: u64) -> u64 {
        let piece = &self.pieces[piece as usize];
        piece.start_ns + pass * self.turn_ns + piece.takes_ns
    }
}
