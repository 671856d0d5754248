//! How the cells of the KV cache are promised: pure arithmetic.
//!
//! A request is large if it may come to take more than a guest's room. Large ones never
//! get that room: so one request cannot take the whole cache while others wait, and
//! small ones ride beside it. They take the guest's room first, which is why they may
//! overtake a large one that waits, as long as they fit into it: they keep nothing from
//! it.

/// The cells of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    cells: usize,
    guest: usize,
}

impl Room {
    /// So many cells for so many slots, where a request takes `ctx` at most. What is
    /// left beside the longest request, but no more than a slot's share, is the guest's.
    pub fn new(cells: usize, slots: usize, ctx: usize) -> Self {
        let guest = match slots {
            0 | 1 => 0,
            slots => (cells / slots).min(cells - ctx),
        };
        Self { cells, guest }
    }

    /// Whether the cells can be promised like this.
    pub fn holds(&self, promises: impl Iterator<Item = usize>) -> bool {
        let (small, large) = self.sums(promises);
        match large {
            0 => small <= self.cells,
            large => large + small.max(self.guest) <= self.cells,
        }
    }

    /// Whether all small requests fit into the guest's room, and `one` is such a
    /// request.
    pub fn holds_aside(&self, promises: impl Iterator<Item = usize>, one: usize) -> bool {
        one <= self.guest && self.sums(promises).0 <= self.guest
    }

    /// What is promised to small and to large requests.
    fn sums(&self, promises: impl Iterator<Item = usize>) -> (usize, usize) {
        promises.fold((0, 0), |(small, large), promise| {
            match promise <= self.guest {
                true => (small + promise, large),
                false => (small, large + promise),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All rooms of up to 12 cells, and up to three requests in them.
    #[test]
    fn no_request_takes_a_guests_room_and_none_is_kept_from_a_large_one() {
        for (cells, slots) in (1..=12).flat_map(|cells| (1..=4).map(move |slots| (cells, slots))) {
            for ctx in 1..=cells {
                let room = Room::new(cells, slots, ctx);
                assert!(
                    room.holds([ctx].into_iter()),
                    "the longest request rides alone"
                );
                let all = |n: usize| [n % (ctx + 1), n / (ctx + 1) % (ctx + 1)];
                for n in 0..(ctx + 1) * (ctx + 1) {
                    let two = all(n);
                    if !room.holds(two.into_iter()) {
                        continue;
                    }
                    assert!(two.iter().sum::<usize>() <= cells, "{two:?} in {room:?}");
                    let small = two.iter().filter(|&&one| one <= room.guest).sum::<usize>();
                    for guest in 1..=room.guest {
                        let three = || two.into_iter().chain([guest]);
                        // A guest has room until guests take theirs.
                        if small + guest <= room.guest {
                            assert!(room.holds(three()), "{two:?} and {guest} in {room:?}");
                        }
                        // Whoever overtakes leaves a large one what it had.
                        if room.holds_aside(three(), guest) {
                            for large in room.guest + 1..=ctx {
                                let with = |before: bool| match before {
                                    true => room.holds(three().chain([large])),
                                    false => room.holds(two.into_iter().chain([large])),
                                };
                                assert_eq!(with(true), with(false), "{two:?} {guest} {large}");
                            }
                        }
                    }
                }
            }
        }
    }
}
