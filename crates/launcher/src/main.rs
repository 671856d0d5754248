//! The launcher, which `make dist` puts beside its programs as `delayline`: it executes
//! the best of them that this processor can run. It and all that it links are built for
//! the oldest processor, so that it can print an error where none of the programs runs.
#![forbid(unsafe_code)]

mod level;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let error = match start() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Executes the program in place of this one; returns only if that fails.
fn start() -> Result<std::convert::Infallible, String> {
    // The folder of the launcher itself (`/proc/self/exe`), not the working directory or
    // the search path.
    let own = std::env::current_exe()
        .map_err(|error| format!("cannot find the folder of this program: {error}"))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let program = level::choose(level::detected, |name| folder.join(name).is_file())?;
    let program = folder.join(program);
    let mut args = std::env::args_os();
    let mut command = Command::new(&program);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    let error = command.args(args).exec();
    Err(format!("cannot start {}: {error}", program.display()))
}
