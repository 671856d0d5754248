//! Files that are written whole or not at all. Knows nothing of what is in them.

use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to `path` atomically: readers see the old file or the whole new one.
///
/// # Errors
/// When the file cannot be written; what was at `path` is then as before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".delayline-")
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    // A temporary file is private; this one is to be what any new file is.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
