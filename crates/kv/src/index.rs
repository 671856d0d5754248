//! Which blocks there are, and which goes next: the policy of a store. Does no I/O, and
//! knows no clock but its own, so that `study kv` runs it over a recorded trace.
//!
//! A block's rank is the clock when it was last used plus how often it was, and the clock is
//! the rank of what went last: what was used often stays long, but not for ever.

use std::collections::{BTreeMap, BTreeSet};

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    bytes: u64,
    uses: u64,
    rank: u64,
    /// Position of its first token: what lies deeper goes first.
    depth: u32,
}

impl Entry {
    fn order<N: Clone>(&self, name: &N) -> (u64, u32, N) {
        (self.rank, u32::MAX - self.depth, name.clone())
    }
}

/// Blocks by name, within a size.
///
/// ```
/// use delayline_kv::KvIndex;
///
/// let mut index = KvIndex::new(200);
/// index.add("often", 100, 0);
/// index.touch(&"often");
/// index.add("once", 100, 0);
/// assert_eq!(index.make_room(100), ["once"]);
/// index.add("new", 100, 0);
/// assert!(index.has(&"often") && index.bytes() == 200);
/// ```
#[derive(Debug)]
pub struct KvIndex<N> {
    size: u64,
    entries: BTreeMap<N, Entry>,
    order: BTreeSet<(u64, u32, N)>,
    bytes: u64,
    clock: u64,
}

impl<N: Clone + Ord> KvIndex<N> {
    /// Nothing, of what may take `size` bytes, or whatever else blocks are counted in.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
            bytes: 0,
            clock: 0,
        }
    }

    /// What they may take.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What they take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether one is there.
    pub fn has(&self, name: &N) -> bool {
        self.entries.contains_key(name)
    }

    /// Adds a block whose first token is at `depth`, or says that it has another length
    /// now. Room for it has been made ([`KvIndex::make_room`]).
    pub fn add(&mut self, name: N, bytes: u64, depth: u32) {
        let old = self.remove(&name);
        let uses = old.map_or(0, |entry| entry.uses) + 1;
        let rank = self.clock + uses;
        self.insert(
            name,
            Entry {
                bytes,
                uses,
                rank,
                depth,
            },
        );
    }

    /// Adds a block of an earlier process, the `nth` to go of these: before all that is
    /// used from now on.
    pub(crate) fn add_old(&mut self, name: N, bytes: u64, nth: u32) {
        self.remove(&name);
        self.insert(
            name,
            Entry {
                bytes,
                uses: 0,
                rank: 0,
                depth: u32::MAX - nth,
            },
        );
    }

    fn insert(&mut self, name: N, entry: Entry) {
        self.bytes += entry.bytes;
        self.order.insert(entry.order(&name));
        self.entries.insert(name, entry);
    }

    /// It was used.
    pub fn touch(&mut self, name: &N) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        self.order.remove(&entry.order(name));
        entry.uses += 1;
        entry.rank = self.clock + entry.uses;
        self.order.insert(entry.order(name));
    }

    /// It is gone.
    pub fn forget(&mut self, name: &N) {
        self.remove(name);
    }

    fn remove(&mut self, name: &N) -> Option<Entry> {
        let entry = self.entries.remove(name)?;
        self.order.remove(&entry.order(name));
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Takes out what is worth least until `bytes` more have room.
    pub fn make_room(&mut self, bytes: u64) -> Vec<N> {
        let mut gone = Vec::new();
        while self.bytes + bytes > self.size {
            let Some((rank, _, name)) = self.order.first().cloned() else {
                break;
            };
            self.clock = self.clock.max(rank);
            self.remove(&name);
            gone.push(name);
        }
        gone
    }
}

impl KvIndex<String> {
    /// Blocks whose names begin so.
    pub(crate) fn beginning(&self, start: &str) -> impl Iterator<Item = &String> {
        let from = self.entries.range(start.to_owned()..);
        let names = from.map(|(name, _)| name);
        names.take_while(move |name| name.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_often_stays_and_not_for_ever() {
        let mut index = KvIndex::new(30);
        for name in ["a", "b", "c"].map(str::to_owned) {
            index.add(name, 10, 0);
        }
        (0..5).for_each(|_| index.touch(&"a".to_owned()));
        index.touch(&"c".to_owned());
        assert_eq!((index.bytes(), index.len()), (30, 3));
        assert_eq!(index.make_room(20), ["b", "c"]);
        // Many others come and go: in the end it is their turn to stay.
        let mut gone = Vec::new();
        for name in (0..20).map(|n| format!("n{n}")) {
            gone.extend(index.make_room(10));
            index.add(name.clone(), 10, 0);
            index.touch(&name);
        }
        assert!(gone.contains(&"a".to_owned()), "{gone:?}");
        assert_eq!((index.bytes(), index.len()), (30, 3));
    }

    #[test]
    fn of_a_chain_the_end_goes_first() {
        let mut index = KvIndex::new(3);
        index.add("end", 1, 128);
        index.add("start", 1, 0);
        index.add("middle", 1, 64);
        assert_eq!(index.make_room(3), ["end", "middle", "start"]);
        assert!(index.is_empty() && index.make_room(9).is_empty());
    }
}
