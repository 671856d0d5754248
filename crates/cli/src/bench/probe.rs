//! One measurement of `bench`, as a hidden command: opens a model, reads a
//! prompt, decodes, prints the times of its laps as JSON.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use delayline_llama::{Class, Engine, Options, Usage, Vocab};

use super::batch;
use super::figures::{Sample, median};
use crate::args::EngineArgs;
use crate::config;
use crate::plan;
use crate::report::FiberFigures;

/// How the model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Fed by the line.
    Streamed,
    /// By llama.cpp's mmap.
    Mmap,
}

impl From<Way> for delayline_llama::Way {
    fn from(way: Way) -> Self {
        match way {
            Way::Streamed => Self::Streamed,
            Way::Mmap => Self::Mmap,
        }
    }
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
    /// Where to write what was made of the model
    #[arg(long)]
    pub plan: Option<PathBuf>,
    /// Instead, laps that so many sequences share
    #[arg(long, value_delimiter = ',')]
    pub batch: Vec<u32>,
    /// How often each of these is measured, in turns
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
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
        let plan = self.plan.as_deref();
        option("plan", plan.map(|path| path.display().to_string()));
        let medium = engine.medium.as_ref().map(|medium| medium.text.clone());
        option("medium", medium);
        if !self.batch.is_empty() {
            let batch: Vec<String> = self.batch.iter().map(u32::to_string).collect();
            option("batch", Some(batch.join(",")));
            option("repeat", Some(self.repeat.to_string()));
        }
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
    if !job.batch.is_empty() {
        println!("{}", serde_json::to_string(&batch::laps::measure(job)?)?);
        return Ok(());
    }
    let start = Instant::now();
    let way = job.way.into();
    let ctx = (job.prompt_tokens + job.tokens + 1).next_multiple_of(256);
    let options = Options {
        ctx: job.engine.ctx.or(Some(ctx)),
        ..config::options(&job.engine, way)?
    };
    let mut engine = Engine::open(&job.model, &options)?;
    let open_s = start.elapsed().as_secs_f64();
    let text = text(&engine, (job.prompt_tokens + job.tokens) as usize)?;
    let prompt = &text[..job.prompt_tokens as usize];

    let prompt_laps = read_prompt(&mut engine, prompt)?;
    let first_token_s = start.elapsed().as_secs_f64();

    let first = prompt.len() as u32;
    let end = first + job.tokens;
    let (mut laps, mut stalls, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for pos in first..end {
        let before = engine.laps();
        let next = (pos + 1 < end).then_some(Class::Single);
        // The text goes on: a model with random weights would repeat one word
        // for ever, and so its experts.
        engine.lap(&[text[pos as usize]], pos, true, next)?;
        let lap = engine.laps() - before;
        laps.push(lap.ns as f64 * 1e-9);
        stalls.push(lap.stall_ns as f64 * 1e-9);
        bytes.push(lap.bytes_read as f64);
    }
    let all = engine.laps();
    let streams = engine.stream().is_some_and(|s| s.bytes_per_lap() > 0);
    let prompt_compute_s = match streams {
        true => None,
        false => Some(read_again(&mut engine, prompt)?),
    };
    if let Some((path, stream)) = job.plan.as_deref().zip(engine.stream()) {
        let plan = plan::of(stream, &job.model, options.medium.depth);
        plan::write(&plan, path)?;
    }
    let memory = engine.memory();
    let lap_s = median(laps.iter().copied()).unwrap_or(0.0);
    let sample = Sample {
        open_s,
        first_token_s,
        prompt_tokens: prompt.len(),
        prompt_laps,
        tokens: job.tokens,
        prompt_compute_s,
        lap_s,
        compute_s: median(laps.iter().zip(&stalls).map(|(lap, stall)| lap - stall)).unwrap_or(0.0),
        bytes_per_lap: median(bytes.into_iter()).unwrap_or(0.0) as u64,
        laps: all.count,
        bytes_read: all.bytes_read,
        stall_s: all.stall_ns as f64 * 1e-9,
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
        fiber: engine
            .stream()
            .and_then(|stream| stream.circuit().map(FiberFigures::of)),
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Decodes the prompt in as few laps as possible; returns how many.
fn read_prompt(engine: &mut Engine, prompt: &[i32]) -> Result<usize> {
    let ubatch = engine.ubatch() as usize;
    let mut pos = 0;
    for chunk in prompt.chunks(ubatch) {
        let end = pos + chunk.len();
        let next = match prompt[end..].chunks(ubatch).next() {
            Some(next) => Class::of(next.len(), end + next.len() == prompt.len()),
            None => Class::Single,
        };
        engine.lap(chunk, pos as u32, end == prompt.len(), Some(next))?;
        pos = end;
    }
    Ok(prompt.len().div_ceil(ubatch))
}

/// How long the prompt takes in seconds when nothing is touched for the first time.
fn read_again(engine: &mut Engine, prompt: &[i32]) -> Result<f64> {
    engine.context().clear();
    let start = Instant::now();
    read_prompt(engine, prompt)?;
    Ok(start.elapsed().as_secs_f64())
}

/// So many tokens of ordinary text, which begins anew where it is too short.
pub fn text(engine: &Engine, tokens: usize) -> Result<Vec<i32>> {
    let all = Vocab::new(engine.model()).tokenize(include_str!("text.txt"), true, false)?;
    ensure!(!all.is_empty(), "the model's vocabulary has no words");
    Ok(all.into_iter().cycle().take(tokens).collect())
}
