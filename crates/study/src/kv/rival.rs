//! Policies to compare with: the block that ranks lowest goes first, of a chain the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::trace::UnitUse;
use super::{KvRow, Shelf};

/// Entries of the order that may be out of date before it is tidied.
const OUTDATED: usize = 1024;

/// Rank, nearness to the beginning, unit: the first goes first.
type Order = (u64, u32, u32);

/// Units ranked by their last use alone. Of a unit the blocks go from the last to the first,
/// and because all of a chain is used together, none of a unit stays whose first has gone.
pub(super) struct Rival<F> {
    size: u64,
    tokens: u64,
    rank: F,
    /// The last block of each unit, the lowest on top. Where the unit was used since, or has
    /// another last block, an entry is no longer true and is passed over when it comes up.
    order: BinaryHeap<Reverse<Order>>,
    kept: Vec<KeptUnit>,
    /// How many units have blocks here.
    units: usize,
}

/// What is here of a unit.
#[derive(Clone, Copy, Default)]
struct KeptUnit {
    rank: u64,
    /// Position of its first token.
    depth: u32,
    /// Blocks that are here, from the first on.
    blocks: u32,
    /// Tokens of each.
    tokens: u32,
}

impl KeptUnit {
    /// Where its last block is in the order.
    fn order(&self, unit: u32) -> Order {
        let last = self.depth + (self.blocks - 1) * self.tokens;
        (self.rank, u32::MAX - last, unit)
    }
}

impl<F: Fn(&UnitUse) -> u64> Rival<F> {
    /// With room for `size` tokens of `units` different units.
    pub fn new(size: u64, units: usize, rank: F) -> Self {
        Self {
            size,
            tokens: 0,
            rank,
            order: BinaryHeap::new(),
            kept: vec![KeptUnit::default(); units],
            units: 0,
        }
    }

    fn line_up(&mut self, unit: u32) {
        if self.order.len() > 2 * self.units + OUTDATED {
            self.order
                .retain(|&Reverse(order)| is_true(&self.kept, order));
        }
        let order = self.kept[unit as usize].order(unit);
        self.order.push(Reverse(order));
    }

    /// Takes out the lowest block, if it is below `order`: its unit.
    fn lowest_below(&mut self, order: Order) -> Option<u32> {
        while let Some(mut top) = self.order.peek_mut() {
            let Reverse(lowest) = *top;
            if !is_true(&self.kept, lowest) {
                PeekMut::pop(top);
                continue;
            }
            if lowest >= order {
                break;
            }
            let unit = lowest.2;
            let kept = &mut self.kept[unit as usize];
            kept.blocks -= 1;
            match kept.blocks {
                0 => {
                    self.units -= 1;
                    PeekMut::pop(top);
                }
                _ => *top = Reverse(kept.order(unit)),
            }
            self.tokens -= u64::from(kept.tokens);
            return Some(unit);
        }
        None
    }

    /// Puts back a block that was taken out.
    fn put_back(&mut self, unit: u32) {
        let kept = &mut self.kept[unit as usize];
        self.units += usize::from(kept.blocks == 0);
        kept.blocks += 1;
        self.tokens += u64::from(kept.tokens);
        self.line_up(unit);
    }

    /// Makes room for a block at that place of the order: how many go for it, or none, and
    /// then none goes, where those that rank lower are not enough.
    fn make_room(&mut self, tokens: u64, order: Order) -> Option<u64> {
        let mut gone = Vec::new();
        while self.tokens + tokens > self.size {
            let Some(unit) = self.lowest_below(order) else {
                gone.into_iter().rev().for_each(|unit| self.put_back(unit));
                return None;
            };
            gone.push(unit);
        }
        Some(gone.len() as u64)
    }
}

/// Whether that is where the last block of its unit is in the order.
fn is_true(kept: &[KeptUnit], order: Order) -> bool {
    let unit = &kept[order.2 as usize];
    unit.blocks > 0 && unit.order(order.2) == order
}

impl<F: Fn(&UnitUse) -> u64> Shelf for Rival<F> {
    fn found(&mut self, used: &UnitUse) -> u32 {
        let rank = (self.rank)(used);
        let kept = &mut self.kept[used.unit as usize];
        let found = kept.blocks;
        if found > 0 {
            kept.rank = rank;
            self.line_up(used.unit);
        }
        found
    }

    fn put(&mut self, used: &UnitUse, row: &mut KvRow) {
        let rank = (self.rank)(used);
        let (unit, tokens) = (used.unit, u64::from(used.tokens));
        let here = self.kept[unit as usize].blocks;
        for index in here..used.blocks {
            let wanted = KeptUnit {
                rank,
                depth: used.depth,
                blocks: index + 1,
                tokens: used.tokens,
            };
            // Those behind it rank lower still.
            let Some(gone) = self.make_room(tokens, wanted.order(unit)) else {
                break;
            };
            self.units += usize::from(index == 0);
            self.kept[unit as usize] = wanted;
            self.tokens += tokens;
            row.put(tokens, gone, self.tokens);
        }
        if self.kept[unit as usize].blocks > here {
            self.line_up(unit);
        }
    }
}
