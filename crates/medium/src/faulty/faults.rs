//! Which faults a medium injects, how many operations met each, and the switch that
//! changes them from outside.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Which faults, and how many; none by default. Shares are of operations, 0 to 1. Of
/// several faults that an operation would meet it meets the first in this order: gone,
/// broken, transient, short, hung, and then the others in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Maximum number of polls for which a completion is held back.
    pub delay_polls: u64,
    /// Maximum time for which a completion is held back, in nanoseconds of the clock
    /// given by [`crate::Faulty::in_time`].
    pub delay_ns: u64,
    /// Completions that are due together come in any order.
    pub reorder: bool,
    /// Share of reads and writes of which fewer bytes arrive, perhaps none.
    pub short: f64,
    /// Share of operations that fail, of which another attempt may succeed.
    pub transient: f64,
    /// Maximum number of successive `short` and `transient` faults of operations that
    /// end at the same byte, so that a caller with more retries succeeds.
    pub in_a_row: u32,
    /// Ranges of bytes of a part that can never be read or written.
    pub broken: Vec<(u16, Range<u64>)>,
    /// The number of operations after which the medium is gone.
    pub gone_after: Option<u64>,
    /// Share of operations that never complete. Half of the writes among them are
    /// done all the same.
    pub hung: f64,
    /// Share of reads with one bit flipped.
    pub flipped: f64,
    /// Share of reads of which one sector is zeros.
    pub zeroed: f64,
    /// Share of reads that bring another place's bytes.
    pub misplaced: f64,
    /// Share of writes that are acknowledged and never made: later reads bring the old
    /// bytes.
    pub lost: f64,
    /// Share of writes that are acknowledged and made in part: the rest keeps its old
    /// bytes.
    pub torn: f64,
}

/// How many operations really met each fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Completions held back.
    pub delayed: u64,
    /// Completions that came out of the order in which they were due.
    pub reordered: u64,
    /// Operations that were cut short.
    pub short: u64,
    /// Operations that failed this time.
    pub transient: u64,
    /// Operations on bytes that are broken.
    pub broken: u64,
    /// Operations after the medium had gone.
    pub gone: u64,
    /// Operations that will never complete.
    pub hung: u64,
    /// Reads that brought a wrong bit.
    pub flipped: u64,
    /// Reads that brought zeros where there are none.
    pub zeroed: u64,
    /// Reads that brought another place's bytes.
    pub misplaced: u64,
    /// Writes that were acknowledged and not made.
    pub lost: u64,
    /// Writes that were acknowledged and made in part.
    pub torn: u64,
    /// Reads that brought bytes from before the last write there, because that was
    /// lost or torn.
    pub stale: u64,
}

/// Changes the faults of a medium that the caller cannot reach, such as one inside an
/// engine. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct FaultSwitch(Arc<(Mutex<Switched>, Condvar)>);

#[derive(Debug, Default)]
struct Switched {
    faults: Option<Faults>,
    frozen: bool,
}

impl FaultSwitch {
    fn lock(&self) -> MutexGuard<'_, Switched> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the faults from the next operation on.
    pub fn set(&self, faults: Faults) {
        self.lock().faults = Some(faults);
    }

    /// Withdraws faults that were set and that no operation has met yet.
    pub fn clear(&self) {
        self.take();
    }

    /// Simulates a drive that hangs: until [`FaultSwitch::thaw`] nothing completes, and
    /// a poll that waits blocks.
    pub fn freeze(&self) {
        self.lock().frozen = true;
    }

    /// Ends [`FaultSwitch::freeze`].
    pub fn thaw(&self) {
        self.lock().frozen = false;
        self.0.1.notify_all();
    }

    pub(super) fn take(&self) -> Option<Faults> {
        self.lock().faults.take()
    }

    /// Whether anything may complete; with `wait`, blocks until it may.
    pub(super) fn answers(&self, wait: bool) -> bool {
        let mut switched = self.lock();
        while wait && switched.frozen {
            let woken = self.0.1.wait(switched);
            switched = woken.unwrap_or_else(PoisonError::into_inner);
        }
        !switched.frozen
    }
}
