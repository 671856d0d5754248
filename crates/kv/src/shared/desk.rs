//! The state shared by the callers and the two threads of a shared store: requests, blocks
//! that wait to be sent, failures. Does no I/O.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::key::Root;
use crate::message::ShareMessage;
use crate::secret::ShareSecret;

/// Time for which nothing is requested from a store that did not answer, or that was slower
/// than computing the blocks.
const AWAY: Duration = Duration::from_secs(30);

/// What a shared store has done for this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedStats {
    pub fetched: u64,
    pub fetched_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub rejected: u64,
    pub failed: u64,
}

/// A block to be sent to the store.
pub(super) struct Sending {
    pub file: PathBuf,
    pub block: Block,
}

/// A request for consecutive blocks.
pub(super) struct Ask {
    pub number: u32,
    /// The blocks that have not arrived, in order.
    pub wanted: VecDeque<Block>,
    /// When the last block arrived, or the request was made.
    pub last: Instant,
    /// When computing the blocks instead would have ended.
    pub worth_until: Option<Instant>,
    /// Whether callers have stopped waiting; blocks that still arrive are kept.
    pub over: bool,
}

/// The state behind the lock of [`Lines`].
#[derive(Default)]
pub(super) struct Desk {
    pub questions: VecDeque<ShareMessage>,
    pub outbox: VecDeque<Sending>,
    /// Number of blocks that were sent and not yet acknowledged.
    pub sending: usize,
    pub asks: Vec<Ask>,
    /// The number of the last request.
    pub numbers: u32,
    /// No blocks are requested before this time.
    pub away: Option<Instant>,
    /// Files whose blocks the store did not have, and when that was known.
    pub absent: HashMap<String, Instant>,
    /// Whether either side has ended.
    pub ended: bool,
    /// The message about a failure, until it has been reported.
    pub trouble: Option<String>,
    /// Whether the last operation failed: a series of failures is reported once.
    pub ill: bool,
    pub stats: SharedStats,
}

impl Desk {
    /// Records a failure.
    pub fn refused(&mut self, place: &str, what: &str) {
        self.stats.failed += 1;
        if !std::mem::replace(&mut self.ill, true) {
            self.trouble = Some(format!(
                "the KV cache goes on without the shared one, {place}: {what}"
            ));
        }
    }

    /// Records the outcome in an answer: an error text, or an empty one for success.
    pub fn told(&mut self, place: &str, what: &str) {
        match what {
            "" => self.ill = false,
            what => self.refused(place, what),
        }
    }

    pub fn sends(&self) -> bool {
        let waits = !self.outbox.is_empty() || !self.questions.is_empty();
        !self.ended && (waits || self.sending > 0)
    }

    pub fn number(&mut self) -> u32 {
        self.numbers = self.numbers.wrapping_add(1);
        self.numbers
    }

    /// Ends the wait for requests that take too long.
    pub fn look_at_the_clock(&mut self, place: &str, wait: Duration) {
        let now = Instant::now();
        let mut hung = false;
        for ask in self.asks.iter_mut().filter(|ask| !ask.over) {
            let slow = ask.worth_until.is_some_and(|until| now > until);
            let silent = now - ask.last > wait;
            ask.over = slow || silent;
            hung |= silent;
            if ask.over {
                self.away = Some(now + AWAY);
            }
        }
        if hung {
            self.refused(place, &format!("it did not answer within {wait:?}"));
        }
    }
}

/// The [`Desk`], the condition that its threads wait for, and what never changes.
pub(super) struct Lines {
    pub desk: Mutex<Desk>,
    pub news: Condvar,
    pub place: String,
    pub root: Root,
    pub secret: ShareSecret,
}

impl Lines {
    pub fn lock(&self) -> MutexGuard<'_, Desk> {
        // No code that holds the lock panics, so that its poisoning means nothing.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops all that is under way after either side has ended.
    pub fn end(&self) {
        let mut desk = self.lock();
        if !std::mem::replace(&mut desk.ended, true) {
            desk.refused(&self.place, "the program that reaches it has ended");
        }
        desk.asks.clear();
        desk.outbox.clear();
        desk.sending = 0;
        drop(desk);
        self.news.notify_all();
    }
}
