//! Chooses the number of compute threads when other programs use the same cores. ggml's
//! threads wait for each other at every node of a graph; one without a core of its own
//! holds up all others, so that beside one busy program two threads on two cores are
//! slower than one. The laps themselves are the measurement. Pure: takes lap times and
//! returns a number of threads.

use std::collections::VecDeque;

/// Laps with the present number of threads that are compared with a probe.
const RECENT: usize = 3;

/// Laps of a probe of another number.
const PROBE: usize = 2;

/// A probe wins if it takes less than this share of the present time.
const GAIN: f64 = 0.95;

/// The next probe waits until the compute is this many times the time that the last one
/// lost, so that probes cost at most 2 %.
const PAYBACK: f64 = 50.0;

/// Minimum number of laps between two probes, whatever they cost.
const REST: f64 = 16.0;

/// Laps longer than the shortest by this factor suggest that another program has started:
/// then the next probe waits only a fifth of the time.
const DISTURBED: f64 = 1.25;

/// Chooses lap by lap: tries one thread less, one more, then fewer by 2, 4, 8, 16, then all.
#[derive(Debug)]
pub(crate) struct ThreadChoice {
    max: u32,
    now: u32,
    /// Rows of the last lap: only laps of the same number of rows are compared.
    rows: usize,
    /// Compute of the last laps with `now` threads, in seconds.
    recent: VecDeque<f64>,
    /// The other number that is being tried, and its laps so far.
    probe: Option<(u32, Vec<f64>)>,
    /// The shortest average of recent laps since the last probe.
    calm_s: f64,
    /// Compute since the last probe.
    since_s: f64,
    /// Compute until the next probe.
    rest_s: f64,
    /// Index of the next number to try.
    turn: usize,
}

