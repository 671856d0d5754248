//! A cache of whole items under a policy, and its replay over a recorded trace. Knows
//! lengths and the capacity; does not know why an item stays or where its bytes are.

use crate::policy::Policy;
use crate::types::ExtentId;
use std::collections::{HashMap, HashSet};

/// Recorded uses in order, by batch: the rows of a mini-batch, the experts of a layer,
/// or single items. A batch needs all its items at once; one that it names twice
/// counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Length of each item in bytes, by its index.
    pub lens: Vec<u64>,
    /// What each batch uses.
    pub batches: Vec<Vec<ExtentId>>,
}

impl Trace {
    /// Batches of one item each.
    pub fn one_by_one(lens: Vec<u64>, items: impl IntoIterator<Item = ExtentId>) -> Self {
        let batches = items.into_iter().map(|item| vec![item]).collect();
        Self { lens, batches }
    }

    /// Length of an item in bytes.
    pub fn len_of(&self, item: ExtentId) -> u64 {
        self.lens[item.index()]
    }
}

/// The outcome of a batch; each of its items is in one of the first three lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Items that were in memory.
    pub hits: Vec<ExtentId>,
    /// Items that were missing and are kept.
    pub admitted: Vec<ExtentId>,
    /// Items that were missing and are not kept.
    pub passed: Vec<ExtentId>,
    /// Items evicted for those admitted.
    pub evicted: Vec<ExtentId>,
}

/// A memory for whole items; a policy decides which stay.
#[derive(Clone, Debug)]
pub struct Cache<P> {
    policy: P,
    capacity: u64,
    used: u64,
    lens: HashMap<ExtentId, u64>,
    visit: Visit,
    in_use: HashSet<ExtentId>,
}

impl<P: Policy> Cache<P> {
    /// An empty one of `capacity` bytes.
    pub fn new(capacity: u64, policy: P) -> Self {
        Self {
            policy,
            capacity,
            used: 0,
            lens: HashMap::new(),
            visit: Visit::default(),
            in_use: HashSet::new(),
        }
    }

    /// Bytes that are kept; never more than the capacity.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Whether an item is kept.
    pub fn holds(&self, item: ExtentId) -> bool {
        self.lens.contains_key(&item)
    }

    /// The policy, to announce what is known of the future.
    pub fn policy_mut(&mut self) -> &mut P {
        &mut self.policy
    }

    /// Uses the items of a batch, each with its length in bytes. Items of the batch are
    /// not evicted for one another. An item for which there is not enough room is not
    /// kept, and nothing is evicted for it.
    pub fn visit(&mut self, batch: impl IntoIterator<Item = (ExtentId, u64)>) -> &Visit {
        self.visit.hits.clear();
        self.visit.admitted.clear();
        self.visit.passed.clear();
        self.visit.evicted.clear();
        self.in_use.clear();
        let mut missing = Vec::new();
        let mut held = 0;
        for (item, len) in batch {
            if !self.in_use.insert(item) {
                continue;
            }
            self.policy.touch(item);
            match self.lens.get(&item) {
                Some(len) => {
                    held += len;
                    self.visit.hits.push(item);
                }
                None => missing.push((item, len)),
            }
        }
        for (item, len) in missing {
            if held + len <= self.capacity && self.make_room(item, len) {
                held += len;
                self.used += len;
                self.lens.insert(item, len);
                self.policy.keep(item);
                self.visit.admitted.push(item);
            } else {
                self.visit.passed.push(item);
            }
        }
        &self.visit
    }

    /// Evicts items worth less than the newcomer until it fits; if it cannot fit, none.
    fn make_room(&mut self, newcomer: ExtentId, len: u64) -> bool {
        let mut free = self.capacity - self.used;
        let first = self.visit.evicted.len();
        while free < len {
            let Some(victim) = self.policy.victim(newcomer, &self.in_use) else {
                for victim in self.visit.evicted.drain(first..) {
                    self.policy.keep(victim);
                }
                return false;
            };
            free += self.lens[&victim];
            self.visit.evicted.push(victim);
        }
        for victim in &self.visit.evicted[first..] {
            self.lens.remove(victim);
        }
        self.used = self.capacity - free;
        true
    }
}

/// What a policy did with a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Uses that found their item in memory.
    pub hits: u64,
    /// Uses that did not.
    pub misses: u64,
    /// Bytes of all items used.
    pub bytes_used: u64,
    /// Bytes of the items that were missing.
    pub bytes_read: u64,
    /// Bytes of the missing items that were kept.
    pub bytes_admitted: u64,
}

impl Replayed {
    /// Share of the uses that were hits.
    pub fn hit_share(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

/// Replays a trace in an empty memory of `capacity` bytes. Before each batch the
/// uses of the `horizon` batches from it on are announced to the policy.
pub fn replay(trace: &Trace, capacity: u64, horizon: usize, policy: impl Policy) -> Replayed {
    let mut cache = Cache::new(capacity, policy);
    let mut sums = Replayed::default();
    let (mut announced, mut at) = (0, 0);
    for index in 0..trace.batches.len() {
        let ahead = (index + horizon).min(trace.batches.len());
        while announced < ahead {
            let distinct: HashSet<&ExtentId> = trace.batches[announced].iter().collect();
            for item in &distinct {
                cache.policy_mut().announce(**item, at);
            }
            // Within a batch there is no order.
            at += distinct.len() as u64;
            announced += 1;
        }
        let batch = trace.batches[index].iter();
        let visit = cache.visit(batch.map(|&item| (item, trace.len_of(item))));
        let bytes = |items: &[ExtentId]| items.iter().map(|&i| trace.len_of(i)).sum::<u64>();
        let admitted = bytes(&visit.admitted);
        let read = admitted + bytes(&visit.passed);
        sums.hits += visit.hits.len() as u64;
        sums.misses += (visit.admitted.len() + visit.passed.len()) as u64;
        sums.bytes_used += read + bytes(&visit.hits);
        sums.bytes_read += read;
        sums.bytes_admitted += admitted;
    }
    sums
}
