//! The index of a store's blocks and its eviction policy. Does no I/O and reads no clock, so
//! that `study kv` runs it over recorded requests.
//!
//! The policy is LFU with aging. A block's rank is its number of uses plus the value of a
//! counter at its last use; the counter is the highest rank evicted so far. So a block that
//! was used often stays long, but not for ever. Of equal ranks the least recently used is
//! evicted. Only the last blocks of sequences are evicted, because a block is of no use
//! without those before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

/// The place of a block in its sequence: its own key and its parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLink<K> {
    /// None if no block can follow it.
    pub own: Option<K>,
    /// The block before it, or the beginning of the sequence.
    pub behind: K,
}

/// What is known of a block.
#[derive(Clone, Debug)]
struct Entry<K> {
    bytes: u64,
    uses: u64,
    rank: u64,
    /// Serial number of its last use.
    used: u64,
    link: ChainLink<K>,
}

/// Blocks by name, limited to a total size.
///
/// ```
/// use delayline_kv::{ChainLink, KvIndex};
///
/// let alone = |name| ChainLink { own: Some(name), behind: "nothing" };
/// let mut index = KvIndex::new(200);
/// index.add("often", 100, alone("often"));
/// index.touch(&"often");
/// index.add("once", 100, alone("once"));
/// assert_eq!(index.make_room(100, None), ["once"]);
/// index.add("new", 100, alone("new"));
/// assert!(index.has(&"often") && index.bytes() == 200);
/// ```
#[derive(Debug)]
pub struct KvIndex<N, K> {
    size: u64,
    entries: BTreeMap<N, Entry<K>>,
    /// Rank, last use and name of the blocks that no other follows.
    ends: BTreeSet<(u64, u64, N)>,
    /// How many blocks follow a key.
    followers: HashMap<K, u32>,
    names: HashMap<K, N>,
    bytes: u64,
    clock: u64,
    uses: u64,
}

impl<N: Clone + Ord, K: Clone + Eq + Hash> KvIndex<N, K> {
    /// An empty index whose blocks may take `size` bytes, or any other unit.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            entries: BTreeMap::new(),
            ends: BTreeSet::new(),
            followers: HashMap::new(),
            names: HashMap::new(),
            bytes: 0,
            clock: 0,
            uses: 0,
        }
    }

    /// The maximum of [`KvIndex::bytes`].
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size of all blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a block is in the index.
    pub fn has(&self, name: &N) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether there is room for `bytes` more.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(bytes) <= self.size
    }

    /// Adds a block, or replaces one of that name. The caller has made room for it with
    /// [`KvIndex::make_room`].
    pub fn add(&mut self, name: N, bytes: u64, link: ChainLink<K>) {
        let uses = self.remove(&name).map_or(0, |old| old.uses) + 1;
        let rank = self.clock + uses;
        self.insert(name, bytes, uses, rank, link);
    }

    /// Adds a block of an earlier process with no uses: it ranks below all blocks that are
    /// used from now on and above the old ones added earlier.
    pub(crate) fn add_old(&mut self, name: N, bytes: u64, link: ChainLink<K>) {
        self.remove(&name);
        self.insert(name, bytes, 0, 0, link);
    }

    fn insert(&mut self, name: N, bytes: u64, uses: u64, rank: u64, link: ChainLink<K>) {
        self.bytes += bytes;
        self.uses += 1;
        self.hold(&link.behind);
        if let Some(own) = &link.own {
            self.names.insert(own.clone(), name.clone());
        }
        let used = self.uses;
        let entry = Entry {
            bytes,
            uses,
            rank,
            used,
            link,
        };
        self.entries.insert(name.clone(), entry);
        self.set_end(&name, true);
    }

    /// Counts a use of a block.
    pub fn touch(&mut self, name: &N) {
        self.set_end(name, false);
        self.uses += 1;
        if let Some(entry) = self.entries.get_mut(name) {
            entry.uses += 1;
            entry.rank = self.clock + entry.uses;
            entry.used = self.uses;
        }
        self.set_end(name, true);
    }

    /// Removes a block.
    pub fn forget(&mut self, name: &N) {
        self.remove(name);
    }

    fn remove(&mut self, name: &N) -> Option<Entry<K>> {
        self.set_end(name, false);
        let entry = self.entries.remove(name)?;
        self.bytes -= entry.bytes;
        if let Some(own) = &entry.link.own {
            self.names.remove(own);
        }
        self.release(&entry.link.behind);
        Some(entry)
    }

    /// Counts one more follower of a block.
    fn hold(&mut self, key: &K) {
        *self.followers.entry(key.clone()).or_default() += 1;
        if let Some(name) = self.names.get(key).cloned() {
            self.set_end(&name, false);
        }
    }

    /// Counts one follower less.
    fn release(&mut self, key: &K) {
        if let Some(count) = self.followers.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.followers.remove(key);
            }
        }
        if let Some(name) = self.names.get(key).cloned() {
            self.set_end(&name, true);
        }
    }

    /// Adds a block to the ends if `is_end` and no other follows it; else removes it.
    fn set_end(&mut self, name: &N, is_end: bool) {
        let Some(entry) = self.entries.get(name) else {
            return;
        };
        let order = (entry.rank, entry.used, name.clone());
        let own = entry.link.own.as_ref();
        if is_end && own.is_none_or(|own| !self.followers.contains_key(own)) {
            self.ends.insert(order);
        } else {
            self.ends.remove(&order);
        }
    }

    /// Evicts blocks until there is room for `bytes` more, or no more can be evicted. The
    /// block `behind`, which the new one is to follow, is kept. Returns the evicted names.
    pub fn make_room(&mut self, bytes: u64, behind: Option<&K>) -> Vec<N> {
        if let Some(key) = behind {
            self.hold(key);
        }
        let mut gone = Vec::new();
        while !self.has_room(bytes) {
            let Some((rank, _, name)) = self.ends.first().cloned() else {
                break;
            };
            self.clock = self.clock.max(rank);
            self.remove(&name);
            gone.push(name);
        }
        if let Some(key) = behind {
            self.release(key);
        }
        gone
    }
}

