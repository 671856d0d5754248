//! Which bytes of the memory belong to which item. Items can be anywhere, because leases
//! end in any order. Does not know why an item is needed.

use std::collections::BTreeMap;

/// Index of an item in the pager.
pub(crate) type ItemId = u32;

/// Items of up to this many bytes are placed at the upper end of a gap, others at the
/// lower end, so that small items do not lie between large ones.
const SMALL: u64 = 64 << 10;

/// Whether the bytes of an item may be used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They may. `distance` is the number of uses of other items before its next use;
    /// `wait` says that an operation has to end first.
    MayGo { distance: u64, wait: bool },
    /// They may not.
    Stays,
}

/// A place for an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its memory position.
    pub at: u64,
    /// Items that are there now.
    pub evict: Vec<ItemId>,
    /// Whether an operation on one of them has to end first.
    pub wait: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    len: u64,
    item: Option<ItemId>,
}

/// The memory as consecutive segments, each free or of one item. Two free segments are
/// never adjacent.
#[derive(Debug)]
pub(crate) struct Arena {
    segments: BTreeMap<u64, Segment>,
    len: u64,
    used: u64,
}

impl Arena {
    /// Bytes `start..start + len`, all free.
    pub fn new(start: u64, len: u64) -> Self {
        let item = None;
        Self {
            segments: BTreeMap::from([(start, Segment { len, item })]),
            len,
            used: 0,
        }
    }

    /// Bytes that belong to items.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The best place for `len` bytes. That is the smallest free segment that is long
    /// enough. If there is none, it is the place whose items are used latest: each place is
    /// judged by its item that is used soonest. A large item takes the lowest place instead.
    /// `None` if the items that stay leave no room.
    pub fn find(&self, len: u64, judge: impl Fn(ItemId) -> Verdict) -> Option<Found> {
        let gaps = self.segments.iter().filter(|(_, s)| s.item.is_none());
        let fitting = gaps.filter(|(_, s)| s.len >= len);
        if let Some((&start, gap)) = fitting.min_by_key(|(_, s)| s.len) {
            let at = if len <= SMALL {
                start + gap.len - len
            } else {
                start
            };
            return Some(Found {
                at,
                evict: Vec::new(),
                wait: false,
            });
        }
        let all: Vec<(u64, u64, Option<ItemId>, Verdict)> = self
            .segments
            .iter()
            .map(|(&at, s)| {
                let gap = Verdict::MayGo {
                    distance: u64::MAX,
                    wait: false,
                };
                (at, s.len, s.item, s.item.map_or(gap, &judge))
            })
            .collect();
        // Large items are placed as low as possible: two that were anywhere could leave no
        // room for a third.
        let is_large = len > self.len / 8;
        let mut best: Option<(u64, bool, u64, usize, usize)> = None;
        for first in 0..all.len() {
            if is_large && best.is_some() {
                break;
            }
            let (mut length, mut soonest, mut waits, mut moved) = (0, u64::MAX, false, 0);
            for (last, (_, segment_len, item, verdict)) in all.iter().enumerate().skip(first) {
                let Verdict::MayGo { distance, wait } = *verdict else {
                    break;
                };
                soonest = soonest.min(distance);
                waits |= wait;
                length += segment_len;
                moved += if item.is_some() { *segment_len } else { 0 };
                if length >= len {
                    let better = best.is_none_or(|(other, waiting, bytes, ..)| {
                        (soonest, !waits, u64::MAX - moved) > (other, !waiting, u64::MAX - bytes)
                    });
                    if better {
                        best = Some((soonest, waits, moved, first, last));
                    }
                    break;
                }
            }
        }
        let (_, wait, _, first, last) = best?;
        Some(Found {
            at: all[first].0,
            evict: all[first..=last].iter().filter_map(|s| s.2).collect(),
            wait,
        })
    }

    /// Gives free bytes to an item.
    ///
    /// # Panics
    /// If they are not free.
    pub fn take(&mut self, at: u64, len: u64, item: ItemId) {
        let (&start, &gap) = self.segments.range(..=at).next_back().expect("a segment");
        assert!(
            gap.item.is_none() && at + len <= start + gap.len,
            "bytes {at}..{} are in use",
            at + len
        );
        self.segments.remove(&start);
        let mut put = |from: u64, to: u64, item| {
            if from < to {
                let len = to - from;
                self.segments.insert(from, Segment { len, item });
            }
        };
        put(start, at, None);
        put(at, at + len, Some(item));
        put(at + len, start + gap.len, None);
        self.used += len;
    }

    /// Frees the bytes of an item.
    ///
    /// # Panics
    /// If no item begins at `at`.
    pub fn free(&mut self, at: u64) {
        let segment = self.segments.get_mut(&at).expect("a segment begins there");
        assert!(segment.item.take().is_some(), "it was free");
        self.used -= segment.len;
        let mut start = at;
        if let Some((&before, segment)) = self.segments.range(..at).next_back()
            && segment.item.is_none()
        {
            start = before;
        }
        let mut len = 0;
        while let Some(segment) = self.segments.get(&(start + len))
            && segment.item.is_none()
        {
            len += self.segments.remove(&(start + len)).expect("seen").len;
        }
        self.segments.insert(start, Segment { len, item: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_medium::Rng;
    use std::collections::HashMap;

    fn free(distance: u64) -> Verdict {
        Verdict::MayGo {
            distance,
            wait: false,
        }
    }

    #[test]
    fn free_places_come_first_and_then_the_items_used_latest() {
        let mut arena = Arena::new(0, 10 << 20);
        for item in 0..10 {
            let found = arena.find(1 << 20, |_| Verdict::Stays).unwrap();
            assert_eq!((found.at, found.evict), (u64::from(item) << 20, vec![]));
            arena.take(found.at, 1 << 20, item);
        }
        assert_eq!(arena.find(1 << 20, |_| Verdict::Stays), None);
        let judge = |item| match item {
            5 => Verdict::Stays,
            item => free(u64::from(item)),
        };
        assert_eq!(arena.find(5 << 18, judge).unwrap().evict, [8, 9]);
        // A large item takes the lowest place.
        assert_eq!(arena.find(2 << 20, judge).unwrap().evict, [0, 1]);
        arena.free(3 << 20);
        let found = arena.find(1 << 20, |item| free(u64::from(item))).unwrap();
        assert_eq!((found.at, found.evict), (3 << 20, vec![]));
        assert_eq!(arena.used(), 9 << 20);
    }

    #[test]
    fn random_takes_and_frees_never_overlap() {
        let mut rng = Rng::new(delayline_testing::seed());
        let mut arena = Arena::new(4096, 64 << 12);
        let mut items: HashMap<ItemId, (u64, u64)> = HashMap::new();
        for item in 0..2000 {
            let len = (1 + rng.below(9)) << 12;
            let Some(found) = arena.find(len, |item| free(u64::from(item % 7))) else {
                panic!("everything may go and 9 of 64 pages are wanted");
            };
            for gone in found.evict {
                let (at, _) = items.remove(&gone).unwrap();
                arena.free(at);
            }
            arena.take(found.at, len, item);
            for (at, other) in items.values() {
                assert!(found.at + len <= *at || at + other <= found.at);
            }
            assert!(found.at >= 4096 && found.at + len <= 65 << 12);
            items.insert(item, (found.at, len));
            let sum: u64 = items.values().map(|(_, len)| len).sum();
            assert_eq!(arena.used(), sum);
        }
    }
}
