//! Bytes read and written, and the time that a drive takes for them, from its three
//! rates. Does not know when anything is read or written.

use std::ops::{Add, AddAssign};

/// Bytes that move between memory and the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// From the medium, in bytes.
    pub read: u64,
    /// To the medium, in bytes.
    pub written: u64,
}

impl Transfer {
    /// Both directions together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.read + self.written
    }

    /// What is left when `bytes` have been moved in each direction.
    pub fn beyond(&self, bytes: u64) -> Self {
        Self {
            read: self.read.saturating_sub(bytes),
            written: self.written.saturating_sub(bytes),
        }
    }
}

impl Add for Transfer {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            written: self.written + other.written,
        }
    }
}

impl AddAssign for Transfer {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What a drive can do, in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriveRates {
    /// While it only reads.
    pub read: f64,
    /// While it only writes.
    pub write: f64,
    /// While it moves equally many bytes in both directions at once: their sum.
    pub mixed: f64,
}

impl DriveRates {
    /// A drive that is never asked to write, or writes as fast as it reads.
    pub fn reading(rate_bytes_per_s: f64) -> Self {
        Self {
            read: rate_bytes_per_s,
            write: rate_bytes_per_s,
            mixed: rate_bytes_per_s,
        }
    }

    /// Seconds for `transfer` if reads and writes overlap as long as there are both:
    /// pairs of bytes at the mixed rate, the rest at the rate of its direction.
    pub fn mixing_s(&self, transfer: Transfer) -> f64 {
        let pairs = transfer.read.min(transfer.written);
        let rest = transfer.beyond(pairs);
        time_s(2 * pairs, self.mixed) + self.in_turns_s(rest)
    }

    /// Seconds for `transfer` if the drive never does both at once.
    pub fn in_turns_s(&self, transfer: Transfer) -> f64 {
        time_s(transfer.read, self.read) + time_s(transfer.written, self.write)
    }

    /// The least time for `transfer` in seconds, whatever the order of reads and
    /// writes. Any schedule divides its time between reading, writing and both;
    /// the shortest such division is one of the two above, as the linear program
    /// of three times and two sums has its optimum where one of the times is zero.
    pub fn least_s(&self, transfer: Transfer) -> f64 {
        self.mixing_s(transfer).min(self.in_turns_s(transfer))
    }
}

/// No bytes take no time, whatever the rate.
fn time_s(bytes: u64, rate_bytes_per_s: f64) -> f64 {
    match bytes {
        0 => 0.0,
        _ => bytes as f64 / rate_bytes_per_s,
    }
}
