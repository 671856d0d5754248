//! Numbers for people: three digits and a prefix.

use crate::interval::Interval;

const PREFIXES: [(f64, &str); 10] = [
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
];

/// `1.23`, `12.3`, `123`: three digits, without a tail of zeros behind a point
/// where the number is whole; `∞` where there is no end of it.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => return "–".to_owned(),
        f64::INFINITY => return "∞".to_owned(),
        size if size > 0.0 && size < 5e-5 => return format!("{value:.1e}"),
        _ => {}
    }
    let places = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.995 || v == 0.0 => 2,
        v if v >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A number for a message, as it was written, except for those too long to read
/// with all their zeros: `1e300`.
pub fn plain(value: f64) -> String {
    // Rounding errors of a conversion are not shown.
    let value = format!("{value:.13e}").parse().unwrap_or(value);
    match value.abs() {
        size if size == 0.0 || (1e-9..1e15).contains(&size) || !value.is_finite() => {
            value.to_string()
        }
        _ => format!("{value:e}"),
    }
}

/// `32 TB/s`, `31.3 GB`, `979 µs`, from a value in base units.
pub fn si(value: f64, unit: &str) -> String {
    let (factor, prefix) = prefix(value);
    let space = if prefix.is_empty() && unit.is_empty() {
        ""
    } else {
        " "
    };
    format!("{}{space}{prefix}{unit}", digits(value / factor))
}

/// `31.3 GB (29–33)`, from a range in base units; one value if all are equal
/// when written so.
pub fn si_range(range: Interval, unit: &str) -> String {
    let (factor, prefix) = match range.typical {
        0.0 => prefix(range.high),
        typical => prefix(typical),
    };
    let [low, typical, high] = [range.low, range.typical, range.high].map(|v| digits(v / factor));
    let unit = format!("{prefix}{unit}");
    let space = if unit.is_empty() { "" } else { " " };
    match low == high {
        true => format!("{typical}{space}{unit}"),
        false => format!("{typical}{space}{unit} ({low}–{high})"),
    }
}

/// `$1.5M`, `$3.2k`, `$0.31`.
pub fn dollars(value: f64) -> String {
    let (factor, suffix) = match value.abs() {
        v if v >= 0.9995e12 => (1e12, "T"),
        v if v >= 0.9995e9 => (1e9, "B"),
        v if v >= 0.9995e6 => (1e6, "M"),
        v if v >= 0.9995e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("${}{suffix}", digits(value / factor))
}

/// `$1.5M ($1M–$2.6M)`.
pub fn dollars_range(range: Interval) -> String {
    let [low, typical, high] = [range.low, range.typical, range.high].map(dollars);
    match low == high {
        true => typical,
        false => format!("{typical} ({low}–{high})"),
    }
}

/// A plain number with its range: `20 (16–20)`, or with prefixes from 10,000 on.
pub fn count_range(range: Interval) -> String {
    if range.typical.abs() >= 1e4 {
        return si_range(range, "");
    }
    let [low, typical, high] = [range.low, range.typical, range.high].map(digits);
    match low == high {
        true => typical,
        false => format!("{typical} ({low}–{high})"),
    }
}

/// `12 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", digits(share * 100.0))
}

/// As at the beginning of a sentence.
pub fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

/// `1 token`, `0 tokens`, `1.2 k tokens`: a written count and what is counted, which is one
/// of them or several.
pub fn counted(count: impl std::fmt::Display, one: &str) -> String {
    let count = count.to_string();
    let several = if count == "1" { "" } else { "s" };
    format!("{count} {one}{several}")
}

fn prefix(value: f64) -> (f64, &'static str) {
    if value == 0.0 || !value.is_finite() {
        return (1.0, "");
    }
    let fits = |&&(factor, _): &&(f64, &str)| value.abs() >= factor * 0.9995;
    let found = PREFIXES.iter().find(fits);
    *found.unwrap_or(&PREFIXES[PREFIXES.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (digits(0.0), "0"),
            (digits(1234.5), "1234"),
            (digits(99.96), "100"),
            (digits(12.34), "12.3"),
            (digits(1.5), "1.5"),
            (digits(0.1234), "0.123"),
            (digits(0.01234), "0.0123"),
            (digits(4.56e-7), "4.6e-7"),
            (digits(1.0 / 0.0), "∞"),
            (digits(f64::NAN), "–"),
            (si(32e12, "B/s"), "32 TB/s"),
            (si(31.339e9, "B"), "31.3 GB"),
            (si(979.34e-6, "s"), "979 µs"),
            (si(0.9996, "s"), "1 s"),
            (si(999_600.0, ""), "1 M"),
            (si(12.0, ""), "12"),
            (si(5e-12, "J"), "5 pJ"),
            (dollars(1_500_000.0), "$1.5M"),
            (dollars(999.6), "$1k"),
            (dollars(0.312), "$0.312"),
            (percent(0.123), "12.3 %"),
            (plain(0.000001), "0.000001"),
            (plain(-1e300), "-1e300"),
            (plain(6753.000000000001), "6753"),
            (plain(1e9), "1000000000"),
            (plain(f64::NAN), "NaN"),
        ];
        for (index, (got, expected)) in cases.into_iter().enumerate() {
            assert_eq!(got, expected, "case {index}");
        }
    }

    #[test]
    fn ranges_have_the_prefix_of_what_is_typical() {
        let range = Interval::new(900e6, 1.5e9, 2e9);
        assert_eq!(si_range(range, "B"), "1.5 GB (0.9–2)");
        assert_eq!(si_range(Interval::exact(1.5e9), "B"), "1.5 GB");
        assert_eq!(
            si_range(Interval::new(0.0, 0.0, 3.2e12), "B"),
            "0 TB (0–3.2)"
        );
        assert_eq!(
            dollars_range(Interval::new(900.0, 1500.0, 2e6)),
            "$1.5k ($900–$2M)"
        );
        assert_eq!(count_range(Interval::new(16.0, 20.0, 20.0)), "20 (16–20)");
        assert_eq!(count_range(Interval::new(1e4, 2e4, 2e4)), "20 k (10–20)");
    }

    #[test]
    fn one_is_not_several() {
        for (count, expected) in [
            ("0", "0 tokens"),
            ("1", "1 token"),
            ("1.5", "1.5 tokens"),
            ("1 (0.5–2)", "1 (0.5–2) tokens"),
        ] {
            assert_eq!(counted(count, "token"), expected);
        }
    }
}
