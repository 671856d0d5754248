//! Policies against simple models that search lists, over all short traces; the lower
//! bound against a search over all that could be kept.

mod common;

use common::{Random, random_cases};
use delayline_plan::{
    Belady, Cache, ExtentId, FirstCome, Frequency, Lru, NextUse, Policy, Replayed, S3Fifo, Trace,
    least_read_bytes, replay,
};
use std::collections::HashMap;

const HALF_LIFE: f64 = 2.5;
const ALL: usize = usize::MAX;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    FirstCome,
    Lru,
    Frequency,
    NextUse { horizon: usize },
    Belady,
}

const KINDS: [Kind; 7] = [
    Kind::FirstCome,
    Kind::Lru,
    Kind::Frequency,
    Kind::NextUse { horizon: 0 },
    Kind::NextUse { horizon: 3 },
    Kind::NextUse { horizon: ALL },
    Kind::Belady,
];

fn replayed(kind: Kind, trace: &Trace, capacity: u64) -> Replayed {
    match kind {
        Kind::FirstCome => replay(trace, capacity, 0, FirstCome::default()),
        Kind::Lru => replay(trace, capacity, 0, Lru::default()),
        Kind::Frequency => replay(trace, capacity, 0, Frequency::default()),
        Kind::NextUse { horizon } => {
            let horizon = horizon.min(trace.batches.len());
            replay(trace, capacity, horizon, NextUse::new(HALF_LIFE, ALL))
        }
        Kind::Belady => replay(trace, capacity, 0, Belady::new(trace)),
    }
}

/// A cache that keeps lists and derives everything from the touches so far.
struct Model<'a> {
    kind: Kind,
    trace: &'a Trace,
    batch: usize,
    /// All touches so far.
    touched: Vec<ExtentId>,
    /// The least recently used first.
    kept: Vec<ExtentId>,
    /// Uses and priority of each kept item, for frequency.
    ranks: HashMap<ExtentId, (u64, u64)>,
    age: u64,
}

impl Model<'_> {
    fn renew(&mut self, item: ExtentId) {
        self.kept.retain(|kept| *kept != item);
        self.kept.push(item);
        let uses = self.ranks.get(&item).map_or(0, |rank| rank.0) + 1;
        self.ranks.insert(item, (uses, self.age + uses));
    }

    /// The next batch that uses an item, of those from `from` to `until`.
    fn next(&self, item: ExtentId, from: usize, until: usize) -> Option<usize> {
        let end = until.min(self.trace.batches.len());
        (from.min(end)..end).find(|&batch| self.trace.batches[batch].contains(&item))
    }

    /// The worth of an item under next use; the smallest is evicted first.
    fn worth(&self, item: ExtentId) -> f64 {
        let uses = (1..)
            .zip(&self.touched)
            .filter(|(_, touched)| **touched == item);
        uses.map(|(at, _)| (f64::from(at) / HALF_LIFE).exp2()).sum()
    }

    /// Which of `candidates` to evict for `newcomer`, if any.
    fn victim(&self, candidates: &[ExtentId], newcomer: ExtentId) -> Option<ExtentId> {
        let latest = |horizon: usize| {
            let next = |item| self.next(item, self.batch + 1, self.batch.saturating_add(horizon));
            // Unknown uses come after all known ones.
            let wait = |item| next(item).map_or((usize::MAX, -self.worth(item)), |at| (at, 0.0));
            let later = |a: &ExtentId, b: &ExtentId| {
                let by_wait = wait(*a).partial_cmp(&wait(*b)).unwrap();
                by_wait.then(a.cmp(b))
            };
            let last = candidates.iter().copied().max_by(later)?;
            (wait(last) > wait(newcomer)).then_some(last)
        };
        match self.kind {
            Kind::FirstCome => None,
            Kind::Lru => candidates.first().copied(),
            Kind::Frequency => candidates.iter().copied().min_by_key(|c| self.ranks[c].1),
            Kind::NextUse { horizon } => latest(horizon),
            Kind::Belady => {
                let next = |item| self.next(item, self.batch + 1, ALL).unwrap_or(usize::MAX);
                let last = candidates.iter().copied().max_by_key(|&c| (next(c), c))?;
                (next(last) > next(newcomer)).then_some(last)
            }
        }
    }

    /// Makes room for a newcomer; or returns false and changes nothing.
    fn make_room(&mut self, newcomer: ExtentId, capacity: u64, in_use: &[ExtentId]) -> bool {
        let bytes = |items: &[ExtentId]| items.iter().map(|&i| self.trace.len_of(i)).sum::<u64>();
        let (mut kept, mut age) = (self.kept.clone(), self.age);
        while bytes(&kept) + self.trace.len_of(newcomer) > capacity {
            let mut candidates = kept.clone();
            candidates.retain(|item| !in_use.contains(item));
            let Some(victim) = self.victim(&candidates, newcomer) else {
                return false;
            };
            kept.retain(|item| *item != victim);
            age = self.ranks[&victim].1;
        }
        (self.kept, self.age) = (kept, age);
        let kept = self.kept.clone();
        self.ranks.retain(|item, _| kept.contains(item));
        true
    }
}

