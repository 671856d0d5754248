//! Which cells of the KV cache slots have in common: pure arithmetic.
//!
//! Two slots share the cells of a common prefix, so one number per pair suffices. Of the
//! three prefixes that three slots share in pairs, the two shortest are equal.

/// The number of cells that each pair of slots shares.
#[derive(Clone, Debug)]
pub struct SharedCells {
    slots: usize,
    worth: usize,
    shared: Vec<usize>,
}

impl SharedCells {
    /// For `slots` slots without shared cells. Fewer than `worth` count as none.
    pub fn new(slots: usize, worth: usize) -> Self {
        Self {
            slots,
            worth,
            shared: vec![0; slots * slots],
        }
    }

    fn shared(&self, a: usize, b: usize) -> usize {
        self.shared[a * self.slots + b]
    }

    fn set(&mut self, a: usize, b: usize, cells: usize) {
        let cells = if cells < self.worth { 0 } else { cells };
        self.shared[a * self.slots + b] = cells;
        self.shared[b * self.slots + a] = cells;
    }

    /// Notes that a slot was cut to its first `cells` cells.
    pub fn cut(&mut self, slot: usize, cells: usize) {
        for other in 0..self.slots {
            self.set(slot, other, self.shared(slot, other).min(cells));
        }
    }

    /// Notes that slot `to` now holds the first `cells` cells of `from`, and nothing else.
    pub fn share(&mut self, from: usize, to: usize, cells: usize) {
        if from == to {
            return self.cut(to, cells);
        }
        for other in (0..self.slots).filter(|&other| other != to) {
            let theirs = match other == from {
                true => cells,
                false => self.shared(from, other).min(cells),
            };
            self.set(to, other, theirs);
        }
    }

    /// Notes that no cells are shared.
    pub fn clear(&mut self) {
        self.shared.fill(0);
    }

    /// Number of different cells in all of `takes`: pairs of a slot and its number of cells.
    pub fn cells(&self, takes: impl Iterator<Item = (usize, usize)> + Clone) -> usize {
        let own = |(at, (slot, cells)): (usize, (usize, usize))| {
            let before = takes.clone().take(at);
            let shared = before.map(|(other, _)| self.shared(slot, other)).max();
            cells - shared.unwrap_or(0)
        };
        takes.clone().enumerate().map(own).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_medium::Rng;
    use std::collections::BTreeSet;

    /// Random operations on slots whose cells are numbered: what slots take together is the
    /// count of different numbers, in whatever order the slots are given.
    #[test]
    fn each_cell_counts_once() {
        const SLOTS: usize = 5;
        let mut rng = Rng::new(delayline_testing::seed());
        let mut shared = SharedCells::new(SLOTS, 1);
        let mut thrifty = SharedCells::new(SLOTS, 4);
        let (mut held, mut next) = (vec![Vec::<u32>::new(); SLOTS], 0);
        for _ in 0..20_000 {
            let pick = |rng: &mut Rng| rng.below(SLOTS as u64) as usize;
            let (from, to) = (pick(&mut rng), pick(&mut rng));
            let cells = rng.below(held[from].len() as u64 + 1) as usize;
            match rng.below(4) {
                0 => {
                    held[from].truncate(cells);
                    shared.cut(from, cells);
                    thrifty.cut(from, cells);
                }
                1 => {
                    held[to] = held[from][..cells].to_vec();
                    shared.share(from, to, cells);
                    thrifty.share(from, to, cells);
                }
                _ if held[to].len() < 12 => {
                    held[to].push(next);
                    next += 1;
                }
                _ => {}
            }
            let mut order: Vec<usize> = (0..SLOTS).filter(|_| rng.chance(0.7)).collect();
            if rng.chance(0.5) {
                order.reverse();
            }
            let all = order.iter().flat_map(|&slot| &held[slot]);
            let different = all.collect::<BTreeSet<_>>().len();
            let takes = order.iter().map(|&slot| (slot, held[slot].len()));
            assert_eq!(shared.cells(takes.clone()), different, "{held:?} {order:?}");
            assert!(thrifty.cells(takes) >= different, "{held:?} {order:?}");
        }
        shared.clear();
        let takes = held.iter().map(Vec::len).enumerate();
        let sum: usize = held.iter().map(Vec::len).sum();
        assert_eq!(shared.cells(takes), sum);
    }
}
