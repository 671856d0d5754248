//! Fetches one file: in pieces, from where an earlier fetch ended; checks its checksum,
//! and only then gives it its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use crate::{Error, Hub, RemoteFile};

/// Bytes that one request asks for: the most that has to be repeated if a connection
/// breaks.
const PIECE: u64 = 64 << 20;

/// Bytes that are read, hashed and written at a time.
const STEP: usize = 256 << 10;

/// Consecutive requests without progress after which the fetch fails.
const TRIES: u32 = 5;

/// Pause after the first of them; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// A file to fetch.
pub struct Whence<'a> {
    /// The hub that has it.
    pub hub: &'a Hub,
    /// Its path on the hub.
    pub at: String,
    /// Its expected length and checksum.
    pub file: &'a RemoteFile,
}

/// Checks that there is room for the bytes still to be fetched.
pub fn check_room(blobs: &Path, files: &[RemoteFile]) -> Result<(), Error> {
    let there = |file: &RemoteFile| {
        let blob = blobs.join(&file.sha256);
        let found = fs::metadata(&blob).or_else(|_| fs::metadata(unfinished(&blob)));
        found.map_or(0, |found| found.len().min(file.len))
    };
    let missing = files.iter().map(|file| file.len - there(file));
    let needed = missing.fold(0, u64::saturating_add);
    let free = rustix::fs::statvfs(blobs)
        .map_err(|error| Error::io(blobs)(error.into()))
        .map(|found| found.f_bavail.saturating_mul(found.f_frsize))?;
    match needed > free {
        true => Err(Error::NoRoom {
            folder: blobs.to_owned(),
            free,
            needed,
        }),
        false => Ok(()),
    }
}

/// Locks a file, waiting until no other process holds the lock; `go_on` may end the wait.
pub fn lock(path: &Path, go_on: &mut dyn FnMut() -> bool) -> Result<File, Error> {
    let file = File::create(path).map_err(Error::io(path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => wait(Duration::from_millis(200), go_on)?,
            Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
        }
    }
}

fn wait(time: Duration, go_on: &mut dyn FnMut() -> bool) -> Result<(), Error> {
    if !go_on() {
        return Err(Error::Interrupted);
    }
    thread::sleep(time);
    Ok(())
}

/// The path of a blob that is being fetched, as the hub's own tools name it.
fn unfinished(blob: &Path) -> PathBuf {
    blob.with_extension("incomplete")
}

/// The part of a file that has been fetched, with the hash of its bytes.
struct Partial {
    path: PathBuf,
    file: File,
    sum: Sha256,
    len: u64,
}

impl Partial {
    /// Opens what there is of a file of `len_max` bytes and hashes it; empties a file that
    /// is longer.
    fn open(path: PathBuf, len_max: u64, told: &mut dyn FnMut(u64) -> bool) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io(&path))?;
        let mut partial = Self {
            path,
            file,
            sum: Sha256::new(),
            len: 0,
        };
        let mut bytes = vec![0; STEP];
        loop {
            let got = partial.file.read(&mut bytes);
            let got = got.map_err(Error::io(&partial.path))?;
            partial.sum.update(&bytes[..got]);
            partial.len += got as u64;
            if partial.len > len_max {
                partial.restart()?;
                return Ok(partial);
            }
            if got == 0 {
                return Ok(partial);
            }
            if !told(partial.len) {
                return Err(Error::Interrupted);
            }
        }
    }

    fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.file.set_len(0);
        emptied
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(Error::io(&self.path))?;
        (self.sum, self.len) = (Sha256::new(), 0);
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        self.sum.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// Fetches a file into the folder of blobs, unless it is there. `told` is called with the
/// bytes fetched so far, and returns false to interrupt.
pub fn download(
    whence: &Whence<'_>,
    blobs: &Path,
    told: &mut dyn FnMut(u64) -> bool,
) -> Result<(), Error> {
    let RemoteFile { path, len, sha256 } = whence.file;
    let blob = blobs.join(sha256);
    if fs::metadata(&blob).is_ok_and(|found| found.len() == *len) {
        told(*len);
        return Ok(());
    }
    let mut partial = Partial::open(unfinished(&blob), *len, told)?;
    let (mut tries, mut best) = (0, partial.len);
    while partial.len < *len {
        let until = partial.len.saturating_add(PIECE).min(*len);
        let why = fetch_piece(whence, &mut partial, until, told)?;
        // A server without ranges starts from the beginning each time; bytes fetched
        // before are not progress.
        if partial.len > best {
            (tries, best) = (0, partial.len);
            continue;
        }
        tries += 1;
        if tries == TRIES {
            return Err(Error::Stopped {
                file: path.display().to_string(),
                got: partial.len,
                len: *len,
                why: why.unwrap_or_else(|| "it closed the connection".into()),
            });
        }
        wait(PAUSE * 2u32.pow(tries - 1), &mut || told(partial.len))?;
    }
    let sum: String = partial
        .sum
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if sum != *sha256 {
        fs::remove_file(&partial.path).map_err(Error::io(&partial.path))?;
        let file = path.display().to_string();
        return Err(Error::WrongBytes { file });
    }
    partial.file.sync_all().map_err(Error::io(&partial.path))?;
    fs::rename(&partial.path, &blob).map_err(Error::io(&blob))
}

