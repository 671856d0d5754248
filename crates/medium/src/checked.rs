//! A medium whose reads are checked against a seal, or against what the first read of the
//! same bytes brought. Knows neither what the bytes mean nor where a seal is from.
//!
//! Bytes that are always read as a whole (an extent's) are known by one sum of their
//! blocks' hashes; all others by the hash of each block. A read that brings other bytes
//! than are known fails, so that the caller tries again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use delayline_line::{
    Asked, Caps, Completion, EventClass, Medium, MediumError, MediumEvent, Op, Stats, Verb,
};

use crate::Memory;

/// Bytes of a block: the unit of direct I/O.
pub const CHECK_BLOCK: u64 = 4096;

const BLOCK: usize = CHECK_BLOCK as usize;

/// Bytes that one poll checks, or a little more: it ends with a whole read.
const AT_ONCE: u32 = 64 << 10;

/// Bytes from which on a read is hashed by all threads: for fewer, waking them may cost more
/// than it saves. Assumed, not measured.
const SHARED: u32 = 128 << 10;

/// Maximum number of wrong reads that are reported as events.
const TOLD: u64 = 8;

/// Consecutive bytes of a part that are always read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whole {
    len: u32,
    /// Sum of its blocks' hashes; none before the first read.
    sum: Option<u64>,
}

/// Consecutive bytes of a part that are read in any pieces.
#[derive(Clone, Debug)]
struct Scattered {
    part: u16,
    blocks: Range<u64>,
    /// One a block; 0 before the first read.
    hashes: Vec<u64>,
}

/// The hashes of a medium's bytes: those that are known, and room for the others.
#[derive(Clone, Debug)]
pub struct Checks {
    hash: fn(&[u8]) -> u64,
    part_lens: Vec<u64>,
    wholes: HashMap<(u16, u64), Whole>,
    /// In the order of their parts and blocks; none overlap.
    scattered: Vec<Scattered>,
}

impl Checks {
    /// Nothing is known yet of parts of these lengths, in bytes; `hash` is the hash of a
    /// block.
    pub fn new(part_lens: Vec<u64>, hash: fn(&[u8]) -> u64) -> Self {
        Self {
            hash,
            part_lens,
            wholes: HashMap::new(),
            scattered: Vec::new(),
        }
    }

    /// Adds `len` bytes at `offset`, whole blocks, that are always read as a whole.
    pub fn add_whole(&mut self, part: u16, offset: u64, len: u32) {
        self.wholes.insert((part, offset), Whole { len, sum: None });
    }

    /// Adds bytes of parts that are read in any pieces. Called before
    /// [`Checks::know`]: it forgets the hashes of all such bytes.
    pub fn add_scattered(&mut self, ranges: impl IntoIterator<Item = (u16, Range<u64>)>) {
        let mut all = std::mem::take(&mut self.scattered);
        all.extend(ranges.into_iter().map(|(part, range)| Scattered {
            part,
            blocks: range.start / CHECK_BLOCK..range.end.div_ceil(CHECK_BLOCK),
            hashes: Vec::new(),
        }));
        all.sort_unstable_by_key(|s| (s.part, s.blocks.start));
        for next in all {
            match self.scattered.last_mut() {
                Some(last) if last.part == next.part && next.blocks.start <= last.blocks.end => {
                    last.blocks.end = last.blocks.end.max(next.blocks.end);
                }
                _ => self.scattered.push(next),
            }
        }
        for scattered in &mut self.scattered {
            // Zeroed pages take no memory until they are written.
            let len = scattered.blocks.end - scattered.blocks.start;
            scattered.hashes = vec![0; len as usize];
        }
    }

