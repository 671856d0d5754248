//! A cache of whole items under a policy, and what it would have done for a
//! recorded trace. Knows lengths and the capacity; does not know why an item
//! stays, nor where its bytes are.

use crate::policy::Policy;
use crate::types::ExtentId;
use std::collections::{HashMap, HashSet};

/// What was used, in order, by batches: the rows of a mini-batch, the experts of
/// a layer, or a single item each. A batch needs all its items at once; one that
/// it names twice is used once.
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

/// What became of a batch; each item of it is in one of the first three lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Were in memory.
    pub hits: Vec<ExtentId>,
    /// Were missing, and stay from now on.
    pub admitted: Vec<ExtentId>,
    /// Were missing, and are not kept.
    pub passed: Vec<ExtentId>,
    /// Given up for those that were admitted.
    pub evicted: Vec<ExtentId>,
}

/// A memory for whole items, of which `policy` says which stay.
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

    /// Uses the items of a batch, each with its length in bytes. What the batch
    /// uses is not given up for it. An item that finds no room passes beside the
    /// memory, and then nothing is given up for it.
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

    /// Gives up what is worth less than the newcomer until it fits; or nothing.
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
    /// What was used, in bytes.
    pub bytes_used: u64,
    /// What was read because it was missing, in bytes.
    pub bytes_read: u64,
    /// What was taken into memory of it, in bytes.
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
