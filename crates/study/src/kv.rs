//! Replays recorded requests against a store of KV caches, to see how much of their prompts it
//! would find again: under the index and policy of the `kv` crate, LRU, Belady's policy, and
//! without a limit.

mod report;
mod rival;
mod trace;

use delayline_kv::{ChainLink, KvIndex};
use rayon::prelude::*;

pub use report::kv_report;
pub use trace::{KvTrace, KvTraceError, read_trace};

use rival::Rival;
use trace::Use;

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

    fn shelf(self, size: u64, trace: &KvTrace) -> Box<dyn Shelf> {
        match self {
            Self::Frequency => Box::new(KvIndex::new(size)),
            Self::Lru => Box::new(Rival::new(size, trace.blocks(), |used| used.request)),
            Self::Belady => Box::new(Rival::new(size, trace.blocks(), |used| {
                used.next.map_or(0, |next| u64::MAX - next)
            })),
            Self::Unlimited => Box::new(KvIndex::new(u64::MAX)),
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

/// Where blocks are kept, counted in tokens.
trait Shelf {
    fn has(&self, block: u32) -> bool;
    /// A block that is there was read.
    fn touch(&mut self, used: &Use);
    /// A block that is not there was computed: how many others went for it, or none where
    /// it is not kept.
    fn put(&mut self, used: &Use) -> Option<u64>;
    fn tokens(&self) -> u64;
}

/// The program's own. What [`delayline_kv::Store`] does with files is done here with numbers.
impl Shelf for KvIndex<u32, u32> {
    fn has(&self, block: u32) -> bool {
        KvIndex::has(self, &block)
    }

    fn touch(&mut self, used: &Use) {
        KvIndex::touch(self, &used.block);
    }

    fn put(&mut self, used: &Use) -> Option<u64> {
        let tokens = u64::from(used.tokens);
        let gone = self.make_room(tokens, Some(&used.behind)).len() as u64;
        if !self.has_room(tokens) {
            return None;
        }
        let link = ChainLink {
            own: Some(used.block),
            behind: used.behind,
        };
        self.add(used.block, tokens, link);
        Some(gone)
    }

    fn tokens(&self) -> u64 {
        self.bytes()
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
        let row = replay(
            trace,
            policy,
            size,
            &mut *policy.shelf(size.unwrap_or(u64::MAX), trace),
        );
        done();
        row
    };
    cases.par_iter().map(row).collect()
}

fn replay(trace: &KvTrace, policy: KvPolicy, size: Option<u64>, shelf: &mut dyn Shelf) -> KvRow {
    let mut row = KvRow {
        policy,
        size,
        hit_tokens: 0,
        written_tokens: 0,
        evicted: 0,
        held_tokens: 0,
    };
    for uses in trace.requests() {
        // A block is of no use without those before it.
        let found = uses.iter().take_while(|used| shelf.has(used.block)).count();
        for used in &uses[..found] {
            shelf.touch(used);
            row.hit_tokens += u64::from(used.tokens);
        }
        for used in &uses[found..] {
            // It may be there although a block before it was evicted.
            if shelf.has(used.block) {
                continue;
            }
            if let Some(evicted) = shelf.put(used) {
                row.written_tokens += u64::from(used.tokens);
                row.evicted += evicted;
            }
            row.held_tokens = row.held_tokens.max(shelf.tokens());
        }
    }
    row
}

#[cfg(test)]
mod tests;
