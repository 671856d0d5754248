//! The two clocks: the machine's, and one that only its holders move. Neither
//! knows what is being timed.

use delayline_line::Clock;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A clock that a medium can wait on: by sleeping in real time, by moving on in virtual
/// time.
pub trait Pace: Clock {
    /// Returns when the clock shows `ns` or more.
    fn wait_until_ns(&self, ns: u64);
}

/// The monotonic clock of the machine, from 0 at creation.
#[derive(Clone, Copy, Debug)]
pub struct RealClock(Instant);

impl RealClock {
    /// Starts at 0 now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now_ns(&self) -> u64 {
        // 2^64 ns are 584 years.
        self.0.elapsed().as_nanos() as u64
    }
}

impl Pace for RealClock {
    fn wait_until_ns(&self, ns: u64) {
        loop {
            let now_ns = self.now_ns();
            if now_ns >= ns {
                return;
            }
            std::thread::sleep(Duration::from_nanos(ns - now_ns));
        }
    }
}

/// Time that passes only when a holder advances it. Clones show the same time, so
/// the medium, the line and the compute of a simulation each hold one.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Rc<Cell<u64>>);

impl VirtualClock {
    /// Starts at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `ns` nanoseconds pass.
    pub fn advance_ns(&self, ns: u64) {
        self.0.set(self.0.get().saturating_add(ns));
    }

    /// Moves on to `ns` nanoseconds from the start, or stays if that has passed.
    pub fn advance_to(&self, ns: u64) {
        self.0.set(self.0.get().max(ns));
    }
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

impl Pace for VirtualClock {
    fn wait_until_ns(&self, ns: u64) {
        self.advance_to(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, RealClock, VirtualClock};
    use delayline_line::Clock;

    #[test]
    fn waiting_ends_when_its_time_has_come_and_not_before() {
        let clock = RealClock::new();
        let due_ns = clock.now_ns() + 100_000;
        clock.wait_until_ns(due_ns);
        assert!(clock.now_ns() >= due_ns);
        clock.wait_until_ns(due_ns);
        let clock = VirtualClock::new();
        clock.wait_until_ns(7);
        clock.wait_until_ns(3);
        assert_eq!(clock.now_ns(), 7);
    }

    #[test]
    fn virtual_time_is_shared_and_never_goes_back() {
        let (a, b) = (VirtualClock::new(), VirtualClock::new());
        let shared = a.clone();
        a.advance_ns(5);
        shared.advance_to(9);
        a.advance_to(3);
        assert_eq!((a.now_ns(), shared.now_ns(), b.now_ns()), (9, 9, 0));
    }

    #[test]
    fn real_time_never_goes_back() {
        let clock = RealClock::new();
        let times: Vec<u64> = (0..100).map(|_| clock.now_ns()).collect();
        assert!(times.is_sorted());
    }
}
