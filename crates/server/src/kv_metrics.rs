//! The metrics of the KV cache: where the tokens of prompts were found, and what happened to
//! blocks on disk and in a shared store.

use delayline_llama::KvTierStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::live::KvTokens;
use crate::metrics::Seconds;

/// Where tokens were found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tier {
    tier: &'static str,
}

/// Why a block was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A counter's name, its help text and its value.
type Figure = (&'static str, &'static str, fn(&KvTierStats) -> u64);

/// The counters that the tier keeps itself.
const FIGURES: [Figure; 12] = [
    (
        "kv_found_blocks",
        "Blocks of the KV cache that were found on disk",
        |stats| stats.store.hits,
    ),
    (
        "kv_stored_blocks",
        "Blocks that were stored on disk",
        |stats| stats.store.written,
    ),
    (
        "kv_deferred_blocks",
        "Blocks that were not stored because --kv-write-per-day was used up",
        |stats| stats.store.deferred,
    ),
    (
        "kv_evicted_blocks",
        "Blocks evicted from disk to make room",
        |stats| stats.store.evicted,
    ),
    (
        "kv_evicted_unused_seconds",
        "Sum of the times from the last use of each evicted block to its eviction",
        |stats| stats.store.evicted_unused_s,
    ),
    ("kv_read_bytes", "Bytes of blocks read from disk", |stats| {
        stats.store.read_bytes
    }),
    (
        "kv_written_bytes",
        "Bytes of blocks written to disk",
        |stats| stats.store.written_bytes,
    ),
    (
        "kv_failed",
        "Reads, writes and removals of blocks on disk that failed",
        |stats| stats.store.failed,
    ),
    (
        "kv_shared_found_blocks",
        "Blocks that came from the shared store",
        |stats| stats.store.fetched,
    ),
    (
        "kv_shared_read_bytes",
        "Bytes that came from the shared store",
        |stats| stats.store.fetched_bytes,
    ),
    (
        "kv_shared_written_bytes",
        "Bytes of blocks that were sent to the shared store",
        |stats| stats.store.shared_bytes,
    ),
    (
        "kv_shared_failed",
        "Requests that the shared store did not answer in time, or answered with an error",
        |stats| stats.store.shared_failed,
    ),
];

/// The metrics of the KV cache.
#[derive(Debug, Default)]
pub struct KvMetrics {
    hit_tokens: Family<Tier, Counter>,
    rejected: Family<Reason, Counter>,
    figures: [Counter; FIGURES.len()],
    restore_s: Seconds,
    saved_s: Seconds,
    written_today: Gauge,
}

/// Raises a counter to `now`.
fn raise(counter: &Counter, now: u64) {
    counter.inc_by(now.saturating_sub(counter.get()));
}

impl KvMetrics {
    pub fn register(&self, r: &mut Registry) {
        for ((name, help, _), counter) in FIGURES.iter().zip(&self.figures) {
            r.register(*name, *help, counter.clone());
        }
        r.register(
            "kv_hit_tokens",
            "Tokens of prompts that were found in memory, on this machine's disk (flash), or in \
             the shared store",
            self.hit_tokens.clone(),
        );
        r.register(
            "kv_rejected_blocks",
            "Files that were damaged, whole blocks under another block's name (misplaced), and \
             objects of the shared store whose seal was wrong (unsealed)",
            self.rejected.clone(),
        );
        r.register(
            "kv_restore_seconds",
            "Time spent on looking for blocks and restoring them to memory",
            self.restore_s.clone(),
        );
        r.register(
            "kv_saved_seconds",
            "Time that computing the found tokens would have taken, in laps of their own",
            self.saved_s.clone(),
        );
        r.register(
            "kv_written_today_bytes",
            "Bytes written to the KV cache on disk today (UTC)",
            self.written_today.clone(),
        );
        self.raise_tiers(&KvTokens::default());
    }

    /// Counts what a request need not compute: `in_memory` tokens that were found in memory,
    /// and the time `saved_s` of all that were found.
    pub fn spared(&self, in_memory: u64, saved_s: f64) {
        let memory = Tier { tier: "memory" };
        self.hit_tokens.get_or_create(&memory).inc_by(in_memory);
        self.saved_s.inc_by(saved_s);
    }

    /// Updates the counters to what the tier has done so far.
    pub fn update(&self, stats: &KvTierStats) {
        for ((_, _, figure), counter) in FIGURES.iter().zip(&self.figures) {
            raise(counter, figure(stats));
        }
        self.raise_tiers(&KvTokens {
            memory: 0,
            flash: stats.flash_tokens,
            shared: stats.shared_tokens,
        });
        let store = &stats.store;
        for (reason, blocks) in [
            ("damaged", store.rejected - store.misplaced),
            ("misplaced", store.misplaced),
            ("unsealed", store.shared_rejected),
        ] {
            raise(&self.rejected.get_or_create(&Reason { reason }), blocks);
        }
        let more_s = stats.restore_s - self.restore_s.get();
        self.restore_s.inc_by(more_s.max(0.0));
        self.written_today.set(stats.written_today as i64);
    }

    fn raise_tiers(&self, tokens: &KvTokens) {
        for (tier, tokens) in [
            ("memory", tokens.memory),
            ("flash", tokens.flash),
            ("shared", tokens.shared),
        ] {
            raise(&self.hit_tokens.get_or_create(&Tier { tier }), tokens);
        }
    }

    /// Tokens found so far, for the live picture.
    pub fn tokens(&self) -> KvTokens {
        let of = |tier| self.hit_tokens.get_or_create(&Tier { tier }).get();
        KvTokens {
            memory: of("memory"),
            flash: of("flash"),
            shared: of("shared"),
        }
    }
}
