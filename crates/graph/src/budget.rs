//! How a memory is divided: reads that arrive, rows that stay, what they are held
//! against, and what is known of the batches ahead. Pure.

use crate::Error;
use delayline_medium::CHECK_BLOCK;
use delayline_plan::{ALIGN, Lookahead};

/// Chunks that reads arrive in, each with a ticket of its own.
pub(crate) const CHUNKS: u64 = 8;

/// Bytes of an announced row besides the tables of `Lookahead`: where it goes in the
/// batch, and its slot when it is there.
const ORDER_BYTES: u64 = 24;

/// The thread's stack, the ring, and what is too small to count.
const FIXED: u64 = 256 << 10;

/// The parts of a memory, in bytes and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Of each chunk; a multiple of `ALIGN`.
    pub chunk: u64,
    /// From one slot to the next, in bytes.
    pub stride: u64,
    /// Rows that fit.
    pub slots: u32,
    /// For batches ahead.
    pub ahead: u64,
    /// Whether uses are counted, a byte a row of the file.
    pub counted: bool,
    /// Whether bytes are held against those that came first, by a hash a block.
    pub checked: bool,
}

impl Shares {
    /// Of `memory` bytes, for a file of `rows` rows of `row_len`. `given` says that
    /// expected uses, a byte a row, are there already.
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

    /// `None` where fewer rows fit than it takes to go on.
    fn divide(memory: u64, row_len: u64, rows: u64, given: bool) -> Option<Self> {
        const LEAST: u64 = 64;
        // A row may begin and end within a page.
        let least_chunk = (row_len + 2 * ALIGN).next_multiple_of(ALIGN);
        let chunk = (memory / 16 / CHUNKS / ALIGN * ALIGN).clamp(64 << 10, 1 << 20);
        let chunk = chunk.max(least_chunk);
        let stride = row_len.next_multiple_of(8);
        let counted = !given && rows <= memory / 16;
        let uses = if given || counted { rows } else { 0 };
        let hashes = hash_bytes(row_len, rows);
        let checked = hashes <= memory / 16;
        let hashes = if checked { hashes } else { 0 };
        let ahead = memory / 4;
        let rest = memory.checked_sub(CHUNKS * chunk + FIXED + uses + hashes + ahead)?;
        // The table's size goes in powers of two: what fits is found by halving.
        let fits = |slots: u64| slots * stride + tables(slots, ahead) <= rest;
        let most = (rest / stride).min(rows).min(u64::from(u32::MAX - 1));
        let (mut low, mut high) = (0, most + 1);
        while high - low > 1 {
            let middle = low.midpoint(high);
            match fits(middle) {
                true => low = middle,
                false => high = middle,
            }
        }
        (low >= LEAST.min(rows)).then_some(Self {
            chunk,
            stride,
            slots: low as u32,
            ahead,
            counted,
            checked,
        })
    }

    /// Bytes of all that reads and rows take.
    pub fn len(&self) -> u64 {
        CHUNKS * self.chunk + u64::from(self.slots) * self.stride
    }

    /// Where a slot is.
    pub fn at(&self, slot: u32) -> u64 {
        CHUNKS * self.chunk + u64::from(slot) * self.stride
    }

    /// Rows that may be announced with room in the tables.
    pub fn ahead_rows(&self) -> u64 {
        self.ahead / (2 * row_ahead_bytes())
    }
}

/// Bytes that an announced row takes until its batch was handed out.
pub(crate) const fn row_ahead_bytes() -> u64 {
    Lookahead::AHEAD_BYTES + ORDER_BYTES
}

/// Bytes of hashes of all rows' blocks, of which the first and the last may be cut.
fn hash_bytes(row_len: u64, rows: u64) -> u64 {
    8 * ((row_len.saturating_mul(rows)) / CHECK_BLOCK + 2)
}

fn tables(slots: u64, ahead: u64) -> u64 {
    Lookahead::table_bytes(slots, ahead / (2 * row_ahead_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_and_what_is_asked_for_instead_is_the_least() {
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
