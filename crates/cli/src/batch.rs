//! `delayline batch`: a file of requests becomes a file of answers, many on each lap.
//! However a run ended, the next one asks only what has no answer yet.

mod lines;
mod results;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use delayline_engine::{Error, Options, Way};
use delayline_server::{Desk, Error as ServerError, KvScope, Limits, ServerConfig};
use serde_json::json;

use crate::args::BatchArgs;
use crate::config;
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, ProgressLine, format_seconds, format_tokens_per_s};
use crate::run::Waiting;
use crate::template;
use crate::trial;

use self::lines::{AskedLine, Lines};
use self::results::Results;

/// Time limit of requests, which may wait for each other as long as it takes.
const FOREVER: Duration = Duration::from_secs(100_000_000);

/// Sequences that share a lap by default, where there is room: more gain little.
const SEQUENCES: u32 = 32;

/// How often a request is asked whose lap fails, or for which there is no room.
const TRIES: u32 = 3;

/// Time between two of these attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// What the threads that ask share.
struct Work<'a> {
    desk: &'a Desk,
    lines: &'a Lines,
    left: Vec<AskedLine>,
    next: AtomicUsize,
    results: Mutex<Results>,
    progress: Mutex<ProgressLine>,
    /// Requests that failed at every attempt.
    unanswered: AtomicUsize,
}

/// Answers all requests that have no answer yet.
///
/// # Errors
/// When a file is not what it should be, the model cannot be run as asked, or an answer
/// cannot be written. [`Interrupted`] after Ctrl-C.
pub fn run(args: &BatchArgs, output: &Output) -> Result<()> {
    config::note_threads(&args.engine, output);
    interrupt::watch_start();
    let lines = Lines::open(&args.requests)?;
    let mut results = Results::open(&args.answers)?;
    let (mut left, mut kept) = (Vec::new(), 0);
    for line in lines.all() {
        match results.has(line.key) {
            true => kept += 1,
            false => left.push(line.clone()),
        }
    }
    for line in left.iter().filter(|line| line.wrong.is_some()) {
        results.refuse(line)?;
    }
    left.retain(|line| line.wrong.is_none());
    // Prompts that begin alike are asked one after the other, so that their common
    // beginning is computed once.
    left.sort_by_key(|line| line.likeness);
    let (mut generated, mut took) = (0, Duration::ZERO);
    if !left.is_empty() {
        let mut engine = config::options(&args.engine, Way::Auto)?;
        engine.hotness = config::hotness(&args.engine, &args.model);
        trial::ensure(&args.model, &args.engine, &engine, output)?;
        let waiting = Waiting::new("opening the model");
        let desk = opened(args, &engine);
        drop(waiting);
        let desk = desk?;
        for notice in &desk.started().notices {
            output.note(format_args!("note: {notice}"));
        }
        interrupt::watch();
        let start = Instant::now();
        results = answer(&desk, &lines, left, results, output)?;
        (generated, took) = (desk.generated(), start.elapsed());
    }
    results.end()?;
    let counts = results.counts();
    output.object(
        &json!({"event": "end", "answers": counts.answers, "errors": counts.errors,
        "kept": kept, "generated_tokens": generated, "took_s": took.as_secs_f64()}),
    )?;
    let rate = generated as f64 / took.as_secs_f64().max(1e-9);
    output.note(format_args!(
        "{} answers, {} errors, {kept} that were there already; {generated} tokens in {}{}",
        counts.answers,
        counts.errors,
        format_seconds(took.as_secs_f64()),
        match generated {
            0 => String::new(),
            _ => format!(", {}", format_tokens_per_s(rate)),
        }
    ));
    match interrupt::asked() {
        true => Err(Interrupted.into()),
        false => Ok(()),
    }
}

