//! Indexed weights: single rows and experts, in address space of the tensor's full size,
//! of which only items in use have memory. Decides which stay.
//!
//! First come, first kept: items are kept in the order in which they were first needed,
//! until the memory for them is full; every later one is read for its run and discarded
//! after it. On a cycle the hits are in proportion to the memory; least recently used would
//! have none.

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
    /// Number of rows or experts.
    pub count: u64,
    /// Memory position of its first byte, congruent to `offset` modulo [`ALIGN`].
    pub at: u64,
    /// Whether its items may stay (experts) or never do (rows).
    pub may_stay: bool,
    /// The items in memory. A set, because `count` is the file's claim and may be huge.
    there: HashSet<u64>,
}

impl Table {
    /// A table with nothing in memory.
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

    /// Start and end of the pages of an item, as memory positions.
    fn pages(&self, item: u64) -> (u64, u64) {
        let from = self.at + item * self.unit;
        (
            from / ALIGN * ALIGN,
            (from + self.unit).next_multiple_of(ALIGN),
        )
    }

    /// Maximum memory of one item, in bytes.
    pub fn item_pages(&self) -> u64 {
        item_pages(self.unit)
    }
}

/// Maximum memory of an item of `unit` bytes, wherever it starts.
pub fn item_pages(unit: u64) -> u64 {
    (unit + ALIGN - 1).next_multiple_of(ALIGN)
}

/// An index out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadIndex {
    /// The index.
    pub index: i32,
    /// Number of items.
    pub count: u64,
}

/// All indexed weights, and the memory that their items may keep.
#[derive(Clone, Debug, Default)]
pub struct Items {
    tables: Vec<Table>,
    keep: u64,
    kept: u64,
    /// Items that are discarded after the run, as table and item.
    passing: Vec<(u32, u64)>,
    wanted: Vec<u64>,
    /// Items requested that were in memory.
    pub hits: u64,
    /// Items requested.
    pub asked: u64,
}

impl Items {
    /// All tables; `keep` is the number of bytes that items may keep.
    pub fn new(tables: Vec<Table>, keep: u64) -> Self {
        Self {
            tables,
            keep,
            ..Self::default()
        }
    }

    /// A table by its index.
    pub fn table(&self, table: u32) -> &Table {
        &self.tables[table as usize]
    }

    /// Bytes of the items that stay.
    pub fn kept_bytes(&self) -> u64 {
        self.kept
    }

    /// Appends to `spans` what must be read for the items, and counts them as being in
    /// memory: the caller has to wait for the reads before use.
    ///
    /// # Errors
    /// If an index is out of range; nothing is appended then.
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
                    // File and memory are congruent, so they differ by whole pages.
                    offset: (t.offset / ALIGN * ALIGN) + (from - t.at / ALIGN * ALIGN),
                    len: until - from,
                    at: from,
                }),
            }
        }
        Ok(())
    }

    /// Ends a run: calls `discard` with every range of memory to give back. Pages shared
    /// with a neighbour that stays are kept.
    pub fn pass(&mut self, mut discard: impl FnMut(std::ops::Range<u64>)) {
        for &(table, item) in &self.passing {
            self.tables[table as usize].there.remove(&item);
        }
        for (table, item) in self.passing.drain(..) {
            let t = &self.tables[table as usize];
            let (mut from, mut until) = t.pages(item);
            // Several small neighbours can share a page: look at all of them.
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

    /// Discards all items, after reads that failed.
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
    fn a_table_takes_memory_only_for_items_in_memory() {
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
