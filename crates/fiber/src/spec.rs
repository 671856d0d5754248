//! The parameters of a fiber loop: its length, its light and what goes wrong in it. Each
//! has a name, a unit and a range, and is set from text here, for the command line and
//! for files alike. It does not know what circulates.

use crate::quantity::Quantity;
use std::fmt;
use thiserror::Error;

/// Speed of light in vacuum in km/s (exact, SI).
const LIGHT_KM_PER_S: f64 = 299_792.458;

/// The light fails at one moment and comes back at another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LightCut {
    /// Since the loop was filled, in seconds.
    pub at_s: f64,
    /// For how long, in seconds.
    pub for_s: f64,
}

/// The parameters of a fiber loop.
///
/// Several loops in parallel carry the bits of each extent side by side, as
/// more wavelengths would: rate and capacity add up, the lap stays.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopSpec {
    /// Length of the fiber in km.
    pub length_km: f64,
    /// Speed of light in vacuum over its speed in this fiber.
    pub group_index: f64,
    /// Gross bit rate of one loop, all wavelengths, in bit/s.
    pub rate_bit_per_s: f64,
    /// Share of the gross rate that framing and error correction take.
    pub overhead: f64,
    /// Loops in parallel.
    pub loops: u32,
    /// Copies of each piece on the loop, at equal distances: it passes as often in a
    /// lap.
    pub copies: u32,
    /// Dark time between two pieces, for switching, in seconds.
    pub guard_s: f64,
    /// Share of bits that are wrong after error correction, each lap.
    pub residual_ber: f64,
    /// Decides, with the times of the reads, which bits go wrong.
    pub seed: u64,
    /// When the light fails.
    pub cut: Option<LightCut>,
}

impl LoopSpec {
    /// A loop of this length in km and gross rate in bit/s; all else as in a
    /// common fiber: group index 1.468 (G.652 at 1550 nm), and 15 % of the rate
    /// for framing and error correction, about what coherent transceivers take.
    pub fn new(length_km: f64, rate_bit_per_s: f64) -> Self {
        Self {
            length_km,
            rate_bit_per_s,
            group_index: 1.468,
            overhead: 0.15,
            loops: 1,
            copies: 1,
            guard_s: 0.0,
            residual_ber: 0.0,
            seed: 1,
            cut: None,
        }
    }

    /// Time of one lap of the light, in seconds.
    pub fn lap_s(&self) -> f64 {
        self.length_km * self.group_index / LIGHT_KM_PER_S
    }

    /// From one pass of a piece to the next, in seconds: a lap divided by the number of
    /// copies.
    pub fn turn_s(&self) -> f64 {
        self.lap_s() / f64::from(self.copies)
    }

    /// Bytes of the model that pass each second, all loops together.
    pub fn net_bytes_per_s(&self) -> f64 {
        self.rate_bit_per_s * f64::from(self.loops) * (1.0 - self.overhead) / 8.0
    }

    /// Bytes in flight when the loops are full, overhead included.
    pub fn gross_bytes(&self) -> f64 {
        self.rate_bit_per_s * f64::from(self.loops) / 8.0 * self.lap_s()
    }

    /// Bytes of a model that the loops hold once, without guard times.
    pub fn capacity_bytes(&self) -> u64 {
        (self.net_bytes_per_s() * self.lap_s()) as u64
    }

    /// Time in which `bytes` in `pieces` pieces pass, guard times included, in seconds.
    pub fn takes_s(&self, bytes: u64, pieces: u64) -> f64 {
        bytes as f64 / self.net_bytes_per_s() + pieces as f64 * self.guard_s
    }

    /// How many times `bytes` in `pieces` pieces fit on the loop, at least 1.
    pub fn copies_that_fit(&self, bytes: u64, pieces: u64) -> u32 {
        let takes_s = self.takes_s(bytes, pieces);
        // As below: rounding in the last digit loses no copy.
        (self.lap_s() / takes_s * (1.0 + 1e-12)).clamp(1.0, f64::from(u32::MAX)) as u32
    }

