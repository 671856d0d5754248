//! A training run that computes nothing. The bytes of an extent after a step follow from
//! the extent and the step, so that every byte can be checked.
#![allow(dead_code, reason = "each test uses some of it")]

use delayline_line::{Medium, Region};
use delayline_medium::{Crash, Memory, Rng};
use delayline_plan::Mode;
use delayline_train::{Error, StateLayout, StateStore};
use std::sync::Arc;

/// The bytes of an extent after a step.
pub fn bytes_of(extent: u32, step: u64, len: u64) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(extent) << 32 | step);
    let first = rng.below(256) as u8;
    let stride = 1 + rng.below(254) as u8;
    (0..len)
        .map(|at| {
            first
                .wrapping_add((at as u8).wrapping_mul(stride))
                .wrapping_add((at >> 8) as u8)
        })
        .collect()
}

/// Some extents of different lengths, some of them with gradients that wait.
pub fn layout(rng: &mut Rng, twin: bool) -> StateLayout {
    let lens: Vec<u64> = (0..3 + rng.below(8))
        .map(|_| 1 + rng.below(5 * 4096))
        .collect();
    let waiting = lens.iter().copied().filter(|len| len % 2 == 0).collect();
    StateLayout {
        lens,
        waiting,
        twin,
        payload: 100,
    }
}

/// Memory for a third of the layout, or the minimum that works.
pub fn memory(layout: &StateLayout) -> (Arc<Memory>, Region) {
    let all: u64 = layout
        .lens
        .iter()
        .map(|len| len.next_multiple_of(4096))
        .sum();
    let largest = layout.lens.iter().max().unwrap().next_multiple_of(4096);
    Memory::new((64 << 10) + (all / 3).max(2 * largest)).unwrap()
}

/// The parts of a layout, filled with zeros.
pub fn parts(layout: &StateLayout) -> Vec<Vec<u8>> {
    let lens = layout.part_lens();
    lens.map(|len| vec![0; len as usize]).into()
}

/// A medium with these bytes that can lose power.
pub fn crash(parts: Vec<Vec<u8>>, memory: &Arc<Memory>) -> Crash {
    Crash::new(parts, memory.clone(), 8, 512)
}

fn put<M: Medium>(
    store: &mut StateStore<M>,
    extent: u32,
    mode: Mode,
    bytes: &[u8],
) -> Result<(), Error> {
    let lease = store.acquire(extent, mode)?;
    store.memory().copy_in(lease.at(), bytes);
    store.release(lease);
    Ok(())
}

/// The bytes of an extent.
pub fn get<M: Medium>(store: &mut StateStore<M>, extent: u32, len: u64) -> Result<Vec<u8>, Error> {
    let lease = store.acquire(extent, Mode::Read)?;
    let mut bytes = vec![0; len as usize];
    store.memory().copy_out(lease.at(), &mut bytes);
    store.release(lease);
    Ok(bytes)
}

/// Whether an extent that waits has a gradient after a step.
fn waits(extent: u32, step: u64) -> bool {
    !(u64::from(extent) + step).is_multiple_of(3)
}

/// One step with its commit. The forward pass uses up the gradients that waited; the
/// backward pass changes the state and leaves other gradients, each in two parts.
pub fn step<M: Medium>(store: &mut StateStore<M>, number: u64) -> Result<(), Error> {
    let StateLayout { lens, waiting, .. } = store.layout().clone();
    let extents = lens.len() as u32;
    if number > 1 {
        for (extent, &len) in (0..).zip(&lens) {
            assert_eq!(get(store, extent, len)?, bytes_of(extent, number - 1, len));
        }
        check_waiting(store, number - 1)?;
    }
    for index in extents..extents + waiting.len() as u32 {
        store.forget(index)?;
    }
    for (extent, &len) in (0..extents).zip(&lens).rev() {
        let mode = if number == 1 {
            Mode::Write
        } else {
            Mode::Modify
        };
        put(store, extent, mode, &bytes_of(extent, number, len))?;
    }
    for (index, &len) in (extents..).zip(&waiting) {
        if waits(index, number) {
            put(store, index, Mode::Write, &bytes_of(index, 0, len))?;
            put(store, index, Mode::Modify, &bytes_of(index, number, len))?;
            store.write_soon(index);
        }
    }
    store.end_step();
    store.commit(&number.to_le_bytes())
}

fn check_waiting<M: Medium>(store: &mut StateStore<M>, number: u64) -> Result<(), Error> {
    let StateLayout { lens, waiting, .. } = store.layout().clone();
    for (index, &len) in (lens.len() as u32..).zip(&waiting) {
        assert_eq!(store.is_empty(index), !waits(index, number));
        if waits(index, number) {
            assert_eq!(get(store, index, len)?, bytes_of(index, number, len));
        }
    }
    Ok(())
}

/// Checks every byte of a store. Returns the step that it was last committed after.
pub fn checked<M: Medium>(store: &mut StateStore<M>) -> Result<u64, Error> {
    let number = u64::from_le_bytes(store.payload().try_into().unwrap());
    for (extent, len) in (0..).zip(store.layout().lens.clone()) {
        let bytes = get(store, extent, len)?;
        assert!(
            bytes == bytes_of(extent, number, len),
            "extent {extent} after step {number}"
        );
    }
    check_waiting(store, number)?;
    Ok(number)
}
