//! What the budget leaves for weights is divided: which of them stay, and how long
//! the window is through which the others pass.

use delayline_medium::LapOutline;
use delayline_plan::{self as plan, Residency};

use crate::budget::{self, Needs};
use crate::error::{Error, mib};
use crate::options::Options;
use crate::source::READ_LEN;

/// Bytes of look-ahead beyond the largest run, at most: 32 reads of 4 MiB keep
/// every drive we know busy.
const LOOKAHEAD: u64 = 128 << 20;

/// Steps in which the look-ahead is shortened, down to none, for a medium that has
/// a preference.
const STEPS: u64 = 8;

/// What stays, and how many bytes items may keep beside it.
///
/// # Errors
/// When the budget is too small, or the medium does with none of what it leaves.
pub fn settle_budget(
    lap: &LapOutline<'_>,
    spend: Needs,
    options: &Options,
) -> Result<(Residency, u64), Error> {
    let fixed = spend.needs + spend.passing;
    let available = budget::without_tables(spend.total.saturating_sub(fixed));
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
    let mut residency = choice.map_err(|small| {
        let needed = budget::with_tables(small.needed) + fixed + budget::NOISE;
        Error::Budget {
            budget: spend.total,
            needed,
            weights: small.needed,
            detail: format!(
                "KV cache {}, program and buffers {}, window {}",
                mib(spend.kv),
                mib(spend.needs.saturating_sub(spend.kv)),
                mib(small.needed + spend.passing)
            ),
        }
    })?;
    if let (Some(maker), None) = (&options.maker, options.window) {
        let ahead = residency.window - plan::window_min(lap.schedule, &residency.streamed());
        let shorter = (0..STEPS).rev();
        let shorter = shorter.filter_map(|steps| choose(ahead / STEPS * steps).ok());
        let mut all = std::iter::once(residency).chain(shorter);
        residency = maker.prefer(lap, &mut all)?;
    }
    let spare = available - residency.window - residency.resident_bytes;
    let keep = if residency.streamed_bytes == 0 {
        spare
    } else {
        0
    };
    Ok((residency, keep))
}
