//! Sends the events of `/live` from the engine's thread to the listeners. Without listeners
//! no events are made.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use delayline_engine::watch::Watch;
use delayline_llama::batch::{CompletedLap, LapCost};
use tokio::sync::broadcast;

use crate::live::{Bins, LiveLap, LiveProgress, Machine, State, Totals};
use crate::metrics::Metrics;

/// Number of events buffered for a slow listener before it misses some.
const BEHIND: usize = 16;

/// Minimum time between two events of a kind.
pub const OFTEN: Duration = Duration::from_millis(100);

/// The name and the JSON of an event.
pub type LiveEvent = (&'static str, String);

/// The source of the events.
#[derive(Debug)]
pub struct LiveFeed {
    send: broadcast::Sender<LiveEvent>,
    started: Instant,
    state: Mutex<Kept>,
    watch: OnceLock<Watched>,
}

/// The laps of a streamed model.
#[derive(Debug)]
struct Watched {
    watch: Arc<Watch>,
    /// Length of a decoding lap, in bytes.
    len: u64,
}

/// What a new listener is sent first, and the state of the laps.
#[derive(Debug, Default)]
struct Kept {
    machine: Machine,
    progress: LiveProgress,
    /// When the last lap was sent.
    told: Option<Instant>,
    resting: bool,
}

impl Default for LiveFeed {
    fn default() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let machine = Machine {
            version: env!("CARGO_PKG_VERSION").into(),
            started_unix_ms: unix.map_or(0, |time| time.as_millis() as u64),
            ..Machine::default()
        };
        Self {
            send: broadcast::channel(BEHIND).0,
            started: Instant::now(),
            state: Mutex::new(Kept {
                machine,
                resting: true,
                ..Kept::default()
            }),
            watch: OnceLock::new(),
        }
    }
}

impl LiveFeed {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the source of the progress within laps of `len` bytes; only the first call counts.
    pub fn watch(&self, watch: Arc<Watch>, len: u64) {
        let _ = self.watch.set(Watched { watch, len });
    }

    /// Whether laps are running.
    pub fn moves(&self) -> bool {
        !self.kept().resting
    }

    /// The progress of the current lap, if it has lasted long enough to be sent.
    pub fn under_way(&self) -> Option<LiveEvent> {
        let now = self.watch.get()?.watch.now()?;
        let elapsed = now.began.elapsed();
        let kept = self.kept();
        if elapsed < OFTEN || kept.resting {
            return None;
        }
        let progress = LiveProgress {
            at_s: self.at_s(),
            state: if now.between {
                State::Waiting
            } else {
                State::Computing
            },
            computed_bytes: now.mark.place,
            arrived_bytes: now.mark.arrived,
            read_bytes: now.mark.bytes_read,
            elapsed_s: elapsed.as_secs_f64(),
            stall_s: seconds(now.mark.stall_ns),
            ..kept.progress
        };
        event("progress", &progress)
    }

    /// Whether the current lap waits for the medium, and since which time of the lap, in ns.
    /// If laps cannot be watched, that it waits since its beginning.
    pub fn waits(&self) -> (bool, u64) {
        match self.watch.get().map(|watched| watched.watch.now()) {
            None | Some(None) => (true, 0),
            Some(Some(now)) => (now.between, now.mark.at_ns),
        }
    }

    /// Changes the description of the machine and sends it.
    pub fn describe(&self, fill: impl FnOnce(&mut Machine)) {
        let mut kept = self.kept();
        fill(&mut kept.machine);
        self.tell("machine", &kept.machine);
    }

    /// Adds a listener; returns the first events and the receiver of all later ones.
    pub fn listen(&self) -> (Vec<LiveEvent>, broadcast::Receiver<LiveEvent>) {
        let kept = self.kept();
        let first = [
            event("machine", &kept.machine),
            event("progress", &kept.progress),
        ];
        (first.into_iter().flatten().collect(), self.send.subscribe())
    }

