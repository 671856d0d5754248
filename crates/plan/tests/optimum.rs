//! Residency against the best of all subsets: enumerated small plans, then
//! random ones.

mod common;

use common::{Random, bytes, inverse, plan, random_plan, subset};
use delayline_plan::{
    ALIGN, MemoryShare, Plan, Residency, Schedule, choose, lap_bound_s, lap_time_s, window_min,
};

/// Device rates, relative to the one that reads the chosen stream in the compute time.
const SPEEDS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// A plan with all subsets of resident extents.
struct Case {
    plan: Plan,
    schedule: Schedule,
    /// All subsets with window 0, each with the window it needs.
    subsets: Vec<(Residency, u64)>,
}

impl Case {
    fn new(plan: Plan, near_bytes: u64) -> Self {
        let schedule = Schedule::new(&plan, near_bytes);
        let count = plan.extents.len();
        let of = |mask| {
            let resident = subset(mask, count);
            let streamed = inverse(&resident);
            let residency = Residency {
                resident_bytes: bytes(&plan, &resident),
                streamed_bytes: schedule.streamed_bytes(&streamed),
                window: 0,
                resident,
            };
            (residency, window_min(&schedule, &streamed))
        };
        let subsets = (0..1 << count).map(of).collect();
        Self {
            plan,
            schedule,
            subsets,
        }
    }

    fn largest(&self) -> u64 {
        self.plan.extents.iter().map(|e| e.len).max().unwrap()
    }

    fn total(&self) -> u64 {
        self.plan.extents.iter().map(|e| e.len).sum()
    }

    fn choose(&self, available: u64, lookahead: u64) -> Residency {
        let memory = MemoryShare {
            available,
            lookahead,
        };
        let chosen = choose(&self.plan, &self.schedule, memory).unwrap();
        assert_eq!(chosen.resident_bytes, bytes(&self.plan, &chosen.resident));
        assert!(chosen.resident_bytes + chosen.window <= available);
        let streamed = chosen.streamed();
        assert_eq!(
            chosen.streamed_bytes,
            self.schedule.streamed_bytes(&streamed)
        );
        let needed = window_min(&self.schedule, &streamed);
        assert!(chosen.window >= needed);
        assert!(chosen.window <= needed + lookahead);
        assert!(chosen.window <= chosen.streamed_bytes.max(needed));
        chosen
    }

    /// `TooSmall::needed`, checked to be the smallest accepted.
    fn needed(&self, lookahead: u64) -> u64 {
        let choose = |available| {
            let memory = MemoryShare {
                available,
                lookahead,
            };
            choose(&self.plan, &self.schedule, memory)
        };
        let refused = choose(0).unwrap_err();
        assert!(choose(refused.needed).is_ok());
        assert_eq!(
            choose(refused.needed - 1).unwrap_err().needed,
            refused.needed
        );
        let best = self.subsets.iter().map(|(s, w)| s.resident_bytes + w).min();
        assert!(refused.needed >= best.unwrap());
        assert!(2 * (refused.needed - best.unwrap()) <= 5 * self.largest());
        refused.needed
    }

    /// The shortest lap of all subsets that `available` bytes allow, in
    /// seconds, for one second of compute.
    fn optimum_s(&self, available: u64, rate: f64) -> f64 {
        let mut best = f64::INFINITY;
        for (subset, needed) in &self.subsets {
            let bound = lap_bound_s(1.0, subset.streamed_bytes, rate);
            if subset.resident_bytes + needed > available || bound >= best {
                continue;
            }
            let mut subset = subset.clone();
            subset.window = (available - subset.resident_bytes) / ALIGN * ALIGN;
            best = best.min(lap_time_s(&self.plan, &self.schedule, &subset, 1.0, rate));
        }
        best
    }
}

/// Distances from the optimum, in reading times of the largest extent, of laps whose
/// window has room for one more of the largest than it needs.
#[derive(Default)]
struct Distances {
    sum: f64,
    count: f64,
}

impl Distances {
    /// Compares one division at all speeds; `name` is for the message.
    fn add(&mut self, case: &Case, available: u64, lookahead: u64, name: &str) {
        let chosen = case.choose(available, lookahead);
        let needed = window_min(&case.schedule, &chosen.streamed());
        let roomy = chosen.window >= needed + case.largest() || chosen.window == 0;
        for speed in SPEEDS {
            let rate = speed * chosen.streamed_bytes.max(ALIGN) as f64;
            let lap_s = lap_time_s(&case.plan, &case.schedule, &chosen, 1.0, rate);
            let bound_s = lap_bound_s(1.0, chosen.streamed_bytes, rate);
            assert!(lap_s >= bound_s, "{name}");
            // No lap is longer than compute and reading one after the other.
            let both_s = 1.0 + chosen.streamed_bytes as f64 / rate;
            assert!(lap_s <= both_s * (1.0 + 1e-9), "{name}: {lap_s} {both_s}");
            let excess_s = lap_s - case.optimum_s(available, rate);
            let distance = excess_s * rate / case.largest() as f64;
            if roomy {
                let most = 3.5 + lookahead as f64 / case.largest() as f64;
                assert!(distance <= most, "{name} at {speed}: {distance}");
                self.sum += distance;
                self.count += 1.0;
            }
        }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }
}

