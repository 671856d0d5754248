//! `delayline bench --batch`: measures what sharing laps gains, next to the baseline. Does
//! not know how a lap is shared: that is `bench/batch/laps.rs`.

pub mod laps;

use anyhow::{Result, bail};
use delayline_engine::ModelFile;
use serde_json::json;

use self::laps::{Measured, Size};
use super::figures::median;
use super::probe::{ProbeJob, ProbeWay};
use super::{DEVICE_TIME, in_process, job};
use crate::args::BenchArgs;
use crate::built::LEVEL;
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, TextTable, format_seconds};
use crate::size::{format_rate, format_size};

/// The measurements of one way of running, from all its processes.
#[derive(Debug, Default)]
struct Total {
    sizes: Vec<Size>,
    streamed_bytes: u64,
    limit: Option<f64>,
}

impl Total {
    fn add(&mut self, measured: Measured) {
        self.sizes.resize_with(measured.sizes.len(), Size::default);
        for (size, more) in self.sizes.iter_mut().zip(measured.sizes) {
            size.join(more);
        }
        self.streamed_bytes = measured.streamed_bytes;
        self.limit = measured.limit;
    }

    /// The batch sizes that have laps.
    fn measured(&self) -> impl Iterator<Item = &Size> {
        self.sizes.iter().filter(|size| !size.laps_s.is_empty())
    }
}

/// Measures and prints.
///
/// # Errors
/// When the model cannot be run with that many sequences under the budget.
pub fn run(args: &BenchArgs, budget: u64, model_bytes: u64, output: &Output) -> Result<()> {
    let paths = ModelFile::open(&args.model)?.paths();
    // All batch sizes take turns in one process; with two ways of running, these take turns
    // as well.
    let (turns, repeat) = match args.baseline {
        Some(_) => (args.repeat, 1),
        None => (1, args.repeat),
    };
    let ways: &[ProbeWay] = match args.baseline {
        Some(_) => &[ProbeWay::Streamed, ProbeWay::Mmap],
        None => &[ProbeWay::Streamed],
    };
    let mut totals = [Total::default(), Total::default()];
    let mut progress = output.count("measuring", u64::from(turns) * ways.len() as u64);
    let mut done = 0;
    let mut rates = Vec::new();
    for _ in 0..turns {
        rates.push(delayline_medium::device_rate(&paths, DEVICE_TIME)?);
        for (&way, total) in ways.iter().zip(&mut totals) {
            let job = ProbeJob {
                batch: args.batch.clone(),
                repeat,
                ..job(args, way, Some(budget))
            };
            total.add(in_process(&job, model_bytes)?.0);
            done += 1;
            progress.set(done);
            if interrupt::asked() {
                return Err(Interrupted.into());
            }
        }
    }
    rates.push(delayline_medium::device_rate(&paths, DEVICE_TIME)?);
    drop(progress);
    let device = median(rates.into_iter()).unwrap_or(f64::NAN);
    report(args, budget, device, &totals, output)
}

fn report(
    args: &BenchArgs,
    budget: u64,
    device: f64,
    [streamed, mmap]: &[Total; 2],
    output: &Output,
) -> Result<()> {
    let Some(first) = streamed.measured().next() else {
        bail!("no lap carried all of its sequences: the model ended them at once");
    };
    let of = |total: &'_ Total, sequences: u32| -> Option<f64> {
        let mut sizes = total.measured();
        let size = sizes.find(|size| size.sequences == sequences)?;
        Some(size.tokens_per_s())
    };
    let mut heads = vec![
        "sequences",
        "lap",
        "compute",
        "waited",
        "rate",
        "of limit",
        "tok/s",
        "each",
        "faster",
    ];
    let compares = mmap.measured().next().is_some();
    if compares {
        heads.extend(["mmap tok/s", "than mmap"]);
    }
    let mut table = TextTable::of(heads.into_iter().map(str::to_owned));
    for size in streamed.measured() {
        let (lap_s, stall_s) = (size.lap_s(), size.stall_s());
        let read: u64 = size.lap_bytes.iter().sum();
        let rate = read as f64 / size.laps_s.iter().sum::<f64>();
        let of_limit = size.of_limit(device);
        let faster = size.tokens_per_s() / first.tokens_per_s();
        let other = of(mmap, size.sequences);
        output.object(&json!({
            "event": "batch",
            "level": LEVEL,
            "sequences": size.sequences,
            "laps": size.laps_s.len(),
            "lap_s": lap_s,
            "compute_s": lap_s - stall_s,
            "stall_s": stall_s,
            "stream_rate_bytes_per_s": rate,
            "tokens_per_s": size.tokens_per_s(),
            "device_rate_bytes_per_s": device,
            "bytes_per_lap": read / size.laps_s.len() as u64,
            "of_limit": of_limit,
            "tokens_per_s_each": 1.0 / lap_s,
            "ratio": faster,
            "mmap_tokens_per_s": other,
        }))?;
        let mut row = vec![
            size.sequences.to_string(),
            format_seconds(lap_s),
            format_seconds(lap_s - stall_s),
            format_seconds(stall_s),
            format_rate(rate),
            format!("{:.0} %", 100.0 * of_limit),
            format!("{:.2}", size.tokens_per_s()),
            format!("{:.2}", 1.0 / lap_s),
            format!("{faster:.2}×"),
        ];
        if compares {
            let other = other.unwrap_or(f64::NAN);
            row.push(format!("{other:.2}"));
            row.push(format!("{:.2}×", size.tokens_per_s() / other));
        }
        table.row(row);
    }
    output.line(&table)?;
    let limit = match streamed.limit {
        Some(limit) if limit < 1.0 => "compute is the longer part of every lap".to_owned(),
        Some(limit) => format!("compute is the longer part of a lap from {limit:.1} sequences on"),
        None => "no number of sequences made compute the longer part of a lap".to_owned(),
    };
    let turns = match compares {
        true => "both ways in turns",
        false => "all sizes in turns in one process",
    };
    output.line(format_args!(
        "{} streamed a lap within {}; {limit}. Medians, {turns}. Of the limit: the sum over laps \
         of the longer of compute, as what laps of that size do not wait, and their bytes ÷ {}, \
         what the drive brings.",
        format_size(streamed.streamed_bytes),
        format_size(budget),
        format_rate(device)
    ))?;
    if let Some(route) = &args.route {
        output.line(format_args!(
            "experts were chosen by {}, not by the model: each sequence 32 tokens further \
             on than the one before",
            route.display()
        ))?;
    }
    Ok(())
}
