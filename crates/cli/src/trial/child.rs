//! The process in which a file is tried, both sides of it: the hidden command that tries
//! the file, and the parent that waits for it and reports how it ended.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use delayline_engine::{Error, Options, Way, available_bytes};
use delayline_llama::{Rehearsed, rehearse};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};

use crate::args::EngineArgs;
use crate::config;
use crate::interrupt::{self, Interrupted};

/// The hidden command's name.
const NAME: &str = "trial";

/// Bytes that a trial may allocate beyond the budget: much of them is never touched.
const ROOM: u64 = 1 << 30;

/// Interval at which Ctrl-C is checked.
const LOOK: Duration = Duration::from_millis(50);

/// One trial.
#[derive(Clone, Debug, Args)]
pub struct TrialJob {
    /// The model
    pub model: PathBuf,
    /// Whether llama.cpp never holds the whole model itself
    #[arg(long)]
    pub streamed: bool,
    /// The rest
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What the process prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// A lap was computed.
    Ran {
        native: bool,
        native_from_bytes: u64,
    },
    /// llama.cpp refused the file.
    Failed(String),
    /// It failed before llama.cpp; opening the file will report that.
    Refused,
}

/// Tries the model in this process.
///
/// # Errors
/// When standard output is closed.
pub fn run(job: &TrialJob) -> Result<()> {
    // Standard input ends when the parent does: then nobody waits for the result.
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::abort();
    });
    let options = Options {
        way: match job.streamed {
            true => Way::Streamed,
            false => Way::Auto,
        },
        ..config::options(&job.engine, Way::Auto)?
    };
    let budget = options.memory.or_else(available_bytes).unwrap_or(u64::MAX);
    // Without these limits the trial still works.
    let _ = limit(Resource::Data, budget.saturating_add(ROOM));
    let _ = limit(Resource::Core, 0);
    let outcome = match rehearse(&job.model, &options) {
        Ok(Rehearsed {
            native,
            native_from_bytes,
        }) => Outcome::Ran {
            native,
            native_from_bytes,
        },
        Err(error @ Error::Llama { .. }) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Refused,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn limit(what: Resource, bytes: u64) -> rustix::io::Result<()> {
    let bytes = Some(bytes);
    let limit = Rlimit {
        current: bytes,
        maximum: bytes,
    };
    setrlimit(what, limit)
}

/// Tries the model in a process of its own. None if opening it will fail anyway.
///
/// # Errors
/// [`Interrupted`] after Ctrl-C; else when llama.cpp refused the model, crashed, or took
/// longer than `limit`.
pub fn try_apart(
    model: &Path,
    args: &EngineArgs,
    options: &Options,
    limit: Duration,
) -> Result<Option<Rehearsed>> {
    let mut arguments: Vec<OsString> = vec![NAME.into()];
    if !matches!(options.way, Way::Auto | Way::Native) {
        arguments.push("--streamed".into());
    }
    let engine = EngineArgs {
        medium: None,
        trace: None,
        ..args.clone()
    };
    arguments.extend(engine.arguments());
    arguments.extend(["--".into(), model.into()]);
    let child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("no process can be started to try the file in (--no-trial goes without)")?;
    let ended = wait(child, limit)?;
    let name = model.display();
    let Some(ended) = ended else {
        bail!(
            "{name} was tried in a process of its own, which had not ended after {} s: \
             the file may be damaged (--no-trial opens it all the same)",
            limit.as_secs()
        );
    };
    match serde_json::from_str(ended.printed.trim()) {
        Ok(Outcome::Ran {
            native,
            native_from_bytes,
        }) if ended.status.success() => Ok(Some(Rehearsed {
            native,
            native_from_bytes,
        })),
        Ok(Outcome::Failed(message)) => bail!("{message}"),
        Ok(Outcome::Refused) => Ok(None),
        _ => bail!(
            "llama.cpp ended with {} while it loaded {name} in a process of its own{}; \
             the file is damaged, or this version of llama.cpp has a defect",
            how(ended.status),
            said(&ended.complaint)
        ),
    }
}

/// A process that has ended.
struct Ended {
    status: ExitStatus,
    printed: String,
    complaint: String,
}

/// Waits for the process to end; none if it did not within the limit.
fn wait(mut child: Child, limit: Duration) -> Result<Option<Ended>> {
    let (sender, ended) = sync_channel(1);
    let mut out = child.stdout.take().expect("piped");
    let mut err = child.stderr.take().expect("piped");
    let complaint = std::thread::spawn(move || text(&mut err));
    // The end of its output tells that it has ended.
    std::thread::spawn(move || sender.send(text(&mut out)));
    let begun = Instant::now();
    let printed = loop {
        match ended.recv_timeout(LOOK) {
            Ok(printed) => break Some(printed),
            Err(RecvTimeoutError::Disconnected) => break Some(String::new()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt::asked() || begun.elapsed() > limit {
            child.kill()?;
            break None;
        }
    };
    let status = child.wait()?;
    // Ctrl-C in a terminal goes to the child too.
    if interrupt::asked()
        || [Signal::INT, Signal::TERM]
            .iter()
            .any(|signal| status.signal() == Some(signal.as_raw()))
    {
        return Err(Interrupted.into());
    }
    Ok(printed.map(|printed| Ended {
        status,
        printed,
        complaint: complaint.join().unwrap_or_default(),
    }))
}

/// What a process prints, up to 64 KiB.
fn text(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.take(64 << 10).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How a process ended: the name of the signal, or `an error`.
pub fn how(status: ExitStatus) -> String {
    let names = [
        (Signal::ILL, "SIGILL"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL, as where memory is short"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::SYS, "SIGSYS"),
    ];
    match status.signal() {
        Some(number) => names
            .iter()
            .find(|(signal, _)| signal.as_raw() == number)
            .map_or_else(
                || format!("signal {number}"),
                |(_, name)| (*name).to_owned(),
            ),
        None => "an error".to_owned(),
    }
}

/// The last line on standard error, without this program's `error: `.
fn said(complaint: &str) -> String {
    match complaint.trim().lines().last() {
        Some(line) => format!(" ({})", line.trim_start_matches("error: ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(script: &str, limit: Duration) -> Result<Option<Ended>> {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        wait(child, limit)
    }

    #[test]
    fn every_end_has_its_words() -> Result<()> {
        let long = Duration::from_secs(600);
        for (script, words) in [
            ("kill -SEGV $$", "SIGSEGV"),
            ("kill -ABRT $$", "SIGABRT"),
            ("kill -KILL $$", "SIGKILL, as where memory is short"),
            ("kill -ALRM $$", "signal 14"),
            ("exit 1", "an error"),
        ] {
            let ended = ended(script, long)?.expect("it has ended");
            assert_eq!(how(ended.status), words, "{script}");
        }
        let ended = ended("echo out; echo 'error: a; b' >&2; exit 1", long)?;
        let ended = ended.expect("it has ended");
        assert_eq!(ended.printed, "out\n");
        assert_eq!(said(&ended.complaint), " (a; b)");
        Ok(())
    }

    #[test]
    fn what_does_not_end_is_ended() -> Result<()> {
        assert!(ended("exec sleep 1000", Duration::ZERO)?.is_none());
        let error = ended("kill -TERM $$", Duration::from_secs(600)).err();
        assert!(error.is_some_and(|error| error.is::<Interrupted>()));
        Ok(())
    }
}
