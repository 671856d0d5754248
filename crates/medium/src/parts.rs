//! The files of a model, open and in the mode in which they can be read. It
//! does not know how reads are issued.

use crate::direct::{self, DirectIo};
use crate::{Fingerprint, Notice, OpenError};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// How the page cache is to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Direct I/O where it is what it claims to be, otherwise [`Access::Buffered`].
    #[default]
    Direct,
    /// Through the page cache, dropping from it what was read.
    Buffered,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Part {
    pub path: PathBuf,
    pub len: u64,
    /// What it really has become.
    pub access: Access,
    pub fingerprint: Fingerprint,
}

impl Part {
    /// Its path for messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Opens a file for reading, refusing what cannot be read at an offset.
pub(crate) fn open(path: &Path) -> Result<File, OpenError> {
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
    File::open(path).map_err(failed)
}

/// Readies an open file, telling in `notices` what is not as it should be.
pub(crate) fn ready(
    path: PathBuf,
    file: &mut File,
    access: Access,
    notices: &mut Vec<Notice>,
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
                notices.push(Notice::DirectCached { path: path.clone() });
                Access::Buffered
            }
            DirectIo::Refused => {
                notices.push(Notice::DirectRefused { path: path.clone() });
                Access::Buffered
            }
        },
    };
    if access == Access::Buffered {
        // Switching off cannot be refused in a way that matters: where direct
        // I/O was never on, this changes nothing.
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

/// Length and identity. A block device has its length at its end only.
fn measure(file: &mut File) -> io::Result<(u64, Fingerprint)> {
    Ok((file.seek(SeekFrom::End(0))?, Fingerprint::of(file)?))
}
