//! The walk through a lap, for random plans: what a run uses is leased and whole while
//! it computes, and nothing is leased when the lap is over.

mod common;

use common::{Bench, Manner, PAGE, Rng};
use delayline_line::{Config, Walk};
use delayline_plan::{Extent, ExtentId, Plan, Run, Schedule, window_min};

#[test]
fn what_a_run_uses_is_leased_while_it_computes() {
    let seed = delayline_testing::seed();
    for case in 0..200 {
        let mut rng = Rng(seed.wrapping_add(case));
        let count = 1 + rng.below(6);
        let pages: Vec<u64> = (0..count).map(|_| 1 + rng.below(4)).collect();
        let mut offset = 0;
        let extents = pages.iter().map(|pages| {
            let len = pages * PAGE;
            offset += len;
            Extent {
                part: 0,
                offset: offset - len,
                len,
            }
        });
        let mut plan = Plan::cycle(extents.collect(), Vec::new());
        for _ in 0..1 + rng.below(8) {
            let mut run = Run::default();
            for _ in 0..rng.below(3) {
                run.read(ExtentId(rng.below(count) as u32));
            }
            plan.runs.push(run);
        }
        let schedule = Schedule::new(&plan, rng.below(6) * PAGE);
        let longest = pages.iter().max().unwrap() * PAGE;
        let config = Config {
            window: window_min(&schedule, &vec![true; pages.len()]).max(longest),
            read_len: PAGE as u32,
            retries: 0,
        };
        let mut bench = Bench::new(&pages, &[], 0, config, Manner::default(), case, 0);
        for _ in 0..3 {
            bench
                .line
                .enqueue(schedule.steps().iter().map(|step| step.extent));
            let mut walk = Walk::new();
            for run in &plan.runs {
                walk.begin(&schedule, &mut bench.line).unwrap();
                for used in &run.uses {
                    bench.verify(walk.lease(used.extent).expect("it is leased"));
                }
                let run = walk.run();
                let held = schedule.steps().iter();
                let held = held.filter(|step| step.first_run <= run && run <= step.last_run);
                assert_eq!(walk.leases().len(), held.count());
                walk.end(&schedule, &mut bench.line).unwrap();
            }
            assert_eq!(walk.run() as usize, plan.runs.len());
            assert!(walk.leases().is_empty(), "case {case}");
        }
    }
}
