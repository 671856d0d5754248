//! The loop as a store: how long a lap takes and how many bytes it holds.

use super::units::LIGHT_M_PER_S;

/// A loop that carries data at a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpticalLoop {
    /// Length of one lap.
    pub length_km: f64,
    /// Speed of light in vacuum over the speed of a pulse in the loop.
    pub group_index: f64,
    /// Bits that arrive at the tap each second, after error correction, over
    /// all channels, cores and fibers.
    pub net_rate_bit_per_s: f64,
}

impl OpticalLoop {
    /// Time of one lap: length over group velocity.
    pub fn delay_s(&self) -> f64 {
        delay_s(self.length_km, self.group_index)
    }

    /// Bytes that are under way at any moment: rate times delay.
    pub fn bytes_in_flight(&self) -> f64 {
        self.net_rate_bit_per_s * self.delay_s() / 8.0
    }
}

/// Time that a pulse takes over a length.
pub fn delay_s(length_km: f64, group_index: f64) -> f64 {
    length_km * 1e3 * group_index / LIGHT_M_PER_S
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check 1 of the reference: Carmack's loop.
    #[test]
    fn golden_the_article_s_loop() {
        let article = OpticalLoop {
            length_km: 200.0,
            group_index: 1.468,
            net_rate_bit_per_s: 256e12,
        };
        let check = |got: f64, expect: f64| {
            assert!((got / expect - 1.0).abs() < 1e-4, "{got} {expect}");
        };
        check(article.delay_s(), 979.34e-6);
        check(article.bytes_in_flight(), 31.339e9);
    }
}
