//! `delayline serve`: starts the server, prints its address and what it can carry, and ends
//! it when asked to. Requests are the server crate's.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use delayline_engine::{Source, Way};
use delayline_llama::KvCache;
use delayline_server::{Drained, KvScope, Limits, ServerConfig, Started};
use serde_json::json;

use crate::args::{Baseline, KvScopeArg, ServeArgs};
use crate::config;
use crate::confine::{self, Confined, Own};
use crate::interrupt;
use crate::kv;
use crate::output::{Output, format_seconds};
use crate::run::Waiting;
use crate::share;
use crate::size::format_size;
use crate::template;
use crate::trial;

/// Interval at which the engine is checked.
const LOOK: Duration = Duration::from_millis(200);

/// Serves until it is told to stop.
///
/// # Errors
/// When the model cannot be served as asked, or the engine ends unexpectedly.
pub fn run(args: &ServeArgs, output: &Output) -> Result<()> {
    if args.engine.trace.is_some() {
        bail!(
            "--trace is of no use here: a server's record would grow without end; trace a \
             single answer with `delayline run --trace`"
        );
    }
    config::note_threads(&args.engine, output);
    interrupt::watch_start();
    let mut config = self::config(args)?;
    trial::ensure(&args.model, &args.engine, &config.engine, output)?;
    // First, so that its errors are reported before the model is read.
    let share = share::connect(&args.share)?;
    config.kv = kv::cache(&args.kv, &args.model, output)?.map(|cache| KvCache { share, ..cache });
    if args.baseline.is_none() {
        config.engine.hotness = config::hotness(&args.engine, &args.model);
    }
    let confined = match args.no_sandbox {
        true => None,
        false => {
            let budget = config.engine.memory.unwrap_or(u64::MAX);
            let own = args
                .kv
                .kv_cache
                .as_deref()
                .map(|folder| match args.kv.kv_read_only {
                    true => Own::Read(folder),
                    false => Own::Write(folder),
                });
            let hotness = config.engine.hotness.as_deref();
            let confined = confine::files(&args.model, own, hotness, budget)?;
            interrupt::watch_confined();
            Some(confined)
        }
    };
    let waiting = Waiting::new("opening the model");
    let handle = delayline_server::start(config);
    drop(waiting);
    let handle = handle?;
    note_sandbox(confined.as_ref(), output);
    let door = handle.door();
    let verbose = *output;
    interrupt::before_the_end(move || {
        door.close();
        if let Some(why) = door.hung() {
            verbose.note(held(&why));
        }
    });
    interrupt::watch();
    tell_of(handle.started(), output)?;
    while !interrupt::wait(LOOK) {
        if !handle.runs() {
            drop(handle);
            bail!("the engine has ended by a defect; see above");
        }
    }
    output.detail("stopping: running answers may end");
    match handle.drain()? {
        Drained::Whole => Ok(()),
        // The engine's thread is in a lap and still uses the memory: no destructors.
        Drained::Cut(None) => interrupt::end(0),
        Drained::Cut(Some(why)) => {
            output.note(held(&why));
            interrupt::end(1)
        }
    }
}

/// Confines the system calls of all threads, and notes what is not confined.
fn note_sandbox(confined: Option<&Confined>, output: &Output) {
    let Some(confined) = confined else {
        return output.note(format_args!("note: with --no-sandbox {}", confine::WITHOUT));
    };
    if !confined.files {
        output.note(
            "note: this kernel has no Landlock (Linux 5.13 or newer, with `landlock` among its \
             modules for security): who takes the server over can open other files",
        );
    }
    if let Err(error) = confine::calls() {
        output.note(format_args!(
            "note: system calls are not filtered ({error:#}): who takes the server over can \
             start programs and connect to other machines"
        ));
    }
}

/// The last note of a server whose medium does not answer.
fn held(why: &str) -> String {
    format!(
        "note: {why}. All sockets are closed; the system may hold the process until the \
         drive answers"
    )
}

