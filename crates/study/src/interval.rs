//! A value that is not known exactly: low, typical and high, carried through
//! arithmetic. Knows no units and no source.
//!
//! The rule is interval arithmetic. `typical` is what the formula gives for the
//! typical inputs; `low` and `high` are the least and the greatest that it can
//! give while each input is anywhere between its own `low` and `high`. A result
//! therefore never looks more certain than its inputs. An input that enters a
//! formula twice counts as two that vary independently: the range is then wider
//! than need be, never narrower, so write `a * (b + c)`, not `a * b + a * c`.

use std::fmt;
use std::ops::{Add, Div, Mul, Sub};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A value with its range, `low ≤ typical ≤ high`, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The minimum.
    pub low: f64,
    /// The value to calculate with.
    pub typical: f64,
    /// The maximum.
    pub high: f64,
}

/// Where in its range each figure is taken, so that a whole case is as bad or as
/// good as its data sheets leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    /// All at their worst.
    Worst,
    /// All typical.
    Typical,
    /// All at their best.
    Best,
}

impl Corner {
    /// All corners.
    pub const ALL: [Self; 3] = [Self::Worst, Self::Typical, Self::Best];

    /// A figure of which more is better.
    pub fn more_is_better(self, range: Interval) -> f64 {
        match self {
            Self::Worst => range.low,
            Self::Typical => range.typical,
            Self::Best => range.high,
        }
    }

    /// A figure of which less is better.
    pub fn less_is_better(self, range: Interval) -> f64 {
        match self {
            Self::Worst => range.high,
            Self::Typical => range.typical,
            Self::Best => range.low,
        }
    }
}

impl Interval {
    /// A range from its three values.
    ///
    /// # Panics
    /// When they are not in order, or one is not a number. Use
    /// [`Interval::checked`] for values that someone typed.
    pub fn new(low: f64, typical: f64, high: f64) -> Self {
        Self::checked(low, typical, high)
            .unwrap_or_else(|| panic!("{low}, {typical}, {high} are not low, typical, high"))
    }

    /// A range from its three values, if they are in order.
    pub fn checked(low: f64, typical: f64, high: f64) -> Option<Self> {
        (low <= typical && typical <= high).then_some(Self { low, typical, high })
    }

    /// A value that is known exactly.
    pub const fn exact(value: f64) -> Self {
        Self {
            low: value,
            typical: value,
            high: value,
        }
    }

    /// Whether it has no width.
    pub fn is_exact(&self) -> bool {
        self.low == self.high
    }

    /// Whether `value` lies in it, ends included.
    pub fn holds(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// `f` of it, where `f` never falls.
    pub fn rising(self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(f(self.low), f(self.typical), f(self.high))
    }

    /// `f` of it, where `f` never rises.
    pub fn falling(self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(f(self.high), f(self.typical), f(self.low))
    }

    /// The greater of the two, end by end.
    pub fn max(self, other: Self) -> Self {
        self.with(other, f64::max)
    }

    /// The lesser of the two, end by end.
    pub fn min(self, other: Self) -> Self {
        self.with(other, f64::min)
    }

    /// The next whole number, end by end: how many units it takes.
    pub fn ceil(self) -> Self {
        // What is a whole number but for rounding stays that number.
        self.rising(|value| (value - 1e-9 * value.abs()).ceil())
    }

    /// Both ends by an operation that never falls in either argument.
    fn with(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self::new(
            f(self.low, other.low),
            f(self.typical, other.typical),
            f(self.high, other.high),
        )
    }

    /// The extremes of `f` over the four corners, for operations that are
    /// monotone in each argument but not always in the same direction.
    fn corners(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let typical = f(self.typical, other.typical);
        let corners = [
            f(self.low, other.low),
            f(self.low, other.high),
            f(self.high, other.low),
            f(self.high, other.high),
        ];
        let low = corners.into_iter().fold(typical, f64::min);
        let high = corners.into_iter().fold(typical, f64::max);
        Self { low, typical, high }
    }
}

impl From<f64> for Interval {
    fn from(value: f64) -> Self {
        Self::exact(value)
    }
}

impl Add for Interval {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
}

impl Sub for Interval {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.corners(other, |a, b| a - b)
    }
}

impl Mul for Interval {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.corners(other, |a, b| a * b)
    }
}

impl Mul<f64> for Interval {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        self * Self::exact(factor)
    }
}

impl Div for Interval {
    type Output = Self;
    /// # Panics
    /// When 0 lies within the divisor: the result would have no bounds.
    fn div(self, other: Self) -> Self {
        assert!(
            !other.holds(0.0),
            "a range that holds 0 ({other}) cannot divide"
        );
        self.corners(other, |a, b| a / b)
    }
}

impl Div<f64> for Interval {
    type Output = Self;
    fn div(self, divisor: f64) -> Self {
        self / Self::exact(divisor)
    }
}

impl std::iter::Sum for Interval {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::exact(0.0), |sum, value| sum + value)
    }
}

