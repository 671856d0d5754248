//! Reads for rows scattered over a file, in one pass: each page once, and the gap
//! between two pages as well where that is cheaper than another read. Knows costs
//! and offsets, not why a row is wanted.

use crate::types::ALIGN;
use std::ops::Range;

/// The cost of a read when many are outstanding: a fixed time, and a time per byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadCost {
    /// Fixed seconds of a read.
    pub read_s: f64,
    /// Bytes per second.
    pub bytes_per_s: f64,
}

impl ReadCost {
    /// From a drive's rates with reads of two lengths: each a length in bytes and a
    /// rate in bytes per second.
    pub fn from_rates(short: (u64, f64), long: (u64, f64)) -> Self {
        let (short_s, long_s) = (short.0 as f64 / short.1, long.0 as f64 / long.1);
        let byte_s = ((long_s - short_s) / (long.0 - short.0) as f64).max(1e-13);
        Self {
            read_s: (short_s - short.0 as f64 * byte_s).max(0.0),
            bytes_per_s: 1.0 / byte_s,
        }
    }

    /// The longest gap between two reads, in bytes, that is cheaper to read than to
    /// skip. Reads are in order of offset, so deciding gap by gap minimizes the sum.
    pub fn gap(&self) -> u64 {
        (self.read_s * self.bytes_per_s) as u64
    }

    /// Seconds for `reads` reads of `bytes` bytes in all.
    pub fn seconds(&self, reads: u64, bytes: u64) -> f64 {
        reads as f64 * self.read_s + bytes as f64 / self.bytes_per_s
    }
}

/// The aligned reads that cover `wanted`, ranges of bytes in order of their starts.
/// Ranges at most `gap` bytes apart share a read. No read is longer than `longest`
/// bytes unless a single range is.
pub fn sweep(
    wanted: impl IntoIterator<Item = Range<u64>>,
    gap: u64,
    longest: u64,
) -> Vec<Range<u64>> {
    let mut reads: Vec<Range<u64>> = Vec::new();
    for bytes in wanted {
        let pages = bytes.start / ALIGN * ALIGN..bytes.end.next_multiple_of(ALIGN);
        match reads.last_mut() {
            Some(last) if pages.end <= last.end => {}
            Some(last)
                if pages.start <= last.end.saturating_add(gap)
                    && pages.end - last.start <= longest =>
            {
                last.end = pages.end;
            }
            _ => reads.push(pages),
        }
    }
    reads
}
