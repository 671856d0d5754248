//! The budget as a ledger of accounts, in bytes. Measures nothing and decides nothing.

use serde::{Deserialize, Serialize};

/// What a part of a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The program, its libraries and what it has read of the model's header.
    Program,
    /// Keys and values of the tokens of all sequences.
    KvCache,
    /// llama.cpp's compute buffers.
    Buffers,
    /// What llama.cpp allocates besides while it computes.
    Scratch,
    /// Copies of a row of logits.
    Sampling,
    /// Grammars that answers have to follow, and choosing tokens by them.
    Grammars,
    /// What the caller sets aside, such as requests of a server.
    SetAside,
    /// Weights so small that they always stay.
    SmallWeights,
    /// Hashes of the model's bytes.
    Hashes,
    /// Which experts were hot.
    Hotness,
    /// A medium of [`crate::Options::maker`].
    Medium,
    /// What the kernel charges in advance.
    Kernel,
    /// Later growth that no other account covers.
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
    /// Its name, as a noun for a sentence.
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

    /// Whether it is for weights.
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
    /// A budget with nothing spent.
    pub fn new(budget: u64) -> Self {
        let entries = Vec::new();
        Self { budget, entries }
    }

    /// The same accounts with a budget of 0.
    pub fn of_nothing(&self) -> Self {
        Self {
            budget: 0,
            ..self.clone()
        }
    }

    /// The budget in bytes.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Adds bytes to an account.
    pub fn book(&mut self, account: Account, bytes: u64) {
        match self.entries.iter_mut().find(|entry| entry.0 == account) {
            Some(entry) => entry.1 += bytes,
            None => self.entries.push((account, bytes)),
        }
    }

    /// Sets an account to a number of bytes.
    pub fn set(&mut self, account: Account, bytes: u64) {
        self.entries.retain(|entry| entry.0 != account);
        self.book(account, bytes);
    }

    /// Bytes of an account.
    pub fn of(&self, account: Account) -> u64 {
        let entry = self.entries.iter().find(|entry| entry.0 == account);
        entry.map_or(0, |entry| entry.1)
    }

    /// The accounts that are not 0, in the order in which they were first booked.
    pub fn entries(&self) -> impl Iterator<Item = (Account, u64)> + '_ {
        self.entries.iter().copied().filter(|entry| entry.1 > 0)
    }

    /// Sum of all accounts.
    pub fn spent(&self) -> u64 {
        self.entries.iter().map(|entry| entry.1).sum()
    }

    /// Bytes of the weights that stay, small ones included.
    fn resident_weights(&self) -> u64 {
        self.of(Account::Weights) + self.of(Account::SmallWeights)
    }

    /// Sum of the accounts that are neither for weights nor the KV cache.
    pub fn overhead(&self) -> u64 {
        let beside = |account: Account| !account.is_for_weights() && account != Account::KvCache;
        let entries = self.entries.iter().filter(|entry| beside(entry.0));
        entries.map(|entry| entry.1).sum()
    }

    /// The ledger in five sums.
    pub fn figures(&self) -> LedgerFigures {
        LedgerFigures {
            budget_bytes: self.budget,
            window_bytes: self.of(Account::Window),
            resident_weights_bytes: self.resident_weights(),
            kv_bytes: self.of(Account::KvCache),
            buffer_bytes: self.overhead(),
        }
    }

    /// Bytes not spent; 0 if more is.
    pub fn left(&self) -> u64 {
        self.budget.saturating_sub(self.spent())
    }
}

/// A ledger in five sums, in bytes, as it is reported to programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerFigures {
    /// The budget.
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