    /// Whether `bytes` in `pieces` pieces fit once.
    ///
    /// # Errors
    /// [`DoesNotFit`], with the parameters that would hold them.
    pub fn check_fits(&self, bytes: u64, pieces: u64) -> Result<(), DoesNotFit> {
        let takes_s = self.takes_s(bytes, pieces);
        // Rounding in the last digit is no reason to refuse.
        let ratio = takes_s / self.lap_s();
        if ratio <= 1.0 + 1e-12 {
            return Ok(());
        }
        let guards_s = pieces as f64 * self.guard_s;
        let left_s = self.lap_s() - guards_s;
        Err(DoesNotFit {
            bytes,
            capacity: (self.net_bytes_per_s() * left_s.max(0.0)) as u64,
            length_km: self.length_km * ratio,
            // With a lap that is all guard time no rate is enough.
            rate_bit_per_s: (left_s > 0.0)
                .then(|| self.rate_bit_per_s * bytes as f64 / self.net_bytes_per_s() / left_s),
            loops: (left_s > 0.0).then(|| {
                (f64::from(self.loops) * bytes as f64 / self.net_bytes_per_s() / left_s).ceil()
            }),
        })
    }
}

/// More than the loop holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DoesNotFit {
    /// Bytes that should circulate.
    pub bytes: u64,
    /// Bytes that can, with guard times.
    pub capacity: u64,
    /// The length that would hold it, in km, all else equal.
    pub length_km: f64,
    /// The gross rate of one loop that would, in bit/s; `None` if none would.
    pub rate_bit_per_s: Option<f64>,
    /// The number of loops that would; `None` if none would.
    pub loops: Option<f64>,
}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "the fiber loop holds {:.1} MB, but {:.1} MB should circulate, {:.1} MB too much; \
             it would fit with length={}",
            mb(self.capacity),
            mb(self.bytes),
            mb(self.bytes - self.capacity),
            Quantity::Length.show(above(self.length_km)),
        )?;
        if let Some(rate) = self.rate_bit_per_s {
            write!(f, ", rate={}", Quantity::Rate.show(above(rate)))?;
        }
        if let Some(loops) = self.loops {
            write!(f, " or loops={loops}")?;
        }
        Ok(())
    }
}

/// Rounded up to three digits, so that what is advised is enough.
fn above(value: f64) -> f64 {
    let step = 10f64.powf(value.log10().floor() - 2.0);
    (value / step).ceil() * step
}

impl std::error::Error for DoesNotFit {}

/// Why a parameter was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// There is no such parameter.
    #[error("a fiber loop has no parameter `{key}`; it has {known}")]
    UnknownKey {
        /// As it was written.
        key: String,
        /// The names of all there are.
        known: String,
    },
    /// The value cannot be parsed, or is out of range.
    #[error("{key}={value}: expected {expected}")]
    Value {
        /// Which parameter.
        key: String,
        /// As it was written.
        value: String,
        /// What it may be, with units and range.
        expected: String,
    },
    /// A parameter without a default was not given.
    #[error("{key} is missing: give {expected}")]
    Missing {
        /// Which parameter.
        key: &'static str,
        /// What it may be, with units and range.
        expected: String,
    },
}

/// A parameter of one number: its name, what it measures, its range, and how to set it.
struct Key {
    name: &'static str,
    quantity: Quantity,
    from: f64,
    until: f64,
    set: fn(&mut LoopSpec, f64),
}

const KEYS: [Key; 8] = [
    Key {
        name: "length",
        quantity: Quantity::Length,
        from: 0.001,
        until: 1e7,
        set: |spec, value| spec.length_km = value,
    },
    Key {
        name: "rate",
        quantity: Quantity::Rate,
        from: 1e6,
        until: 1e18,
        set: |spec, value| spec.rate_bit_per_s = value,
    },
    Key {
        name: "index",
        quantity: Quantity::Number,
        from: 1.0,
        until: 4.0,
        set: |spec, value| spec.group_index = value,
    },
    Key {
        name: "overhead",
        quantity: Quantity::Share,
        from: 0.0,
        until: 0.9,
        set: |spec, value| spec.overhead = value,
    },
    Key {
        name: "loops",
        quantity: Quantity::Number,
        from: 1.0,
        until: 1e6,
        set: |spec, value| spec.loops = value as u32,
    },
    Key {
        name: "guard",
        quantity: Quantity::Time,
        from: 0.0,
        until: 1.0,
        set: |spec, value| spec.guard_s = value,
    },
    Key {
        name: "ber",
        quantity: Quantity::Number,
        from: 0.0,
        until: 0.5,
        set: |spec, value| spec.residual_ber = value,
    },
    Key {
        name: "seed",
        quantity: Quantity::Number,
        from: 0.0,
        until: 9_007_199_254_740_992.0,
        set: |spec, value| spec.seed = value as u64,
    },
];

