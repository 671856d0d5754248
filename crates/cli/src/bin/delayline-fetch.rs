//! `delayline-fetch hf:ORG/REPO[:QUANT]`: fetches a model from the Hugging Face hub into the
//! cache that the hub's own tools share. A program of its own, so that the one that runs
//! models makes no connections.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use delayline_hub::{Hub, HubCache, HubName};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Fetch a model from the Hugging Face hub.
///
/// It goes into the cache that the hub's own tools share, its checksum is verified, and its
/// path is printed. A download that was interrupted is continued.
///
/// HF_TOKEN gives access to models that need it, HF_ENDPOINT names another hub, HF_HUB_CACHE
/// another folder.
#[derive(Debug, Parser)]
#[command(name = "delayline-fetch", version)]
struct Args {
    /// Its name
    #[arg(
        value_name = "MODEL",
        help = "hf:ORG/REPO[:QUANT]; of several quantisations Q4_K_M is meant"
    )]
    name: String,
}

fn main() -> ExitCode {
    match fetch(&Args::parse()) {
        Ok(path) => {
            // A closed pipe is no failure.
            let _ = writeln!(std::io::stdout(), "{}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(args: &Args) -> Result<PathBuf> {
    let Some(name) = HubName::parse(&args.name) else {
        bail!("{}", delayline_hub::Error::Name);
    };
    let (name, cache, hub) = (name?, HubCache::from_env()?, Hub::from_env()?);
    let model = hub.model(&name)?;
    let bytes = model.bytes();
    let terminal = std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    bar.set_message(format!("fetching {}", model.name));
    if !terminal {
        let gigabytes = bytes as f64 / 1e9;
        let _ = writeln!(
            std::io::stderr(),
            "fetching {} of {}: {gigabytes:.2} GB",
            model.name,
            model.repo
        );
    }
    let mut began = None;
    let path = hub.fetch(&cache, &model, &mut |done| {
        // Bytes that were there already do not count for the rate.
        if began.is_none() {
            began = Some(done);
            bar.reset_eta();
        }
        bar.set_position(done);
        true
    });
    bar.finish_and_clear();
    Ok(path?)
}
