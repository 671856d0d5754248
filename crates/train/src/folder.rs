//! A store as a folder: its files, who has it, and where activations go. It does not
//! know what the bytes mean.

use crate::record::Record;
use crate::store::layout_of;
use crate::{Activations, Error, StateLayout, StateStore};
use delayline_medium::{Flash, FlashOptions, Memory};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Operations at once.
const DEPTH: usize = 64;

/// Bytes of address space in the file that activations go to; they take room on the
/// drive as they are written.
const SPILL: u64 = 1 << 40;

/// A store on a drive. It is used by one process.
pub struct StateFolder {
    store: StateStore<Flash>,
    path: PathBuf,
    _lock: FolderLock,
}

impl StateFolder {
    /// Creates the store in a new or empty folder, with room on the drive for all of it.
    ///
    /// # Errors
    /// [`Error`]: there is one already, there is no room, or another process has it.
    pub fn create(path: &Path, memory: u64, layout: StateLayout) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| file(path, "cannot create it", source))?;
        let lock = lock(path)?;
        // What an earlier attempt left behind before its first commit is no store. The
        // second commit is the first to be written to the first half.
        let names = names(path);
        let records = fs::read(&names[0]).unwrap_or_default();
        if records[..records.len() / 2].iter().any(|&byte| byte != 0) {
            let what = format!(
                "{} had commits and is damaged, or holds a store; nothing is removed, name another folder",
                path.display()
            );
            return Err(Error::NoRecord { what });
        }
        for name in &names {
            remove(name)?;
        }
        let (memory, region) = reserve(memory, &layout)?;
        let lens = layout.part_lens();
        let files: Vec<(&PathBuf, u64)> = names.iter().zip(lens).collect();
        // Of what waits, which there may be none of, each takes room as it is written.
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

    /// Whether a folder holds a store with a commit.
    pub fn exists(path: &Path) -> bool {
        let [records, ..] = names(path);
        match fs::read(records) {
            Ok(bytes) => !matches!(Record::newest(&bytes), Err(Error::NoRecord { .. })),
            Err(_) => false,
        }
    }

    /// Opens the store as its last commit left it.
    ///
    /// # Errors
    /// [`Error`]: there is none, it is damaged, or another process has it.
    pub fn open(path: &Path, memory: u64) -> Result<Self, Error> {
        let lock = lock(path)?;
        let names = names(path);
        let records = &names[0];
        let bytes = fs::read(records).map_err(|source| file(records, "cannot read it", source))?;
        let layout = layout_of(&Record::newest(&bytes)?);
        for (name, len) in names.iter().zip(layout.part_lens()) {
            let have = fs::metadata(name).map_err(|source| file(name, "cannot read it", source))?;
            if have.len() != len {
                let what = format!(
                    "{}: it has {} bytes, and the last commit speaks of {len}; a file of another store, or cut short",
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

    /// The caller's bytes of the last commit of a store, and the lengths of its extents,
    /// without opening it.
    ///
    /// # Errors
    /// As [`StateFolder::open`].
    pub fn peek(path: &Path) -> Result<(Vec<u8>, Vec<u64>), Error> {
        let [records, ..] = names(path);
        let bytes =
            fs::read(&records).map_err(|source| file(&records, "cannot read it", source))?;
        let record = Record::newest(&bytes)?;
        let lens = record.rows.iter().map(|row| row.len).collect();
        Ok((record.words, lens))
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
    /// Activations in so many bytes of memory, the rest in a file in `path`, which has no
    /// name and is gone when they are.
    ///
    /// # Errors
    /// [`Error`]: the file or the memory cannot be had.
    pub fn in_folder(path: &Path, memory: u64) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| file(path, "cannot create it", source))?;
        let name = path.join(format!("activations.{}", std::process::id()));
        sparse(&name, SPILL)?;
        let (memory, region) = Memory::new(memory)?;
        let names = [&name];
        let medium = Flash::open_for_writing(&names, memory.clone(), &options(&memory))?;
        unlink(&name)?;
        Ok(Self::new(medium, (memory, region), SPILL))
    }
}

fn names(path: &Path) -> [PathBuf; 5] {
    ["commits", "state.0", "state.1", "waiting.0", "waiting.1"].map(|name| path.join(name))
}

fn options(memory: &Memory) -> FlashOptions {
    let all = 0..memory.len();
    FlashOptions {
        depth: DEPTH,
        register: [all].into(),
        ..FlashOptions::default()
    }
}

/// So much memory, or as much as everything takes.
fn reserve(
    memory: u64,
    layout: &StateLayout,
) -> Result<(std::sync::Arc<Memory>, delayline_line::Region), Error> {
    let all: u64 = layout.part_lens()[1] + layout.part_lens()[3];
    // Room beside it, for items that lie badly.
    let enough = all + all / 8 + (1 << 20);
    Ok(Memory::new(memory.min(enough))?)
}

fn lock(path: &Path) -> Result<FolderLock, Error> {
    let path = fs::canonicalize(path).map_err(|source| file(path, "cannot find it", source))?;
    let in_use = Error::InUse { path: path.clone() };
    let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
    // Before the file is opened: closing it again would end the lock that is held.
    if here.contains(&path) {
        return Err(in_use);
    }
    let name = path.join("lock");
    let mut open = File::options();
    let open = open.write(true).create(true).truncate(false).open(&name);
    let lock = open.map_err(|source| file(&name, "cannot open it", source))?;
    // Unlike others, this lock is not inherited by a forked process, which may live on.
    match fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::ACCESS | Errno::AGAIN) => return Err(in_use),
        Err(errno) => return Err(file(&name, "cannot lock it", errno.into())),
    }
    here.push(path.clone());
    let file = Some(lock);
    Ok(FolderLock { path, file })
}

/// The folders that this process has; its locks do not tell it of its own.
static HERE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder is this process's.
struct FolderLock {
    path: PathBuf,
    file: Option<File>,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
        // It ends with the file, before anybody else in this process may take it.
        drop(self.file.take());
        here.retain(|path| *path != self.path);
    }
}

/// A file of zeros that takes no room yet.
fn sparse(path: &Path, len: u64) -> Result<(), Error> {
    remove(path)?;
    let create = File::create_new(path).and_then(|created| created.set_len(len));
    create.map_err(|source| file(path, "cannot create it", source))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(file(path, "cannot remove it", source))
        }
        _ => Ok(()),
    }
}

fn unlink(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|source| file(path, "cannot remove it", source))
}

fn file(path: &Path, what: &'static str, source: std::io::Error) -> Error {
    let path = path.to_owned();
    Error::File { path, what, source }
}
