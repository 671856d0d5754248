//! `--kv-shared`: starts the program that reaches the shared store, before this one is
//! confined, and talks to it over pipes.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use delayline_kv::{ShareLink, ShareSecret, StoreError};
use delayline_llama::KvShare;

use crate::args::KvShareArgs;

/// The connection to the shared store, if the options ask for one.
///
/// # Errors
/// When the secret cannot be read, or the store cannot be opened.
pub fn connect(args: &KvShareArgs) -> Result<Option<KvShare>> {
    let (Some(place), Some(file)) = (&args.kv_shared, &args.kv_secret) else {
        return Ok(None);
    };
    let secret = fs::read(file);
    let secret = secret.with_context(|| format!("cannot read the secret {}", file.display()))?;
    let secret = ShareSecret::new(&secret)?;
    let mut child = start(place, args.kv_shared_size)?;
    let (Some(output), Some(input)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("delayline-share was started without its pipes, which is a defect");
    };
    let link = ShareLink::new(Box::new(input), Box::new(output), place, secret)?;
    // The child ends after this process, once it has sent what was left to send.
    let once = Mutex::new(Some(link));
    let place = place.clone();
    Ok(Some(KvShare::new(move || {
        let link = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        link.ok_or_else(|| StoreError::Shared {
            place: place.clone(),
            what: "it is in use by this server already".into(),
        })
    })))
}

fn start(place: &str, size: u64) -> Result<Child> {
    let program = std::env::current_exe()?.with_file_name("delayline-share");
    if !program.is_file() {
        bail!(
            "--kv-shared needs the program delayline-share beside this one, and {} is not there",
            program.display()
        );
    }
    let mut command = Command::new(&program);
    command
        .arg(place)
        .arg("--size")
        .arg(size.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C in the terminal ends the server, not this child.
        .process_group(0);
    let child = command.spawn();
    child.map_err(|error| anyhow!("cannot start {}: {error}", program.display()))
}
