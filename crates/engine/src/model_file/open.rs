//! Opens the files of a part and reads its header, leaving nothing in the page cache. Does
//! not interpret headers.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;

use delayline_medium::Fingerprint;

use super::{Part, PartFile};
use crate::error::{Error, mib};
use crate::striped::{InOrder, Manifest};

/// A header up to this length in bytes is read whatever the budget is; the memory that
/// it takes is measured later.
const USUAL_HEADER: u64 = 16 << 20;

/// A longer one may be an eighth of the budget: while the model is loaded it is in memory
/// here, in the file that llama.cpp reads, and in pieces two or three times more.
const HEADER_SHARE: u64 = 8;

/// Opens all files of a striped part.
pub(super) fn open_striped(
    path: &Path,
    list: &Manifest,
    no: usize,
    budget: u64,
) -> Result<Part, Error> {
    let part = &list.parts[no];
    let mut files = Vec::new();
    let drives = part.files.len();
    for (drive, (path, len)) in part.files.iter().zip(list.lens(no)).enumerate() {
        let place = |message: String| Error::Open {
            path: path.clone(),
            message: format!(
                "{message} (drive {} of {drives} of {})",
                drive + 1,
                part.name
            ),
        };
        let file = open_file(path).map_err(|error| match error {
            Error::Open { message, .. } => place(message),
            other => other,
        })?;
        if file.fingerprint.size != len {
            return Err(place(format!(
                "it has {} bytes, but {len} were written",
                file.fingerprint.size
            )));
        }
        files.push(file);
    }
    let mut source = InOrder {
        files: files.iter().map(|file| &file.file).collect(),
        unit: list.unit,
        len: part.len,
        at: 0,
    };
    let header = read_header(&mut source, path, part.len, budget)?;
    for file in &files {
        advise(&file.file, libc::POSIX_FADV_DONTNEED);
    }
    Ok(Part {
        path: path.to_owned(),
        len: part.len,
        header,
        files,
    })
}

pub(super) fn open_part(path: &Path, budget: u64) -> Result<Part, Error> {
    let file = open_file(path)?;
    let len = file.fingerprint.size;
    let header = read_header(&mut &file.file, path, len, budget)?;
    // The page cache would count against the budget of the caller's cgroup.
    advise(&file.file, libc::POSIX_FADV_DONTNEED);
    Ok(Part {
        path: path.to_owned(),
        len,
        header,
        files: vec![file],
    })
}

fn read_header(
    source: &mut impl Read,
    path: &Path,
    len: u64,
    budget: u64,
) -> Result<Vec<u8>, Error> {
    let most = (budget / HEADER_SHARE).max(USUAL_HEADER);
    delayline_gguf::read_header(source, len, most).map_err(|error| match error {
        delayline_gguf::ReadError::TooLong { needed, .. } => Error::Budget {
            budget,
            needed: needed.saturating_mul(HEADER_SHARE),
            weights: 0,
            detail: format!(
                "its header alone has at least {}, and llama.cpp needs several times as much for it",
                mib(needed)
            ),
        },
        delayline_gguf::ReadError::Header(source) => Error::Header {
            path: path.to_owned(),
            source,
        },
        delayline_gguf::ReadError::Io(e) => Error::Open {
            path: path.to_owned(),
            message: e.to_string(),
        },
    })
}

fn open_file(path: &Path) -> Result<PartFile, Error> {
    let fail = |message: String| Error::Open {
        path: path.to_owned(),
        message,
    };
    let meta = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    if meta.is_dir() {
        return Err(fail("it is a directory; give the .gguf file itself".into()));
    }
    if !meta.is_file() {
        return Err(fail(
            "it is not a regular file, which streaming needs".into(),
        ));
    }
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let fingerprint = Fingerprint::of(&file).map_err(|e| fail(e.to_string()))?;
    advise(&file, libc::POSIX_FADV_RANDOM);
    Ok(PartFile {
        path: path.to_owned(),
        file,
        fingerprint,
    })
}

/// Advice on a whole file; a system that ignores it loses only speed.
pub(crate) fn advise(file: &File, advice: i32) {
    // SAFETY: advice on an open descriptor.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, advice) };
}

/// The first hole of a file within `range`, if the file system reports one.
pub(super) fn first_hole(file: &File, range: Range<u64>) -> Option<Range<u64>> {
    let seek = |from: u64, whence: i32| {
        let from = libc::off_t::try_from(from).ok()?;
        // SAFETY: a query on an open descriptor; its position is not used.
        let found = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
        u64::try_from(found).ok()
    };
    let start = seek(range.start, libc::SEEK_HOLE).filter(|&start| start < range.end)?;
    // The hole may reach to the end of the file.
    let end = seek(start, libc::SEEK_DATA).unwrap_or(range.end);
    Some(start..end.min(range.end))
}
