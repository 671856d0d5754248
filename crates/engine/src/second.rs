//! A second reading of what stays in memory, where no seal says what it should be: a
//! thread reads it from the files once more, little by little, and compares sums. What a
//! drive got wrong once stays wrong otherwise, for as long as the program runs.
//!
//! Where the two differ, either may be the wrong one. Then nothing is computed, and the
//! place is read until it brings what is in memory: a drive that was ill and is well again
//! is forgiven, memory that is wrong never is.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use delayline_gguf::block_hash;
use delayline_medium::{CHECK_BLOCK, KnownRead, sum_of_blocks};

use crate::model_file::ModelFile;

/// Read at a time, in bytes: the thread's memory.
const STEP: usize = 64 << 10;

/// Of buffer, offset and length: who streams the file has switched direct I/O on for it,
/// also for this thread.
const ALIGN: usize = delayline_plan::ALIGN as usize;

/// Between two of them: some 20 MB/s, which no drive that streams notices.
const PAUSE: Duration = Duration::from_millis(3);

/// Until what differed, or could not be read, is read once more.
const AGAIN: Duration = Duration::from_secs(1);

/// The thread; dropping this ends it.
#[derive(Debug)]
pub struct SecondReading {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl SecondReading {
    /// Begins to read again what was read so. None where the parts lie on several drives,
    /// or no thread can be had.
    pub fn start(file: &ModelFile, reads: Vec<KnownRead>) -> Option<Self> {
        let mut files = Vec::new();
        for part in file.parts() {
            let [only] = &part.files[..] else { return None };
            files.push((only.path.display().to_string(), only.file.try_clone().ok()?));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(None));
        let (asked, told) = (stop.clone(), found.clone());
        let work = move || {
            let tell = |news| *told.lock().unwrap_or_else(PoisonError::into_inner) = news;
            compare(&files, reads, &tell, &asked);
        };
        let thread = thread::Builder::new().name("second".into()).spawn(work);
        Some(Self {
            stop,
            found,
            thread: Some(thread.ok()?),
        })
    }

