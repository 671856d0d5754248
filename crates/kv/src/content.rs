//! What a model's bytes are, as one hash: read once, and remembered by what the file
//! system says of the files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::folder::drop_pages;

/// Read at a time, in bytes.
const STEP: usize = 1 << 20;

/// The hash of all bytes of these files. `progress` is told how many have been read, and
/// may end it.
///
/// # Errors
/// The system's; `Interrupted` when `progress` wants no more.
pub fn content_of(
    paths: &[PathBuf],
    progress: &mut dyn FnMut(u64) -> bool,
) -> io::Result<[u8; 32]> {
    let mut all = blake3::Hasher::new();
    let mut bytes = vec![0; STEP];
    let mut done = 0;
    for path in paths {
        let mut file = File::open(path)?;
        let mut one = blake3::Hasher::new();
        loop {
            let got = file.read(&mut bytes)?;
            if got == 0 {
                break;
            }
            one.update(&bytes[..got]);
            done += got as u64;
            drop_pages(&file);
            if !progress(done) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        all.update(one.finalize().as_bytes());
    }
    Ok(*all.finalize().as_bytes())
}

/// Hashes of files that have not changed since, in a folder.
#[derive(Clone, Debug)]
pub struct ContentCache {
    folder: PathBuf,
}

impl ContentCache {
    /// In that folder, which is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The hash of these files, read again only if the system knows of a change.
    ///
    /// # Errors
    /// As [`content_of`].
    pub fn content_of(
        &self,
        paths: &[PathBuf],
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<[u8; 32]> {
        let before = identity(paths)?;
        let entry = self.folder.join(before.to_hex().as_str());
        if let Ok(hash) = fs::read(&entry)
            && let Ok(hash) = hash.try_into()
        {
            return Ok(hash);
        }
        let hash = content_of(paths, progress)?;
        // Of files that changed meanwhile nothing is known.
        if identity(paths)? == before {
            let _ = remember(&self.folder, &entry, &hash);
        }
        Ok(hash)
    }
}

fn remember(folder: &Path, entry: &Path, hash: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let new = entry.with_extension(format!("{}.new", std::process::id()));
    fs::write(&new, hash)?;
    fs::rename(new, entry)
}

/// What the system says of the files: a change of bytes changes at least the time that
/// nobody can set.
fn identity(paths: &[PathBuf]) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new_derive_key("delayline kv cache, identity of files");
    for path in paths {
        let path = path.canonicalize()?;
        let meta: Metadata = fs::metadata(&path)?;
        hasher.update(path.as_os_str().as_encoded_bytes());
        for number in [
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.mtime() as u64,
            meta.mtime_nsec() as u64,
            meta.ctime() as u64,
            meta.ctime_nsec() as u64,
        ] {
            hasher.update(&number.to_le_bytes());
        }
    }
    Ok(hasher.finalize())
}
