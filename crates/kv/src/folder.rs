//! The folder of a store: its files, its lock, and what `delayline kv` does with one:
//! statistics, a check, removal.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::block::{is_block, links};
use crate::error::StoreError;
use crate::wear;

/// The file that marks the folder as a store and holds the version of its format.
const MARK: &str = "delayline-kv";

const VERSION: u32 = 1;

/// The file that a process locks while it writes to the folder.
const LOCK: &str = "lock";

/// Block size of the file system, in bytes; a file takes a whole number of them.
const UNIT: u64 = 4096;

/// A block's file in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub name: String,
    /// Size on disk, in bytes.
    pub bytes: u64,
    /// Time of the last use, in seconds since 1970.
    pub used: u64,
}

/// Drops a file from the page cache, which counts towards the budget; the file is not needed
/// again soon.
pub(crate) fn drop_pages(file: &File) {
    use std::os::fd::AsFd;
    let _ = rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed);
}

/// Size on disk of a file with so many bytes.
pub(crate) fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(UNIT)
}

/// Creates a folder that only its owner can read, if it does not exist: its blocks reveal
/// what was said.
///
/// # Errors
/// When it cannot be created.
pub fn make(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

/// Opens a file of the folder. Whatever else has its name, such as a link, a pipe or a device,
/// is refused, and opening it neither waits nor does anything.
pub(crate) fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file: remove it")),
    }
}

/// Opens a file of the folder for reading.
pub(crate) fn read(path: &Path) -> io::Result<File> {
    open_file(path, File::options().read(true))
}

/// Creates or empties a file; a new one is readable by its owner alone.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true);
    open_file(path, options.mode(0o600))
}

/// Opens or creates a folder; it is locked until the returned file is dropped.
pub(crate) fn open(path: &Path) -> Result<File, StoreError> {
    let failed = |what, source| StoreError::Io {
        what,
        path: path.to_owned(),
        source,
    };
    make(path).map_err(|e| failed("cannot make the folder", e))?;
    check(path)?;
    let mark = path.join(MARK);
    if !mark.exists() {
        let made = create(&mark).and_then(|mut file| writeln!(file, "{VERSION}"));
        made.map_err(|e| failed("cannot write to", e))?;
    }
    let lock = create(&path.join(LOCK)).map_err(|e| failed("cannot write to", e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse {
            path: path.to_owned(),
        }),
        Err(fs::TryLockError::Error(e)) => Err(failed("cannot lock", e)),
    }
}

fn cannot_read(path: &Path) -> impl Fn(io::Error) -> StoreError + Copy {
    move |source| StoreError::Io {
        what: "cannot read",
        path: path.to_owned(),
        source,
    }
}

