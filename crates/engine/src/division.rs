//! Divides what the ledger leaves for weights: which of them stay, and the length of the
//! window for the others.

use delayline_medium::LapOutline;
use delayline_plan::{self as plan, Residency};

use crate::budget;
use crate::error::{Error, mib};
use crate::ledger::{Account, Ledger};
use crate::options::Options;
use crate::source::READ_LEN;

/// Maximum bytes of look-ahead beyond the largest run: 32 reads of 4 MiB keep
/// every drive we know busy.
const LOOKAHEAD: u64 = 128 << 20;

/// Steps in which the look-ahead is shortened to none, for a medium to choose from.
const STEPS: u64 = 8;

/// A division of the memory for weights.
pub enum Division {
    /// There is room.
    Fits {
        /// What stays and what streams.
        residency: Residency,
        /// Further bytes that rows and experts may keep.
        keep: u64,
    },
    /// There is not.
    Short(Shortfall),
}

/// The memory that would be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The smallest budget that works, in bytes.
    pub needed: u64,
    /// The part of it for window and weights, in bytes.
    pub weights: u64,
}

impl Shortfall {
    /// The error for the budget of `ledger`.
    pub fn refusal(self, ledger: &Ledger) -> Error {
        let detail = format!(
            "KV cache {}, program and buffers {}, window {}",
            mib(ledger.of(Account::KvCache)),
            mib(ledger.overhead()),
            mib(self.weights + ledger.of(Account::Passing))
        );
        Error::Budget {
            budget: ledger.budget(),
            needed: self.needed,
            weights: self.weights,
            detail,
        }
    }
}

/// Divides what is left.
///
/// # Errors
/// If a medium of [`Options::maker`] accepts none of the possible divisions.
pub fn divide(lap: &LapOutline<'_>, ledger: &Ledger, options: &Options) -> Result<Division, Error> {
    let available = budget::without_tables(ledger.left());
    let available = available.min(options.weights.unwrap_or(u64::MAX));
    let choose = |lookahead| {
        let memory = plan::MemoryShare {
            available,
            lookahead,
        };
        plan::choose(lap.plan, lap.schedule, memory)
    };
    let longest = (available / 8).clamp(u64::from(READ_LEN), LOOKAHEAD);
    let choice = match options.window {
        None => choose(longest),
        // The look-ahead is what the requested window exceeds the smallest by.
        Some(window) => choose(0).and_then(|least| choose(window.saturating_sub(least.window))),
    };
    let mut residency = match choice {
        Ok(residency) => residency,
        Err(small) => {
            return Ok(Division::Short(Shortfall {
                needed: budget::with_tables(small.needed) + ledger.spent() + budget::NOISE,
                weights: small.needed,
            }));
        }
    };
    if let (Some(maker), None) = (&options.maker, options.window) {
        let ahead = residency.window - plan::window_min(lap.schedule, &residency.streamed());
        let shorter = (0..STEPS).rev();
        let shorter = shorter.filter_map(|steps| choose(ahead / STEPS * steps).ok());
        let mut all = std::iter::once(residency).chain(shorter);
        residency = maker.prefer(lap, &mut all)?;
    }
    let keep = match residency.streamed_bytes {
        0 => available - residency.window - residency.resident_bytes,
        _ => 0,
    };
    Ok(Division::Fits { residency, keep })
}
