//! Which keys a data sheet of each kind has, their dimension and their limits. The one place to
//! add a key.

use serde::{Deserialize, Serialize};

use super::unit::Dimension;

/// What a data sheet describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SheetKind {
    /// A fiber, or what light goes through instead of one.
    Fiber,
    /// An optical amplifier.
    Amplifier,
    /// What turns bits into light and back.
    Transceiver,
    /// A memory of units that each hold and deliver data.
    Store,
    /// Data going round as its optics decide: a design, of which the sheet holds what
    /// may be set.
    Design,
    /// Data going round at a rate that was said: fiber, ends and length together.
    Loop,
    /// A memory of sound going round.
    Acoustic,
    /// A language model.
    Model,
    /// What computes.
    Accelerator,
    /// A class of software that runs models.
    Software,
    /// How models are trained.
    Training,
    /// A network whose activations were offloaded, as published.
    Offload,
    /// What money and energy cost.
    Economy,
    /// How fast something changes from year to year.
    Trend,
    /// The numbers in something that was said.
    Claim,
}

impl SheetKind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Fiber,
        Self::Amplifier,
        Self::Transceiver,
        Self::Store,
        Self::Design,
        Self::Loop,
        Self::Acoustic,
        Self::Model,
        Self::Accelerator,
        Self::Software,
        Self::Training,
        Self::Offload,
        Self::Economy,
        Self::Trend,
        Self::Claim,
    ];
}

/// One key of a kind of sheet.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it measures.
    pub dimension: Dimension,
    /// The unit of `least` and `most`, and of messages.
    pub unit: &'static str,
    /// The least that is possible, in `unit`.
    pub least: f64,
    /// The most that is possible, in `unit`.
    pub most: f64,
    /// Whether a sheet may lack it.
    pub optional: bool,
    /// Whether there can only be whole ones.
    pub whole: bool,
}

const fn key(
    name: &'static str,
    dimension: Dimension,
    unit: &'static str,
    least: f64,
    most: f64,
) -> Key {
    Key {
        name,
        dimension,
        unit,
        least,
        most,
        optional: false,
        whole: false,
    }
}

impl Key {
    /// A sheet may lack it.
    const fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// It is counted.
    const fn whole(self) -> Self {
        Self {
            whole: true,
            ..self
        }
    }
}

use Dimension::*;

const FIBER: &[Key] = &[
    key("group_index", One, "1", 1.0, 2.0),
    key("attenuation_1550", Attenuation, "dB/km", 0.0, 100.0),
    key("attenuation_1310", Attenuation, "dB/km", 0.0, 100.0).optional(),
    key("attenuation_1383", Attenuation, "dB/km", 0.0, 100.0).optional(),
    key("attenuation_1625", Attenuation, "dB/km", 0.0, 100.0).optional(),
    key("dispersion_1550", Dispersion, "ps/(nm km)", -200.0, 200.0).optional(),
    key("dispersion_1625", Dispersion, "ps/(nm km)", -200.0, 200.0).optional(),
    key("effective_area", Area, "µm²", 1.0, 10_000.0).optional(),
    key("nonlinear_index", NonlinearIndex, "m²/W", 0.0, 1e-18).optional(),
    key("cores", One, "1", 1.0, 1000.0).whole(),
    key("price", PricePerLength, "$/km", 0.0, 1e6),
];

const AMPLIFIER: &[Key] = &[
    key("noise_figure", Decibel, "dB", 3.0, 20.0),
    key("gain", Decibel, "dB", 0.0, 60.0),
    key("output_power", DecibelMilliwatt, "dBm", -20.0, 40.0),
    key("power", Power, "W", 0.0, 1e4).optional(),
    key("price", Price, "$", 0.0, 1e7).optional(),
];

const TRANSCEIVER: &[Key] = &[
    key("energy", EnergyPerBit, "pJ/bit", 0.0, 1e9),
    key("price", PricePerRate, "$/(Gbit/s)", 0.0, 1e9),
    key("rate", DataRate, "Gbit/s", 1e-6, 1e6).optional(),
];

const STORE: &[Key] = &[
    key("capacity", Data, "GB", 1e-9, 1e9),
    key("rate", DataRate, "GB/s", 1e-9, 1e9),
    key("write_rate", DataRate, "GB/s", 1e-9, 1e9).optional(),
    key("endurance", One, "1", 1.0, 1e12).optional(),
    key("latency", Time, "µs", 0.0, 1e9),
    key("energy", EnergyPerBit, "pJ/bit", 0.0, 1e9),
    key("standby", PowerPerData, "mW/GB", 0.0, 1e9),
    key("refresh", PowerPerData, "mW/GB", 0.0, 1e9).optional(),
    key("price", PricePerData, "$/GB", 0.0, 1e9),
];

const DESIGN: &[Key] = &[
    key("length", Length, "km", 0.001, 1e8),
    key("laps", One, "1", 1.0, 1e9),
];

const LOOP: &[Key] = &[
    key("length", Length, "km", 1e-6, 1e9),
    key("rate", DataRate, "Tbit/s", 1e-9, 1e6),
    key("regenerations", One, "1", 0.0, 1e6).whole(),
    key("sites", One, "1", 0.0, 1e6).whole(),
    key("amplifiers_per_site", One, "1", 0.0, 100.0).whole(),
];

