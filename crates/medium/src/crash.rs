//! A medium that loses power: what a sync has settled is found afterwards, and every
//! sector that was written since is found in any of its states. It does not know who
//! relies on what.

use crate::refuse::refusal;
use crate::{Memory, Rng};
use delayline_line::{
    Alignment, Caps, Completion, Durability, Medium, MediumError, MediumEvent, Op, Stats, Verb,
};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in memory behind a write cache that a power cut empties in part. What is
/// submitted completes at the next poll, in order; a [`Faulty`](crate::Faulty) around it
/// delays and reorders.
///
/// A write is torn at the borders of sectors: from its submission on, each of its
/// sectors may have arrived or not, whatever the others did. A sync, once it has
/// completed, has settled the writes that had completed when it was submitted, and no
/// others.
pub struct Crash {
    memory: Arc<Memory>,
    caps: Caps,
    stats: Stats,
    lens: Vec<u64>,
    sector: usize,
    /// What is certainly found after a power cut, where nothing is unsettled.
    settled: Vec<Vec<u8>>,
    /// What reads find.
    current: Vec<Vec<u8>>,
    /// By part and number of the sector: what was written there since, in order of
    /// submission.
    unsettled: BTreeMap<(u16, u64), Vec<Version>>,
    queue: VecDeque<Queued>,
    /// Writes submitted, and completions of writes, so far.
    submitted: u64,
    completed: u64,
    has_power: bool,
}

/// One write's bytes of one sector.
struct Version {
    write: u64,
    /// The number of its completion among those of writes; none while it is under way.
    completed: Option<u64>,
    bytes: Vec<u8>,
}

struct Queued {
    op: Op,
    /// A write's number; for a sync how many writes had completed before it.
    number: u64,
}

impl Crash {
    /// A medium with the bytes of each part, all settled, in sectors of `sector`
    /// bytes, for `depth` operations on `memory` at once.
    ///
    /// # Panics
    /// When `sector` is 0.
    pub fn new(parts: Vec<Vec<u8>>, memory: Arc<Memory>, depth: usize, sector: u32) -> Self {
        assert!(sector > 0, "a sector needs a byte");
        Self {
            memory,
            caps: Caps {
                depth,
                align: Alignment::all(1),
                writable: true,
                durability: Durability::Synced,
                ..Caps::default()
            },
            stats: Stats::default(),
            lens: parts.iter().map(|part| part.len() as u64).collect(),
            sector: sector as usize,
            current: parts.clone(),
            settled: parts,
            unsettled: BTreeMap::new(),
            queue: VecDeque::new(),
            submitted: 0,
            completed: 0,
            has_power: true,
        }
    }

    /// For each sector that is not settled, in how many states a power cut at this
    /// moment may leave it: as it was settled, or as any write since then made it.
    pub fn states(&self) -> Vec<usize> {
        let versions = self.unsettled.values();
        versions.map(|versions| versions.len() + 1).collect()
    }

    /// The parts as a power cut at this moment leaves them, for a new medium to be
    /// opened with. `choose` is given the number of states of each sector that is not
    /// settled, as in [`Crash::states`], and returns which of them is found, 0 for the
    /// settled one.
    ///
    /// # Panics
    /// When `choose` returns that number or more.
    pub fn survivor(&self, mut choose: impl FnMut(usize) -> usize) -> Vec<Vec<u8>> {
        let mut parts = self.settled.clone();
        for (&(part, sector), versions) in &self.unsettled {
            let state = choose(versions.len() + 1);
            if let Some(version) = state.checked_sub(1) {
                let bytes = &versions[version].bytes;
                let range = self.range(part, sector);
                parts[usize::from(part)][range].copy_from_slice(bytes);
            }
        }
        parts
    }

    /// As [`Crash::survivor`], with states chosen at random.
    pub fn survivor_by_chance(&self, rng: &mut Rng) -> Vec<Vec<u8>> {
        self.survivor(|states| rng.below(states as u64) as usize)
    }

    /// Cuts the power: operations under way and all later ones fail, and what survives
    /// changes no more.
    pub fn cut(&mut self) {
        self.has_power = false;
    }

    /// Where a sector lies in its part.
    fn range(&self, part: u16, sector: u64) -> Range<usize> {
        let start = sector as usize * self.sector;
        start..(start + self.sector).min(self.current[usize::from(part)].len())
    }

