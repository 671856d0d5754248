//! `delayline serve`: starts the server, says where it is and what it can carry,
//! and ends it when asked to. What it serves is the server's affair.

use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use delayline_llama::{Source, Way};
use delayline_server::{Handle, Limits, ServerConfig, Started};
use serde_json::json;

use crate::args::{Baseline, ServeArgs};
use crate::config;
use crate::interrupt::{self, EXIT_CODE, Interrupted};
use crate::output::{Output, format_seconds};
use crate::run::Waiting;
use crate::size::format_size;

/// How often it is looked whether the engine still runs.
const LOOK: Duration = Duration::from_millis(200);

/// Serves until it is told to stop.
///
/// # Errors
/// When the model cannot be served as asked, or the engine ends by a defect.
pub fn run(args: &ServeArgs, output: &Output) -> Result<()> {
    let (ask, asked) = mpsc::sync_channel(1);
    ctrlc::set_handler(move || {
        interrupt::ask();
        // Asked before, and again: at once.
        if ask.try_send(()).is_err() {
            std::process::exit(EXIT_CODE.into());
        }
    })
    .context("cannot be told to stop")?;
    let config = self::config(args)?;
    let waiting = Waiting::new("opening the model");
    let handle = delayline_server::start(config);
    drop(waiting);
    let handle = match handle {
        // It was still being made ready.
        Err(_) if interrupt::asked() => return Err(Interrupted.into()),
        handle => handle?,
    };
    tell_of(handle.started(), output)?;
    if !wait(&handle, &asked) {
        drop(handle);
        bail!("the engine has ended by a defect; see above");
    }
    output.detail("stopping: running answers may end");
    Ok(handle.drain()?)
}

/// Waits until it is asked to stop; false if the engine has ended before.
fn wait(handle: &Handle, asked: &mpsc::Receiver<()>) -> bool {
    loop {
        match asked.recv_timeout(LOOK) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) if handle.runs() => {}
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
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
        riders: args.batch,
        address: SocketAddr::new(args.access.host, args.access.port),
        keys: args.access.api_key.clone(),
        insecure: args.access.insecure,
        origins: args.access.allow_origin.clone(),
        limits: Limits {
            queue: args.limits.queue as usize,
            queue_time: seconds(args.limits.queue_time),
            request_time: seconds(args.limits.request_time),
            drain_time: seconds(args.limits.drain_time),
            ..Limits::default()
        },
    })
}

fn tell_of(started: &Started, output: &Output) -> Result<()> {
    let memory = started.memory;
    output.object(&json!({
        "event": "serving",
        "address": started.address.to_string(),
        "model": started.model,
        "medium": started.source.to_string(),
        "max_sequences": started.seats,
        "context_tokens": started.ctx,
        "kv_tokens": started.cells,
        "limit_sequences": started.limit,
        "compute_s": started.compute_s,
        "medium_s": started.medium_s,
        "streamed_bytes": started.streamed_bytes,
        "kv_bytes": memory.kv,
        "window_bytes": memory.window,
        "resident_weights_bytes": memory.resident_weights,
    }))?;
    for notice in &started.notices {
        output.note(format_args!("note: {notice}"));
    }
    output.line(format_args!("model    {}", started.model))?;
    output.line(format_args!("lap      {}", lap(started)))?;
    output.line(format_args!(
        "riders   up to {} sequences a lap; the KV cache ({}) holds {} tokens, one sequence up to {}",
        started.seats,
        format_size(memory.kv),
        started.cells,
        started.ctx
    ))?;
    output.line(format_args!("limit    {}", limit(started)))?;
    output.line(format_args!("serving  http://{}", started.address))?;
    Ok(())
}

fn lap(started: &Started) -> String {
    let time = |s: Option<f64>| s.map_or_else(|| "unknown time".to_owned(), format_seconds);
    if started.source == Source::Mapping {
        let took = time(started.compute_s);
        return format!("mapped by llama.cpp, {took} for one token, waiting included");
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
        Some(limit) if limit >= started.seats as f64 => format!(
            "the medium, however many ride: compute would be longer from {limit:.0} sequences on"
        ),
        Some(limit) => format!(
            "the medium up to {limit:.0} sequences, which ride for nothing; compute from there on"
        ),
    }
}
