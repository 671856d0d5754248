//! Divides the memory between arriving reads, resident rows, checksums, and tables for
//! the batches ahead. Pure.

use crate::Error;
use delayline_medium::CHECK_BLOCK;
use delayline_plan::{ALIGN, Lookahead};

/// Number of chunks in the landing area. The reads into one chunk share a ticket.
pub(crate) const CHUNKS: u64 = 8;

/// Bytes of an announced row besides the tables of `Lookahead`: its index in the batch,
/// and its slot.
const ORDER_BYTES: u64 = 24;

/// Bytes for the thread's stack, the io_uring, and small items.
const FIXED: u64 = 256 << 10;

/// The parts of the memory, in bytes and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Bytes of a chunk; a multiple of `ALIGN`.
    pub chunk: u64,
    /// Bytes from the start of one slot to the next.
    pub stride: u64,
    /// Number of rows that fit.
    pub slots: u32,
    /// Bytes for batches ahead.
    pub ahead: u64,
    /// Whether uses are counted, in one byte for each row of the file.
    pub counted: bool,
    /// Whether bytes that are read again are compared with the first reading, by one hash
    /// for each block.
    pub checked: bool,
}

impl Shares {
    /// Divides `memory` bytes, for a file of `rows` rows of `row_len` bytes. `given` says
    /// that the expected uses are known, in one byte for each row.
    ///
    /// # Errors
    /// [`Error::Budget`] with the smallest memory that works.
    pub fn new(memory: u64, row_len: u64, rows: u64, given: bool) -> Result<Self, Error> {
        let divide = |memory| Self::divide(memory, row_len, rows, given);
        divide(memory).ok_or_else(|| {
            const STEP: u64 = 64 << 10;
            let (mut low, mut high) = (memory / STEP, memory / STEP + 1);
            while divide(high * STEP).is_none() {
                (low, high) = (high, 2 * high);
            }
            while high - low > 1 {
                let middle = low.midpoint(high);
                match divide(middle * STEP) {
                    Some(_) => high = middle,
                    None => low = middle,
                }
            }
            Error::Budget {
                memory,
                row_len,
                need: high * STEP,
            }
        })
    }

    /// `None` if fewer than the minimum of rows fit.
    fn divide(memory: u64, row_len: u64, rows: u64, given: bool) -> Option<Self> {
        const MIN_SLOTS: u64 = 64;
        // Whole pages are read, and a row may begin and end within one.
        let min_chunk = (row_len + 2 * ALIGN).next_multiple_of(ALIGN);
        let chunk = (memory / 16 / CHUNKS / ALIGN * ALIGN).clamp(64 << 10, 1 << 20);
        let chunk = chunk.max(min_chunk);
        let stride = row_len.next_multiple_of(8);
        let counted = !given && rows <= memory / 16;
        let uses = if given || counted { rows } else { 0 };
        let hashes = hash_bytes(row_len, rows);
        let checked = hashes <= memory / 16;
        let hashes = if checked { hashes } else { 0 };
        let ahead = memory / 4;
        let rest = memory.checked_sub(CHUNKS * chunk + FIXED + uses + hashes + ahead)?;
        // The size of the tables is not linear in the number of slots, so the maximum is
        // found by bisection.
        let fits = |slots: u64| slots * stride + tables(slots, ahead) <= rest;
        let max_slots = (rest / stride).min(rows).min(u64::from(u32::MAX - 1));
        let (mut low, mut high) = (0, max_slots + 1);
        while high - low > 1 {
            let middle = low.midpoint(high);
            match fits(middle) {
                true => low = middle,
                false => high = middle,
            }
        }
        (low >= MIN_SLOTS.min(rows)).then_some(Self {
            chunk,
            stride,
            slots: low as u32,
            ahead,
            counted,
            checked,
        })
    }

    /// Bytes of the landing area and all slots.
    pub fn len(&self) -> u64 {
        CHUNKS * self.chunk + u64::from(self.slots) * self.stride
    }

    /// The memory position of a slot.
    pub fn at(&self, slot: u32) -> u64 {
        CHUNKS * self.chunk + u64::from(slot) * self.stride
    }

    /// Number of announced rows that the tables have room for.
    pub fn ahead_rows(&self) -> u64 {
        self.ahead / (2 * row_ahead_bytes())
    }
}

/// Bytes that an announced row takes until its batch is taken.
pub(crate) const fn row_ahead_bytes() -> u64 {
    Lookahead::AHEAD_BYTES + ORDER_BYTES
}

/// Bytes of the hashes of all blocks of the rows; the first and the last block may be
/// partial.
fn hash_bytes(row_len: u64, rows: u64) -> u64 {
    8 * ((row_len.saturating_mul(rows)) / CHECK_BLOCK + 2)
}

/// Bytes of the tables of `Lookahead`.
fn tables(slots: u64, ahead: u64) -> u64 {
    Lookahead::table_bytes(slots, ahead / (2 * row_ahead_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_and_the_least_memory_is_named() {
        for row_len in [1, 100, 512, 4096, 100_000] {
            for rows in [1, 63, 10_000, 1 << 31] {
                for given in [false, true] {
                    let least = match Shares::new(0, row_len, rows, given) {
                        Err(Error::Budget { need, .. }) => need,
                        other => panic!("{other:?}"),
                    };
                    assert!(Shares::new(least - (64 << 10), row_len, rows, given).is_err());
                    for memory in [least, 2 * least, 10 * least + 12_345] {
                        let shares = Shares::new(memory, row_len, rows, given).unwrap();
                        let uses = if given || shares.counted { rows } else { 0 };
                        let tables = tables(u64::from(shares.slots), shares.ahead);
                        let hashes = if shares.checked {
                            hash_bytes(row_len, rows)
                        } else {
                            0
                        };
                        let sum = shares.len() + shares.ahead + tables + uses + hashes + FIXED;
                        assert!(sum <= memory, "{shares:?}");
                    }
                }
            }
        }
    }
}
