//! The state shared by the engine's thread and the tasks of the clients: the queue, metrics,
//! health, and whether the server is stopping.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use delayline_llama::Namespace;
use delayline_llama::batch::{Forgotten, GenerateRequest, GeneratedToken};
use tokio::sync::{mpsc, oneshot};

use crate::api::error::ApiError;
use crate::feed::LiveFeed;
use crate::metrics::Metrics;
use crate::overdue::LapWatch;
use crate::queue::Queue;

/// A job in the queue.
#[derive(Debug)]
pub struct QueuedRequest {
    /// The job.
    pub request: GenerateRequest,
    /// Where the updates go; closed when the client has gone.
    pub reply: mpsc::Sender<Update>,
    /// When the request arrived.
    pub asked: Instant,
}

/// A request to forget the cached prompts of an owner.
#[derive(Debug)]
pub struct Flush {
    /// The owner; the salt is ignored.
    pub namespace: Namespace,
    /// Receives what was forgotten.
    pub reply: oneshot::Sender<Forgotten>,
}

/// A message from the engine to the task of a client.
#[derive(Debug)]
pub enum Update {
    /// The sequence has been admitted.
    Joined {
        /// Number of its prompt's tokens that were found in the KV cache.
        cached: usize,
    },
    /// A token; its `finish` is set in the last one.
    Token(GeneratedToken),
    /// The sequence has ended with an error.
    Failed(ApiError),
}

/// The health of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Laps succeed.
    Good,
    /// Laps fail or hang, for this reason.
    Ill(String),
    /// The engine's thread has panicked.
    Ended,
}

/// The shared state.
#[derive(Debug)]
pub struct Shared {
    /// Jobs that wait for the engine.
    pub queue: Queue<QueuedRequest>,
    /// The figures of `/metrics`.
    pub metrics: Metrics,
    /// The events of `/live`.
    pub feed: LiveFeed,
    /// The current lap, and whether it hangs.
    pub laps: LapWatch,
    health: Mutex<Health>,
    draining: AtomicBool,
    stop: AtomicBool,
    /// Moving average of the time for which a sequence keeps its slot, in milliseconds.
    slot_ms: AtomicU64,
}

impl Shared {
    /// The state of a server that starts, with a queue of `queue` jobs.
    pub fn new(queue: usize) -> Self {
        let metrics = Metrics::default();
        metrics.healthy.set(1);
        Self {
            queue: Queue::new(queue),
            metrics,
            feed: LiveFeed::default(),
            laps: LapWatch::default(),
            health: Mutex::new(Health::Good),
            draining: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            slot_ms: AtomicU64::new(1000),
        }
    }

    /// The health of the server.
    pub fn health(&self) -> Health {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.clone()
    }

    /// Sets the health of the server.
    pub fn set_health(&self, health: Health) {
        self.metrics.healthy.set(i64::from(health == Health::Good));
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Refuses further requests; those that are queued or in progress go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.queue.close();
    }

    /// Whether further requests are refused.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Ends all answers at the next lap boundary.
    pub fn stop(&self) {
        self.drain();
        self.stop.store(true, Ordering::SeqCst);
        self.queue.poke();
    }

    /// Whether all answers are to end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Records that a sequence has kept its slot for `time`.
    pub fn count_slot_time(&self, time: Duration) {
        let before = self.slot_ms.load(Ordering::Relaxed);
        let now = time.as_millis() as u64;
        let mean = before - before / 4 + now / 4;
        self.slot_ms.store(mean.max(1), Ordering::Relaxed);
    }

    /// When a slot may be free, in seconds: the length of the queue times the average time
    /// for which a sequence keeps its slot.
    pub fn retry_after_s(&self, slots: usize) -> u64 {
        let slot_ms = self.slot_ms.load(Ordering::Relaxed);
        let turns = (self.queue.len() / slots.max(1)) as u64 + 1;
        (slot_ms * turns).div_ceil(1000).clamp(1, 600)
    }
}
