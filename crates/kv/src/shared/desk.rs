//! What those who compute and the two threads of a shared store have in common: what was
//! asked for, what waits to be sent, and what went wrong. Does no I/O.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::key::Root;
use crate::message::ShareMessage;
use crate::secret::ShareSecret;

/// A store that did not answer, or brought blocks more slowly than they are computed, is
/// asked nothing for so long.
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

/// A block on its way to the store.
pub(super) struct Sending {
    pub file: PathBuf,
    pub block: Block,
}

/// Blocks that were asked for.
pub(super) struct Ask {
    pub number: u32,
    /// Those that have not come, in their order.
    pub wanted: VecDeque<Block>,
    /// When the last one came.
    pub last: Instant,
    /// When computing them would be as soon.
    pub worth_until: Option<Instant>,
    /// Nobody waits for it any more; what still comes is kept.
    pub over: bool,
}

/// What the threads share.
#[derive(Default)]
pub(super) struct Desk {
    pub questions: VecDeque<ShareMessage>,
    pub outbox: VecDeque<Sending>,
    /// Blocks that were sent and are not known to be stored.
    pub sending: usize,
    pub asks: Vec<Ask>,
    pub numbers: u32,
    /// Nothing is asked before.
    pub away: Option<Instant>,
    /// By the name of a file: what was not there a moment ago.
    pub absent: HashMap<String, Instant>,
    /// The other side has ended, or this one has.
    pub ended: bool,
    /// What went wrong, told once until something goes well again.
    pub trouble: Option<String>,
    pub ill: bool,
    pub stats: SharedStats,
}

impl Desk {
    pub fn refused(&mut self, place: &str, what: &str) {
        self.stats.failed += 1;
        if !std::mem::replace(&mut self.ill, true) {
            self.trouble = Some(format!(
                "the KV cache goes on without the shared one, {place}: {what}"
            ));
        }
    }

    /// An answer: nothing, or words of what went wrong.
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

    /// What takes too long is a miss.
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

/// The desk, and where its threads wait for news.
pub(super) struct Lines {
    pub desk: Mutex<Desk>,
    pub news: Condvar,
    pub place: String,
    pub root: Root,
    pub secret: ShareSecret,
}

impl Lines {
    pub fn lock(&self) -> MutexGuard<'_, Desk> {
        // Nothing panics while it is held.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There will be no more.
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