fn config(args: &ServeArgs) -> Result<ServerConfig> {
    let seconds = |s: u32| Duration::from_secs(s.into());
    let way = match args.baseline {
        Some(Baseline::Mmap) => Way::Mmap,
        None => Way::Auto,
    };
    Ok(ServerConfig {
        model: args.model.clone(),
        engine: config::options(&args.engine, way)?,
        slots: args.batch,
        address: SocketAddr::new(args.access.host, args.access.port),
        keys: args.access.api_key.clone(),
        insecure: args.access.insecure,
        origins: args.access.allow_origin.clone(),
        aliases: args.access.alias.clone(),
        strict_model: args.access.strict_model,
        thinking_budget: usize::try_from(args.limits.reasoning_budget).ok(),
        chat_template: match &args.chat_template {
            Some(path) => Some(template::text_of(path)?),
            None => None,
        },
        limits: Limits {
            queue: args.limits.queue as usize,
            queue_time: args.limits.queue_time.map(seconds),
            request_time: args.limits.request_time.map(seconds),
            drain_time: seconds(args.limits.drain_time),
            lap_time: args.limits.lap_time.map(seconds),
            ..Limits::default()
        },
        kv: None,
        kv_scope: match args.share.kv_scope {
            KvScopeArg::Key => KvScope::Key,
            KvScopeArg::Server => KvScope::Server,
        },
    })
}

fn tell_of(started: &Started, output: &Output) -> Result<()> {
    let ledger = started.ledger;
    output.object(&json!({
        "event": "serving",
        "address": started.address.to_string(),
        "model": started.model,
        "medium": started.source.to_string(),
        "max_sequences": started.slots,
        "context_tokens": started.ctx,
        "kv_tokens": started.cells,
        "limit_sequences": started.limit,
        "compute_s": started.compute_s,
        "medium_s": started.medium_s,
        "lap_limit_s": started.lap_limit_s,
        "streamed_bytes": started.streamed_bytes,
        "kv_bytes": ledger.kv_bytes,
        "window_bytes": ledger.window_bytes,
        "resident_weights_bytes": ledger.resident_weights_bytes,
    }))?;
    for notice in &started.notices {
        output.note(format_args!("note: {notice}"));
    }
    output.line(format_args!("model    {}", started.model))?;
    output.line(format_args!("lap      {}", lap(started)))?;
    output.line(format_args!(
        "slots    up to {} sequences a lap; the KV cache ({}) holds {} tokens, one sequence up to {}",
        started.slots,
        format_size(ledger.kv_bytes),
        started.cells,
        started.ctx
    ))?;
    output.line(format_args!("limit    {}", limit(started)))?;
    output.line(format_args!(
        "ill      when a lap waits for the medium longer than {}",
        format_seconds(started.lap_limit_s)
    ))?;
    output.line(format_args!("serving  http://{}", started.address))?;
    Ok(())
}

fn lap(started: &Started) -> String {
    let time = |s: Option<f64>| s.map_or_else(|| "unknown time".to_owned(), format_seconds);
    if started.source == Source::Mapping {
        let took = time(started.compute_s);
        return format!("mapped by llama.cpp, {took} for one token, waiting included");
    }
    if started.streamed_bytes == 0 && started.source != Source::Memory {
        return format!(
            "experts from {} as they are chosen, all else in memory, {} of compute for one token",
            started.source,
            time(started.compute_s)
        );
    }
    if started.streamed_bytes == 0 {
        return format!(
            "all weights in memory, {} of compute",
            time(started.compute_s)
        );
    }
    let medium = match started.medium_s {
        Some(s) => format_seconds(s),
        None => "less than the compute".to_owned(),
    };
    format!(
        "{} from {} stream past in {medium}, {} of compute for one token",
        format_size(started.streamed_bytes),
        started.source,
        time(started.compute_s)
    )
}

fn limit(started: &Started) -> String {
    match started.limit {
        None if started.source == Source::Mapping => {
            "unknown: nobody sees how long llama.cpp waits for the page cache".into()
        }
        None => "not measured yet".into(),
        Some(limit) if limit < 1.0 => {
            "compute, from the first sequence on: each more makes a lap longer".into()
        }
        Some(limit) if limit >= started.slots as f64 => format!(
            "the medium, however many ride: compute would be longer from {limit:.0} sequences on"
        ),
        Some(limit) => format!(
            "the medium up to {limit:.0} sequences, which ride for nothing; compute from there on"
        ),
    }
}
