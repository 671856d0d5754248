//! The binary `delayline`: takes the command line apart, runs the command, and
//! turns what became of it into an exit status. Knows the insides of none.
#![forbid(unsafe_code)]

mod args;
mod doctor;
mod interrupt;
#[expect(dead_code, reason = "run, bench and inspect need the rest")]
mod output;
mod size;
mod synth;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::interrupt::Interrupted;
use crate::output::Output;

fn main() -> ExitCode {
    // Wrong usage ends here, with status 2.
    let cli = Cli::parse();
    let output = Output {
        json: cli.output.json,
        verbose: cli.output.verbose,
    };
    match dispatch(&cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(interrupt::EXIT_CODE),
        // Whoever read the output has had enough, which is no failure.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.note(format_args!("error: {}", message(&error)));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command, output: &Output) -> Result<()> {
    match command {
        Command::Doctor(args) => doctor::run(args, &doctor::Given::default(), output),
        Command::Synth(args) => synth::run(args, output),
        Command::Completions(args) => {
            clap_complete::generate(
                args.shell,
                &mut Cli::command(),
                "delayline",
                &mut io::stdout().lock(),
            );
            Ok(())
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes, without what a message already says of its own
/// cause.
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
