//! The budget as one ledger: what each of its accounts takes, in bytes. Adds up;
//! measures nothing and decides nothing.

use serde::{Deserialize, Serialize};

/// What a part of a budget goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The program, its libraries and what it has read of the model's header.
    Program,
    /// Keys and values of the tokens of all sequences.
    KvCache,
    /// What llama.cpp computes in.
    Buffers,
    /// What it allocates beside them while it does.
    Scratch,
    /// Copies of a row of logits.
    Sampling,
    /// Grammars that answers have to follow, and choosing by them.
    Grammars,
    /// What the caller asked to have set aside: requests of a server, say.
    SetAside,
    /// Weights so small that they always stay.
    SmallWeights,
    /// What is known of the bytes that come.
    Hashes,
    /// Which experts were hot.
    Hotness,
    /// What a medium from above takes.
    Medium,
    /// What the kernel charges in advance.
    Kernel,
    /// What may grow later and nothing else counts.
    Margin,
    /// A copy of the largest weight while llama.cpp loads it.
    Loading,
    /// Rows and experts that are in memory for a run only.
    Passing,
    /// The window through which weights stream.
    Window,
    /// Weights that stay.
    Weights,
    /// Rows and experts that stay.
    Items,
    /// Page tables of window and weights.
    PageTables,
}

impl Account {
    /// In words, as a noun of a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::KvCache => "KV cache",
            Self::Buffers => "compute buffers",
            Self::Scratch => "scratch memory",
            Self::Sampling => "sampling",
            Self::Grammars => "grammars",
            Self::SetAside => "requests",
            Self::SmallWeights => "small weights",
            Self::Hashes => "hashes",
            Self::Hotness => "which experts are hot",
            Self::Medium => "medium",
            Self::Kernel => "kernel",
            Self::Margin => "margin",
            Self::Loading => "loading",
            Self::Passing => "passing rows and experts",
            Self::Window => "window",
            Self::Weights => "weights that stay",
            Self::Items => "rows and experts that stay",
            Self::PageTables => "page tables",
        }
    }

    /// Whether weights, or what they need, have it.
    fn is_for_weights(self) -> bool {
        matches!(
            self,
            Self::SmallWeights
                | Self::Passing
                | Self::Window
                | Self::Weights
                | Self::Items
                | Self::PageTables
        )
    }
}

/// A budget and its accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    budget: u64,
    entries: Vec<(Account, u64)>,
}

impl Ledger {
    /// A budget of which nothing is spent.
    pub fn new(budget: u64) -> Self {
        let entries = Vec::new();
        Self { budget, entries }
    }

    /// The same accounts, and no budget for them.
    pub fn of_nothing(&self) -> Self {
        Self {
            budget: 0,
            ..self.clone()
        }
    }

    /// The whole of it, in bytes.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Books bytes on an account, on top of what is there.
    pub fn book(&mut self, account: Account, bytes: u64) {
        match self.entries.iter_mut().find(|entry| entry.0 == account) {
            Some(entry) => entry.1 += bytes,
            None => self.entries.push((account, bytes)),
        }
    }

    /// An account takes so many bytes, whatever was booked on it.
    pub fn set(&mut self, account: Account, bytes: u64) {
        self.entries.retain(|entry| entry.0 != account);
        self.book(account, bytes);
    }

    /// What an account takes.
    pub fn of(&self, account: Account) -> u64 {
        let entry = self.entries.iter().find(|entry| entry.0 == account);
        entry.map_or(0, |entry| entry.1)
    }

    /// The accounts that take anything, in the order in which they were first booked.
    pub fn entries(&self) -> impl Iterator<Item = (Account, u64)> + '_ {
        self.entries.iter().copied().filter(|entry| entry.1 > 0)
    }

    /// What all accounts take.
    pub fn spent(&self) -> u64 {
        self.entries.iter().map(|entry| entry.1).sum()
    }

    /// Weights that stay, small ones included.
    fn resident_weights(&self) -> u64 {
        self.of(Account::Weights) + self.of(Account::SmallWeights)
    }

    /// What everything takes that is neither for weights nor the KV cache.
    pub fn overhead(&self) -> u64 {
        let beside = |account: Account| !account.is_for_weights() && account != Account::KvCache;
        let entries = self.entries.iter().filter(|entry| beside(entry.0));
        entries.map(|entry| entry.1).sum()
    }

    /// In five sums.
    pub fn figures(&self) -> LedgerFigures {
        LedgerFigures {
            budget_bytes: self.budget,
            window_bytes: self.of(Account::Window),
            resident_weights_bytes: self.resident_weights(),
            kv_bytes: self.of(Account::KvCache),
            buffer_bytes: self.overhead(),
        }
    }

    /// What is not spent.
    pub fn left(&self) -> u64 {
        self.budget.saturating_sub(self.spent())
    }
}

/// The accounts of a ledger in five sums, as programs are told them. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerFigures {
    /// What was allowed.
    pub budget_bytes: u64,
    /// The window.
    pub window_bytes: u64,
    /// Weights that stay.
    pub resident_weights_bytes: u64,
    /// KV cache.
    pub kv_bytes: u64,
    /// Program and buffers.
    pub buffer_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_booked_adds_up() {
        let mut ledger = Ledger::new(100);
        ledger.book(Account::Program, 30);
        ledger.book(Account::KvCache, 20);
        ledger.book(Account::Hashes, 0);
        ledger.book(Account::Program, 5);
        ledger.book(Account::Passing, 10);
        assert_eq!(
            (ledger.of(Account::Program), ledger.of(Account::Window)),
            (35, 0)
        );
        assert_eq!(
            (ledger.spent(), ledger.left(), ledger.overhead()),
            (65, 35, 35)
        );
        let names: Vec<_> = ledger
            .entries()
            .map(|(account, _)| account.name())
            .collect();
        assert_eq!(names, ["program", "KV cache", "passing rows and experts"]);
        ledger.book(Account::Weights, 50);
        assert_eq!(ledger.left(), 0, "more than there is");
    }
}