    /// What is wrong with what stays, once that is known.
    pub fn found(&self) -> Option<String> {
        let found = self.found.lock();
        found.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether all has been read again.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for SecondReading {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Compares until all is as it was read first, or until it is to stop. `tell` learns what
/// differs, and that it does no more.
fn compare(
    files: &[(String, File)],
    mut reads: Vec<KnownRead>,
    tell: &dyn Fn(Option<String>),
    stop: &AtomicBool,
) {
    let mut room = vec![0; STEP + ALIGN];
    let start = room.as_ptr().align_offset(ALIGN);
    let bytes = &mut room[start..start + STEP];
    while !reads.is_empty() {
        let mut unread = Vec::new();
        for read in reads {
            let (name, file) = &files[usize::from(read.part)];
            let mut differs = false;
            loop {
                match sum_again(file, &read, bytes, stop) {
                    Ok(None) => return,
                    Ok(Some(sum)) if sum == read.sum => break,
                    Ok(Some(_)) => {
                        differs = true;
                        tell(Some(format!(
                            "{} bytes at {} of {name}, which stay in memory, were others when \
                             they were read again: the drive or its cable is failing, or the file \
                             has changed",
                            read.len, read.offset
                        )));
                    }
                    // What cannot be read now is no proof of anything.
                    Err(_) if !differs => {
                        unread.push(read);
                        break;
                    }
                    Err(_) => {}
                }
                if !rest(stop) {
                    return;
                }
            }
            if differs {
                tell(None);
            }
        }
        reads = unread;
        if !reads.is_empty() && !rest(stop) {
            return;
        }
    }
}

/// Waits until it is worth reading again; false when it is to stop.
fn rest(stop: &AtomicBool) -> bool {
    let end = Instant::now() + AGAIN;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
    }
    !stop.load(Ordering::Relaxed)
}

/// The sum of what is there now; none when it is to stop.
fn sum_again(
    file: &File,
    read: &KnownRead,
    bytes: &mut [u8],
    stop: &AtomicBool,
) -> io::Result<Option<u64>> {
    let (mut sum, mut done) = (0, 0);
    while done < read.len {
        thread::sleep(PAUSE);
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let at = read.offset + u64::from(done);
        let want = bytes.len().min((read.len - done) as usize);
        let whole = &mut bytes[..want.next_multiple_of(ALIGN)];
        if read_whole_pages(file, whole, at)? < want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sum = sum_of_blocks(sum, at / CHECK_BLOCK, &whole[..want], block_hash);
        // Where there is no direct I/O, the page cache counts in the budget.
        let (at, len) = (at as libc::off_t, want as libc::off_t);
        // SAFETY: advice on an open descriptor.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), at, len, libc::POSIX_FADV_DONTNEED) };
        done += want as u32;
    }
    Ok(Some(sum))
}

/// Reads until the buffer is full or the file ends, as it does within a page.
fn read_whole_pages(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() && got.is_multiple_of(ALIGN) {
        match file.read_at(&mut bytes[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_medium::{Flash, FlashOptions, Memory};
    use delayline_synth::{Blueprint, Quant};

    fn wait(second: &SecondReading) -> Option<String> {
        while !second.is_over() && second.found().is_none() {
            thread::yield_now();
        }
        second.found()
    }

    #[test]
    fn what_differs_is_found_and_what_does_not_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("m.gguf");
        let model = Blueprint::named("tiny-llama").expect("a shape");
        delayline_synth::write(&model, Quant::Q4_0, 1, &path, &mut |_, _| {}).expect("a model");
        let bytes = std::fs::read(&path).expect("there");
        let file = ModelFile::open(&path).expect("sound");
        let read = |at: usize, len: usize| KnownRead {
            part: 0,
            offset: at as u64,
            len: len as u32,
            sum: sum_of_blocks(0, at as u64 / CHECK_BLOCK, &bytes[at..at + len], block_hash),
        };
        let last = bytes.len() / 4096 * 4096;
        let reads = vec![
            read(8192, 3 * STEP + 4096),
            read(0, 4096),
            read(last, bytes.len() - last),
        ];
        // Who streams the file reads past the page cache, and with it this thread does.
        let streamed = file.parts()[0].files[0]
            .file
            .try_clone()
            .expect("a descriptor");
        let (memory, _) = Memory::new(1 << 20).expect("memory");
        let options = FlashOptions::default();
        let written = path.clone();
        Flash::from_files(vec![(path, streamed)], memory, &options).expect("a medium");
        let second = SecondReading::start(&file, reads.clone()).expect("a thread");
        assert_eq!(wait(&second), None);
        for wrong in 0..reads.len() {
            let mut reads = reads.clone();
            reads[wrong].sum ^= 1 << wrong;
            let second = SecondReading::start(&file, reads).expect("a thread");
            let found = wait(&second).expect("it is found");
            assert!(found.contains("m.gguf"), "{found}");
            // Memory that is wrong stays so.
            thread::sleep(2 * AGAIN);
            assert_eq!(second.found(), Some(found));
        }
        // A drive that was ill and is well again is forgiven.
        let place = std::fs::OpenOptions::new().write(true).open(&written);
        let place = place.expect("can write");
        place.write_all_at(&[1; 4096], 8192).expect("written");
        let second = SecondReading::start(&file, reads.clone()).expect("a thread");
        wait(&second).expect("it is found");
        place
            .write_all_at(&bytes[8192..8192 + 4096], 8192)
            .expect("written");
        while !second.is_over() {
            thread::yield_now();
        }
        assert_eq!(second.found(), None);
        // It ends when nobody wants to know any more.
        drop(SecondReading::start(&file, vec![reads[0]; 1000]));
    }
}
