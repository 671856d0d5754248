//! Files that the program writes besides its output: whole or not at all, and never in
//! place of anything but an earlier file of the same kind, known by its head.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use delayline_plan::ROUTE_HEAD;
use delayline_study::{report::html, sweep};
use tempfile::NamedTempFile;

/// Bytes of a file that are read to tell its kind.
const HEAD: u64 = 4096;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The events of the line.
    Trace,
    /// The plan of a model at a budget.
    Plan,
    /// A report with plots.
    Page,
    /// The rows of a sweep.
    Table,
    /// The hashes of a model's bytes.
    Seal,
    /// The experts that were chosen.
    Route,
}

impl FileKind {
    fn name(self) -> &'static str {
        match self {
            Self::Trace => "a trace",
            Self::Plan => "a plan",
            Self::Page => "a page of `delayline study`",
            Self::Seal => "a seal",
            Self::Table => "a table of `delayline study sweep`",
            Self::Route => "a route of experts",
        }
    }

    /// Whether a file with this beginning is of this kind. An empty file counts as well:
    /// nothing is lost with it.
    fn has_head(self, head: &[u8]) -> bool {
        let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        head.is_empty()
            || match self {
                Self::Trace => head.starts_with(delayline_line::CHROME_HEAD.as_bytes()),
                Self::Plan => head.starts_with(b"{\"delayline_plan\":"),
                Self::Page => head.starts_with(html::HEAD.as_bytes()),
                Self::Seal => delayline_engine::is_seal(head),
                Self::Route => head.starts_with(ROUTE_HEAD.as_bytes()),
                Self::Table => first_line.ends_with(sweep::COLUMNS.join(",").as_bytes()),
            }
    }
}

/// Fails early if such a file cannot be written there.
///
/// # Errors
/// As [`write()`].
pub fn check(path: &Path, kind: FileKind) -> Result<()> {
    refuse_to_replace(path, kind)?;
    beside(path).map(drop)
}

/// Writes a file, in place of an earlier one of its kind.
///
/// # Errors
/// When something else is there, or the file cannot be written. Then nothing has changed,
/// and nothing is left behind.
pub fn write(
    path: &Path,
    kind: FileKind,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let mut file = beside(path)?;
    let mut out = BufWriter::new(&mut file);
    let written = fill(&mut out).and_then(|()| out.flush());
    drop(out);
    let told = || format!("{} cannot be written", path.display());
    written.with_context(told)?;
    // Checked again: a file may have come there meanwhile.
    let named = match refuse_to_replace(path, kind)? {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    named.map_err(|error| error.error).with_context(told)?;
    Ok(())
}

/// Whether there is a file to replace. An error for a link, a device, a pipe, or a file of
/// another kind, which are never replaced.
fn refuse_to_replace(path: &Path, kind: FileKind) -> Result<bool> {
    let told = || format!("{} cannot be written", path.display());
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(told),
    };
    if !found.is_file() {
        let what = match () {
            () if found.is_symlink() => "a link",
            () if found.is_dir() => "a folder",
            () => "a device or a pipe",
        };
        bail!("{} is {what}: name a file to be written", path.display());
    }
    let mut head = Vec::new();
    let opened = File::open(path).with_context(told)?;
    opened
        .take(HEAD)
        .read_to_end(&mut head)
        .with_context(told)?;
    if !kind.has_head(&head) {
        bail!(
            "{} is there already and is not {}, so it is not replaced: choose another name",
            path.display(),
            kind.name()
        );
    }
    Ok(true)
}

/// A file without its final name, gone when dropped.
fn beside(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // With the usual permissions of new files, not for the user alone.
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".delayline-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_plan::ExpertRoute;
    use std::os::unix::fs::symlink;

    const KINDS: [FileKind; 6] = [
        FileKind::Trace,
        FileKind::Plan,
        FileKind::Page,
        FileKind::Table,
        FileKind::Seal,
        FileKind::Route,
    ];

    fn content(kind: FileKind) -> Vec<u8> {
        match kind {
            FileKind::Trace => {
                let mut out = Vec::new();
                delayline_line::write_chrome(&[], &mut out).expect("memory can be written");
                out
            }
            FileKind::Plan => b"{\"delayline_plan\":1}".to_vec(),
            FileKind::Seal => b"DLSEAL\0\x01".to_vec(),
            FileKind::Route => ExpertRoute::default().to_text().into(),
            FileKind::Page => html::page(&delayline_study::report::Report::default()).into(),
            FileKind::Table => format!("loop.length,{}\n1\n", sweep::COLUMNS.join(",")).into(),
        }
    }

    fn put(path: &Path, kind: FileKind) -> Result<()> {
        write(path, kind, |out| out.write_all(&content(kind)))
    }

    #[test]
    fn nothing_is_replaced_but_an_earlier_one_of_its_kind() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("out");
        for kind in KINDS {
            for there in KINDS {
                fs::write(&path, content(there))?;
                let (checked, written) = (check(&path, kind), put(&path, kind));
                assert_eq!(checked.is_ok(), kind == there, "{kind:?} over {there:?}");
                assert_eq!(written.is_ok(), kind == there, "{kind:?} over {there:?}");
                assert_eq!(fs::read(&path)?, content(there));
            }
            for there in [
                &b"GGUF\x03\0\0\0"[..],
                b"notes",
                b"{}",
                b"<!doctype html>\n",
            ] {
                fs::write(&path, there)?;
                let error = put(&path, kind).expect_err("is something else").to_string();
                assert!(
                    error.contains(kind.name()) && error.contains("out"),
                    "{error}"
                );
                assert_eq!(fs::read(&path)?, there);
            }
            fs::write(&path, b"")?;
            put(&path, kind)?;
            fs::remove_file(&path)?;
            put(&path, kind)?;
            assert_eq!(fs::read(&path)?, content(kind));
            assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        }
        Ok(())
    }

    #[test]
    fn links_devices_and_pipes_are_never_replaced() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let own = dir.path().join("own");
        let (link, nowhere) = (dir.path().join("link"), dir.path().join("nowhere"));
        put(&own, FileKind::Trace)?;
        symlink(&own, &link)?;
        symlink(dir.path().join("none"), &nowhere)?;
        let others = [Path::new("/dev/null"), Path::new("/dev/stdout"), dir.path()];
        for path in others.into_iter().chain([&*link, &*nowhere]) {
            let before = fs::symlink_metadata(path)?.file_type();
            for result in [check(path, FileKind::Trace), put(path, FileKind::Trace)] {
                let error = result.expect_err("is no file").to_string();
                assert!(error.contains("name a file"), "{error}");
            }
            assert_eq!(fs::symlink_metadata(path)?.file_type(), before, "{path:?}");
        }
        Ok(())
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("t.json");
        check(&path, FileKind::Trace)?;
        let broken = write(&path, FileKind::Trace, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        let error = format!("{:#}", broken.expect_err("was not written"));
        assert!(error.contains("the disk is full"), "{error}");
        assert_eq!(fs::read_dir(dir.path())?.count(), 0);
        let error = check(&dir.path().join("no/t.json"), FileKind::Trace).expect_err("no folder");
        assert!(error.to_string().contains("no/t.json"), "{error}");
        Ok(())
    }
}
