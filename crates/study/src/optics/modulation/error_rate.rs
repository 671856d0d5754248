//! Bit errors of Gray-labelled square constellations and of on-off keying in Gaussian noise.

use super::Format;
use crate::optics::units::{db, linear};

/// Optical filter before a receiver of power, over the symbol rate.
const OPTICAL_FILTER: f64 = 2.0;
/// Bandwidth of its electronics, over the symbol rate.
const RECEIVER: f64 = 0.7;

/// Bits in error before correction, at an SNR per symbol: of coherent formats by Cho and
/// Yoon, IEEE Trans. Commun. 50 (2002) 1074, eqs. 14 and 16, exact; of on-off keying
/// ½·erfc(Q/√2).
pub fn bit_error_rate(format: Format, snr: f64) -> f64 {
    if format == Format::Ook {
        return 0.5 * libm::erfc(on_off_q(snr) / std::f64::consts::SQRT_2);
    }
    let levels = f64::from(format.levels());
    let bits = format.bits() / 2;
    let scale = (1.5 * snr / (levels * levels - 1.0)).sqrt();
    let of_bit = |bit: u32| {
        let half = f64::from(1u32 << (bit - 1));
        let terms = ((1.0 - 0.5f64.powi(bit as i32)) * levels) as u32;
        let term = |i: u32| {
            let part = f64::from(i) * half / levels;
            let sign = if part.floor() as i64 % 2 == 0 {
                1.0
            } else {
                -1.0
            };
            let weight = half - (part + 0.5).floor();
            sign * weight * libm::erfc(f64::from(2 * i + 1) * scale)
        };
        (0..terms).map(term).sum::<f64>() / levels
    };
    (1..=bits).map(of_bit).sum::<f64>() / f64::from(bits)
}

/// Q of on-off keying behind optical amplifiers, light off being dark: the signal beats
/// with the noise of its polarisation, the noise of both with itself, thermal noise is
/// nothing beside them; a test derives it from the currents.
/// The SNR counts the noise within the symbol rate; the filter lets more of it pass.
fn on_off_q(snr: f64) -> f64 {
    let osnr = snr / OPTICAL_FILTER;
    let widths = (OPTICAL_FILTER / RECEIVER).sqrt();
    2.0 * osnr * widths / (1.0 + (1.0 + 4.0 * osnr).sqrt())
}

/// The SNR in dB at which a format's bit errors come down to a threshold.
pub fn required_snr_db(format: Format, bit_error_threshold: f64) -> f64 {
    let (mut low_db, mut high_db) = (db(1e-3), 60.0);
    // The error rate falls with the SNR; 60 halvings leave less than rounding.
    for _ in 0..60 {
        let middle_db = (low_db + high_db) / 2.0;
        if bit_error_rate(format, linear(middle_db)) > bit_error_threshold {
            low_db = middle_db;
        } else {
            high_db = middle_db;
        }
    }
    high_db
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check 10 of the reference.
    #[test]
    fn golden_snr_that_16qam_needs() {
        for (threshold, expect_db) in [(1.25e-2, 13.55), (2e-2, 12.71), (2.4e-4, 17.66)] {
            let got_db = required_snr_db(Format::Qam16, threshold);
            assert!((got_db - expect_db).abs() < 0.05, "{threshold}: {got_db}");
        }
    }

    /// QPSK is exactly ½·erfc(√(SNR/2)); at no signal every bit is a guess.
    #[test]
    fn limits_are_met() {
        for snr_db in [-5.0, 0.0, 5.0, 10.0] {
            let snr = linear(snr_db);
            let exact = 0.5 * libm::erfc((snr / 2.0).sqrt());
            assert!((bit_error_rate(Format::Qpsk, snr) / exact - 1.0).abs() < 1e-12);
        }
        for format in Format::ALL {
            let guess = bit_error_rate(format, 0.0);
            assert!((guess - 0.5).abs() < 1e-12, "{format:?}: {guess}");
        }
    }

    /// Currents and their deviations by hand: light on has twice the mean power and beats
    /// with the noise of its own polarisation, light off has the noise alone. At ten
    /// gigabits a second 10⁻⁹ takes 13 to 16 dB of OSNR in 0.1 nm.
    #[test]
    fn on_off_keying_is_two_currents_and_a_threshold_between() {
        for snr_db in [5.0, 12.0, 16.0, 20.0] {
            let snr = linear(snr_db);
            // The mean power is 1; `noise` is the density of one polarisation, of which the
            // symbol rate, 1 as well, lets 2 · noise pass.
            let noise = 1.0 / (2.0 * snr);
            let with_itself = 4.0 * noise * noise * OPTICAL_FILTER * RECEIVER;
            let with_signal = 4.0 * 2.0 * noise * RECEIVER;
            let (off, on) = (with_itself.sqrt(), (with_itself + with_signal).sqrt());
            let threshold = 2.0 * off / (off + on);
            let tail = |distance: f64| 0.5 * libm::erfc(distance / std::f64::consts::SQRT_2);
            let counted = (tail(threshold / off) + tail((2.0 - threshold) / on)) / 2.0;
            let got = bit_error_rate(Format::Ook, snr);
            assert!(
                (got / counted - 1.0).abs() < 1e-9,
                "{snr_db}: {got} {counted}"
            );
        }
        let osnr_db = required_snr_db(Format::Ook, 1e-9) + db(10.0 / 12.5);
        assert!((13.0..16.0).contains(&osnr_db), "{osnr_db}");
    }

    /// A count of errors over all symbols and all noise regions says the same.
    #[test]
    fn the_formula_is_the_sum_over_all_regions() {
        for format in Format::COHERENT {
            for snr_db in [3.0, 10.0, 17.0] {
                let snr = linear(snr_db);
                let (a, b) = (bit_error_rate(format, snr), counted(format, snr));
                assert!(
                    (a - b).abs() < 1e-9 * a + 1e-14,
                    "{format:?} {snr_db}: {a} {b}"
                );
            }
        }
    }

    /// Errors of one dimension by its decision regions and Gray labels.
    fn counted(format: Format, snr: f64) -> f64 {
        let levels = format.levels();
        let bits = levels.trailing_zeros();
        let mean_square = (f64::from(levels * levels) - 1.0) / 3.0;
        let sigma = (mean_square / snr).sqrt();
        let level = |i: u32| f64::from(2 * i) - f64::from(levels - 1);
        let above = |x: f64| 0.5 * libm::erfc(x / (sigma * std::f64::consts::SQRT_2));
        let gray = |i: u32| i ^ (i >> 1);
        let mut errors = 0.0;
        for sent in 0..levels {
            for got in 0..levels {
                let lower = if got == 0 {
                    1.0
                } else {
                    above(level(got) - 1.0 - level(sent))
                };
                let upper = if got + 1 == levels {
                    0.0
                } else {
                    above(level(got) + 1.0 - level(sent))
                };
                errors += f64::from((gray(sent) ^ gray(got)).count_ones()) * (lower - upper);
            }
        }
        errors / f64::from(levels * bits)
    }
}
