//! Reference for other policies: Belady's, which knows the whole trace, and a lower
//! bound of the bytes that any policy reads.
//!
//! Evicting the item used again latest, and not admitting one used later than all
//! that are kept, misses least where all items have one length (Belady, "A
//! study of replacement algorithms for a virtual-storage computer", 1966). With
//! different lengths, or batches whose items cannot be evicted while they are in
//! use, it is good but not optimal. It is optimal if parts of items can be kept and
//! dropped as soon as they have been used, which gives the lower bound.

use super::Policy;
use crate::replay::Trace;
use crate::types::ExtentId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// The batch of an item that is not used again.
const NEVER: u64 = u64::MAX;

/// Evicts the item used again latest. Valid only for the trace it was made from. A
/// touch takes time logarithmic in the number of kept items.
#[derive(Clone, Debug)]
pub struct Belady {
    uses: Uses,
    kept: BTreeSet<(u64, ExtentId)>,
}

impl Belady {
    /// For `trace`, from its beginning.
    pub fn new(trace: &Trace) -> Self {
        Self {
            uses: Uses::new(trace),
            kept: BTreeSet::new(),
        }
    }

    /// The item used again latest of those not in use, and the batch that uses it.
    fn latest(&self, in_use: &HashSet<ExtentId>) -> Option<(u64, ExtentId)> {
        let mut latest = self.kept.iter().rev();
        latest.find(|(_, item)| !in_use.contains(item)).copied()
    }
}

impl Policy for Belady {
    fn touch(&mut self, item: ExtentId) {
        let was_kept = self.kept.remove(&(self.uses.next(item), item));
        self.uses.pass(item);
        if was_kept {
            self.kept.insert((self.uses.next(item), item));
        }
    }

    fn keep(&mut self, item: ExtentId) {
        self.kept.insert((self.uses.next(item), item));
    }

    fn victim(&mut self, newcomer: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let last = self.latest(in_use)?;
        if last.0 <= self.uses.next(newcomer) {
            return None;
        }
        self.kept.remove(&last);
        Some(last.1)
    }

    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let last = self.latest(in_use)?;
        self.kept.remove(&last);
        Some(last.1)
    }
}

/// By item: the batches to come that use it.
#[derive(Clone, Debug)]
struct Uses(HashMap<ExtentId, VecDeque<u64>>);

impl Uses {
    fn new(trace: &Trace) -> Self {
        let mut uses: HashMap<ExtentId, VecDeque<u64>> = HashMap::new();
        for (at, batch) in (0..).zip(&trace.batches) {
            for &item in batch {
                let ahead = uses.entry(item).or_default();
                if ahead.back() != Some(&at) {
                    ahead.push_back(at);
                }
            }
        }
        Self(uses)
    }

    /// The next batch that uses the item.
    fn next(&self, item: ExtentId) -> u64 {
        let ahead = self.0.get(&item).and_then(VecDeque::front);
        ahead.copied().unwrap_or(NEVER)
    }

    fn pass(&mut self, item: ExtentId) {
        if let Some(ahead) = self.0.get_mut(&item) {
            ahead.pop_front();
        }
    }
}

/// The fewest bytes that a memory of `capacity` bytes has to read for a trace: no
/// policy reads less, even one that knows the whole trace and keeps parts of items.
/// What a batch uses need not be in that memory. All bytes used again in the same
/// batch are worth the same, so evicting those used again latest, byte by byte, is
/// optimal.
pub fn least_read_bytes(trace: &Trace, capacity: u64) -> u64 {
    let mut uses = Uses::new(trace);
    // Bytes kept of each item, by the next batch that uses it.
    let mut kept: BTreeMap<(u64, ExtentId), u64> = BTreeMap::new();
    let (mut used, mut read) = (0, 0);
    for batch in &trace.batches {
        let mut seen = HashSet::new();
        let distinct = batch.iter().filter(|item| seen.insert(**item));
        let items: Vec<ExtentId> = distinct.copied().collect();
        for &item in &items {
            let here = kept.remove(&(uses.next(item), item)).unwrap_or(0);
            used -= here;
            read += trace.len_of(item) - here;
        }
        for &item in &items {
            uses.pass(item);
            if uses.next(item) != NEVER {
                kept.insert((uses.next(item), item), trace.len_of(item));
                used += trace.len_of(item);
            }
        }
        while used > capacity
            && let Some(mut last) = kept.last_entry()
        {
            let less = (*last.get()).min(used - capacity);
            *last.get_mut() -= less;
            used -= less;
            if *last.get() == 0 {
                last.remove();
            }
        }
    }
    read
}
