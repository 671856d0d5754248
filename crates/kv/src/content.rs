//! The hash of a model's bytes, and a cache of such hashes by path, inode, length and times
//! of the files.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::folder::drop_pages;

/// Bytes of one read.
const STEP: usize = 1 << 20;

/// The hash of all bytes of these files. `progress` gets the number of bytes read so far and
/// returns whether to go on.
///
/// # Errors
/// Those of opening and reading; `Interrupted` when `progress` returns false.
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
            let got = match file.read(&mut bytes) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
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

/// A folder of hashes of files, each valid until its files change.
#[derive(Clone, Debug)]
pub struct ContentCache {
    folder: PathBuf,
}

impl ContentCache {
    /// In that folder, which is created when needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The hash of these files; reads them only if inode, length or times are new.
    ///
    /// # Errors
    /// Those of [`content_of`].
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
        // Files that changed while they were read are not remembered.
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

/// A hash of the files' metadata. A change of bytes changes at least the ctime, which no
/// program can set.
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
