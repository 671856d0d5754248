//! Forward error correction: what it costs and what it still corrects.

use serde::Serialize;

/// A code by name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fec {
    /// The name, as a design file has it.
    pub name: &'static str,
    /// Redundant bits over payload bits.
    pub overhead: f64,
    /// Bits in error before correction that it brings down to 10⁻¹⁵.
    pub bit_error_threshold: f64,
    /// Where these come from.
    pub source: &'static str,
}

/// The codes of today's modules.
pub const FECS: [Fec; 3] = [
    Fec {
        name: "kp4",
        overhead: 0.058,
        bit_error_threshold: 2.4e-4,
        source: "IEEE 802.3 RS(544,514)",
    },
    Fec {
        name: "cfec",
        overhead: 0.148,
        bit_error_threshold: 1.25e-2,
        source: "OIF 400ZR",
    },
    Fec {
        name: "ofec",
        overhead: 0.153,
        bit_error_threshold: 2.0e-2,
        source: "OpenROADM and OpenZR+",
    },
];

/// The code of that name.
pub fn fec(name: &str) -> Option<&'static Fec> {
    FECS.iter().find(|fec| fec.name == name)
}
