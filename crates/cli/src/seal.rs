//! `delayline seal`: writes a file beside each part of a model with the hashes of its bytes.
//! The format of a seal is `gguf`'s, the files of a model are `engine`'s.

use std::io;
use std::time::Instant;

use anyhow::{Context, Result};
use delayline_engine::{ModelFile, seal_of, seal_path};
use serde_json::json;

use crate::args::SealArgs;
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, format_seconds};
use crate::size::{format_rate, format_size};
use crate::written::{self, FileKind};

/// Reads the model once and writes its seals.
///
/// # Errors
/// When the model cannot be read, something else has a seal's name, or Ctrl-C is pressed.
pub fn run(args: &SealArgs, output: &Output) -> Result<()> {
    interrupt::watch();
    let start = Instant::now();
    let file = ModelFile::open(&args.model)?;
    let paths: Vec<_> = file
        .parts()
        .iter()
        .map(|part| seal_path(&part.path))
        .collect();
    for path in &paths {
        written::check(path, FileKind::Seal)?;
    }
    let bytes = file.parts().iter().map(|part| part.len).sum();
    let mut bar = output.progress("sealing", bytes);
    let mut before = 0;
    for (part, path) in file.parts().iter().zip(&paths) {
        let mut progress = |done| {
            bar.set(before + done);
            !interrupt::asked()
        };
        let seal = match seal_of(part, &mut progress) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Err(Interrupted.into());
            }
            seal => seal.with_context(|| format!("{} cannot be sealed", part.path.display()))?,
        };
        // Only a file that did not change meanwhile is sealed.
        file.check_unchanged()?;
        written::write(path, FileKind::Seal, |out| out.write_all(&seal))?;
        before += part.len;
    }
    drop(bar);
    let seconds = start.elapsed().as_secs_f64();
    output.object(&json!({
        "command": "seal", "paths": paths, "bytes": bytes, "seconds": seconds,
    }))?;
    for path in &paths {
        output.line(path.display())?;
    }
    output.line(format!(
        "{} sealed in {} ({})",
        format_size(bytes),
        format_seconds(seconds),
        format_rate(bytes as f64 / seconds)
    ))?;
    Ok(())
}
