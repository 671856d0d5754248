//! Forward error correction: what it costs and what it still corrects.

use serde::Serialize;

/// A code by name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fec {
    /// The name, as a design file has it.
    pub name: &'static str,
    /// Redundant bits over payload bits.
    pub overhead: f64,
    /// Bits in error before correction that it brings down to 10⁻¹⁵; without redundant bits,
    /// those that pass for none.
    pub bit_error_threshold: f64,
    /// Where these come from.
    pub source: &'static str,
}

/// What a code leaves of bits that it can correct: what its threshold is for, by
/// [`Fec::bit_error_threshold`] and the source of each code.
const RESIDUAL: f64 = 1e-15;

impl Fec {
    /// Share of the payload's bits that are wrong after correction, from that
    /// before it. Only the threshold is published, not the curve: up to it
    /// 10⁻¹⁵; beyond it the decoder fails, and the bits stay as they came.
    /// How steep it is between the two, no data sheet says. Without redundant bits all
    /// errors stay.
    pub fn residual(&self, bit_error_rate: f64) -> f64 {
        match self.overhead > 0.0 && bit_error_rate <= self.bit_error_threshold {
            true => RESIDUAL.min(bit_error_rate),
            false => bit_error_rate,
        }
    }
}

/// The codes of today's modules.
pub const FECS: [Fec; 4] = [
    Fec {
        name: "none",
        overhead: 0.0,
        bit_error_threshold: 1e-12,
        source: "IEEE 802.3ae, clause 52: what 10GBASE may leave wrong without correction",
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_corrects_up_to_its_threshold_and_not_beyond() {
        for code in FECS.iter().filter(|code| code.overhead > 0.0) {
            let most = code.bit_error_threshold;
            assert_eq!(code.residual(most), 1e-15, "{}", code.name);
            assert_eq!(code.residual(most * 1.01), most * 1.01, "{}", code.name);
            assert_eq!((code.residual(0.0), code.residual(1e-18)), (0.0, 1e-18));
        }
        let none = fec("none").expect("it is in the list");
        assert_eq!(none.residual(1e-13), 1e-13);
    }
}
