//! Indexed weights: single rows and experts in address space of the tensor's
//! full size, of which only what is needed has memory behind it. Decides which
//! stay. Knows nothing of llama.cpp.
//!
//! What stays is decided by *first come, stays*: items are kept, in the order
//! in which they were first needed, until the memory given to them is full;
//! every later one is read for its run and returned. On a cycle this hits in
//! proportion to the memory, where least-recently-used never would.

use std::collections::HashSet;

use delayline_line::PartSpan;
use delayline_plan::ALIGN;

/// One indexed weight.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its file.
    pub part: u16,
    /// Its first byte in the file.
    pub offset: u64,
    /// Bytes of one row or expert.
    pub unit: u64,
    /// How many there are.
    pub count: u64,
    /// Memory position of its first byte, congruent to `offset` modulo [`ALIGN`].
    pub at: u64,
    /// Whether its items may stay (experts) or never do (rows).
    pub may_stay: bool,
    /// The items that are in memory: as many as fit there, however many a file claims.
    there: HashSet<u64>,
}

impl Table {
    /// A table of which nothing is in memory.
    pub fn new(part: u16, offset: u64, unit: u64, count: u64, at: u64, may_stay: bool) -> Self {
        assert_eq!(
            offset % ALIGN,
            at % ALIGN,
            "positions must be congruent for direct I/O"
        );
        Self {
            part,
            offset,
            unit,
            count,
            at,
            may_stay,
            there: HashSet::new(),
        }
    }

    /// First and last page of an item in memory, as byte positions.
    fn pages(&self, item: u64) -> (u64, u64) {
        let from = self.at + item * self.unit;
        (
            from / ALIGN * ALIGN,
            (from + self.unit).next_multiple_of(ALIGN),
        )
    }

    /// The most memory one item can take, in bytes.
    pub fn item_pages(&self) -> u64 {
        item_pages(self.unit)
    }
}

/// The most memory an item of `unit` bytes can take, wherever it starts.
pub fn item_pages(unit: u64) -> u64 {
    (unit + ALIGN - 1).next_multiple_of(ALIGN)
}

/// An index that the tensor does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadIndex {
    /// The index.
    pub index: i32,
    /// How many items there are.
    pub count: u64,
}

/// All indexed weights and the memory their items may keep.
#[derive(Clone, Debug, Default)]
pub struct Items {
    tables: Vec<Table>,
    keep: u64,
    kept: u64,
    passing: Vec<(u32, u64)>,
    wanted: Vec<u64>,
    /// Items found in memory, and items asked for.
    pub hits: u64,
    /// See `hits`.
    pub asked: u64,
}

impl Items {
    /// `keep`: bytes that items may occupy for good.
    pub fn new(tables: Vec<Table>, keep: u64) -> Self {
        Self {
            tables,
            keep,
            ..Self::default()
        }
    }

    /// The table of that index.
    pub fn table(&self, table: u32) -> &Table {
        &self.tables[table as usize]
    }

    /// Bytes that items occupy for good.
    pub fn kept_bytes(&self) -> u64 {
        self.kept
    }

    /// Adds to `spans` what must be read so that the items are in memory, and
    /// counts them as there: the caller waits for the reads before use.
    ///
    /// # Errors
    /// When an index is out of range; nothing is added then.
    pub fn want(
        &mut self,
        table: u32,
        ids: &[i32],
        spans: &mut Vec<PartSpan>,
    ) -> Result<(), BadIndex> {
        let t = &mut self.tables[table as usize];
        self.wanted.clear();
        for &id in ids {
            match u64::try_from(id) {
                Ok(item) if item < t.count => self.wanted.push(item),
                _ => {
                    return Err(BadIndex {
                        index: id,
                        count: t.count,
                    });
                }
            }
        }
        self.wanted.sort_unstable();
        self.wanted.dedup();
        self.asked += self.wanted.len() as u64;
        let first = spans.len();
        for &item in &self.wanted {
            if !t.there.insert(item) {
                self.hits += 1;
                continue;
            }
            let stays = t.may_stay && self.kept + t.item_pages() <= self.keep;
            if stays {
                self.kept += t.item_pages();
            } else {
                self.passing.push((table, item));
            }
            let (from, until) = t.pages(item);
            // Neighbours become one read; they may share a page.
            match spans[first..].last_mut() {
                Some(last) if last.at + last.len >= from => last.len = until - last.at,
                _ => spans.push(PartSpan {
                    part: t.part,
                    // Congruent, so the difference of file and memory is whole pages.
                    offset: (t.offset / ALIGN * ALIGN) + (from - t.at / ALIGN * ALIGN),
                    len: until - from,
                    at: from,
                }),
            }
        }
        Ok(())
    }

    /// The run is over: hands every range of memory to return to `discard`.
    /// Pages that a staying neighbour shares are spared.
    pub fn pass(&mut self, mut discard: impl FnMut(std::ops::Range<u64>)) {
        for &(table, item) in &self.passing {
            self.tables[table as usize].there.remove(&item);
        }
        for (table, item) in self.passing.drain(..) {
            let t = &self.tables[table as usize];
            let (mut from, mut until) = t.pages(item);
            // Several small neighbours can share a page: look as far as it reaches.
            let mut before = item;
            while before > 0 && t.pages(before - 1).1 > from {
                before -= 1;
                if t.there.contains(&before) {
                    from = t.pages(before).1;
                    break;
                }
            }
            let mut after = item + 1;
            while after < t.count && t.pages(after).0 < until {
                if t.there.contains(&after) {
                    until = t.pages(after).0;
                    break;
                }
                after += 1;
            }
            if from < until {
                discard(from..until);
            }
        }
    }

    /// Forgets every item in memory, after reads that failed.
    pub fn clear(&mut self, mut discard: impl FnMut(std::ops::Range<u64>)) {
        self.passing.clear();
        self.kept = 0;
        for t in &mut self.tables {
            t.there.clear();
            discard(t.at / ALIGN * ALIGN..(t.at + t.unit * t.count).next_multiple_of(ALIGN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_costs_what_of_it_is_in_memory() {
        let rows = 1 << 40;
        let mut items = Items::new(vec![Table::new(0, 0, 16, rows, 0, false)], 0);
        let mut spans = Vec::new();
        items
            .want(0, &[3, i32::MAX, 3], &mut spans)
            .expect("in range");
        assert_eq!((spans.len(), items.asked, items.hits), (2, 2, 0));
        let mut discarded = 0;
        items.pass(|range| discarded += range.end - range.start);
        assert_eq!(discarded, 2 * ALIGN);
        spans.clear();
        items.want(0, &[3], &mut spans).expect("in range");
        assert_eq!((spans.len(), items.hits), (1, 0));
    }
}
