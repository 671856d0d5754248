//! What the thread that computes and the tasks of the clients share.

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

/// A request on its way to the engine.
#[derive(Debug)]
pub struct QueuedRequest {
    /// What is asked for.
    pub request: GenerateRequest,
    /// Where the answer goes; closed when the client has gone.
    pub reply: mpsc::Sender<Update>,
    /// When it was asked for.
    pub asked: Instant,
}

/// Forgets what is kept of an owner.
#[derive(Debug)]
pub struct Flush {
    /// Of whom; its salt is of no account.
    pub namespace: Namespace,
    /// Where it is told what was forgotten.
    pub reply: oneshot::Sender<Forgotten>,
}

/// What a client's task is told.
#[derive(Debug)]
pub enum Update {
    /// It rides; so many tokens of its prompt were still there.
    Joined {
        /// How many.
        cached: usize,
    },
    /// A token; the last one says so.
    Token(GeneratedToken),
    /// There will be no more.
    Failed(ApiError),
}

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Good,
    /// Laps fail, for this reason.
    Ill(String),
    /// The engine has ended.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// Requests that wait.
    pub queue: Queue<QueuedRequest>,
    /// The figures.
    pub metrics: Metrics,
    /// The live picture.
    pub feed: LiveFeed,
    /// The lap under way, and whether it hangs.
    pub laps: LapWatch,
    health: Mutex<Health>,
    draining: AtomicBool,
    stop: AtomicBool,
    /// How long a request keeps its place, of late, in milliseconds.
    ride_ms: AtomicU64,
}

impl Shared {
    /// A server that starts now.
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
            ride_ms: AtomicU64::new(1000),
        }
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.clone()
    }

    /// It is so from now on.
    pub fn set_health(&self, health: Health) {
        self.metrics.healthy.set(i64::from(health == Health::Good));
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Takes no more requests; those that are here go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.queue.close();
    }

    /// Whether it takes no more requests.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Ends all that goes on, at the next lap boundary.
    pub fn stop(&self) {
        self.drain();
        self.stop.store(true, Ordering::SeqCst);
        self.queue.poke();
    }

    /// Whether all is to end.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A request has kept its place for so long.
    pub fn rode(&self, time: Duration) {
        let before = self.ride_ms.load(Ordering::Relaxed);
        let now = time.as_millis() as u64;
        let mean = before - before / 4 + now / 4;
        self.ride_ms.store(mean.max(1), Ordering::Relaxed);
    }

    /// When there may be room again, in seconds: the queue's length by the time
    /// that requests take of late.
    pub fn retry_after_s(&self, seats: usize) -> u64 {
        let ride_ms = self.ride_ms.load(Ordering::Relaxed);
        let turns = (self.queue.len() / seats.max(1)) as u64 + 1;
        (ride_ms * turns).div_ceil(1000).clamp(1, 600)
    }
}
