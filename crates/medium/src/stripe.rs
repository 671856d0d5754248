//! Several drives as one: each part of the model lies on all of them in turns,
//! stripe by stripe, so that their rates add up. Around any inner media; it
//! knows where a byte lies, not what the drives are.
//!
//! Stripe `s` of a part, `unit` bytes long, is on drive `s % drives`, there at
//! `s / drives * unit` of the part of the same number. An operation becomes one
//! for each stripe that it touches, on neighbouring pieces of its buffer, and
//! completes when all of them have; a sync becomes one for each drive.

use delayline_line::{
    Buffer, Caps, Completion, Durability, Medium, MediumError, MediumEvent, Op, Rates, Stats, Verb,
};
use delayline_plan::ALIGN;
use std::collections::{HashMap, VecDeque};

/// One drive of several, and its name for messages.
pub struct Drive<M> {
    /// The medium with its stripes of each part of the model.
    pub medium: M,
    /// For a person, such as the folder.
    pub name: String,
}

/// The drives, and the operations under way on them.
pub struct Stripe<M> {
    drives: Vec<Lane<M>>,
    unit: u64,
    caps: Caps,
    stats: Stats,
    /// The operations that were submitted, each by a number.
    whole: HashMap<u64, Whole>,
    /// Their numbers, in the order of submission.
    order: VecDeque<u64>,
    serial: u64,
    scratch: Vec<Completion>,
    /// Empty lists of buffers, for reuse.
    spare: Vec<Vec<Buffer>>,
}

struct Lane<M> {
    drive: Drive<M>,
    /// Operations beyond its depth, not submitted yet.
    queue: VecDeque<Op>,
    /// Shares that are queued or under way, by the operation's id there.
    under_way: HashMap<u64, Share>,
}

/// The bytes of an operation that one stripe holds.
#[derive(Clone, Copy)]
struct Share {
    whole: u64,
    /// Its first byte, from the start of the whole.
    from: u32,
    len: u32,
}

struct Whole {
    id: u64,
    verb: Verb,
    /// Pieces of the buffer of which the share has ended.
    back: Vec<Buffer>,
    /// Shares that have not ended.
    left: u32,
    /// Bytes from the start that were moved, up to the first known gap.
    good: u32,
    /// The first failure in the order of bytes, and its offset.
    failure: Option<(u32, MediumError)>,
}

/// Where `len` bytes at `offset` lie: for each stripe they touch, the drive, the
/// offset there, and how many bytes.
pub fn stripes(
    unit: u64,
    drives: u64,
    offset: u64,
    len: u64,
) -> impl Iterator<Item = (usize, u64, u64)> {
    let end = offset.saturating_add(len);
    let mut next = offset;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let (stripe, within) = (next / unit, next % unit);
        let bytes = (unit - within).min(end - next);
        next += bytes;
        let there = stripe / drives * unit + within;
        Some(((stripe % drives) as usize, there, bytes))
    })
}

/// How many bytes of a part of `len` bytes are on each drive.
pub fn shares(unit: u64, drives: u64, len: u64) -> Vec<u64> {
    let (rows, rest) = (len / (unit * drives), len % (unit * drives));
    let last = |drive| rest.saturating_sub(drive * unit).min(unit);
    (0..drives).map(|drive| rows * unit + last(drive)).collect()
}

