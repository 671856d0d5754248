//! First come, first kept: items used first stay for good. On a cycle its hits are in
//! proportion to the memory; least recently used has none there.

use super::Policy;
use crate::types::ExtentId;
use std::collections::HashSet;

/// First come, first kept. Constant time, except that an eviction skips items in use.
#[derive(Clone, Debug, Default)]
pub struct FirstCome {
    /// In order of arrival.
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

    /// The last to arrive goes first, so that the others stay.
    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        let last = self.kept.iter().rposition(|item| !in_use.contains(item))?;
        Some(self.kept.remove(last))
    }
}
