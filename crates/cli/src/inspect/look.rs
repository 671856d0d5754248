//! A model at one budget: opens it as for a run, takes its figures, and closes it. Knows
//! nothing of how they are shown.

use std::path::Path;

use anyhow::Result;
use delayline_engine::{Account, Error, Ledger, LedgerFigures, ModelFile, Options};
use delayline_plan::lap_time_s;
use delayline_study::decode::PlanFile;
use serde::Serialize;

use crate::plan;

use super::Outcome;
use super::speed::Speed;

/// A model at one budget. Bytes and seconds.
#[derive(Debug, Serialize)]
pub struct Look {
    #[serde(flatten)]
    pub ledger: LedgerFigures,
    /// All accounts that the budget is spent on, by their names.
    pub accounts: Vec<AccountFigures>,
    pub ctx: u32,
    /// Maximum number of tokens of a lap while a prompt is read.
    pub ubatch: u32,
    pub extents: Extents,
    /// Runs of a lap, between which it may wait.
    pub runs: usize,
    /// Bytes that a lap for one token streams.
    pub bytes_per_lap: u64,
    /// Bytes of experts that it reads in addition, if none is in memory yet.
    pub expert_bytes_per_lap: u64,
    pub predicted: Option<Predicted>,
    #[serde(skip)]
    pub native_from_bytes: u64,
    #[serde(skip)]
    pub plan: PlanFile,
}

/// The bytes of one account.
#[derive(Debug, Serialize)]
pub struct AccountFigures {
    pub account: &'static str,
    pub bytes: u64,
}

/// The accounts, largest first, and the bytes that are not spent.
fn entries(ledger: &Ledger) -> Vec<AccountFigures> {
    let entry = |(account, bytes): (Account, u64)| AccountFigures {
        account: account.name(),
        bytes,
    };
    let mut entries: Vec<AccountFigures> = ledger.entries().map(entry).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    entries.push(AccountFigures {
        account: "not spent",
        bytes: ledger.left(),
    });
    entries
}

/// The units that move.
#[derive(Debug, Default, Serialize)]
pub struct Extents {
    pub count: usize,
    pub bytes: u64,
    pub smallest_bytes: u64,
    pub largest_bytes: u64,
}

/// The best possible lap for one token.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Predicted {
    /// The compute of the lap alone.
    pub compute_s: f64,
    pub lap_s: f64,
    pub tokens_per_s: f64,
}

/// Opens the model with these options.
///
/// # Errors
/// When it cannot be opened for another reason than the budget.
pub fn look(path: &Path, options: &Options, speed: Option<Speed>) -> Result<Outcome> {
    let mut engine = match delayline_llama::open(path, options) {
        Ok(engine) => engine,
        // Rounded up, because the program's own memory varies by some pages.
        Err(Error::Budget { needed, .. }) => {
            return Ok(Outcome::NeedsBytes(needed.next_multiple_of(1 << 20)));
        }
        Err(error) => return Err(error.into()),
    };
    let ledger = engine.ledger().clone();
    let expert_bytes_per_lap = expert_bytes(engine.file());
    let (ctx, ubatch) = (engine.ctx(), engine.ubatch());
    let native_from_bytes = engine.native_from().unwrap_or(0);
    let stream = engine.stream().expect("it was opened to be streamed");
    let (itinerary, residency) = (stream.itinerary(), stream.residency());
    let lap = &itinerary.plan;
    let lens = || lap.extents.iter().map(|extent| extent.len);
    let predicted = speed.map(|speed| {
        let bytes = lens().sum::<u64>() + expert_bytes_per_lap;
        let compute_s = bytes as f64 / speed.memory_rate_bytes_per_s;
        let rate = speed.device_rate_bytes_per_s;
        let lap_s = lap_time_s(lap, &itinerary.schedule, residency, compute_s, rate);
        // Experts are read when they are needed: nothing hides their reads.
        let lap_s = lap_s + expert_bytes_per_lap as f64 / rate;
        Predicted {
            compute_s,
            lap_s,
            tokens_per_s: lap_s.recip(),
        }
    });
    Ok(Outcome::Works(Box::new(Look {
        ledger: ledger.figures(),
        accounts: entries(&ledger),
        ctx,
        ubatch,
        extents: Extents {
            count: lap.extents.len(),
            bytes: lens().sum(),
            smallest_bytes: lens().min().unwrap_or(0),
            largest_bytes: lens().max().unwrap_or(0),
        },
        runs: lap.runs.len(),
        bytes_per_lap: stream.bytes_per_lap(),
        expert_bytes_per_lap,
        predicted,
        native_from_bytes,
        plan: plan::of(stream, path, options.medium.depth),
    })))
}

/// Bytes of the experts that one token uses: they are in tensors of three dimensions, the
/// last of which is the number of experts.
fn expert_bytes(file: &ModelFile) -> u64 {
    let facts = file.facts();
    if facts.experts == 0 {
        return 0;
    }
    let of_experts = |dims: &[u64]| dims.len() == 3 && dims[2] == facts.experts;
    let weights = file.weights().iter().filter(|w| of_experts(&w.dims));
    weights
        .map(|w| w.len / facts.experts * facts.experts_used)
        .sum()
}
