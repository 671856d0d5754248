//! The cost model of laps, learned from measured ones: compute time by number of rows,
//! the time in which the medium brings a lap's bytes, and from how many rows on compute
//! is longer. Knows no clock.
//!
//! Compute time is modelled as `a + b · rows`, fitted to recent laps: `a` is the fixed
//! part of a lap, `b` that of each row. Until laps of two different sizes have been
//! measured, `a` is 0.

/// Weight of a lap relative to the next one: compute changes as texts grow.
const FADE: f64 = 0.95;

/// Share of a lap spent waiting above which the lap counts as limited by the medium.
const WAITED: f64 = 0.02;

/// Weight of the latest lap in the moving average of the medium's time.
const LATEST: f64 = 0.2;

/// Sums over measured laps, of which the line is fitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct LapCost {
    weight: f64,
    rows: f64,
    rows2: f64,
    compute: f64,
    compute_rows: f64,
    medium_s: Option<f64>,
    blind: bool,
}

impl LapCost {
    /// For laps whose stalls are not visible, as those of a mapped model: the whole lap
    /// counts as compute, and [`LapCost::limit`] is `None`.
    pub fn blind() -> Self {
        Self {
            blind: true,
            ..Self::default()
        }
    }

    /// Adds a lap of so many rows that took `lap_s` seconds, of which the
    /// compute waited `stall_s`.
    pub fn add(&mut self, rows: usize, lap_s: f64, stall_s: f64) {
        let (x, y) = (rows as f64, (lap_s - stall_s).max(0.0));
        for (sum, new) in [
            (&mut self.weight, 1.0),
            (&mut self.rows, x),
            (&mut self.rows2, x * x),
            (&mut self.compute, y),
            (&mut self.compute_rows, x * y),
        ] {
            *sum = *sum * FADE + new;
        }
        // A lap that waited took as long as its bytes; without waiting it took at least that.
        self.medium_s = match self.medium_s {
            before if stall_s > WAITED * lap_s => {
                let before = before.unwrap_or(lap_s);
                Some(before + LATEST * (lap_s - before))
            }
            Some(before) => Some(before.min(lap_s)),
            None => None,
        };
    }

    /// `a` and `b` of the compute, in seconds.
    fn line(&self) -> Option<(f64, f64)> {
        if self.weight == 0.0 {
            return None;
        }
        let (x, y) = (self.rows / self.weight, self.compute / self.weight);
        let spread = self.rows2 / self.weight - x * x;
        if spread < 1e-6 * x * x {
            return Some((0.0, y / x));
        }
        let slope = (self.compute_rows / self.weight - x * y) / spread;
        // Noise must make neither the slope nor the fixed part negative.
        let b = slope.clamp(0.0, y / x);
        Some((y - b * x, b))
    }

    /// Compute time of a lap of so many rows, in seconds; `None` before any lap.
    pub fn compute_s(&self, rows: usize) -> Option<f64> {
        self.line().map(|(a, b)| a + b * rows as f64)
    }

    /// Time that the medium takes for a lap's bytes, in seconds; `None` if no lap waited.
    pub fn medium_s(&self) -> Option<f64> {
        self.medium_s
    }

    /// Number of rows from which a lap takes longer to compute than to read; 0 if compute
    /// is always longer. `None` before any measurement, if compute does not grow with the
    /// rows, or if stalls are not visible.
    pub fn limit(&self) -> Option<f64> {
        let (a, b) = self.line().filter(|_| !self.blind)?;
        let Some(medium_s) = self.medium_s else {
            return Some(0.0);
        };
        (b > 0.0).then(|| ((medium_s - a) / b).max(0.0))
    }

    /// How many rows of a lap with `sequences` generating ones prompts may have: as many
    /// as compute while the medium is busy anyway, or as make compute at most twice as long
    /// as without them, whichever is more.
    pub fn spare(&self, sequences: usize) -> usize {
        let Some((a, b)) = self.line() else {
            return 0;
        };
        let until_s = (2.0 * (a + b * sequences as f64)).max(self.medium_s.unwrap_or(0.0));
        let rows = if b > 0.0 {
            (until_s - a) / b
        } else {
            f64::INFINITY
        };
        // Rounded down; the addition keeps a whole number whole despite rounding errors.
        ((rows + 1e-6) as usize).saturating_sub(sequences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Laps of an ideal machine: compute 0.4 s and 0.1 s a row, bytes in 1.2 s.
    fn measured(rows: &[usize]) -> LapCost {
        let mut pace = LapCost::default();
        for &rows in rows {
            let compute = 0.4 + 0.1 * rows as f64;
            let lap = compute.max(1.2);
            pace.add(rows, lap, lap - compute);
        }
        pace
    }

    fn near(got: Option<f64>, expect: f64) {
        let got = got.expect("a figure");
        assert!((got - expect).abs() < 1e-6, "{got}, not {expect}");
    }

    #[test]
    fn lines_are_found() {
        let pace = measured(&[1, 4, 1, 6, 2]);
        near(pace.compute_s(1), 0.5);
        near(pace.compute_s(20), 2.4);
        near(pace.medium_s(), 1.2);
        near(pace.limit(), 8.0);
    }

    #[test]
    fn pieces_fill_the_medium_or_double_the_compute() {
        let pace = measured(&[1, 4, 1, 6, 2]);
        // With one sequence, seven more rows compute within the medium's time; with eight
        // none does, and the compute of 1.2 s may double.
        assert_eq!(pace.spare(1), 7);
        assert_eq!(pace.spare(8), 12);
    }

    #[test]
    fn laps_of_one_size_have_no_fixed_part() {
        let pace = measured(&[2, 2]);
        near(pace.compute_s(4), 1.2);
        assert_eq!(LapCost::default().limit(), None);
    }

    #[test]
    fn without_a_medium_compute_is_always_the_limit() {
        let mut pace = LapCost::default();
        for rows in [1, 3] {
            pace.add(rows, rows as f64, 0.0);
        }
        near(pace.limit(), 0.0);
        assert_eq!(pace.spare(2), 2);
    }

    #[test]
    fn without_visible_stalls_there_is_no_limit() {
        let mut pace = LapCost::blind();
        for rows in [1, 3] {
            pace.add(rows, rows as f64, 0.0);
        }
        assert_eq!(pace.limit(), None);
        assert_eq!(pace.spare(2), 2);
    }

    #[test]
    fn noise_makes_no_negative_slope() {
        let mut pace = LapCost::default();
        pace.add(1, 2.0, 0.0);
        pace.add(9, 1.0, 0.0);
        assert!(pace.compute_s(9) >= pace.compute_s(1));
        assert_eq!(pace.spare(1), usize::MAX - 1);
    }
}
