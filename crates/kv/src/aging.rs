//! Which block is evicted next. Knows blocks by their numbers alone; does no I/O and reads no
//! clock, so that `study kv` runs it over recorded requests.
//!
//! The policy is LFU with aging. A block's rank is its number of uses plus the value of a
//! counter at its last use; the counter is the highest rank evicted so far. So a block that
//! was used often stays long, but not for ever. Of equal ranks the least recently used is
//! evicted. Only the last blocks of sequences are evicted, because a block is of no use
//! without those before it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Entries of the order that may be out of date before it is tidied.
const OUTDATED: usize = 1024;

/// Rank, serial number of the last use, number: the lowest goes first.
type Order = Reverse<(u64, u64, u32)>;

/// What is known of a number.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    bytes: u64,
    uses: u64,
    rank: u64,
    /// Serial number of its last use, from 1; 0 if no block of this number is held.
    used: u64,
    behind: Option<u32>,
    /// How many held blocks follow it, whether it is held itself or not.
    followers: u32,
}

/// Blocks by number, limited to a total size. Numbers index a table, so they should be small.
///
/// ```
/// use delayline_kv::Aging;
///
/// let (often, once, new) = (0, 1, 2);
/// let mut policy = Aging::new(200);
/// policy.add(often, 100, None);
/// policy.touch(often);
/// policy.add(once, 100, None);
/// policy.make_room(100, None, |gone, _| assert_eq!(gone, once));
/// policy.add(new, 100, None);
/// assert!(policy.has(often) && policy.bytes() == 200);
/// ```
#[derive(Debug)]
pub struct Aging {
    size: u64,
    bytes: u64,
    held: usize,
    places: Vec<Place>,
    /// Blocks that no other follows, the next to go on top; and entries that are no longer
    /// true, which are passed over when they come up.
    order: BinaryHeap<Order>,
    /// How many blocks no other follows.
    ends: usize,
    clock: u64,
    uses: u64,
}

impl Aging {
    /// Without blocks, which may take `size` bytes, or any other unit.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            bytes: 0,
            held: 0,
            places: Vec::new(),
            order: BinaryHeap::new(),
            ends: 0,
            clock: 0,
            uses: 0,
        }
    }

    /// The maximum of [`Aging::bytes`].
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size of all blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether a block is held.
    pub fn has(&self, number: u32) -> bool {
        let place = self.places.get(number as usize);
        place.is_some_and(|place| place.used != 0)
    }

    /// Whether a number is a block's, or that which a block stands behind.
    pub(crate) fn knows(&self, number: u32) -> bool {
        let place = self.places.get(number as usize);
        place.is_some_and(|place| place.used != 0 || place.followers != 0)
    }

    /// Whether there is room for `bytes` more.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(bytes) <= self.size
    }

    /// Adds a block that follows `behind`, or replaces one of that number. The caller has made
    /// room for it with [`Aging::make_room`].
    pub fn add(&mut self, number: u32, bytes: u64, behind: Option<u32>) {
        let uses = match self.has(number) {
            true => self.place(number).uses + 1,
            false => 1,
        };
        self.remove(number);
        self.insert(number, bytes, behind, (uses, self.clock + uses));
    }

    /// Adds a block of an earlier process with no uses: it ranks below all blocks that are
    /// used from now on and above the old ones added earlier.
    pub(crate) fn add_old(&mut self, number: u32, bytes: u64, behind: Option<u32>) {
        self.remove(number);
        self.insert(number, bytes, behind, (0, 0));
    }

    fn insert(&mut self, number: u32, bytes: u64, behind: Option<u32>, (uses, rank): (u64, u64)) {
        if let Some(behind) = behind {
            let before = self.place(behind);
            before.followers += 1;
            self.ends -= usize::from(before.used != 0 && before.followers == 1);
        }
        self.uses += 1;
        let used = self.uses;
        let place = self.place(number);
        *place = Place {
            bytes,
            uses,
            rank,
            used,
            behind,
            followers: place.followers,
        };
        let is_end = place.followers == 0;
        self.bytes += bytes;
        self.held += 1;
        if is_end {
            self.ends += 1;
            self.line_up(number);
        }
    }

    /// Counts a use of a block; nothing if it is not held.
    pub fn touch(&mut self, number: u32) {
        if !self.has(number) {
            return;
        }
        self.uses += 1;
        let (clock, used) = (self.clock, self.uses);
        let place = self.place(number);
        place.uses += 1;
        place.rank = clock + place.uses;
        place.used = used;
        if place.followers == 0 {
            self.line_up(number);
        }
    }

    /// Removes a block, if it is held: what it stood behind.
    pub(crate) fn remove(&mut self, number: u32) -> Option<u32> {
        if !self.has(number) {
            return None;
        }
        let place = self.place(number);
        place.used = 0;
        let Place {
            bytes,
            behind,
            followers,
            ..
        } = *place;
        self.bytes -= bytes;
        self.held -= 1;
        self.ends -= usize::from(followers == 0);
        let behind = behind?;
        let before = self.place(behind);
        before.followers -= 1;
        if before.followers == 0 && before.used != 0 {
            self.ends += 1;
            self.line_up(behind);
        }
        Some(behind)
    }

    /// Evicts blocks until there is room for `bytes` more, or no more can be evicted. The
    /// block `behind`, which the new one is to follow, is kept. `gone` is told each evicted
    /// block and what it stood behind.
    pub fn make_room(
        &mut self,
        bytes: u64,
        behind: Option<u32>,
        mut gone: impl FnMut(u32, Option<u32>),
    ) {
        let mut kept = None;
        while !self.has_room(bytes) {
            let Some(lowest) = self.order.pop() else {
                break;
            };
            let Reverse((rank, _, number)) = lowest;
            if !is_end(&self.places, lowest) {
                continue;
            }
            if behind == Some(number) {
                kept = Some(lowest);
                continue;
            }
            self.clock = self.clock.max(rank);
            let before = self.remove(number);
            gone(number, before);
        }
        self.order.extend(kept);
    }

    fn place(&mut self, number: u32) -> &mut Place {
        let index = number as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, Place::default());
        }
        &mut self.places[index]
    }

    /// Puts a block that no other follows into the order.
    fn line_up(&mut self, number: u32) {
        if self.order.len() > 2 * self.ends + OUTDATED {
            self.order.retain(|&entry| is_end(&self.places, entry));
        }
        let Place { rank, used, .. } = self.places[number as usize];
        self.order.push(Reverse((rank, used, number)));
    }

    /// The blocks that no other follows.
    #[cfg(test)]
    pub(crate) fn ends(&self) -> std::collections::BTreeSet<u32> {
        let true_ones = self.order.iter().filter(|&&e| is_end(&self.places, e));
        let ends: std::collections::BTreeSet<u32> = true_ones.map(|entry| entry.0.2).collect();
        assert_eq!(ends.len(), self.ends);
        ends
    }
}

/// Whether an entry of the order is still that of a block that no other follows.
fn is_end(places: &[Place], Reverse((_, used, number)): Order) -> bool {
    let place = &places[number as usize];
    place.used == used && place.followers == 0
}
