//! How much of the budget the KV cache of a server gets: pure arithmetic.
//!
//! A larger cache lets more sequences ride a lap, and leaves less memory to the weights
//! that stay, so that a lap streams more. The lap is predicted from the device's rate
//! and from what its compute is assumed to take, and the share is taken that serves most
//! tokens a second. Knows no file and no llama.cpp.

/// Bytes of weights that a thread passes over in a second, and rows of a lap that take as
/// long as that: assumed of 4-bit weights, not measured, as the micro-batch is.
const THREAD_BYTES_PER_S: f64 = 8e9;
const ROWS: f64 = 6.0;

/// Steps from the smallest cache to the largest; each is as much larger than the last.
const STEPS: i32 = 64;

/// Share of the best rate that is as good.
const GOOD: f64 = 0.999;

/// What there is to divide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvTrade {
    /// The whole budget, in bytes.
    pub budget: u64,
    /// What neither cache nor weights get of it.
    pub fixed: u64,
    /// Weights of the model, in bytes.
    pub weights: u64,
    /// Bytes of the cache for a token.
    pub token: f64,
    /// Fewest and most tokens that it may hold.
    pub least: u32,
    /// As [`KvTrade::least`].
    pub most: u32,
    /// Tokens that a sequence takes on average.
    pub sequence: f64,
    /// Most sequences of a lap.
    pub seqs: u32,
    /// Compute threads.
    pub threads: u32,
    /// What the device brings, in bytes per second.
    pub rate: f64,
}

impl KvTrade {
    /// Tokens that the cache holds if most tokens a second are served; where a larger one
    /// costs next to nothing, that.
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

    /// Tokens a second that are served with a cache of so many tokens.
    fn rate_of(&self, tokens: u32) -> f64 {
        let riding = (f64::from(tokens) / self.sequence).clamp(1.0, f64::from(self.seqs.max(1)));
        riding / self.lap_s(tokens, riding)
    }

    /// How long a lap of so many sequences takes, in seconds.
    fn lap_s(&self, tokens: u32, riding: f64) -> f64 {
        let cache = self.token * f64::from(tokens);
        let left = (self.budget as f64 - self.fixed as f64 - cache).max(0.0);
        let streamed = (self.weights as f64 - left).max(0.0);
        let pass_s = self.weights as f64 / (THREAD_BYTES_PER_S * f64::from(self.threads.max(1)));
        (streamed / self.rate).max(pass_s * (1.0 + riding / ROWS))
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
        // Half as many bytes a lap would not make up for one sequence in place of eight.
        let tokens = LARGE.tokens();
        assert!((12_000..=16_500).contains(&tokens), "{tokens}");
        // Beyond what all sequences take it brings nothing.
        let short = KvTrade {
            sequence: 200.0,
            ..LARGE
        };
        assert!((1550..1800).contains(&short.tokens()), "{}", short.tokens());
        // One sequence gains nothing by more.
        let alone = KvTrade { seqs: 1, ..LARGE };
        assert!(alone.tokens() < 700, "{}", alone.tokens());
        // Where all is in memory anyway, there is room for a context each.
        let whole = KvTrade {
            budget: 64 * GIB,
            ..LARGE
        };
        assert_eq!(whole.tokens(), whole.most);
    }

    #[test]
    fn where_the_cache_would_push_the_weights_out_it_is_small() {
        // All but fits: each byte of cache is one that is streamed, from a slow drive.
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
