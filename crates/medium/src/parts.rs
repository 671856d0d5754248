//! The files of a medium, open and in the mode in which they can be read and
//! written. It does not know how operations are issued.

use crate::direct::{self, DirectIo};
use crate::error::Fallback;
use crate::{Fingerprint, OpenError};
use delayline_line::MediumEvent;
use delayline_plan::ALIGN;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// How the page cache is to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Direct I/O where it really bypasses the page cache, otherwise [`Access::Buffered`].
    #[default]
    Direct,
    /// Through the page cache, from which bytes that were read are dropped.
    Buffered,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Part {
    pub path: PathBuf,
    pub len: u64,
    /// The mode in use, after any fallback.
    pub access: Access,
    pub fingerprint: Fingerprint,
}

impl Part {
    /// Its path for messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Opens a file for reading, and with `write` for writing too. Refuses files that
/// cannot be read at an offset.
pub(crate) fn open(path: &Path, write: bool) -> Result<File, OpenError> {
    let failed = |source| OpenError::Part {
        path: path.to_owned(),
        source,
    };
    // Asked before opening: opening a pipe would wait for its other end.
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(OpenError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut open = File::options();
    open.read(true).write(write).open(path).map_err(failed)
}

/// Creates a file of `len` bytes, with room on the drive for all of them where
/// the file system can promise that, and a name that survives a power cut.
pub(crate) fn create(path: &Path, len: u64) -> Result<File, OpenError> {
    if len == 0 || !len.is_multiple_of(ALIGN) {
        let path = path.to_owned();
        return Err(OpenError::Length { path, len });
    }
    let mut new = File::options();
    new.read(true).write(true).create_new(true);
    let failed = |source| OpenError::Create {
        path: path.to_owned(),
        len,
        source,
    };
    let file = new.open(path).map_err(failed)?;
    let sized = allocate(&file, len)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path));
    match sized {
        Ok(()) => Ok(file),
        Err(error) => {
            // An incomplete file is of no use; the error to report is the first one.
            let _ = std::fs::remove_file(path);
            Err(failed(error))
        }
    }
}

/// Makes a file `len` bytes long.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    let end = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    loop {
        // SAFETY: a call on an open descriptor; memory is not involved.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, end) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return file.set_len(len),
            _ => return Err(error),
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Prepares an open file; a fallback is added to `events`.
pub(crate) fn ready(
    path: PathBuf,
    file: &mut File,
    access: Access,
    events: &mut Vec<MediumEvent>,
) -> Result<Part, OpenError> {
    let (len, fingerprint) = match measure(file) {
        Ok(found) => found,
        Err(source) => return Err(OpenError::Part { path, source }),
    };
    let access = match access {
        Access::Buffered => Access::Buffered,
        Access::Direct => match direct::examine(file, len) {
            DirectIo::Bypasses | DirectIo::Unknown => Access::Direct,
            DirectIo::Cached => {
                events.push(Fallback::DirectCached { path: path.clone() }.into());
                Access::Buffered
            }
            DirectIo::Refused => {
                events.push(Fallback::DirectRefused { path: path.clone() }.into());
                Access::Buffered
            }
        },
    };
    if access == Access::Buffered {
        // An error does not matter: it means that direct I/O was never on.
        let _ = direct::set_direct(file, false);
        direct::no_read_ahead(file);
    }
    Ok(Part {
        path,
        len,
        access,
        fingerprint,
    })
}

/// Length and fingerprint. Only seeking to its end tells the length of a block device.
fn measure(file: &mut File) -> io::Result<(u64, Fingerprint)> {
    Ok((file.seek(SeekFrom::End(0))?, Fingerprint::of(file)?))
}