impl<M: Medium> Stripe<M> {
    /// One medium of these drives, in stripes of `unit` bytes.
    ///
    /// # Panics
    /// Without a drive, or when `unit` is no positive multiple of [`ALIGN`].
    pub fn new(drives: Vec<Drive<M>>, unit: u64, depth: usize) -> Self {
        assert!(!drives.is_empty(), "a stripe needs a drive");
        assert!(
            unit > 0 && unit.is_multiple_of(ALIGN),
            "stripes of {unit} bytes: expected a positive multiple of {ALIGN}"
        );
        let lane = |drive| Lane {
            drive,
            queue: VecDeque::new(),
            under_way: HashMap::new(),
        };
        let caps = together(&drives, depth);
        Self {
            drives: drives.into_iter().map(lane).collect(),
            unit,
            caps,
            stats: Stats::default(),
            whole: HashMap::new(),
            order: VecDeque::new(),
            serial: 0,
            scratch: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The drives, in order: what each of them has done.
    pub fn drives(&self) -> impl Iterator<Item = &Drive<M>> {
        self.drives.iter().map(|lane| &lane.drive)
    }

    /// Queues a share of an operation on a drive, which gets it as its depth allows.
    fn send(&mut self, lane: usize, share: Share, op: Op) {
        self.whole.get_mut(&share.whole).expect("just begun").left += 1;
        let lane = &mut self.drives[lane];
        // An operation touches a drive in several stripes: where the share begins
        // tells them apart.
        let id = share.whole << 32 | u64::from(share.from);
        lane.under_way.insert(id, share);
        lane.queue.push_back(Op { id, ..op });
        lane.pass_on();
    }

    /// Takes the completions of a drive, and completes the operations of which all
    /// shares have ended; returns how many shares ended.
    fn land(&mut self, lane: usize, wait: bool, done: &mut Vec<Completion>) -> usize {
        let count = self.drives.len();
        let mut came = std::mem::take(&mut self.scratch);
        let Lane {
            drive, under_way, ..
        } = &mut self.drives[lane];
        drive.medium.poll(wait, &mut came);
        let over = came.len();
        for Completion { id, buffer, result } in came.drain(..) {
            let share = under_way.remove(&id).expect("its own operations");
            let whole = self.whole.get_mut(&share.whole).expect("under way");
            whole.left -= 1;
            whole.back.push(buffer);
            let name = || format!("drive {} of {count} ({})", lane + 1, drive.name);
            whole.settle(share, result.map_err(|error| error.within(&name())));
            if whole.left == 0 {
                let whole = self.whole.remove(&share.whole).expect("seen above");
                let (verb, completion, spare) = whole.complete();
                self.stats.count(verb, &completion.result);
                self.spare.push(spare);
                done.push(completion);
            }
        }
        self.scratch = came;
        self.drives[lane].pass_on();
        over
    }
}

impl Whole {
    /// Takes in the result of one share. Shares end in any order, and bytes count up
    /// to the first that is missing.
    fn settle(&mut self, share: Share, result: Result<u32, MediumError>) {
        match result {
            Ok(bytes) if bytes == share.len => {}
            Ok(bytes) => self.good = self.good.min(share.from + bytes),
            Err(error) => {
                if self.failure.as_ref().is_none_or(|&(at, _)| share.from < at) {
                    self.failure = Some((share.from, error));
                }
            }
        }
    }

    /// The completion: an error if a share failed before the first gap, and for a
    /// sync if any did. The emptied list comes back for reuse.
    fn complete(mut self) -> (Verb, Completion, Vec<Buffer>) {
        let result = match self.failure {
            Some((at, error)) if at < self.good || self.verb == Verb::Sync => Err(error),
            _ => Ok(self.good),
        };
        self.back.sort_unstable_by_key(Buffer::at);
        let buffer = self.back.drain(..).fold(Buffer::empty(), Buffer::join);
        let completion = Completion {
            id: self.id,
            buffer,
            result,
        };
        (self.verb, completion, self.back)
    }
}

impl<M: Medium> Lane<M> {
    /// Submits queued operations, as many as the drive's depth allows.
    fn pass_on(&mut self) {
        while self.under_way.len() - self.queue.len() < self.drive.medium.caps().depth
            && let Some(op) = self.queue.pop_front()
        {
            self.drive.medium.submit(op);
        }
    }
}

impl<M: Medium> Medium for Stripe<M> {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert!(
            self.whole.len() < self.caps.depth,
            "more than {} operations under way",
            self.caps.depth
        );
        let number = self.serial;
        self.serial += 1;
        self.order.push_back(number);
        let len = op.buffer.len();
        let whole = Whole {
            id: op.id,
            verb: op.verb,
            back: self.spare.pop().unwrap_or_default(),
            left: 0,
            good: len,
            failure: None,
        };
        self.whole.insert(number, whole);
        if op.verb == Verb::Sync {
            for lane in 0..self.drives.len() {
                // A sync has no bytes: the number of the drive tells its shares apart.
                let from = lane as u32;
                let share = Share {
                    whole: number,
                    from,
                    len: 0,
                };
                self.send(lane, share, Op::sync(0, op.part));
            }
            return;
        }
        let (mut from, mut rest) = (0, op.buffer);
        let drives = self.drives.len() as u64;
        // An operation of no bytes is for the drive with the byte at its offset.
        let touched = u64::from(len.max(1));
        for (lane, offset, bytes) in stripes(self.unit, drives, op.offset, touched) {
            let (buffer, behind) = rest.split_at(len.min(bytes as u32));
            rest = behind;
            let len = buffer.len();
            let share = Share {
                whole: number,
                from,
                len,
            };
            let part = Op {
                id: 0,
                verb: op.verb,
                part: op.part,
                offset,
                buffer,
            };
            self.send(lane, share, part);
            from += len;
        }
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let before = done.len();
        loop {
            for lane in 0..self.drives.len() {
                if !self.drives[lane].under_way.is_empty() {
                    self.land(lane, false, done);
                }
            }
            while let Some(number) = self.order.front()
                && !self.whole.contains_key(number)
            {
                self.order.pop_front();
            }
            let Some(&oldest) = self.order.front() else {
                return;
            };
            if !wait || done.len() > before {
                return;
            }
            // The caller most likely needs the oldest operation. A drive that will
            // never complete its share of it returns at once.
            let has = |lane: &Lane<M>| lane.under_way.values().any(|s| s.whole == oldest);
            let first = self.drives.iter().position(has).expect("it is not over");
            let count = self.drives.len();
            let mut lanes = (first..count).chain(0..first);
            if !lanes.any(|lane| self.land(lane, true, done) > 0) {
                return;
            }
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        for lane in &mut self.drives {
            lane.drive.medium.events(out);
        }
    }
}

/// What drives can do together.
fn together<M: Medium>(drives: &[Drive<M>], depth: usize) -> Caps {
    let all = || drives.iter().map(|drive| drive.medium.caps());
    // The slowest one sets the pace, for all have the same share.
    let rate = |of: fn(&Rates) -> Option<u64>| {
        let slowest = all().map(|caps| of(&caps.rates)).min().flatten()?;
        Some(slowest * drives.len() as u64)
    };
    let rates = Rates {
        read_bytes_per_s: rate(|rates| rates.read_bytes_per_s),
        write_bytes_per_s: rate(|rates| rates.write_bytes_per_s),
        mixed_bytes_per_s: rate(|rates| rates.mixed_bytes_per_s),
    };
    let first = drives[0].medium.caps();
    let mut caps = Caps {
        depth,
        rates,
        ..first.clone()
    };
    for other in all() {
        caps.align.offset = caps.align.offset.max(other.align.offset);
        caps.align.len = caps.align.len.max(other.align.len);
        caps.align.memory = caps.align.memory.max(other.align.memory);
        caps.largest_len = caps.largest_len.min(other.largest_len);
        caps.best_len = caps.best_len.max(other.best_len);
        caps.writable &= other.writable;
        if other.durability == Durability::Volatile {
            caps.durability = Durability::Volatile;
        }
    }
    caps
}
