//! What the ledger leaves for weights is divided: which of them stay, and how long
//! the window is through which the others pass.

use delayline_medium::LapOutline;
use delayline_plan::{self as plan, Residency};

use crate::budget;
use crate::error::{Error, mib};
use crate::ledger::{Account, Ledger};
use crate::options::Options;
use crate::source::READ_LEN;

/// Bytes of look-ahead beyond the largest run, at most: 32 reads of 4 MiB keep
/// every drive we know busy.
const LOOKAHEAD: u64 = 128 << 20;

/// Steps in which the look-ahead is shortened, down to none, for a medium that has
/// a preference.
const STEPS: u64 = 8;

/// What becomes of what is left for weights.
pub enum Division {
    /// They have room.
    Fits {
        /// What stays and what streams.
        residency: Residency,
        /// Bytes that rows and experts may keep beside it.
        keep: u64,
    },
    /// They have not.
    Short(Shortfall),
}

/// How much a budget would have to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// All of it at least, in bytes.
    pub needed: u64,
    /// Window and weights of it, in bytes.
    pub weights: u64,
}

impl Shortfall {
    /// The refusal of what `ledger` is of.
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
/// When a medium from above does with none of what can be left.
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
        // What is asked for beyond the least.
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
