//! `delayline bench`: measures laps under several budgets, each in a process of its own
//! under a memory cap, in turns with the baseline and the device rate. Does not know how a
//! lap is run: that is `bench/probe.rs`.

mod batch;
mod figures;
pub mod probe;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use delayline_engine::cap::Cap;
use delayline_engine::{ModelFile, Way};
use serde::de::DeserializeOwned;

use crate::args::{Baseline, BenchArgs, EngineArgs};
use crate::config;
use crate::interrupt::{self, Interrupted};
use crate::output::Output;
use crate::trial;
use figures::{Budgeted, Sample, median};
use probe::{ProbeJob, ProbeWay};

/// How long the device is measured before each process.
const DEVICE_TIME: Duration = Duration::from_millis(700);

/// Runs the command.
pub fn run(args: &BenchArgs, output: &Output) -> Result<()> {
    if args.engine.trace.is_some() {
        return Err(config::conflict(
            "--trace is of no use here: each of many processes would write one; \
             trace a single one with `delayline run --trace`",
        ));
    }
    config::note_threads(&args.engine, output);
    interrupt::watch();
    let file = ModelFile::open(&args.model)?;
    let paths = file.paths();
    let model_bytes: u64 = file.parts().iter().map(|p| p.len).sum();
    drop(file);
    let options = config::options(&args.engine, Way::Streamed)?;
    trial::ensure(&args.model, &args.engine, &options, output)?;
    let budgets: Vec<u64> = match args.engine.memory {
        Some(bytes) => vec![bytes],
        None => args.budgets.iter().map(|b| b.bytes(model_bytes)).collect(),
    };

    if !args.batch.is_empty() {
        return batch::run(args, budgets[0], model_bytes, output);
    }
    let whole = whole_model(args, model_bytes, output);
    let mut results: Vec<Budgeted> = budgets
        .iter()
        .map(|&budget| Budgeted {
            budget,
            ..Budgeted::default()
        })
        .collect();
    let turns = args.repeat as usize * budgets.len() * (1 + usize::from(args.baseline.is_some()));
    let mut progress = output.count("measuring", turns as u64);
    let mut done = 0;
    for _ in 0..args.repeat {
        for result in &mut results {
            result
                .rates
                .push(delayline_medium::device_rate(&paths, DEVICE_TIME)?);
            let ways: &[ProbeWay] = match args.baseline {
                Some(Baseline::Mmap) => &[ProbeWay::Streamed, ProbeWay::Mmap],
                None => &[ProbeWay::Streamed],
            };
            for &way in ways {
                let sample = measure(args, way, Some(result.budget), model_bytes);
                match way {
                    ProbeWay::Mmap => result.mmap.add(sample),
                    _ => result.streamed.add(sample),
                }
                done += 1;
                progress.set(done);
                if interrupt::asked() {
                    return Err(Interrupted.into());
                }
            }
            result
                .rates
                .push(delayline_medium::device_rate(&paths, DEVICE_TIME)?);
        }
    }
    drop(progress);
    figures::report(args, model_bytes, whole.as_ref(), &results, output)
}

/// Measures the same kernels with everything in memory: the compute side of the limit.
fn whole_model(args: &BenchArgs, model_bytes: u64, output: &Output) -> Option<Sample> {
    let free = delayline_engine::available_bytes()?;
    if model_bytes + (1 << 30) > free {
        output.detail(
            "the model does not fit into this machine: compute time is what laps did not wait",
        );
        return None;
    }
    let samples: Vec<Sample> = (0..args.repeat)
        .filter_map(|_| measure(args, ProbeWay::Streamed, None, model_bytes).ok())
        .collect();
    // Only processes that streamed nothing measure compute alone.
    let whole: Vec<Sample> = samples
        .into_iter()
        .filter(|s| s.prompt_compute_s.is_some())
        .collect();
    let lap = median(whole.iter().map(|s| s.lap_s))?;
    whole
        .into_iter()
        .min_by(|a, b| (a.lap_s - lap).abs().total_cmp(&(b.lap_s - lap).abs()))
}

/// Bytes added to the cap for the bytes in flight of a loop: a real loop has them in its
/// fiber, this machine emulates them in memory that counts for the process. Only that
/// process knows how many there are, so there is room for the whole model; they are
/// subtracted from its peak afterwards.
fn glass_room(job: &ProbeJob, model_bytes: u64) -> u64 {
    let medium = job.engine.medium.as_ref();
    match medium.is_some_and(|medium| medium.is_held_in_memory) {
        true => model_bytes,
        false => 0,
    }
}

/// Measures laps one by one, in a process of its own.
fn measure(
    args: &BenchArgs,
    way: ProbeWay,
    budget: Option<u64>,
    model_bytes: u64,
) -> Result<Sample> {
    let job = job(args, way, budget);
    let (mut sample, cap): (Sample, _) = in_process(&job, model_bytes)?;
    let peak = cap.as_ref().and_then(Cap::peak_bytes);
    sample.cap_peak_bytes = peak.map(|peak| peak.saturating_sub(sample.glass_bytes()));
    Ok(sample)
}

/// What a process is to measure, without a batch. There is no other medium than flash
/// without a budget, where everything stays, nor for mmap.
fn job(args: &BenchArgs, way: ProbeWay, budget: Option<u64>) -> ProbeJob {
    let streams = budget.is_some() && way == ProbeWay::Streamed;
    let plan = args.plans.as_ref().zip(budget).filter(|_| streams);
    ProbeJob {
        model: args.model.clone(),
        way,
        tokens: args.tokens,
        prompt_tokens: args.prompt_tokens,
        batch: Vec::new(),
        repeat: 1,
        plan: plan.map(|(dir, budget)| dir.join(format!("{budget}.json"))),
        record: args.record.clone().filter(|_| streams),
        route: args.route.clone().filter(|_| way == ProbeWay::Streamed),
        guess_accuracy: args.guess_accuracy,
        engine: EngineArgs {
            memory: budget,
            medium: args.engine.medium.clone().filter(|_| streams),
            ..args.engine.clone()
        },
    }
}

/// Measures in a process of its own, under a cap if there is a budget; returns the cap too.
fn in_process<T: DeserializeOwned>(job: &ProbeJob, model_bytes: u64) -> Result<(T, Option<Cap>)> {
    let room = glass_room(job, model_bytes);
    let budget = job.engine.memory;
    let cap = budget.map(|budget| Cap::new(budget + room)).transpose();
    let cap = cap.context(
        "cannot make a memory cgroup to hold each measurement to its budget \
         (run as root, or in a cgroup that is delegated to you)",
    )?;
    let program = std::env::current_exe()?;
    let mut command = match &cap {
        Some(cap) => cap.command(&program),
        None => std::process::Command::new(&program),
    };
    command
        .args(job.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ended = command.output()?;
    if !ended.status.success() {
        let killed = cap.as_ref().map_or(0, Cap::oom_kills);
        if killed > 0 {
            bail!("killed: out of memory under the cap");
        }
        let complaint = String::from_utf8_lossy(&ended.stderr);
        match complaint.trim().trim_start_matches("error: ") {
            "" => bail!("the measurement ended by {}", trial::how(ended.status)),
            complaint => bail!("{complaint}"),
        }
    }
    let text = String::from_utf8_lossy(&ended.stdout);
    let line = text
        .lines()
        .last()
        .context("the measurement printed nothing")?;
    Ok((serde_json::from_str(line)?, cap))
}
