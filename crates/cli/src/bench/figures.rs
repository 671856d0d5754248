//! The measurements of `bench`, the figures that follow from them, and how they are shown.
//! Measures nothing itself.

use anyhow::{Result, bail};
use delayline_engine::LedgerFigures;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::BenchArgs;
use crate::built::{self, LEVEL};
use crate::medium::MediumReport;
use crate::output::{Output, TextTable, format_seconds};
use crate::report::{GuessFigures, limit_s};
use crate::size::{format_rate, format_size};

/// The figures of one process. Times in seconds, sizes in bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// From the start to a model ready to run.
    pub open_s: f64,
    /// From the start to the first token.
    pub first_token_s: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Laps for the prompt.
    pub prompt_laps: usize,
    /// Tokens decoded after it.
    pub tokens: u32,
    /// Time of the prompt when it is read again, with all weights in memory and every
    /// page touched before; `None` if weights are streamed.
    pub prompt_compute_s: Option<f64>,
    /// Median decoding lap.
    pub lap_s: f64,
    /// Median of decoding laps without their stalls.
    pub compute_s: f64,
    /// Median of the bytes that decoding laps took from the drive, single rows
    /// and experts included.
    pub bytes_per_lap: u64,
    /// All laps, those of the prompt included.
    pub laps: u64,
    /// Bytes that they took from the drive; the first also those of weights that stay.
    pub bytes_read: u64,
    /// Time in which compute waited in them.
    pub stall_s: f64,
    /// What the budget is spent on.
    #[serde(flatten)]
    pub ledger: LedgerFigures,
    /// Peak memory of the process.
    pub peak_bytes: u64,
    /// Peak memory of its cgroup, page cache included, without the bytes in flight of a
    /// loop.
    pub cap_peak_bytes: Option<u64>,
    /// Tokens of a micro-batch.
    pub ubatch: u32,
    /// Compute threads.
    pub threads: u32,
    /// The medium between the files and the laps.
    #[serde(flatten)]
    pub medium: MediumReport,
    /// The use of experts, for a mixture whose experts have frames.
    pub experts: Option<ExpertFigures>,
}

/// The use of experts. "Late" means in the last three quarters of the decoding laps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpertFigures {
    /// The policy that decides which experts stay.
    pub policy: String,
    /// The recorded route that laps followed, if they did.
    pub route: Option<String>,
    /// Bytes of frames.
    pub capacity_bytes: u64,
    /// Distinct experts that layers of all laps used, the prompt's included.
    pub used: u64,
    /// Those of them that were in memory.
    pub hits: u64,
    /// Guesses of experts.
    pub guesses: GuessFigures,
    /// Share of the late uses that were hits.
    pub late_hit_share: f64,
    /// Bytes of missing experts for each late token.
    pub late_bytes_per_token: f64,
    /// `late_hit_share` of a policy that knows the whole route.
    pub clairvoyant_hit_share: f64,
    /// `late_bytes_per_token` of a policy that knows the whole route.
    pub clairvoyant_bytes_per_token: f64,
    /// Bytes of missing experts in each late lap, by such a policy.
    pub clairvoyant_lap_bytes: Vec<u64>,
    /// Bytes that each decoding lap took from the drive.
    pub lap_bytes: Vec<u64>,
    /// Time of each decoding lap.
    pub laps_s: Vec<f64>,
}

/// Limits of the laps of a mixture, each lap by its own bytes, as shares of the time that
/// they took. By its own, because an expert that is missed now and then makes a long lap
/// now and then.
#[derive(Clone, Copy, Debug)]
struct ExpertShares {
    /// The limit by compute and the bytes that laps took.
    of_limit: f64,
    /// The limit by compute and the bytes that late laps would have taken with all choices
    /// known in advance.
    of_clairvoyant: f64,
    /// Time in which the drive was idle.
    idle: f64,
}

impl ExpertShares {
    /// Of several processes the one with the median of `of_limit`.
    fn median(mut all: Vec<Self>) -> Option<Self> {
        all.sort_by(|a, b| a.of_limit.total_cmp(&b.of_limit));
        all.get(all.len() / 2).copied()
    }

    fn of(experts: &ExpertFigures, compute_s: f64, rate: f64) -> Option<Self> {
        let ahead = &experts.clairvoyant_lap_bytes;
        let late = experts.laps_s.len().checked_sub(ahead.len())?;
        let [all_s, late_s]: [f64; 2] =
            [0, late].map(|from| experts.laps_s[from..].iter().sum::<f64>());
        let bytes: u64 = experts.lap_bytes.iter().sum();
        Some(Self {
            of_limit: limit_s(compute_s, &experts.lap_bytes, rate) / all_s,
            of_clairvoyant: limit_s(compute_s, ahead, rate) / late_s,
            idle: (1.0 - bytes as f64 / rate / all_s).max(0.0),
        })
    }
}