/// The parameters that are whole numbers.
const WHOLE: [&str; 2] = ["loops", "seed"];

/// The names of all parameters.
fn keys() -> Vec<&'static str> {
    KEYS.iter().map(|key| key.name).chain(["cut"]).collect()
}

impl Key {
    fn expected(&self) -> String {
        let whole = if WHOLE.contains(&self.name) {
            "a whole number "
        } else {
            ""
        };
        format!(
            "{whole}from {} to {}{}",
            self.quantity.show(self.from),
            self.quantity.show(self.until),
            self.quantity.in_words()
        )
    }
}

/// Collects parameters given as text into a [`LoopSpec`].
#[derive(Clone, Debug)]
pub struct SpecBuilder {
    spec: LoopSpec,
}

impl SpecBuilder {
    /// Nothing given yet.
    pub fn new() -> Self {
        Self {
            spec: LoopSpec::new(f64::NAN, f64::NAN),
        }
    }

    /// Starts with the parameters of `spec`.
    pub fn from_spec(spec: LoopSpec) -> Self {
        Self { spec }
    }

    /// The length in km, if it was given.
    pub fn length_km(&self) -> Option<f64> {
        Some(self.spec.length_km).filter(|length| !length.is_nan())
    }

    /// Sets one parameter. Keys: `length`, `rate`, `index`, `overhead`,
    /// `loops`, `guard`, `ber`, `seed`, and `cut=2s+500ms` for light that
    /// fails after 2 s and comes back half a second later.
    ///
    /// # Errors
    /// [`SpecError`], which names key, value and range.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), SpecError> {
        if name == "cut" {
            self.spec.cut = Some(cut(text)?);
            return Ok(());
        }
        let key = KEYS.iter().find(|key| key.name == name);
        let key = key.ok_or_else(|| SpecError::UnknownKey {
            key: name.into(),
            known: keys().join(", "),
        })?;
        let value = key
            .quantity
            .parse(text)
            .filter(|value| (key.from..=key.until).contains(value))
            .filter(|value| !WHOLE.contains(&name) || value.fract() == 0.0)
            .ok_or_else(|| SpecError::Value {
                key: name.into(),
                value: text.into(),
                expected: key.expected(),
            })?;
        (key.set)(&mut self.spec, value);
        Ok(())
    }

    /// The loop.
    ///
    /// # Errors
    /// [`SpecError::Missing`] without a length or a rate.
    pub fn build(self) -> Result<LoopSpec, SpecError> {
        let needed = [self.spec.length_km, self.spec.rate_bit_per_s];
        match needed.iter().position(|value| value.is_nan()) {
            None => Ok(self.spec),
            Some(at) => Err(SpecError::Missing {
                key: KEYS[at].name,
                expected: KEYS[at].expected(),
            }),
        }
    }
}

impl Default for SpecBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn cut(text: &str) -> Result<LightCut, SpecError> {
    let time = |text: &str| {
        let value = Quantity::Time.parse(text);
        value.filter(|s| (0.0..=1e6).contains(s))
    };
    let both = text.split_once('+');
    both.and_then(|(at, lasts)| time(at).zip(time(lasts)))
        .map(|(at_s, for_s)| LightCut { at_s, for_s })
        .ok_or_else(|| SpecError::Value {
            key: "cut".into(),
            value: text.into(),
            expected: "when the light fails and for how long, such as 2s+500ms".into(),
        })
}
