//! Least recently used: evicts the item whose last use is longest ago.

use super::Policy;
use crate::types::ExtentId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Least recently used. A touch takes time logarithmic in the number of kept items.
#[derive(Clone, Debug, Default)]
pub struct Lru {
    now: u64,
    /// By kept item: time of its last use. `by_use` is the inverse.
    used: HashMap<ExtentId, u64>,
    by_use: BTreeMap<u64, ExtentId>,
}

impl Lru {
    /// Makes the item the most recent.
    fn renew(&mut self, item: ExtentId) {
        self.now += 1;
        if let Some(before) = self.used.insert(item, self.now) {
            self.by_use.remove(&before);
        }
        self.by_use.insert(self.now, item);
    }
}

impl Policy for Lru {
    fn touch(&mut self, item: ExtentId) {
        if self.used.contains_key(&item) {
            self.renew(item);
        }
    }

    fn keep(&mut self, item: ExtentId) {
        self.renew(item);
    }

    fn victim(&mut self, _: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        self.evict(in_use)
    }

    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let mut oldest = self
            .by_use
            .iter()
            .filter(|(_, item)| !in_use.contains(item));
        let (&used, &item) = oldest.next()?;
        self.by_use.remove(&used);
        self.used.remove(&item);
        Some(item)
    }
}
