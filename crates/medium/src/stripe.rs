//! Several drives as one: each part of the model lies on all of them in turns,
//! stripe by stripe, so that their rates add up. Around any inner media; it
//! knows where a byte lies, not what the drives are.
//!
//! Stripe `s` of a part, `unit` bytes long, is on drive `s % drives`, there at
//! `s / drives * unit` of the part of the same number. A read becomes one read
//! for each stripe that it touches, into neighbouring pieces of its slot, and is
//! over when all of them are.

use delayline_line::{Completion, Medium, Read, ReadError, Slot};
use delayline_plan::ALIGN;
use std::collections::{HashMap, VecDeque};

/// One drive of several, and its name for messages.
pub struct Drive<M> {
    /// What is read there: for each part of the model, its stripes.
    pub medium: M,
    /// For a person, such as the folder.
    pub name: String,
}

/// The drives, and the reads under way on them.
pub struct Stripe<M> {
    drives: Vec<Lane<M>>,
    unit: u64,
    depth: usize,
    /// By a number of its own: the reads that were asked for.
    whole: HashMap<u64, Whole>,
    /// Numbers of reads, in the order in which they were asked for.
    order: VecDeque<u64>,
    serial: u64,
    scratch: Vec<Completion>,
}

struct Lane<M> {
    drive: Drive<M>,
    /// What it has no place for yet.
    queue: VecDeque<Read>,
    /// By the number that the read has there.
    under_way: HashMap<u64, Share>,
}

/// Which part of which read.
#[derive(Clone, Copy)]
struct Share {
    whole: u64,
    /// Its first byte, from the start of the whole.
    from: u32,
    len: u32,
}

struct Whole {
    id: u64,
    at: u64,
    len: u32,
    /// Shares that are not over.
    left: u32,
    /// Bytes from the start that came, as far as is known; what comes behind a
    /// gap does not count.
    good: u32,
    /// The first failure in the order of bytes, and where.
    failure: Option<(u32, ReadError)>,
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
        Self {
            drives: drives.into_iter().map(lane).collect(),
            unit,
            depth,
            whole: HashMap::new(),
            order: VecDeque::new(),
            serial: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes what a drive has done; completes what is whole.
    fn land(&mut self, lane: usize, wait: bool, done: &mut Vec<Completion>) {
        let count = self.drives.len();
        let mut came = std::mem::take(&mut self.scratch);
        let Lane {
            drive, under_way, ..
        } = &mut self.drives[lane];
        drive.medium.poll(wait, &mut came);
        for Completion { id, result, .. } in came.drain(..) {
            let share = under_way.remove(&id).expect("its own reads");
            let whole = self.whole.get_mut(&share.whole).expect("under way");
            whole.left -= 1;
            whole.settle(
                share,
                result.map_err(|e| named(e, &drive.name, lane, count)),
            );
            if whole.left == 0 {
                let whole = self.whole.remove(&share.whole).expect("seen above");
                done.push(whole.complete());
            }
        }
        self.scratch = came;
        self.drives[lane].pass_on();
    }
}

impl Whole {
    /// Takes in how one share ended. Shares end in any order: bytes count up to
    /// the first that is missing, so gaps are kept as failures without a reason.
    fn settle(&mut self, share: Share, result: Result<u32, ReadError>) {
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

    /// A read fails if a drive failed it before the end of what came.
    fn complete(self) -> Completion {
        let result = match self.failure {
            Some((at, error)) if at < self.good => Err(error),
            _ => Ok(self.good),
        };
        Completion {
            id: self.id,
            slot: Slot::claim(self.at, self.len),
            result,
        }
    }
}

impl<M: Medium> Lane<M> {
    /// Gives the drive what it has place for.
    fn pass_on(&mut self) {
        while self.under_way.len() - self.queue.len() < self.drive.medium.depth()
            && let Some(read) = self.queue.pop_front()
        {
            self.drive.medium.submit(read);
        }
    }
}

impl<M: Medium> Medium for Stripe<M> {
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, read: Read) {
        assert!(
            self.whole.len() < self.depth,
            "more than {} reads under way",
            self.depth
        );
        let number = self.serial;
        self.serial += 1;
        let (at, len) = (read.slot.at(), read.slot.len());
        let (mut from, mut left) = (0, 0);
        let drives = self.drives.len() as u64;
        for (lane, offset, bytes) in stripes(self.unit, drives, read.offset, len.into()) {
            let (lane, bytes) = (&mut self.drives[lane], bytes as u32);
            let share = Share {
                whole: number,
                from,
                len: bytes,
            };
            // A read touches a drive in several stripes: where it begins tells
            // them apart.
            let id = number << 32 | u64::from(from);
            lane.under_way.insert(id, share);
            lane.queue.push_back(Read {
                id,
                part: read.part,
                offset,
                slot: Slot::claim(at + u64::from(from), bytes),
            });
            lane.pass_on();
            from += bytes;
            left += 1;
        }
        self.order.push_back(number);
        let whole = Whole {
            id: read.id,
            at,
            len,
            left,
            good: len,
            failure: None,
        };
        self.whole.insert(number, whole);
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
            // The oldest read is the one that somebody waits for.
            let has = |lane: &Lane<M>| lane.under_way.values().any(|s| s.whole == oldest);
            let lane = self.drives.iter().position(has);
            self.land(lane.expect("it is not over"), true, done);
        }
    }
}

/// The error with the drive's name.
fn named(error: ReadError, name: &str, lane: usize, count: usize) -> ReadError {
    let prefix = format!("drive {} of {count} ({name})", lane + 1);
    match error {
        ReadError::Os {
            source_name,
            offset,
            len,
            message,
        } => ReadError::Os {
            source_name: format!("{prefix}, {source_name}"),
            offset,
            len,
            message,
        },
        ReadError::Gone {
            source_name,
            message,
        } => ReadError::Gone {
            source_name: format!("{prefix}, {source_name}"),
            message,
        },
    }
}
