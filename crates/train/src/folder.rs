//! A store in a folder: its files, the lock on it, and the file of activations. Does not
//! know what the bytes mean.

use crate::record::Record;
use crate::store::layout_of;
use crate::{Activations, Error, StateLayout, StateStore};
use delayline_medium::{Flash, FlashOptions, Memory};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Maximum number of operations at once.
const DEPTH: usize = 64;

/// Length of the file of activations. It is sparse: it takes room on the drive only for
/// what is written.
const SPILL: u64 = 1 << 40;

/// A store in a folder, which is used by one process at a time.
pub struct StateFolder {
    store: StateStore<Flash>,
    path: PathBuf,
    _lock: FolderLock,
}

impl StateFolder {
    /// Creates a store in a folder without one; the folder need not exist. Reserves room on
    /// the drive for all of the state. `memory` is the number of bytes that extents and
    /// commit records pass through.
    ///
    /// # Errors
    /// [`Error::Layout`] if there is a store already, [`Error::NoRecord`] if there is a
    /// damaged one, [`Error::InUse`], [`Error::Memory`], and the errors of creating files.
    pub fn create(path: &Path, memory: u64, layout: StateLayout) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| file(path, "cannot be created", source))?;
        let lock = lock(path)?;
        let names = names(path);
        check_no_store(path, &names[0])?;
        for name in &names {
            remove(name)?;
        }
        let (memory, region) = reserve(memory, &layout)?;
        let lens = layout.part_lens();
        let files: Vec<(&PathBuf, u64)> = names.iter().zip(lens).collect();
        // No room is reserved for waiting gradients: a run that does not clip has none.
        let (whole, waiting) = files.split_at(3);
        drop(Flash::create(whole, memory.clone(), &options(&memory))?);
        for (name, len) in waiting {
            sparse(name, *len)?;
        }
        let medium = Flash::open_for_writing(&names, memory.clone(), &options(&memory))?;
        let store = StateStore::create(medium, (memory, region), layout)?;
        Ok(Self {
            store,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Whether a folder contains a store with a commit, also one that cannot be opened
    /// because it ended within a step.
    pub fn exists(path: &Path) -> bool {
        let [records, ..] = names(path);
        match fs::read(records) {
            Ok(bytes) => !matches!(Record::newest(&bytes), Err(Error::NoRecord { .. })),
            Err(_) => false,
        }
    }

    /// Opens a store with the content of its last commit. `memory` is the number of bytes
    /// that extents and commit records pass through.
    ///
    /// # Errors
    /// [`Error::NoRecord`] and [`Error::Torn`] if no commit can be used, [`Error::Layout`]
    /// if a file has another length than the last commit says, [`Error::InUse`],
    /// [`Error::Memory`], and the errors of opening files.
    pub fn open(path: &Path, memory: u64) -> Result<Self, Error> {
        let lock = lock(path)?;
        let names = names(path);
        let bytes = read(&names[0])?;
        let layout = layout_of(&Record::newest(&bytes)?);
        for (name, len) in names.iter().zip(layout.part_lens()) {
            let have = fs::metadata(name).map_err(|source| file(name, "cannot be read", source))?;
            if have.len() != len {
                let what = format!(
                    "{}: has {} bytes, but {len} according to the last commit; it is cut short, or of \
                     another store: restore it, or name another folder",
                    name.display(),
                    have.len()
                );
                return Err(Error::Layout { what });
            }
        }
        let (memory, region) = reserve(memory, &layout)?;
        let medium = Flash::open_for_writing(&names, memory.clone(), &options(&memory))?;
        let store = StateStore::open(medium, (memory, region), &bytes)?;
        Ok(Self {
            store,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The caller's data in the last commit of a store, and the lengths of its extents in
    /// bytes, without opening it.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::NoRecord`] and [`Error::Torn`].
    pub fn peek(path: &Path) -> Result<(Vec<u8>, Vec<u64>), Error> {
        let [records, ..] = names(path);
        let record = Record::newest(&read(&records)?)?;
        let lens = record.rows.iter().map(|row| row.len).collect();
        Ok((record.payload, lens))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for StateFolder {
    type Target = StateStore<Flash>;
    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

impl DerefMut for StateFolder {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.store
    }
}

impl Activations<Flash> {
    /// Activations in `memory` bytes; those that do not fit are spilled to a file in the
    /// folder `path`. The file has no name, so it is gone with the process.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Open`] and [`Error::Reserve`].
    pub fn in_folder(path: &Path, memory: u64) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| file(path, "cannot be created", source))?;
        let name = path.join(format!("activations.{}", std::process::id()));
        sparse(&name, SPILL)?;
        let (memory, region) = Memory::new(memory)?;
        let names = [&name];
        let medium = Flash::open_for_writing(&names, memory.clone(), &options(&memory))?;
        unlink(&name)?;
        Ok(Self::new(medium, (memory, region), SPILL))
    }
}

/// The files of a store, in the order of the parts.
fn names(path: &Path) -> [PathBuf; 5] {
    ["commits", "state.0", "state.1", "waiting.0", "waiting.1"].map(|name| path.join(name))
}

/// Refuses to create a store where one may be already. What an attempt left behind that
/// ended before its first commit is no store.
fn check_no_store(path: &Path, records: &Path) -> Result<(), Error> {
    let bytes = match read(records) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        other => other?,
    };
    if !matches!(Record::newest(&bytes), Err(Error::NoRecord { .. })) {
        let what = format!(
            "{}: there is a store already; open it, or name another folder",
            path.display()
        );
        return Err(Error::Layout { what });
    }
    // The first commit is written to the second half, so a first half with content had
    // commits.
    if bytes[..bytes.len() / 2].iter().any(|&byte| byte != 0) {
        let what = format!(
            "{} had commits and is damaged; nothing is removed, name another folder",
            path.display()
        );
        return Err(Error::NoRecord { what });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| file(path, "cannot be read", source))
}

fn options(memory: &Memory) -> FlashOptions {
    let all = 0..memory.len();
    FlashOptions {
        depth: DEPTH,
        register: [all].into(),
        ..FlashOptions::default()
    }
}

/// Allocates `memory` bytes, or fewer if all extents fit into fewer.
fn reserve(
    memory: u64,
    layout: &StateLayout,
) -> Result<(std::sync::Arc<Memory>, delayline_line::Region), Error> {
    let all: u64 = layout.part_lens()[1] + layout.part_lens()[3];
    // Some more, because gaps between items may be too short for others.
    let enough = all + all / 8 + (1 << 20);
    Ok(Memory::new(memory.min(enough))?)
}

fn lock(path: &Path) -> Result<FolderLock, Error> {
    let path = fs::canonicalize(path).map_err(|source| file(path, "cannot be found", source))?;
    let in_use = Error::InUse { path: path.clone() };
    let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
    // Checked before the file is opened, because closing it again would release a lock that
    // this process holds.
    if here.contains(&path) {
        return Err(in_use);
    }
    let name = path.join("lock");
    let mut open = File::options();
    let open = open.write(true).create(true).truncate(false).open(&name);
    let lock = open.map_err(|source| file(&name, "cannot be opened", source))?;
    // Unlike a lock of flock(2), this one is not inherited by a forked process, which may
    // outlive the store.
    match fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::ACCESS | Errno::AGAIN) => return Err(in_use),
        Err(errno) => return Err(file(&name, "cannot be locked", errno.into())),
    }
    here.push(path.clone());
    let file = Some(lock);
    Ok(FolderLock { path, file })
}

/// The folders that this process has locked. A lock does not exclude the process itself.
static HERE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The lock on a folder, released when it is dropped.
struct FolderLock {
    path: PathBuf,
    file: Option<File>,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
        // Closing the file releases the lock. That comes first: if another thread locked the
        // folder before, closing this file would release its lock.
        drop(self.file.take());
        here.retain(|path| *path != self.path);
    }
}

/// Creates a file of zeros that takes no room on the drive yet.
fn sparse(path: &Path, len: u64) -> Result<(), Error> {
    remove(path)?;
    let create = File::create_new(path).and_then(|created| created.set_len(len));
    create.map_err(|source| file(path, "cannot be created", source))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(file(path, "cannot be removed", source))
        }
        _ => Ok(()),
    }
}

fn unlink(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|source| file(path, "cannot be removed", source))
}

fn file(path: &Path, what: &'static str, source: io::Error) -> Error {
    let path = path.to_owned();
    Error::File { path, what, source }
}