    /// Records what a power cut may leave of a write from its submission on.
    fn begin_write(&mut self, op: &Op) {
        self.submitted += 1;
        let mut bytes = vec![0; op.buffer.len() as usize];
        self.memory.copy_out(op.buffer.at(), &mut bytes);
        let (start, end) = (op.offset as usize, op.offset as usize + bytes.len());
        for sector in start / self.sector..end.div_ceil(self.sector) {
            let range = self.range(op.part, sector as u64);
            // The rest of the sector is as it is now.
            let mut whole = self.current[usize::from(op.part)][range.clone()].to_vec();
            let (from, to) = (range.start.max(start), range.end.min(end));
            whole[from - range.start..to - range.start]
                .copy_from_slice(&bytes[from - start..to - start]);
            let versions = self.unsettled.entry((op.part, sector as u64));
            versions.or_default().push(Version {
                write: self.submitted,
                completed: None,
                bytes: whole,
            });
        }
    }

    fn end_write(&mut self, op: &Op, number: u64) {
        self.completed += 1;
        let (start, len) = (op.offset as usize, op.buffer.len() as usize);
        let into = &mut self.current[usize::from(op.part)][start..start + len];
        self.memory.copy_out(op.buffer.at(), into);
        for sector in start / self.sector..(start + len).div_ceil(self.sector) {
            let range = self.range(op.part, sector as u64);
            let versions = self.unsettled.get_mut(&(op.part, sector as u64));
            let versions = versions.into_iter().flatten();
            for version in versions.filter(|version| version.write == number) {
                version.completed = Some(self.completed);
                // With what other writes have made of the rest of the sector meanwhile.
                let now = &self.current[usize::from(op.part)][range.clone()];
                version.bytes.copy_from_slice(now);
            }
        }
    }

    /// Settles the writes to a part that were the first `upto` to complete.
    fn settle(&mut self, part: u16, upto: u64) {
        let all = (part, 0)..=(part, u64::MAX);
        let sectors: Vec<u64> = self.unsettled.range(all).map(|(key, _)| key.1).collect();
        for sector in sectors {
            let range = self.range(part, sector);
            let versions = self
                .unsettled
                .get_mut(&(part, sector))
                .expect("of the list");
            let settled = |version: &Version| version.completed.is_some_and(|at| at <= upto);
            let last = versions.iter().filter(|version| settled(version));
            if let Some(last) = last.max_by_key(|version| version.completed) {
                self.settled[usize::from(part)][range].copy_from_slice(&last.bytes);
            }
            versions.retain(|version| !settled(version));
            if versions.is_empty() {
                self.unsettled.remove(&(part, sector));
            }
        }
    }

    fn perform(&mut self, Queued { op, number }: &Queued) -> Result<u32, MediumError> {
        if !self.has_power {
            let source = io::Error::other("the power has failed");
            return Err(MediumError::gone("crash", source));
        }
        if let Some(error) = refusal(|| "crash".into(), &self.lens, true, op) {
            return Err(error);
        }
        let len = match op.verb {
            Verb::Read => {
                let part = &self.current[usize::from(op.part)];
                let start = part.len().min(op.offset as usize);
                let end = part.len().min(start + op.buffer.len() as usize);
                self.memory.copy_in(op.buffer.at(), &part[start..end]);
                (end - start) as u32
            }
            Verb::Write => {
                self.end_write(op, *number);
                op.buffer.len()
            }
            Verb::Sync => {
                self.settle(op.part, *number);
                0
            }
        };
        Ok(len)
    }
}

impl Medium for Crash {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert!(
            self.queue.len() < self.caps.depth,
            "more than {} operations under way",
            self.caps.depth
        );
        self.memory.check_owns(&op.buffer);
        let sound = self.has_power && refusal(String::new, &self.lens, true, &op).is_none();
        if op.verb == Verb::Write && sound {
            self.begin_write(&op);
        }
        let number = match op.verb {
            Verb::Sync => self.completed,
            _ => self.submitted,
        };
        self.queue.push_back(Queued { op, number });
    }

    fn poll(&mut self, _wait: bool, done: &mut Vec<Completion>) {
        while let Some(queued) = self.queue.pop_front() {
            let result = self.perform(&queued);
            self.stats.count(queued.op.verb, &result);
            done.push(queued.op.complete(result));
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, _: &mut Vec<MediumEvent>) {}
}