    /// Takes in the hashes of a part: `hash_of` appends those of a range of blocks.
    ///
    /// # Errors
    /// The first error of `hash_of`.
    pub fn know<E>(
        &mut self,
        part: u16,
        mut hash_of: impl FnMut(Range<u64>, &mut Vec<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut hashes = Vec::new();
        let len = self.part_lens[usize::from(part)];
        let wholes = self.wholes.iter_mut().filter(|((of, _), _)| *of == part);
        for (&(_, offset), whole) in wholes {
            let first = offset / CHECK_BLOCK;
            let end = (offset + u64::from(whole.len)).min(len);
            hash_of(first..end.div_ceil(CHECK_BLOCK), &mut hashes)?;
            whole.sum = Some(hashes.drain(..).map(nonzero).zip(first..).fold(0, add));
        }
        for scattered in self.scattered.iter_mut().filter(|s| s.part == part) {
            let end = scattered.blocks.end.min(len.div_ceil(CHECK_BLOCK));
            hash_of(scattered.blocks.start..end, &mut hashes)?;
            for (known, hash) in scattered.hashes.iter_mut().zip(hashes.drain(..)) {
                *known = nonzero(hash);
            }
        }
        Ok(())
    }

    /// Memory that this takes once all is known, in bytes.
    pub fn bytes(&self) -> u64 {
        let whole = size_of::<((u16, u64), Whole)>() as u64 * 2;
        let blocks = self.scattered.iter().map(|s| s.blocks.end - s.blocks.start);
        self.wholes.len() as u64 * whole + 8 * blocks.sum::<u64>()
    }
}

fn nonzero(hash: u64) -> u64 {
    hash.max(1)
}

/// Adds a block to a sum that does not depend on the order in which blocks are added, but
/// on where each of them is.
fn add(sum: u64, (hash, block): (u64, u64)) -> u64 {
    let mixed =
        (hash ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    sum.wrapping_add(mixed ^ (mixed >> 32))
}

/// The sum of `bytes`, whose first is at the beginning of block `first`, added to `sum`.
pub fn sum_of_blocks(sum: u64, first: u64, bytes: &[u8], hash: fn(&[u8]) -> u64) -> u64 {
    let hashes = bytes.chunks(BLOCK).map(|block| nonzero(hash(block)));
    hashes.zip(first..).fold(sum, add)
}

/// A read of which all bytes are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownRead {
    /// Which part.
    pub part: u16,
    /// First byte in it.
    pub offset: u64,
    /// Length in bytes, up to the end of the part.
    pub len: u32,
    /// As [`sum_of_blocks`] gives it, added to 0.
    pub sum: u64,
}

/// What has been checked so far, and with what result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckCounts {
    /// Bytes that were compared with what is known.
    pub checked_bytes: u64,
    /// Bytes that were read for the first time, and became known.
    pub learned_bytes: u64,
    /// Time spent on both, in nanoseconds.
    pub ns: u64,
    /// Reads that brought other bytes than are known.
    pub wrong: u64,
}

/// Threads that do the same work at the same time, each its share.
pub trait Team {
    /// Calls `work` once on each thread, the caller's among them, with the thread's number
    /// and how many there are, and returns when all calls have returned.
    fn all(&self, work: &(dyn Fn(usize, usize) + Sync));
}

/// The medium inside, and its hashes.
pub struct Checked<M> {
    inner: M,
    memory: Arc<Memory>,
    /// None: nothing is checked.
    checks: Option<Checks>,
    team: Option<Rc<dyn Team>>,
    /// Room for the hashes of one read.
    hashes: Vec<AtomicU64>,
    /// Part and offset of the reads under way, by their id.
    asked: HashMap<u64, (u16, u64)>,
    /// Completions that were not checked yet.
    arrived: VecDeque<Completion>,
    come: Vec<Completion>,
    /// First byte and sum of reads of which only the beginning has come, by where in memory
    /// they end.
    begun: HashMap<u64, (u64, u64)>,
    counts: CheckCounts,
    events: Vec<MediumEvent>,
}

impl<M: Medium> Checked<M> {
    /// Checks what `inner` reads into `memory`; without checks all is passed on as it is.
    pub fn new(inner: M, memory: Arc<Memory>, checks: Option<Checks>) -> Self {
        Self {
            inner,
            memory,
            checks,
            team: None,
            hashes: Vec::new(),
            asked: HashMap::new(),
            arrived: VecDeque::new(),
            come: Vec::new(),
            begun: HashMap::new(),
            counts: CheckCounts::default(),
            events: Vec::new(),
        }
    }

    /// Hashes large reads with a team of threads instead of one.
    #[must_use]
    pub fn with_team(self, team: Option<Rc<dyn Team>>) -> Self {
        Self { team, ..self }
    }

    /// The medium inside.
    pub fn inner_mut(&mut self) -> &mut M {
        &mut self.inner
    }

