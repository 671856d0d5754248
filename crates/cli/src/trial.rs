//! Tries a file that is new to this machine in a process of its own before it is opened:
//! no list of checks is complete, and a crash of llama.cpp then ends only that process.
//! Files that were tried are remembered in the user's cache folder.

mod child;
mod known;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use delayline_engine::{ModelFile, Options};

use crate::args::EngineArgs;
use crate::output::Output;
use crate::run::Waiting;

pub use self::child::{TrialJob, how, run};
use self::known::Entry;
pub use self::known::cache_folder;

/// Time limit of a trial, to which a second is added for each [`BYTES_PER_S`] of weights.
const LIMIT: Duration = Duration::from_secs(60);
const BYTES_PER_S: u64 = 100_000_000;

/// Tries the model unless this machine has opened it before, as it is now.
///
/// # Errors
/// When llama.cpp refused it or crashed; [`crate::interrupt::Interrupted`] after Ctrl-C.
/// Other errors are left to the opening of the file.
pub fn ensure(model: &Path, args: &EngineArgs, options: &Options, output: &Output) -> Result<()> {
    if args.no_trial {
        return Ok(());
    }
    let Ok(file) = ModelFile::open_within(model, options.memory.unwrap_or(u64::MAX)) else {
        return Ok(());
    };
    let weight_bytes = file.weight_bytes();
    let entry = Entry::of(model, &file, args);
    drop(file);
    if entry.holds(weight_bytes, options) {
        return Ok(());
    }
    output.detail("the file is new to this machine: it is tried in a process of its own");
    let limit = LIMIT + Duration::from_secs(weight_bytes / BYTES_PER_S);
    let waiting = Waiting::new("trying a file that is new to this machine");
    let rehearsed = child::try_apart(model, args, options, limit);
    drop(waiting);
    if let Some(rehearsed) = rehearsed?
        && let Err(error) = entry.remember(rehearsed)
    {
        output.detail(format_args!(
            "that it was tried cannot be remembered: {error}"
        ));
    }
    Ok(())
}
