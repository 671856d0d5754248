//! That a faulty medium has the faults that it is told to have, and no others.

use delayline_line::{Completion, Medium, MediumError, Op, Region};
use delayline_medium::{Dram, Faults, Faulty, Memory, Rng, VirtualClock};
use std::sync::Arc;

const PAGE: u64 = 4096;
const PAGES: u64 = 64;

fn bytes() -> Vec<u8> {
    let mut bytes = vec![0; (PAGES * PAGE) as usize];
    Rng::new(7).fill(&mut bytes);
    bytes
}

fn faulty(faults: Faults, seed: u64) -> (Faulty<Dram>, Arc<Memory>, Region) {
    let (memory, region) = Memory::new(PAGES * PAGE).unwrap();
    let dram = Dram::new(vec![bytes()], memory.clone(), 8);
    let faulty = Faulty::new(dram, faults, seed).spoiling(memory.clone());
    (faulty, memory, region)
}

/// Reads every page once, up to eight at a time; the completions in their order, each
/// with what its buffer held then.
fn lap(faults: Faults, seed: u64) -> Vec<(Completion, Vec<u8>)> {
    let (mut medium, memory, mut region) = faulty(faults, seed);
    let (mut next, mut out, mut done) = (0, Vec::new(), Vec::new());
    while out.len() < PAGES as usize {
        while next < PAGES && next - (out.len() as u64) < 8 {
            let buffer = region.lend(next * PAGE, PAGE as u32);
            medium.submit(Op::read(next, 0, next * PAGE, buffer));
            next += 1;
        }
        medium.poll(next.is_multiple_of(3), &mut done);
        for completion in done.drain(..) {
            let mut now = vec![0; PAGE as usize];
            memory.copy_out(completion.buffer.at(), &mut now);
            out.push((completion, now));
        }
    }
    out
}

fn check(faults: Faults, expect: impl Fn(&[(Completion, Vec<u8>)])) {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let got = lap(faults.clone(), seed);
        let whole = bytes();
        let mut ids: Vec<u64> = got.iter().map(|(done, _)| done.id).collect();
        for (done, now) in &got {
            assert_eq!(
                (done.buffer.at(), done.buffer.len()),
                (done.id * PAGE, PAGE as u32)
            );
            let good = *done.result.as_ref().unwrap_or(&0) as usize;
            assert_eq!(now[..good], whole[(done.id * PAGE) as usize..][..good]);
            assert!(
                now[good..].iter().all(|&byte| byte == 0xa5),
                "the rest is spoiled"
            );
        }
        expect(&got);
        let said = |got: &[(Completion, Vec<u8>)]| -> Vec<_> {
            let one =
                |(done, now): &(Completion, Vec<u8>)| (done.id, done.result.clone(), now.clone());
            got.iter().map(one).collect()
        };
        let again = lap(faults.clone(), seed);
        assert_eq!(said(&got), said(&again), "the seed decides everything");
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..PAGES), "each read completes once");
    }
}

fn share(got: &[(Completion, Vec<u8>)], which: impl Fn(&Completion) -> bool) -> usize {
    got.iter().filter(|(done, _)| which(done)).count()
}

#[test]
fn without_faults_all_is_well_and_in_order() {
    check(Faults::default(), |got| {
        assert!(got.iter().map(|(done, _)| done.id).eq(0..PAGES));
        assert_eq!(
            share(got, |done| done.result == Ok(PAGE as u32)),
            PAGES as usize
        );
    });
}

#[test]
fn delays_and_disorder() {
    let faults = Faults {
        delay_polls: 4,
        reorder: true,
        ..Faults::default()
    };
    check(faults, |got| {
        assert!(!got.iter().map(|(done, _)| done.id).is_sorted());
        assert_eq!(share(got, |done| done.result.is_ok()), PAGES as usize);
    });
}

#[test]
fn short_reads_and_errors() {
    let faults = Faults {
        short: 0.3,
        transient: 0.3,
        in_a_row: 2,
        ..Faults::default()
    };
    check(faults, |got| {
        let short = share(got, |done| {
            done.result.as_ref().is_ok_and(|&n| n < PAGE as u32)
        });
        let failed = share(got, |done| done.result.is_err());
        assert!(
            (3..35).contains(&short) && (5..40).contains(&failed),
            "{short} {failed}"
        );
    });
}

#[test]
fn broken_bytes_and_only_they_fail() {
    let broken = vec![(0, 3 * PAGE + 5..5 * PAGE + 1), (1, 0..PAGE)];
    check(
        Faults {
            broken,
            ..Faults::default()
        },
        |got| {
            let failed = |done: &Completion| done.result.is_err();
            assert_eq!(share(got, failed), 3);
            assert!(
                got.iter()
                    .all(|(done, _)| failed(done) == (3..=5).contains(&done.id))
            );
        },
    );
}

#[test]
fn gone_is_for_good() {
    check(
        Faults {
            gone_after: Some(10),
            ..Faults::default()
        },
        |got| {
            let gone = |done: &Completion| matches!(done.result, Err(MediumError::Gone { .. }));
            assert!(got.iter().all(|(done, _)| gone(done) == (done.id >= 10)));
        },
    );
}

#[test]
fn what_always_may_fail_still_succeeds_in_the_end() {
    let faults = Faults {
        transient: 0.5,
        short: 1.0,
        in_a_row: 3,
        ..Faults::default()
    };
    let (mut medium, _memory, mut region) = faulty(faults, 3);
    let mut done = Vec::new();
    for pass in 0..8 {
        // A caller that goes on where a short read ended succeeds as well.
        let offset = if pass % 2 == 0 { 0 } else { PAGE };
        let buffer = region.lend(0, (2 * PAGE - offset) as u32);
        medium.submit(Op::read(pass, 0, offset, buffer));
        medium.poll(true, &mut done);
        let completion = done.pop().unwrap();
        let whole = completion.result == Ok(completion.buffer.len());
        region.take_back(completion.buffer);
        assert_eq!(whole, pass % 4 == 3, "pass {pass}");
    }
}

#[test]
fn delays_in_virtual_time_pass_in_virtual_time() {
    let (memory, mut region) = Memory::new(PAGE).unwrap();
    let clock = VirtualClock::new();
    let faults = Faults {
        delay_ns: 1_000_000,
        ..Faults::default()
    };
    let dram = Dram::new(vec![bytes()], memory, 1);
    let mut medium = Faulty::new(dram, faults, 5).in_time(clock.clone());
    let (mut done, mut last) = (Vec::new(), 0);
    for id in 0..20 {
        medium.submit(Op::read(id, 0, 0, region.lend(0, PAGE as u32)));
        medium.poll(false, &mut done);
        assert!(done.is_empty(), "the delay has only begun");
        medium.poll(true, &mut done);
        let now = delayline_line::Clock::now_ns(&clock);
        assert!(now > last && now <= last + 1_000_000);
        let completion = done.pop().unwrap();
        assert_eq!(completion.id, id);
        region.take_back(completion.buffer);
        last = now;
    }
}
