//! Counters and events of a medium.

use std::fmt;

use super::{MediumError, Verb};

/// Counters of the operations of one verb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations completed, failed ones included.
    pub ops: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Sum of the times from submitting to reaping, in nanoseconds; 0 if not measured.
    pub latency_ns: u64,
    /// The longest of these times, in nanoseconds.
    pub longest_ns: u64,
}

/// What a medium has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads.
    pub reads: Tally,
    /// Writes.
    pub writes: Tally,
    /// Syncs.
    pub syncs: Tally,
    /// Time with at least one operation submitted and not reaped, in nanoseconds; 0 if
    /// not measured.
    pub busy_ns: u64,
}

impl Stats {
    /// The tally of a verb.
    pub fn of(&mut self, verb: Verb) -> &mut Tally {
        match verb {
            Verb::Read => &mut self.reads,
            Verb::Write => &mut self.writes,
            Verb::Sync => &mut self.syncs,
        }
    }

    /// Counts an operation that has completed.
    pub fn count(&mut self, verb: Verb, result: &Result<u32, MediumError>) {
        let tally = self.of(verb);
        tally.ops += 1;
        match result {
            Ok(bytes) => tally.bytes += u64::from(*bytes),
            Err(_) => tally.errors += 1,
        }
    }

    /// Counts an operation that took `latency_ns` nanoseconds.
    pub fn count_timed(&mut self, verb: Verb, result: &Result<u32, MediumError>, latency_ns: u64) {
        self.count(verb, result);
        let tally = self.of(verb);
        tally.latency_ns += latency_ns;
        tally.longest_ns = tally.longest_ns.max(latency_ns);
    }

    /// Bytes read and written per second of busy time; 0 if there is none.
    pub fn rate_bytes_per_s(&self) -> f64 {
        if self.busy_ns == 0 {
            0.0
        } else {
            (self.reads.bytes + self.writes.bytes) as f64 * 1e9 / self.busy_ns as f64
        }
    }
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClass {
    /// It works, but not in the best way.
    Fallback,
    /// It has lost bytes that it held, and continues without them.
    Lost {
        /// Bytes of the parts, each counted once.
        bytes: u64,
    },
    /// It has begun to restore what it lost.
    Recovering,
    /// All that it lost is restored.
    Recovered,
}

/// An event of a medium that a person should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediumEvent {
    /// Its kind.
    pub class: EventClass,
    /// A message for a person.
    pub message: String,
}

impl fmt::Display for MediumEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
