//! Bounds, residency and spilling of plans that go forward and backward: against
//! searches over all that a machine could do, then random cases.

mod common;

use common::{Random, extents, inverse, random_cases};
use delayline_plan::{
    ALIGN, Belady, DriveRates, ExtentId, FirstCome, Frame, LeastTransfer, Lru, MemoryShare,
    NEAR_BYTES, Plan, RoundTrip, Run, Schedule, SpillOrder, Trace, Transfer, Use, choose,
    lap_time_s, least_read_bytes, replay,
};
use std::collections::{HashMap, HashSet};

/// Items forward and backward in turns, `passes` passes in all.
fn back_and_forth(lens: &[u64], passes: usize) -> Trace {
    let there: Vec<ExtentId> = (0..lens.len() as u32).map(ExtentId).collect();
    let pass = |pass: usize| -> Vec<ExtentId> {
        match pass % 2 {
            0 => there.clone(),
            _ => there.iter().rev().copied().collect(),
        }
    };
    Trace::one_by_one(lens.to_vec(), (0..passes).flat_map(pass))
}

#[test]
fn any_memory_saves_its_size_at_each_turn_whatever_stays() {
    for count in 1..=9_u64 {
        for memory in 0..=count {
            let trace = back_and_forth(&vec![1; count as usize], 5);
            let expect = count + 4 * (count - memory);
            assert_eq!(least_read_bytes(&trace, memory), expect);
            assert_eq!(
                replay(&trace, memory, 0, Belady::new(&trace)).bytes_read,
                expect
            );
            assert_eq!(replay(&trace, memory, 0, Lru::default()).bytes_read, expect);
            assert_eq!(
                replay(&trace, memory, 0, FirstCome::default()).bytes_read,
                expect
            );
        }
    }
    random_cases(200, |random: &mut Random| {
        let lens: Vec<u64> = (0..random.between(1, 9))
            .map(|_| random.between(1, 9))
            .collect();
        let all: u64 = lens.iter().sum();
        let memory = random.between(0, all);
        let least = least_read_bytes(&back_and_forth(&lens, 4), memory);
        assert_eq!(least, all + 3 * (all - memory), "{lens:?} in {memory}");
    });
}

/// A machine of blocks and ticks that may do anything: it reads a block a tick,
/// writes one in `write` ticks, and does both at once if it is `duplex`.
struct Machine<'a> {
    plan: &'a Plan,
    schedule: Schedule,
    memory: u32,
    write: u8,
    duplex: bool,
}

/// A state of the machine. Masks have a bit for each extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Moment {
    run: usize,
    /// Ticks of the run so far.
    over: u8,
    /// Extents of the run, and bit 31, once it has begun; 0 before.
    pinned: u32,
    present: u32,
    dirty: u32,
    writing: Option<(u32, u8)>,
}

