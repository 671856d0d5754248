//! S3-FIFO: an item used again while it passes through a small queue, or soon after
//! it has left it, goes on to the main queue (Yang et al., "FIFO queues are all you
//! need for cache eviction", SOSP 2023).

use super::Policy;
use crate::types::ExtentId;
use std::collections::{HashMap, HashSet, VecDeque};

/// Maximum count of an item's uses.
const USES_MAX: u8 = 3;

/// Small and main queue. Amortized constant time, except that [`Policy::keep`]
/// searches the items remembered.
#[derive(Clone, Debug)]
pub struct S3Fifo {
    /// From this length on, the small queue evicts rather than the main queue.
    small_len: usize,
    /// Maximum length of `ghosts`.
    remembered: usize,
    small: VecDeque<ExtentId>,
    main: VecDeque<ExtentId>,
    /// Items evicted from the small queue.
    ghosts: VecDeque<ExtentId>,
    /// By kept item: uses since it arrived or last reached the end of its queue.
    uses: HashMap<ExtentId, u8>,
}

impl S3Fifo {
    /// For `capacity` kept items, a tenth of them in the small queue.
    pub fn new(capacity: usize) -> Self {
        Self {
            small_len: (capacity / 10).max(1),
            remembered: capacity - capacity / 10,
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            uses: HashMap::new(),
        }
    }

    fn uses(&self, item: ExtentId) -> u8 {
        self.uses.get(&item).copied().unwrap_or(0)
    }

    /// Evicts the item at the end of the small queue, or moves it to the main queue.
    fn leave_small(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let item = self.small.pop_front()?;
        if self.uses(item) > 0 || in_use.contains(&item) {
            self.uses.insert(item, 0);
            self.main.push_back(item);
            return None;
        }
        self.ghosts.push_back(item);
        if self.ghosts.len() > self.remembered {
            self.ghosts.pop_front();
        }
        Some(item)
    }

    /// Evicts the item at the end of the main queue, or moves it back to the start.
    fn leave_main(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let item = self.main.pop_front()?;
        let uses = self.uses(item);
        if uses > 0 || in_use.contains(&item) {
            self.uses.insert(item, uses.saturating_sub(1));
            self.main.push_back(item);
            return None;
        }
        Some(item)
    }
}

impl Policy for S3Fifo {
    fn touch(&mut self, item: ExtentId) {
        if let Some(uses) = self.uses.get_mut(&item) {
            *uses = (*uses + 1).min(USES_MAX);
        }
    }

    fn keep(&mut self, item: ExtentId) {
        if self.uses.insert(item, 0).is_some() {
            return;
        }
        match self.ghosts.iter().position(|ghost| *ghost == item) {
            Some(at) => {
                self.ghosts.remove(at);
                self.main.push_back(item);
            }
            None => self.small.push_back(item),
        }
    }

    fn victim(&mut self, _: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        self.evict(in_use)
    }

    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let kept = self.small.len() + self.main.len();
        if self.uses.keys().all(|item| in_use.contains(item)) {
            return None;
        }
        // Each item changes queues at most once, and then goes round until its count is 0.
        for _ in 0..kept * (usize::from(USES_MAX) + 2) {
            let gone = match self.small.len() >= self.small_len || self.main.is_empty() {
                true => self.leave_small(in_use),
                false => self.leave_main(in_use),
            };
            if let Some(item) = gone {
                self.uses.remove(&item);
                return Some(item);
            }
        }
        None
    }
}
