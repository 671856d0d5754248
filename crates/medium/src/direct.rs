//! Whether direct I/O on a file really bypasses the page cache; reads and writes of
//! single ranges; and the page cache itself: asking what is in it, dropping from it. It
//! knows one file at a time and nothing of who reads it.

use crate::Memory;
use delayline_plan::ALIGN;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What a file system makes of direct I/O on one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// Reads leave the page cache alone, as they should.
    Bypasses,
    /// Reads are accepted but fill the page cache all the same.
    Cached,
    /// The flag or the first read is refused.
    Refused,
    /// It cannot be found out: the file is empty, or its pages are in the cache
    /// and stay there (always so on tmpfs), or the system does not say.
    Unknown,
}

/// Finds out by reading a few pages that are not in the page cache and looking
/// whether they are afterwards. Leaves `file` with direct I/O switched on unless
/// the answer is [`DirectIo::Refused`].
pub(crate) fn examine(file: &File, len: u64) -> DirectIo {
    /// Places looked at; a few may be in use by others, or not yet written out.
    const PLACES: u64 = 16;
    /// Cold places that were cached by the read, after which the answer stands.
    const ENOUGH: usize = 3;
    if set_direct(file, true).is_err() {
        return DirectIo::Refused;
    }
    let Ok((buffer, _)) = Memory::new(ALIGN) else {
        return DirectIo::Unknown;
    };
    let mut cached = 0;
    for place in 0..PLACES.min(len.div_ceil(ALIGN)) {
        let offset = (len / PLACES * place) / ALIGN * ALIGN;
        // The cache drops large folios only whole: cover the largest.
        drop_cached(file, offset / crate::HUGE * crate::HUGE, crate::HUGE);
        let cold = matches!(is_cached(file, offset), Ok(false));
        match read_once(file, &buffer, 0, ALIGN as u32, offset) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let _ = set_direct(file, false);
                return DirectIo::Refused;
            }
            // A bad sector here is for the reads themselves to report.
            Err(_) => continue,
            Ok(_) if !cold => continue,
            Ok(_) => {}
        }
        match is_cached(file, offset) {
            // One is enough: what fills the cache fills it every time, while
            // someone else's reading can make a page appear at any moment.
            Ok(false) => return DirectIo::Bypasses,
            Ok(true) => cached += 1,
            Err(_) => {}
        }
        if cached == ENOUGH {
            break;
        }
    }
    if cached > 0 {
        DirectIo::Cached
    } else {
        DirectIo::Unknown
    }
}

/// Switches direct I/O on or off for this open file.
///
/// # Errors
/// `EINVAL` where the file system does not have it.
pub(crate) fn set_direct(file: &File, on: bool) -> io::Result<()> {
    // SAFETY: asks for the flags of a descriptor that `file` keeps open.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = if on {
        flags | libc::O_DIRECT
    } else {
        flags & !libc::O_DIRECT
    };
    // SAFETY: sets flags of the same descriptor; memory is not involved.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads once into `memory`, trying again only when interrupted; returns how
/// many bytes came.
///
/// # Errors
/// The system's.
pub(crate) fn read_once(
    file: &File,
    memory: &Memory,
    at: u64,
    len: u32,
    offset: u64,
) -> io::Result<u32> {
    let (to, fd) = (memory.bytes_ptr(at, len), file.as_raw_fd());
    // SAFETY: `bytes_ptr` has checked that the bytes are within the memory, which
    // the caller keeps; the kernel writes them, Rust sees atomics.
    unless_interrupted(|| unsafe {
        libc::pread(fd, to.cast(), len as usize, offset as libc::off_t)
    })
}

/// Writes once from `memory`, trying again only when interrupted; returns how
/// many bytes went.
///
/// # Errors
/// The system's.
pub(crate) fn write_once(
    file: &File,
    memory: &Memory,
    at: u64,
    len: u32,
    offset: u64,
) -> io::Result<u32> {
    let (from, fd) = (memory.bytes_ptr(at, len), file.as_raw_fd());
    // SAFETY: as in `read_once`; the kernel only reads the bytes.
    unless_interrupted(|| unsafe {
        libc::pwrite(fd, from.cast(), len as usize, offset as libc::off_t)
    })
}

