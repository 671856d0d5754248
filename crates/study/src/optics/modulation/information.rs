//! Bits that a symbol carries in Gaussian noise: with ideal shaping, and with a
//! given constellation and bit-wise decoding.

use super::{Format, bit_error_rate};

/// Bits a symbol in one polarisation with ideal shaping, log₂(1 + SNR).
pub fn shannon_bits(snr: f64) -> f64 {
    snr.ln_1p() / std::f64::consts::LN_2
}

/// Generalised mutual information of a Gray-labelled square constellation, in
/// bits a symbol and polarisation: what an ideal bit-wise code would carry;
/// Alvarado et al., J. Lightwave Technol. 36 (2018) 424, eq. 26, one dimension
/// at a time, by trapezia over ±7 standard deviations of the noise.
///
/// On-off keying is decided before decoding: one less the entropy of an error.
pub fn gmi_bits(format: Format, snr: f64) -> f64 {
    if format == Format::Ook {
        let wrong = bit_error_rate(format, snr);
        let doubt = |share: f64| match share > 0.0 {
            true => -share * share.log2(),
            false => 0.0,
        };
        return (1.0 - doubt(wrong) - doubt(1.0 - wrong)).max(0.0);
    }
    const STEPS: i32 = 70;
    const STEP: f64 = 0.2;
    let levels = format.levels();
    let bits = levels.trailing_zeros();
    let mean_square = (f64::from(levels * levels) - 1.0) / 3.0;
    let sigma = (mean_square / snr).sqrt();
    let points: Vec<(f64, u32)> = (0..levels)
        .map(|i| (f64::from(2 * i) - f64::from(levels - 1), i ^ (i >> 1)))
        .collect();
    // The other half of the points mirrors this one.
    let half = points.len() / 2;
    let mut lost = 0.0;
    for (sent, label) in &points[..half] {
        for step in 0..=STEPS {
            let noise = (f64::from(step) - f64::from(STEPS) / 2.0) * STEP;
            let density = STEP * (-noise * noise / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let got = sent + noise * sigma;
            lost += density * doubt_bits(&points, *label, got, sigma, bits);
        }
    }
    let total = f64::from(bits) - lost / half as f64;
    2.0 * total.max(0.0)
}

/// Bits in doubt over all positions of a label when `got` is received.
fn doubt_bits(points: &[(f64, u32)], label: u32, got: f64, sigma: f64, bits: u32) -> f64 {
    let exponent = |point: f64| -(got - point) * (got - point) / (2.0 * sigma * sigma);
    let most = points
        .iter()
        .map(|(point, _)| exponent(*point))
        .fold(f64::MIN, f64::max);
    let weights: Vec<f64> = points
        .iter()
        .map(|(point, _)| (exponent(*point) - most).exp())
        .collect();
    let all: f64 = weights.iter().sum();
    let of_bit = |bit: u32| {
        let same = |other: u32| (other ^ label) >> bit & 1 == 0;
        let agreeing: f64 = points
            .iter()
            .zip(&weights)
            .filter(|((_, other), _)| same(*other))
            .map(|(_, weight)| weight)
            .sum();
        (all / agreeing.max(1e-300)).log2()
    };
    (0..bits).map(of_bit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optics::units::linear;

    #[test]
    fn information_lies_below_the_bits_and_below_shannon() {
        for format in Format::ALL {
            let mut before = 0.0;
            for snr_db in 0..40 {
                let snr = linear(f64::from(snr_db));
                let bits = gmi_bits(format, snr);
                assert!(
                    bits <= f64::from(format.bits()) + 1e-9,
                    "{format:?} {snr_db}"
                );
                assert!(
                    bits <= shannon_bits(snr) + 1e-9,
                    "{format:?} {snr_db}: {bits}"
                );
                assert!(bits >= before - 1e-9, "{format:?} {snr_db}");
                before = bits;
            }
            assert!(
                f64::from(format.bits()) - before < 1e-3,
                "{format:?}: {before}"
            );
        }
    }

    /// Reference values by an integral of fifty times as many steps.
    #[test]
    fn coarse_steps_are_fine_enough() {
        let cases = [
            (Format::Qpsk, 2.0, 1.284297),
            (Format::Qpsk, 9.0, 1.980327),
            (Format::Qpsk, 15.0, 2.000000),
            (Format::Qpsk, 21.0, 2.000000),
            (Format::Qam16, 2.0, 1.259480),
            (Format::Qam16, 9.0, 2.925191),
            (Format::Qam16, 15.0, 3.928532),
            (Format::Qam16, 21.0, 3.999997),
            (Format::Qam64, 2.0, 1.174171),
            (Format::Qam64, 9.0, 2.870019),
            (Format::Qam64, 15.0, 4.677997),
            (Format::Qam64, 21.0, 5.900002),
            (Format::Qam256, 2.0, 1.151191),
            (Format::Qam256, 9.0, 2.755168),
            (Format::Qam256, 15.0, 4.571850),
            (Format::Qam256, 21.0, 6.560479),
        ];
        for (format, snr_db, expect) in cases {
            let got = gmi_bits(format, linear(snr_db));
            assert!((got - expect).abs() < 1e-5, "{format:?} {snr_db}: {got:.8}");
        }
    }

    /// The known capacity of a binary channel: QPSK at 0 dB carries 0.97 bits.
    #[test]
    fn qpsk_is_two_binary_channels() {
        let got = gmi_bits(Format::Qpsk, 1.0);
        assert!((got - 2.0 * 0.486).abs() < 2e-3, "{got}");
    }
}
