//! Detects laps that hang. A drive that hangs reports no error, and the engine's thread is
//! blocked in its read. So a task measures how long the current lap has waited for the
//! medium; beyond a limit the server is unhealthy until the lap ends. Only a single wait
//! counts: a lap that makes progress is slow but does not hang, and one that computes waits
//! for no drive.
//!
//! Time is counted in ticks of the task, not read from a clock, so that time in which the
//! process was stopped or the machine suspended does not count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delayline_llama::batch::LapCost;
use tokio::sync::{Notify, watch};

/// A lap is overdue after this multiple of its usual time,
const TIMES: f64 = 16.0;

/// but not before this many seconds: a drive may be busy with something else.
const LEAST_S: f64 = 5.0;

/// Ticks into which the time until a lap is overdue is divided.
const TICKS: u32 = 50;

/// Maximum time of a lap of `rows` rows, from the cost of recent laps.
pub fn allowed(cost: &LapCost, rows: usize) -> Duration {
    let compute_s = cost.compute_s(rows).unwrap_or(0.0);
    let usual_s = compute_s.max(cost.medium_s().unwrap_or(0.0));
    Duration::from_secs_f64((TIMES * usual_s).clamp(LEAST_S, 1e6))
}

#[derive(Debug, Default)]
struct Laps {
    /// Number of laps begun.
    begun: u64,
    /// The maximum time of the current lap; none between laps.
    under_way: Option<Duration>,
}

/// Watches the current lap; see the module.
#[derive(Debug)]
pub struct LapWatch {
    laps: Mutex<Laps>,
    begun: Notify,
    hung: watch::Sender<Option<Arc<str>>>,
}

impl Default for LapWatch {
    fn default() -> Self {
        Self {
            laps: Mutex::default(),
            begun: Notify::new(),
            hung: watch::channel(None).0,
        }
    }
}

impl LapWatch {
    fn lock(&self) -> MutexGuard<'_, Laps> {
        self.laps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a lap begins, which may take `allowed`.
    pub fn begins(&self, allowed: Duration) {
        let mut laps = self.lock();
        laps.begun += 1;
        laps.under_way = Some(allowed);
        self.begun.notify_one();
    }

    /// Records that the lap has ended, with or without an error: the drive has answered.
    pub fn ends(&self) {
        self.lock().under_way = None;
        self.hung.send_if_modified(|hung| hung.take().is_some());
    }

    /// A message if the current lap hangs.
    pub fn hung(&self) -> Option<Arc<str>> {
        self.hung.borrow().clone()
    }

    /// Waits until a lap hangs; returns the message.
    pub async fn until_hung(&self) -> Arc<str> {
        let mut hung = self.hung.subscribe();
        let why = hung.wait_for(Option::is_some).await;
        // `self` owns the sender, so the channel cannot be closed.
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Watches laps for ever and calls `ill` when one hangs. `waits` tells whether the
    /// current lap waits for the medium, and identifies the wait by its beginning.
    pub async fn watch(&self, waits: impl Fn() -> (bool, u64), ill: impl Fn(&str)) {
        loop {
            self.begun.notified().await;
            let mut age = Age::default();
            while let Some((lap, allowed)) = self.current() {
                tokio::time::sleep(allowed / TICKS).await;
                if self.hung().is_none() && age.is_overdue(lap, waits()) {
                    let why: Arc<str> = why(allowed).into();
                    let laps = self.lock();
                    // The lap may have ended since.
                    if laps.begun == lap && laps.under_way.is_some() {
                        ill(&why);
                        self.hung.send_replace(Some(why));
                    }
                }
            }
        }
    }

    /// The current lap's number and maximum time.
    fn current(&self) -> Option<(u64, Duration)> {
        let laps = self.lock();
        Some((laps.begun, laps.under_way?))
    }
}

fn why(allowed: Duration) -> String {
    format!(
        "the medium does not answer: a lap has waited for it longer than {:.0} s",
        allowed.as_secs_f64()
    )
}

/// Number of ticks that a lap has spent in one wait.
#[derive(Debug, Default)]
struct Age {
    lap: u64,
    since: u64,
    ticks: u32,
}

impl Age {
    /// Counts a tick in this lap and wait; returns whether the wait is overdue.
    fn is_overdue(&mut self, lap: u64, (waits, since): (bool, u64)) -> bool {
        if !waits || (self.lap, self.since) != (lap, since) {
            *self = Self {
                lap,
                since,
                ticks: 0,
            };
        }
        self.ticks += u32::from(waits);
        self.ticks > TICKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_may_take_a_multiple_of_its_usual_time() {
        let none = LapCost::default();
        assert_eq!(allowed(&none, 1), Duration::from_secs(5));
        let mut slow = LapCost::default();
        for _ in 0..3 {
            slow.add(1, 8.0, 7.5);
        }
        assert_eq!(allowed(&slow, 1), Duration::from_secs(128));
        assert_eq!(allowed(&slow, 32), Duration::from_secs(256));
    }

    #[test]
    fn ticks_of_other_laps_do_not_count() {
        let mut age = Age::default();
        for lap in 1..100 {
            assert!((0..TICKS).all(|_| !age.is_overdue(lap, (true, 0))), "{lap}");
        }
        assert!(age.is_overdue(99, (true, 0)));
    }

    #[test]
    fn a_lap_that_gets_on_or_computes_does_not_hang() {
        let mut age = Age::default();
        for mark in 0..100 {
            assert!(
                (0..TICKS).all(|_| !age.is_overdue(1, (true, mark))),
                "{mark}"
            );
        }
        assert!((0..10 * TICKS).all(|_| !age.is_overdue(1, (false, 99))));
        assert!((0..TICKS).all(|_| !age.is_overdue(1, (true, 99))));
        assert!(age.is_overdue(1, (true, 99)));
    }
}
