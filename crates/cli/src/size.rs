//! Sizes, rates, counts and budgets as people write them: parsed and formatted. Binary
//! units for memory (`2GiB`), decimal ones for rates (`2.8GB/s`).

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

const UNITS: [(&str, f64); 17] = [
    ("", 1.0),
    ("b", 1.0),
    ("k", 1024.0),
    ("kib", 1024.0),
    ("kb", 1e3),
    ("m", 1048576.0),
    ("mib", 1048576.0),
    ("mb", 1e6),
    ("g", 1073741824.0),
    ("gib", 1073741824.0),
    ("gb", 1e9),
    ("t", 1099511627776.0),
    ("tib", 1099511627776.0),
    ("tb", 1e12),
    ("pib", 1125899906842624.0),
    ("pb", 1e15),
    ("bytes", 1.0),
];

/// The forms of a size, for messages.
const EXPECTED: &str = "a size such as 2GiB, 512MiB, 1.5GB or a number of bytes";

/// The largest size, rate and count: beyond it sums of them would overflow.
const MOST: f64 = 9e18;

/// Bytes of `2GiB`, `512MiB`, `1.5GB`, `2g` (binary) or `1048576`; the case does not
/// matter, and a space before the unit is allowed.
///
/// # Errors
/// When it is no size, less than one byte, or more than 9000 PB.
pub fn parse_size(text: &str) -> Result<u64> {
    match quantity(text) {
        Some(bytes) if bytes > MOST => bail!("{}: expected at most 9000 PB", text.trim()),
        Some(bytes) if bytes < 1.0 => bail!("expected {EXPECTED}, at least 1"),
        // From 2^53 on, floating point would change plain bytes.
        Some(bytes) => Ok(text.trim().parse().unwrap_or(bytes.round() as u64)),
        None => bail!("expected {EXPECTED}, at least 1"),
    }
}

/// Bytes per second of `2.8GB/s` or `900MB/s`; `/s` may be left out.
///
/// # Errors
/// When it is no rate, or less than one byte per second.
pub fn parse_rate(text: &str) -> Result<f64> {
    let amount = text.trim().trim_end_matches("/s");
    match quantity(amount).filter(|rate| (1.0..=MOST).contains(rate)) {
        Some(rate) => Ok(rate),
        None => bail!(
            "expected a rate such as 2.8GB/s, 900MB/s or a number of bytes per second, at least 1"
        ),
    }
}

/// A number of things such as `774M`, `1.5B` or `124000000`; the case does not matter.
///
/// # Errors
/// When it is no number, or less than one.
pub fn parse_count(text: &str) -> Result<u64> {
    const SCALES: [(char, f64); 4] = [('k', 1e3), ('m', 1e6), ('b', 1e9), ('t', 1e12)];
    let text = text.trim().to_lowercase();
    let scale = SCALES.iter().find(|(unit, _)| text.ends_with(*unit));
    let (number, scale) = match scale {
        Some((unit, scale)) => (text.strip_suffix(*unit).unwrap_or(&text), *scale),
        None => (text.as_str(), 1.0),
    };
    let count = number.trim().parse::<f64>().ok().map(|count| count * scale);
    match count.filter(|count| (1.0..=MOST).contains(count)) {
        Some(count) => Ok(count.round() as u64),
        None => bail!("expected a count such as 774M, 1.5B or 124000000, at least 1"),
    }
}

/// `774M`, `1.5B`, `12`: as [`parse_count`] takes it, with three significant digits.
pub fn format_count(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit < 4 {
        value /= 1e3;
        unit += 1;
    }
    let digits = format!("{value:.*}", places(value));
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => &digits,
    };
    format!("{digits}{}", ["", "k", "M", "B", "T"][unit])
}

/// `9.29 GB`, in decimal units, as drives are sold.
pub fn format_decimal_size(bytes: f64) -> String {
    scaled(bytes, 1000.0, ["B", "kB", "MB", "GB", "TB"])
}

fn quantity(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_lowercase();
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(number.parse::<f64>().ok()? * scale)
}

/// `2.00 GiB`, `74.3 MiB`, `512 B`: three significant digits.
pub fn format_size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB"])
}

/// `2.81 GB/s`, from bytes per second.
pub fn format_rate(bytes_per_s: f64) -> String {
    scaled(bytes_per_s, 1000.0, ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

fn scaled(value: f64, step: f64, units: [&str; 5]) -> String {
    let mut value = value;
    let mut unit = 0;
    // A value that would be rounded to a full step is written in the next unit.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let places = if unit == 0 { 0 } else { places(value) };
    format!("{value:.places$} {}", units[unit])
}

/// Decimal places that give three significant digits, for values up to about a thousand.
pub fn places(value: f64) -> usize {
    match value.abs() {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    }
}

/// A memory budget: absolute, or relative to the model's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Bytes.
    Bytes(u64),
    /// Share of the model's size, above 0.
    Share(f64),
}

impl Budget {
    /// Bytes for a model of `model_bytes`.
    pub fn bytes(self, model_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => (model_bytes as f64 * share).round() as u64,
        }
    }
}