/// Fails if a folder is neither a store nor empty.
pub(crate) fn check(path: &Path) -> Result<(), StoreError> {
    let failed = cannot_read(path);
    let mut version = String::new();
    match read(&path.join(MARK)) {
        Ok(file) => {
            file.take(64).read_to_string(&mut version).map_err(failed)?;
            match version.trim().parse() {
                Ok(found) if found <= VERSION => Ok(()),
                found => Err(StoreError::Later {
                    path: path.to_owned(),
                    found: found.unwrap_or(u32::MAX),
                    known: VERSION,
                }),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let other = fs::read_dir(path).map_err(failed)?.next();
            match other.transpose().map_err(failed)? {
                None => Ok(()),
                Some(entry) => Err(StoreError::NotOurs {
                    path: path.to_owned(),
                    name: entry.file_name().to_string_lossy().into_owned(),
                }),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

/// Removes files that were left half-written.
pub(crate) fn sweep(path: &Path) -> Result<(), StoreError> {
    let failed = cannot_read(path);
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().ends_with(".new") {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// The blocks of a folder, in the order in which they should be removed.
pub(crate) fn blocks(path: &Path) -> Result<Vec<Found>, StoreError> {
    let failed = cannot_read(path);
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !(name.ends_with(".block") || name.ends_with(".tail")) {
            continue;
        }
        // Removed since it was listed, or no file.
        let Some(meta) = entry.metadata().ok().filter(fs::Metadata::is_file) else {
            continue;
        };
        found.push(Found {
            name,
            bytes: on_disk(meta.len()),
            used: meta.mtime().max(0) as u64,
        });
    }
    Ok(in_order(found))
}

/// Sorts blocks by last use, oldest first, but a block after all that follow it in a
/// sequence, since those are of no use without it. The file names contain the links.
fn in_order(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| (b.used, &b.name).cmp(&(a.used, &a.name)));
    let keys = found.iter().enumerate();
    let at_key: HashMap<&str, usize> = keys
        .filter_map(|(at, block)| Some((links(&block.name)?.1?, at)))
        .collect();
    let mut placed = vec![false; found.len()];
    let mut order = Vec::with_capacity(found.len());
    for at in 0..found.len() {
        let end = order.len();
        let mut next = Some(at);
        while let Some(at) = next.filter(|&at| !placed[at]) {
            placed[at] = true;
            order.push(at);
            let parent = links(&found[at].name).map(|(parent, _)| parent);
            next = parent.and_then(|parent| at_key.get(parent).copied());
        }
        // The walk went from the end of a sequence to its beginning, which must stay longest.
        order[end..].reverse();
    }
    order.iter().rev().map(|&at| found[at].clone()).collect()
}

/// What is in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FolderStat {
    /// Number of blocks.
    pub blocks: usize,
    /// How many of them are tails.
    pub tails: usize,
    /// Their size on disk, in bytes.
    pub bytes: u64,
    /// Bytes written today (UTC); none if the count cannot be read.
    pub written_today: Option<u64>,
    /// Files that are named like a block but are none; only [`verify`] looks for them.
    pub damaged: Vec<PathBuf>,
}

/// Counts the blocks of a folder.
///
/// # Errors
/// When the folder is not a store, or cannot be read.
pub fn stat(path: &Path) -> Result<FolderStat, StoreError> {
    check(path)?;
    let found = blocks(path)?;
    Ok(FolderStat {
        blocks: found.len(),
        tails: found.iter().filter(|f| f.name.ends_with(".tail")).count(),
        bytes: found.iter().map(|f| f.bytes).sum(),
        written_today: match wear::written_on(path, wear::today()).bytes {
            u64::MAX => None,
            bytes => Some(bytes),
        },
        damaged: Vec::new(),
    })
}

/// As [`stat`], and checks that each file begins with the magic of a block. The keyed hash
/// cannot be checked without the model's [`crate::Root`].
///
/// # Errors
/// Those of [`stat`].
pub fn verify(path: &Path) -> Result<FolderStat, StoreError> {
    let mut stat = stat(path)?;
    for found in blocks(path)? {
        let file = path.join(&found.name);
        let mut head = [0; 8];
        let begins = read(&file).and_then(|mut file| file.read_exact(&mut head));
        if begins.is_err() || !is_block(&head) {
            stat.damaged.push(file);
        }
    }
    Ok(stat)
}

/// Removes all blocks; returns how many.
///
/// # Errors
/// Those of [`prune`].
pub fn clear(path: &Path) -> Result<usize, StoreError> {
    prune(path, 0)
}

/// Removes the least recently used blocks until the rest take at most `size` bytes; returns
/// how many.
///
/// # Errors
/// When the folder is not a store, is in use, or a file cannot be removed.
pub fn prune(path: &Path, size: u64) -> Result<usize, StoreError> {
    check(path)?;
    let _lock = open(path)?;
    let found = blocks(path)?;
    let mut left: u64 = found.iter().map(|block| block.bytes).sum();
    let mut removed = 0;
    for block in &found {
        if left <= size {
            break;
        }
        fs::remove_file(path.join(&block.name)).map_err(|source| StoreError::Io {
            what: "cannot remove a block from",
            path: path.to_owned(),
            source,
        })?;
        left -= block.bytes;
        removed += 1;
    }
    Ok(removed)
}