fn modelled(kind: Kind, trace: &Trace, capacity: u64) -> Replayed {
    let mut model = Model {
        kind,
        trace,
        batch: 0,
        touched: Vec::new(),
        kept: Vec::new(),
        ranks: HashMap::new(),
        age: 0,
    };
    let mut sums = Replayed::default();
    for (index, batch) in trace.batches.iter().enumerate() {
        model.batch = index;
        let mut distinct: Vec<ExtentId> = Vec::new();
        for &item in batch {
            if !distinct.contains(&item) {
                distinct.push(item);
            }
        }
        let hit = |model: &Model, item: &ExtentId| model.kept.contains(item);
        let missing: Vec<ExtentId> = distinct
            .iter()
            .copied()
            .filter(|i| !hit(&model, i))
            .collect();
        for &item in &distinct {
            model.touched.push(item);
            sums.bytes_used += trace.len_of(item);
            if hit(&model, &item) {
                sums.hits += 1;
                model.renew(item);
            }
        }
        for item in missing {
            let len = trace.len_of(item);
            sums.misses += 1;
            sums.bytes_read += len;
            if model.make_room(item, capacity, &distinct) {
                sums.bytes_admitted += len;
                model.renew(item);
            }
        }
    }
    sums
}

/// The fewest bytes that can be read if whole items stay, over all that could stay
/// after each batch.
fn fewest(trace: &Trace, capacity: u64) -> u64 {
    let count = trace.lens.len();
    let bytes = |mask: usize| -> u64 {
        let of = (0..count).filter(|i| mask >> i & 1 == 1);
        of.map(|i| trace.lens[i]).sum()
    };
    let sums: Vec<u64> = (0..1 << count).map(bytes).collect();
    let mut least = vec![u64::MAX; 1 << count];
    least[0] = 0;
    for batch in &trace.batches {
        let needed = batch.iter().fold(0, |mask, item| mask | 1 << item.0);
        let mut next = vec![u64::MAX; 1 << count];
        for kept in (0..1 << count).filter(|&kept| least[kept] != u64::MAX) {
            let read = least[kept] + sums[needed & !kept];
            let here = kept | needed;
            for stays in (0..1 << count).filter(|s| s & !here == 0 && sums[*s] <= capacity) {
                next[stays] = next[stays].min(read);
            }
        }
        least = next;
    }
    least.into_iter().min().unwrap()
}

fn check(trace: &Trace, capacity: u64) {
    let bound = least_read_bytes(trace, capacity);
    let fewest = fewest(trace, capacity);
    let belady = replayed(Kind::Belady, trace, capacity).bytes_read;
    assert!(
        bound <= fewest && fewest <= belady,
        "{trace:?} in {capacity}"
    );
    let one_length = trace.lens.iter().all(|len| *len == trace.lens[0]);
    if one_length && capacity.is_multiple_of(trace.lens[0]) {
        assert_eq!(bound, fewest, "{trace:?} in {capacity}");
        // Items in use are not evicted, which matters only with several in a batch.
        if trace.batches.iter().all(|batch| batch.len() <= 1) {
            assert_eq!(bound, belady, "{trace:?} in {capacity}");
            let whole = replayed(Kind::NextUse { horizon: ALL }, trace, capacity);
            assert_eq!(whole.bytes_read, belady, "{trace:?} in {capacity}");
        }
    }
    for kind in KINDS {
        let done = replayed(kind, trace, capacity);
        let expect = modelled(kind, trace, capacity);
        assert_eq!(done, expect, "{kind:?}: {trace:?} in {capacity}");
        assert!(done.bytes_read >= fewest);
    }
}

#[test]
fn all_short_traces() {
    for len in 0..=7_u32 {
        for case in 0..4_u32.pow(len) {
            let ids = (0..len).map(|i| ExtentId(case / 4_u32.pow(i) % 4));
            // Only traces whose items are numbered in order of first use: the others
            // are the same but for renaming.
            let ids: Vec<ExtentId> = ids.collect();
            let mut known = 0;
            let is_named_in_order = ids.iter().all(|id| {
                known = known.max(id.0 + 1).min(known + 1);
                id.0 < known
            });
            if is_named_in_order {
                for capacity in 0..=4 {
                    check(&Trace::one_by_one(vec![1; 4], ids.clone()), capacity);
                }
            }
            if len <= 6 {
                for capacity in 0..=7 {
                    check(&Trace::one_by_one(vec![1, 2, 3, 1], ids.clone()), capacity);
                }
            }
        }
    }
}

