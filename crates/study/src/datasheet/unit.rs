//! The units that data sheets may be written in. Everything is converted to the base unit of
//! its dimension on reading.

/// What kind of quantity a figure is. The base unit is what
/// [`Figure::value`](super::Figure::value) is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// A plain number or a share; base 1.
    One,
    /// Data; base bytes.
    Data,
    /// Data a second; base bytes per second.
    DataRate,
    /// Energy to move data; base joules per bit.
    EnergyPerBit,
    /// Power; base watts.
    Power,
    /// Power to hold data; base watts per byte.
    PowerPerData,
    /// Money; base US dollars.
    Price,
    /// Money to hold data; base dollars per byte.
    PricePerData,
    /// Money to move data; base dollars per bit per second.
    PricePerRate,
    /// Money along a fiber; base dollars per metre.
    PricePerLength,
    /// Money for energy; base dollars per joule.
    PricePerEnergy,
    /// Length; base metres.
    Length,
    /// Area; base square metres.
    Area,
    /// Time; base seconds.
    Time,
    /// Speed; base metres per second.
    Speed,
    /// Frequency, bandwidth; base hertz.
    Frequency,
    /// Arithmetic; base operations per second.
    Compute,
    /// Relative change per year; base 1 per year.
    Growth,
    /// A ratio on a logarithmic scale; base decibels.
    Decibel,
    /// Optical power on a logarithmic scale; base decibels over a milliwatt.
    DecibelMilliwatt,
    /// Attenuation; base decibels per metre.
    Attenuation,
    /// Chromatic dispersion; base seconds per square metre.
    Dispersion,
    /// Nonlinear refractive index; base square metres per watt.
    NonlinearIndex,
}

/// Name, dimension, and how many base units one is.
const UNITS: &[(&str, Dimension, f64)] = &[
    ("1", Dimension::One, 1.0),
    ("%", Dimension::One, 1e-2),
    ("B", Dimension::Data, 1.0),
    ("bit", Dimension::Data, 0.125),
    ("kbit", Dimension::Data, 125.0),
    ("kB", Dimension::Data, 1e3),
    ("MB", Dimension::Data, 1e6),
    ("GB", Dimension::Data, 1e9),
    ("TB", Dimension::Data, 1e12),
    ("PB", Dimension::Data, 1e15),
    ("KiB", Dimension::Data, 1024.0),
    ("MiB", Dimension::Data, 1_048_576.0),
    ("GiB", Dimension::Data, 1_073_741_824.0),
    ("bit/s", Dimension::DataRate, 0.125),
    ("kbit/s", Dimension::DataRate, 125.0),
    ("Mbit/s", Dimension::DataRate, 0.125e6),
    ("Gbit/s", Dimension::DataRate, 0.125e9),
    ("Tbit/s", Dimension::DataRate, 0.125e12),
    ("Pbit/s", Dimension::DataRate, 0.125e15),
    ("B/s", Dimension::DataRate, 1.0),
    ("kB/s", Dimension::DataRate, 1e3),
    ("MB/s", Dimension::DataRate, 1e6),
    ("GB/s", Dimension::DataRate, 1e9),
    ("TB/s", Dimension::DataRate, 1e12),
    ("PB/s", Dimension::DataRate, 1e15),
    ("J/bit", Dimension::EnergyPerBit, 1.0),
    ("nJ/bit", Dimension::EnergyPerBit, 1e-9),
    ("pJ/bit", Dimension::EnergyPerBit, 1e-12),
    ("mW", Dimension::Power, 1e-3),
    ("W", Dimension::Power, 1.0),
    ("kW", Dimension::Power, 1e3),
    ("mW/GB", Dimension::PowerPerData, 1e-12),
    ("W/GB", Dimension::PowerPerData, 1e-9),
    ("W/TB", Dimension::PowerPerData, 1e-12),
    ("$", Dimension::Price, 1.0),
    ("k$", Dimension::Price, 1e3),
    ("M$", Dimension::Price, 1e6),
    ("$/GB", Dimension::PricePerData, 1e-9),
    ("$/TB", Dimension::PricePerData, 1e-12),
    ("$/(Gbit/s)", Dimension::PricePerRate, 1e-9),
    ("$/m", Dimension::PricePerLength, 1.0),
    ("$/km", Dimension::PricePerLength, 1e-3),
    ("$/kWh", Dimension::PricePerEnergy, 1.0 / 3.6e6),
    ("mm", Dimension::Length, 1e-3),
    ("m", Dimension::Length, 1.0),
    ("km", Dimension::Length, 1e3),
    ("µm²", Dimension::Area, 1e-12),
    ("ps", Dimension::Time, 1e-12),
    ("ns", Dimension::Time, 1e-9),
    ("µs", Dimension::Time, 1e-6),
    ("ms", Dimension::Time, 1e-3),
    ("s", Dimension::Time, 1.0),
    ("year", Dimension::Time, 31_557_600.0),
    ("m/s", Dimension::Speed, 1.0),
    ("Hz", Dimension::Frequency, 1.0),
    ("kHz", Dimension::Frequency, 1e3),
    ("MHz", Dimension::Frequency, 1e6),
    ("GHz", Dimension::Frequency, 1e9),
    ("THz", Dimension::Frequency, 1e12),
    ("TFLOP/s", Dimension::Compute, 1e12),
    ("PFLOP/s", Dimension::Compute, 1e15),
    ("%/year", Dimension::Growth, 1e-2),
    ("dB", Dimension::Decibel, 1.0),
    ("dBm", Dimension::DecibelMilliwatt, 1.0),
    ("dB/km", Dimension::Attenuation, 1e-3),
    ("ps/(nm km)", Dimension::Dispersion, 1e-6),
    ("m²/W", Dimension::NonlinearIndex, 1.0),
];

impl Dimension {
    /// How many base units one `unit` is; `None` if it is none of these.
    pub fn factor(self, unit: &str) -> Option<f64> {
        let mut own = UNITS.iter().filter(|(_, dimension, _)| *dimension == self);
        own.find(|(name, ..)| *name == unit)
            .map(|&(_, _, factor)| factor)
    }

    /// Whether it is money.
    pub fn is_price(self) -> bool {
        use Dimension::*;
        matches!(
            self,
            Price | PricePerData | PricePerRate | PricePerLength | PricePerEnergy
        )
    }

    /// The names of its units, for a message.
    pub fn units(self) -> impl Iterator<Item = &'static str> {
        let own = UNITS
            .iter()
            .filter(move |&&(_, dimension, _)| dimension == self);
        own.map(|&(name, ..)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_converted_within_their_dimension() {
        let cases = [
            (Dimension::DataRate, "Tbit/s", Some(1.25e11)),
            (Dimension::DataRate, "GB/s", Some(1e9)),
            (Dimension::Data, "kbit", Some(125.0)),
            (Dimension::Data, "GB/s", None),
            (Dimension::Length, "km", Some(1e3)),
            (Dimension::Length, "furlong", None),
            (Dimension::PowerPerData, "mW/GB", Some(1e-12)),
        ];
        for (dimension, unit, expected) in cases {
            assert_eq!(dimension.factor(unit), expected, "{unit}");
        }
    }

    #[test]
    fn no_unit_stands_for_two_quantities() {
        for (index, (name, ..)) in UNITS.iter().enumerate() {
            assert!(
                UNITS[..index].iter().all(|(other, ..)| other != name),
                "{name}"
            );
        }
    }
}
