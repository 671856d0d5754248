//! A medium that injects faults into any other: as a seed decides, it delays,
//! reorders, shortens and fails operations, and lies about bytes. In everything else it
//! keeps the contract of a medium.

mod deed;
mod fate;
mod faults;
mod lost;

pub use self::faults::{FaultCounts, FaultSwitch, Faults};

use self::fate::{Deed, Fate, Lie};
use self::lost::Lost;
use crate::{Memory, Rng, VirtualClock};
use delayline_line::{Buffer, Caps, Clock, Completion, Medium, MediumEvent, Op, Stats, Verb};
use std::collections::HashMap;
use std::sync::Arc;

struct Held {
    due_poll: u64,
    due_ns: u64,
    serial: u64,
    verb: Verb,
    completion: Completion,
}

/// The medium inside, and the completions of it that are held back.
pub struct Faulty<M> {
    inner: M,
    stats: Stats,
    counts: FaultCounts,
    faults: Faults,
    fates: HashMap<u64, Fate>,
    held: Vec<Held>,
    /// Operations that never complete, and the buffers of those that were done all the
    /// same.
    hung: Vec<Op>,
    hung_made: Vec<Buffer>,
    /// Faults in succession, by part and last byte.
    rows: HashMap<(u16, u64), u32>,
    lost: Lost,
    deeds: Rng,
    lies: Rng,
    order: Rng,
    served: u64,
    serial: u64,
    polls: u64,
    clock: Option<VirtualClock>,
    memory: Option<Arc<Memory>>,
    switch: Option<FaultSwitch>,
    scratch: Vec<Completion>,
}

impl<M: Medium> Faulty<M> {
    /// Puts the faults that follow from `seed` around `inner`.
    pub fn new(inner: M, faults: Faults, seed: u64) -> Self {
        Self {
            inner,
            stats: Stats::default(),
            counts: FaultCounts::default(),
            faults,
            fates: HashMap::new(),
            held: Vec::new(),
            hung: Vec::new(),
            hung_made: Vec::new(),
            rows: HashMap::new(),
            lost: Lost::default(),
            deeds: Rng::new(seed),
            lies: Rng::new(seed.rotate_left(32)),
            order: Rng::new(!seed),
            served: 0,
            serial: 0,
            polls: 0,
            clock: None,
            memory: None,
            switch: None,
            scratch: Vec::new(),
        }
    }

    /// Takes its faults from `switch` whenever that is set.
    pub fn with_switch(mut self, switch: FaultSwitch) -> Self {
        self.switch = Some(switch);
        self
    }

    /// Delays in the time of `clock` too, and advances it when a poll waits.
    pub fn in_time(mut self, clock: VirtualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Overwrites, in the memory that the medium reads into, the bytes that a short or
    /// failed read does not promise. [`Faults::flipped`] and [`Faults::zeroed`] need it.
    pub fn spoiling(mut self, memory: Arc<Memory>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Replaces the faults from the next operation on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// How many operations really met each fault.
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    /// The medium inside.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// The medium inside, to set it up.
    pub fn inner_mut(&mut self) -> &mut M {
        &mut self.inner
    }

    /// Operations that will complete.
    fn alive(&self) -> usize {
        let hangs = |fate: &&Fate| matches!(fate.deed, Deed::Hang);
        self.fates.len() - self.fates.values().filter(hangs).count() + self.held.len()
    }

    fn under_way(&self) -> usize {
        self.fates.len() + self.held.len() + self.hung.len() + self.hung_made.len()
    }

    fn memory(&self) -> &Memory {
        let memory = self.memory.as_ref();
        memory.expect("reads are flipped or zeroed only in a known memory: call `spoiling` first")
    }

    /// Takes completions from the medium inside and applies the faults decided for
    /// them; returns how many there were.
    fn take(&mut self, wait: bool) -> usize {
        let mut done = std::mem::take(&mut self.scratch);
        self.inner.poll(wait, &mut done);
        let count = done.len();
        for completion in done.drain(..) {
            let fate = self.fates.remove(&completion.id);
            let mut fate = fate.expect("the medium inside invents no operations");
            let deed = std::mem::replace(&mut fate.deed, Deed::Nothing);
            if let Some(completion) = self.apply(completion, &fate, deed) {
                self.hold(&fate, completion);
            }
        }
        self.scratch = done;
        count
    }

    fn hold(&mut self, fate: &Fate, completion: Completion) {
        self.counts.delayed += u64::from(fate.polls > 0 || fate.ns > 0);
        self.serial += 1;
        self.held.push(Held {
            due_poll: self.polls + fate.polls,
            due_ns: self.now_ns() + fate.ns,
            serial: self.serial,
            verb: fate.verb,
            completion,
        });
    }

    fn now_ns(&self) -> u64 {
        self.clock.as_ref().map_or(0, Clock::now_ns)
    }

    /// Appends the completions that are due to `done`.
    fn give(&mut self, done: &mut Vec<Completion>) {
        let (polls, now_ns) = (self.polls, self.now_ns());
        let timed = self.clock.is_some();
        let due = |held: &mut Held| held.due_poll <= polls && (!timed || held.due_ns <= now_ns);
        let mut given: Vec<Held> = self.held.extract_if(.., due).collect();
        if self.faults.reorder {
            for last in (1..given.len()).rev() {
                let other = self.order.below((last + 1) as u64) as usize;
                given.swap(last, other);
            }
        }
        let mut latest = 0;
        for held in given {
            self.counts.reordered += u64::from(held.serial < latest);
            latest = latest.max(held.serial);
            self.stats.count(held.verb, &held.completion.result);
            done.push(held.completion);
        }
    }
}

impl<M: Medium> Medium for Faulty<M> {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn submit(&mut self, op: Op) {
        if let Some(faults) = self.switch.as_ref().and_then(FaultSwitch::take) {
            self.set_faults(faults);
        }
        assert!(
            self.under_way() < self.caps().depth,
            "more than {} operations under way",
            self.caps().depth
        );
        let id = op.id;
        let twin = self.fates.contains_key(&id);
        assert!(!twin, "two operations under way are named {id}");
        // Always the same number of draws, so that fates depend on order alone.
        let polls = self.deeds.below(self.faults.delay_polls.saturating_add(1));
        let ns = self.deeds.below(self.faults.delay_ns.saturating_add(1));
        let failure = self.decide_failure(&op);
        let lie = self.decide_lie(op.verb);
        let failed = failure.is_some();
        let fate = Fate {
            polls,
            ns,
            verb: op.verb,
            part: op.part,
            bytes: op.offset..op.offset.saturating_add(op.buffer.len().into()),
            deed: failure.unwrap_or(Deed::Nothing),
        };
        let lie = if failed { Lie::None } else { lie };
        self.submit_lying(op, lie, fate);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        if self
            .switch
            .as_ref()
            .is_some_and(|switch| !switch.answers(wait))
        {
            return;
        }
        self.polls += 1;
        let before = done.len();
        self.take(false);
        self.give(done);
        while wait && done.len() == before && self.alive() > 0 {
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
                None if self.take(true) == 0 => return,
                None => {}
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
