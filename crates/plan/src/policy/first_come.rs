//! First come, stays: what is used first stays for ever. On a cycle that hits in
//! proportion to the memory, which no recency can.

use super::Policy;
use crate::types::ExtentId;
use std::collections::HashSet;

/// First come, stays. Constant time for everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstCome;

impl Policy for FirstCome {
    fn touch(&mut self, _: ExtentId) {}

    fn keep(&mut self, _: ExtentId) {}

    fn victim(&mut self, _: ExtentId, _: &HashSet<ExtentId>) -> Option<ExtentId> {
        None
    }
}
