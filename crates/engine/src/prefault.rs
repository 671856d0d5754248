//! Touches the memory of resident weights before they are read into it. The first
//! touch of a page can be slower than the drive: in a virtual machine that
//! gives free memory back to its host we measured 0.5 GB/s on one core, while
//! the drive read 3.9. Knows ranges, not their contents.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use delayline_medium::Memory;

/// Bytes touched between two checks whether to stop.
const STEP: u64 = 16 << 20;

/// A thread that touches a range once and ends; dropping this ends it early.
///
/// It works from the end towards the beginning, where the reads of the first lap touch
/// pages themselves, so that no page is waited for twice.
#[derive(Debug)]
pub struct Prefault {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prefault {
    /// Starts touching `range` of the memory. If no thread can be started, the reads
    /// touch all of it.
    pub fn start(memory: Arc<Memory>, range: Range<u64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let work = move || {
            let mut end = range.end;
            while end > range.start && !asked.load(Ordering::Relaxed) {
                let from = end.saturating_sub(STEP).max(range.start);
                // The reads will touch what cannot be touched now.
                if memory.populate(from..end).is_err() {
                    return;
                }
                end = from;
            }
        };
        let thread = std::thread::Builder::new()
            .name("prefault".into())
            .spawn(work)
            .ok();
        Self { stop, thread }
    }

    /// Whether the thread is still running.
    #[cfg(test)]
    fn is_busy(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }
}

impl Drop for Prefault {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Usage;

    const LEN: u64 = 64 << 20;

    #[test]
    fn the_whole_range_is_in_memory_unchanged_and_the_thread_ends() {
        let (memory, _) = Memory::new(LEN).expect("address space");
        memory.copy_in(LEN / 2, &[7; 4096]);
        let before = Usage::now().resident;
        let prefault = Prefault::start(memory.clone(), 0..LEN);
        while prefault.is_busy() {
            std::thread::yield_now();
        }
        assert!(Usage::now().resident >= before + LEN / 2);
        let mut bytes = [0; 4096];
        memory.copy_out(LEN / 2, &mut bytes);
        assert_eq!(bytes, [7; 4096]);
        drop(prefault);
        assert_eq!(Arc::strong_count(&memory), 1);

        let (memory, _) = Memory::new(LEN).expect("address space");
        drop(Prefault::start(memory.clone(), 0..LEN));
        assert_eq!(Arc::strong_count(&memory), 1, "the thread has ended");
    }
}
