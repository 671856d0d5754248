//! `--trace FILE`: what happened on the line, written whole or not at all.

use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use delayline_line::{Event, write_chrome};
use tempfile::NamedTempFile;

/// Fails early if a file cannot be made where the trace is to be.
///
/// # Errors
/// Names the path and the system's reason.
pub fn check(path: &Path) -> Result<()> {
    beside(path).map(drop)
}

/// Writes the trace, in place of a file that is there.
///
/// # Errors
/// As [`check`], or when the disk is full; nothing is left behind then.
pub fn write(path: &Path, events: &[Event]) -> Result<()> {
    let mut file = beside(path)?;
    let mut out = BufWriter::new(&mut file);
    let written = write_chrome(events, &mut out).and_then(|()| out.flush());
    drop(out);
    written.with_context(|| format!("the trace {} cannot be written", path.display()))?;
    file.persist(path)
        .with_context(|| format!("the trace cannot be moved to {}", path.display()))?;
    Ok(())
}

/// A file without its final name, gone when dropped.
fn beside(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Readable by whom the user lets read, not by the user alone.
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".delayline-trace-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(|| format!("the trace {} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_there_whole_or_not_at_all() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("t.json");
        check(&path)?;
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
        write(&path, &[])?;
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        assert!(value["traceEvents"].is_array(), "{value}");
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
        let error = check(&dir.path().join("no/t.json")).expect_err("there is no such folder");
        assert!(error.to_string().contains("no/t.json"), "{error}");
        Ok(())
    }
}
