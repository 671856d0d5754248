//! How many threads compute, when other programs want the same cores. ggml's
//! threads wait for each other at every node of a graph; one that has no core
//! holds up all others, so that with one busy neighbour on two cores two threads
//! are slower than one. The laps themselves are the measurement. Pure: lap times
//! in, a number of threads out; knows no clock.

use std::collections::VecDeque;

/// Laps of the present number of threads that are compared with a probe.
const RECENT: usize = 3;

/// Laps of a probe of another number.
const PROBE: usize = 2;

/// A probe has to take less than this share of the present time.
const GAIN: f64 = 0.95;

/// What a probe lost is the inverse of its share in the compute until the next
/// one: 2 %.
const PAYBACK: f64 = 50.0;

/// Laps between two probes at least, whatever they cost.
const REST: f64 = 16.0;

/// Laps that take so many times the shortest have a neighbour who has just come:
/// that is probed when a fifth of the last probe is paid back.
const DISTURBED: f64 = 1.25;

/// Chooses lap by lap: tries a thread less and one more, then fewer by 2, 4, 8, then all.
#[derive(Debug)]
pub(crate) struct ThreadChoice {
    max: u32,
    now: u32,
    /// Only laps of as many rows as each other are compared.
    rows: usize,
    /// Compute of the last laps with `now` threads, in seconds.
    recent: VecDeque<f64>,
    /// The other number that is being tried, and its laps so far.
    probe: Option<(u32, Vec<f64>)>,
    /// The shortest average of recent laps since the last probe.
    calm_s: f64,
    /// Compute from the last probe on, and how much there has to be before the next.
    since_s: f64,
    rest_s: f64,
    /// Which of the numbers to try comes next.
    turn: usize,
}

impl ThreadChoice {
    /// Begins with `max` threads and never takes more.
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

    /// Takes a lap of so many rows that computed for so long with the number of
    /// threads that was last returned; returns that of the next.
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

    /// The next number to try. Two less may be faster where one less is not:
    /// beside two strangers on four cores, say.
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
            // Perhaps one further is better still.
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

    /// A machine in virtual time: cores, and how many of them strangers keep busy.
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

        /// Threads that find a core run at its pace; else every barrier waits for
        /// the one that shares its core, and for the scheduler to come back to
        /// it: as measured on two cores beside one stranger, 2.4 times as long.
        fn compute_s(&self, threads: u32, strangers: u32) -> f64 {
            let even = self.lap_s / f64::from(threads);
            if threads + strangers <= self.cores {
                return even;
            }
            let share = f64::from(threads + strangers) / f64::from(self.cores);
            even * share * 1.6
        }

        /// All laps by the choice, and by each fixed number of threads.
        fn run(&mut self, strangers: &[u32], noise: f64) -> (f64, Vec<f64>) {
            let mut choice = ThreadChoice::new(self.cores);
            let (mut threads, mut total) = (self.cores, 0.0);
            let mut fixed = vec![0.0; self.cores as usize];
            for &strangers in strangers {
                let noisy = 1.0 + noise * self.random();
                let compute_s = self.compute_s(threads, strangers) * noisy;
                total += compute_s;
                for (at, sum) in fixed.iter_mut().enumerate() {
                    *sum += self.compute_s(at as u32 + 1, strangers) * noisy;
                }
                threads = choice.lap(1, compute_s);
                assert!((1..=self.cores).contains(&threads));
            }
            (total, fixed)
        }
    }

    /// All threads or one less, whichever takes less.
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
