//! The power fails at a random moment. The store then has the content of the last commit,
//! or of the one that was under way.
#![forbid(unsafe_code)]

mod common;

use common::{checked, crash, layout, memory, parts, step};
use delayline_line::{Caps, Completion, Medium, MediumEvent, Op, Stats};
use delayline_medium::{Crash, Rng};
use delayline_train::{Error, StateStore};

/// A medium whose power is cut after `left` operations.
struct CutAfter {
    inner: Crash,
    left: u64,
}

impl Medium for CutAfter {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }
    fn submit(&mut self, op: Op) {
        match self.left {
            0 => self.inner.cut(),
            _ => self.left -= 1,
        }
        self.inner.submit(op);
    }
    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.inner.poll(wait, done);
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.inner.events(out);
    }
}

fn cuts(rng: &mut Rng, wanted: u64) {
    let mut done = 0;
    while done < wanted {
        let layout = layout(rng, true);
        let mut parts = parts(&layout);
        let (mut at, mut is_new) = (0, true);
        // Each cut is followed by a run that continues from what was found.
        for _ in 0..1 + rng.below(6) {
            let memory = memory(&layout);
            let inner = crash(parts.clone(), &memory.0);
            let left = rng.below(300);
            let medium = CutAfter { inner, left };
            let opened = match is_new {
                true => StateStore::create(medium, memory, layout.clone()),
                false => StateStore::open(medium, memory, &parts[0]),
            };
            let mut store = opened.unwrap();
            let mut acknowledged = at;
            while step(&mut store, acknowledged + 1).is_ok() {
                acknowledged += 1;
            }
            // Several of the states that the drive may be in.
            for _ in 0..4 {
                parts = store.medium().inner.survivor_by_chance(rng);
                done += 1;
                let memory = common::memory(&layout);
                let medium = crash(parts.clone(), &memory.0);
                let found = match StateStore::open(medium, memory, &parts[0]) {
                    Ok(mut found) => checked(&mut found).unwrap(),
                    Err(Error::NoRecord { .. }) if acknowledged == 0 => 0,
                    Err(error) => panic!("after step {acknowledged}: {error}"),
                };
                assert!(
                    found == acknowledged || found == acknowledged + 1,
                    "found {found}, acknowledged {acknowledged}"
                );
                (at, is_new) = (found, found == 0);
            }
        }
    }
}

/// The number of cuts is `CUTS`, 3000 by default.
#[test]
fn a_power_cut_loses_at_most_the_running_step() {
    let wanted = std::env::var("CUTS").map_or(3000, |cuts| cuts.parse().expect("CUTS is a number"));
    cuts(&mut Rng::new(delayline_testing::seed()), wanted);
}

#[test]
fn a_store_with_one_copy_is_whole_or_refused() {
    let rng = &mut Rng::new(delayline_testing::seed());
    let (mut torn, mut whole) = (0, 0);
    for _ in 0..200 {
        let layout = layout(rng, false);
        let memory = memory(&layout);
        let inner = crash(parts(&layout), &memory.0);
        let left = rng.below(300);
        let medium = CutAfter { inner, left };
        let mut store = StateStore::create(medium, memory, layout.clone()).unwrap();
        let mut acknowledged = 0;
        while step(&mut store, acknowledged + 1).is_ok() {
            acknowledged += 1;
        }
        let parts = store.medium().inner.survivor_by_chance(rng);
        let memory = common::memory(&layout);
        let medium = crash(parts.clone(), &memory.0);
        match StateStore::open(medium, memory, &parts[0]) {
            Ok(mut store) => {
                whole += 1;
                let found = checked(&mut store).unwrap();
                assert!(found == acknowledged || found == acknowledged + 1);
            }
            Err(Error::Torn) => torn += 1,
            Err(Error::NoRecord { .. }) if acknowledged == 0 => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(torn > 0 && whole > 0, "{torn} torn, {whole} whole");
}