impl FromStr for Budget {
    type Err = anyhow::Error;

    /// A size, or `1/2` and `/1.25` of the model (`/n` is `1/n`).
    fn from_str(text: &str) -> Result<Self> {
        let Some((over, under)) = text.split_once('/') else {
            return match parse_size(text) {
                Ok(bytes) => Ok(Self::Bytes(bytes)),
                Err(error) => bail!("{error}, or a share of the model such as 1/2 or /1.25"),
            };
        };
        let over = if over.trim().is_empty() {
            Some(1.0)
        } else {
            over.trim().parse().ok()
        };
        let under = under.trim().parse::<f64>().ok();
        let share = over
            .zip(under)
            .map(|(over, under): (f64, f64)| over / under);
        match share.filter(|share| share.is_finite() && *share > 0.0) {
            Some(share) => Ok(Self::Share(share)),
            None => bail!("expected a share of the model above 0, such as 1/2 or /1.25 (1/1.25)"),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.write_str(&format_size(*bytes)),
            Self::Share(share) => write!(f, "{:.0} % of the model", share * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        let cases = [
            ("2GiB", 2 << 30),
            ("512MiB", 512 << 20),
            ("512 mib", 512 << 20),
            ("1.5GB", 1_500_000_000),
            ("75MiB", 75 << 20),
            ("4k", 4096),
            ("2G", 2 << 30),
            ("1TiB", 1 << 40),
            ("1048576", 1 << 20),
            ("7B", 7),
            (" 7 bytes ", 7),
            ("9007199254740993", 9_007_199_254_740_993),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text).expect(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "", "0", "GiB", "-1", "2 XiB", "1e3", "1..5G", "0.2", "2GiB/s", "∞",
        ] {
            let message = parse_size(text).expect_err(text).to_string();
            assert!(message.contains("2GiB"), "{text}: {message}");
        }
    }

    #[test]
    fn sizes_end_where_sums_would_overflow() {
        assert_eq!(
            parse_size("9000PB").expect("it is one"),
            9_000_000_000_000_000_000
        );
        for text in [
            "99999999TiB",
            "9001PB",
            "18446744073709551615",
            "9999999999999999999999",
        ] {
            let message = parse_size(text).expect_err(text).to_string();
            assert!(message.contains("at most 9000 PB"), "{text}: {message}");
        }
        // As much as can be written.
        let endless = "9".repeat(400);
        assert!(parse_size(&endless).is_err() && parse_rate(&endless).is_err());
    }

    #[test]
    fn rates_are_parsed() {
        for (text, rate) in [
            ("2.8GB/s", 2.8e9),
            ("900MB/s", 9e8),
            ("1GiB/s", 1073741824.0),
            ("5GB", 5e9),
            ("100", 100.0),
        ] {
            assert_eq!(parse_rate(text).expect(text), rate, "{text}");
        }
        for text in ["", "/s", "0", "fast", "2GB/h"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_rates_are_formatted() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (75 << 20, "75.0 MiB"),
            (512 << 20, "512 MiB"),
            ((1 << 20) - 1, "1.00 MiB"),
            (2 << 30, "2.00 GiB"),
            (u64::MAX, "16777216 TiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(format_size(bytes), text);
        }
        for (rate, text) in [
            (0.0, "0 B/s"),
            (2.8e9, "2.80 GB/s"),
            (9.999e8, "1.00 GB/s"),
            (4.56e7, "45.6 MB/s"),
        ] {
            assert_eq!(format_rate(rate), text);
        }
    }

    #[test]
    fn what_is_formatted_can_be_parsed() {
        for shift in 0..60 {
            let bytes = 1u64 << shift;
            let again = parse_size(&format_size(bytes)).expect("is a size");
            assert!(
                again.abs_diff(bytes) <= bytes / 100,
                "{bytes} became {again}"
            );
        }
    }

    #[test]
    fn counts_are_parsed_and_formatted() {
        for (text, count, again) in [
            ("774M", 774_000_000, "774M"),
            ("1.5b", 1_500_000_000, "1.5B"),
            ("124439808", 124_439_808, "124M"),
            ("1 k", 1000, "1k"),
            ("12", 12, "12"),
            ("999999", 999_999, "1M"),
            ("100", 100, "100"),
            ("2T", 2_000_000_000_000, "2T"),
        ] {
            assert_eq!(parse_count(text).expect(text), count);
            assert_eq!(format_count(count), again);
        }
        for text in ["", "M", "0", "-1", "many", "1GB", "1MM", "inf"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn budgets_are_parsed() {
        let cases = [
            ("1GiB", 1 << 30),
            ("1/2", 500),
            ("/2", 500),
            ("/1.25", 800),
            ("3/4", 750),
            ("1/1", 1000),
            ("5/4", 1250),
        ];
        for (text, bytes) in cases {
            let budget: Budget = text.parse().expect(text);
            assert_eq!(budget.bytes(1000), bytes, "{text}");
        }
        for text in [
            "", "/", "1/0", "0/1", "a/2", "-1/2", "half", "1/2/3", "1/inf",
        ] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }
}
