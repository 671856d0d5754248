//! Laps that take too long. A drive that hangs says nothing and fails nothing, so that
//! the thread that computes cannot tell it: a task beside it counts how long the lap
//! under way has waited, and beyond its time the server is ill until the lap ends. What
//! counts is one wait: a lap that gets on is slow and does not hang, and one that
//! computes waits for no drive.
//!
//! Time is counted in ticks, each as long as it was meant to be: a process that was
//! stopped, or a machine that slept, has not waited for its drive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use delayline_llama::batch::LapCost;
use tokio::sync::{Notify, watch};

/// So many times what a lap usually takes is too long,
const TIMES: f64 = 16.0;

/// but no less than this, in seconds: a drive may be busy with something else.
const LEAST_S: f64 = 5.0;

/// Ticks until a lap is overdue.
const TICKS: u32 = 50;

/// How long a lap of so many rows may take, from what laps cost of late.
pub fn allowed(cost: &LapCost, rows: usize) -> Duration {
    let compute_s = cost.compute_s(rows).unwrap_or(0.0);
    let usual_s = compute_s.max(cost.medium_s().unwrap_or(0.0));
    Duration::from_secs_f64((TIMES * usual_s).clamp(LEAST_S, 1e6))
}

/// The laps so far, and the one under way.
#[derive(Debug, Default)]
struct Laps {
    begun: u64,
    /// How long it may take.
    under_way: Option<Duration>,
}

/// See the module.
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

    /// A lap begins, which may take so long.
    pub fn begins(&self, allowed: Duration) {
        let mut laps = self.lock();
        laps.begun += 1;
        laps.under_way = Some(allowed);
        self.begun.notify_one();
    }

    /// It has ended, well or not: the drive has answered.
    pub fn ends(&self) {
        self.lock().under_way = None;
        self.hung.send_if_modified(|hung| hung.take().is_some());
    }

    /// Why the lap under way counts as hung, if it does.
    pub fn hung(&self) -> Option<Arc<str>> {
        self.hung.borrow().clone()
    }

    /// Waits until a lap hangs; returns why.
    pub async fn until_hung(&self) -> Arc<str> {
        let mut hung = self.hung.subscribe();
        let why = hung.wait_for(Option::is_some).await;
        // The sender is this very object.
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Watches laps for ever; `ill` is told when one hangs. `waits` says whether the lap
    /// under way waits for the medium, and since which moment of it.
    pub async fn watch(&self, waits: impl Fn() -> (bool, u64), ill: impl Fn(&str)) {
        loop {
            self.begun.notified().await;
            let mut age = Age::default();
            while let Some((lap, allowed)) = self.current() {
                tokio::time::sleep(allowed / TICKS).await;
                if self.hung().is_none() && age.is_overdue(lap, waits()) {
                    let why: Arc<str> = why(allowed).into();
                    let laps = self.lock();
                    // It may have ended just now.
                    if laps.begun == lap && laps.under_way.is_some() {
                        ill(&why);
                        self.hung.send_replace(Some(why));
                    }
                }
            }
        }
    }

    /// The lap under way, and how long it may take.
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

/// How many ticks a lap has been in one wait.
#[derive(Debug, Default)]
struct Age {
    lap: u64,
    since: u64,
    ticks: u32,
}

impl Age {
    /// Another tick has passed, in this lap and wait; whether that makes it overdue.
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