impl Machine<'_> {
    /// The fewest ticks of `laps` laps, from any clean memory.
    fn ticks(&self, laps: usize) -> u64 {
        let runs = self.plan.runs.len() * laps;
        let held = |mask: &u32| {
            let extents = 0..self.plan.extents.len() as u32;
            let scratch = |e: u32| mask >> e & 1 == 1 && self.schedule.is_scratch(ExtentId(e));
            mask.count_ones() <= self.memory && !extents.clone().any(scratch)
        };
        let start = (0..1 << self.plan.extents.len())
            .filter(held)
            .map(|present| Moment {
                run: 0,
                over: 0,
                pinned: 0,
                present,
                dirty: 0,
                writing: None,
            });
        let mut now: HashSet<Moment> = start.collect();
        let mut ticks = 0;
        loop {
            let now_or_at_once = self.at_once(now, runs);
            if now_or_at_once.iter().any(|m| m.run == runs) {
                return ticks;
            }
            now = now_or_at_once
                .into_iter()
                .flat_map(|m| self.tick(m))
                .collect();
            ticks += 1;
            assert!(ticks < 500, "no progress");
        }
    }

    /// All states reached in no time: clean extents are dropped, runs begin.
    fn at_once(&self, now: HashSet<Moment>, runs: usize) -> HashSet<Moment> {
        let mut todo: Vec<Moment> = now.into_iter().collect();
        let mut all = HashSet::new();
        while let Some(m) = todo.pop() {
            if !all.insert(m) || m.run == runs {
                continue;
            }
            let busy = m.writing.map_or(0, |(e, _)| 1 << e);
            let idle = m.present & !m.pinned & !busy & !m.dirty;
            for e in (0..self.plan.extents.len()).filter(|e| idle >> e & 1 == 1) {
                let present = m.present & !(1 << e);
                todo.push(Moment { present, ..m });
            }
            todo.extend(self.begun(m, busy));
        }
        all
    }

    /// The state after the next run has begun, if it can.
    fn begun(&self, m: Moment, busy: u32) -> Option<Moment> {
        if m.pinned != 0 {
            return None;
        }
        let run = &self.plan.runs[m.run % self.plan.runs.len()];
        let (mut pinned, mut present) = (1 << 31, m.present);
        for u in &run.uses {
            let bit = 1 << u.extent.0;
            pinned |= bit;
            if u.mode.reads() && m.present & bit == 0 {
                return None;
            }
            // A changed extent is written before it is changed again.
            if u.mode.writes() && (m.dirty | busy) & bit != 0 {
                return None;
            }
            present |= bit;
        }
        (present.count_ones() <= self.memory).then_some(Moment {
            pinned,
            present,
            ..m
        })
    }

    /// All states that may follow a tick later.
    fn tick(&self, m: Moment) -> Vec<Moment> {
        let extents = 0..self.plan.extents.len() as u32;
        // A write under way continues; otherwise one may begin.
        let mut writes = vec![m];
        if m.writing.is_none() {
            let idle = m.dirty & !m.pinned;
            let dirty = extents.clone().filter(|e| idle >> e & 1 == 1);
            writes.extend(dirty.map(|e| Moment {
                writing: Some((e, 0)),
                ..m
            }));
        }
        let mut next = Vec::new();
        for w in writes {
            let mut reads = vec![w];
            if self.duplex || w.writing.is_none() {
                let absent = extents.clone().filter(|e| w.present >> e & 1 == 0);
                let room = w.present.count_ones() < self.memory;
                reads.extend(
                    absent
                        .filter(|_| room)
                        .filter(|e| self.holds(w, *e))
                        .map(|e| {
                            let present = w.present | 1 << e;
                            Moment { present, ..w }
                        }),
                );
            }
            next.extend(
                reads
                    .into_iter()
                    .map(|r| self.computed(self.written(r), m.pinned)),
            );
        }
        next
    }

    /// Whether the medium has an extent: scratch only if this lap has written it.
    fn holds(&self, m: Moment, extent: u32) -> bool {
        let id = ExtentId(extent);
        let of_lap = &self.plan.runs[..m.run % self.plan.runs.len()];
        !self.schedule.is_scratch(id) || of_lap.iter().any(|run| run.needs(id))
    }

    fn written(&self, mut m: Moment) -> Moment {
        if let Some((extent, ticks)) = m.writing {
            m.writing = Some((extent, ticks + 1)).filter(|w| w.1 < self.write);
            if m.writing.is_none() {
                m.dirty &= !(1 << extent);
            }
        }
        m
    }

    fn computed(&self, mut m: Moment, pinned: u32) -> Moment {
        if pinned == 0 {
            return m;
        }
        m.over += 1;
        let run = &self.plan.runs[m.run % self.plan.runs.len()];
        if f64::from(m.over) < run.compute {
            return m;
        }
        for u in run.uses.iter().filter(|u| u.mode.writes()) {
            m.dirty |= 1 << u.extent.0;
        }
        // Scratch that is not read again in this lap is dropped.
        let later = &self.plan.runs[m.run % self.plan.runs.len() + 1..];
        for u in &run.uses {
            let is_read = later.iter().any(|r| r.needs(u.extent));
            if self.schedule.is_scratch(u.extent) && !is_read {
                m.dirty &= !(1 << u.extent.0);
                m.present &= !(1 << u.extent.0);
            }
        }
        (m.run, m.over, m.pinned) = (m.run + 1, 0, 0);
        m
    }
}

