//! The rows of a recorded trace that a cache misses under policies to compare with
//! [`Lookahead`](crate::Lookahead), and under the optimal one. All rows have one length.

use std::collections::BinaryHeap;

/// Stands for no place and no use.
const NONE: u32 = u32::MAX;

/// The policy that decides which rows stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPolicy {
    /// Belady's (IBM Systems Journal 5, 1966), with the whole trace known, the order
    /// inside a batch free, and rows that need not stay: no policy misses fewer.
    Belady,
    /// A hand moves over the rows and evicts the first not used since its last pass
    /// (Zhang et al., "SIEVE is simpler than LRU", NSDI 2024); GraphBolt's default.
    Sieve,
    /// Evicts the least recently used row.
    Lru,
}

/// Calls `missed` with the number of a batch and a row for each row that a cache of
/// `slots` rows does not hold when the batch uses it. Rows are numbered below `rows`; a
/// batch names each once.
///
/// # Panics
/// If a row is out of range.
pub fn replay_rows(
    batches: &[Vec<u32>],
    rows: usize,
    slots: usize,
    policy: RowPolicy,
    mut missed: impl FnMut(usize, u32),
) {
    let all = batches.iter().enumerate();
    let mut uses = all.flat_map(|(batch, of)| of.iter().map(move |&row| (batch, row)));
    match policy {
        RowPolicy::Belady => belady(batches, rows, slots, &mut missed),
        _ if slots == 0 => uses.for_each(|(batch, row)| missed(batch, row)),
        RowPolicy::Lru => {
            let mut queue = Queue::new(rows, slots);
            for (batch, row) in uses.by_ref() {
                if queue.place_of[row as usize] != NONE {
                    let place = queue.remove(row);
                    queue.push(row, place);
                    continue;
                }
                missed(batch, row);
                let place = queue.free.pop().unwrap_or_else(|| {
                    let oldest = queue.row_at[queue.oldest as usize];
                    queue.remove(oldest)
                });
                queue.push(row, place);
            }
        }
        RowPolicy::Sieve => {
            let (mut queue, mut hand) = (Queue::new(rows, slots), NONE);
            let mut used = vec![false; slots];
            for (batch, row) in uses.by_ref() {
                if queue.place_of[row as usize] != NONE {
                    used[queue.place_of[row as usize] as usize] = true;
                    continue;
                }
                missed(batch, row);
                let place = queue.free.pop().unwrap_or_else(|| {
                    if hand == NONE {
                        hand = queue.oldest;
                    }
                    while std::mem::take(&mut used[hand as usize]) {
                        hand = match queue.links[hand as usize].1 {
                            NONE => queue.oldest,
                            newer => newer,
                        };
                    }
                    let row = queue.row_at[hand as usize];
                    hand = queue.links[hand as usize].1;
                    queue.remove(row)
                });
                queue.push(row, place);
            }
        }
    }
}

fn belady(batches: &[Vec<u32>], rows: usize, slots: usize, missed: &mut impl FnMut(usize, u32)) {
    // For each use: the batch of the next use of its row.
    let mut next_of = vec![NONE; rows];
    let mut next: Vec<Vec<u32>> = Vec::with_capacity(batches.len());
    for (number, batch) in batches.iter().enumerate().rev() {
        let replaced = |&row: &u32| std::mem::replace(&mut next_of[row as usize], number as u32);
        next.push(batch.iter().map(replaced).collect());
    }
    next.reverse();
    // By row that is held: its next use. `latest` orders these; its outdated entries are
    // skipped when they come up.
    let mut held = vec![NONE; rows];
    let (mut latest, mut count) = (BinaryHeap::new(), 0);
    let mut absent = Vec::new();
    for (number, (batch, next)) in batches.iter().zip(&next).enumerate() {
        // The order inside a batch is free, so what is held is used first.
        for (&row, &next) in batch.iter().zip(next) {
            if held[row as usize] == NONE {
                absent.push((row, next));
                continue;
            }
            held[row as usize] = next;
            match next {
                NONE => count -= 1,
                next => latest.push((next, row)),
            }
        }
        for (row, next) in absent.drain(..) {
            missed(number, row);
            if next == NONE {
                continue;
            }
            held[row as usize] = next;
            latest.push((next, row));
            count += 1;
            while count > slots {
                let (at, row) = latest.pop().expect("as many as are held");
                if held[row as usize] == at {
                    held[row as usize] = NONE;
                    count -= 1;
                }
            }
        }
    }
}

/// Cached rows in order of age, as a list over places.
struct Queue {
    place_of: Vec<u32>,
    row_at: Vec<u32>,
    /// By place: the next older and the next newer place.
    links: Vec<(u32, u32)>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
}

impl Queue {
    fn new(rows: usize, slots: usize) -> Self {
        Self {
            place_of: vec![NONE; rows],
            row_at: vec![NONE; slots],
            links: vec![(NONE, NONE); slots],
            free: (0..slots as u32).rev().collect(),
            oldest: NONE,
            newest: NONE,
        }
    }

    fn push(&mut self, row: u32, place: u32) {
        self.place_of[row as usize] = place;
        self.row_at[place as usize] = row;
        self.links[place as usize] = (self.newest, NONE);
        match self.newest {
            NONE => self.oldest = place,
            newest => self.links[newest as usize].1 = place,
        }
        self.newest = place;
    }

    /// Removes a row and returns its place.
    fn remove(&mut self, row: u32) -> u32 {
        let place = std::mem::replace(&mut self.place_of[row as usize], NONE);
        let (older, newer) = self.links[place as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].1 = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].0 = older,
        }
        place
    }
}
