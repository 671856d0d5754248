//! The order in which items are expected to be used: that of the last step, or, for
//! activations, the reverse of the order in which they were made. Nothing is expected of
//! the first step. Does not know bytes.

use crate::arena::ItemId;
use delayline_plan::Mode;
use std::collections::BTreeMap;

/// Distance of an item that is not in the expected order, without its age.
const UNKNOWN: u64 = 1 << 40;

/// An item that is used this many uses early or more counts as a deviation.
const NEAR: usize = 96;

/// The expected order of uses.
#[derive(Debug)]
pub(crate) enum Order {
    Recorded(Recorder),
    Reverse(Reverse),
}

impl Order {
    /// Notes that an item is used.
    pub fn used(&mut self, item: ItemId, mode: Mode) {
        match self {
            Self::Recorded(recorder) => recorder.used(item),
            Self::Reverse(reverse) if mode.reads() => reverse.popped(item),
            Self::Reverse(_) => {}
        }
    }

    /// Number of uses before the next use of an item. Items that are not in the expected
    /// order are further away than all others; of these, the least recently used is the
    /// furthest.
    pub fn distance(&self, item: ItemId) -> u64 {
        match self {
            Self::Recorded(recorder) => recorder.distance(item),
            Self::Reverse(reverse) => reverse.distance(item),
        }
    }

    /// Up to `count` next uses with their distances, the nearest first.
    pub fn upcoming(&self, count: usize) -> Vec<(ItemId, u64)> {
        match self {
            Self::Recorded(recorder) => recorder.upcoming(count),
            Self::Reverse(reverse) => reverse.upcoming(count),
        }
    }
}

/// Records the uses of a step and expects the next step to repeat them.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// The uses of the last step.
    known: Vec<ItemId>,
    /// The indices of each item in `known`, ascending.
    positions: Vec<Vec<u32>>,
    /// The index in `known` of the use that is expected next.
    cursor: usize,
    /// The uses of the current step.
    recorded: Vec<ItemId>,
    /// For each item the time of its last use; `now` counts uses.
    last_use: Vec<u64>,
    now: u64,
    /// Number of uses that were not where they were expected.
    pub deviations: u64,
}

impl Recorder {
    fn used(&mut self, item: ItemId) {
        let index = item as usize;
        if index >= self.last_use.len() {
            self.last_use.resize(index + 1, 0);
        }
        self.now += 1;
        self.last_use[index] = self.now;
        let before = self.recorded.last().copied();
        self.recorded.push(item);
        if self.known.is_empty() {
            return;
        }
        match self.next_position(item) {
            Some(at) if at < self.cursor + NEAR => self.cursor = at + 1,
            // Continue at another index of the last step: where the same item was used after
            // the same item.
            _ => {
                self.deviations += 1;
                let follows = |at: &&u32| {
                    let at = **at as usize;
                    at > 0 && Some(self.known[at - 1]) == before
                };
                let places = self.positions.get(index);
                if let Some(at) = places.and_then(|places| places.iter().find(follows)) {
                    self.cursor = *at as usize + 1;
                }
            }
        }
    }

    fn next_position(&self, item: ItemId) -> Option<usize> {
        let places = self.positions.get(item as usize)?;
        let next = places.partition_point(|&at| (at as usize) < self.cursor);
        places.get(next).map(|&at| at as usize)
    }

    fn distance(&self, item: ItemId) -> u64 {
        if let Some(at) = self.next_position(item) {
            return (at - self.cursor) as u64;
        }
        match self.positions.get(item as usize).and_then(|p| p.first()) {
            // Its next use is in the next step.
            Some(&at) => (self.known.len() - self.cursor) as u64 + u64::from(at),
            None => UNKNOWN + self.now - self.last_use.get(item as usize).unwrap_or(&0),
        }
    }

    fn upcoming(&self, count: usize) -> Vec<(ItemId, u64)> {
        let from_here = self.known.iter().skip(self.cursor);
        let again = self.known.iter().take(self.cursor);
        from_here
            .chain(again)
            .take(count)
            .copied()
            .zip(0..)
            .collect()
    }

    /// Ends a step. The next one is expected to repeat its order.
    pub fn end_step(&mut self) {
        if self.recorded.is_empty() {
            return;
        }
        self.known = std::mem::take(&mut self.recorded);
        self.cursor = 0;
        self.positions.iter_mut().for_each(Vec::clear);
        for (at, &item) in self.known.iter().enumerate() {
            let index = item as usize;
            if index >= self.positions.len() {
                self.positions.resize(index + 1, Vec::new());
            }
            self.positions[index].push(at as u32);
        }
    }
}

