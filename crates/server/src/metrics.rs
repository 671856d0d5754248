//! The figures of `/metrics`, in the OpenMetrics text format.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::kv_metrics::KvMetrics;

/// A counter of seconds.
pub type Seconds = Counter<f64, AtomicU64>;

/// A gauge of fractional numbers.
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
    /// Laps that succeeded.
    pub laps: Counter,
    /// Laps that failed.
    pub failed_laps: Counter,
    /// Reads that returned wrong bytes.
    pub wrong_reads: Counter,
    /// Distinct experts used in each layer of each lap.
    pub expert_uses: Counter,
    /// Those of them that were in memory.
    pub expert_hits: Counter,
    /// Bytes read for the others.
    pub expert_read_bytes: Counter,
    /// Bytes read in advance for experts of the list of hot ones.
    pub expert_warmed_bytes: Counter,
    /// Bytes read because of guesses which experts come next.
    pub guess_read_bytes: Counter,
    /// Those of them that were not used.
    pub guess_wasted_bytes: Counter,
    /// The figures of the KV cache.
    pub kv: KvMetrics,
    /// Time in laps.
    pub lap_s: Seconds,
    /// Time in which the compute waited for the medium.
    pub stall_s: Seconds,
    /// Time between laps while there are sequences, sampling included.
    pub between_s: Seconds,
    /// Device rate as measured at the start, in bytes per second; 0 if nothing is read or it
    /// is unknown.
    pub device_rate: Level,
    /// Time of the laps' bytes at that rate.
    pub drive_busy_s: Seconds,
    /// Of each lap the longer of that time and of its compute.
    pub limit_s: Seconds,
    /// Bytes read from the medium.
    pub read_bytes: Counter,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: Counter,
    /// Tokens of prompts that were found in the KV cache.
    pub cached_tokens: Counter,
    /// Tokens generated.
    pub generated_tokens: Counter,
    /// Requests in the queue.
    pub queued: Gauge,
    /// Sequences that have a slot.
    pub riding: Gauge,
    /// Sequences that wait for a slow client.
    pub held: Gauge,
    /// Number of sequences from which on compute is the longer part of a lap.
    pub limit_sequences: Level,
    /// Compute time of a lap of one token, in seconds.
    pub compute_s: Level,
    /// Whether laps succeed.
    pub healthy: Gauge,
    /// Duration of laps.
    pub lap_duration: Histogram,
    /// Sequences in a lap.
    pub batch: Histogram,
    /// Time from a request to its first token.
    pub first_token: Histogram,
    /// Time from one token of a sequence to the next.
    pub next_token: Histogram,
    /// Time from a request to its end.
    pub request: Histogram,
    /// Time of requests in the queue.
    pub waited: Histogram,
    /// Responses by status.
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
            kv: KvMetrics::default(),
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
        r.register("laps", "Laps that succeeded", self.laps.clone());
        r.register("failed_laps", "Laps that failed", self.failed_laps.clone());
        r.register(
            "wrong_reads",
            "Reads whose bytes differed from the seal or the first reading; each was repeated",
            self.wrong_reads.clone(),
        );
        for (name, help, counter) in [
            (
                "expert_uses",
                "Distinct experts used in each layer of each lap, if experts have frames",
                &self.expert_uses,
            ),
            (
                "expert_hits",
                "Used experts that were in memory",
                &self.expert_hits,
            ),
            (
                "expert_read_bytes",
                "Bytes read for experts that were not in memory",
                &self.expert_read_bytes,
            ),
            (
                "expert_warmed_bytes",
                "Bytes of experts read in advance because they were used often before",
                &self.expert_warmed_bytes,
            ),
            (
                "guess_read_bytes",
                "Bytes read for experts because the next layer would probably use them",
                &self.guess_read_bytes,
            ),
            (
                "guess_wasted_bytes",
                "Bytes of guessed experts that were not used",
                &self.guess_wasted_bytes,
            ),
        ] {
            r.register(name, help, counter.clone());
        }
        self.kv.register(r);
        r.register("lap_seconds", "Time in laps", self.lap_s.clone());
        r.register(
            "stall_seconds",
            "Time in which the compute waited for the medium",
            self.stall_s.clone(),
        );
        r.register(
            "between_seconds",
            "Time between laps while there were sequences: sampling and sending tokens",
            self.between_s.clone(),
        );
        r.register(
            "device_bytes_per_second",
            "Rate of the medium as measured at the start; 0 if nothing is read or it is unknown",
            self.device_rate.clone(),
        );
        r.register(
            "drive_busy_seconds",
            "Time that the bytes of laps take at that rate; for the rest of the time in laps the drive is idle",
            self.drive_busy_s.clone(),
        );
        r.register(
            "limit_seconds",
            "Lower bound of the time in laps: of each the longer of its compute and its bytes at that rate",
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
            "Tokens of prompts that were found in the KV cache",
            self.cached_tokens.clone(),
        );
        r.register(
            "generated_tokens",
            "Tokens that were generated",
            self.generated_tokens.clone(),
        );
        r.register(
            "queued",
            "Requests that wait for a slot",
            self.queued.clone(),
        );
        r.register("riding", "Sequences that have a slot", self.riding.clone());
        r.register(
            "held",
            "Sequences that wait for a slow client",
            self.held.clone(),
        );
        r.register(
            "limit_sequences",
            "Number of sequences from which on compute is the longer part of a lap",
            self.limit_sequences.clone(),
        );
        r.register(
            "compute_seconds",
            "Compute time of a lap of one token",
            self.compute_s.clone(),
        );
        r.register("healthy", "1 if laps succeed, else 0", self.healthy.clone());
        let s = |r: &mut Registry, name: &str, help: &str, h: &Histogram| {
            r.register_with_unit(name, help, Unit::Seconds, h.clone());
        };
        s(r, "lap_duration", "Duration of laps", &self.lap_duration);
        s(
            r,
            "first_token",
            "Time from a request to its first token",
            &self.first_token,
        );
        s(
            r,
            "next_token",
            "Time from one token of a sequence to the next",
            &self.next_token,
        );
        s(
            r,
            "request_duration",
            "Time from a request to its end",
            &self.request,
        );
        s(
            r,
            "waited",
            "Time for which requests waited for a slot",
            &self.waited,
        );
        r.register("batch_sequences", "Sequences in a lap", self.batch.clone());
        r.register("answers", "Responses by status", self.answers.clone());
    }

    /// All figures as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
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
