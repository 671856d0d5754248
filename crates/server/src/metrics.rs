//! The figures of `/metrics`, in Prometheus' text form.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A counter of seconds.
type Seconds = Counter<f64, AtomicU64>;

/// A gauge with fractions.
type Level = Gauge<f64, AtomicU64>;

/// Answers by status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Status {
    /// The HTTP status.
    pub status: u16,
}

/// All figures; counters never restart.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Laps that ended well.
    pub laps: Counter,
    /// Laps that failed.
    pub failed_laps: Counter,
    /// Reads that brought wrong bytes.
    pub wrong_reads: Counter,
    /// Distinct experts that layers of laps used, those that were in memory, and bytes read
    /// for the others.
    pub expert_uses: Counter,
    pub expert_hits: Counter,
    pub expert_read_bytes: Counter,
    /// Bytes read because experts had been hot before.
    pub expert_warmed_bytes: Counter,
    /// Bytes read because of guesses, and those of them in vain.
    pub guess_read_bytes: Counter,
    /// See `guess_read_bytes`.
    pub guess_wasted_bytes: Counter,
    /// Blocks of the KV cache on disk: found, stored, given up for room, and those that were
    /// not what they should be; bytes read and written.
    pub kv_found: Counter,
    pub kv_stored: Counter,
    pub kv_evicted: Counter,
    pub kv_rejected: Counter,
    pub kv_read_bytes: Counter,
    pub kv_written_bytes: Counter,
    /// Time in laps.
    pub lap_s: Seconds,
    /// Time in which the compute waited for the medium.
    pub stall_s: Seconds,
    /// Time while sequences rode that was not a lap's: choosing tokens included.
    pub between_s: Seconds,
    /// What the medium brings, in bytes per second, as measured at the start; 0 where
    /// nothing is read or it is unknown.
    pub device_rate: Level,
    /// Bytes of laps over that rate; and the longer of it and of compute.
    pub drive_busy_s: Seconds,
    pub limit_s: Seconds,
    /// Bytes read from the medium.
    pub read_bytes: Counter,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: Counter,
    /// Tokens of prompts that were still there.
    pub cached_tokens: Counter,
    /// Tokens generated.
    pub generated_tokens: Counter,
    /// Requests that wait.
    pub queued: Gauge,
    /// Sequences that ride.
    pub riding: Gauge,
    /// Sequences that wait for a slow reader.
    pub held: Gauge,
    /// Sequences from which on compute is the longer part of a lap.
    pub limit_sequences: Level,
    /// Compute of a lap of one token.
    pub compute_s: Level,
    /// Whether the last laps went well.
    pub healthy: Gauge,
    /// How long laps take.
    pub lap_duration: Histogram,
    /// Sequences in a lap.
    pub batch: Histogram,
    /// From a request to its first token.
    pub first_token: Histogram,
    /// From one token of a sequence to the next.
    pub next_token: Histogram,
    /// From a request to its end.
    pub request: Histogram,
    /// How long requests wait for a place.
    pub waited: Histogram,
    /// Answers by status.
    pub answers: Family<Status, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = |from| Histogram::new(exponential_buckets(from, 2.0, 16));
        let mut this = Self {
            registry: Registry::with_prefix("delayline"),
            laps: Counter::default(),
            failed_laps: Counter::default(),
            wrong_reads: Counter::default(),
            expert_uses: Counter::default(),
            expert_hits: Counter::default(),
            expert_read_bytes: Counter::default(),
            expert_warmed_bytes: Counter::default(),
            guess_read_bytes: Counter::default(),
            guess_wasted_bytes: Counter::default(),
            kv_found: Counter::default(),
            kv_stored: Counter::default(),
            kv_evicted: Counter::default(),
            kv_rejected: Counter::default(),
            kv_read_bytes: Counter::default(),
            kv_written_bytes: Counter::default(),
            lap_s: Seconds::default(),
            stall_s: Seconds::default(),
            between_s: Seconds::default(),
            device_rate: Level::default(),
            drive_busy_s: Seconds::default(),
            limit_s: Seconds::default(),
            read_bytes: Counter::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            queued: Gauge::default(),
            riding: Gauge::default(),
            held: Gauge::default(),
            limit_sequences: Level::default(),
            compute_s: Level::default(),
            healthy: Gauge::default(),
            lap_duration: seconds(0.001),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            first_token: seconds(0.01),
            next_token: seconds(0.001),
            request: seconds(0.01),
            waited: seconds(0.001),
            answers: Family::default(),
        };
        this.register();
        this
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("laps", "Laps that ended well", self.laps.clone());
        r.register("failed_laps", "Laps that failed", self.failed_laps.clone());
        r.register(
            "wrong_reads",
            "Reads that brought other bytes than the seal or the first reading; each was tried again",
            self.wrong_reads.clone(),
        );
        for (name, help, counter) in [
            (
                "expert_uses",
                "Distinct experts that layers of laps used, where experts have frames",
                &self.expert_uses,
            ),
            (
                "expert_hits",
                "Those of them that were in memory",
                &self.expert_hits,
            ),
            (
                "expert_read_bytes",
                "Bytes read for experts that were not in memory",
                &self.expert_read_bytes,
            ),
            (
                "expert_warmed_bytes",
                "Bytes of experts read before they were asked for, because they had been hot before",
                &self.expert_warmed_bytes,
            ),
            (
                "guess_read_bytes",
                "Bytes read for experts because the next layer would probably name them",
                &self.guess_read_bytes,
            ),
            (
                "guess_wasted_bytes",
                "Bytes of those that it did not name",
                &self.guess_wasted_bytes,
            ),
            (
                "kv_found_blocks",
                "Blocks of the KV cache that were found on disk",
                &self.kv_found,
            ),
            (
                "kv_stored_blocks",
                "Blocks that were stored there",
                &self.kv_stored,
            ),
            (
                "kv_evicted_blocks",
                "Blocks that went to make room",
                &self.kv_evicted,
            ),
            (
                "kv_rejected_blocks",
                "Files that were no blocks of this model, torn or changed",
                &self.kv_rejected,
            ),
            (
                "kv_read_bytes",
                "Bytes of blocks that were read",
                &self.kv_read_bytes,
            ),
            (
                "kv_written_bytes",
                "Bytes of blocks that were written",
                &self.kv_written_bytes,
            ),
        ] {
            r.register(name, help, counter.clone());
        }
        r.register("lap_seconds", "Time in laps", self.lap_s.clone());
        r.register(
            "stall_seconds",
            "Time in which the compute waited for the medium",
            self.stall_s.clone(),
        );
        r.register(
            "between_seconds",
            "Time while sequences rode that was no lap: choosing tokens and handing them out",
            self.between_s.clone(),
        );
        r.register(
            "device_bytes_per_second",
            "What the medium brings, as measured at the start; 0 where nothing is read or nobody knows",
            self.device_rate.clone(),
        );
        r.register(
            "drive_busy_seconds",
            "Time that the bytes of laps take at that rate: what is missing to the time in laps, the drive rests",
            self.drive_busy_s.clone(),
        );
        r.register(
            "limit_seconds",
            "The least that laps take: of each the longer of its compute and its bytes at that rate",
            self.limit_s.clone(),
        );
        r.register(
            "read_bytes",
            "Bytes read from the medium",
            self.read_bytes.clone(),
        );
        r.register(
            "prompt_tokens",
            "Tokens of prompts that were computed",
            self.prompt_tokens.clone(),
        );
        r.register(
            "cached_tokens",
            "Tokens of prompts that were still in the KV cache",
            self.cached_tokens.clone(),
        );
        r.register(
            "generated_tokens",
            "Tokens that were generated",
            self.generated_tokens.clone(),
        );
        r.register(
            "queued",
            "Requests that wait for a place",
            self.queued.clone(),
        );
        r.register("riding", "Sequences that ride", self.riding.clone());
        r.register(
            "held",
            "Sequences that wait for a slow reader",
            self.held.clone(),
        );
        r.register(
            "limit_sequences",
            "Sequences from which on compute is the longer part of a lap",
            self.limit_sequences.clone(),
        );
        r.register(
            "compute_seconds",
            "Compute of a lap of one token",
            self.compute_s.clone(),
        );
        r.register(
            "healthy",
            "1 if the last laps went well",
            self.healthy.clone(),
        );
        let s = |r: &mut Registry, name: &str, help: &str, h: &Histogram| {
            r.register_with_unit(name, help, Unit::Seconds, h.clone());
        };
        s(r, "lap_duration", "How long laps take", &self.lap_duration);
        s(
            r,
            "first_token",
            "From a request to its first token",
            &self.first_token,
        );
        s(
            r,
            "next_token",
            "From one token of a sequence to the next",
            &self.next_token,
        );
        s(
            r,
            "request_duration",
            "From a request to its end",
            &self.request,
        );
        s(
            r,
            "waited",
            "How long requests waited for a place",
            &self.waited,
        );
        r.register("batch_sequences", "Sequences in a lap", self.batch.clone());
        r.register("answers", "Answers by status", self.answers.clone());
    }

    /// All of them as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a text cannot fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_by_name() {
        let metrics = Metrics::default();
        metrics.laps.inc();
        metrics.stall_s.inc_by(0.5);
        metrics.first_token.observe(0.2);
        metrics.answers.get_or_create(&Status { status: 429 }).inc();
        let text = metrics.text();
        for line in [
            "delayline_laps_total 1",
            "delayline_stall_seconds_total 0.5",
            "delayline_first_token_seconds_count 1",
            "delayline_answers_total{status=\"429\"} 1",
            "delayline_queued 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
