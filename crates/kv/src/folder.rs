//! The folder of a store: what may be in it, and what people ask of one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::block::{is_block, links};
use crate::error::StoreError;
use crate::wear;

/// Says that the folder is a store, and of which version.
const MARK: &str = "delayline-kv";

const VERSION: u32 = 1;

/// The lock of who uses it.
const LOCK: &str = "lock";

/// A file takes whole blocks of the file system.
const UNIT: u64 = 4096;

/// A file of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub name: String,
    /// On disk, in bytes.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
}

/// The page cache counts in the budget, and what is read or written here is not wanted
/// again soon.
pub(crate) fn drop_pages(file: &File) {
    use std::os::fd::AsFd;
    let _ = rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed);
}

/// What a file of so many bytes takes on disk.
pub(crate) fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(UNIT)
}

/// Makes a folder for its owner alone, if it is not there: what is kept tells what was said.
///
/// # Errors
/// The system's.
pub fn make(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

/// An empty file, for its owner alone.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true);
    options.mode(0o600).open(path)
}

/// Opens a folder, or makes it; the lock is held as long as the file lives.
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

/// Fails where a folder is no store and not empty either.
pub(crate) fn check(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io {
        what: "cannot read",
        path: path.to_owned(),
        source,
    };
    let mut version = String::new();
    match File::open(path.join(MARK)) {
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

/// What was left half-written goes.
pub(crate) fn sweep(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io {
        what: "cannot read",
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().ends_with(".new") {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// The blocks of a folder, in the order in which they should go.
pub(crate) fn blocks(path: &Path) -> Result<Vec<Found>, StoreError> {
    let failed = |source| StoreError::Io {
        what: "cannot read",
        path: path.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !(name.ends_with(".block") || name.ends_with(".tail")) {
            continue;
        }
        // One that went meanwhile is none.
        let Ok(meta) = entry.metadata() else { continue };
        found.push(Found {
            name,
            bytes: on_disk(meta.len()),
            used: meta.mtime().max(0) as u64,
        });
    }
    Ok(in_order(found))
}

/// What was used longest ago goes first, and nothing before what lies behind it: a block
/// is of no use without those before it. Their names tell which these are.
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
        // From the end of a sequence to what is placed already: its beginning is worth more.
        order[end..].reverse();
    }
    order.iter().rev().map(|&at| found[at].clone()).collect()
}

/// What there is in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FolderStat {
    /// Files of blocks.
    pub blocks: usize,
    /// Of those, ends of sequences.
    pub tails: usize,
    /// What they take on disk, in bytes.
    pub bytes: u64,
    /// Bytes that were written today, in UTC; none where that cannot be read.
    pub written_today: Option<u64>,
    /// Files that are no block, though they are called so.
    pub damaged: Vec<PathBuf>,
}

/// Counts the blocks of a folder.
///
/// # Errors
/// When it is no store, or cannot be read.
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

/// As [`stat`], and looks whether each file begins as a block. Whether it is whole, only
/// the model that it is of can tell.
///
/// # Errors
/// As [`stat`].
pub fn verify(path: &Path) -> Result<FolderStat, StoreError> {
    let mut stat = stat(path)?;
    for found in blocks(path)? {
        let file = path.join(&found.name);
        let mut head = [0; 8];
        let read = File::open(&file).and_then(|mut file| file.read_exact(&mut head));
        if read.is_err() || !is_block(&head) {
            stat.damaged.push(file);
        }
    }
    Ok(stat)
}

/// Removes all blocks; returns how many.
///
/// # Errors
/// As [`prune`].
pub fn clear(path: &Path) -> Result<usize, StoreError> {
    prune(path, 0)
}

/// Removes blocks until the others take `size` bytes at most, those first that were used
/// longest ago; returns how many.
///
/// # Errors
/// When the folder is no store, is in use, or a file cannot be removed.
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