const ACOUSTIC: &[Key] = &[
    key("line_capacity", Data, "bit", 1.0, 1e12),
    key("lines", One, "1", 1.0, 1e12).whole(),
    key("delay", Time, "µs", 1e-3, 1e9),
    key("sound_speed", Speed, "m/s", 1.0, 1e5).optional(),
    key("power", Power, "W", 0.0, 1e9),
    key("price", Price, "$", 0.0, 1e12),
];

const MODEL: &[Key] = &[
    key("layers", One, "1", 1.0, 1e4).whole(),
    key("weights", Data, "GB", 1e-6, 1e6),
    key("embedding", Data, "GB", 0.0, 1e6),
    key("kv_per_token", Data, "kB", 0.0, 1e6),
    key("active_parameters", One, "1", 1.0, 1e15),
    key("expert", Data, "MB", 1e-6, 1e9).optional(),
    key("experts", One, "1", 1.0, 1e6).whole().optional(),
    key("experts_per_token", One, "1", 1.0, 1e6)
        .whole()
        .optional(),
    key("expert_layers", One, "1", 1.0, 1e4).whole().optional(),
];

const ACCELERATOR: &[Key] = &[
    key("compute", Compute, "TFLOP/s", 1e-6, 1e6),
    key("sram", Data, "MB", 1e-3, 1e9),
    key("sram_rate", DataRate, "TB/s", 1e-6, 1e9),
    key("memory", Data, "GB", 1e-3, 1e6).optional(),
    key("memory_rate", DataRate, "TB/s", 1e-6, 1e6).optional(),
    key("power", Power, "W", 0.0, 1e6).optional(),
    key("price", Price, "$", 0.0, 1e9).optional(),
];

const SOFTWARE: &[Key] = &[
    key("utilisation", One, "%", 0.01, 100.0),
    key("latency_1", Time, "µs", 0.0, 1e6),
    key("latency_2", Time, "µs", 0.0, 1e6),
    key("latency_4", Time, "µs", 0.0, 1e6),
    key("latency_8", Time, "µs", 0.0, 1e6),
    key("sequence_1", Time, "µs", 0.0, 1e6),
    key("sequence_several", Time, "µs", 0.0, 1e6),
];

const TRAINING: &[Key] = &[
    key("batch", One, "1", 1.0, 1e12),
    key("utilisation", One, "%", 0.01, 100.0),
];

const OFFLOAD: &[Key] = &[
    key("step", Time, "s", 1e-6, 1e6),
    key("flash", Data, "GB", 1e-6, 1e6),
    key("host", Data, "GB", 1e-6, 1e6),
    key("slowdown_pages", One, "1", 1.0, 1e3),
    key("slowdown_flashneuron", One, "1", 1.0, 1e3).optional(),
    key("slowdown_g10", One, "1", 1.0, 1e3),
];

const ECONOMY: &[Key] = &[
    key("electricity", PricePerEnergy, "$/kWh", 0.0, 100.0),
    key("overhead", One, "1", 1.0, 10.0),
    key("lifetime", Time, "year", 0.01, 100.0),
    key("utilisation", One, "%", 0.01, 100.0),
];

const TREND: &[Key] = &[key("growth", Growth, "%/year", -99.0, 1e4)];

const CLAIM: &[Key] = &[
    key("capacity", Data, "GB", 0.0, 1e9).optional(),
    key("rate", DataRate, "TB/s", 0.0, 1e9).optional(),
    key("power", Power, "W", 0.0, 1e9).optional(),
    key("price", Price, "$", 0.0, 1e12).optional(),
    key("latency", Time, "µs", 0.0, 1e12).optional(),
    key("units", One, "1", 0.0, 1e12).optional(),
    key("price_ratio", One, "1", 0.0, 1e12).optional(),
    key("speed_ratio", One, "1", 0.0, 1e12).optional(),
];

impl SheetKind {
    /// Its keys, in the order of the table above.
    pub fn keys(self) -> &'static [Key] {
        match self {
            Self::Fiber => FIBER,
            Self::Amplifier => AMPLIFIER,
            Self::Transceiver => TRANSCEIVER,
            Self::Store => STORE,
            Self::Design => DESIGN,
            Self::Loop => LOOP,
            Self::Acoustic => ACOUSTIC,
            Self::Model => MODEL,
            Self::Accelerator => ACCELERATOR,
            Self::Software => SOFTWARE,
            Self::Training => TRAINING,
            Self::Offload => OFFLOAD,
            Self::Economy => ECONOMY,
            Self::Trend => TREND,
            Self::Claim => CLAIM,
        }
    }

    /// Keys that name another sheet, and its kind.
    pub fn references(self) -> &'static [(&'static str, SheetKind)] {
        match self {
            Self::Loop => &[
                ("fiber", SheetKind::Fiber),
                ("transceiver", SheetKind::Transceiver),
                ("amplifier", SheetKind::Amplifier),
            ],
            _ => &[],
        }
    }

    /// The key of this name.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().iter().find(|key| key.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_unit_of_its_dimension() {
        for kind in SheetKind::ALL {
            for key in kind.keys() {
                assert!(
                    key.dimension.factor(key.unit).is_some(),
                    "{kind:?}.{}",
                    key.name
                );
                assert!(key.least < key.most, "{kind:?}.{}", key.name);
            }
        }
    }
}
