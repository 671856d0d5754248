//! The memory that reads go into: one reservation of address space, addressed by byte
//! offsets as in a [`Buffer`], with pages only where it is used. It does not know who
//! owns which bytes: that is the line's business.

use crate::MemoryError;
use delayline_line::{Buffer, Region, RegionId};
use delayline_plan::ALIGN;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Size and alignment of a huge page in bytes. Areas that are to have different
/// kinds of pages start at multiples of it.
pub const HUGE: u64 = 2 << 20;

const WORD: u64 = size_of::<u64>() as u64;

/// An anonymous mapping, into which there are no references.
///
/// Its bytes are written by the kernel (a read in flight), by other media (a
/// copy) and read by native code through [`Memory::ptr`], all under the rule
/// that a [`Buffer`] or a lease gives one of them the bytes at a time. Its
/// [`Region`] and the line keep that rule. Memory safety of this type does not depend
/// on it: Rust touches the bytes only as relaxed atomic words, so that a broken rule
/// shows as wrong bytes, which tests find, never as undefined behaviour here.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    len: u64,
    region: RegionId,
    /// Ranges whose physical pages the kernel holds.
    pinned: Mutex<Vec<Range<u64>>>,
}

// SAFETY: the mapping belongs to the process, not to a thread; `base` and `len`
// never change; the bytes are accessed as atomics only (see the type's text).
unsafe impl Send for Memory {}
// SAFETY: as above; `pinned` is behind its lock.
unsafe impl Sync for Memory {}

