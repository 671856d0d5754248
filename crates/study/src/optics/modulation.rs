//! Modulation formats and error correction: the SNR that a format needs, and the bits that it
//! carries.

mod error_rate;
mod fec;
mod information;

pub use error_rate::{bit_error_rate, required_snr_db};
pub use fec::{FECS, Fec, fec};
pub use information::{gmi_bits, shannon_bits};

use serde::{Deserialize, Serialize};

/// A square constellation with Gray labels, in each of two polarisations, that is received
/// coherently; or light that is on and off, received by its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Format {
    /// On-off keying: 1 bit a symbol, in one polarisation.
    #[serde(rename = "OOK")]
    Ook,
    /// 2 bits a symbol and polarisation.
    #[serde(rename = "QPSK")]
    Qpsk,
    /// 4 bits.
    #[serde(rename = "16QAM")]
    Qam16,
    /// 6 bits.
    #[serde(rename = "64QAM")]
    Qam64,
    /// 8 bits.
    #[serde(rename = "256QAM")]
    Qam256,
}

impl Format {
    /// All formats, from few to many bits.
    pub const ALL: [Self; 5] = [
        Self::Ook,
        Self::Qpsk,
        Self::Qam16,
        Self::Qam64,
        Self::Qam256,
    ];
    /// Those that are received coherently.
    pub const COHERENT: [Self; 4] = [Self::Qpsk, Self::Qam16, Self::Qam64, Self::Qam256];

    /// Bits a symbol in one polarisation.
    pub fn bits(self) -> u32 {
        match self {
            Self::Ook => 1,
            Self::Qpsk => 2,
            Self::Qam16 => 4,
            Self::Qam64 => 6,
            Self::Qam256 => 8,
        }
    }

    /// Polarisations that carry bits.
    pub fn polarisations(self) -> u32 {
        match self {
            Self::Ook => 1,
            _ => 2,
        }
    }

    /// Its name, as design files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ook => "OOK",
            Self::Qpsk => "QPSK",
            Self::Qam16 => "16QAM",
            Self::Qam64 => "64QAM",
            Self::Qam256 => "256QAM",
        }
    }

    /// Levels of each of the two dimensions of a coherent format.
    fn levels(self) -> u32 {
        1 << (self.bits() / 2)
    }
}

/// Net bits a second of a channel in all polarisations of the format: what symbols, format,
/// error correction and framing leave.
pub fn net_rate_bit_per_s(
    format: Format,
    symbol_rate_hz: f64,
    fec_overhead: f64,
    framing_overhead: f64,
) -> f64 {
    let bits = format.polarisations() * format.bits();
    let gross = f64::from(bits) * symbol_rate_hz;
    gross / ((1.0 + fec_overhead) * (1.0 + framing_overhead))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OIF 400ZR: 59.84375 GBd of 16QAM, 14.8 % of CFEC, 400 Gb/s net.
    #[test]
    fn a_400zr_module_carries_400_gbit_per_s() {
        let cfec = fec("cfec").unwrap();
        let rate = net_rate_bit_per_s(Format::Qam16, 59.84375e9, cfec.overhead, 0.0426);
        assert!((rate / 400e9 - 1.0).abs() < 2e-3, "{rate}");
    }
}
