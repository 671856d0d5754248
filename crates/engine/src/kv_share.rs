//! The size of a server's KV cache for a given budget: pure arithmetic.
//!
//! A larger cache lets more sequences share a lap, but leaves less memory for resident
//! weights, so that a lap streams more. The time of a lap is predicted from the device's
//! rate and an assumed rate of compute, and the size with the most tokens per second is
//! chosen.

/// Bytes of weights that a thread passes over per second. Assumed for 4-bit weights, not
/// measured, like the default micro-batch.
const THREAD_BYTES_PER_S: f64 = 8e9;
/// Rows whose arithmetic takes as long as a pass over the weights; assumed as well.
const ROWS: f64 = 6.0;

/// Steps from the smallest cache to the largest, with a constant factor.
const STEPS: i32 = 64;

/// Sizes that reach this share of the best rate count as equally good.
const GOOD: f64 = 0.999;

/// The budget to divide, and what the division depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvTrade {
    /// The whole budget, in bytes.
    pub budget: u64,
    /// The part of it for neither cache nor weights, in bytes.
    pub fixed: u64,
    /// Weights of the model, in bytes.
    pub weights: u64,
    /// Bytes of the cache per token.
    pub token: f64,
    /// Minimum number of tokens of the cache.
    pub least: u32,
    /// Maximum number of tokens of the cache.
    pub most: u32,
    /// Average number of tokens of a sequence.
    pub sequence: f64,
    /// Maximum number of sequences of a lap.
    pub seqs: u32,
    /// Compute threads.
    pub threads: u32,
    /// Device rate in bytes per second.
    pub rate: f64,
}

impl KvTrade {
    /// The number of tokens of the cache with the most tokens per second; of equally good
    /// sizes the largest.
    pub fn tokens(&self) -> u32 {
        let (least, most) = (self.least, self.most.max(self.least));
        let step = (f64::from(most) / f64::from(least.max(1))).powf(1.0 / f64::from(STEPS));
        let steps = (0..=STEPS).map(|n| f64::from(least) * step.powi(n));
        let all = self.sequence * f64::from(self.seqs);
        let sizes: Vec<u32> = steps
            .chain([all])
            .map(|size| (size.round() as u32).clamp(least, most))
            .collect();
        let rates = sizes.iter().map(|&size| self.rate_of(size));
        let best = rates.fold(0.0, f64::max);
        let good = sizes
            .iter()
            .filter(|&&size| self.rate_of(size) >= GOOD * best);
        good.copied().max().unwrap_or(least)
    }

    /// Tokens per second with a cache of `tokens` tokens.
    fn rate_of(&self, tokens: u32) -> f64 {
        let seqs = (f64::from(tokens) / self.sequence).clamp(1.0, f64::from(self.seqs.max(1)));
        seqs / self.lap_s(tokens, seqs)
    }

    /// Seconds of a lap of `seqs` sequences.
    fn lap_s(&self, tokens: u32, seqs: f64) -> f64 {
        let cache = self.token * f64::from(tokens);
        let left = (self.budget as f64 - self.fixed as f64 - cache).max(0.0);
        let streamed = (self.weights as f64 - left).max(0.0);
        let pass_s = self.weights as f64 / (THREAD_BYTES_PER_S * f64::from(self.threads.max(1)));
        (streamed / self.rate).max(pass_s * (1.0 + seqs / ROWS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A model of 70B in 8 GiB, eight sequences of 4096 tokens.
    const LARGE: KvTrade = KvTrade {
        budget: 8 * GIB,
        fixed: GIB / 2,
        weights: 37 * GIB,
        token: 327_680.0,
        least: 512,
        most: 32_768,
        sequence: 2048.0,
        seqs: 8,
        threads: 2,
        rate: 3.7e9,
    };

    #[test]
    fn it_is_the_best_of_all_sizes() {
        let sizes = [1e9, 3e9, 20e9].into_iter().flat_map(|rate| {
            let of = move |budget: u64| KvTrade {
                budget: budget * GIB,
                rate,
                ..LARGE
            };
            [1, 4, 8, 16, 30, 40, 64].into_iter().map(of)
        });
        for trade in sizes {
            let got = trade.rate_of(trade.tokens());
            for size in (trade.least..=trade.most).step_by(64) {
                let other = trade.rate_of(size);
                assert!(got >= 0.9 * other, "{size} of {trade:?}: {got}, {other}");
            }
        }
    }

    #[test]
    fn where_laps_are_long_it_is_large() {
        // Streaming half as many bytes would not make up for one sequence instead of eight.
        let tokens = LARGE.tokens();
        assert!((12_000..=16_500).contains(&tokens), "{tokens}");
        // More than all sequences need gains nothing.
        let short = KvTrade {
            sequence: 200.0,
            ..LARGE
        };
        assert!((1550..1800).contains(&short.tokens()), "{}", short.tokens());
        // One sequence gains nothing by more.
        let alone = KvTrade { seqs: 1, ..LARGE };
        assert!(alone.tokens() < 700, "{}", alone.tokens());
        // If everything is in memory anyway, there is room for a context each.
        let whole = KvTrade {
            budget: 64 * GIB,
            ..LARGE
        };
        assert_eq!(whole.tokens(), whole.most);
    }

    #[test]
    fn where_the_cache_would_push_the_weights_out_it_is_small() {
        // The weights nearly fit: each byte of cache is streamed instead, from a slow drive.
        let tight = KvTrade {
            budget: 38 * GIB,
            rate: 0.2e9,
            ..LARGE
        };
        let roomy = KvTrade {
            budget: 64 * GIB,
            ..tight
        };
        assert!(tight.tokens() < roomy.tokens(), "{}", tight.tokens());
    }
}