impl ThreadChoice {
    /// Begins with `max` threads, which is also the maximum.
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max,
            now: max,
            rows: 0,
            recent: VecDeque::with_capacity(RECENT),
            probe: None,
            calm_s: f64::INFINITY,
            since_s: 0.0,
            rest_s: 0.0,
            turn: 0,
        }
    }

    /// Records a lap of `rows` rows that computed for `compute_s` seconds with the number of
    /// threads last returned; returns the number for the next lap.
    pub(crate) fn lap(&mut self, rows: usize, compute_s: f64) -> u32 {
        if self.max < 2 {
            return self.max;
        }
        self.since_s += compute_s;
        if rows != self.rows {
            self.rows = rows;
            self.probe = None;
            self.recent.clear();
            self.calm_s = f64::INFINITY;
            return self.now;
        }
        match self.probe.take() {
            Some((threads, mut laps)) => {
                laps.push(compute_s);
                if laps.len() < PROBE {
                    self.probe = Some((threads, laps));
                    return threads;
                }
                self.judge(threads, &laps);
            }
            None => {
                self.recent.truncate(RECENT - 1);
                self.recent.push_front(compute_s);
                if self.recent.len() == RECENT && self.is_due() {
                    let other = self.other();
                    self.probe = Some((other, Vec::with_capacity(PROBE)));
                    return other;
                }
            }
        }
        self.now
    }

    fn recent_s(&self) -> f64 {
        self.recent.iter().sum::<f64>() / self.recent.len() as f64
    }

    fn is_due(&mut self) -> bool {
        let recent_s = self.recent_s();
        self.calm_s = self.calm_s.min(recent_s);
        let disturbed = recent_s > DISTURBED * self.calm_s;
        self.since_s
            >= if disturbed {
                self.rest_s / 5.0
            } else {
                self.rest_s
            }
    }

    /// The next number to try. Two threads less may be faster even if one less is not, for
    /// instance beside two busy programs on four cores.
    fn other(&mut self) -> u32 {
        loop {
            let other = match self.turn % 7 {
                0 => self.now.checked_sub(1),
                1 => self.now.checked_add(1),
                6 => Some(self.max),
                turn => self.now.checked_sub(1 << (turn - 1)),
            };
            self.turn += 1;
            if let Some(other) = other
                && (1..=self.max).contains(&other)
                && other != self.now
            {
                return other;
            }
        }
    }

    fn judge(&mut self, threads: u32, laps: &[f64]) {
        let recent_s = self.recent_s();
        let sum: f64 = laps.iter().sum();
        let lost_s = sum - recent_s * laps.len() as f64;
        self.calm_s = f64::INFINITY;
        self.since_s = 0.0;
        if sum < GAIN * recent_s * laps.len() as f64 {
            // Try one further in the same direction next.
            self.turn = usize::from(threads > self.now);
            self.now = threads;
            self.recent.clear();
            self.rest_s = 0.0;
        } else {
            self.rest_s = (PAYBACK * lost_s).max(REST * recent_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine in virtual time, some of whose cores other programs keep busy.
    struct Machine {
        cores: u32,
        /// Compute of a lap on one free core.
        lap_s: f64,
        seed: u64,
    }

    impl Machine {
        /// Uniform from 0 to 1 (splitmix64).
        fn random(&mut self) -> f64 {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }

        /// Compute of a lap. If threads and busy programs share cores, every barrier waits
        /// for the thread that shares one, and for the scheduler: 2.4 times as long on two
        /// cores beside one busy program, as measured.
        fn compute_s(&self, threads: u32, busy: u32) -> f64 {
            let even = self.lap_s / f64::from(threads);
            if threads + busy <= self.cores {
                return even;
            }
            let share = f64::from(threads + busy) / f64::from(self.cores);
            even * share * 1.6
        }

        /// Total time of laps, each beside a number of busy programs: with chosen threads,
        /// and with each fixed number.
        fn run(&mut self, busy: &[u32], noise: f64) -> (f64, Vec<f64>) {
            let mut choice = ThreadChoice::new(self.cores);
            let (mut threads, mut total) = (self.cores, 0.0);
            let mut fixed = vec![0.0; self.cores as usize];
            for &busy in busy {
                let noisy = 1.0 + noise * self.random();
                let compute_s = self.compute_s(threads, busy) * noisy;
                total += compute_s;
                for (at, sum) in fixed.iter_mut().enumerate() {
                    *sum += self.compute_s(at as u32 + 1, busy) * noisy;
                }
                threads = choice.lap(1, compute_s);
                assert!((1..=self.cores).contains(&threads));
            }
            (total, fixed)
        }
    }

    /// The time with all threads or one less, whichever is shorter.
    fn usual(fixed: &[f64]) -> f64 {
        let last_two = &fixed[fixed.len() - 2..];
        last_two.iter().copied().fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn alone_and_beside_any_number_of_strangers() {
        for cores in 2..=16 {
            for strangers in 0..=cores {
                let mut machine = Machine {
                    cores,
                    lap_s: 0.6,
                    seed: 1,
                };
                let (total, fixed) = machine.run(&vec![strangers; 2000], 0.04);
                let usual = usual(&fixed);
                assert!(
                    total < 1.03 * usual,
                    "{strangers} strangers on {cores} cores: {total} against {usual}"
                );
            }
        }
    }

    #[test]
    fn strangers_who_come_and_go_never_cost_more_than_a_thread_less_would() {
        let seed = delayline_testing::seed();
        for case in 0..200 {
            let mut machine = Machine {
                cores: 2 + case % 7,
                lap_s: 0.6,
                seed: seed.wrapping_add(u64::from(case)),
            };
            let mut strangers = Vec::new();
            while strangers.len() < 3000 {
                let laps = 100 + (machine.random() * 400.0) as usize;
                let busy = (machine.random() * 3.0) as u32;
                strangers.extend(std::iter::repeat_n(busy, laps));
            }
            let (total, fixed) = machine.run(&strangers, 0.1);
            let usual = usual(&fixed);
            assert!(total < 1.05 * usual, "case {case}: {total} against {usual}");
        }
    }

    #[test]
    fn laps_of_other_rows_are_not_compared() {
        let mut choice = ThreadChoice::new(4);
        for lap in 0..1000 {
            let rows = 1 + lap % 3;
            assert_eq!(choice.lap(rows, rows as f64), 4);
        }
    }

    #[test]
    fn one_thread_stays() {
        let mut choice = ThreadChoice::new(1);
        assert!((0..100).all(|_| choice.lap(1, 0.1) == 1));
    }
}