#[test]
fn all_laps_of_four_extents_come_near_the_optimum() {
    let mut distances = Distances::default();
    for code in 0..256_u32 {
        let blocks: Vec<u64> = (0..4).map(|i| 1 + 2 * u64::from(code >> i & 1)).collect();
        let runs: Vec<(Vec<u32>, f64)> = (0..4)
            .map(|i| (vec![i], f64::from(1 + 4 * (code >> (4 + i) & 1))))
            .collect();
        let case = Case::new(plan(&blocks, &runs), 0);
        let needed = case.needed(0);
        for available in (needed..=case.total()).step_by(ALIGN as usize) {
            let name = format!("code {code} available {available}");
            distances.add(&case, available, case.largest(), &name);
        }
    }
    assert!(distances.mean() <= 0.25, "{}", distances.mean());
}

#[test]
fn random_laps_come_near_the_optimum() {
    for (seeds, extents, equal) in [
        (0..150, 7, false),
        (150..300, 7, true),
        (300..312, 10, false),
        (312..324, 10, true),
    ] {
        let mut distances = Distances::default();
        for seed in seeds {
            let mut random = Random(seed);
            let mut plan = random_plan(&mut random, extents, 6);
            if equal {
                for extent in &mut plan.extents {
                    extent.len = 4 * ALIGN;
                }
            }
            let case = Case::new(plan, random.between(0, 4) * ALIGN);
            let lookahead = random.between(1, 2) * case.largest();
            let needed = case.needed(lookahead);
            for _ in 0..2 {
                let available = random.between(needed, case.total().max(needed));
                let name = format!("seed {seed} available {available}");
                distances.add(&case, available, lookahead, &name);
            }
        }
        assert!(distances.mean() <= 0.6, "{extents}: {}", distances.mean());
    }
}

#[test]
fn all_resident_when_all_fits_and_only_then() {
    for seed in 0..100 {
        let case = Case::new(random_plan(&mut Random(seed), 6, 5), ALIGN);
        let all = case.choose(case.total(), ALIGN);
        assert_eq!((all.window, all.streamed_bytes), (0, 0), "seed {seed}");
        assert!(all.resident.iter().all(|stays| *stays));
        if case.needed(0) < case.total() {
            let less = case.choose(case.total() - 1, ALIGN);
            assert!(less.streamed_bytes > 0 && less.window > 0, "seed {seed}");
        }
    }
}

#[test]
fn what_is_read_twice_stays_first() {
    let runs = [vec![0], vec![1], vec![2], vec![3], vec![0]].map(|needs| (needs, 1.0));
    let case = Case::new(plan(&[2, 3, 3, 3], &runs), 0);
    assert_eq!(case.schedule.steps().len(), 5);
    let chosen = case.choose(5 * ALIGN, 0);
    assert_eq!(chosen.resident, [true, false, false, false]);
    assert_eq!(chosen.streamed_bytes, 9 * ALIGN);
}

#[test]
fn a_huge_extent_stays_rather_than_widen_the_window() {
    let mut blocks = vec![2; 40];
    blocks.push(60);
    let runs = (0..41).map(|i| (vec![i], blocks[i as usize] as f64));
    let case_plan = plan(&blocks, &runs.collect::<Vec<_>>());
    let schedule = Schedule::new(&case_plan, 0);
    let memory = |available| MemoryShare {
        available: available * ALIGN,
        lookahead: 4 * ALIGN,
    };
    let chosen = choose(&case_plan, &schedule, memory(80)).unwrap();
    assert!(chosen.resident[40]);
    assert_eq!(chosen.window, 6 * ALIGN);
    assert_eq!(chosen.resident_bytes, 74 * ALIGN);
    // With less memory than for both it has to stream.
    let chosen = choose(&case_plan, &schedule, memory(61)).unwrap();
    assert!(!chosen.resident[40]);
    let refused = choose(&case_plan, &schedule, memory(10)).unwrap_err();
    assert_eq!(refused.needed, 60 * ALIGN);
    assert!(refused.to_string().contains("at least 245760"));
}

#[test]
fn empty_plans_and_extents_that_no_run_needs_are_no_trouble() {
    let nothing = Plan::default();
    let memory = MemoryShare {
        available: 0,
        lookahead: ALIGN,
    };
    let chosen = choose(&nothing, &Schedule::new(&nothing, 0), memory).unwrap();
    assert_eq!(chosen, Residency::default());

    let unused = plan(&[1, 8], &[(vec![0], 1.0)]);
    let schedule = Schedule::new(&unused, 0);
    let memory = |blocks| MemoryShare {
        available: blocks * ALIGN,
        lookahead: ALIGN,
    };
    let chosen = choose(&unused, &schedule, memory(1)).unwrap();
    assert_eq!(chosen.resident, [true, false]);
    let chosen = choose(&unused, &schedule, memory(9)).unwrap();
    assert_eq!(chosen.resident, [true, true]);
}
