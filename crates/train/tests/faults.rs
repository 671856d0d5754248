//! A drive that fails or returns wrong bytes: the step fails, the last commit is intact,
//! and no wrong byte is used.
#![forbid(unsafe_code)]

mod common;

use common::{checked, crash, layout, memory, parts, step};
use delayline_medium::{Faults, Faulty, Memory, Rng};
use delayline_plan::Mode;
use delayline_train::{Activations, Error, StateLayout, StateStore};

#[test]
fn faults_of_a_drive_are_errors_and_the_last_commit_is_intact() {
    let rng = &mut Rng::new(delayline_testing::seed());
    let (mut failed, mut caught) = (0, 0);
    for round in 0..150 {
        let layout = layout(rng, true);
        let memory = memory(&layout);
        let lens = layout.part_lens();
        let one_of = |round: u64, kind: u64| f64::from(u8::from(round % 6 == kind)) * 0.05;
        let broken = (round % 6 == 5).then(|| {
            let part = 1 + rng.below(2) as u16;
            let at = rng.below(lens[usize::from(part)]);
            (part, at..at + 1)
        });
        let faults = Faults {
            reorder: true,
            delay_polls: 3,
            transient: one_of(round, 0) * 4.0,
            short: one_of(round, 1) * 4.0,
            flipped: one_of(round, 2),
            zeroed: one_of(round, 3),
            misplaced: one_of(round, 3),
            lost: one_of(round, 4),
            torn: one_of(round, 4),
            in_a_row: 2,
            broken: broken.into_iter().collect(),
            ..Faults::default()
        };
        let inner = crash(parts(&layout), &memory.0);
        let medium =
            Faulty::new(inner, Faults::default(), rng.below(u64::MAX)).spoiling(memory.0.clone());
        let mut store = StateStore::create(medium, memory, layout.clone()).unwrap();
        step(&mut store, 1).unwrap();
        store.medium_mut().set_faults(faults);
        let mut acknowledged = 1;
        let error = loop {
            match step(&mut store, acknowledged + 1) {
                Ok(()) if acknowledged == 12 => break None,
                Ok(()) => acknowledged += 1,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = error {
            failed += 1;
            assert!(
                matches!(
                    error,
                    Error::Moved { .. } | Error::Checksum { .. } | Error::Sync { .. }
                ),
                "{error}"
            );
        }
        // The store is opened on a sound drive with the bytes that were really written.
        // Writes that were acknowledged and lost are found by their checksums.
        let survivor = store.medium().inner().survivor(|states| states - 1);
        let memory = common::memory(&layout);
        let medium = crash(survivor.clone(), &memory.0);
        let mut store = match StateStore::open(medium, memory, &survivor[0]) {
            Ok(store) => store,
            Err(error) => {
                // The record itself may be lost.
                assert!(round % 6 == 4, "{error}");
                continue;
            }
        };
        match checked(&mut store) {
            Ok(found) if round % 6 == 4 => assert!(found <= acknowledged + 1),
            Ok(found) => assert!(
                found == acknowledged || found == acknowledged + 1,
                "{found}, {acknowledged}"
            ),
            Err(Error::Checksum { .. }) if round % 6 == 4 => caught += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(failed > 0, "no fault was met");
    println!("{failed} runs failed, {caught} had lost writes that were found later");
}

#[test]
fn a_failed_write_that_succeeds_later_is_not_reported() {
    const LEN: u64 = 64 << 10;
    let layout = StateLayout {
        lens: vec![LEN; 3],
        waiting: vec![LEN],
        twin: true,
        payload: 8,
    };
    // Three extents fit besides the commit record.
    let (memory, region) = Memory::new((64 << 10) + 3 * LEN).unwrap();
    let inner = crash(parts(&layout), &memory);
    let medium = Faulty::new(inner, Faults::default(), 1).spoiling(memory.clone());
    let mut store = StateStore::create(medium, (memory, region), layout).unwrap();
    let write = |store: &mut StateStore<_>, extent, mode| {
        let lease = store.acquire(extent, mode).unwrap();
        store.release(lease);
    };
    store.medium_mut().set_faults(Faults {
        broken: vec![(1, 0..LEN)],
        ..Faults::default()
    });
    write(&mut store, 0, Mode::Write);
    (0..100).for_each(|_| store.pump());
    assert_eq!(store.counters().bytes_written, 0);
    assert!(store.medium().counts().broken > 0);
    store.medium_mut().set_faults(Faults::default());
    write(&mut store, 1, Mode::Write);
    write(&mut store, 2, Mode::Write);
    store.commit(b"first").unwrap();
    // Extent 3 needs the memory of extent 2, which has to be written first.
    let held = [0, 1].map(|extent| store.acquire(extent, Mode::Read).unwrap());
    write(&mut store, 2, Mode::Modify);
    write(&mut store, 3, Mode::Write);
    held.into_iter().for_each(|lease| store.release(lease));
    store.commit(b"second").unwrap();
}

#[test]
fn activations_come_back_as_they_were_or_not_at_all() {
    let rng = &mut Rng::new(delayline_testing::seed());
    for round in 0..60 {
        let (memory, region) = Memory::new(64 << 12).unwrap();
        let inner = crash(vec![vec![0; 1 << 20]], &memory);
        let faults = Faults {
            reorder: true,
            delay_polls: 4,
            flipped: if round % 3 == 1 { 0.02 } else { 0.0 },
            transient: if round % 3 == 2 { 0.1 } else { 0.0 },
            in_a_row: 2,
            ..Faults::default()
        };
        let medium = Faulty::new(inner, faults, rng.below(u64::MAX)).spoiling(memory.clone());
        let mut stack = Activations::new(medium, (memory.clone(), region), 1 << 20);
        let mut live = Vec::new();
        let mut number = 0;
        for _ in 0..300 {
            // Grows beyond the memory in every round.
            let grows = stack.peak_bytes() <= 64 << 12 || rng.below(100) < 55;
            if grows && stack.bytes() < (1 << 19) {
                number += 1;
                let len = 1 + rng.below(9 << 12);
                let (id, at) = stack.push(len).unwrap();
                memory.copy_in(at, &common::bytes_of(number, 0, len));
                stack.filled(id);
                live.push((id, number, len));
            } else if !live.is_empty() {
                // Roughly in reverse order, and some twice.
                let back = rng.below(3.min(live.len() as u64)) as usize;
                let (id, number, len) = live.remove(live.len() - 1 - back);
                for _ in 0..1 + rng.below(2) {
                    match stack.take(id) {
                        Ok(at) => {
                            let mut bytes = vec![0; len as usize];
                            memory.copy_out(at, &mut bytes);
                            assert!(bytes == common::bytes_of(number, 0, len));
                            stack.release(id);
                        }
                        Err(error) => assert!(matches!(error, Error::Checksum { .. }), "{error}"),
                    }
                }
                stack.remove(id).unwrap();
            }
        }
        let counters = stack.counters();
        assert!(counters.bytes_written > 0 && counters.peak <= 64 << 12);
    }
}

#[test]
fn activations_that_do_not_fit_are_written_and_read_about_once() {
    let (memory, region) = Memory::new(1 << 20).unwrap();
    let medium = crash(vec![vec![0; 8 << 20]], &memory);
    let mut stack = Activations::new(medium, (memory.clone(), region), 8 << 20);
    let ids: Vec<_> = (0..64)
        .map(|_| {
            let (id, _) = stack.push(64 << 10).unwrap();
            stack.filled(id);
            id
        })
        .collect();
    for id in ids.into_iter().rev() {
        stack.take(id).unwrap();
        stack.release(id);
        stack.remove(id).unwrap();
    }
    let (counters, rest) = (stack.counters(), (4 << 20) - (1 << 20));
    // An eighth of the memory is kept free to push into.
    assert!(
        counters.bytes_written <= rest + (1 << 17) + (64 << 10),
        "{counters:?}"
    );
    assert!(counters.bytes_read <= rest + (64 << 10), "{counters:?}");
    assert_eq!(stack.bytes(), 0);
}
