//! The record that a commit writes: the length of each extent, which of its copies counts
//! and the checksum, and the caller's data. There are places for two records; the newest
//! complete one counts. Does no I/O.

use crate::Error;
use delayline_plan::ALIGN;
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8; 8] = b"DLTRAIN2";

/// Bytes of the head: magic, flags, number, room, number of extents, number of waiting
/// extents, and length of the payload.
const HEAD: usize = 8 + 6 * 8;

/// The `copy` of an empty extent.
pub(crate) const NONE: u8 = 2;

/// Bytes of an extent: length, checksum, and which copy.
const ROW: usize = 17;

/// Bytes of the checksum at the end.
const TAIL: usize = 16;

/// Maximum number of extents, so that nothing is allocated for a damaged record.
const EXTENTS_MAX: u64 = 1 << 24;

/// An extent in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Length in bytes, without padding.
    pub len: u64,
    /// Which copy counts, 0 or 1; [`NONE`] if the extent is empty.
    pub copy: u8,
    /// Checksum of the bytes with their padding.
    pub sum: u64,
}

/// A commit record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The number of the commit, from 1. Consecutive records alternate between the places.
    pub number: u64,
    /// Bytes of each of the two places.
    pub room: u64,
    /// Whether extents have two copies.
    pub twin: bool,
    /// Whether the extents, which have one copy, may have changed since.
    pub within_step: bool,
    /// All extents; those that wait are last.
    pub rows: Vec<Row>,
    /// Number of extents that wait; only these may be empty.
    pub waiting: u64,
    /// The caller's data.
    pub payload: Vec<u8>,
}

impl Record {
    /// Bytes of a record with so many extents and bytes of payload.
    pub fn len(extents: usize, payload: usize) -> u64 {
        ((HEAD + extents * ROW + payload + TAIL) as u64).next_multiple_of(ALIGN)
    }

    /// The record as it is written, padded to whole pages.
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = Self::len(self.rows.len(), self.payload.len()) as usize;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(MAGIC);
        let flags = u64::from(self.twin) | u64::from(self.within_step) << 1;
        let (extents, payload) = (self.rows.len() as u64, self.payload.len() as u64);
        for figure in [
            flags,
            self.number,
            self.room,
            extents,
            self.waiting,
            payload,
        ] {
            bytes.extend_from_slice(&figure.to_le_bytes());
        }
        for row in &self.rows {
            bytes.extend_from_slice(&row.len.to_le_bytes());
            bytes.extend_from_slice(&row.sum.to_le_bytes());
            bytes.push(row.copy);
        }
        bytes.extend_from_slice(&self.payload);
        let sum = xxh3_128(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.resize(len, 0);
        bytes
    }

    /// The record at the start of `bytes`; `None` if there is none or it is damaged.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        let figure = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let (flags, number, room) = (figure(8)?, figure(16)?, figure(24)?);
        let (extents, waiting, payload) = (figure(32)?, figure(40)?, figure(48)?);
        if extents > EXTENTS_MAX || waiting > extents || payload > bytes.len() as u64 {
            return None;
        }
        let (extents, payload) = (extents as usize, payload as usize);
        let end = HEAD + extents * ROW + payload;
        let sum = bytes.get(end..end + TAIL)?;
        if xxh3_128(&bytes[..end]).to_le_bytes() != sum {
            return None;
        }
        let row = |index: usize| {
            let at = HEAD + index * ROW;
            Some(Row {
                len: figure(at)?,
                sum: figure(at + 8)?,
                copy: bytes[at + 16],
            })
        };
        Some(Self {
            number,
            room,
            twin: flags & 1 != 0,
            within_step: flags & 2 != 0,
            rows: (0..extents).map(row).collect::<Option<_>>()?,
            waiting,
            payload: bytes[HEAD + extents * ROW..end].to_vec(),
        })
    }

    /// The newest complete record of a part with two places.
    ///
    /// # Errors
    /// [`Error::NoRecord`]; [`Error::Torn`] if it is of a store with one copy that has
    /// changed since.
    pub fn newest(part: &[u8]) -> Result<Self, Error> {
        let half = part.len() / 2;
        let places = [&part[..half], &part[half..]];
        let found = places.into_iter().filter_map(Self::parse);
        let whole = found.filter(|record| record.room == half as u64);
        let newest = whole.max_by_key(|record| record.number);
        let Some(record) = newest else {
            let what = format!(
                "neither of the two places of {half} bytes has one; this is not a store, or it ended before its first commit"
            );
            return Err(Error::NoRecord { what });
        };
        let state = record.rows.len() - record.waiting as usize;
        let bad = |(index, row): (usize, &Row)| {
            let is_copy = row.copy <= u8::from(record.twin) || row.copy == NONE && index >= state;
            !is_copy || row.len > 1 << 48
        };
        if record.rows.iter().enumerate().any(bad) {
            let what = "it names a copy that cannot exist".into();
            return Err(Error::NoRecord { what });
        }
        if record.within_step {
            return Err(Error::Torn);
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_medium::Rng;

    fn record(number: u64) -> Record {
        Record {
            number,
            room: 8192,
            twin: true,
            within_step: false,
            rows: (0..5)
                .map(|copy| Row {
                    len: 100 * copy,
                    copy: if copy == 4 { NONE } else { copy as u8 % 2 },
                    sum: number << 40 | copy,
                })
                .collect(),
            waiting: 1,
            payload: vec![number as u8; 33],
        }
    }

    fn part(first: &Record, second: &Record) -> Vec<u8> {
        let mut bytes = first.to_bytes();
        bytes.resize(8192, 0);
        bytes.extend(second.to_bytes());
        bytes.resize(2 * 8192, 0);
        bytes
    }

    #[test]
    fn the_newest_counts_and_a_damaged_one_does_not() {
        let (a, b) = (record(7), record(8));
        for (first, second) in [(&a, &b), (&b, &a)] {
            assert_eq!(Record::newest(&part(first, second)).unwrap(), b);
        }
        let whole = part(&a, &b);
        let end = HEAD + 5 * ROW + 33 + TAIL;
        for at in 0..end {
            let mut damaged = whole.clone();
            damaged[8192 + at] ^= 4;
            assert_eq!(Record::newest(&damaged).unwrap(), a, "byte {at}");
            damaged[at] ^= 4;
            let none = Record::newest(&damaged);
            assert!(matches!(none, Err(Error::NoRecord { .. })), "byte {at}");
        }
    }

    #[test]
    fn random_bytes_are_not_a_record() {
        let mut rng = Rng::new(delayline_testing::seed());
        for _ in 0..2000 {
            let mut bytes: Vec<u8> = (0..rng.below(600)).map(|_| rng.below(256) as u8).collect();
            if bytes.len() > 48 && rng.below(2) == 0 {
                bytes[..8].copy_from_slice(MAGIC);
                bytes[32..40].copy_from_slice(&rng.below(u64::MAX).to_le_bytes());
            }
            assert!(Record::newest(&bytes).is_err());
        }
    }

    #[test]
    fn a_single_copy_within_a_step_is_an_error() {
        let torn = Record {
            within_step: true,
            ..record(9)
        };
        let newest = Record::newest(&part(&record(8), &torn));
        assert!(matches!(newest, Err(Error::Torn)));
    }
}