/// Small plans of all shapes, with extents of one block, by name.
fn small_plans() -> Vec<(&'static str, Plan)> {
    let mut plans = Vec::new();
    for (there, back) in [(1.0, 1.0), (1.0, 2.0), (2.0, 3.0)] {
        let layer = |id, uses: fn(ExtentId) -> Use| RoundTrip {
            there: Run::reading([ExtentId(id)], there),
            back: Run {
                uses: vec![uses(ExtentId(id))],
                compute: back,
            },
        };
        for count in [2, 3] {
            let blocks = extents(&vec![1; count as usize]);
            let of = |uses: fn(ExtentId) -> Use| {
                let layers = (0..count).map(|id| layer(id, uses)).collect();
                Plan::there_and_back(blocks.clone(), layers)
            };
            plans.push(("frozen", of(Use::read)));
            plans.push(("trained", of(Use::modify)));
            let runs = (0..count).map(|id| Run::reading([ExtentId(id)], there));
            plans.push(("cycle", Plan::cycle(blocks.clone(), runs.collect())));
            let frame = |id| Frame {
                extents: vec![ExtentId(id)],
                there,
                back,
            };
            let frames = (0..count).map(frame).collect();
            plans.push(("stack", Plan::stack(blocks.clone(), frames)));
        }
    }
    plans
}

#[test]
fn nothing_that_a_small_machine_can_do_beats_the_bound() {
    // By shape: number of cases, and of those whose lap is exactly the bound.
    let mut exact: HashMap<&str, (u32, u32)> = HashMap::new();
    for (name, plan) in small_plans() {
        let compute_s: f64 = plan.runs.iter().map(|run| run.compute).sum();
        for memory in 1..=3_u32 {
            for (write, duplex) in [(1, false), (2, false), (1, true)] {
                let machine = Machine {
                    plan: &plan,
                    schedule: Schedule::new(&plan, 0),
                    memory,
                    write,
                    duplex,
                };
                let block = ALIGN as f64;
                let rates = DriveRates {
                    read: block,
                    write: block / f64::from(write),
                    mixed: match duplex {
                        true => 2.0 * block,
                        false => 2.0 * block / f64::from(1 + write),
                    },
                };
                let least = LeastTransfer::new(&plan, u64::from(memory) * ALIGN);
                let bound = least.lap_bound_s(&plan, compute_s, &rates);
                let ticks = [1, 2, 3].map(|laps| machine.ticks(laps) as f64);
                let case = format!("{name} in {memory}, {write} {duplex}: {ticks:?} {bound}");
                let mut inside = least.clone();
                inside.lap = Transfer::default();
                let inside = inside.lap_bound_s(&plan, compute_s, &rates);
                assert!(ticks[0] >= inside - 1e-9, "{case}: {inside}");
                // Reads before the first lap, and writes after the last.
                let before_and_after = f64::from(memory) * f64::from(1 + write);
                assert!(ticks[2] + before_and_after >= 3.0 * bound - 1e-9, "{case}");
                let (all, hit) = exact.entry(name).or_default();
                *all += 1;
                *hit += u32::from((ticks[2] - ticks[1] - bound).abs() < 1e-9);
            }
        }
    }
    println!("{exact:?}");
    assert!(exact.values().all(|(all, hit)| 2 * hit > *all), "{exact:?}");
}

#[test]
fn a_palindrome_streams_no_more_than_it_must_and_evenly() {
    let layer = |id| RoundTrip {
        there: Run::reading([ExtentId(id)], 1.0),
        back: Run::reading([ExtentId(id)], 2.0),
    };
    let plan = Plan::there_and_back(extents(&[4; 80]), (0..80).map(layer).collect());
    let schedule = Schedule::new(&plan, 0);
    for share in [0.3, 0.5, 0.8] {
        let memory = MemoryShare {
            available: (share * 320.0) as u64 * ALIGN,
            lookahead: 16 * ALIGN,
        };
        let chosen = choose(&plan, &schedule, memory).unwrap();
        let moved = schedule.transfer(&chosen.resident, 0..160);
        assert_eq!(moved.read, chosen.streamed_bytes);
        // The window's bytes are not resident, and count at both turns; the turn saves
        // an extent.
        let least = LeastTransfer::new(&plan, memory.available).lap.read;
        assert!(
            moved.read <= least + 2 * chosen.window + 8 * ALIGN,
            "{share}"
        );
        // No stretch of layers streams more than three extents more or fewer than its
        // share.
        let streamed = inverse(&chosen.resident);
        let all = streamed.iter().filter(|s| **s).count() as f64;
        let mut sums = vec![0.0];
        for (i, streams) in streamed.iter().enumerate() {
            sums.push(sums[i] + f64::from(u8::from(*streams)) - all / 80.0);
        }
        let most = sums.iter().copied().fold(f64::MIN, f64::max);
        let least = sums.iter().copied().fold(f64::MAX, f64::min);
        assert!(most - least <= 3.0, "{share}: {}", most - least);
        // Half of what is read is read in the forward pass.
        let there = schedule.transfer(&chosen.resident, 0..80).read;
        assert!(2 * there <= moved.read + 8 * ALIGN && moved.read <= 2 * there);
        let rate = chosen.streamed_bytes as f64;
        assert!(
            lap_time_s(&plan, &schedule, &chosen, 1.0, rate) < 1.4,
            "{share}"
        );
    }
    assert_eq!(Schedule::new(&plan, NEAR_BYTES).steps().len(), 80);
}

