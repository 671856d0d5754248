//! `bench --batch`: laps that several sequences share, all sizes in one process
//! and in turns, so that what the machine does meanwhile hits all of them.

use anyhow::{Result, anyhow, bail};
use delayline_runtime::batch::{Batcher, Event, Refused, Request};
use delayline_runtime::{Engine, Laps, Options, Sampling, Way};
use serde_json::json;

use super::figures::median;
use super::probe;
use crate::args::BenchArgs;
use crate::config;
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, Table, format_seconds};
use crate::size::{format_rate, format_size};

/// What was measured of one batch size: medians over its laps.
#[derive(Debug, Default)]
struct Size {
    sequences: u32,
    laps_s: Vec<f64>,
    stalls_s: Vec<f64>,
    read: u64,
}

impl Size {
    fn add(&mut self, took: Laps) {
        self.laps_s.push(took.ns as f64 / 1e9);
        self.stalls_s.push(took.stall_ns as f64 / 1e9);
        self.read += took.bytes_read;
    }

    fn lap_s(&self) -> f64 {
        median(self.laps_s.iter().copied()).unwrap_or(f64::NAN)
    }

    fn stall_s(&self) -> f64 {
        median(self.stalls_s.iter().copied()).unwrap_or(f64::NAN)
    }

    fn tokens_per_s(&self) -> f64 {
        f64::from(self.sequences) / self.lap_s()
    }
}

/// Measures and prints.
///
/// # Errors
/// When the model cannot be run with so many sequences under the budget.
pub fn run(args: &BenchArgs, budget: u64, output: &Output) -> Result<()> {
    let most = args.batch.iter().copied().max().unwrap_or(1);
    let one = args.prompt_tokens + args.tokens + 2;
    let ctx = args.engine.ctx.unwrap_or(one.next_multiple_of(16));
    let options = Options {
        memory: Some(budget),
        ctx: Some(ctx),
        seqs: Some(most),
        ..config::options(&args.engine, Way::Streamed)?
    };
    let mut engine = Engine::open(&args.model, &options)?;
    let prompt = probe::text(&engine, args.prompt_tokens as usize)?;
    let streamed = engine.stream().map_or(0, |stream| stream.bytes_per_lap());
    let mut batcher = Batcher::new(engine, Some(ctx));
    if (batcher.seats() as u32) < most {
        bail!("this model carries one sequence a lap");
    }
    batcher.warm_up(1)?;
    let mut sizes: Vec<Size> = args
        .batch
        .iter()
        .map(|&sequences| Size {
            sequences,
            ..Size::default()
        })
        .collect();
    let mut progress = output.progress("measuring", u64::from(args.repeat) * sizes.len() as u64);
    let mut done = 0;
    for _ in 0..args.repeat {
        for size in &mut sizes {
            measure(&mut batcher, &prompt, args.tokens, size)?;
            done += 1;
            progress.set(done);
            if interrupt::asked() {
                return Err(Interrupted.into());
            }
        }
    }
    drop(progress);
    report(budget, streamed, &batcher, &sizes, output)
}

/// Laps of one size: all sequences have read their prompts before the first counts.
fn measure(batcher: &mut Batcher, prompt: &[i32], tokens: u32, size: &mut Size) -> Result<()> {
    let mut riders = Vec::new();
    for at in 0..size.sequences as usize {
        let mut prompt = prompt.to_vec();
        // Texts that begin alike would share what was computed.
        let turn = at % prompt.len();
        prompt.rotate_left(turn);
        let request = Request {
            prompt,
            most: tokens as usize + 2,
            sampling: Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            stop: Vec::new(),
            logprobs: None,
            grammar: None,
        };
        let joined = batcher.join(request).map_err(|refused| match refused {
            Refused::Never(error) => anyhow!(error),
            Refused::Full(_) => {
                anyhow!(
                    "an eighth of the budget has no room in the KV cache for {} sequences: \
                 raise --memory, or lower -n or --prompt-tokens",
                    size.sequences
                )
            }
        })?;
        riders.push(joined.id);
    }
    let mut events: Vec<Event> = Vec::new();
    let (mut counted, all) = (0, size.sequences as usize);
    while batcher.ready() && counted < tokens {
        let carried = batcher.lap(&mut events).map_err(|failed| failed.error)?;
        events.clear();
        // Laps with prompts, or that a sequence has left early, are of another size.
        if carried.decoded == all && carried.prompt_tokens == 0 {
            size.add(carried.took);
            counted += 1;
        }
    }
    for id in riders {
        batcher.leave(id);
    }
    Ok(())
}

fn report(
    budget: u64,
    streamed: u64,
    batcher: &Batcher,
    sizes: &[Size],
    output: &Output,
) -> Result<()> {
    let Some(first) = sizes.iter().find(|size| !size.laps_s.is_empty()) else {
        bail!("no lap carried all of its sequences: the model ended them at once");
    };
    let mut table = Table::new([
        "sequences",
        "lap",
        "compute",
        "waited",
        "rate",
        "tok/s",
        "each",
        "faster",
    ]);
    for size in sizes.iter().filter(|size| !size.laps_s.is_empty()) {
        let (lap_s, stall_s) = (size.lap_s(), size.stall_s());
        let rate = size.read as f64 / size.laps_s.iter().sum::<f64>();
        let faster = size.tokens_per_s() / first.tokens_per_s();
        output.object(&json!({
            "event": "batch",
            "sequences": size.sequences,
            "laps": size.laps_s.len(),
            "lap_s": lap_s,
            "compute_s": lap_s - stall_s,
            "stall_s": stall_s,
            "stream_rate_bytes_per_s": rate,
            "tokens_per_s": size.tokens_per_s(),
            "tokens_per_s_each": 1.0 / lap_s,
            "ratio": faster,
        }))?;
        table.row([
            size.sequences.to_string(),
            format_seconds(lap_s),
            format_seconds(lap_s - stall_s),
            format_seconds(stall_s),
            format_rate(rate),
            format!("{:.2}", size.tokens_per_s()),
            format!("{:.2}", 1.0 / lap_s),
            format!("{faster:.2}×"),
        ]);
    }
    output.line(&table)?;
    let limit = match batcher.pace().limit() {
        Some(limit) => format!("compute is the longer part of a lap from {limit:.1} sequences on"),
        None => "no number of sequences made compute the longer part of a lap".to_owned(),
    };
    output.line(format_args!(
        "{} streamed a lap within {}; {limit}. Medians, all sizes in turns in one process.",
        format_size(streamed),
        format_size(budget)
    ))?;
    Ok(())
}
