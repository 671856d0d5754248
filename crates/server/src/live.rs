//! The events of `GET /live`, from which the page draws the machine at work: what
//! they say, in which units, and when they are sent. Measures nothing.
//!
//! The stream is server-sent events: the event's name is that of the type here in
//! lower case, its data the type's JSON on one line. Like the API it wants the
//! key if the server has one; the page itself and its files are free. A comment
//! (`:`) at least every 10 s tells a listener that the server lives. A listener
//! who is slow misses events; since totals never restart, no figure is lost.

mod lap;

use delayline_engine::watch::Stretch;
use serde::{Deserialize, Serialize};

pub use lap::stretches;

/// How many equal parts of a lap, by bytes, [`Bins`] tell apart.
pub const BINS: usize = 64;

/// What is so for a long time: sent first to each listener, and again to all
/// when something of it changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Delayline's version.
    pub version: String,
    /// When the server started, in milliseconds since 1970: another figure means
    /// that totals began anew.
    pub started_unix_ms: u64,
    /// The model, by the name that the API knows it by.
    pub model: String,
    /// What the weights stream from, as a sentence would name it: `flash`,
    /// `2 drives`, `the fiber loop`; or `memory`.
    pub medium: String,
    /// Whether llama.cpp has mapped the files itself, for comparison: what its laps
    /// wait for nobody sees.
    pub mapped: bool,
    /// What a medium beside flash and memory tells of itself; a fiber loop its
    /// `length_km`, `loops`, `lap_s` and `rate_bytes_per_s`.
    pub glass: Option<serde_json::Value>,
    /// What a decoding lap passes over, in order; neighbours of one kind come as
    /// one stretch, up to 1 % of the lap.
    pub stretches: Vec<Stretch>,
    /// The budget: the whole process, in bytes.
    pub budget_bytes: u64,
    /// The window, in bytes; 0 if nothing is streamed.
    pub window_bytes: u64,
    /// Weights that stay, in bytes.
    pub resident_bytes: u64,
    /// KV cache, in bytes.
    pub kv_bytes: u64,
    /// Everything else of the budget that is in use, in bytes.
    pub buffer_bytes: u64,
    /// What the medium can do, in bytes per second: of a fiber loop what passes,
    /// of others as measured at the start.
    pub device_bytes_per_s: Option<f64>,
    /// The part of a lap that is compute, in seconds, if the lap carries one token.
    pub compute_s: Option<f64>,
    /// So many sequences a lap until compute, not the medium, is its longer part.
    pub limit_sequences: Option<f64>,
    /// Most sequences that ride one lap.
    pub max_sequences: u32,
    /// Most requests that wait.
    pub max_queued: u32,
    /// Tokens that one sequence may hold.
    pub context_tokens: u32,
    /// Compute threads.
    pub threads: u32,
}

/// A lap that has ended: sent at most ten times a second, for the latest one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveLap {
    /// Seconds since the server started.
    pub at_s: f64,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// In which the compute waited, in seconds. The rest is compute.
    pub stall_s: f64,
    /// What was read for it, in bytes.
    pub read_bytes: u64,
    /// Sequences that rode it.
    pub sequences: u32,
    /// Tokens that it carried, of prompts and answers.
    pub tokens: u32,
    /// Requests that wait to ride.
    pub queued: u32,
    /// Where in the lap the time went; `None` if nobody can know, as when
    /// llama.cpp holds the weights itself.
    pub bins: Option<Bins>,
    /// Where experts have frames, a string for each layer of them, with a digit for each
    /// expert: 0 for one that is not in memory, 1 for one that is, 2 for one that this
    /// lap found there and used, 3 for one that was read for it. Else nothing.
    pub experts: Vec<String>,
    /// All laps since the server started, this one included.
    pub totals: Totals,
}

/// A lap in [`BINS`] equal parts of the plan's bytes. Each list has an entry for
/// each part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// How long it was computed, in microseconds.
    pub compute_us: Vec<u32>,
    /// How long the compute waited before its extents, in microseconds.
    pub stall_us: Vec<u32>,
    /// How much of the window had arrived and was not yet used when its compute
    /// began, in bytes: how far the reads were ahead.
    pub arrived_bytes: Vec<u64>,
}

/// Counters that never restart; the same that `/metrics` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Laps.
    pub laps: u64,
    /// Time in laps, in seconds.
    pub lap_s: f64,
    /// The part of it in which the compute waited, in seconds.
    pub stall_s: f64,
    /// Bytes read from the medium for laps.
    pub read_bytes: u64,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub generated_tokens: u64,
    /// Tokens of prompts that were found.
    pub kv_tokens: KvTokens,
    /// The least that laps take, each by its compute and its bytes, in seconds; 0 where
    /// what the medium brings is unknown.
    pub limit_s: f64,
    /// What the bytes of laps take of the medium, in seconds; as above.
    pub drive_busy_s: f64,
    /// Distinct experts that layers of laps used, where experts have frames.
    pub expert_uses: u64,
    /// Those of them that were in memory.
    pub expert_hits: u64,
    /// Bytes read because of guesses which experts a layer would name.
    pub guess_read_bytes: u64,
    /// Those of them that nobody wanted.
    pub guess_wasted_bytes: u64,
}

/// Tokens of prompts that need not be computed, by where they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvTokens {
    /// In memory.
    pub memory: u64,
    /// On this machine's disk.
    pub flash: u64,
    /// In the store that several machines share.
    pub shared: u64,
}

/// How far the lap under way is: sent to each listener after [`Machine`], to all
/// when laps begin after a rest and when they end in one, and about ten times a
/// second within a lap longer than that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveProgress {
    /// Seconds since the server started.
    pub at_s: f64,
    /// What the compute does.
    pub state: State,
    /// How far in the plan the compute is, in bytes.
    pub computed_bytes: u64,
    /// How much of the window has arrived and is not yet used, in bytes.
    pub arrived_bytes: u64,
    /// Bytes read from the medium since the lap began.
    pub read_bytes: u64,
    /// Seconds since the lap began.
    pub elapsed_s: f64,
    /// In which the compute waited, in seconds.
    pub stall_s: f64,
    /// Sequences that ride it.
    pub sequences: u32,
    /// Requests that wait to ride.
    pub queued: u32,
    /// All laps that have ended since the server started.
    pub totals: Totals,
}

/// What the compute does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing: no sequence rides.
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

    /// What the page's script reads, by the names that it uses.
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
