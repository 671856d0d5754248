//! First come, stays: what is used first stays for ever. On a cycle that hits in
//! proportion to the memory, which no recency can.

use super::Policy;
use crate::types::ExtentId;
use std::collections::HashSet;

/// First come, stays. Constant time for everything, but for what is in use when room
/// has to be made.
#[derive(Clone, Debug, Default)]
pub struct FirstCome {
    /// In the order in which they came.
    kept: Vec<ExtentId>,
}

impl Policy for FirstCome {
    fn touch(&mut self, _: ExtentId) {}

    fn keep(&mut self, item: ExtentId) {
        self.kept.push(item);
    }

    fn victim(&mut self, _: ExtentId, _: &HashSet<ExtentId>) -> Option<ExtentId> {
        None
    }

    /// What came last goes first: it is the one that passes.
    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let last = self.kept.iter().rposition(|item| !in_use.contains(item))?;
        Some(self.kept.remove(last))
    }
}