/// Opens the model for as many sequences as were asked for, else as many as the budget has
/// room for.
fn opened(args: &BatchArgs, engine: &Options) -> Result<Desk> {
    let mut slots = args.batch.unwrap_or(SEQUENCES);
    loop {
        match Desk::open(config(args, engine, slots)?) {
            Err(ServerError::Runtime(Error::Budget { .. }))
                if args.batch.is_none() && slots > 1 =>
            {
                slots /= 2;
            }
            opened => return Ok(opened?),
        }
    }
}

fn config(args: &BatchArgs, engine: &Options, slots: u32) -> Result<ServerConfig> {
    Ok(ServerConfig {
        model: args.model.clone(),
        engine: engine.clone(),
        slots,
        address: ([127, 0, 0, 1], 0).into(),
        keys: Vec::new(),
        insecure: false,
        origins: Vec::new(),
        aliases: Vec::new(),
        strict_model: false,
        thinking_budget: None,
        chat_template: match &args.chat_template {
            Some(path) => Some(template::text_of(path)?),
            None => None,
        },
        kv: None,
        kv_scope: KvScope::Key,
        limits: Limits {
            queue: 2 * slots.max(32) as usize,
            queue_time: Some(FOREVER),
            request_time: Some(FOREVER),
            ..Limits::default()
        },
    })
}

/// Asks all requests that are left, as many at a time as keep each lap full.
fn answer(
    desk: &Desk,
    lines: &Lines,
    left: Vec<AskedLine>,
    results: Results,
    output: &Output,
) -> Result<Results> {
    let threads = (desk.started().slots + 2).min(left.len());
    let work = Work {
        desk,
        lines,
        progress: Mutex::new(output.count("answers", left.len() as u64)),
        left,
        next: AtomicUsize::new(0),
        results: Mutex::new(results),
        unanswered: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| ask_on(&work)))
            .collect();
        while !asking.iter().all(|thread| thread.is_finished()) {
            if interrupt::wait(Duration::from_millis(50)) {
                desk.stop();
                break;
            }
        }
        let mut ended = asking.into_iter().map(|thread| thread.join());
        ended.try_for_each(|ended| ended.unwrap_or_else(|_| bail!("a defect in asking")))
    })?;
    let unanswered = work.unanswered.into_inner();
    if unanswered > 0 {
        bail!(
            "{unanswered} requests could not be computed, after {TRIES} tries each; what is \
             answered stays: run it again to go on"
        );
    }
    Ok(work.results.into_inner()?)
}

/// Asks one request after the other, until there are none.
fn ask_on(work: &Work) -> Result<()> {
    loop {
        let next = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(line) = work.left.get(next) else {
            return Ok(());
        };
        let request = work.lines.read(line)?;
        let mut tries = 0;
        let answer = loop {
            if interrupt::asked() {
                return Ok(());
            }
            let answer = work.desk.ask(&request.url, request.body.get().as_bytes())?;
            tries += 1;
            match answer.status {
                // The queue is full.
                429 => drop(interrupt::wait(Duration::from_millis(50))),
                // A drive may need a moment.
                500 | 503 if tries < TRIES => drop(interrupt::wait(PAUSE)),
                _ => break answer,
            }
        };
        // A request that Ctrl-C cut off is asked again in the next run.
        if interrupt::asked() && answer.status != 200 {
            return Ok(());
        }
        // The server is in trouble: no fault of this request, and no answer to it.
        if answer.status >= 500
            && let Some(trouble) = work.desk.trouble()
        {
            bail!("{trouble}; what is answered stays: run it again to go on");
        }
        if answer.status >= 500 {
            work.unanswered.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let mut results = lock(&work.results)?;
        results.add(&request.custom_id, line.key, &answer)?;
        let done = results.counts();
        drop(results);
        lock(&work.progress)?.set((done.answers + done.errors) as u64);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> Result<std::sync::MutexGuard<'_, T>> {
    mutex
        .lock()
        .map_err(|_| anyhow::anyhow!("another thread has met a defect"))
}

/// Adds the file, and what it cannot be, to the system's error.
fn named<T>(path: &Path, what: &str, result: std::io::Result<T>) -> Result<T> {
    result.with_context(|| format!("{} cannot be {what}", path.display()))
}
