//! `delayline stripe`: distributes a model over several drives. Files get their names when
//! all of them are whole, the list last; a failure leaves nothing behind.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use delayline_engine::{Manifest, ModelFile, StripedPart};
use delayline_medium::stripes;
use serde_json::json;
use tempfile::{NamedTempFile, TempPath};

use crate::args::StripeArgs;
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, ProgressLine, format_seconds};
use crate::size::{format_rate, format_size};

/// Writes the files and reports them.
///
/// # Errors
/// When the model cannot be read, files are in the way, a disk is full, or Ctrl-C is
/// pressed; then nothing is left behind.
pub fn run(args: &StripeArgs, output: &Output) -> Result<()> {
    interrupt::watch();
    let start = Instant::now();
    let model = ModelFile::open(&args.model)?;
    if model.stripe_unit().is_some() {
        bail!(
            "{} is striped already: name the model it was made from",
            args.model.display()
        );
    }
    let plan = Plan::new(&model, args)?;
    if !args.force {
        plan.refuse_to_overwrite()?;
    }
    let bytes: u64 = model.parts().iter().map(|part| part.len).sum();
    let mut bar = output.progress("striping", bytes);
    plan.write(&model, &mut bar)?;
    drop(bar);
    let seconds = start.elapsed().as_secs_f64();
    let files: Vec<&PathBuf> = plan
        .list
        .parts
        .iter()
        .flat_map(|part| &part.files)
        .collect();
    output.object(&json!({
        "command": "stripe", "list": plan.path, "files": files, "bytes": bytes, "seconds": seconds,
    }))?;
    for file in files {
        output.line(file.display())?;
    }
    output.line(plan.path.display())?;
    let rate = format_rate(bytes as f64 / seconds);
    output.line(format!(
        "{} over {} drives in {} ({rate}); run it by naming the last file",
        format_size(bytes),
        args.dirs.len(),
        format_seconds(seconds)
    ))?;
    Ok(())
}

/// The files to write, and where.
struct Plan {
    list: Manifest,
    path: PathBuf,
    dirs: Vec<PathBuf>,
}

impl Plan {
    fn new(model: &ModelFile, args: &StripeArgs) -> Result<Self> {
        let mut dirs = Vec::new();
        for dir in &args.dirs {
            let full = dir.canonicalize().with_context(|| {
                format!("{} cannot be used: make the folder first", dir.display())
            })?;
            if !full.is_dir() {
                bail!("{} is not a folder: name one on each drive", dir.display());
            }
            if dirs.contains(&full) {
                bail!(
                    "{} is named twice: name a folder on each drive",
                    dir.display()
                );
            }
            dirs.push(full);
        }
        let count = dirs.len();
        let mut parts = Vec::new();
        for part in model.parts() {
            let name = part.path.file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            let file = |(dir, number): (&PathBuf, usize)| {
                dir.join(format!("{name}.stripe-{number}-of-{count}"))
            };
            let files = dirs.iter().zip(1..).map(file).collect();
            let len = part.len;
            parts.push(StripedPart { name, len, files });
        }
        let path = dirs[0].join(Manifest::name(&parts[0].name));
        let unit = args.unit;
        Ok(Self {
            list: Manifest { unit, parts },
            path,
            dirs,
        })
    }

    fn refuse_to_overwrite(&self) -> Result<()> {
        let mut files = self.list.parts.iter().flat_map(|part| &part.files);
        match files
            .find(|path| path.exists())
            .or(Some(&self.path).filter(|path| path.exists()))
        {
            Some(path) => bail!(
                "{} is there already; choose other folders, or replace it with --force",
                path.display()
            ),
            None => Ok(()),
        }
    }

    /// Writes all files without names, then names them, the list last.
    fn write(&self, model: &ModelFile, bar: &mut ProgressLine) -> Result<()> {
        let mut done = 0;
        let mut written = Vec::new();
        for (source, part) in model.parts().iter().zip(&self.list.parts) {
            let files = self.write_part(&source.path, part, &mut done, bar)?;
            written.extend(files.into_iter().zip(part.files.iter().cloned()));
        }
        let mut list = temporary(&self.dirs[0])?;
        let text = self.list.text();
        finish(&mut list, &self.path, |file| {
            file.write_all(text.as_bytes())
        })?;
        written.push((list, self.path.clone()));
        name_all(written)
    }