impl Sample {
    /// The medium's own rate, if it has one other than the drive's.
    fn medium_rate(&self) -> Option<f64> {
        self.medium.figures.as_ref()?.rate_bytes_per_s
    }

    /// Memory that this machine takes to emulate the bytes in flight of a loop, in whole
    /// pages.
    pub fn glass_bytes(&self) -> u64 {
        let medium = self.medium.figures.as_ref();
        let placed = medium.map_or(0, |medium| medium.held_bytes);
        placed.next_multiple_of(delayline_plan::ALIGN)
    }
}

/// Samples of one way under one budget, or why there are none.
#[derive(Debug, Default)]
pub struct Samples {
    good: Vec<Sample>,
    failed: Option<String>,
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: Result<Sample>) {
        match sample {
            Ok(sample) => self.good.push(sample),
            Err(error) => self.failed = Some(format!("{error:#}")),
        }
    }

    fn median(&self, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.good.iter().map(of))
    }
}

/// Everything measured under one budget.
#[derive(Debug, Default)]
pub struct Budgeted {
    /// In bytes.
    pub budget: u64,
    /// The device's rate before and after each process, in bytes a second.
    pub rates: Vec<f64>,
    /// Streamed by the line.
    pub streamed: Samples,
    /// llama.cpp's mmap.
    pub mmap: Samples,
}

/// The figures that follow from the samples of one budget.
struct Derived {
    /// Rate of the loop, if there is one, else of the drive.
    rate: f64,
    drive_rate: f64,
    compute_s: f64,
    lap_s: f64,
    limit_s: f64,
    of_limit: f64,
    shares: Option<ExpertShares>,
    first_token_s: f64,
    first_limit_s: f64,
    mmap_lap_s: Option<f64>,
    sample: Sample,
}

impl Budgeted {
    /// Whether there is a medium with a rate of its own.
    fn has_medium(&self) -> bool {
        let samples = &self.streamed.good;
        samples.iter().any(|sample| sample.medium_rate().is_some())
    }

    fn derive(&self, whole: Option<&Sample>, model_bytes: u64) -> Option<Derived> {
        let lap_s = self.streamed.median(|s| s.lap_s)?;
        let sample = self.streamed.good.first()?.clone();
        let rate = median(self.rates.iter().copied())?;
        let compute_s = match whole {
            Some(whole) => whole.lap_s,
            None => self.streamed.median(|s| s.compute_s)?,
        };
        let limit = Limit::of(compute_s, &sample, rate);
        // The limit of a prompt: its compute, or reading the model once and what streams again.
        let prompt_compute_s = whole.and_then(|w| w.prompt_compute_s).unwrap_or(0.0);
        let first_limit_s = limit.first_s(prompt_compute_s, model_bytes, &sample, rate);
        let limit_s = limit.lap_s();
        let experts = self.streamed.good.iter().filter_map(|s| s.experts.as_ref());
        let shares = experts.filter_map(|experts| ExpertShares::of(experts, compute_s, rate));
        let shares = ExpertShares::median(shares.collect());
        Some(Derived {
            shares,
            rate: sample.medium_rate().unwrap_or(rate),
            drive_rate: rate,
            compute_s,
            lap_s,
            limit_s,
            of_limit: shares.map_or(limit_s / lap_s, |shares| shares.of_limit),
            first_token_s: self.streamed.median(|s| s.first_token_s)?,
            first_limit_s,
            mmap_lap_s: self.mmap.median(|s| s.lap_s),
            sample,
        })
    }
}

/// The least times of the parts of a lap, in seconds.
struct Limit {
    compute_s: f64,
    /// One turn of the loop: nothing on it passes twice in one.
    turn_s: f64,
    /// Reads from the drive: of everything, or of what is not on the loop.
    drive_s: f64,
}

impl Limit {
    fn of(compute_s: f64, sample: &Sample, drive_rate: f64) -> Self {
        let bytes = sample.bytes_per_lap;
        let medium = sample.medium.figures.as_ref();
        let (turn_s, rest) = medium.map_or((0.0, bytes), |medium| medium.parts_of(bytes));
        Self {
            compute_s,
            turn_s,
            drive_s: rest as f64 / drive_rate,
        }
    }

    fn lap_s(&self) -> f64 {
        self.compute_s.max(self.turn_s).max(self.drive_s)
    }

