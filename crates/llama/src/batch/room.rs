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

    /// Whether so many cells can be promised together, of which large requests get `large`.
    pub fn holds(&self, all: usize, large: usize) -> bool {
        all <= self.cells && (large == 0 || large + self.guest <= self.cells)
    }

    /// Whether small requests, which take `small` cells together, fit into the guest's room.
    pub fn holds_aside(&self, small: usize) -> bool {
        small <= self.guest
    }

    /// Whether a request is large that may come to take so many cells, shared ones
    /// included.
    pub fn is_large(&self, promise: usize) -> bool {
        promise > self.guest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether requests that share nothing can be promised so much each.
    fn holds(room: &Room, promises: impl Iterator<Item = usize> + Clone) -> bool {
        let large = promises.clone().filter(|&one| room.is_large(one));
        room.holds(promises.clone().sum(), large.sum())
    }

    /// All rooms of up to 12 cells, and up to three requests in them.
    #[test]
    fn no_request_takes_a_guests_room_and_none_is_kept_from_a_large_one() {
        for (cells, slots) in (1..=12).flat_map(|cells| (1..=4).map(move |slots| (cells, slots))) {
            for ctx in 1..=cells {
                let room = Room::new(cells, slots, ctx);
                assert!(
                    holds(&room, [ctx].into_iter()),
                    "the longest request rides alone"
                );
                let all = |n: usize| [n % (ctx + 1), n / (ctx + 1) % (ctx + 1)];
                for n in 0..(ctx + 1) * (ctx + 1) {
                    let two = all(n);
                    if !holds(&room, two.into_iter()) {
                        continue;
                    }
                    assert!(two.iter().sum::<usize>() <= cells, "{two:?} in {room:?}");
                    let small = two.iter().filter(|&&one| one <= room.guest).sum::<usize>();
                    for guest in 1..=room.guest {
                        let three = || two.into_iter().chain([guest]);
                        // A guest has room until guests take theirs.
                        if small + guest <= room.guest {
                            assert!(holds(&room, three()), "{two:?} and {guest} in {room:?}");
                        }
                        // Whoever overtakes leaves a large one what it had.
                        if room.holds_aside(small + guest) {
                            for large in room.guest + 1..=ctx {
                                let with = |before: bool| match before {
                                    true => holds(&room, three().chain([large])),
                                    false => holds(&room, two.into_iter().chain([large])),
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