fn unless_interrupted(call: impl Fn() -> isize) -> io::Result<u32> {
    loop {
        if let Ok(n) = u32::try_from(call()) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Asks that the page cache drop these bytes of the file; `len` 0 means to its
/// end. Advice: pages in use or not yet written stay.
pub(crate) fn drop_cached(file: &File, offset: u64, len: u64) {
    advise(file, offset, len, libc::POSIX_FADV_DONTNEED);
}

/// Asks the kernel not to read ahead: it does not know the order of reads.
pub(crate) fn no_read_ahead(file: &File) {
    advise(file, 0, 0, libc::POSIX_FADV_RANDOM);
}

fn advise(file: &File, offset: u64, len: u64, advice: i32) {
    // SAFETY: advice on an open descriptor; memory is not involved.
    unsafe {
        libc::posix_fadvise(
            file.as_raw_fd(),
            offset as libc::off_t,
            len as libc::off_t,
            advice,
        )
    };
}

/// Whether the page at `offset`, a multiple of [`ALIGN`], is in the page cache.
/// The kernel reports every page as cached to a caller who may not write to the file.
pub(crate) fn is_cached(file: &File, offset: u64) -> io::Result<bool> {
    let len = ALIGN as usize;
    // SAFETY: a new mapping at an address of the kernel's choice, never read.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            offset as libc::off_t,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // One byte for each page; no system has pages smaller than ALIGN.
    let mut state = [0u8; 1];
    // SAFETY: the range is the mapping just made; the answer is one byte a page
    // and the range is at most one page.
    let rc = unsafe { libc::mincore(page, len, state.as_mut_ptr()) };
    let result = if rc == 0 {
        Ok(state[0] & 1 == 1)
    } else {
        Err(io::Error::last_os_error())
    };
    // SAFETY: the same mapping, to which there is no other pointer.
    unsafe { libc::munmap(page, len) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fallback;
    use crate::{Access, Flash, FlashOptions, HUGE, IoBackend, findings};
    use delayline_line::{Medium, MediumEvent, Op, Region};
    use delayline_testing::cannot_run;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    /// Pages of the file that are in the page cache.
    fn cached(path: &Path) -> u64 {
        let file = File::open(path).unwrap();
        let pages = file.metadata().unwrap().len().div_ceil(ALIGN);
        (0..pages)
            .filter(|page| is_cached(&file, page * ALIGN).unwrap())
            .count() as u64
    }

    /// A file of 64 pages, written out.
    fn written_in(dir: &Path) -> tempfile::NamedTempFile {
        let temp = tempfile::NamedTempFile::new_in(dir).unwrap();
        temp.as_file()
            .write_all_at(&[7; 64 * ALIGN as usize], 0)
            .unwrap();
        temp.as_file().sync_all().unwrap();
        drop_cached(temp.as_file(), 0, 0);
        temp
    }

    /// Such a file that is on the drive and not in the page cache, or
    /// `None` where files are in memory.
    fn cold() -> Option<tempfile::NamedTempFile> {
        // The folder for temporary files may be in memory; that of the build is not.
        let program = std::env::current_exe().unwrap();
        let temp = written_in(program.parent().unwrap());
        let here = findings(temp.path()).unwrap();
        if here.file_system == "tmpfs" || cached(temp.path()) > 0 {
            cannot_run(format!("files stay in memory on {}", here.file_system));
            return None;
        }
        Some(temp)
    }

    #[test]
    fn the_page_cache_is_seen_and_dropped() {
        let Some(temp) = cold() else { return };
        let (buffer, _) = Memory::new(HUGE).unwrap();
        no_read_ahead(temp.as_file());
        assert_eq!(
            read_once(temp.as_file(), &buffer, 0, 8 * ALIGN as u32, 16 * ALIGN).unwrap(),
            32768
        );
        assert_eq!(cached(temp.path()), 8);
        drop_cached(temp.as_file(), 18 * ALIGN, 3 * ALIGN);
        assert_eq!(cached(temp.path()), 5);
        drop_cached(temp.as_file(), 0, 0);
        assert_eq!(cached(temp.path()), 0);
    }

    #[test]
    fn what_is_read_does_not_stay_in_the_page_cache() {
        for access in [Access::Direct, Access::Buffered] {
            for backend in [IoBackend::Auto, IoBackend::Threads] {
                let Some(temp) = cold() else { return };
                let (memory, region) = Memory::new(64 * ALIGN).unwrap();
                let options = FlashOptions {
                    depth: 4,
                    backend,
                    access,
                    ..FlashOptions::default()
                };
                let mut flash = Flash::open(&[temp.path()], memory, &options).unwrap();
                read_all(&mut flash, region);
                assert_eq!(cached(temp.path()), 0, "{flash}");
            }
        }
    }

    fn events(flash: &mut Flash) -> Vec<MediumEvent> {
        let mut told = Vec::new();
        flash.events(&mut told);
        told
    }

    /// Reads a file of [`cold`] in four parts.
    fn read_all(flash: &mut Flash, mut region: Region) {
        let (mut done, quarter) = (Vec::new(), 16 * ALIGN);
        for id in 0..4 {
            let buffer = region.lend(id * quarter, quarter as u32);
            flash.submit(Op::read(id, 0, id * quarter, buffer));
        }
        while done.len() < 4 {
            flash.poll(true, &mut done);
        }
        assert!(done.iter().all(|done| done.result == Ok(quarter as u32)));
    }

    /// A file system that takes direct I/O and caches what it reads all the
    /// same: ext4 that writes data to its journal. Unmounted on drop.
    struct Journaled(tempfile::TempDir);

    impl Journaled {
        /// `None`, with the reason printed, where none can be mounted.
        fn mount() -> Option<Self> {
            let this = Self(tempfile::tempdir().unwrap());
            let image = this.0.path().join("image");
            File::create(&image).unwrap().set_len(32 << 20).unwrap();
            std::fs::create_dir(this.dir()).unwrap();
            let script = r#"mkfs.ext4 -q "$0" && mount -o loop,data=journal "$0" "$1""#;
            let mut shell = Command::new("sh");
            let made = shell.args(["-c", script]).arg(&image).arg(this.dir());
            let output = made.output().unwrap();
            if !output.status.success() {
                let message = String::from_utf8_lossy(&output.stderr);
                cannot_run(format!("no file system can be mounted: {}", message.trim()));
                return None;
            }
            Some(this)
        }

        fn dir(&self) -> PathBuf {
            self.0.path().join("mounted")
        }
    }

    impl Drop for Journaled {
        fn drop(&mut self) {
            let mut umount = Command::new("umount");
            umount.arg(self.dir()).stderr(Stdio::null());
            let _ = umount.status();
        }
    }

    #[test]
    fn direct_io_that_is_cached_all_the_same_is_noticed_and_emptied() {
        let Some(journaled) = Journaled::mount() else {
            return;
        };
        let temp = written_in(&journaled.dir());
        let (memory, region) = Memory::new(64 * ALIGN).unwrap();
        let mut flash = Flash::open(&[temp.path()], memory, &FlashOptions::default()).unwrap();
        assert_eq!(findings(temp.path()).unwrap().direct_io, DirectIo::Cached);
        assert_eq!(flash.access(), [Access::Buffered]);
        let path = temp.path().to_owned();
        let told = events(&mut flash);
        assert!(
            told.contains(&Fallback::DirectCached { path }.into()),
            "{told:?}"
        );
        read_all(&mut flash, region);
        assert_eq!(cached(temp.path()), 0, "{flash}");
    }

    #[test]
    fn what_fills_the_cache_is_told_from_what_does_not() {
        let Some(temp) = cold() else { return };
        let len = 64 * ALIGN;
        let file = File::open(temp.path()).unwrap();
        let found = examine(&file, len);
        assert_ne!(found, DirectIo::Unknown, "the file is cold");
        // Where it bypasses, the cache is empty still; where it is cached or
        // refused, the medium must not trust it.
        assert_eq!(
            found == DirectIo::Bypasses,
            cached(temp.path()) == 0 && found != DirectIo::Refused
        );
        let (memory, _) = Memory::new(ALIGN).unwrap();
        let mut flash = Flash::open(&[temp.path()], memory, &FlashOptions::default()).unwrap();
        let direct = flash.access() == [Access::Direct];
        assert_eq!(direct, found == DirectIo::Bypasses);
        let told = events(&mut flash);
        let path = temp.path().display().to_string();
        let about_it = |event: &&MediumEvent| event.message.contains(&path);
        let count = told.iter().filter(about_it).count();
        assert_eq!(count, usize::from(!direct), "{told:?}");
        assert_eq!(
            examine(&tempfile::tempfile().unwrap(), 0),
            DirectIo::Unknown
        );
    }
}
