//! One measurement of `bench`, as a hidden command: opens a model, reads a prompt, decodes,
//! and prints the times of its laps as JSON.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use delayline_engine::{ExpertPolicy, Laps, Options, RouteOptions, Usage};
use delayline_llama::batch::{Batcher, Choice, GenerateRequest};
use delayline_llama::{LlamaEngine, Vocab};

use delayline_study::experts::read_route;

use super::batch;
use super::figures::{ExpertFigures, Sample, median};
use crate::args::EngineArgs;
use crate::config;
use crate::medium;
use crate::plan;
use crate::report::{GuessFigures, ReplayFigures};
use crate::written::{self, FileKind};

/// How the model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbeWay {
    /// Streamed by the line.
    Streamed,
    /// By llama.cpp's mmap.
    Mmap,
}

impl From<ProbeWay> for delayline_engine::Way {
    fn from(way: ProbeWay) -> Self {
        match way {
            ProbeWay::Streamed => Self::Streamed,
            ProbeWay::Mmap => Self::Mmap,
        }
    }
}

/// One measurement of `bench`.
#[derive(Clone, Debug, Args)]
pub struct ProbeJob {
    /// The model
    pub model: PathBuf,
    /// How to run it
    #[arg(long)]
    pub way: ProbeWay,
    /// Laps to decode
    #[arg(long)]
    pub tokens: u32,
    /// Tokens of the prompt
    #[arg(long)]
    pub prompt_tokens: u32,
    /// Where to write the plan of the model
    #[arg(long)]
    pub plan: Option<PathBuf>,
    /// Instead, laps that these numbers of sequences share
    #[arg(long, value_delimiter = ',')]
    pub batch: Vec<u32>,
    /// How often each of these is measured, in turns
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Where to write the route of experts
    #[arg(long)]
    pub record: Option<PathBuf>,
    /// Which route to follow
    #[arg(long)]
    pub route: Option<PathBuf>,
    /// How well it is guessed
    #[arg(long)]
    pub guess_accuracy: Option<f64>,
    /// The rest
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Memory of a recorded route, within the budget, in bytes.
const RECORDED_BYTES: u64 = 1 << 20;

/// The hidden command's name.
pub const NAME: &str = "bench-probe";

impl ProbeJob {
    /// The command line that makes a process do this.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut out: Vec<OsString> = vec![NAME.into(), self.model.clone().into()];
        let way = self.way.to_possible_value().expect("no way is hidden");
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                out.push(format!("--{name}={value}").into());
            }
        };
        let named = |value: clap::builder::PossibleValue| value.get_name().to_owned();
        option("way", Some(named(way)));
        option("tokens", Some(self.tokens.to_string()));
        option("prompt-tokens", Some(self.prompt_tokens.to_string()));
        let plan = self.plan.as_deref();
        option("plan", plan.map(|path| path.display().to_string()));
        option("guess-accuracy", self.guess_accuracy.map(|n| n.to_string()));
        let mut file = |name: &str, path: &Option<PathBuf>| {
            option(name, path.as_ref().map(|path| path.display().to_string()));
        };
        file("record", &self.record);
        file("route", &self.route);
        if !self.batch.is_empty() {
            let batch: Vec<String> = self.batch.iter().map(u32::to_string).collect();
            option("batch", Some(batch.join(",")));
            option("repeat", Some(self.repeat.to_string()));
        }
        out.extend(self.engine.arguments());
        out
    }
}

