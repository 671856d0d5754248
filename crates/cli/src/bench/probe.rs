//! One measurement of `bench`, as a hidden command: opens a model, reads a
//! prompt, decodes, prints the times of its laps as JSON.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use delayline_runtime::{Class, Engine, Options, Usage, Vocab};

use super::figures::{Sample, median};
use crate::args::EngineArgs;
use crate::config;

/// How the model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Fed by the line.
    Streamed,
    /// By llama.cpp's mmap.
    Mmap,
}

/// One measurement of `bench`.
#[derive(Clone, Debug, Args)]
pub struct Job {
    /// The model
    pub model: PathBuf,
    /// How to run it
    #[arg(long)]
    pub way: Way,
    /// Laps to decode
    #[arg(long)]
    pub tokens: u32,
    /// Tokens of the prompt
    #[arg(long)]
    pub prompt_tokens: u32,
    /// The rest
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The hidden command's name.
pub const NAME: &str = "bench-probe";

impl Job {
    /// The command line that makes a process do this.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut out: Vec<OsString> = vec![NAME.into(), self.model.clone().into()];
        let way = self.way.to_possible_value().expect("no way is hidden");
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                out.push(format!("--{name}={value}").into());
            }
        };
        let engine = &self.engine;
        let named = |value: clap::builder::PossibleValue| value.get_name().to_owned();
        option("way", Some(named(way)));
        option("tokens", Some(self.tokens.to_string()));
        option("prompt-tokens", Some(self.prompt_tokens.to_string()));
        option("memory", engine.memory.map(|n| n.to_string()));
        option("window", engine.window.map(|n| n.to_string()));
        option("threads", engine.threads.map(|n| n.to_string()));
        option("ctx", engine.ctx.map(|n| n.to_string()));
        option("ubatch", engine.ubatch.map(|n| n.to_string()));
        option("kv-type", engine.kv_type.to_possible_value().map(named));
        option(
            "flash-attn",
            engine.flash_attn.to_possible_value().map(named),
        );
        out
    }
}

/// Measures and prints.
pub fn run(job: &Job) -> Result<()> {
    let start = Instant::now();
    let way = match job.way {
        Way::Streamed => delayline_runtime::Way::Streamed,
        Way::Mmap => delayline_runtime::Way::Mmap,
    };
    let ctx = (job.prompt_tokens + job.tokens + 1).next_multiple_of(256);
    let options = Options {
        ctx: job.engine.ctx.or(Some(ctx)),
        ..config::options(&job.engine, way)?
    };
    let mut engine = Engine::open(&job.model, &options)?;
    let open_s = start.elapsed().as_secs_f64();
    let prompt = prompt(&engine, job.prompt_tokens as usize)?;

    let ubatch = engine.ubatch() as usize;
    let mut pos = 0;
    let chunks = prompt.len().div_ceil(ubatch);
    for (at, chunk) in prompt.chunks(ubatch).enumerate() {
        let last = at + 1 == chunks;
        let next = prompt[pos as usize + chunk.len()..].chunks(ubatch).next();
        let next = next.map_or(Class::Single, |next| {
            Class::of(
                next.len(),
                pos as usize + chunk.len() + next.len() == prompt.len(),
            )
        });
        engine.lap(chunk, pos, last, Some(next))?;
        pos += chunk.len() as u32;
    }
    let first_token_s = start.elapsed().as_secs_f64();

    let (mut laps, mut stalls) = (Vec::new(), Vec::new());
    for at in 0..job.tokens {
        let before = engine.stream().map_or(0, |s| s.line().counters().stall_ns);
        let next = (at + 1 < job.tokens).then_some(Class::Single);
        // The token does not matter: every lap reads the same bytes, except for
        // experts, where following the model's own choice is what users do.
        let token = likeliest(&engine).ok_or_else(|| anyhow!("the lap gave no logits"))?;
        engine.lap(&[token], pos, true, next)?;
        pos += 1;
        let stall = engine.stream().map_or(0, |s| s.line().counters().stall_ns) - before;
        laps.push(engine.last_lap_ns() as f64 * 1e-9);
        stalls.push(stall as f64 * 1e-9);
    }
    let memory = engine.memory();
    let lap_s = median(laps.iter().copied()).unwrap_or(0.0);
    let sample = Sample {
        open_s,
        first_token_s,
        prompt_tokens: prompt.len(),
        prompt_laps: chunks,
        lap_s,
        compute_s: median(laps.iter().zip(&stalls).map(|(lap, stall)| lap - stall)).unwrap_or(0.0),
        bytes_per_lap: engine.stream().map_or(0, |s| s.bytes_per_lap()),
        bytes_read: engine
            .stream()
            .map_or(0, |s| s.line().counters().bytes_read),
        window_bytes: memory.window,
        resident_weights_bytes: engine
            .stream()
            .map_or(memory.resident_weights, |s| s.resident_bytes()),
        kv_bytes: memory.kv,
        buffer_bytes: memory.buffers,
        peak_bytes: Usage::now().peak,
        cap_peak_bytes: None,
        ubatch: engine.ubatch(),
        threads: engine.threads(),
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

fn likeliest(engine: &Engine) -> Option<i32> {
    let best = engine
        .logits()?
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))?;
    Some(best.0 as i32)
}

/// So many tokens of ordinary text.
fn prompt(engine: &Engine, tokens: usize) -> Result<Vec<i32>> {
    const TEXT: &str = "The weights of a neural network are read in an order that is known before \
                        it starts, so they can stream past the compute from a slow and large medium. ";
    let text = TEXT.repeat(tokens.div_ceil(8));
    let mut all = Vocab::new(engine.model()).tokenize(&text, true, false)?;
    all.truncate(tokens);
    Ok(all)
}