impl fmt::Display for Interval {
    /// `2`, or `2 (1–4)`, as `f64` prints them, with its precision if given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.typical, f)?;
        if self.is_exact() {
            return Ok(());
        }
        write!(f, " (")?;
        fmt::Display::fmt(&self.low, f)?;
        write!(f, "–")?;
        fmt::Display::fmt(&self.high, f)?;
        write!(f, ")")
    }
}

impl<'de> Deserialize<'de> for Interval {
    /// From a number, `[low, typical, high]`, or the object that is written.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number, or three: [low, typical, high]")]
        enum Written {
            One(f64),
            Three([f64; 3]),
            #[serde(rename_all = "snake_case")]
            Named {
                low: f64,
                typical: f64,
                high: f64,
            },
        }
        let (low, typical, high) = match Written::deserialize(deserializer)? {
            Written::One(value) => (value, value, value),
            Written::Three([low, typical, high]) | Written::Named { low, typical, high } => {
                (low, typical, high)
            }
        };
        Self::checked(low, typical, high).ok_or_else(|| {
            D::Error::custom(format!(
                "[{low}, {typical}, {high}] is not [low, typical, high]: they must not fall"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(low: f64, typical: f64, high: f64) -> Interval {
        Interval::new(low, typical, high)
    }

    #[test]
    fn operations_give_the_extremes_of_their_inputs() {
        let (a, b) = (range(1.0, 2.0, 4.0), range(5.0, 8.0, 10.0));
        let cases = [
            (a + b, range(6.0, 10.0, 14.0)),
            (b - a, range(1.0, 6.0, 9.0)),
            (a * b, range(5.0, 16.0, 40.0)),
            (a / b, range(0.1, 0.25, 0.8)),
            (a * -1.0, range(-4.0, -2.0, -1.0)),
            (a / 2.0, range(0.5, 1.0, 2.0)),
            (a.max(Interval::exact(3.0)), range(3.0, 3.0, 4.0)),
            (a.min(Interval::exact(3.0)), range(1.0, 2.0, 3.0)),
            (a.falling(|x| 1.0 / x), range(0.25, 0.5, 1.0)),
            ((a / 3.0).ceil(), range(1.0, 1.0, 2.0)),
            ([a, b].into_iter().sum(), range(6.0, 10.0, 14.0)),
        ];
        for (index, (got, expected)) in cases.into_iter().enumerate() {
            assert_eq!(got, expected, "case {index}");
        }
    }

    #[test]
    fn every_combination_of_inputs_lies_in_the_result() {
        let values = [-3.0, -1.0, 0.0, 0.5, 2.0];
        let mut all = Vec::new();
        for low in values {
            for typical in values {
                all.extend(values.map(|high| Interval::checked(low, typical, high)));
            }
        }
        let all: Vec<Interval> = all.into_iter().flatten().collect();
        for &a in &all {
            for &b in &all {
                for x in [a.low, a.typical, a.high] {
                    for y in [b.low, b.typical, b.high] {
                        assert!((a + b).holds(x + y) && (a - b).holds(x - y));
                        assert!((a * b).holds(x * y), "{a} * {b}");
                        assert!(b.holds(0.0) || (a / b).holds(x / y), "{a} / {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn whole_numbers_survive_rounding() {
        let third = Interval::exact(1.0) / 3.0;
        assert_eq!((third * 9.0).ceil(), Interval::exact(3.0));
        assert_eq!(Interval::exact(3.0 + 1e-6).ceil(), Interval::exact(4.0));
    }

    #[test]
    fn ranges_are_read_and_written() {
        for (text, expected) in [
            ("2", Interval::exact(2.0)),
            ("[1, 2.5, 3]", range(1.0, 2.5, 3.0)),
            (
                "{\"low\": 1, \"typical\": 2, \"high\": 3}",
                range(1.0, 2.0, 3.0),
            ),
        ] {
            let got: Interval = serde_json::from_str(text).expect(text);
            assert_eq!(got, expected, "{text}");
            let again = serde_json::to_string(&got).expect("it has only numbers");
            assert_eq!(serde_json::from_str::<Interval>(&again).expect(&again), got);
        }
        for text in ["[3, 2, 1]", "[1, 2]", "\"2\"", "null", "[1, 2, 3, 4]"] {
            let error = serde_json::from_str::<Interval>(text).expect_err(text);
            assert!(
                error.to_string().contains("[low, typical, high]"),
                "{error}"
            );
        }
        assert_eq!(format!("{:.1}", range(1.0, 2.0, 4.0)), "2.0 (1.0–4.0)");
        assert_eq!(format!("{:.1}", Interval::exact(2.0)), "2.0");
    }

    #[test]
    #[should_panic(expected = "cannot divide")]
    fn what_holds_zero_cannot_divide() {
        let _ = Interval::exact(1.0) / range(-1.0, 1.0, 2.0);
    }
}
