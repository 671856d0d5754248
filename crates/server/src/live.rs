//! The events of `GET /live`, from which the page draws the laps: their fields, units, and
//! when they are sent. Measures nothing.
//!
//! The stream is server-sent events named `machine`, `lap` and `progress`; the data is the
//! JSON of [`Machine`], [`LiveLap`] or [`LiveProgress`] on one line. Like the API, it needs
//! a key if the server has any; the page and its files do not. A comment (`:`) is sent at
//! least every 10 s as a sign of life. A slow listener misses events; since totals never
//! restart, it loses no figures.

mod lap;

use delayline_engine::watch::Stretch;
use serde::{Deserialize, Serialize};

pub use lap::stretches;

/// Number of parts, equal in bytes, into which [`Bins`] divides a lap.
pub const BINS: usize = 64;

/// What rarely changes: sent first to each listener, and to all after a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Delayline's version.
    pub version: String,
    /// When the server started, in milliseconds since 1970. If it changes, totals have
    /// restarted.
    pub started_unix_ms: u64,
    /// The model's name in the API.
    pub model: String,
    /// What the weights stream from, as part of a sentence: `flash`, `2 drives`,
    /// `the fiber loop`; or `memory`.
    pub medium: String,
    /// Whether llama.cpp has mapped the files itself, for comparison: then it is unknown what
    /// laps wait for.
    pub mapped: bool,
    /// The description of a medium other than flash and memory; of a fiber loop its
    /// `length_km`, `loops`, `lap_s` and `rate_bytes_per_s`.
    pub glass: Option<serde_json::Value>,
    /// The stretches of a decoding lap, in order; neighbours of one kind are joined, up to
    /// 1 % of the lap.
    pub stretches: Vec<Stretch>,
    /// Budget of the whole process, in bytes.
    pub budget_bytes: u64,
    /// Size of the window, in bytes; 0 if nothing is streamed.
    pub window_bytes: u64,
    /// Size of the resident weights, in bytes.
    pub resident_bytes: u64,
    /// Size of the KV cache, in bytes.
    pub kv_bytes: u64,
    /// Everything else of the budget that is in use, in bytes.
    pub buffer_bytes: u64,
    /// Device rate, in bytes per second: for a fiber loop its own rate, else as measured at
    /// the start.
    pub device_bytes_per_s: Option<f64>,
    /// Compute time of a lap of one token, in seconds.
    pub compute_s: Option<f64>,
    /// Number of sequences in a lap from which on computing takes longer than reading.
    pub limit_sequences: Option<f64>,
    /// Maximum number of sequences that share a lap.
    pub max_sequences: u32,
    /// Maximum number of requests in the queue.
    pub max_queued: u32,
    /// Maximum number of tokens of a sequence.
    pub context_tokens: u32,
    /// Number of compute threads.
    pub threads: u32,
}

/// The latest lap that has ended, sent at most ten times a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveLap {
    /// Seconds since the server started.
    pub at_s: f64,
    /// Its duration, in seconds.
    pub duration_s: f64,
    /// Time in which the compute waited, in seconds. The rest is compute.
    pub stall_s: f64,
    /// Bytes read for it.
    pub read_bytes: u64,
    /// Number of its sequences.
    pub sequences: u32,
    /// Number of its tokens, of prompts and answers.
    pub tokens: u32,
    /// Number of requests in the queue.
    pub queued: u32,
    /// Where in the lap the time was spent; `None` if unknown, as when llama.cpp holds the
    /// weights itself.
    pub bins: Option<Bins>,
    /// If experts have frames, a string for each layer with a digit for each expert: 0 for
    /// one that is not in memory, 1 for one that is, 2 for one that this lap found in memory
    /// and used, 3 for one that was read for it. Else empty.
    pub experts: Vec<String>,
    /// All laps since the server started, this one included.
    pub totals: Totals,
}

/// A lap divided into [`BINS`] parts of equal bytes. Each list has an entry for each part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// Compute time, in microseconds.
    pub compute_us: Vec<u32>,
    /// Time in which the compute waited for the part's extents, in microseconds.
    pub stall_us: Vec<u32>,
    /// Bytes that had arrived in the window and were not yet used when the part's compute
    /// began: how far the reads were ahead.
    pub arrived_bytes: Vec<u64>,
}

