//! The look-ahead cache against a model that searches lists, and against the smallest
//! possible number of misses.

mod common;

use common::{Random, random_cases};
use delayline_plan::{
    Belady, ExpectedUse, ExtentId, Lookahead, Lru, MissedRow, ReadCost, Trace, replay, sweep,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

/// The state that the cache should have, searched anew for each question.
struct Model {
    slots: usize,
    /// Rows in memory and their slots.
    held: BTreeMap<u32, u32>,
    batches: VecDeque<Vec<u32>>,
    staged: usize,
    classes: Vec<u8>,
}

impl Model {
    fn is_pinned(&self, row: u32) -> bool {
        self.batches
            .iter()
            .take(self.staged)
            .any(|batch| batch.contains(&row))
    }

    /// Batches until a row is used next, after the staged ones; `usize::MAX` for never.
    fn next(&self, row: u32) -> usize {
        let ahead = self.batches.iter().skip(self.staged);
        ahead
            .clone()
            .position(|batch| batch.contains(&row))
            .unwrap_or(usize::MAX)
    }

    /// Rows that may be evicted next: of those in no batch the lowest class, or those
    /// used latest.
    fn worst(&self) -> BTreeSet<u32> {
        let rows = self
            .held
            .keys()
            .copied()
            .filter(|&row| !self.is_pinned(row));
        let worth = |row: u32| match self.next(row) {
            usize::MAX => (0, usize::from(self.classes[row as usize])),
            next => (1, usize::MAX - next),
        };
        let least = rows.clone().map(worth).min();
        rows.filter(|&row| Some(worth(row)) == least).collect()
    }
}

/// Random operations: the cache agrees with the model after each.
#[test]
fn every_choice_is_the_models() {
    random_cases(2000, |rng| {
        let (slots, rows) = (rng.between(1, 8) as u32, rng.between(1, 16) as u32);
        let classes: Vec<u8> = (0..rows).map(|_| rng.between(0, 2) as u8 * 100).collect();
        let mut real = Lookahead::new(slots, 0, ExpectedUse::Given(classes.clone().into()));
        let mut model = Model {
            slots: slots as usize,
            held: BTreeMap::new(),
            batches: VecDeque::new(),
            staged: 0,
            classes,
        };
        for _ in 0..60 {
            match rng.between(0, 9) {
                0..=3 => {
                    let all: BTreeSet<u32> = (0..rng.between(0, u64::from(slots)))
                        .map(|_| rng.any() as u32 % rows)
                        .collect();
                    let batch: Vec<u32> = all.into_iter().collect();
                    real.announce(batch.clone());
                    model.batches.push_back(batch);
                }
                4..=6 => stage(&mut real, &mut model, rng),
                7..=8 if model.staged > 0 => {
                    real.retire();
                    model.batches.pop_front();
                    model.staged -= 1;
                }
                9 if rng.once_in(4) => forget(&mut real, &mut model, rng),
                _ => {}
            }
            for row in 0..rows {
                assert_eq!(
                    real.slot_of(row),
                    model.held.get(&row).copied(),
                    "row {row}"
                );
            }
            let announced: usize = model.batches.iter().map(Vec::len).sum();
            assert_eq!(real.announced(), announced);
            assert_eq!(real.ahead(), (model.batches.len(), model.staged));
        }
    });
}

fn stage(real: &mut Lookahead, model: &mut Model, rng: &mut Random) {
    let most = rng.between(0, 8) as usize;
    let outstanding = real.outstanding();
    let mut missed = Vec::new();
    let did = real.stage(most, &mut missed);
    let Some(batch) = model.batches.get(model.staged).cloned() else {
        return assert!(!did, "nothing is announced");
    };
    let missing: Vec<u32> = batch
        .iter()
        .copied()
        .filter(|row| !model.held.contains_key(row))
        .collect();
    let pinned = model
        .held
        .keys()
        .filter(|row| model.is_pinned(**row) || batch.contains(row))
        .count();
    let fits = pinned + missing.len() <= model.slots;
    let few = model.staged == 0 || outstanding + missing.len() <= most;
    assert_eq!(did, fits && few, "{batch:?} of {:?}", model.held);
    if !did {
        return assert!(missed.is_empty());
    }
    model.staged += 1;
    assert_eq!(
        missed.iter().map(|missed| missed.row).collect::<Vec<_>>(),
        missing
    );
    for MissedRow { row, slot } in missed {
        let worst = model.worst();
        let before = model
            .held
            .iter()
            .find(|(_, held)| **held == slot)
            .map(|(row, _)| *row);
        match before {
            Some(before) => {
                assert_eq!(
                    model.held.len(),
                    model.slots,
                    "nothing goes while there is room"
                );
                assert!(
                    worst.contains(&before),
                    "{before} goes instead of {worst:?}"
                );
                model.held.remove(&before);
            }
            None => assert!(model.held.len() < model.slots),
        }
        model.held.insert(row, slot);
    }
}

/// Forgets all batches, as when an epoch is abandoned: unread rows are not kept.
fn forget(real: &mut Lookahead, model: &mut Model, rng: &mut Random) {
    // Either all staged batches were read, or none.
    let before = model.held.clone();
    let whole = match rng.once_in(2) {
        true => model.staged,
        false => 0,
    };
    real.forget(whole);
    let now: BTreeMap<u32, u32> = before
        .iter()
        .filter_map(|(&row, &slot)| {
            Some((row, real.slot_of(row)?)).inspect(|now| assert_eq!(now.1, slot))
        })
        .collect();
    if whole == model.staged {
        assert_eq!(now, before);
    }
    // Rows that no staged batch uses were whole before.
    for row in before.keys().filter(|row| !model.is_pinned(**row)) {
        assert!(now.contains_key(row), "row {row} was whole");
    }
    model.held = now;
    model.batches.clear();
    model.staged = 0;
}

/// Misses if `horizon` batches are announced, and staged and retired one by one.
fn misses(slots: u32, horizon: usize, expected: ExpectedUse, trace: &[Vec<u32>]) -> u64 {
    let mut memory = Lookahead::new(slots, 0, expected);
    let (mut announced, mut missed) = (0, Vec::new());
    for index in 0..trace.len() {
        while announced < trace.len() && announced < index + horizon {
            memory.announce(trace[announced].clone());
            announced += 1;
        }
        assert!(memory.stage(usize::MAX, &mut missed), "a batch fits");
        memory.retire();
    }
    missed.len() as u64
}

/// The fewest reads if every row that is used takes a slot: a search over everything
/// that could be kept.
fn least(slots: usize, trace: &[u32]) -> u64 {
    let mut states: BTreeMap<BTreeSet<u32>, u64> = [(BTreeSet::new(), 0)].into();
    for row in trace {
        let mut next: BTreeMap<BTreeSet<u32>, u64> = BTreeMap::new();
        let mut offer = |state: BTreeSet<u32>, cost: u64| {
            let least = next.entry(state).or_insert(cost);
            *least = (*least).min(cost);
        };
        for (state, cost) in &states {
            let mut with = state.clone();
            if !with.insert(*row) {
                offer(with, *cost);
                continue;
            }
            if with.len() <= slots {
                offer(with, cost + 1);
                continue;
            }
            for gone in state {
                let mut without = with.clone();
                without.remove(gone);
                offer(without, cost + 1);
            }
        }
        states = next;
    }
    states.into_values().min().unwrap()
}

#[test]
fn with_all_announced_nothing_reads_less() {
    const ROWS: u32 = 4;
    const LEN: u32 = 7;
    for number in 0..ROWS.pow(LEN) {
        let trace: Vec<u32> = (0..LEN).map(|at| number / ROWS.pow(at) % ROWS).collect();
        let batches: Vec<Vec<u32>> = trace.iter().map(|row| vec![*row]).collect();
        for slots in 1..=3 {
            let got = misses(slots, LEN as usize, ExpectedUse::Unknown, &batches);
            assert_eq!(got, least(slots as usize, &trace), "{trace:?} in {slots}");
        }
    }
}

/// Random batches in which rows of low numbers are more likely, as in a graph.
fn skewed(rng: &mut Random, rows: u32, batches: usize, len: usize) -> Vec<Vec<u32>> {
    let row = |rng: &mut Random| {
        let share = rng.between(1, 1 << 20) as f64 / f64::from(1 << 20);
        (f64::from(rows) * share.powi(3)) as u32 % rows
    };
    let batch = |rng: &mut Random| {
        let all: BTreeSet<u32> = (0..len).map(|_| row(rng)).collect();
        all.into_iter().collect()
    };
    (0..batches).map(|_| batch(rng)).collect()
}

#[test]
fn a_long_look_ahead_misses_little_more_than_belady_and_less_than_recency() {
    random_cases(10, |rng| {
        let (rows, slots) = (4000, 600);
        let trace = skewed(rng, rows, 400, 40);
        let as_trace = Trace {
            lens: vec![1; rows as usize],
            batches: trace
                .iter()
                .map(|batch| batch.iter().map(|row| ExtentId(*row)).collect())
                .collect(),
        };
        let belady = replay(&as_trace, u64::from(slots), 0, Belady::new(&as_trace)).misses;
        let recency = replay(&as_trace, u64::from(slots), 0, Lru::default()).misses;
        // Announced batches name eight times as many rows as there are slots.
        let long = misses(
            slots,
            8 * 600 / 40,
            ExpectedUse::counted(rows as usize),
            &trace,
        );
        // The density of rows is the derivative of the cube root.
        let chances: Vec<f32> = (0..rows)
            .map(|row| (row as f32 + 0.5).powf(-2.0 / 3.0))
            .collect();
        let short = misses(slots, 4, ExpectedUse::from_figures(&chances), &trace);
        assert!(long * 100 <= belady * 110, "{long} against {belady}");
        assert!(short * 100 <= belady * 135, "{short} against {belady}");
        assert!(long * 100 <= recency * 75, "{long} against {recency}");
        assert!(short * 100 <= recency * 90, "{short} against {recency}");
    });
}

#[test]
fn counts_age_and_everything_stays_in_its_class() {
    let mut memory = Lookahead::new(4, 0, ExpectedUse::counted(8));
    let mut missed = Vec::new();
    for round in 0..2000u32 {
        // Row 0 is used in every round, row 1 in every other, each other row in one of six.
        let rows: BTreeSet<u32> = [0, round % 2, 2 + round % 6].into();
        memory.announce(rows.into_iter().collect());
        assert!(memory.stage(usize::MAX, &mut missed));
        memory.retire();
    }
    assert!(memory.slot_of(0).is_some() && memory.slot_of(1).is_some());
    let often: usize = missed.iter().filter(|missed| missed.row < 2).count();
    assert_eq!(often, 2, "what is used most is read once");
}

#[test]
fn a_sweep_covers_each_row_in_one_read_and_no_division_costs_less() {
    random_cases(500, |rng| {
        let len = rng.between(1, 9000);
        let mut starts: Vec<u64> = (0..rng.between(1, 9))
            .map(|_| rng.between(0, 30) * 3000)
            .collect();
        starts.sort_unstable();
        let rows: Vec<Range<u64>> = starts.iter().map(|start| *start..start + len).collect();
        let cost = ReadCost {
            read_s: rng.between(0, 20_000) as f64,
            bytes_per_s: 1.0,
        };
        let reads = sweep(rows.clone(), cost.gap(), u64::MAX);
        for row in &rows {
            let inside = |read: &&Range<u64>| read.start <= row.start && row.end <= read.end;
            assert!(
                reads.iter().any(|read| inside(&read)),
                "{row:?} in {reads:?}"
            );
        }
        let bytes = reads.iter().map(|read| read.end - read.start).sum();
        let taken = cost.seconds(reads.len() as u64, bytes);
        // All ways to divide the pages into reads: each gap is read or not.
        let pages: Vec<Range<u64>> = sweep(rows, 0, u64::MAX);
        for choice in 0..1u32 << (pages.len() - 1) {
            let (mut count, mut bytes, mut from) = (0, 0, pages[0].start);
            for (index, page) in pages.iter().enumerate() {
                let is_end = index + 1 == pages.len() || choice & 1 << index != 0;
                if is_end {
                    (count, bytes) = (count + 1, bytes + page.end - from);
                    from = pages.get(index + 1).map_or(0, |next| next.start);
                }
            }
            assert!(taken <= cost.seconds(count, bytes) + 1.0);
        }
        let short = sweep(
            starts.iter().map(|start| *start..start + len),
            u64::MAX,
            16 << 10,
        );
        assert!(
            short
                .iter()
                .all(|read| read.end - read.start <= (16 << 10).max(len + 8192))
        );
    });
}

#[test]
fn the_cost_of_a_read_follows_from_two_rates() {
    let drive = ReadCost {
        read_s: 1e-5,
        bytes_per_s: 2e9,
    };
    let rate = |len: u64| (len, len as f64 / drive.seconds(1, len));
    let found = ReadCost::from_rates(rate(4096), rate(65536));
    assert!((found.read_s / drive.read_s - 1.0).abs() < 1e-6);
    assert!((found.bytes_per_s / drive.bytes_per_s - 1.0).abs() < 1e-6);
    assert_eq!(found.gap(), 20_000);
}
