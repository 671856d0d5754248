//! The stack: random pushes and pops over a drive that delays, shortens and fails, and
//! the minimum of bytes moved.

mod common;

use std::rc::Rc;

use common::drive::Drive;
use common::{PAGE, Rng, Time};
use delayline_line::{Region, Stack, StackConfig, StackError, StackLease};
use proptest::prelude::*;

/// A stack, and the expected contents of each item.
struct Player {
    stack: Stack<Drive, Rc<Time>>,
    drive_memory: Rc<std::cell::RefCell<Vec<u8>>>,
    /// Each item's number and length.
    model: Vec<(u64, u64)>,
    /// Popped and not given back.
    out: Vec<(StackLease, u64)>,
    pushed: u64,
    rng: Rng,
    fault_percent: u64,
}

const LONGEST: u64 = 5;

impl Player {
    fn new(seed: u64, room_pages: u64, capacity_pages: u64, fault_percent: u64) -> Self {
        let mut rng = Rng(seed);
        // The stack's memory need not begin at 0.
        let at = rng.below(4) * PAGE;
        let (room, capacity) = (room_pages * PAGE, capacity_pages * PAGE);
        let drive = Drive::new(at + room, capacity, fault_percent, &mut rng);
        let (time, drive_memory) = (drive.time.clone(), drive.memory.clone());
        let config = StackConfig {
            at,
            room,
            part: 0,
            capacity,
            op_len: (1 + rng.below(3)) as u32 * PAGE as u32,
            retries: rng.below(3) as u32,
        };
        Self {
            stack: Stack::new(drive, time, Region::new(at + room), config).unwrap(),
            drive_memory,
            model: Vec::new(),
            out: Vec::new(),
            pushed: 0,
            rng,
            fault_percent,
        }
    }

