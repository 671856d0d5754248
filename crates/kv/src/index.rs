//! Which files there are, and which goes next. Does no I/O.
//!
//! A file's rank is the clock when it was last used plus how often it was, and the clock is
//! the rank of what went last: what was used often stays long, but not for ever.

use std::collections::{BTreeSet, HashMap};

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    bytes: u64,
    uses: u64,
    rank: u64,
    /// Position of its first token: what lies deeper goes first.
    depth: u32,
    /// When it was last used, in seconds since 1970.
    used: u64,
}

impl Entry {
    fn order(&self, name: &str) -> (u64, u32, String) {
        (self.rank, u32::MAX - self.depth, name.to_owned())
    }
}

/// Files by name, within a size.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: HashMap<String, Entry>,
    order: BTreeSet<(u64, u32, String)>,
    /// All names, to find those that begin alike.
    names: BTreeSet<String>,
    bytes: u64,
    clock: u64,
}

impl Index {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Adds a file, or says that it has another length now.
    pub fn add(&mut self, name: &str, bytes: u64, depth: u32, now: u64) {
        let old = self.remove(name);
        let uses = old.map_or(0, |entry| entry.uses) + 1;
        self.insert(
            name,
            Entry {
                bytes,
                uses,
                rank: self.clock + uses,
                depth,
                used: now,
            },
        );
    }

    /// Adds a file of an earlier process, the `nth` to go of these: before all that is
    /// used from now on.
    pub fn add_old(&mut self, name: &str, bytes: u64, nth: u32, used: u64) {
        self.remove(name);
        self.insert(
            name,
            Entry {
                bytes,
                uses: 0,
                rank: 0,
                depth: u32::MAX - nth,
                used,
            },
        );
    }

    fn insert(&mut self, name: &str, entry: Entry) {
        self.bytes += entry.bytes;
        self.order.insert(entry.order(name));
        self.entries.insert(name.to_owned(), entry);
        self.names.insert(name.to_owned());
    }

    /// Files whose names begin so.
    pub fn beginning(&self, start: &str) -> impl Iterator<Item = &String> {
        let from = self.names.range(start.to_owned()..);
        from.take_while(move |name| name.starts_with(start))
    }

    /// It was used.
    pub fn touch(&mut self, name: &str, now: u64) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        self.order.remove(&entry.order(name));
        entry.uses += 1;
        entry.used = now;
        entry.rank = self.clock + entry.uses;
        self.order.insert(entry.order(name));
    }

    /// It is gone.
    pub fn forget(&mut self, name: &str) {
        self.remove(name);
    }

    fn remove(&mut self, name: &str) -> Option<Entry> {
        let entry = self.entries.remove(name)?;
        self.order.remove(&entry.order(name));
        self.bytes -= entry.bytes;
        self.names.remove(name);
        Some(entry)
    }

    /// Takes out what is worth least; tells when it was last used.
    pub fn evict(&mut self) -> Option<(String, u64)> {
        let (rank, _, name) = self.order.first()?.clone();
        self.clock = self.clock.max(rank);
        let used = self.remove(&name)?.used;
        Some((name, used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_often_stays_and_not_for_ever() {
        let mut index = Index::default();
        for name in ["a", "b", "c"] {
            index.add(name, 10, 0, 1);
        }
        (0..5).for_each(|_| index.touch("a", 2));
        index.touch("c", 3);
        assert_eq!((index.bytes(), index.len()), (30, 3));
        assert_eq!(index.evict(), Some(("b".to_owned(), 1)));
        assert_eq!(index.evict(), Some(("c".to_owned(), 3)));
        // Many others come and go: in the end it is their turn to stay.
        let mut gone = Vec::new();
        for n in 0..20 {
            index.add(&format!("n{n}"), 10, 0, 4);
            index.touch(&format!("n{n}"), 4);
            if index.len() > 2 {
                gone.extend(index.evict().map(|(name, _)| name));
            }
        }
        assert!(gone.contains(&"a".to_owned()), "{gone:?}");
        assert_eq!(index.bytes(), 10 * index.len() as u64);
    }

    #[test]
    fn of_a_chain_the_end_goes_first() {
        let mut index = Index::default();
        index.add("end", 1, 128, 0);
        index.add("start", 1, 0, 0);
        index.add("middle", 1, 64, 0);
        let order: Vec<String> = std::iter::from_fn(|| index.evict())
            .map(|(name, _)| name)
            .collect();
        assert_eq!(order, ["end", "middle", "start"]);
    }
}