/// Requests the bytes from the end of the partial file up to `until`, and appends what is
/// received; returns the reason if it ended early and the reason is known.
fn fetch_piece(
    whence: &Whence<'_>,
    partial: &mut Partial,
    until: u64,
    told: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<String>, Error> {
    let name = whence.file.path.display().to_string();
    let answer = match whence.hub.piece(&whence.at, partial.len, until) {
        Err(Error::Unreachable { why, .. }) => return Ok(Some(why)),
        answer => answer?,
    };
    let most = match answer.status().as_u16() {
        206 => match content_range(&answer) {
            Some((from, total)) if from == partial.len && total == whence.file.len => until,
            _ => {
                let what = format!("{name}: a piece of another place or of another length");
                return Err(whence.hub.invalid_response(what));
            }
        },
        // The server ignores ranges and sends the whole file.
        200 => {
            partial.restart()?;
            whence.file.len
        }
        429 | 500..=599 => return Ok(Some(format!("status {}", answer.status()))),
        416 => {
            let what = format!("{name} ends before byte {}", partial.len);
            return Err(whence.hub.invalid_response(what));
        }
        _ => {
            whence.hub.accept(&answer, &name)?;
            let what = format!("status {} for {name}", answer.status());
            return Err(whence.hub.invalid_response(what));
        }
    };
    let mut body = answer.into_body().into_reader();
    let mut bytes = vec![0; STEP];
    loop {
        match body.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(got) if partial.len + got as u64 > most => {
                let what = format!("more bytes than {name} has");
                return Err(whence.hub.invalid_response(what));
            }
            Ok(got) => partial.push(&bytes[..got])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Some(error.to_string())),
        }
        if !told(partial.len) {
            return Err(Error::Interrupted);
        }
    }
}

/// The first byte of a piece and the length of the whole file: `bytes 0-99/1234`.
fn content_range(answer: &Response<Body>) -> Option<(u64, u64)> {
    let text = answer.headers().get("content-range")?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()?))
}

/// Links a fetched file under its name in the repository.
pub fn link(blobs: &Path, snapshot: &Path, file: &RemoteFile) -> Result<(), Error> {
    let name = snapshot.join(&file.path);
    let folder = name.parent().unwrap_or(snapshot);
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    // Relative: from the file's folder up to that of the repository.
    let mut target: PathBuf = file.path.components().map(|_| "..").collect();
    target.extend(["..".as_ref(), Path::new("blobs"), Path::new(&file.sha256)]);
    if fs::read_link(&name).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let made = match fs::remove_file(&name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::os::unix::fs::symlink(&target, &name),
    };
    // On a file system without symbolic links the blob itself is moved there.
    let blob = blobs.join(&file.sha256);
    made.or_else(|_| fs::rename(&blob, &name))
        .map_err(Error::io(&name))
}
