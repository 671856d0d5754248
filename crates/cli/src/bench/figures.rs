//! What `bench` measured, what follows from it, and how it is shown. Measures
//! nothing itself.

use anyhow::{Result, bail};
use delayline_plan::{Bound, lap_bound_s};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::BenchArgs;
use crate::output::{Output, Table, format_seconds};
use crate::size::{format_rate, format_size};

/// One process's figures. Times in seconds, sizes in bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// From the start to a model ready to run.
    pub open_s: f64,
    /// From the start to the first token.
    pub first_token_s: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Laps that it took.
    pub prompt_laps: usize,
    /// Tokens decoded after it.
    pub tokens: u32,
    /// The prompt's laps once more, when all weights are in memory and every
    /// page was touched before; `None` if weights are streamed.
    pub prompt_compute_s: Option<f64>,
    /// Median decoding lap.
    pub lap_s: f64,
    /// Median of what decoding laps did not wait.
    pub compute_s: f64,
    /// Median of the bytes that decoding laps took from the drive, single rows
    /// and experts included.
    pub bytes_per_lap: u64,
    /// Laps in all, those of the prompt included.
    pub laps: u64,
    /// Bytes that they took from the drive, the first also for what stays.
    pub bytes_read: u64,
    /// Time in which they waited.
    pub stall_s: f64,
    /// The window.
    pub window_bytes: u64,
    /// Weights that stay.
    pub resident_weights_bytes: u64,
    /// KV cache.
    pub kv_bytes: u64,
    /// Program and buffers.
    pub buffer_bytes: u64,
    /// Most memory the process had.
    pub peak_bytes: u64,
    /// Most memory its cgroup had, page cache included.
    pub cap_peak_bytes: Option<u64>,
    /// Tokens of a micro-batch.
    pub ubatch: u32,
    /// Compute threads.
    pub threads: u32,
}

/// Samples of one way under one budget, or why there are none.
#[derive(Debug, Default)]
pub struct Samples {
    good: Vec<Sample>,
    failed: Option<String>,
}

impl Samples {
    /// Takes in one more.
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
    /// Fed by the line.
    pub streamed: Samples,
    /// llama.cpp's mmap.
    pub mmap: Samples,
}

/// What follows from the samples of one budget.
struct Derived {
    rate: f64,
    lap_s: f64,
    limit_s: f64,
    of_limit: f64,
    first_token_s: f64,
    first_limit_s: f64,
    mmap_lap_s: Option<f64>,
    sample: Sample,
}

impl Budgeted {
    fn derive(&self, whole: Option<&Sample>, model_bytes: u64) -> Option<Derived> {
        let lap_s = self.streamed.median(|s| s.lap_s)?;
        let sample = self.streamed.good.first()?.clone();
        let rate = median(self.rates.iter().copied())?;
        let compute_s = match whole {
            Some(whole) => whole.lap_s,
            None => self.streamed.median(|s| s.compute_s)?,
        };
        let bound = Bound::new(compute_s, sample.bytes_per_lap, rate);
        // Of a prompt: its compute, or the model once and what streams again.
        let again = sample.bytes_per_lap * (sample.prompt_laps as u64 - 1);
        let prompt_compute_s = whole.and_then(|w| w.prompt_compute_s).unwrap_or(0.0);
        Some(Derived {
            rate,
            lap_s,
            limit_s: bound.lap_s(),
            of_limit: bound.share_of(lap_s),
            first_token_s: self.streamed.median(|s| s.first_token_s)?,
            first_limit_s: lap_bound_s(prompt_compute_s, model_bytes + again, rate),
            mmap_lap_s: self.mmap.median(|s| s.lap_s),
            sample,
        })
    }
}

/// The middle one; of an even number, the mean of the two.
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
    let mut table = Table::new([
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
                "event": "budget", "budget_bytes": result.budget, "failed": result.streamed.failed,
            }))?;
            let mut cells = vec![format_size(result.budget), share];
            cells.resize_with(15, dash);
            table.row(cells);
            continue;
        };
        output.object(&object(result, &d))?;
        table.row([
            format_size(result.budget),
            share,
            format_size(d.sample.window_bytes),
            format_size(d.sample.resident_weights_bytes),
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
    if let Some(whole) = whole {
        output.object(&json!({"event": "resident", "figures": whole}))?;
        output.line(format_args!(
            "everything in memory, same kernels: a lap in {}, {} tokens of prompt in {}",
            format_seconds(whole.lap_s),
            whole.prompt_tokens,
            whole.prompt_compute_s.map_or_else(dash, format_seconds),
        ))?;
    }
    output.line(format_args!(
        "limit of a lap: the longer of compute and streamed bytes ÷ device rate; of the first token: \
         the longer of the prompt's compute and the model's bytes ÷ device rate. Medians of {} in turns.",
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

fn object(result: &Budgeted, d: &Derived) -> serde_json::Value {
    json!({
        "event": "budget",
        "budget_bytes": result.budget,
        "memory": {
            "budget_bytes": result.budget,
            "peak_bytes": d.sample.cap_peak_bytes.unwrap_or(d.sample.peak_bytes),
            "window_bytes": d.sample.window_bytes,
            "resident_weights_bytes": d.sample.resident_weights_bytes,
            "kv_bytes": d.sample.kv_bytes,
            "buffer_bytes": d.sample.buffer_bytes,
        },
        "line": {
            "laps": d.sample.laps,
            "bytes_per_lap": d.sample.bytes_per_lap,
            "bytes_read": d.sample.bytes_read,
            "stall_s": d.sample.stall_s,
            "stream_rate_bytes_per_s": d.sample.bytes_per_lap as f64 / d.lap_s,
            "device_rate_bytes_per_s": d.rate,
            "of_limit": d.of_limit,
        },
        "prompt_tokens": d.sample.prompt_tokens,
        "generated_tokens": d.sample.tokens,
        "lap_s": d.lap_s,
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
    })
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