    fn write_part(
        &self,
        source: &Path,
        part: &StripedPart,
        done: &mut u64,
        bar: &mut ProgressLine,
    ) -> Result<Vec<NamedTempFile>> {
        let mut files = Vec::new();
        for dir in &self.dirs {
            files.push(temporary(dir)?);
        }
        let told = || format!("{} cannot be read", source.display());
        let mut reader = File::open(source).with_context(told)?;
        let mut unit = vec![0; self.list.unit as usize];
        let drives = files.len() as u64;
        for (drive, _, len) in stripes(self.list.unit, drives, 0, part.len) {
            if interrupt::asked() {
                return Err(Interrupted.into());
            }
            let stripe = &mut unit[..len as usize];
            reader.read_exact(stripe).with_context(told)?;
            let written = files[drive].write_all(stripe);
            written
                .with_context(|| format!("{} cannot be written", part.files[drive].display()))?;
            *done += len;
            bar.set(*done);
        }
        for (file, path) in files.iter_mut().zip(&part.files) {
            finish(file, path, |_| Ok(()))?;
        }
        Ok(files)
    }
}

/// A file without its final name, with the usual permissions of new files.
fn temporary(dir: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let file = builder
        .prefix(".stripe-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir);
    file.with_context(|| format!("nothing can be written to {}", dir.display()))
}

/// Writes the rest and syncs the file.
fn finish(
    file: &mut NamedTempFile,
    path: &Path,
    rest: impl FnOnce(&mut NamedTempFile) -> io::Result<()>,
) -> Result<()> {
    let done = rest(file).and_then(|()| file.as_file().sync_all());
    done.with_context(|| format!("{} cannot be written", path.display()))
}

/// Gives all files their names. What had these names before goes when all have them; after a
/// failure it has them again.
fn name_all(files: Vec<(NamedTempFile, PathBuf)>) -> Result<()> {
    let mut named: Vec<(PathBuf, Option<TempPath>)> = Vec::new();
    for (file, path) in files {
        let old = match name(file, &path) {
            Ok(old) => old,
            Err(error) => {
                for (path, old) in named.into_iter().rev() {
                    // What cannot be put back stays under its other name.
                    let _ = std::fs::remove_file(&path);
                    let _ = old.map(|old| put_back(old, &path));
                }
                return Err(error).with_context(|| format!("{} cannot be written", path.display()));
            }
        };
        named.push((path, old));
    }
    Ok(())
}

/// Gives a file its name; returns what had it before, under a name of its own.
fn name(file: NamedTempFile, path: &Path) -> io::Result<Option<TempPath>> {
    let old = match std::fs::symlink_metadata(path) {
        Ok(_) => {
            let aside = beside(path)?;
            std::fs::rename(path, &aside)?;
            Some(aside)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match file.persist(path) {
        Ok(_) => Ok(old),
        Err(error) => {
            let _ = old.map(|old| put_back(old, path));
            Err(error.error)
        }
    }
}

/// A name that nothing else has, in the same folder.
fn beside(path: &Path) -> io::Result<TempPath> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".stripe-")
        .tempfile_in(dir)?;
    Ok(file.into_temp_path())
}

fn put_back(old: TempPath, path: &Path) -> io::Result<()> {
    old.persist(path).map_err(|error| {
        // It must not go with the value.
        let _ = error.path.keep();
        error.error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(model: &Path, dirs: &[&Path], force: bool) -> StripeArgs {
        StripeArgs {
            model: model.to_owned(),
            dirs: dirs.iter().map(|dir| dir.to_path_buf()).collect(),
            unit: 64 << 10,
            force,
        }
    }

    fn files(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    /// A small model, and two empty folders for drives, in a folder that is removed when the
    /// first value is dropped.
    fn two_drives() -> Result<(tempfile::TempDir, PathBuf, [PathBuf; 2])> {
        let dir = tempfile::tempdir()?;
        let drives = ["a", "b"].map(|name| dir.path().join(name));
        for drive in &drives {
            std::fs::create_dir(drive)?;
        }
        let model = dir.path().join("m.gguf");
        let shape = delayline_synth::shape("tiny-llama").expect("a shape");
        delayline_synth::write(
            &shape,
            delayline_synth::Quant::Q4_0,
            1,
            &model,
            &mut |_, _| {},
        )?;
        Ok((dir, model, drives))
    }

    #[test]
    fn a_model_is_laid_out_whole_or_not_at_all() -> Result<()> {
        let (dir, model, [a, b]) = two_drives()?;

        run(&args(&model, &[&a, &b], false), &Output::default())?;
        assert_eq!(files(&a), ["m.gguf.stripe-1-of-2", "m.stripe.toml"]);
        assert_eq!(files(&b), ["m.gguf.stripe-2-of-2"]);
        // Stripe by stripe in turns, all bytes of the model are there.
        let whole = std::fs::read(&model)?;
        let halves = [
            std::fs::read(a.join("m.gguf.stripe-1-of-2"))?,
            std::fs::read(b.join("m.gguf.stripe-2-of-2"))?,
        ];
        let mut joined: Vec<u8> = Vec::new();
        for (drive, at, len) in stripes(64 << 10, 2, 0, whole.len() as u64) {
            joined.extend(&halves[drive][at as usize..(at + len) as usize]);
        }
        assert!(joined == whole);
        let again = ModelFile::open(&a.join("m.stripe.toml"))?;
        assert_eq!(
            again.weight_bytes(),
            ModelFile::open(&model)?.weight_bytes()
        );

        let message = |result: Result<()>| format!("{:#}", result.expect_err("cannot be"));
        let there = message(run(&args(&model, &[&a, &b], false), &Output::default()));
        assert!(there.contains("--force"), "{there}");
        run(&args(&model, &[&a, &b], true), &Output::default())?;
        let twice = message(run(&args(&model, &[&a, &a], true), &Output::default()));
        assert!(twice.contains("named twice"), "{twice}");
        let none = dir.path().join("none");
        let missing = message(run(&args(&model, &[&a, &none], true), &Output::default()));
        assert!(missing.contains("none"), "{missing}");

        // A file that cannot get its name: nothing is left behind.
        let c = dir.path().join("c");
        std::fs::create_dir_all(c.join("m.gguf.stripe-2-of-2").join("full"))?;
        std::fs::remove_dir_all(&a)?;
        std::fs::create_dir(&a)?;
        let taken = message(run(&args(&model, &[&a, &c], true), &Output::default()));
        assert!(taken.contains("cannot be written"), "{taken}");
        assert!(files(&a).is_empty(), "{:?}", files(&a));
        assert_eq!(files(&c), ["m.gguf.stripe-2-of-2"]);

        // And what was to be replaced is there as before.
        std::fs::remove_dir_all(c.join("m.gguf.stripe-2-of-2"))?;
        run(&args(&model, &[&a, &c], false), &Output::default())?;
        let all = || -> Vec<_> {
            let both = [&a, &c].into_iter();
            let paths = both.flat_map(|dir| files(dir).into_iter().map(|name| dir.join(name)));
            paths
                .map(|path| (std::fs::read(&path).ok(), path))
                .collect()
        };
        let before = all();
        assert_eq!(before.len(), 3);
        let list = a.join("m.stripe.toml");
        let text = std::fs::read(&list)?;
        std::fs::remove_file(&list)?;
        std::fs::create_dir_all(list.join("full"))?;
        let mut another = args(&model, &[&a, &c], true);
        another.unit = 128 << 10;
        let taken = message(run(&another, &Output::default()));
        assert!(taken.contains("m.stripe.toml cannot be written"), "{taken}");
        std::fs::remove_dir_all(&list)?;
        std::fs::write(&list, text)?;
        assert!(all() == before, "{:?} {:?}", files(&a), files(&c));
        run(&another, &Output::default())?;
        assert_eq!(
            (files(&a).len(), files(&c).len()),
            (2, 1),
            "nothing is left beside"
        );
        assert_eq!(ModelFile::open(&list)?.stripe_unit(), Some(128 << 10));
        Ok(())
    }

    #[test]
    fn a_drive_that_is_missing_or_changed_is_named() -> Result<()> {
        let (_dir, model, [a, b]) = two_drives()?;
        run(&args(&model, &[&a, &b], false), &Output::default())?;
        let list = a.join("m.stripe.toml");
        let second = b.join("m.gguf.stripe-2-of-2");
        let error = || ModelFile::open(&list).expect_err("is broken").to_string();
        File::options().write(true).open(&second)?.set_len(5)?;
        for word in ["stripe-2-of-2", "5 bytes", "drive 2 of 2"] {
            assert!(error().contains(word), "{word}: {}", error());
        }
        std::fs::remove_file(&second)?;
        for word in ["stripe-2-of-2", "No such file", "drive 2 of 2"] {
            assert!(error().contains(word), "{word}: {}", error());
        }
        std::fs::write(
            &list,
            "unit = 7\n[[parts]]\nname = \"m\"\nlen = 1\nfiles = [\"x\"]\n",
        )?;
        assert!(error().contains("multiple of 4096"), "{}", error());
        std::fs::write(&list, "nonsense")?;
        assert!(error().contains("delayline stripe"), "{}", error());
        Ok(())
    }
}