    /// What is known of `len` bytes at `offset` of a part; none unless all of them are.
    pub fn known(&self, part: u16, offset: u64, len: u64) -> Option<KnownRead> {
        let checks = self.checks.as_ref()?;
        let to_end = checks.part_lens[usize::from(part)].saturating_sub(offset);
        let read = |sum| KnownRead {
            part,
            offset,
            len: len.min(to_end) as u32,
            sum,
        };
        let whole = checks.wholes.get(&(part, offset));
        if let Some(whole) = whole.filter(|whole| u64::from(whole.len) == len) {
            return whole.sum.map(read);
        }
        let blocks = offset / CHECK_BLOCK..(offset + len.min(to_end)).div_ceil(CHECK_BLOCK);
        let mut ranges = checks.scattered.iter().filter(|s| s.part == part);
        let range = ranges.find(|s| s.blocks.contains(&blocks.start))?;
        let from = (blocks.start - range.blocks.start) as usize;
        let hashes = range
            .hashes
            .get(from..from + (blocks.end - blocks.start) as usize)?;
        let all = hashes.iter().all(|&hash| hash != 0);
        all.then(|| read(hashes.iter().copied().zip(blocks).fold(0, add)))
    }

    /// What has been checked so far.
    pub fn counts(&self) -> CheckCounts {
        self.counts
    }

    fn check(&mut self, done: &mut Completion) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        let Some((part, offset)) = self.asked.remove(&done.id) else {
            return;
        };
        let Ok(got) = done.result else { return };
        let len = done.buffer.len();
        let to_end = checks.part_lens[usize::from(part)].saturating_sub(offset);
        let expected = to_end.min(u64::from(len)) as u32;
        // Of a short read only whole blocks count; the rest is read again.
        let (come, whole) = match got >= expected {
            true => (expected, true),
            false => (got - got % BLOCK as u32, false),
        };
        let start = Instant::now();
        let at = done.buffer.at();
        let read = Read {
            memory: &self.memory,
            hash: checks.hash,
            at,
            offset,
            len: come,
        };
        read.hash_blocks(self.team.as_deref(), &mut self.hashes);
        let hashes = read.numbered(&self.hashes);
        let end = at + u64::from(len);
        let counts = &mut self.counts;
        let right = match checks.whole(part, offset, len, self.begun.remove(&end)) {
            Some((known, first, sum)) => {
                let new = hashes.fold(sum, add);
                counts.learned_bytes += u64::from(known.sum.map_or(come, |_| 0));
                counts.checked_bytes += u64::from(known.sum.map_or(0, |_| come));
                let right = !whole || *known.sum.get_or_insert(new) == new;
                if !whole || !right {
                    let sum = if whole { sum } else { new };
                    self.begun.insert(end, (first, sum));
                }
                right
            }
            None => checks.blocks(part, offset, hashes, counts),
        };
        counts.ns += start.elapsed().as_nanos() as u64;
        if !right {
            counts.wrong += 1;
            let asked = Asked {
                verb: Verb::Read,
                offset,
                len,
            };
            let wrong = "other bytes came than are known of this place: the drive or its cable \
                         is failing, or the file is not the one that was sealed or read first";
            let error = MediumError::failed(
                format!("part {part}"),
                asked,
                io::Error::new(io::ErrorKind::InvalidData, wrong),
            );
            if counts.wrong <= TOLD {
                self.events.push(MediumEvent {
                    class: EventClass::Fallback,
                    message: format!("{error}; it is read again"),
                });
            }
            done.result = Err(error);
        }
    }
}

impl Checks {
    /// The whole that a read belongs to, its offset in the part, and the sum of its blocks
    /// before this read; none for bytes that are known by block.
    fn whole(
        &mut self,
        part: u16,
        offset: u64,
        len: u32,
        begun: Option<(u64, u64)>,
    ) -> Option<(&mut Whole, u64, u64)> {
        let same = |whole: &Whole| whole.len == len;
        let (first, sum) = match self.wholes.get(&(part, offset)).is_some_and(same) {
            true => (offset, 0),
            false => begun?,
        };
        let whole = self.wholes.get_mut(&(part, first))?;
        let is_rest = first + u64::from(whole.len) == offset + u64::from(len);
        is_rest.then_some((whole, first, sum))
    }

