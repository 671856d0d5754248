//! The binary `delayline`: parses the command line, runs the command, and turns its
//! result into an exit status. Knows the insides of no command.
#![forbid(unsafe_code)]

mod args;
mod batch;
mod bench;
mod built;
mod config;
mod confine;
mod doctor;
mod graph;
mod inspect;
mod interrupt;
mod kv;
mod medium;
mod models;
mod names;
mod output;
mod plan;
mod report;
mod run;
mod seal;
mod serve;
mod share;
mod size;
mod stripe;
mod study;
mod synth;
mod template;
mod trial;
mod written;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use delayline_engine::cgroup;
use serde_json::json;

use crate::args::{Cli, Command};
use crate::interrupt::Interrupted;
use crate::output::Output;

fn main() -> ExitCode {
    interrupt::as_a_child();
    interrupt::let_writes_fail();
    // Wrong usage ends here, with status 2.
    let mut cli = Cli::parse();
    let output = Output {
        json: cli.output.json,
        verbose: cli.output.verbose,
    };
    match cli.command {
        _ if output.verbose > 1 => show_log(),
        Command::Serve(_) => show_failures(),
        _ => {}
    }
    let named = cli.command.model_mut().map_or(Ok(()), |model| {
        *model = names::resolve(model)?;
        Ok(())
    });
    match named.and_then(|()| dispatch(&cli.command, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(interrupt::EXIT_CODE),
        // The reader of the output has closed it, which is no failure.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(usage) => usage.exit(),
            Err(error) => {
                let message = message(&error);
                // A closed pipe is handled above; for a full one the note below is enough.
                let _ = output.object(&json!({"event": "error", "message": message}));
                output.note(format_args!("error: {message}"));
                ExitCode::FAILURE
            }
        },
    }
}

fn dispatch(command: &Command, output: &Output) -> Result<()> {
    match command {
        Command::Run(args) => run::run(args, output),
        Command::Serve(args) => serve::run(args, output),
        Command::List(args) => names::list(args, output),
        Command::Models => models::run(output),
        Command::Batch(args) => batch::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Trial(job) => trial::run(job),
        Command::BenchProbe(job) => bench::probe::run(job),
        Command::Inspect(args) => inspect::run(args, output),
        Command::Doctor(args) => doctor::run(args, &given(), output),
        Command::Study(args) => study::run(args, output),
        Command::Synth(args) => synth::run(args, output),
        Command::Stripe(args) => stripe::run(args, output),
        Command::Template(args) => template::run(args, output),
        Command::Graph(command) => graph::run(command, output),
        Command::Kv(command) => kv::run(command, output),
        Command::Seal(args) => seal::run(args, output),
        Command::Completions(args) => {
            // Into memory first: `generate` panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "delayline", &mut script);
            let mut out = io::stdout().lock();
            out.write_all(&script)?;
            Ok(out.flush()?)
        }
    }
}

/// What llama.cpp, the program itself and the cgroup say.
fn given() -> doctor::Given {
    doctor::Given {
        kernels: Some(delayline_llama::kernel_features()),
        glibc: built::glibc(),
        cgroup: cgroup::current().map(|group| doctor::CgroupMemory {
            is_v2: group.is_v2(),
            limit_bytes: group.limit_bytes(),
            available_bytes: group.available_bytes(),
        }),
    }
}

/// Shows llama.cpp's messages on standard error.
fn show_log() {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
}

/// Shows on standard error what a server logs of laps that fail.
fn show_failures() {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let level = tracing_subscriber::filter::LevelFilter::WARN;
    let ours = tracing_subscriber::filter::Targets::new().with_target("delayline_server", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false);
    tracing_subscriber::registry().with(lines).with(ours).init();
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes, but no cause that the messages before it already contain.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::other("the disk is full");
        let told = anyhow::Error::new(cause()).context("x cannot be written: the disk is full");
        assert_eq!(message(&told), "x cannot be written: the disk is full");
        let untold = anyhow::Error::new(cause()).context("x cannot be written");
        assert_eq!(message(&untold), "x cannot be written: the disk is full");
    }

    #[test]
    fn a_closed_pipe_is_known_below_other_errors() {
        let pipe = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_closed_pipe(&pipe.context("while printing")));
        assert!(!is_closed_pipe(&anyhow::Error::new(io::Error::other(
            "else"
        ))));
    }
}
