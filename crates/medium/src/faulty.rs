//! An adversary around any medium: from a seed it delays, reorders, shortens
//! and fails operations, and lies about bytes. It keeps the contract in everything
//! else, and does not know how its victim defends itself.

mod lost;

use self::lost::Lost;
use crate::{Memory, Rng, VirtualClock};
use delayline_line::{
    Buffer, Caps, Clock, Completion, Medium, MediumError, MediumEvent, Op, Stats, Verb,
};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

const NAME: &str = "faulty medium";

/// Bytes of a sector, of which a lie spoils one.
const SECTOR: u32 = 512;

/// Which faults, and how many. The default has none. Rates are shares of operations,
/// 0 to 1; of several faults that an operation would meet it meets the first in this
/// order: gone, broken, transient, short, hung, and then the lies.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A completion is held back for up to so many polls.
    pub delay_polls: u64,
    /// A completion is held back for up to so many nanoseconds of the clock
    /// given by [`Faulty::in_time`].
    pub delay_ns: u64,
    /// Completions that are due together come in any order.
    pub reorder: bool,
    /// Share of reads and writes of which fewer bytes arrive, perhaps none.
    pub short: f64,
    /// Share of operations that fail but would not the next time.
    pub transient: f64,
    /// Most faults of these two kinds in succession to operations that end at the
    /// same byte, so that a victim with more retries gets there.
    pub in_a_row: u32,
    /// Ranges of bytes of a part that can never be read or written.
    pub broken: Vec<(u16, Range<u64>)>,
    /// So many operations are served; from then on the medium is gone.
    pub gone_after: Option<u64>,
    /// Share of operations that never complete. Of the writes among them some are
    /// made and some are not.
    pub hung: f64,
    /// Share of reads that bring a bit the wrong way.
    pub flipped: f64,
    /// Share of reads that bring a sector of zeros.
    pub zeroed: f64,
    /// Share of reads that bring another place's bytes.
    pub misplaced: f64,
    /// Share of writes that are acknowledged and never made: what is read there
    /// afterwards is what was there before.
    pub lost: f64,
    /// Share of writes that are acknowledged and made in part: the rest is as it was.
    pub torn: f64,
}

/// How many operations really met each fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Completions held back.
    pub delayed: u64,
    /// Completions that came out of the order in which they were due.
    pub reordered: u64,
    /// Operations that were cut short.
    pub short: u64,
    /// Operations that failed this time.
    pub transient: u64,
    /// Operations on bytes that are broken.
    pub broken: u64,
    /// Operations after the medium had gone.
    pub gone: u64,
    /// Operations that will never complete.
    pub hung: u64,
    /// Reads that brought a wrong bit.
    pub flipped: u64,
    /// Reads that brought zeros where there are none.
    pub zeroed: u64,
    /// Reads that brought another place's bytes.
    pub misplaced: u64,
    /// Writes that were acknowledged and not made.
    pub lost: u64,
    /// Writes that were acknowledged and made in part.
    pub torn: u64,
    /// Reads that brought bytes from before the last write there, because that was
    /// lost or torn.
    pub stale: u64,
}

/// What is done to one operation, decided when it is submitted: the same ones in
/// the same order meet the same fate whatever the speed of the medium inside.
struct Fate {
    polls: u64,
    ns: u64,
    verb: Verb,
    /// Where, for whether a read meets what a lost write left.
    part: u16,
    bytes: Range<u64>,
    deed: Deed,
}

enum Deed {
    Nothing,
    /// A number that decides how many bytes arrive.
    Short(u64),
    Fail(Failing, MediumError),
    Hang,
    /// Numbers that decide where.
    Flip(u64),
    Zero(u64),
    Misplace,
    /// The parts of the buffer before and behind what is really written.
    Tear(Buffer, Buffer),
}

#[derive(Clone, Copy)]
enum Failing {
    Gone,
    Broken,
    Transient,
}

/// What befalls an operation, before it is known whether it can.
enum Lie {
    None,
    Hang,
    Flip,
    Zero,
    Misplace,
    Lose,
    Tear,
}

struct Held {
    due_poll: u64,
    due_ns: u64,
    serial: u64,
    verb: Verb,
    completion: Completion,
}

/// Changes the faults of a medium that is out of reach, inside an engine say. Clones
/// are one switch.
#[derive(Clone, Debug, Default)]
pub struct FaultSwitch(Arc<Mutex<Option<Faults>>>);

impl FaultSwitch {
    /// From the next operation on, these faults.
    pub fn set(&self, faults: Faults) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(faults);
    }

    /// Takes back what no operation has seen.
    pub fn clear(&self) {
        self.take();
    }

    fn take(&self) -> Option<Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The medium inside, and what is held back of it.
pub struct Faulty<M> {
    inner: M,
    stats: Stats,
    counts: FaultCounts,
    faults: Faults,
    fates: HashMap<u64, Fate>,
    held: Vec<Held>,
    /// Operations that never complete, and buffers of those that were made.
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

