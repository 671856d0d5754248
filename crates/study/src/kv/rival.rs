//! Policies to compare with: the block that ranks lowest goes first, of a chain the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Shelf;
use super::trace::Use;

/// Rank, nearness to the beginning, number: the first goes first.
type Order = (u64, u32, u32);

/// Blocks ranked by their last use alone.
pub(super) struct Rival<F> {
    size: u64,
    tokens: u64,
    rank: F,
    /// The lowest on top. Where a block was used since, its entry is no longer true and is
    /// passed over when it comes up.
    order: BinaryHeap<Reverse<Order>>,
    /// By block: where it is in the order, and its tokens; none where it is not kept.
    kept: Vec<Option<(Order, u32)>>,
    blocks: usize,
}

impl<F: Fn(&Use) -> u64> Rival<F> {
    /// With room for `size` tokens of `blocks` different blocks.
    pub fn new(size: u64, blocks: usize, rank: F) -> Self {
        Self {
            size,
            tokens: 0,
            rank,
            order: BinaryHeap::new(),
            kept: vec![None; blocks],
            blocks: 0,
        }
    }

    fn order(&self, used: &Use) -> Order {
        ((self.rank)(used), u32::MAX - used.depth, used.block)
    }

    fn insert(&mut self, order: Order, tokens: u32) {
        if self.order.len() >= 2 * self.blocks + 1024 {
            self.order
                .retain(|&Reverse(order)| is_true(&self.kept, order));
        }
        self.order.push(Reverse(order));
        self.kept[order.2 as usize] = Some((order, tokens));
        self.tokens += u64::from(tokens);
        self.blocks += 1;
    }

    fn remove(&mut self, block: u32) {
        if let Some((_, tokens)) = self.kept[block as usize].take() {
            self.tokens -= u64::from(tokens);
            self.blocks -= 1;
        }
    }

    /// Takes out the lowest, if it is below `order`.
    fn lowest_below(&mut self, order: Order) -> Option<Order> {
        while let Some(&Reverse(lowest)) = self.order.peek() {
            let is_true = is_true(&self.kept, lowest);
            if is_true && lowest >= order {
                break;
            }
            self.order.pop();
            if is_true {
                return Some(lowest);
            }
        }
        None
    }
}

/// Whether that is where its block is in the order.
fn is_true(kept: &[Option<(Order, u32)>], order: Order) -> bool {
    kept[order.2 as usize].is_some_and(|(own, _)| own == order)
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
        while free < needed {
            let Some(lower) = self.lowest_below(order) else {
                self.order.extend(gone.into_iter().map(Reverse));
                return None;
            };
            free += self.kept[lower.2 as usize].map_or(0, |(_, tokens)| u64::from(tokens));
            gone.push(lower);
        }
        for &(_, _, block) in &gone {
            self.remove(block);
        }
        self.insert(order, used.tokens);
        Some(gone.len() as u64)
    }

    fn tokens(&self) -> u64 {
        self.tokens
    }
}