/// The fewest spills of a sequence of pushes (`true`) and pops, over all choices of
/// what is spilled.
fn fewest_spills(moves: &[bool], memory: usize) -> u32 {
    // The stack (whether each item is in memory), and the fewest spills to reach it.
    let mut now: HashMap<Vec<bool>, u32> = HashMap::from([(Vec::new(), 0)]);
    for &is_push in moves {
        let mut next: HashMap<Vec<bool>, u32> = HashMap::new();
        for (mut stack, spills) in now {
            match is_push {
                true => stack.push(true),
                false => drop(stack.pop()),
            }
            let kept: Vec<usize> = (0..stack.len()).filter(|&i| stack[i]).collect();
            for mask in 0..1_u32 << kept.len() {
                if kept.len() - mask.count_ones() as usize > memory {
                    continue;
                }
                let mut stack = stack.clone();
                let spilled = (0..kept.len()).filter(|i| mask >> i & 1 == 1);
                spilled.for_each(|i| stack[kept[i]] = false);
                let least = next.entry(stack).or_insert(u32::MAX);
                *least = (*least).min(spills + mask.count_ones());
            }
        }
        now = next;
    }
    now.into_values().min().unwrap()
}

/// Replays pushes and pops; returns how many extents were spilled and how many read.
fn spills(moves: &[bool], lens: impl Fn(u32) -> u64, memory: u64) -> (u32, u32) {
    let mut order = SpillOrder::new(memory);
    let (mut truth, mut pushed, mut written, mut read) = (Vec::new(), 0, HashSet::new(), 0);
    for &is_push in moves {
        if is_push {
            let extent = ExtentId(pushed);
            truth.push(extent);
            for spilled in order.push(extent, lens(pushed)) {
                assert!(written.insert(spilled), "written twice");
            }
            pushed += 1;
        } else {
            let (extent, is_kept) = order.pop().unwrap();
            assert_eq!(Some(extent), truth.pop());
            assert_eq!(is_kept, !written.contains(&extent));
            read += u32::from(!is_kept);
        }
        let kept = truth.iter().filter(|extent| !written.contains(extent));
        assert_eq!(order.used(), kept.map(|extent| lens(extent.0)).sum::<u64>());
        assert!(order.used() <= memory);
    }
    (written.len() as u32, read)
}

#[test]
fn the_newest_stay_and_no_choice_spills_less() {
    for len in 0..=9_u32 {
        for case in 0..1_u32 << len {
            let moves: Vec<bool> = (0..len).map(|i| case >> i & 1 == 1).collect();
            let mut height = 0;
            let is_possible = moves.iter().all(|is_push| {
                height += if *is_push { 1 } else { -1 };
                height >= 0
            });
            for memory in 0..=4_u64 {
                if is_possible {
                    let (written, _) = spills(&moves, |_| 1, memory);
                    assert_eq!(written, fewest_spills(&moves, memory as usize), "{moves:?}");
                }
            }
        }
    }
    // All pushes, then all pops: all but the memory is written once and read once.
    random_cases(200, |random: &mut Random| {
        let count = random.between(1, 30) as u32;
        let moves: Vec<bool> = (0..2 * count).map(|i| i < count).collect();
        let memory = random.between(0, u64::from(count));
        let (written, read) = spills(&moves, |_| 1, memory);
        assert_eq!((written, read), (count - memory as u32, written));
        let lens: Vec<u64> = (0..count).map(|_| random.between(1, 5)).collect();
        spills(&moves, |i| lens[i as usize], random.between(0, 60));
    });
}
