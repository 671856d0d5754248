//! Measures laps that several sequences share, all batch sizes in one process and in turns,
//! so that changes of the machine's speed affect all of them alike.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use delayline_engine::{Laps, Options, RouteOptions};
use delayline_llama::Sampling;
use delayline_llama::batch::{Batcher, Choice, GenerateRequest, JoinError};
use delayline_study::experts::read_route;
use serde::{Deserialize, Serialize};

use crate::bench::figures::median;
use crate::bench::probe::{self, ProbeJob};
use crate::config;
use crate::report::limit_s;

/// What a process has measured.
#[derive(Debug, Deserialize, Serialize)]
pub struct Measured {
    /// The batch sizes, in the order of the arguments.
    pub sizes: Vec<Size>,
    /// Bytes that a lap streams.
    pub streamed_bytes: u64,
    /// From how many sequences on compute is the longer part of a lap.
    pub limit: Option<f64>,
}

/// The laps of one batch size.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Size {
    /// Sequences that share a lap.
    pub sequences: u32,
    /// Times of the laps.
    pub laps_s: Vec<f64>,
    /// Stalls in each of them.
    pub stalls_s: Vec<f64>,
    /// Bytes that were read for each of them.
    pub lap_bytes: Vec<u64>,
}

impl Size {
    fn add(&mut self, took: Laps) {
        self.laps_s.push(took.ns as f64 / 1e9);
        self.stalls_s.push(took.stall_ns as f64 / 1e9);
        self.lap_bytes.push(took.bytes_read);
    }

    /// Adds the laps that another process has measured of this size.
    pub fn join(&mut self, more: Self) {
        self.sequences = more.sequences;
        self.laps_s.extend(more.laps_s);
        self.stalls_s.extend(more.stalls_s);
        self.lap_bytes.extend(more.lap_bytes);
    }

    /// The limit of all laps, each by the bytes that it read, as a share of the time that
    /// they took. Compute is the median lap without its stall.
    pub fn of_limit(&self, rate_bytes_per_s: f64) -> f64 {
        let compute_s = self.lap_s() - self.stall_s();
        limit_s(compute_s, &self.lap_bytes, rate_bytes_per_s) / self.laps_s.iter().sum::<f64>()
    }

    /// The median lap, in seconds.
    pub fn lap_s(&self) -> f64 {
        median(self.laps_s.iter().copied()).unwrap_or(f64::NAN)
    }

    /// The median stall of a lap, in seconds.
    pub fn stall_s(&self) -> f64 {
        median(self.stalls_s.iter().copied()).unwrap_or(f64::NAN)
    }

    /// Tokens per second of all sequences together.
    pub fn tokens_per_s(&self) -> f64 {
        f64::from(self.sequences) / self.lap_s()
    }
}

/// Measures laps of all batch sizes.
///
/// # Errors
/// When the model cannot be run with that many sequences under the budget.
pub fn measure(job: &ProbeJob) -> Result<Measured> {
    let most = job.batch.iter().copied().max().unwrap_or(1);
    let one = job.prompt_tokens + job.tokens + 2;
    let ctx = job.engine.ctx.unwrap_or(one.next_multiple_of(16));
    let routed = job.route.as_deref().map(read_route).transpose()?;
    let defaults = RouteOptions::default();
    let options = Options {
        ctx: Some(ctx),
        seqs: Some(most),
        routes: RouteOptions {
            follow: routed.map(Arc::new),
            accuracy: job.guess_accuracy.unwrap_or(defaults.accuracy),
            sequences: most as usize,
            record: false,
        },
        ..config::options(&job.engine, job.way.into())?
    };
    let mut engine = delayline_llama::open(&job.model, &options)?;
    let prompt = probe::text(&engine, job.prompt_tokens as usize)?;
    let streamed_bytes = engine.stream().map_or(0, |stream| stream.bytes_per_lap());
    let mut batcher = Batcher::new(engine, Some(ctx));
    if (batcher.slots() as u32) < most {
        bail!("this model carries one sequence a lap");
    }
    batcher.warm_up(1)?;
    let mut sizes: Vec<Size> = job
        .batch
        .iter()
        .map(|&sequences| Size {
            sequences,
            ..Size::default()
        })
        .collect();
    for _ in 0..job.repeat {
        for size in &mut sizes {
            decode_together(&mut batcher, &prompt, job.tokens, size)?;
        }
    }
    Ok(Measured {
        sizes,
        streamed_bytes,
        limit: batcher.cost().limit(),
    })
}

/// Measures laps of one size: all sequences have read their prompts before the first lap
/// counts.
fn decode_together(
    batcher: &mut Batcher,
    prompt: &[i32],
    tokens: u32,
    size: &mut Size,
) -> Result<()> {
    let mut sequences = Vec::new();
    for at in 0..size.sequences as usize {
        let mut prompt = prompt.to_vec();
        // Prompts that begin alike would share cached blocks.
        let turn = at % prompt.len();
        prompt.rotate_left(turn);
        let greedy = Choice::Sampled(Sampling {
            temperature: 0.0,
            ..Sampling::default()
        });
        let request = GenerateRequest::new(&prompt, tokens as usize + 2, greedy);
        let admitted = batcher.join(request).map_err(|refused| match refused {
            JoinError::Invalid(error) => anyhow!(error),
            JoinError::Full(_) => {
                anyhow!(
                    "an eighth of the budget has no room in the KV cache for {} sequences: \
                 raise --memory, or lower -n or --prompt-tokens",
                    size.sequences
                )
            }
        })?;
        sequences.push(admitted.id);
    }
    let mut events = Vec::new();
    let (mut counted, all) = (0, size.sequences as usize);
    while batcher.ready() && counted < tokens {
        let lap = batcher.lap(&mut events).map_err(|failed| failed.error)?;
        events.clear();
        // Laps with prompts, or after a sequence has ended, do not count.
        if lap.decoded == all && lap.prompt_tokens == 0 {
            size.add(lap.took);
            counted += 1;
        }
    }
    for id in sequences {
        batcher.leave(id);
    }
    Ok(())
}