    /// Whether there are listeners.
    pub fn heard(&self) -> bool {
        self.send.receiver_count() > 0
    }

    fn tell<T: serde::Serialize>(&self, name: &'static str, what: &T) {
        if self.heard()
            && let Some(event) = event(name, what)
        {
            // An error means that all listeners have gone.
            let _ = self.send.send(event);
        }
    }

    fn at_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Records that a lap of `sequences` begins.
    pub fn lap_begins(&self, sequences: usize, queued: usize) {
        let mut kept = self.kept();
        let after_rest = std::mem::replace(&mut kept.resting, false);
        kept.progress = LiveProgress {
            at_s: self.at_s(),
            state: State::Computing,
            sequences: sequences as u32,
            queued: queued as u32,
            totals: kept.progress.totals,
            ..LiveProgress::default()
        };
        if after_rest {
            self.tell("progress", &kept.progress);
        }
    }

    /// Records that a lap has ended without an error; `experts` is [`LiveLap::experts`].
    pub fn lap_ended(
        &self,
        done: &CompletedLap,
        cost: &LapCost,
        metrics: &Metrics,
        queued: usize,
        experts: Vec<String>,
    ) {
        let mut kept = self.kept();
        let totals = totals(metrics);
        kept.progress.totals = totals;
        let (compute_s, limit) = (cost.compute_s(1), cost.limit());
        if moved(kept.machine.compute_s, compute_s) || moved(kept.machine.limit_sequences, limit) {
            kept.machine.compute_s = compute_s;
            kept.machine.limit_sequences = limit;
            self.tell("machine", &kept.machine);
        }
        let now = Instant::now();
        if !self.heard() || kept.told.is_some_and(|told| now - told < OFTEN) {
            return;
        }
        kept.told = Some(now);
        let watched = self.watch.get();
        let bins = watched.and_then(|watched| Bins::of(&watched.watch.last(), watched.len));
        let lap = LiveLap {
            at_s: self.at_s(),
            duration_s: seconds(done.took.ns),
            stall_s: seconds(done.took.stall_ns),
            read_bytes: done.took.bytes_read,
            sequences: done.sequences as u32,
            tokens: (done.prompt_tokens + done.decoded) as u32,
            queued: queued as u32,
            bins,
            experts,
            totals,
        };
        self.tell("lap", &lap);
    }

    /// Records that no lap follows.
    pub fn rests(&self, queued: usize) {
        let mut kept = self.kept();
        if std::mem::replace(&mut kept.resting, true) {
            return;
        }
        kept.progress = LiveProgress {
            at_s: self.at_s(),
            state: State::Resting,
            queued: queued as u32,
            totals: kept.progress.totals,
            ..LiveProgress::default()
        };
        self.tell("progress", &kept.progress);
    }
}

fn event<T: serde::Serialize>(name: &'static str, what: &T) -> Option<LiveEvent> {
    Some((name, serde_json::to_string(what).ok()?))
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Whether a figure has changed enough to be sent again.
fn moved(before: Option<f64>, now: Option<f64>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => (before - now).abs() > 0.05 * before.abs(),
        (before, now) => before.is_some() != now.is_some(),
    }
}

fn totals(metrics: &Metrics) -> Totals {
    Totals {
        laps: metrics.laps.get(),
        lap_s: metrics.lap_s.get(),
        stall_s: metrics.stall_s.get(),
        read_bytes: metrics.read_bytes.get(),
        prompt_tokens: metrics.prompt_tokens.get(),
        generated_tokens: metrics.generated_tokens.get(),
        kv_tokens: metrics.kv.tokens(),
        limit_s: metrics.limit_s.get(),
        drive_busy_s: metrics.drive_busy_s.get(),
        expert_uses: metrics.expert_uses.get(),
        expert_hits: metrics.expert_hits.get(),
        guess_read_bytes: metrics.guess_read_bytes.get(),
        guess_wasted_bytes: metrics.guess_wasted_bytes.get(),
    }
}