/// Measures and prints.
pub fn run(job: &ProbeJob) -> Result<()> {
    if !job.batch.is_empty() {
        println!("{}", serde_json::to_string(&batch::laps::measure(job)?)?);
        return Ok(());
    }
    let start = Instant::now();
    let way = job.way.into();
    let ctx = (job.prompt_tokens + job.tokens + 1).next_multiple_of(256);
    let routed = job.route.as_deref().map(read_route).transpose()?;
    let is_fed = job.way == ProbeWay::Streamed;
    ensure!(
        routed.is_none() || is_fed,
        "a route can only be followed where experts are fed: leave out --baseline mmap"
    );
    let options = Options {
        ctx: job.engine.ctx.or(Some(ctx)),
        routes: RouteOptions {
            follow: routed.map(Arc::new),
            accuracy: job
                .guess_accuracy
                .unwrap_or(RouteOptions::default().accuracy),
            record: is_fed,
            ..RouteOptions::default()
        },
        reserve: RECORDED_BYTES,
        ..config::options(&job.engine, way)?
    };
    let engine = delayline_llama::open(&job.model, &options)?;
    let open_s = start.elapsed().as_secs_f64();
    let text = text(&engine, (job.prompt_tokens + job.tokens + 1) as usize)?;
    let (prompt, rest) = text.split_at(job.prompt_tokens as usize);

    let mut batcher = Batcher::new(engine, Some(u32::MAX));
    let reading = read(&mut batcher, prompt, rest)?;
    ensure!(
        reading.laps.len() == job.tokens as usize,
        "the context has no room for {} tokens behind the prompt: raise --ctx",
        job.tokens
    );
    let first_token_s = (reading.first_token - start).as_secs_f64();
    let all = batcher.decoder().laps();
    let streams = batcher.decoder().stream();
    let prompt_compute_s = match streams.is_some_and(|stream| stream.bytes_per_lap() > 0) {
        true => None,
        false => Some(read_again(&mut batcher, prompt, rest)?),
    };
    let engine = batcher.decoder();
    if let Some((path, stream)) = job.plan.as_deref().zip(engine.stream()) {
        let plan = plan::of(stream, &job.model, options.medium.depth);
        plan::write(&plan, path)?;
    }
    let experts = expert_figures(batcher.decoder(), job, &reading.laps)?;
    let engine = batcher.decoder();
    let mut ledger = engine.ledger().figures();
    if let Some(stream) = engine.stream() {
        ledger.resident_weights_bytes = stream.resident_bytes();
    }
    let median_of = |of: fn(&Laps) -> u64| {
        let all = reading.laps.iter().map(|lap| of(lap) as f64);
        median(all).unwrap_or(0.0)
    };
    let sample = Sample {
        open_s,
        first_token_s,
        prompt_tokens: prompt.len(),
        prompt_laps: reading.prompt_laps,
        tokens: job.tokens,
        prompt_compute_s,
        lap_s: median_of(|lap| lap.ns) * 1e-9,
        compute_s: median_of(|lap| lap.ns - lap.stall_ns) * 1e-9,
        bytes_per_lap: median_of(|lap| lap.bytes_read) as u64,
        laps: all.count,
        bytes_read: all.bytes_read,
        stall_s: all.stall_ns as f64 * 1e-9,
        ledger,
        peak_bytes: Usage::now().peak,
        cap_peak_bytes: None,
        ubatch: engine.ubatch(),
        threads: engine.threads(),
        medium: medium::report(engine),
        experts,
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// The use of experts, and what a policy that knows their route would have reached: the
/// route is replayed in as much memory.
fn expert_figures(
    engine: &mut LlamaEngine,
    job: &ProbeJob,
    laps: &[Laps],
) -> Result<Option<ExpertFigures>> {
    let Some(stream) = engine.stream() else {
        return Ok(None);
    };
    let (counts, capacity) = (stream.expert_counts(), stream.expert_capacity());
    let guesses = GuessFigures::of(stream);
    let Some(mut route) = stream.take_route().filter(|route| !route.layers.is_empty()) else {
        return Ok(None);
    };
    route.model = job
        .model
        .file_stem()
        .unwrap_or_default()
        .display()
        .to_string();
    if let Some(path) = &job.record {
        let text = route.to_text();
        written::write(path, FileKind::Route, |out| out.write_all(text.as_bytes()))?;
    }
    let Some(counts) = counts.filter(|_| !laps.is_empty()) else {
        return Ok(None);
    };
    let policy = ExpertPolicy::ALL.into_iter().find(|policy| {
        let name = job.engine.experts.to_possible_value();
        name.is_some_and(|name| name.get_name() == policy.name())
    });
    let policy = policy.unwrap_or_default();
    let ReplayFigures { here, ahead } = ReplayFigures::of(&route, capacity, policy);
    Ok(Some(ExpertFigures {
        policy: policy.name().to_owned(),
        route: job.route.as_ref().map(|path| path.display().to_string()),
        guesses,
        capacity_bytes: capacity,
        used: counts.used,
        hits: counts.hits,
        late_hit_share: here.hit_share(),
        late_bytes_per_token: here.bytes_per_token(),
        clairvoyant_hit_share: ahead.hit_share(),
        clairvoyant_bytes_per_token: ahead.bytes_per_token(),
        clairvoyant_lap_bytes: ahead.lap_bytes,
        lap_bytes: laps.iter().map(|lap| lap.bytes_read).collect(),
        laps_s: laps.iter().map(|lap| lap.ns as f64 * 1e-9).collect(),
    }))
}

/// The laps of a text.
struct Reading {
    prompt_laps: usize,
    first_token: Instant,
    /// One for each token after the prompt.
    laps: Vec<Laps>,
}

/// Reads `prompt` in as few laps as possible, then all tokens of `rest` but the last, one by
/// one. They are given, not chosen: a model with random weights would repeat one word, and
/// with it the same experts.
fn read(batcher: &mut Batcher, prompt: &[i32], rest: &[i32]) -> Result<Reading> {
    let request = GenerateRequest::new(prompt, rest.len(), Choice::Given(rest.to_vec()));
    batcher.join(request)?;
    let (mut prompt_laps, mut events) = (0, Vec::new());
    while events.is_empty() {
        batcher.lap(&mut events).map_err(|failed| failed.error)?;
        prompt_laps += 1;
    }
    let first_token = Instant::now();
    let mut laps = Vec::new();
    while batcher.ready() {
        let lap = batcher.lap(&mut events).map_err(|failed| failed.error)?;
        laps.push(lap.took);
    }
    Ok(Reading {
        prompt_laps,
        first_token,
        laps,
    })
}

/// Time of the prompt in seconds when no page is touched for the first time.
fn read_again(batcher: &mut Batcher, prompt: &[i32], rest: &[i32]) -> Result<f64> {
    batcher.forget_left();
    let start = Instant::now();
    let reading = read(batcher, prompt, &rest[..1])?;
    Ok((reading.first_token - start).as_secs_f64())
}

/// `tokens` tokens of ordinary text, which is repeated where it is too short.
pub fn text(engine: &LlamaEngine, tokens: usize) -> Result<Vec<i32>> {
    let all =
        Vocab::new(engine.backend().model()).tokenize(include_str!("text.txt"), true, false)?;
    ensure!(!all.is_empty(), "the model's vocabulary has no words");
    Ok(all.into_iter().cycle().take(tokens).collect())
}
