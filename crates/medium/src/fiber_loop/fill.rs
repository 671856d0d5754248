//! Filling a loop from the medium behind it, before anything is read. It does
//! not know when a piece that was sent comes by.

use super::orbit::Piece;
use super::{DARK, FiberLoop, Light};
use crate::Pace;
use delayline_line::{Medium, Read, ReadError, Slot};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// How often a read of the medium behind is tried while the loop is filled.
const ATTEMPTS: u32 = 4;

impl<M: Medium, C: Pace> FiberLoop<M, C> {
    /// Sends every dark piece into the loop, through the bytes `scratch` of the
    /// memory, which must hold the longest piece and be nobody's meanwhile.
    /// `progress` is told bytes done and bytes in all. The time of a cut counts
    /// from the end of this.
    ///
    /// # Errors
    /// When a piece cannot be read from the medium behind, tried several times.
    ///
    /// # Panics
    /// When reads are under way, or `scratch` is too small.
    pub fn fill(
        &mut self,
        scratch: Range<u64>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), ReadError> {
        assert!(
            self.under_way() == 0,
            "the loop is filled before it is read"
        );
        let dark = |light: &Light| light.from_lap == DARK;
        let mut left: VecDeque<(u32, u32)> = (0..self.light.len() as u32)
            .filter(|&piece| dark(&self.light[piece as usize]))
            .map(|piece| (piece, 0))
            .collect();
        let len_of = |piece: &Piece| u64::from(piece.len);
        let longest = self.orbit.pieces.iter().map(len_of).max().unwrap_or(1);
        let slots = (scratch.end - scratch.start) / longest;
        assert!(
            slots > 0 || left.is_empty(),
            "no room for a piece of {longest} bytes"
        );
        let mut free: Vec<u64> = (0..slots.min(self.behind.depth() as u64))
            .map(|slot| scratch.start + slot * longest)
            .collect();
        let total = left
            .iter()
            .map(|&(p, _)| len_of(&self.orbit.pieces[p as usize]))
            .sum();
        let (mut done, mut tries) = (0, HashMap::new());
        let mut came = Vec::new();
        while !left.is_empty() || !tries.is_empty() {
            while !left.is_empty()
                && let Some(at) = free.pop()
            {
                let (number, attempts) = left.pop_front().expect("seen above");
                let piece = self.orbit.pieces[number as usize];
                tries.insert(u64::from(number), attempts + 1);
                self.behind.submit(Read {
                    id: number.into(),
                    part: piece.part,
                    offset: piece.offset,
                    slot: Slot::claim(at, piece.len),
                });
            }
            self.behind.poll(true, &mut came);
            for completion in came.drain(..) {
                let attempts = tries.remove(&completion.id).expect("a read of the filling");
                let number = completion.id as u32;
                let piece = self.orbit.pieces[number as usize];
                free.push(completion.slot.at());
                match completion.result {
                    Ok(bytes) if bytes == piece.bytes => {
                        self.send(number, completion.slot.at());
                        done += len_of(&piece);
                        progress(done, total);
                    }
                    _ if attempts < ATTEMPTS => left.push_back((number, attempts)),
                    Ok(bytes) => return Err(short(&piece, bytes)),
                    Err(error) => return Err(error),
                }
            }
        }
        self.expect_cut();
        Ok(())
    }
}

fn short(piece: &Piece, bytes: u32) -> ReadError {
    ReadError::Os {
        source_name: format!("part {}", piece.part),
        offset: piece.offset,
        len: piece.len,
        message: format!("it ends after {bytes} bytes"),
    }
}