    /// The same for the first token: the prompt's compute, or reading the model once from
    /// the drive and then what streams again. A loop is filled first.
    fn first_s(&self, compute_s: f64, model_bytes: u64, sample: &Sample, drive_rate: f64) -> f64 {
        let (laps, once_s) = (sample.prompt_laps as f64, model_bytes as f64 / drive_rate);
        match self.turn_s > 0.0 {
            true => once_s + compute_s.max(laps * self.turn_s),
            false => compute_s.max(once_s + (laps - 1.0) * self.drive_s),
        }
    }
}

/// The median; of an even number of values, the mean of the middle two.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    let (low, high) = (all.len().checked_sub(1)? / 2, all.len() / 2);
    Some((all[low] + all[high]) / 2.0)
}

/// Prints the table, or the objects.
pub fn report(
    args: &BenchArgs,
    model_bytes: u64,
    whole: Option<&Sample>,
    results: &[Budgeted],
    output: &Output,
) -> Result<()> {
    let mut table = TextTable::new([
        "budget", "÷", "window", "stays", "a lap", "device", "lap", "limit", "of limit", "tok/s",
        "first", "limit", "peak", "mmap lap", "faster",
    ]);
    let dash = || "–".to_owned();
    let mut failures = Vec::new();
    for result in results {
        let share = format!("{:.2}", model_bytes as f64 / result.budget as f64);
        for (way, samples) in [("streamed", &result.streamed), ("mmap", &result.mmap)] {
            if let Some(why) = &samples.failed {
                failures.push(format!("{} {way}: {why}", format_size(result.budget)));
            }
        }
        let Some(d) = result.derive(whole, model_bytes) else {
            output.object(&json!({
                "event": "budget", "level": LEVEL, "budget_bytes": result.budget,
                "failed": result.streamed.failed,
            }))?;
            let mut cells = vec![format_size(result.budget), share];
            cells.resize_with(15, dash);
            table.row(cells);
            continue;
        };
        output.object(&object(args, result, &d))?;
        table.row([
            format_size(result.budget),
            share,
            format_size(d.sample.ledger.window_bytes),
            format_size(d.sample.ledger.resident_weights_bytes),
            format_size(d.sample.bytes_per_lap),
            format_rate(d.rate),
            format_seconds(d.lap_s),
            format_seconds(d.limit_s),
            format!("{:.0} %", 100.0 * d.of_limit),
            format!("{:.2}", 1.0 / d.lap_s),
            format_seconds(d.first_token_s),
            format_seconds(d.first_limit_s),
            d.sample.cap_peak_bytes.map_or_else(dash, format_size),
            d.mmap_lap_s.map_or_else(dash, format_seconds),
            d.mmap_lap_s
                .map_or_else(dash, |mmap| format!("{:.2}×", mmap / d.lap_s)),
        ]);
    }
    output.line(&table)?;
    output.line(format_args!("program: {}", built::text()))?;
    if let Some(whole) = whole {
        output.object(&json!({"event": "resident", "level": LEVEL, "figures": whole}))?;
        output.line(format_args!(
            "everything in memory, same kernels: a lap in {}, {} tokens of prompt in {}",
            format_seconds(whole.lap_s),
            whole.prompt_tokens,
            whole.prompt_compute_s.map_or_else(dash, format_seconds),
        ))?;
    }
    for (result, d) in results
        .iter()
        .filter_map(|r| Some((r, r.derive(whole, model_bytes)?)))
    {
        if let Some(experts) = &d.sample.experts {
            output.line(experts_line(result.budget, experts, &d))?;
        }
    }
    let limits = match results.iter().any(|result| result.has_medium()) {
        false => {
            "limit of a lap: the longer of compute and streamed bytes ÷ device rate; of the first \
             token: the longer of the prompt's compute and the model's bytes ÷ device rate."
        }
        true => {
            "device: the loop. Limit of a lap: the longest of compute, a turn of the loop and what \
             is not on it ÷ the drive's rate; of the first token: the model's bytes ÷ the drive's \
             rate, then the prompt. Bytes in flight are in the glass, and not in the peak."
        }
    };
    output.line(format_args!(
        "{limits} Medians of {} in turns.",
        args.repeat
    ))?;
    for failure in &failures {
        output.note(failure);
    }
    if results.iter().all(|r| r.streamed.good.is_empty()) {
        bail!("nothing could be measured");
    }
    Ok(())
}

