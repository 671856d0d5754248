//! `delayline synth`: writes a model of random weights, with a progress bar and seals. Its
//! contents are the synth crate's.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use delayline_engine::seal_path;
use delayline_synth::{Blueprint, Error, Quant, Summary, size, write, write_split};
use serde_json::json;

use crate::args::SynthArgs;
use crate::config;
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, format_seconds};
use crate::size::{format_rate, format_size};
use crate::written::{self, FileKind};

/// Writes the model and reports its files.
///
/// # Errors
/// When files are in the way, the disk is full, or Ctrl-C is pressed; then
/// nothing is left behind.
pub fn run(args: &SynthArgs, output: &Output) -> Result<()> {
    interrupt::watch();
    let start = Instant::now();
    let summary = make(args, output)?;
    report(&summary, start.elapsed().as_secs_f64(), output)
}

fn make(args: &SynthArgs, output: &Output) -> Result<Summary> {
    let mut shape = Blueprint::named(&args.shape).context("the shape has no description")?;
    if let Some(used) = args.experts_used {
        let wrong = |error: Error| config::conflict(&error.to_string());
        shape = shape.with_experts_used(used).map_err(wrong)?;
    }
    if let Some(layers) = args.layers {
        shape = shape.with_layers(layers);
    }
    if args.routing {
        shape = shape.routed()?;
    }
    let quant = Quant::from_name(&args.quant).context("the type is not known")?;
    if !args.force {
        refuse_to_overwrite(&args.out, args.parts)?;
    }
    let mut bar = output.progress("writing", size(&shape, quant)?);
    let mut progress = |done, _| {
        bar.set(done);
        stop_if_asked();
    };
    let written = interruptible(|| match args.parts {
        None => write(&shape, quant, args.seed, &args.out, &mut progress),
        Some(parts) => write_split(&shape, quant, args.seed, parts, &args.out, &mut progress),
    });
    let summary = written??;
    for (path, seal) in summary.paths.iter().zip(&summary.seals) {
        written::write(&seal_path(path), FileKind::Seal, |out| out.write_all(seal))?;
    }
    Ok(summary)
}

fn report(summary: &Summary, seconds: f64, output: &Output) -> Result<()> {
    let Summary {
        paths,
        bytes,
        tensors,
        ..
    } = summary;
    output.object(&json!({
        "command": "synth", "paths": paths, "bytes": bytes, "tensors": tensors, "seconds": seconds,
    }))?;
    for path in paths {
        output.line(path.display())?;
    }
    let (size, rate) = (format_size(*bytes), format_rate(*bytes as f64 / seconds));
    output.line(format!(
        "{size}, {tensors} tensors, in {} ({rate})",
        format_seconds(seconds)
    ))?;
    Ok(())
}

/// Stops the writer by unwinding: it has no other way to be stopped, and removes what it
/// has begun.
fn stop_if_asked() {
    if interrupt::asked() {
        resume_unwind(Box::new(Interrupted));
    }
}

fn interruptible<T>(body: impl FnOnce() -> T) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Ok(value),
        Err(cause) if cause.is::<Interrupted>() => Err(Interrupted.into()),
        Err(cause) => resume_unwind(cause),
    }
}

fn refuse_to_overwrite(out: &Path, parts: Option<u16>) -> Result<()> {
    match files_of(out, parts).into_iter().find(|path| path.exists()) {
        Some(path) => bail!(
            "{} is there already; choose another name, or replace it with --force",
            path.display()
        ),
        None => Ok(()),
    }
}

/// The files that would be written.
fn files_of(out: &Path, parts: Option<u16>) -> Vec<PathBuf> {
    let Some(parts) = parts else {
        return vec![out.to_owned()];
    };
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    (1..=parts)
        .map(|part| out.with_file_name(format!("{stem}-{part:05}-of-{parts:05}.gguf")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: &Path, parts: Option<u16>, force: bool) -> SynthArgs {
        SynthArgs {
            shape: "tiny-llama".into(),
            out: out.to_owned(),
            quant: "q4_0".into(),
            seed: 1,
            parts,
            experts_used: None,
            layers: None,
            routing: false,
            force,
        }
    }

    #[test]
    fn a_file_is_replaced_only_by_force() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let out = dir.path().join("m.gguf");
        let output = Output {
            json: false,
            verbose: 0,
        };
        for parts in [None, Some(2)] {
            make(&args(&out, parts, false), &output)?;
            let message = make(&args(&out, parts, false), &output)
                .expect_err("is there")
                .to_string();
            assert!(
                message.contains("--force") && message.contains(".gguf"),
                "{message}"
            );
            make(&args(&out, parts, true), &output)?;
        }
        Ok(())
    }

    #[test]
    fn the_files_looked_for_are_those_written() -> Result<()> {
        for (name, parts) in [
            ("m.gguf", None),
            ("m.gguf", Some(2)),
            ("plain", Some(3)),
            ("a.b", Some(1)),
        ] {
            let dir = tempfile::tempdir()?;
            let out = dir.path().join(name);
            make(&args(&out, parts, false), &Output::default())?;
            let mut found: Vec<PathBuf> = std::fs::read_dir(dir.path())?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<_>>()?;
            let seals = found.extract_if(.., |path| path.extension() == Some("seal".as_ref()));
            assert_eq!(seals.count(), usize::from(parts.unwrap_or(1)));
            found.sort();
            assert_eq!(found, files_of(&out, parts), "{name} {parts:?}");
        }
        Ok(())
    }

    #[test]
    fn only_an_interruption_is_caught() {
        assert_eq!(interruptible(|| 1).expect("nothing happened"), 1);
        let error =
            interruptible(|| resume_unwind(Box::new(Interrupted))).expect_err("was interrupted");
        assert!(error.is::<Interrupted>());
        let other = catch_unwind(|| interruptible(|| resume_unwind(Box::new("other"))));
        assert!(other.is_err_and(|cause| cause.is::<&str>()));
    }
}