    /// Takes on what `switch` is set to.
    pub fn with_switch(mut self, switch: FaultSwitch) -> Self {
        self.switch = Some(switch);
        self
    }

    /// Delays in the time of `clock` too, and moves it when waited for.
    pub fn in_time(mut self, clock: VirtualClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Spoils, in the memory that the medium reads into, the bytes that a
    /// short or failed read does not vouch for. To lie about what a read brings
    /// takes this too.
    pub fn spoiling(mut self, memory: Arc<Memory>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Has these faults instead from the next operation on.
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
        memory.expect("a medium lies about bytes of a memory that it knows: see `spoiling`")
    }

    /// What fails or comes short, if anything does.
    fn decide_failure(&mut self, op: &Op) -> Option<Deed> {
        let short = self.deeds.chance(self.faults.short) && op.verb != Verb::Sync;
        let transient = self.deeds.chance(self.faults.transient);
        let draw = self.deeds.next_u64();
        let end = op.offset + u64::from(op.buffer.len());
        let fail = |kind, message: &str| {
            let source = io::Error::other(message);
            Deed::Fail(kind, MediumError::failed(NAME, op.asked(), source))
        };
        self.served += 1;
        let touches = |(part, bad): &(u16, Range<u64>)| {
            *part == op.part && bad.start < end && op.offset < bad.end
        };
        let row = self.rows.entry((op.part, end)).or_default();
        let spared = *row >= self.faults.in_a_row;
        let most = self.faults.gone_after.unwrap_or(u64::MAX);
        if self.served > most {
            let source = io::Error::other("it was taken away");
            return Some(Deed::Fail(Failing::Gone, MediumError::gone(NAME, source)));
        }
        if op.verb != Verb::Sync && self.faults.broken.iter().any(touches) {
            let never = "these bytes can never be read or written";
            return Some(fail(Failing::Broken, never));
        }
        if spared || !(short || transient) {
            *row = 0;
            return None;
        }
        *row += 1;
        Some(match transient {
            true => fail(Failing::Transient, "this time it did not work"),
            false => Deed::Short(draw),
        })
    }

    fn decide_lie(&mut self, verb: Verb) -> Lie {
        let mut lie = Lie::None;
        // Always the same number of draws, so that fates depend on order alone.
        let mut perhaps = |share: f64, fits: bool, other: Lie| {
            if self.lies.chance(share) && fits && matches!(lie, Lie::None) {
                lie = other;
            }
        };
        let (read, write) = (verb == Verb::Read, verb == Verb::Write);
        perhaps(self.faults.hung, true, Lie::Hang);
        perhaps(self.faults.flipped, read, Lie::Flip);
        perhaps(self.faults.zeroed, read, Lie::Zero);
        perhaps(self.faults.misplaced, read, Lie::Misplace);
        perhaps(self.faults.lost, write, Lie::Lose);
        perhaps(self.faults.torn, write, Lie::Tear);
        lie
    }

    /// Has the medium inside do `op`, or what `lie` makes of it.
    fn submit_lying(&mut self, mut op: Op, lie: Lie, mut fate: Fate) {
        let draw = self.lies.next_u64();
        match lie {
            Lie::None => {}
            Lie::Hang => {
                self.counts.hung += 1;
                if op.verb != Verb::Write || draw.is_multiple_of(2) {
                    return self.hung.push(op);
                }
                fate.deed = Deed::Hang;
            }
            Lie::Flip => fate.deed = Deed::Flip(draw),
            Lie::Zero => fate.deed = Deed::Zero(draw),
            Lie::Misplace => {
                // An earlier place, for what lies behind may not be there.
                let len = u64::from(op.buffer.len());
                if let Some(places) = op.offset.checked_div(len).filter(|&places| places > 0) {
                    op.offset -= (1 + draw % places) * len;
                    fate.deed = Deed::Misplace;
                }
            }
            Lie::Lose => {
                self.counts.lost += 1;
                self.lost.lose(fate.part, fate.bytes.clone());
                let len = op.buffer.len();
                return self.hold(&fate, op.complete(Ok(len)));
            }
            Lie::Tear => return self.tear(op, draw, fate),
        }
        if op.verb == Verb::Write {
            self.lost.make(fate.part, fate.bytes.clone());
        }
        self.fates.insert(op.id, fate);
        self.inner.submit(op);
    }

    /// Has only the first or the last units of a write made.
    fn tear(&mut self, op: Op, draw: u64, mut fate: Fate) {
        let align = self.inner.caps().align;
        let unit = align.offset.max(align.len).max(align.memory).max(SECTOR);
        let borders = (op.buffer.len().max(1) - 1) / unit;
        if borders > 0 {
            let cut = (1 + (draw >> 1) % u64::from(borders)) as u32 * unit;
            let (front, back) = op.buffer.split_at(cut);
            let middle = fate.bytes.start + u64::from(cut);
            let (front_bytes, back_bytes) = (fate.bytes.start..middle, middle..fate.bytes.end);
            let front_made = draw.is_multiple_of(2);
            let (made, lost) = match front_made {
                true => (front_bytes, back_bytes),
                false => (back_bytes, front_bytes),
            };
            self.counts.torn += 1;
            self.lost.make(op.part, made.clone());
            self.lost.lose(op.part, lost);
            let (id, verb, part, offset) = (op.id, op.verb, op.part, made.start);
            let (deed, buffer) = match front_made {
                true => (Deed::Tear(Buffer::empty(), back), front),
                false => (Deed::Tear(front, Buffer::empty()), back),
            };
            fate.deed = deed;
            self.fates.insert(id, fate);
            return self.inner.submit(Op {
                id,
                verb,
                part,
                offset,
                buffer,
            });
        }
        self.lost.make(fate.part, fate.bytes.clone());
        self.fates.insert(op.id, fate);
        self.inner.submit(op);
    }

    /// Takes what the medium inside has done and does to it what was decided;
    /// returns how many operations that were.
    fn take(&mut self, wait: bool) -> usize {
        let mut done = std::mem::take(&mut self.scratch);
        self.inner.poll(wait, &mut done);
        let count = done.len();
        for completion in done.drain(..) {
            let fate = self.fates.remove(&completion.id);
            let mut fate = fate.expect("the medium inside invents no operations");
            let deed = std::mem::replace(&mut fate.deed, Deed::Nothing);
            if let Some(completion) = self.befall(completion, &fate, deed) {
                self.hold(&fate, completion);
            }
        }
        self.scratch = done;
        count
    }

    /// Does its deed to a completion; none if nobody is to hear of it.
    fn befall(&mut self, mut done: Completion, fate: &Fate, deed: Deed) -> Option<Completion> {
        let mut good = None;
        match (deed, &mut done.result) {
            (Deed::Hang, _) => {
                self.hung_made.push(done.buffer);
                return None;
            }
            (Deed::Tear(front, back), result) => {
                let whole = front.len() + done.buffer.len() + back.len();
                if let Ok(bytes) = result
                    && *bytes == done.buffer.len()
                {
                    *bytes = whole;
                }
                done.buffer = front.join(done.buffer).join(back);
            }
            (Deed::Fail(kind, error), result) => {
                match kind {
                    Failing::Gone => self.counts.gone += 1,
                    Failing::Broken => self.counts.broken += 1,
                    Failing::Transient => self.counts.transient += 1,
                }
                *result = Err(error);
                good = Some(0);
            }
            (_, Err(_)) | (Deed::Nothing, Ok(_)) => {}
            (Deed::Short(draw), Ok(bytes)) => {
                self.counts.short += u64::from(*bytes > 0);
                *bytes = Rng::new(draw).below(u64::from(*bytes)) as u32;
                good = Some(*bytes);
            }
            (Deed::Misplace, Ok(_)) => self.counts.misplaced += 1,
            (Deed::Flip(draw), &mut Ok(bytes)) => {
                let (at, len) = (done.buffer.at(), u64::from(bytes));
                self.counts.flipped += u64::from(flip(self.memory(), at, len, draw));
            }
            (Deed::Zero(draw), &mut Ok(bytes)) => {
                let (at, len) = (done.buffer.at(), u64::from(bytes));
                self.counts.zeroed += u64::from(zero(self.memory(), at, len, draw));
            }
        }
        if fate.verb == Verb::Read {
            if let Ok(bytes) = done.result {
                let seen = fate.bytes.start..fate.bytes.start + u64::from(bytes);
                self.counts.stale += u64::from(self.lost.touches(fate.part, &seen));
            }
            if let (Some(good), Some(memory)) = (good, &self.memory) {
                let rest = vec![0xa5; (done.buffer.len() - good) as usize];
                memory.copy_in(done.buffer.at() + u64::from(good), &rest);
            }
        }
        Some(done)
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

    /// Gives what is due.
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

/// Turns a bit of `len` bytes at `at`; whether there was one.
fn flip(memory: &Memory, at: u64, len: u64, draw: u64) -> bool {
    if len == 0 {
        return false;
    }
    let (at, mut byte) = (at + (draw >> 3) % len, [0]);
    memory.copy_out(at, &mut byte);
    byte[0] ^= 1 << (draw % 8);
    memory.copy_in(at, &byte);
    true
}

/// Zeroes a sector of `len` bytes at `at`; whether it was not zero before.
fn zero(memory: &Memory, at: u64, len: u64, draw: u64) -> bool {
    if len == 0 {
        return false;
    }
    let sector = u64::from(SECTOR);
    let from = draw % len.div_ceil(sector) * sector;
    let mut bytes = vec![0; sector.min(len - from) as usize];
    memory.copy_out(at + from, &mut bytes);
    let told = bytes.iter().any(|&byte| byte != 0);
    bytes.fill(0);
    memory.copy_in(at + from, &bytes);
    told
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
