//! Least frequently used, with aging, so that items popular once do not stay for
//! good.
//!
//! The priority of an item is its number of uses while it is kept plus the
//! priority of the last victim when it was last used, as in Greedy-Dual-Size with
//! frequency and a cost in proportion to size (Cherkasova, "Improving WWW proxies
//! performance with Greedy-Dual-Size-Frequency caching policy", HP 1998). Of
//! equals the least recently used goes.

use super::Policy;
use crate::types::ExtentId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Frequency with aging. A touch takes time logarithmic in the number of kept items.
#[derive(Clone, Debug, Default)]
pub struct Frequency {
    now: u64,
    /// Priority of the last victim.
    age: u64,
    kept: HashMap<ExtentId, Standing>,
    by_rank: BTreeMap<(u64, u64), ExtentId>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    uses: u64,
    /// Priority, and when it was last used.
    rank: (u64, u64),
}

impl Frequency {
    fn set(&mut self, item: ExtentId, uses: u64) {
        self.now += 1;
        let rank = (self.age + uses, self.now);
        if let Some(before) = self.kept.insert(item, Standing { uses, rank }) {
            self.by_rank.remove(&before.rank);
        }
        self.by_rank.insert(rank, item);
    }
}

impl Policy for Frequency {
    fn touch(&mut self, item: ExtentId) {
        if let Some(standing) = self.kept.get(&item) {
            self.set(item, standing.uses + 1);
        }
    }

    fn keep(&mut self, item: ExtentId) {
        self.set(item, 1);
    }

    fn victim(&mut self, _: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        self.evict(in_use)
    }

    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let mut least = self
            .by_rank
            .iter()
            .filter(|(_, item)| !in_use.contains(item));
        let (&rank, &item) = least.next()?;
        self.by_rank.remove(&rank);
        self.kept.remove(&item);
        self.age = rank.0;
        Some(item)
    }
}