fn experts_line(budget: u64, experts: &ExpertFigures, d: &Derived) -> String {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let size = |bytes: f64| format_size(bytes as u64);
    let share = |of: fn(ExpertShares) -> f64| {
        d.shares
            .map_or_else(|| "–".to_owned(), |shares| percent(of(shares)))
    };
    let followed = experts.route.as_ref().map_or_else(String::new, |route| {
        format!("; they were chosen by {route}, not by the model")
    });
    format!(
        "experts in {} of {}, by {}: {} in memory, {} read a token; with all choices known {} \
         and {}. Of the limit of each lap by its own bytes laps come to {}, with all choices known \
         to {}; the drive rests {} of the time{followed}{}",
        format_size(experts.capacity_bytes),
        format_size(budget),
        experts.policy,
        percent(experts.late_hit_share),
        size(experts.late_bytes_per_token),
        percent(experts.clairvoyant_hit_share),
        size(experts.clairvoyant_bytes_per_token),
        share(|shares| shares.of_limit),
        share(|shares| shares.of_clairvoyant),
        share(|shares| shares.idle),
        experts.guesses.text(),
    )
}

fn object(args: &BenchArgs, result: &Budgeted, d: &Derived) -> serde_json::Value {
    let mut memory = json!(d.sample.ledger);
    memory["budget_bytes"] = json!(result.budget);
    memory["peak_bytes"] = json!(d.sample.cap_peak_bytes.unwrap_or(d.sample.peak_bytes));
    memory["glass_bytes"] = json!(d.sample.glass_bytes());
    let mut object = json!({
        "event": "budget",
        "level": LEVEL,
        "budget_bytes": result.budget,
        "memory": memory,
        "line": {
            "laps": d.sample.laps,
            "bytes_per_lap": d.sample.bytes_per_lap,
            "bytes_read": d.sample.bytes_read,
            "stall_s": d.sample.stall_s,
            "stream_rate_bytes_per_s": d.sample.bytes_per_lap as f64 / d.lap_s,
            "device_rate_bytes_per_s": d.drive_rate,
            "of_limit": d.of_limit,
        },
        "medium": args.engine.medium.as_ref().map(|medium| &medium.text),
        "experts": d.sample.experts,
        "of_clairvoyant": d.shares.map(|shares| shares.of_clairvoyant),
        "drive_idle": d.shares.map(|shares| shares.idle),
        "prompt_tokens": d.sample.prompt_tokens,
        "generated_tokens": d.sample.tokens,
        "lap_s": d.lap_s,
        "compute_s": d.compute_s,
        "limit_s": d.limit_s,
        "decode_tokens_per_s": 1.0 / d.lap_s,
        "time_to_first_token_s": d.first_token_s,
        "first_token_limit_s": d.first_limit_s,
        "mmap": d.mmap_lap_s.map(|lap_s| json!({
            "lap_s": lap_s,
            "decode_tokens_per_s": 1.0 / lap_s,
            "ratio": lap_s / d.lap_s,
            "time_to_first_token_s": result.mmap.median(|s| s.first_token_s),
        })),
        "samples": { "streamed": result.streamed.good, "mmap": result.mmap.good, "rates_bytes_per_s": result.rates },
        "failed": { "streamed": result.streamed.failed, "mmap": result.mmap.failed },
    });
    d.sample.medium.tell(&mut object);
    object
}

#[cfg(test)]
mod tests {
    use super::{Limit, Sample, median};
    use crate::medium::{MediumFigures, MediumReport};

    #[test]
    fn a_lap_is_limited_by_what_takes_longest() {
        let sample = |turn_s, placed_bytes, bytes_per_lap| {
            let figures = MediumFigures {
                turn_s,
                held_bytes: placed_bytes,
                ..MediumFigures::default()
            };
            Sample {
                medium: MediumReport::new(Some(figures)),
                bytes_per_lap,
                prompt_laps: 3,
                ..Sample::default()
            }
        };
        for (turn_s, placed, bytes, lap_s) in [
            (5.0, 1000, 1000, 5.0),
            (1.0, 1000, 1000, 2.0),
            (1.0, 1000, 1700, 7.0),
            (5.0, 0, 300, 3.0),
        ] {
            let sample = sample(turn_s, placed, bytes);
            assert_eq!(Limit::of(2.0, &sample, 100.0).lap_s(), lap_s, "{sample:?}");
        }
        // The loop is filled first, then the prompt takes three laps.
        let filled = sample(5.0, 1000, 1000);
        let limit = Limit::of(2.0, &filled, 100.0);
        assert_eq!(limit.first_s(4.0, 2000, &filled, 100.0), 20.0 + 15.0);
        let flash = Sample {
            bytes_per_lap: 1000,
            prompt_laps: 3,
            ..Sample::default()
        };
        let limit = Limit::of(2.0, &flash, 100.0);
        assert_eq!(limit.lap_s(), 10.0);
        assert_eq!(limit.first_s(4.0, 2000, &flash, 100.0), 20.0 + 20.0);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