/// The item that was made last is used first.
#[derive(Debug, Default)]
pub(crate) struct Reverse {
    /// Items by number, in the order in which they were made.
    made: BTreeMap<u64, ItemId>,
    /// The number of each item.
    number: Vec<u64>,
    next: u64,
    /// Items below this number are used next, the highest first. `None` while items are
    /// made.
    below: Option<u64>,
}

impl Reverse {
    /// Notes that an item was made.
    pub fn made(&mut self, item: ItemId) {
        let index = item as usize;
        if index >= self.number.len() {
            self.number.resize(index + 1, 0);
        }
        self.number[index] = self.next;
        self.made.insert(self.next, item);
        self.next += 1;
        self.below = None;
    }

    /// Notes that an item is not used again.
    pub fn gone(&mut self, item: ItemId) {
        self.made.remove(&self.number[item as usize]);
    }

    fn popped(&mut self, item: ItemId) {
        self.below = Some(self.number[item as usize]);
    }

    fn distance(&self, item: ItemId) -> u64 {
        let number = self.number.get(item as usize).copied().unwrap_or(0);
        match self.below {
            None => self.next - number,
            Some(below) if number < below => below - 1 - number,
            // Already used, and not removed: used again only if the backward pass is
            // repeated.
            Some(below) => UNKNOWN + number - below,
        }
    }

    fn upcoming(&self, count: usize) -> Vec<(ItemId, u64)> {
        let Some(below) = self.below else {
            return Vec::new();
        };
        let next = self.made.range(..below).rev();
        let next = next.take(count);
        next.map(|(number, &item)| (item, below - 1 - number))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(upcoming: Vec<(ItemId, u64)>) -> Vec<ItemId> {
        upcoming.into_iter().map(|(item, _)| item).collect()
    }

    fn learned(uses: &[ItemId]) -> Recorder {
        let mut recorder = Recorder::default();
        uses.iter().for_each(|&item| recorder.used(item));
        recorder.end_step();
        recorder
    }

    #[test]
    fn a_step_is_expected_as_the_last_one_was() {
        let mut recorder = learned(&[0, 1, 2, 2, 1, 0]);
        assert_eq!(items(recorder.upcoming(4)), [0, 1, 2, 2]);
        recorder.used(0);
        assert_eq!(recorder.distance(0), 4);
        assert_eq!(recorder.distance(1), 0);
        [1, 2, 2, 1, 0].iter().for_each(|&item| recorder.used(item));
        assert_eq!(recorder.distance(2), 2);
        assert_eq!(items(recorder.upcoming(2)), [0, 1]);
        assert_eq!(recorder.deviations, 0);
    }

    #[test]
    fn before_anything_is_known_the_least_recently_used_is_furthest() {
        let mut recorder = Recorder::default();
        [0, 1, 2].iter().for_each(|&item| recorder.used(item));
        assert!(recorder.distance(0) > recorder.distance(1));
        assert!(recorder.distance(1) > recorder.distance(2));
        assert!(recorder.distance(9) > recorder.distance(0));
        assert!(recorder.upcoming(3).is_empty());
    }

    #[test]
    fn the_order_is_found_again_after_a_deviation() {
        let uses: Vec<ItemId> = (0..500).chain((0..500).rev()).collect();
        let mut recorder = learned(&uses);
        for item in 0..100 {
            recorder.used(item);
        }
        // An item that the last step did not use, and then a jump.
        recorder.used(1000);
        assert_eq!(items(recorder.upcoming(1)), [100]);
        recorder.used(400);
        recorder.used(401);
        assert_eq!(items(recorder.upcoming(1)), [402]);
        assert_eq!(recorder.deviations, 3);
    }

    #[test]
    fn activations_come_back_in_reverse() {
        let mut reverse = Reverse::default();
        (0..4).for_each(|item| reverse.made(item));
        assert!(reverse.upcoming(9).is_empty());
        assert!(reverse.distance(0) > reverse.distance(3));
        reverse.popped(3);
        reverse.gone(3);
        reverse.gone(1);
        assert_eq!(items(reverse.upcoming(9)), [2, 0]);
        assert_eq!((reverse.distance(2), reverse.distance(0)), (0, 2));
        reverse.made(3);
        assert!(reverse.upcoming(9).is_empty());
    }
}
