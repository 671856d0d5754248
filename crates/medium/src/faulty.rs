//! An adversary around any medium: from a seed it delays, reorders, shortens
//! and fails operations, and keeps the contract in everything else. It does not know
//! how its victim defends itself.

use crate::{Memory, Rng, VirtualClock};
use delayline_line::{Caps, Clock, Completion, Medium, MediumError, MediumEvent, Op, Stats, Verb};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

const NAME: &str = "faulty medium";

/// Which faults, and how many. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A completion is held back for up to so many polls.
    pub delay_polls: u64,
    /// A completion is held back for up to so many nanoseconds of the clock
    /// given by [`Faulty::in_time`].
    pub delay_ns: u64,
    /// Completions that are due together come in any order.
    pub reorder: bool,
    /// Share of reads and writes, 0 to 1, of which fewer bytes arrive, perhaps none.
    pub short: f64,
    /// Share of operations, 0 to 1, that fail but would not the next time.
    pub transient: f64,
    /// Most faults of these two kinds in succession to operations that end at the
    /// same byte, so that a victim with more retries gets there.
    pub in_a_row: u32,
    /// Ranges of bytes of a part that can never be read or written.
    pub broken: Vec<(u16, Range<u64>)>,
    /// So many operations are served; from then on the medium is gone.
    pub gone_after: Option<u64>,
}

/// What is done to one operation, decided when it is submitted: the same ones in
/// the same order meet the same fate whatever the speed of the medium inside.
struct Fate {
    polls: u64,
    ns: u64,
    verb: Verb,
    deed: Deed,
}

enum Deed {
    Nothing,
    /// A number that decides how many bytes arrive.
    Short(u64),
    Fail(MediumError),
}

struct Held {
    due_poll: u64,
    due_ns: u64,
    verb: Verb,
    completion: Completion,
}

/// The medium inside, and what is held back of it.
pub struct Faulty<M> {
    inner: M,
    stats: Stats,
    faults: Faults,
    fates: HashMap<u64, Fate>,
    held: Vec<Held>,
    /// Faults in succession, by part and last byte.
    rows: HashMap<(u16, u64), u32>,
    deeds: Rng,
    order: Rng,
    served: u64,
    polls: u64,
    clock: Option<VirtualClock>,
    spoiled: Option<Arc<Memory>>,
    scratch: Vec<Completion>,
}

impl<M: Medium> Faulty<M> {
    /// Puts the faults that follow from `seed` around `inner`.
    pub fn new(inner: M, faults: Faults, seed: u64) -> Self {
        Self {
            inner,
            stats: Stats::default(),
            faults,
            fates: HashMap::new(),
            held: Vec::new(),
            rows: HashMap::new(),
            deeds: Rng::new(seed),
            order: Rng::new(!seed),
            served: 0,
            polls: 0,
            clock: None,
            spoiled: None,
            scratch: Vec::new(),
        }
    }

