//! A second reading of resident bytes of parts without a seal: a thread slowly reads them
//! from the files once more and compares sums. Otherwise one wrong read would stay in
//! memory as long as the program runs.
//!
//! If the two differ, either may be wrong. Then nothing is computed, and the bytes are read
//! again until they agree with memory: a drive may recover, wrong memory never does.

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

/// Bytes read at a time: the thread's memory.
const STEP: usize = 64 << 10;

/// Alignment of buffer, offset and length: the file may be open for direct I/O.
const ALIGN: usize = delayline_plan::ALIGN as usize;

/// Pause between reads: about 20 MB/s, which hardly slows a drive that streams.
const PAUSE: Duration = Duration::from_millis(3);

/// Time until bytes that differed or could not be read are read again.
const AGAIN: Duration = Duration::from_secs(1);

/// The thread; dropping this ends it.
#[derive(Debug)]
pub struct SecondReading {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl SecondReading {
    /// Starts to repeat `reads`. `None` if the parts are on several drives, or no thread
    /// can be started.
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

    /// The difference found, while it persists.
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

/// Compares until all reads agree, or until `stop`. Calls `tell` with a difference, and
/// with `None` once it is gone.
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
                    // A read error proves nothing: try again later.
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

/// Waits for [`AGAIN`]; returns false if stopped.
fn rest(stop: &AtomicBool) -> bool {
    let end = Instant::now() + AGAIN;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
    }
    !stop.load(Ordering::Relaxed)
}

/// The sum of the bytes as they are read now; `None` if stopped.
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
        // Without direct I/O the page cache would count in the budget.
        let (at, len) = (at as libc::off_t, want as libc::off_t);
        // SAFETY: advice on an open descriptor.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), at, len, libc::POSIX_FADV_DONTNEED) };
        done += want as u32;
    }
    Ok(Some(sum))
}

/// Reads until the buffer is full or the file ends, which may be within a page.
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
        // A medium over the file switches it to direct I/O, for this thread as well.
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
            // Wrong memory stays wrong.
            thread::sleep(2 * AGAIN);
            assert_eq!(second.found(), Some(found));
        }
        // A drive that returns right bytes again ends the difference.
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
        // Dropping it ends the thread.
        drop(SecondReading::start(&file, vec![reads[0]; 1000]));
    }
}