impl<K> KvIndex<String, K> {
    /// Names that begin with `start`.
    pub(crate) fn beginning(&self, start: &str) -> impl Iterator<Item = &String> {
        let from = self.entries.range(start.to_owned()..);
        let names = from.map(|(name, _)| name);
        names.take_while(move |name| name.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(name: &str) -> ChainLink<&str> {
        behind("", name)
    }

    fn behind<'a>(behind: &'a str, name: &'a str) -> ChainLink<&'a str> {
        ChainLink {
            own: Some(name),
            behind,
        }
    }

    #[test]
    fn what_is_used_often_stays_and_not_for_ever() {
        let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
        let mut index = KvIndex::new(30);
        for name in ["a", "b", "c"] {
            index.add(name, 10, alone(name));
        }
        (0..5).for_each(|_| index.touch(&"a"));
        index.touch(&"c");
        assert_eq!((index.bytes(), index.len()), (30, 3));
        assert_eq!(index.make_room(20, None), ["b", "c"]);
        // After many evictions the block that was used often has aged and is evicted, too.
        let mut gone = Vec::new();
        for name in &names {
            gone.extend(index.make_room(10, None));
            index.add(name, 10, alone(name));
            index.touch(&&**name);
        }
        assert!(gone.contains(&"a"), "{gone:?}");
        assert_eq!((index.bytes(), index.len()), (30, 3));
    }

    #[test]
    fn of_equals_that_goes_which_was_used_longest_ago() {
        let mut index = KvIndex::new(3);
        for name in ["a", "b", "c"] {
            index.add(name, 1, alone(name));
        }
        for name in ["b", "a", "c"] {
            index.touch(&name);
        }
        assert_eq!(index.make_room(3, None), ["b", "a", "c"]);
    }

    #[test]
    fn of_a_chain_the_end_goes_first_whatever_was_used() {
        let mut index = KvIndex::new(4);
        index.add("start", 1, behind("", "start"));
        index.add("middle", 1, behind("start", "middle"));
        let tail = ChainLink {
            own: None,
            behind: "middle",
        };
        index.add("tail", 1, tail);
        index.add("another", 1, behind("start", "another"));
        (0..9).for_each(|_| index.touch(&"tail"));
        (0..5).for_each(|_| index.touch(&"another"));
        assert_eq!(
            index.make_room(4, None),
            ["another", "tail", "middle", "start"]
        );
        assert!(index.is_empty() && index.make_room(9, None).is_empty());
    }

    #[test]
    fn what_a_new_block_stands_behind_does_not_go_for_it() {
        let mut index = KvIndex::new(2);
        index.add("start", 1, behind("", "start"));
        index.add("middle", 1, behind("start", "middle"));
        assert!(index.make_room(1, Some(&"middle")).is_empty() && !index.has_room(1));
        assert_eq!(index.make_room(1, Some(&"start")), ["middle"]);
        assert_eq!(index.make_room(1, None), [""; 0]);
        assert_eq!(index.make_room(2, None), ["start"]);
    }

    #[test]
    fn ends_are_always_those_that_nothing_stands_behind() {
        let mut state = delayline_testing::seed();
        let mut below = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % n
        };
        let mut index: KvIndex<u64, u64> = KvIndex::new(40);
        for _ in 0..20_000 {
            // A block follows the even one at or below its third; odd ones are tails.
            let name = 1 + below(60);
            let link = ChainLink {
                own: (name % 2 == 0).then_some(name),
                behind: name / 6 * 2,
            };
            match below(4) {
                0 => index.touch(&name),
                1 if below(5) == 0 => index.forget(&name),
                _ => {
                    let bytes = 1 + below(4);
                    for gone in index.make_room(bytes, Some(&link.behind)) {
                        assert_ne!(gone, link.behind);
                    }
                    if index.has_room(bytes) {
                        index.add(name, bytes, link);
                    }
                }
            }
            let follows = |name: u64| index.entries.values().any(|e| e.link.behind == name);
            let ends = index.entries.keys().copied();
            let ends: BTreeSet<u64> = ends.filter(|&n| n % 2 == 1 || !follows(n)).collect();
            assert_eq!(
                index.ends.iter().map(|end| end.2).collect::<BTreeSet<_>>(),
                ends
            );
            let bytes: u64 = index.entries.values().map(|entry| entry.bytes).sum();
            assert_eq!(index.bytes(), bytes);
            assert!(bytes <= 40);
        }
    }
}
