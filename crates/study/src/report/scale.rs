//! From values to places on an axis, and the places of its ticks.

use super::plot::Axis;

/// How many ticks an axis has, about.
const TICKS: f64 = 6.0;

/// An axis from a minimum to a maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    /// A scale of `axis` that holds all `values`, a little wider than them; `None`
    /// if it would hold nothing. A logarithmic one passes over what is not above 0.
    pub fn around(values: impl Iterator<Item = f64>, axis: &Axis) -> Option<Self> {
        let log = axis.log;
        let usable = |value: &f64| value.is_finite() && (!log || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(usable) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return None;
        }
        if log {
            let (from, to) = (low.log10(), high.log10());
            let margin = ((to - from) * 0.04).max(0.05);
            return Some(Self {
                low: from - margin,
                high: to + margin,
                log,
            });
        }
        // Ticks are printed with three digits: values that differ by less are on a level.
        let digit = 10f64.powf(high.abs().max(low.abs()).log10().floor() - 2.0);
        let short = (TICKS * digit - (high - low)) / 2.0;
        if high > low && short > 0.0 {
            (low, high) = (low - short, high + short);
        }
        // Quantities start at 0 unless they are all far from it; levels, in
        // decibels over something, have no such beginning.
        let level = matches!(axis.unit.as_str(), "dB" | "dBm");
        if !level && low > 0.0 && low < 0.6 * high {
            low = 0.0;
        }
        let margin = match high - low {
            span if span > 0.0 => span * 0.04,
            _ => 0.5 * high.abs().max(1.0),
        };
        let low = if low == 0.0 { 0.0 } else { low - margin };
        Some(Self {
            low,
            high: high + margin,
            log,
        })
    }

    /// Where `value` is, 0 at the low end and 1 at the high end; `None` where
    /// it has no place.
    pub fn place(&self, value: f64) -> Option<f64> {
        let at = match self.log {
            true if value > 0.0 => value.log10(),
            true => return None,
            false => value,
        };
        at.is_finite()
            .then(|| (at - self.low) / (self.high - self.low))
    }

    /// Values of ticks, some six of them.
    pub fn ticks(&self) -> Vec<f64> {
        if self.log && self.high - self.low > 1.2 {
            return self.decades();
        }
        let (low, high) = match self.log {
            true => (10f64.powf(self.low), 10f64.powf(self.high)),
            false => (self.low, self.high),
        };
        let rough = (high - low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
        let step = step.into_iter().find(|&step| step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }

    /// Whole powers of ten, so many apart that there are at most eight; with 2
    /// and 5 between if there are few.
    fn decades(&self) -> Vec<f64> {
        let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
        let step = ((last - first) / 8 + 1).max(1);
        let powers = (first - 1..=last).filter(|n| (n - first) % step == 0);
        let between: &[f64] = match last - first {
            0..=2 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let all = powers.flat_map(|n| between.iter().map(move |m| m * 10f64.powi(n)));
        all.filter(|&tick| self.place(tick).is_some_and(|at| (0.0..=1.0).contains(&at)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::digits;
    use super::*;

    fn axis(log: bool) -> Axis {
        Axis {
            log,
            ..Axis::linear("x", "")
        }
    }

    #[test]
    fn all_values_have_a_place_and_ticks_lie_among_them() {
        let cases: [(&[f64], bool); 7] = [
            (&[1.0, 2.0, 3.0], false),
            (&[100.0, 101.0], false),
            (&[-5.0, 5.0], false),
            (&[7.0], false),
            (&[1e-3, 1e9], true),
            (&[3.0, 4.0], true),
            (&[5.0], true),
        ];
        for (values, log) in cases {
            let scale = Scale::around(values.iter().copied(), &axis(log)).expect("it has values");
            for &value in values {
                let at = scale.place(value).expect("it has a place");
                assert!((0.0..=1.0).contains(&at), "{values:?}: {value} at {at}");
            }
            let ticks = scale.ticks();
            assert!((2..=12).contains(&ticks.len()), "{values:?}: {ticks:?}");
            for tick in ticks {
                let at = scale.place(tick).expect("it has a place");
                assert!(
                    (-1e-9..=1.0 + 1e-9).contains(&at),
                    "{values:?}: tick {tick}"
                );
            }
        }
    }

    #[test]
    fn ticks_of_what_hardly_differs_are_told_apart() {
        for values in [
            [11.5, 11.507],
            [9.99, 10.01],
            [1e9, 1.0001e9],
            [191.0, 196.0],
        ] {
            let scale = Scale::around(values.into_iter(), &axis(false)).expect("it has values");
            let mut told: Vec<String> = scale.ticks().into_iter().map(digits).collect();
            let all = told.len();
            told.dedup();
            assert!(all >= 2 && told.len() == all, "{values:?}: {told:?}");
        }
    }

    #[test]
    fn nothing_has_no_scale() {
        assert_eq!(Scale::around([].into_iter(), &axis(false)), None);
        assert_eq!(Scale::around([f64::NAN].into_iter(), &axis(false)), None);
        assert_eq!(Scale::around([0.0, -1.0].into_iter(), &axis(true)), None);
        let log = Scale::around([1.0, 10.0].into_iter(), &axis(true)).expect("it has values");
        assert_eq!(log.place(0.0), None);
    }
}