/// Counters that never restart, as in `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Number of laps.
    pub laps: u64,
    /// Time in laps, in seconds.
    pub lap_s: f64,
    /// Part of it in which the compute waited, in seconds.
    pub stall_s: f64,
    /// Bytes read from the medium for laps.
    pub read_bytes: u64,
    /// Number of prompt tokens computed.
    pub prompt_tokens: u64,
    /// Number of tokens generated.
    pub generated_tokens: u64,
    /// Number of prompt tokens found in the KV cache.
    pub kv_tokens: KvTokens,
    /// Lower bound of the time in laps, in seconds: of each lap the longer of its compute and
    /// its bytes at the device rate. 0 if that rate is unknown.
    pub limit_s: f64,
    /// Time of the laps' bytes at the device rate, in seconds; 0 if that rate is unknown.
    pub drive_busy_s: f64,
    /// Number of distinct experts used in each layer of each lap, if experts have frames.
    pub expert_uses: u64,
    /// Number of those that were in memory.
    pub expert_hits: u64,
    /// Bytes read because of guesses which experts a layer would choose.
    pub guess_read_bytes: u64,
    /// Number of those bytes that were not used.
    pub guess_wasted_bytes: u64,
}

/// Numbers of prompt tokens that need not be computed, by where they were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvTokens {
    /// In memory.
    pub memory: u64,
    /// On this machine's disk.
    pub flash: u64,
    /// In the store that several machines share.
    pub shared: u64,
}

/// The progress of the current lap: sent to each listener after [`Machine`], to all when laps
/// begin after a rest and when a rest begins, and about ten times a second within a lap that
/// is longer than that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveProgress {
    /// Seconds since the server started.
    pub at_s: f64,
    /// What the compute does.
    pub state: State,
    /// Position of the compute in the lap, in bytes.
    pub computed_bytes: u64,
    /// Bytes that have arrived in the window and are not yet used.
    pub arrived_bytes: u64,
    /// Bytes read from the medium since the lap began.
    pub read_bytes: u64,
    /// Seconds since the lap began.
    pub elapsed_s: f64,
    /// Time in which the compute waited since the lap began, in seconds.
    pub stall_s: f64,
    /// Number of sequences in the lap.
    pub sequences: u32,
    /// Number of requests in the queue.
    pub queued: u32,
    /// All laps that have ended since the server started.
    pub totals: Totals,
}

/// What the compute does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing: there are no sequences.
    #[default]
    Resting,
    /// It computes.
    Computing,
    /// It waits for the medium.
    Waiting,
}

#[cfg(test)]
mod tests {
    use delayline_engine::watch::StretchKind;

    use super::*;

    /// The names are those that the page's scripts read.
    #[test]
    fn the_json_is_what_the_page_reads() {
        let stretch = |bytes, kind| Stretch { bytes, kind };
        let machine = Machine {
            stretches: vec![
                stretch(4, StretchKind::Resident),
                stretch(5, StretchKind::Picked),
            ],
            ..Machine::default()
        };
        let json = serde_json::to_value(&machine).unwrap();
        assert_eq!(
            json["stretches"],
            serde_json::json!([{"bytes": 4, "kind": "resident"}, {"bytes": 5, "kind": "picked"}])
        );
        assert!(json["device_bytes_per_s"].is_null());
        let progress = serde_json::to_value(LiveProgress::default()).unwrap();
        assert_eq!(progress["state"], "resting");
        assert_eq!(progress["totals"]["laps"], 0);
        let found = serde_json::json!({"memory": 0, "flash": 0, "shared": 0});
        assert_eq!(progress["totals"]["kv_tokens"], found);
        for name in [
            "limit_s",
            "drive_busy_s",
            "expert_uses",
            "expert_hits",
            "guess_read_bytes",
            "guess_wasted_bytes",
        ] {
            assert!(progress["totals"][name].is_number(), "{name}");
        }
        let lap = serde_json::to_value(LiveLap::default()).unwrap();
        assert!(lap["bins"].is_null());
        assert_eq!(lap["totals"]["generated_tokens"], 0);
    }
}
