//! Numbers with units, parsed and written as people write them. It does not know what
//! they measure.

/// What a number measures, which decides its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Kilometres.
    Length,
    /// Bits per second.
    Rate,
    /// Seconds.
    Time,
    /// A share of 1, also in percent.
    Share,
    /// Without a unit.
    Number,
}

impl Quantity {
    /// The units and their sizes.
    fn units(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Length => &[("km", 1.0), ("m", 1e-3)],
            Self::Rate => &[
                ("Gbit/s", 1e9),
                ("Tbit/s", 1e12),
                ("Pbit/s", 1e15),
                ("Mbit/s", 1e6),
                ("Gb/s", 1e9),
                ("Tb/s", 1e12),
            ],
            Self::Time => &[
                ("s", 1.0),
                ("ms", 1e-3),
                ("us", 1e-6),
                ("µs", 1e-6),
                ("ns", 1e-9),
            ],
            Self::Share => &[("", 1.0), ("%", 1e-2)],
            Self::Number => &[("", 1.0)],
        }
    }

    /// The number in `text`; `None` unless it is one in these units.
    pub fn parse(self, text: &str) -> Option<f64> {
        let text = text.trim();
        // The longest beginning that is a number: an exponent belongs to it.
        let end = (1..=text.len())
            .rev()
            .filter(|&end| text.is_char_boundary(end))
            .find(|&end| text[..end].parse::<f64>().is_ok())?;
        let unit = text[end..].trim();
        let (_, size) = self.units().iter().find(|(name, _)| *name == unit)?;
        let number: f64 = text[..end].parse().ok()?;
        (text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)))
            .then_some(number * size)
            .filter(|value| value.is_finite())
    }

    /// As a person writes it.
    pub fn show(self, value: f64) -> String {
        let mut units: Vec<_> = self.units().to_vec();
        units.retain(|(name, _)| !name.starts_with('µ') && !name.ends_with("b/s"));
        units.sort_by(|a, b| a.1.total_cmp(&b.1));
        let fits = |(_, size): &&(&str, f64)| value.abs() >= *size * 0.999;
        let (unit, size) = match self {
            // Megametres and permille are not in use.
            Self::Share | Self::Number => ("", 1.0),
            Self::Length if value >= 0.1 || value == 0.0 => ("km", 1.0),
            _ => *units.iter().rev().find(fits).unwrap_or(&units[0]),
        };
        // Nine digits are enough, and hide the noise of the conversion.
        let number = value / size;
        let digits = 9 - (number.abs().max(1e-9).log10().floor() as i32).clamp(-9, 9);
        let scale = 10f64.powi(digits);
        format!("{}{unit}", (number * scale).round() / scale)
    }

    /// The units in words, for messages.
    pub(crate) fn in_words(self) -> String {
        let names: Vec<&str> = self.units().iter().map(|(name, _)| *name).collect();
        match self {
            Self::Number => String::new(),
            Self::Share => " (15% is 0.15)".into(),
            _ => format!(", in {}", names.join(", ")),
        }
    }
}
