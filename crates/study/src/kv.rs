//! Replays recorded requests against a store of KV caches, to see how much of their prompts it
//! would find again: under the policy of the `kv` crate, LRU, Belady's policy, and
//! without a limit.

mod report;
mod rival;
mod trace;

use delayline_kv::Aging;
use rayon::prelude::*;

pub use report::kv_report;
pub use trace::{KvTrace, KvTraceError, read_trace};

use rival::Rival;
use trace::UnitUse;

/// What decides which blocks stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPolicy {
    /// The program's own: how often a block was used, with aging.
    Frequency,
    /// The block that was used longest ago goes first.
    Lru,
    /// The block whose next use is furthest away goes first, or is not written at all.
    Belady,
    /// Everything stays.
    Unlimited,
}

impl KvPolicy {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Frequency, Self::Lru, Self::Belady, Self::Unlimited];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frequency => "frequency with aging",
            Self::Lru => "lru",
            Self::Belady => "belady",
            Self::Unlimited => "no limit",
        }
    }

    /// Whether it is what the program does.
    pub fn is_default(self) -> bool {
        self == Self::Frequency
    }

    /// Replays a trace with room for so many tokens.
    fn replay(self, trace: &KvTrace, size: Option<u64>) -> KvRow {
        let row = KvRow::new(self, size);
        let (size, units) = (size.unwrap_or(u64::MAX), trace.units());
        match self {
            Self::Frequency => replay(trace, Aging::new(size), row),
            Self::Lru => {
                let rank = |used: &UnitUse| u64::from(used.request);
                replay(trace, Rival::new(size, units, rank), row)
            }
            Self::Belady => {
                let rank = |used: &UnitUse| used.next.map_or(0, |next| u64::MAX - u64::from(next));
                replay(trace, Rival::new(size, units, rank), row)
            }
            Self::Unlimited => replay(trace, All(vec![false; units]), row),
        }
    }
}

/// What one policy does with a store of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvRow {
    /// Which.
    pub policy: KvPolicy,
    /// Tokens of which there is room; none without a limit.
    pub size: Option<u64>,
    /// Tokens of prompts that were found, each behind all tokens before it.
    pub hit_tokens: u64,
    /// Tokens that were written.
    pub written_tokens: u64,
    /// Blocks that went to make room.
    pub evicted: u64,
    /// The most tokens that were held at a time.
    pub held_tokens: u64,
}

impl KvRow {
    fn new(policy: KvPolicy, size: Option<u64>) -> Self {
        Self {
            policy,
            size,
            hit_tokens: 0,
            written_tokens: 0,
            evicted: 0,
            held_tokens: 0,
        }
    }

    /// A block was written for which others went, and so many tokens are there now.
    fn put(&mut self, tokens: u64, evicted: u64, held: u64) {
        self.written_tokens += tokens;
        self.evicted += evicted;
        self.held_tokens = self.held_tokens.max(held);
    }
}

/// Where blocks are kept, counted in tokens.
trait Shelf {
    /// How many blocks of a unit are there, from the first on; they are read.
    fn found(&mut self, used: &UnitUse) -> u32;
    /// Those that are not there were computed, and are kept if there is room.
    fn put(&mut self, used: &UnitUse, row: &mut KvRow);
}

/// The program's own. What [`delayline_kv::Store`] does with files is done here with numbers.
impl Shelf for Aging {
    fn found(&mut self, used: &UnitUse) -> u32 {
        let all = used.first..used.first + used.blocks;
        let found = all.take_while(|&block| self.has(block)).count() as u32;
        (used.first..used.first + found).for_each(|block| self.touch(block));
        found
    }

    fn put(&mut self, used: &UnitUse, row: &mut KvRow) {
        let (tokens, mut behind) = (u64::from(used.tokens), used.behind);
        for block in used.first..used.first + used.blocks {
            // It may be there although a block before it was evicted.
            if !self.has(block) {
                let mut gone = 0;
                self.make_room(tokens, behind, |_, _| gone += 1);
                if self.has_room(tokens) {
                    self.add(block, tokens, behind);
                    row.put(tokens, gone, self.bytes());
                }
            }
            behind = Some(block);
        }
    }
}

/// Everything stays: whether a unit was ever used.
struct All(Vec<bool>);

impl Shelf for All {
    fn found(&mut self, used: &UnitUse) -> u32 {
        match self.0[used.unit as usize] {
            true => used.blocks,
            false => 0,
        }
    }

    fn put(&mut self, used: &UnitUse, row: &mut KvRow) {
        if !std::mem::replace(&mut self.0[used.unit as usize], true) {
            let tokens = u64::from(used.blocks * used.tokens);
            row.put(tokens, 0, row.held_tokens + tokens);
        }
    }
}

/// How many replays [`replayed`] makes for so many sizes.
pub fn replays(sizes: usize) -> usize {
    (KvPolicy::ALL.len() - 1) * sizes + 1
}

/// Replays a trace under all policies with room for so many tokens. `done` is called after
/// each replay, from any thread.
pub fn replayed(trace: &KvTrace, sizes: &[u64], done: &(dyn Fn() + Sync)) -> Vec<KvRow> {
    let limited = KvPolicy::ALL
        .into_iter()
        .filter(|&policy| policy != KvPolicy::Unlimited);
    let limited: Vec<_> = limited.collect();
    let mut cases: Vec<(KvPolicy, Option<u64>)> = sizes
        .iter()
        .flat_map(|&size| limited.iter().map(move |&policy| (policy, Some(size))))
        .collect();
    cases.push((KvPolicy::Unlimited, None));
    let row = |&(policy, size): &(KvPolicy, Option<u64>)| {
        let row = policy.replay(trace, size);
        done();
        row
    };
    cases.par_iter().with_max_len(1).map(row).collect()
}

fn replay(trace: &KvTrace, mut shelf: impl Shelf, mut row: KvRow) -> KvRow {
    for units in trace.requests() {
        // A block is of no use without those before it.
        let mut is_whole = true;
        for used in units {
            if is_whole {
                let found = shelf.found(&used);
                row.hit_tokens += u64::from(found * used.tokens);
                is_whole = found == used.blocks;
            }
            if !is_whole {
                shelf.put(&used, &mut row);
            }
        }
    }
    row
}

#[cfg(test)]
mod tests;
