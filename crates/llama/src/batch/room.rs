//! How the cells of the KV cache are promised to requests: pure arithmetic.
//!
//! A part of the cells is reserved for small requests; a request is large if it may need
//! more than that part. So one request cannot take the whole cache while others wait.
//! Small requests may overtake a waiting large one as long as they fit into the reserve,
//! which the large one could not get anyway.

/// The cells of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    cells: usize,
    reserve: usize,
}

impl Room {
    /// `cells` cells for `slots` slots, where a request takes `ctx` cells at most. The
    /// reserve is what the longest request leaves, but at most one slot's share.
    pub fn new(cells: usize, slots: usize, ctx: usize) -> Self {
        let reserve = match slots {
            0 | 1 => 0,
            slots => (cells / slots).min(cells - ctx),
        };
        Self { cells, reserve }
    }

    /// Whether `all` cells can be promised, `large` of them to large requests.
    pub fn holds(&self, all: usize, large: usize) -> bool {
        all <= self.cells && (large == 0 || large + self.reserve <= self.cells)
    }

    /// Whether small requests that take `small` cells together fit into the reserve.
    pub fn holds_aside(&self, small: usize) -> bool {
        small <= self.reserve
    }

    /// Whether a request that may take `promise` cells, shared ones included, is large.
    pub fn is_large(&self, promise: usize) -> bool {
        promise > self.reserve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether requests that share no cells can be promised these numbers of cells.
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
                    "the longest request fits alone"
                );
                let all = |n: usize| [n % (ctx + 1), n / (ctx + 1) % (ctx + 1)];
                for n in 0..(ctx + 1) * (ctx + 1) {
                    let two = all(n);
                    if !holds(&room, two.into_iter()) {
                        continue;
                    }
                    assert!(two.iter().sum::<usize>() <= cells, "{two:?} in {room:?}");
                    let small = two
                        .iter()
                        .filter(|&&one| one <= room.reserve)
                        .sum::<usize>();
                    for third in 1..=room.reserve {
                        let three = || two.into_iter().chain([third]);
                        // A small request fits until the reserve is used up.
                        if small + third <= room.reserve {
                            assert!(holds(&room, three()), "{two:?} and {third} in {room:?}");
                        }
                        // One that overtakes does not change whether a large one fits.
                        if room.holds_aside(small + third) {
                            for large in room.reserve + 1..=ctx {
                                let with = |before: bool| match before {
                                    true => holds(&room, three().chain([large])),
                                    false => holds(&room, two.into_iter().chain([large])),
                                };
                                assert_eq!(with(true), with(false), "{two:?} {third} {large}");
                            }
                        }
                    }
                }
            }
        }
    }
}