    /// Calls again after each error of the drive.
    fn insist<T>(&mut self, mut call: impl FnMut(&mut Self) -> Result<T, StackError>) -> T {
        for _ in 0..10_000 {
            match call(self) {
                Ok(value) => return value,
                Err(StackError::Spill { .. } | StackError::Refill { .. }) => {
                    assert!(self.fault_percent > 0);
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it fails every time");
    }

    fn bytes(&self, lease: &StackLease) -> std::ops::Range<usize> {
        lease.at() as usize..(lease.at() + lease.len()) as usize
    }

    fn push(&mut self, pages: u64) {
        let lease = self.insist(|player| player.stack.push(pages * PAGE));
        let range = self.bytes(&lease);
        self.pushed += 1;
        let word = self
            .pushed
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .to_le_bytes();
        let memory = &mut self.drive_memory.borrow_mut()[range];
        memory
            .chunks_exact_mut(8)
            .for_each(|b| b.copy_from_slice(&word));
        self.model.push((self.pushed, pages * PAGE));
        self.stack.filled(lease);
    }

    fn pop(&mut self) {
        let lease = self.insist(|player| match player.stack.pop() {
            // Leased items leave no room for it.
            Err(StackError::NoRoom { .. }) if !player.out.is_empty() => {
                player.release_all();
                player.stack.pop()
            }
            other => other,
        });
        let expect = self.model.pop();
        assert_eq!(
            lease.as_ref().map(StackLease::len),
            expect.map(|(_, len)| len)
        );
        if let (Some(lease), Some((number, _))) = (lease, expect) {
            self.check(&lease, number);
            self.out.push((lease, number));
        }
    }

    fn check(&self, lease: &StackLease, number: u64) {
        let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        let memory = &self.drive_memory.borrow()[self.bytes(lease)];
        assert!(
            memory.chunks_exact(8).all(|b| b == word),
            "item {number}: other bytes"
        );
    }

    /// Gives back a random one of the leased items.
    fn release(&mut self) {
        if !self.out.is_empty() {
            let at = self.rng.below(self.out.len() as u64) as usize;
            let (lease, number) = self.out.swap_remove(at);
            self.check(&lease, number);
            self.stack.release(lease);
        }
    }

    fn release_all(&mut self) {
        while !self.out.is_empty() {
            self.release();
        }
    }
}

fn live(seed: u64, room_pages: u64, steps: u64, fault_percent: u64) {
    let capacity_pages = 60;
    let mut player = Player::new(seed, room_pages, capacity_pages, fault_percent);
    let mut climbing = true;
    for _ in 0..steps {
        if player.rng.percent(10) {
            climbing = !climbing;
        }
        let pages = 1 + player.rng.below(LONGEST.min(room_pages));
        let fits = player.stack.bytes() + pages * PAGE <= capacity_pages * PAGE;
        if climbing && fits {
            player.release_all();
            player.push(pages);
        } else {
            player.pop();
            if player.rng.percent(50) {
                player.release();
            }
        }
        if player.rng.percent(50) {
            player.stack.pump();
        }
        assert_eq!(player.stack.len(), player.model.len());
    }
    player.release_all();
    while !player.stack.is_empty() {
        player.pop();
        player.release_all();
    }
    assert_eq!((player.stack.len(), player.stack.bytes()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_pushed_is_popped(
        seed in any::<u64>(),
        room_pages in 1..30u64,
        steps in 1..200u64,
        faults in prop_oneof![1 => Just(0), 1 => 1..25u64],
    ) {
        live(seed, room_pages, steps, faults);
    }

    #[test]
    fn the_least_is_written_and_read_back(
        seed in any::<u64>(),
        pages in prop::collection::vec(1..=LONGEST, 1..40),
        room_pages in 10..40u64,
    ) {
        let mut player = Player::new(seed, room_pages, 200, 0);
        for &pages in &pages {
            player.push(pages);
        }
        while !player.stack.is_empty() {
            player.pop();
            player.release_all();
        }
        let counters = player.stack.counters();
        let total = pages.iter().sum::<u64>();
        prop_assert_eq!(counters.bytes_pushed, total * PAGE);
        prop_assert_eq!(counters.bytes_spilled, counters.bytes_refilled);
        // The minimum, plus pads at the memory's end and the item that straddles it.
        let least = total.saturating_sub(room_pages) * PAGE;
        prop_assert!(counters.bytes_spilled >= least);
        if total <= room_pages {
            prop_assert_eq!(counters.bytes_spilled, 0);
        }
        prop_assert!(counters.bytes_spilled <= least + 3 * LONGEST * PAGE);
    }
}

#[test]
fn what_cannot_be_pushed_is_refused_and_nothing_is_lost() {
    let mut player = Player::new(1, 4, 8, 0);
    let room = 4 * PAGE;
    for len in [0, 5 * PAGE, 100] {
        let error = player.stack.push(len).unwrap_err();
        assert_eq!(error, StackError::Length { len, room });
    }
    player.push(4);
    player.push(4);
    assert!(matches!(
        player.stack.push(PAGE),
        Err(StackError::Full { .. })
    ));
    player.pop();
    // The popped item is where the next one would be.
    assert_eq!(
        player.stack.push(PAGE).unwrap_err(),
        StackError::NoRoom { room }
    );
    player.release_all();
    let lease = player.stack.push(2 * PAGE).unwrap();
    assert!(matches!(player.stack.pop(), Err(StackError::NoRoom { .. })));
    player.stack.filled(lease);
}

#[test]
fn a_drive_that_fails_for_good_is_an_error_and_not_a_hang() {
    let mut player = Player::new(3, 4, 40, 0);
    player.push(4);
    player.stack.medium_mut().fault_percent = 100;
    for _ in 0..3 {
        let error = player.stack.push(PAGE).unwrap_err();
        assert!(matches!(error, StackError::Spill { .. }), "{error}");
    }
    player.stack.medium_mut().fault_percent = 0;
    player.push(4);
    player.pop();
    player.release_all();
    player.stack.medium_mut().fault_percent = 100;
    assert!(matches!(player.stack.pop(), Err(StackError::Refill { .. })));
    player.stack.medium_mut().fault_percent = 0;
    player.pop();
    player.release_all();
    assert!(player.stack.is_empty());
}
