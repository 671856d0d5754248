//! What `make dist` puts beside its programs as `delayline`: it looks at the
//! processor and becomes the best of them that is there. It is built for the
//! oldest processor of its kind and links nothing that is not, so that it can
//! still say so where none of them runs.
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

/// Becomes the program; returns only what went wrong.
fn start() -> Result<std::convert::Infallible, String> {
    // `/proc/self/exe`: the launcher's own folder, whatever the working
    // directory and the search path hold.
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
