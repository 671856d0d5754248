//! Policies to compare with: whatever ranks lowest goes, of a chain the end first.

use std::collections::BTreeSet;

use super::Shelf;
use super::trace::Use;

/// Rank, nearness to the beginning, number: the first goes first.
type Order = (u64, u32, u32);

/// Blocks ranked by their last use alone.
pub(super) struct Rival<F> {
    size: u64,
    tokens: u64,
    rank: F,
    order: BTreeSet<Order>,
    /// By block: where it is in the order, and its tokens.
    kept: Vec<Option<(Order, u32)>>,
}

impl<F: Fn(&Use) -> u64> Rival<F> {
    /// With room for `size` tokens of `blocks` different blocks.
    pub fn new(size: u64, blocks: usize, rank: F) -> Self {
        Self {
            size,
            tokens: 0,
            rank,
            order: BTreeSet::new(),
            kept: vec![None; blocks],
        }
    }

    fn order(&self, used: &Use) -> Order {
        ((self.rank)(used), u32::MAX - used.depth, used.block)
    }

    fn insert(&mut self, order: Order, tokens: u32) {
        self.order.insert(order);
        self.kept[order.2 as usize] = Some((order, tokens));
        self.tokens += u64::from(tokens);
    }

    fn remove(&mut self, block: u32) {
        if let Some((order, tokens)) = self.kept[block as usize].take() {
            self.order.remove(&order);
            self.tokens -= u64::from(tokens);
        }
    }
}

impl<F: Fn(&Use) -> u64> Shelf for Rival<F> {
    fn has(&self, block: u32) -> bool {
        self.kept[block as usize].is_some()
    }

    fn touch(&mut self, used: &Use) {
        self.remove(used.block);
        self.insert(self.order(used), used.tokens);
    }

    fn put(&mut self, used: &Use) -> Option<u64> {
        let (order, needed) = (self.order(used), u64::from(used.tokens));
        // First those that would go, so that nothing goes for what is not kept.
        let (mut gone, mut free) = (Vec::new(), self.size.checked_sub(self.tokens)?);
        let mut lowest = self.order.iter();
        while free < needed {
            let &lower = lowest.next().filter(|&&lower| lower < order)?;
            free += self.kept[lower.2 as usize].map_or(0, |(_, tokens)| u64::from(tokens));
            gone.push(lower.2);
        }
        for &block in &gone {
            self.remove(block);
        }
        self.insert(order, used.tokens);
        Some(gone.len() as u64)
    }

    fn tokens(&self) -> u64 {
        self.tokens
    }
}