impl Memory {
    /// Reserves `len` bytes of address space, rounded up to [`ALIGN`] and at
    /// least that, starting at a multiple of [`HUGE`]. Pages come with the
    /// first touch and are zero; from [`HUGE`] bytes on, huge pages where the
    /// system has them, until [`Memory::no_huge`] says otherwise. A forked process
    /// does not inherit it. Returned with it is the one region that lends its bytes.
    ///
    /// # Errors
    /// [`MemoryError::Reserve`] when the address space cannot be reserved,
    /// [`MemoryError::Pages`] where pages are longer than [`ALIGN`].
    pub fn new(len: u64) -> Result<(Arc<Self>, Region), MemoryError> {
        check_pages(page_len())?;
        let refused = |source| MemoryError::Reserve { len, source };
        let too_long = || refused(io::Error::from_raw_os_error(libc::ENOMEM));
        let rounded = len
            .max(1)
            .checked_next_multiple_of(ALIGN)
            .ok_or_else(too_long)?;
        let whole = rounded.checked_add(HUGE).ok_or_else(too_long)?;
        let whole = usize::try_from(whole).map_err(|_| too_long())?;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(refused(io::Error::last_os_error()));
        }
        // The reservation is HUGE too long; give back what lies before the
        // first aligned address and behind the last byte asked for.
        let head = start.align_offset(HUGE as usize);
        let tail = HUGE as usize - head;
        // SAFETY: head + rounded + tail is the mapping's length: all three
        // pieces lie within it, and the two outer ones are used by nobody.
        let base = unsafe {
            let base = start.byte_add(head);
            if head > 0 {
                libc::munmap(start, head);
            }
            libc::munmap(base.byte_add(rounded as usize), tail);
            base
        };
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at zero");
        let region = Region::new(rounded);
        let memory = Self {
            base,
            len: rounded,
            region: region.id(),
            pinned: Mutex::default(),
        };
        if rounded >= HUGE {
            memory.advise(&(0..rounded), libc::MADV_HUGEPAGE).ok();
        }
        // A child has none of the threads and rings that use it, and pages that the
        // kernel holds would be copied for it at once. Every kernel has this advice.
        memory.advise(&(0..rounded), libc::MADV_DONTFORK).ok();
        Ok((Arc::new(memory), region))
    }

    /// Its length in bytes, a multiple of [`ALIGN`].
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: there is always a page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where byte `at` is, for native code. Reading through the pointer takes a
    /// lease on the bytes; writing is for media alone.
    ///
    /// # Panics
    /// When `at` is past the end.
    pub fn ptr(&self, at: u64) -> *const u8 {
        self.bytes_ptr(at, 0)
    }

    /// Asserts that a buffer's bytes are in this memory: a medium does so once for each
    /// operation, before it touches them.
    ///
    /// # Panics
    /// When it is of another memory.
    pub fn check_owns(&self, buffer: &Buffer) {
        assert!(
            buffer.is_empty() || buffer.region() == self.region,
            "{buffer:?} is of another memory than the medium's"
        );
    }

    /// Where `len` bytes at `at` are, for a read to fill or a write to take.
    ///
    /// # Panics
    /// When they are not all within the memory.
    pub(crate) fn bytes_ptr(&self, at: u64, len: u32) -> *mut u8 {
        self.check(&(at..at.saturating_add(u64::from(len))));
        // SAFETY: `check` has put `at` within the mapping or at its end.
        unsafe { self.base.as_ptr().add(at as usize) }
    }

    /// Allocates the range's pages now, so that a later read need not wait for them.
    ///
    /// # Errors
    /// [`MemoryError::Populate`] when there is not that much memory.
    ///
    /// # Panics
    /// When the range is not within the memory or not of whole pages.
    pub fn populate(&self, range: Range<u64>) -> Result<(), MemoryError> {
        match self.advise(&range, libc::MADV_POPULATE_WRITE) {
            Ok(()) => Ok(()),
            // Before Linux 5.14: touch every page, changing nothing.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                for at in range.step_by(ALIGN as usize) {
                    self.word(at / WORD).fetch_or(0, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(source) => Err(MemoryError::Populate {
                len: range.end - range.start,
                source,
            }),
        }
    }

    /// Gives the range's pages back to the system; it reads as zeros afterwards.
    ///
    /// # Panics
    /// When the range is not within the memory or not of whole pages, or when a
    /// medium has registered part of it: reads would go on into the old pages.
    pub fn discard(&self, range: Range<u64>) {
        let overlaps = |pinned: &Range<u64>| pinned.start < range.end && range.start < pinned.end;
        assert!(
            !self
                .pinned
                .lock()
                .expect("no holder panics")
                .iter()
                .any(overlaps),
            "bytes {range:?} of the memory are registered with a medium and cannot be discarded"
        );
        self.advise(&range, libc::MADV_DONTNEED)
            .expect("discarding pages of our own");
    }

    /// Keeps the range in small pages: an area of which few bytes are ever
    /// filled would take 2 MiB for each of them otherwise.
    ///
    /// # Panics
    /// When the range is not within the memory or not of whole pages.
    pub fn no_huge(&self, range: Range<u64>) {
        // A kernel without huge pages refuses, and then there are none.
        self.advise(&range, libc::MADV_NOHUGEPAGE).ok();
    }

    /// Asks the processor for bytes that are read soon: bytes that a drive has written
    /// are often in no cache. What lies outside the memory is not asked for.
    pub(crate) fn prefetch(&self, bytes: Range<u64>) {
        #[cfg(target_arch = "x86_64")]
        for at in (bytes.start..bytes.end.min(self.len)).step_by(64) {
            // SAFETY: `at` is within the mapping, and a hint reads nothing.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().add(at as usize).cast());
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = bytes;
    }

    /// Copies the bytes at `at` out. While a read into them is under way they may be
    /// of any mixture: the caller holds a lease on them, or is a test.
    ///
    /// # Panics
    /// When they are not all within the memory.
    pub fn copy_out(&self, at: u64, out: &mut [u8]) {
        self.check(&(at..at.saturating_add(out.len() as u64)));
        let (cells, rest) = self.whole_words(at, out.len());
        let (whole, out) = out.split_at_mut(out.len() - rest);
        for (cell, word) in cells.iter().zip(whole.chunks_exact_mut(WORD as usize)) {
            word.copy_from_slice(&cell.load(Ordering::Relaxed).to_ne_bytes());
        }
        let at = at + whole.len() as u64;
        for (index, from, to) in words(at, out.len()) {
            let word = self.word(index).load(Ordering::Relaxed).to_ne_bytes();
            out[to.clone()].copy_from_slice(&word[from..from + to.len()]);
        }
    }

    /// Copies `bytes` in at `at`, as a medium that owns the buffer there does.
    ///
    /// # Panics
    /// When they do not all fit within the memory.
    pub fn copy_in(&self, at: u64, bytes: &[u8]) {
        self.check(&(at..at.saturating_add(bytes.len() as u64)));
        let (cells, rest) = self.whole_words(at, bytes.len());
        let (whole, bytes) = bytes.split_at(bytes.len() - rest);
        for (cell, word) in cells.iter().zip(whole.as_chunks().0) {
            cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        let at = at + whole.len() as u64;
        for (index, to, from) in words(at, bytes.len()) {
            let cell = self.word(index);
            let mut word = [0; WORD as usize];
            if from.len() < word.len() {
                word = cell.load(Ordering::Relaxed).to_ne_bytes();
            }
            word[to..to + from.len()].copy_from_slice(&bytes[from]);
            cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Moves `len` bytes at `from` down to `to`; both are multiples of eight. The caller
    /// holds a lease on both ranges.
    ///
    /// # Panics
    /// When they are not all within the memory, not at whole words, or `to` is after
    /// `from`.
    pub fn move_down(&self, from: u64, to: u64, len: u64) {
        assert!(to <= from && from.is_multiple_of(WORD) && to.is_multiple_of(WORD));
        self.check(&(from..from.saturating_add(len)));
        // The rest of the last word is the caller's too.
        let count = (len.next_multiple_of(WORD)).min(self.len - from) as usize;
        let (source, _) = self.whole_words(from, count);
        let (target, _) = self.whole_words(to, count);
        for (target, source) in target.iter().zip(source) {
            target.store(source.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Marks a range as held by its physical pages until [`Memory::unpin`].
    pub(crate) fn pin(&self, range: Range<u64>) {
        self.check(&range);
        self.pinned.lock().expect("no holder panics").push(range);
    }

    /// Takes back one [`Memory::pin`] of the same range.
    pub(crate) fn unpin(&self, range: &Range<u64>) {
        let mut pinned = self.pinned.lock().expect("no holder panics");
        if let Some(index) = pinned.iter().position(|other| other == range) {
            pinned.swap_remove(index);
        }
    }

    fn check(&self, range: &Range<u64>) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "bytes {range:?} are not within a memory of {} bytes",
            self.len
        );
    }

    /// The word at `index`, counted in words.
    fn word(&self, index: u64) -> &AtomicU64 {
        assert!(index < self.len / WORD);
        // SAFETY: within the mapping, which lives as long as `self`; aligned,
        // since `base` is; any bit pattern is a u64; and Rust accesses these
        // bytes in no other way than as this atomic.
        unsafe { &*self.base.as_ptr().cast::<AtomicU64>().add(index as usize) }
    }

    /// The words that `len` bytes at `at` fill whole, and how many bytes are left
    /// then; none and all where `at` is within a word. The caller has checked
    /// the range.
    fn whole_words(&self, at: u64, len: usize) -> (&[AtomicU64], usize) {
        if !at.is_multiple_of(WORD) {
            return (&[], len);
        }
        let count = len / WORD as usize;
        assert!(at / WORD + count as u64 <= self.len / WORD);
        // SAFETY: as in `word`, for `count` words that all lie in the mapping.
        let cells = unsafe {
            let first = self.base.as_ptr().cast::<AtomicU64>();
            std::slice::from_raw_parts(first.add((at / WORD) as usize), count)
        };
        (cells, len % WORD as usize)
    }

    fn advise(&self, range: &Range<u64>, advice: i32) -> io::Result<()> {
        self.check(range);
        assert!(
            range.start.is_multiple_of(ALIGN) && range.end.is_multiple_of(ALIGN),
            "bytes {range:?} are not whole pages of {ALIGN} bytes"
        );
        if range.is_empty() {
            return Ok(());
        }
        let len = (range.end - range.start) as usize;
        loop {
            // SAFETY: the range is within the mapping, and no advice used here
            // unmaps it: at most its bytes become zero, which is an atomic's
            // value like any other.
            let rc = unsafe {
                let start = self.base.as_ptr().add(range.start as usize);
                libc::madvise(start.cast(), len, advice)
            };
            if rc == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // Interrupted while populating: the pages so far stay.
                Some(libc::EINTR | libc::EAGAIN) => {}
                _ => return Err(error),
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping; media with reads under way hold an
        // `Arc` of it, so none is, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len as usize) };
    }
}

/// The system's page in bytes.
fn page_len() -> u64 {
    // SAFETY: asks for a constant of the system; memory is not involved.
    let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(len).unwrap_or(ALIGN)
}

/// Refuses pages longer than [`ALIGN`] bytes, which some Arm systems have.
fn check_pages(len: u64) -> Result<(), MemoryError> {
    match len {
        len if len > ALIGN => Err(MemoryError::Pages { len }),
        _ => Ok(()),
    }
}

/// Splits `len` bytes at `at` along words: for each, its index, where the bytes
/// start in it, and which of the `len` they are.
fn words(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        if next == len {
            return None;
        }
        let byte = at + next as u64;
        let start = (byte % WORD) as usize;
        let span = next..len.min(next + WORD as usize - start);
        next = span.end;
        Some((byte / WORD, start, span))
    })
}

#[cfg(test)]
mod tests {
    use super::{ALIGN, HUGE, Memory, check_pages};

    #[test]
    fn longer_pages_are_refused() {
        assert!(check_pages(4096).is_ok());
        let message = check_pages(65536).unwrap_err().to_string();
        assert!(
            message.contains("pages of 65536 bytes, expected 4096"),
            "{message}"
        );
    }

    #[test]
    fn a_forked_process_does_not_have_it() {
        // Long enough that no other mapping joins it.
        let (memory, _) = Memory::new(3 * ALIGN).unwrap();
        let at = format!("{:x}-", memory.ptr(0) as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&at));
        let flags = lines.find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split_whitespace().any(|flag| flag == "dc"), "{flags}");
    }

    #[test]
    fn every_small_copy_touches_its_bytes_alone() {
        let (memory, _) = Memory::new(ALIGN).unwrap();
        for at in 0..20u64 {
            for len in 0..20usize {
                memory.copy_in(0, &[0xee; 48]);
                let bytes: Vec<u8> = (1..=len as u8).collect();
                memory.copy_in(at, &bytes);
                let mut expect = [0xee; 48];
                expect[at as usize..at as usize + len].copy_from_slice(&bytes);
                let mut all = [0; 48];
                memory.copy_out(0, &mut all);
                assert_eq!(all, expect, "{len} bytes at {at}");
                let mut some = vec![0; len];
                memory.copy_out(at, &mut some);
                assert_eq!(some, bytes, "{len} bytes at {at}");
            }
        }
    }

    #[test]
    fn lengths_round_up_and_the_base_is_aligned() {
        for (asked, got) in [
            (0, ALIGN),
            (1, ALIGN),
            (ALIGN, ALIGN),
            (HUGE + 1, HUGE + ALIGN),
        ] {
            let (memory, _) = Memory::new(asked).unwrap();
            assert_eq!(memory.len(), got);
            assert!(memory.ptr(0).addr().is_multiple_of(HUGE as usize));
            let mut last = [1];
            memory.copy_out(got - 1, &mut last);
            assert_eq!(last, [0]);
        }
    }

    #[test]
    fn far_more_than_the_machine_has_can_be_reserved() {
        let (memory, _) = Memory::new(1 << 42).unwrap();
        memory.copy_in((1 << 42) - 3, &[1, 2, 3]);
        assert_eq!(memory.len(), 1 << 42);
        assert!(Memory::new(u64::MAX).is_err());
    }

    #[test]
    fn populating_changes_nothing_and_discarding_zeroes_its_range() {
        let (memory, _) = Memory::new(4 * ALIGN).unwrap();
        memory.no_huge(0..4 * ALIGN);
        memory.copy_in(0, &[9; 4 * ALIGN as usize]);
        memory.populate(0..4 * ALIGN).unwrap();
        memory.discard(ALIGN..2 * ALIGN);
        memory.discard(0..0);
        for (page, byte) in [(0, 9), (1, 0), (2, 9), (3, 9)] {
            let mut bytes = [1; ALIGN as usize];
            memory.copy_out(page * ALIGN, &mut bytes);
            assert_eq!(bytes, [byte; ALIGN as usize], "page {page}");
        }
    }

    #[test]
    #[should_panic(expected = "registered with a medium")]
    fn registered_bytes_are_not_discarded() {
        let (memory, _) = Memory::new(4 * ALIGN).unwrap();
        memory.pin(ALIGN..3 * ALIGN);
        memory.discard(0..ALIGN);
        memory.discard(2 * ALIGN..4 * ALIGN);
    }

    #[test]
    #[should_panic(expected = "not within")]
    fn bytes_outside_are_refused() {
        Memory::new(ALIGN)
            .unwrap()
            .0
            .copy_out(ALIGN - 1, &mut [0; 2]);
    }

    #[test]
    #[should_panic(expected = "of another memory")]
    fn a_buffer_of_another_memory_is_refused() {
        let (memory, mut region) = Memory::new(ALIGN).unwrap();
        memory.check_owns(&region.lend(0, 7));
        let (_other, mut region) = Memory::new(ALIGN).unwrap();
        memory.check_owns(&region.lend(0, 7));
    }
}