#[test]
fn all_short_traces_of_batches() {
    for len in 0..=4_u32 {
        for case in 0..8_u32.pow(len) {
            let batch = |i: u32| {
                let mask = case / 8_u32.pow(i) % 8;
                (0..3)
                    .filter(|id| mask >> id & 1 == 1)
                    .map(ExtentId)
                    .collect()
            };
            let batches: Vec<Vec<ExtentId>> = (0..len).map(batch).collect();
            for lens in [vec![1, 1, 1], vec![2, 1, 3]] {
                for capacity in 0..=lens.iter().sum() {
                    let batches = batches.clone();
                    let lens = lens.clone();
                    check(&Trace { lens, batches }, capacity);
                }
            }
        }
    }
}

#[test]
fn random_traces() {
    random_cases(150, |random: &mut Random| {
        let count = random.between(1, 7);
        let longest = random.between(1, 4);
        let lens: Vec<u64> = (0..count).map(|_| random.between(1, longest)).collect();
        let batch = |random: &mut Random| {
            let uses = random.between(0, 4);
            // Some items are used more often than others.
            let mut id = || {
                random
                    .between(0, count - 1)
                    .min(random.between(0, count - 1))
            };
            (0..uses).map(|_| ExtentId(id() as u32)).collect()
        };
        let batches = (0..random.between(1, 60)).map(|_| batch(random)).collect();
        let capacity = random.between(0, lens.iter().sum());
        check(&Trace { lens, batches }, capacity);
    });
}

/// An item that is used again while it is in the small queue, or soon after, survives a
/// long scan of items used once.
#[test]
fn s3_fifo_keeps_through_a_scan_what_was_used_again() {
    let again_at_once: Vec<u32> = [0, 0].into_iter().chain(10..40).chain([0]).collect();
    let again_after_eviction: Vec<u32> = (0..=10).chain([0]).chain(20..50).chain([0]).collect();
    for (uses, hits, hits_of_lru) in [(again_at_once, 2, 1), (again_after_eviction, 1, 0)] {
        let items = uses.iter().copied().map(ExtentId);
        let trace = Trace::one_by_one(vec![1; 50], items);
        assert_eq!(
            replay(&trace, 10, 0, S3Fifo::new(10)).hits,
            hits,
            "{uses:?}"
        );
        assert_eq!(replay(&trace, 10, 0, Lru::default()).hits, hits_of_lru);
    }
}

/// The lists that a visit returns, against what the cache holds.
#[test]
fn a_cache_holds_what_it_says_and_never_too_much() {
    random_cases(60, |random: &mut Random| {
        let capacity = random.between(0, 40);
        let half_life = random.between(1, 9) as f64;
        let group_of = (0..24).map(|i| i / 6).collect();
        let policy = NextUse::in_turns(half_life, random.between(0, 9) as usize, group_of);
        let mut cache = Cache::new(capacity, policy);
        let mut held: HashMap<ExtentId, u64> = HashMap::new();
        for turn in 0..400_u32 {
            let mut id = || ExtentId(turn % 4 * 6 + random.between(0, 5) as u32);
            let batch: Vec<(ExtentId, u64)> = (0..3)
                .map(|_| id())
                .map(|i| (i, 1 + u64::from(i.0 % 5)))
                .collect();
            if turn % 3 == 0 {
                // Some announcements do not come true.
                let at = u64::from(turn) * 3 + random.between(0, 30);
                cache
                    .policy_mut()
                    .announce(ExtentId(random.between(0, 23) as u32), at);
            }
            let visit = cache.visit(batch.iter().copied()).clone();
            assert!(visit.hits.iter().all(|item| held.contains_key(item)));
            let missing = visit.admitted.iter().chain(&visit.passed);
            assert!(missing.clone().all(|item| !held.contains_key(item)));
            let mut distinct: Vec<ExtentId> = batch.iter().map(|(item, _)| *item).collect();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(visit.hits.len() + missing.count(), distinct.len());
            for item in &visit.evicted {
                assert!(held.remove(item).is_some() && !distinct.contains(item));
            }
            let admitted = batch
                .iter()
                .filter(|(item, _)| visit.admitted.contains(item));
            held.extend(admitted.copied());
            assert_eq!(cache.used(), held.values().sum::<u64>());
            assert!(cache.used() <= capacity);
            assert!(
                (0..24)
                    .map(ExtentId)
                    .all(|i| cache.holds(i) == held.contains_key(&i))
            );
        }
    });
}
