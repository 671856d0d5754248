//! The index of a store's blocks by the names of their files. Does no I/O and reads no clock;
//! which block goes next is `aging.rs`.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::aging::Aging;

/// The place of a block in its sequence: its own key and its parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLink<K> {
    /// None if no block can follow it.
    pub own: Option<K>,
    /// The block before it, or the beginning of the sequence.
    pub behind: K,
}

/// Blocks by name, limited to a total size: names for the numbers of [`Aging`].
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
    policy: Aging,
    names: BTreeMap<N, u32>,
    keys: HashMap<K, u32>,
    /// By number; none if it is free.
    numbers: Vec<Option<Numbered<N, K>>>,
    free: Vec<u32>,
}

/// What has a number: a block, or what blocks stand behind, or both.
#[derive(Debug)]
struct Numbered<N, K> {
    name: Option<N>,
    key: Option<K>,
}

impl<N: Clone + Ord, K: Clone + Eq + Hash> KvIndex<N, K> {
    /// An empty index whose blocks may take `size` bytes, or any other unit.
    pub fn new(size: u64) -> Self {
        Self {
            policy: Aging::new(size),
            names: BTreeMap::new(),
            keys: HashMap::new(),
            numbers: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The maximum of [`KvIndex::bytes`].
    pub fn size(&self) -> u64 {
        self.policy.size()
    }

    /// The size of all blocks.
    pub fn bytes(&self) -> u64 {
        self.policy.bytes()
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.policy.len()
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.policy.is_empty()
    }

    /// Whether a block is in the index.
    pub fn has(&self, name: &N) -> bool {
        self.names.contains_key(name)
    }

    /// Whether there is room for `bytes` more.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.policy.has_room(bytes)
    }

    /// Adds a block, or replaces one of that name. The caller has made room for it with
    /// [`KvIndex::make_room`].
    pub fn add(&mut self, name: N, bytes: u64, link: ChainLink<K>) {
        let (number, behind) = self.number(name, link);
        self.policy.add(number, bytes, Some(behind));
    }

    /// Adds a block of an earlier process with no uses: it ranks below all blocks that are
    /// used from now on and above the old ones added earlier.
    pub(crate) fn add_old(&mut self, name: N, bytes: u64, link: ChainLink<K>) {
        let (number, behind) = self.number(name, link);
        self.policy.add_old(number, bytes, Some(behind));
    }

    /// Counts a use of a block.
    pub fn touch(&mut self, name: &N) {
        if let Some(&number) = self.names.get(name) {
            self.policy.touch(number);
        }
    }

    /// Removes a block.
    pub fn forget(&mut self, name: &N) {
        if let Some(&number) = self.names.get(name) {
            let behind = self.policy.remove(number);
            self.unname(number);
            self.tidy(Some(number));
            self.tidy(behind);
        }
    }

    /// Evicts blocks until there is room for `bytes` more, or no more can be evicted. The
    /// block `behind`, which the new one is to follow, is kept. Returns the evicted names.
    pub fn make_room(&mut self, bytes: u64, behind: Option<&K>) -> Vec<N> {
        let behind = behind.and_then(|key| self.keys.get(key).copied());
        let mut gone = Vec::new();
        self.policy
            .make_room(bytes, behind, |number, behind| gone.push((number, behind)));
        let names = gone.iter().filter_map(|&(number, _)| self.unname(number));
        let names = names.collect();
        for (number, behind) in gone {
            self.tidy(Some(number));
            self.tidy(behind);
        }
        names
    }

    /// The numbers of a block, which takes its name, and of what it stands behind.
    fn number(&mut self, name: N, link: ChainLink<K>) -> (u32, u32) {
        let behind = self.number_of(link.behind);
        if let Some(&number) = self.names.get(&name) {
            return (number, behind);
        }
        let own = link.own.map(|own| self.number_of(own));
        // Of two names with one key, nothing stands behind the second.
        let is_free = |number: &u32| {
            let numbered = self.numbers[*number as usize].as_ref();
            numbered.is_some_and(|numbered| numbered.name.is_none())
        };
        let number = match own.filter(is_free) {
            Some(number) => number,
            None => self.fresh(None),
        };
        self.names.insert(name.clone(), number);
        if let Some(one) = &mut self.numbers[number as usize] {
            one.name = Some(name);
        }
        (number, behind)
    }

    fn number_of(&mut self, key: K) -> u32 {
        match self.keys.get(&key) {
            Some(&number) => number,
            None => self.fresh(Some(key)),
        }
    }

    fn fresh(&mut self, key: Option<K>) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.numbers.push(None);
            self.numbers.len() as u32 - 1
        });
        if let Some(key) = &key {
            self.keys.insert(key.clone(), number);
        }
        self.numbers[number as usize] = Some(Numbered { name: None, key });
        number
    }

    /// Takes its name from a block that is gone.
    fn unname(&mut self, number: u32) -> Option<N> {
        let name = self.numbers[number as usize].as_mut()?.name.take()?;
        self.names.remove(&name);
        Some(name)
    }

    /// Frees a number that is no block's and behind which no block stands.
    fn tidy(&mut self, number: Option<u32>) {
        let Some(number) = number.filter(|&number| !self.policy.knows(number)) else {
            return;
        };
        if let Some(one) = self.numbers[number as usize].take() {
            if let Some(key) = one.key {
                self.keys.remove(&key);
            }
            self.free.push(number);
        }
    }
}

impl<K> KvIndex<String, K> {
    /// Names that begin with `start`.
    pub(crate) fn beginning(&self, start: &str) -> impl Iterator<Item = &String> {
        let from = self.names.range(start.to_owned()..);
        let names = from.map(|(name, _)| name);
        names.take_while(move |name| name.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let mut lens: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..20_000 {
            // A block follows the even one at or below its third; odd ones are tails.
            let name = 1 + below(60);
            let link = ChainLink {
                own: (name % 2 == 0).then_some(name),
                behind: name / 6 * 2,
            };
            match below(4) {
                0 => index.touch(&name),
                1 if below(5) == 0 => {
                    index.forget(&name);
                    lens.remove(&name);
                }
                _ => {
                    let bytes = 1 + below(4);
                    for gone in index.make_room(bytes, Some(&link.behind)) {
                        assert_ne!(gone, link.behind);
                        lens.remove(&gone);
                    }
                    if index.has_room(bytes) {
                        lens.insert(name, bytes);
                        index.add(name, bytes, link);
                    }
                }
            }
            let held = |name: &u64| {
                let number = index.names[name];
                let numbered = index.numbers[number as usize].as_ref().expect("it is held");
                assert_eq!(numbered.name, Some(*name));
                number
            };
            let follows = |name: u64| index.names.keys().any(|one| one / 6 * 2 == name);
            let ends = index.names.keys().filter(|&&n| n % 2 == 1 || !follows(n));
            assert_eq!(index.policy.ends(), ends.map(held).collect::<BTreeSet<_>>());
            assert_eq!(
                (index.len(), index.bytes()),
                (lens.len(), lens.values().sum())
            );
            assert!(index.names.keys().eq(lens.keys()) && index.bytes() <= 40);
            // No number is lost or given twice.
            let taken = index.numbers.iter().flatten().count();
            assert_eq!(taken + index.free.len(), index.numbers.len());
            let keys = index
                .numbers
                .iter()
                .flatten()
                .filter(|one| one.key.is_some());
            assert_eq!(keys.count(), index.keys.len());
            let known = |number: &u32| index.policy.knows(*number);
            assert!(index.keys.values().all(known) && index.names.values().all(known));
        }
    }
}