    /// Delays in the time of `clock` too, and moves it when waited for.
    pub fn in_time(mut self, clock: VirtualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Spoils, in the memory that the medium reads into, the bytes that a
    /// short or failed read does not vouch for.
    pub fn spoiling(mut self, memory: Arc<Memory>) -> Self {
        self.spoiled = Some(memory);
        self
    }

    /// Has these faults instead from the next operation on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// The medium inside.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// The medium inside, to set it up.
    pub fn inner_mut(&mut self) -> &mut M {
        &mut self.inner
    }

    fn under_way(&self) -> usize {
        self.fates.len() + self.held.len()
    }

    fn decide(&mut self, op: &Op) -> Fate {
        // Always the same number of draws, so that fates depend on order alone.
        let polls = self.deeds.below(self.faults.delay_polls.saturating_add(1));
        let ns = self.deeds.below(self.faults.delay_ns.saturating_add(1));
        let short = self.deeds.chance(self.faults.short);
        let transient = self.deeds.chance(self.faults.transient);
        let draw = self.deeds.next_u64();
        let end = op.offset + u64::from(op.buffer.len());
        let fail = |message: &str| {
            let source = io::Error::other(message);
            Deed::Fail(MediumError::failed(NAME, op.asked(), source))
        };
        self.served += 1;
        let touches = |(part, bad): &(u16, Range<u64>)| {
            *part == op.part && bad.start < end && op.offset < bad.end
        };
        let row = self.rows.entry((op.part, end)).or_default();
        let spared = *row >= self.faults.in_a_row;
        let deed = if self
            .faults
            .gone_after
            .is_some_and(|most| self.served > most)
        {
            let source = io::Error::other("it was taken away");
            Deed::Fail(MediumError::gone(NAME, source))
        } else if self.faults.broken.iter().any(touches) {
            fail("these bytes can never be read or written")
        } else if spared || !(short || transient) {
            *row = 0;
            Deed::Nothing
        } else {
            *row += 1;
            if transient {
                fail("this time it did not work")
            } else {
                Deed::Short(draw)
            }
        };
        let verb = op.verb;
        Fate {
            polls,
            ns,
            verb,
            deed,
        }
    }

    /// Takes what the medium inside has done and does to it what was decided.
    fn take(&mut self, wait: bool) {
        let mut done = std::mem::take(&mut self.scratch);
        self.inner.poll(wait, &mut done);
        for mut completion in done.drain(..) {
            let fate = self
                .fates
                .remove(&completion.id)
                .expect("the medium inside invents no operations");
            let verb = fate.verb;
            let spare = match (fate.deed, &mut completion.result) {
                (Deed::Nothing, _) => None,
                (Deed::Fail(error), result) => {
                    *result = Err(error);
                    Some(0)
                }
                (Deed::Short(_), Err(_)) => None,
                (Deed::Short(draw), Ok(bytes)) => {
                    *bytes = Rng::new(draw).below(u64::from(*bytes)) as u32;
                    Some(*bytes)
                }
            };
            if let (Verb::Read, Some(good), Some(memory)) = (verb, spare, &self.spoiled) {
                let rest = vec![0xa5; (completion.buffer.len() - good) as usize];
                memory.copy_in(completion.buffer.at() + u64::from(good), &rest);
            }
            let due_poll = self.polls + fate.polls;
            let due_ns = self.now_ns() + fate.ns;
            self.held.push(Held {
                due_poll,
                due_ns,
                verb,
                completion,
            });
        }
        self.scratch = done;
    }

    fn now_ns(&self) -> u64 {
        self.clock.as_ref().map_or(0, Clock::now_ns)
    }

    /// Gives what is due.
    fn give(&mut self, done: &mut Vec<Completion>) {
        let (polls, now_ns) = (self.polls, self.now_ns());
        let timed = self.clock.is_some();
        let first = done.len();
        let due = |held: &mut Held| held.due_poll <= polls && (!timed || held.due_ns <= now_ns);
        let stats = &mut self.stats;
        done.extend(self.held.extract_if(.., due).map(|held| {
            stats.count(held.verb, &held.completion.result);
            held.completion
        }));
        if self.faults.reorder {
            for last in (first + 1..done.len()).rev() {
                let other = first + self.order.below((last - first + 1) as u64) as usize;
                done.swap(last, other);
            }
        }
    }
}

impl<M: Medium> Medium for Faulty<M> {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn submit(&mut self, op: Op) {
        assert!(
            self.under_way() < self.caps().depth,
            "more than {} operations under way",
            self.caps().depth
        );
        let (id, fate) = (op.id, self.decide(&op));
        let twin = self.fates.insert(id, fate);
        assert!(twin.is_none(), "two operations under way are named {id}");
        self.inner.submit(op);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.polls += 1;
        let before = done.len();
        self.take(false);
        self.give(done);
        while wait && done.len() == before && self.under_way() > 0 {
            // Waiting makes the first of those held back due, or the first of
            // those inside if none is held.
            let next = self
                .held
                .iter()
                .min_by_key(|held| (held.due_ns, held.due_poll));
            match next.map(|held| (held.due_ns, held.due_poll)) {
                Some((due_ns, due_poll)) => {
                    self.polls = self.polls.max(due_poll);
                    if let Some(clock) = &self.clock {
                        clock.advance_to(due_ns);
                    }
                }
                None => self.take(true),
            }
            self.give(done);
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.inner.events(out);
    }
}