    /// Compares each block with its known hash, or learns it; whether all were right.
    fn blocks(
        &mut self,
        part: u16,
        offset: u64,
        hashes: impl Iterator<Item = (u64, u64)>,
        counts: &mut CheckCounts,
    ) -> bool {
        let first = offset / CHECK_BLOCK;
        let at = self
            .scattered
            .partition_point(|s| (s.part, s.blocks.end) <= (part, first));
        let mut ranges = self.scattered[at..].iter_mut().filter(|s| s.part == part);
        let Some(mut range) = ranges.next() else {
            return true;
        };
        let mut right = true;
        for (hash, block) in hashes {
            while block >= range.blocks.end {
                match ranges.next() {
                    Some(next) => range = next,
                    None => return right,
                }
            }
            if block < range.blocks.start {
                continue;
            }
            let known = &mut range.hashes[(block - range.blocks.start) as usize];
            if *known == 0 {
                *known = hash;
                counts.learned_bytes += CHECK_BLOCK;
            } else {
                right &= *known == hash;
                counts.checked_bytes += CHECK_BLOCK;
            }
        }
        right
    }
}

/// Bytes that have come.
struct Read<'a> {
    memory: &'a Memory,
    hash: fn(&[u8]) -> u64,
    /// Where in memory.
    at: u64,
    /// Where in the part.
    offset: u64,
    len: u32,
}

impl Read<'_> {
    /// The number of its blocks.
    fn blocks(&self) -> usize {
        (self.len as usize).div_ceil(BLOCK)
    }

    /// Hashes all blocks into the beginning of `hashes`.
    fn hash_blocks(&self, team: Option<&dyn Team>, hashes: &mut Vec<AtomicU64>) {
        let blocks = self.blocks();
        if hashes.len() < blocks {
            hashes.resize_with(blocks, AtomicU64::default);
        }
        let hashes = &hashes[..blocks];
        match team.filter(|_| self.len >= SHARED) {
            Some(team) => team.all(&|thread, threads| {
                let share = blocks * thread / threads..blocks * (thread + 1) / threads;
                self.hash_share(share.start, &hashes[share]);
            }),
            None => self.hash_share(0, hashes),
        }
    }

    /// Hashes as many blocks as `hashes` has room for, the first of them block `first`.
    fn hash_share(&self, first: usize, hashes: &[AtomicU64]) {
        let mut bytes = [0; BLOCK];
        let end = self.at + u64::from(self.len);
        for (block, out) in (first..).zip(hashes) {
            let at = self.at + (block * BLOCK) as u64;
            let bytes = &mut bytes[..BLOCK.min((end - at) as usize)];
            // Two blocks ahead hashing is a fifth faster where it waits for memory.
            let ahead = at + 2 * BLOCK as u64;
            self.memory.prefetch(ahead..end.min(ahead + BLOCK as u64));
            self.memory.copy_out(at, bytes);
            out.store(nonzero((self.hash)(bytes)), Ordering::Relaxed);
        }
    }

    /// The hashes, each with the number of its block in the part.
    fn numbered<'a>(&self, hashes: &'a [AtomicU64]) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let hashes = hashes[..self.blocks()].iter();
        let hashes = hashes.map(|hash| hash.load(Ordering::Relaxed));
        hashes.zip(self.offset / CHECK_BLOCK..)
    }
}

impl<M: Medium> Medium for Checked<M> {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn submit(&mut self, op: Op) {
        if self.checks.is_some() && op.verb == Verb::Read {
            self.asked.insert(op.id, (op.part, op.offset));
        }
        self.inner.submit(op);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        if self.checks.is_none() {
            return self.inner.poll(wait, done);
        }
        // A few at a time: the caller replaces them by new operations, so that the medium is
        // busy while the rest is hashed.
        self.inner
            .poll(wait && self.arrived.is_empty(), &mut self.come);
        self.arrived.extend(self.come.drain(..));
        let mut bytes = 0;
        while bytes < AT_ONCE
            && let Some(mut next) = self.arrived.pop_front()
        {
            bytes += next.buffer.len();
            self.check(&mut next);
            done.push(next);
        }
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.inner.events(out);
        out.append(&mut self.events);
    }
}
