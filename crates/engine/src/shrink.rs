//! Which smaller context to try when one takes too much memory: arithmetic on what that
//! one was measured to take. Making a context costs time, so those that certainly do not
//! fit are skipped.

use crate::budget;
use crate::ledger::{Account, Ledger};
use crate::shape::ContextShape;

/// Buffers may take one eighth of a budget before they are made smaller.
const BUFFERS_SHARE: u64 = 8;

/// Rows below which a micro-batch is not shrunk to make buffers smaller.
const ROWS: u32 = 16;

/// llama.cpp rounds the KV cache up to a multiple of this number of tokens.
const KV_STEP: u32 = 256;

/// How small a context may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shrink {
    /// Fewest tokens of the KV cache.
    pub ctx: u32,
    /// Fewest rows of a micro-batch.
    pub ubatch: u32,
}

impl Shrink {
    /// The largest smaller shape that may save `over` bytes of what `shape` takes according
    /// to `ledger`; if none does, the smallest. `None` if `shape` is the smallest.
    pub fn by(self, shape: ContextShape, ledger: &Ledger, over: u64) -> Option<ContextShape> {
        let mut smaller = self.next(shape)?;
        while at_most_saved(shape, smaller, ledger) < over
            && let Some(next) = self.next(smaller)
        {
            smaller = next;
        }
        Some(smaller)
    }

    /// The largest smaller shape whose buffers may be within [`BUFFERS_SHARE`] of the
    /// budget; `None` if those of `shape` are.
    pub fn to_fair_buffers(self, shape: ContextShape, ledger: &Ledger) -> Option<ContextShape> {
        let fair = ledger.budget() / BUFFERS_SHARE;
        let buffers = ledger.of(Account::Buffers);
        let mut rows = shape.ubatch;
        // Buffers shrink at most in proportion to the rows.
        while share(buffers, rows, shape.ubatch) > fair && rows > self.ubatch.max(ROWS) {
            rows /= 2;
        }
        (rows < shape.ubatch).then_some(ContextShape {
            ubatch: rows,
            ..shape
        })
    }

    /// The next smaller shape: first the context shrinks, then the micro-batch.
    fn next(self, shape: ContextShape) -> Option<ContextShape> {
        if shape.ctx > self.ctx {
            let ctx = (shape.ctx / 2).max(self.ctx);
            let ubatch = shape.ubatch.min(ctx).max(self.ubatch);
            return Some(ContextShape {
                ctx,
                ubatch,
                ..shape
            });
        }
        (shape.ubatch > self.ubatch).then(|| ContextShape {
            ubatch: budget::smaller_ubatch(shape.ubatch).max(self.ubatch),
            ..shape
        })
    }
}

/// Upper bound of the bytes that `small` saves over `large`: the cache is proportional to
/// tokens, and the rest at most to the product of rows and tokens.
fn at_most_saved(large: ContextShape, small: ContextShape, ledger: &Ledger) -> u64 {
    let tokens = |shape: ContextShape| shape.ctx.next_multiple_of(KV_STEP);
    let kv = ledger.of(Account::KvCache);
    let kv_left = share(kv, tokens(small), tokens(large));
    let grows = [Account::Buffers, Account::Scratch, Account::Passing];
    let grows: u64 = grows.map(|account| ledger.of(account)).iter().sum();
    let left = share(grows, small.ubatch, large.ubatch);
    let left = share(left, tokens(small), tokens(large));
    (kv - kv_left) + (grows - left)
}

fn share(bytes: u64, part: u32, whole: u32) -> u64 {
    (u128::from(bytes) * u128::from(part) / u128::from(whole.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{FlashAttention, KvType};

    const SHAPE: ContextShape = ContextShape {
        ctx: 4096,
        seqs: 1,
        ubatch: 64,
        threads: 2,
        kv: KvType::F16,
        flash: FlashAttention::Auto,
        spare: false,
    };
    const LEAST: Shrink = Shrink {
        ctx: 512,
        ubatch: 1,
    };
    const MIB: u64 = 1 << 20;

    fn ledger(kv: u64, buffers: u64) -> Ledger {
        let mut ledger = Ledger::new(800 * MIB);
        ledger.book(Account::KvCache, kv * MIB);
        ledger.book(Account::Buffers, buffers * MIB);
        ledger
    }

    #[test]
    fn shapes_that_cannot_fit_are_skipped() {
        let by = |over| {
            let shape = LEAST.by(SHAPE, &ledger(80, 16), over);
            shape.map(|shape| (shape.ctx, shape.ubatch))
        };
        assert_eq!(by(0), Some((2048, 64)));
        // Half the cache and half of the buffers.
        assert_eq!(by(48 * MIB), Some((2048, 64)));
        assert_eq!(by(48 * MIB + 1), Some((1024, 64)));
        assert_eq!(by(84 * MIB), Some((512, 64)));
        assert_eq!(by(84 * MIB + 1), Some((512, 48)));
        assert_eq!(by(200 * MIB), Some((512, 1)), "none does");
        let smallest = ContextShape {
            ctx: 512,
            ubatch: 1,
            ..SHAPE
        };
        assert_eq!(LEAST.by(smallest, &ledger(80, 16), 1), None);
    }

    #[test]
    fn buffers_become_a_fair_share() {
        let rows = |buffers| {
            let shape = LEAST.to_fair_buffers(SHAPE, &ledger(80, buffers));
            shape.map(|shape| shape.ubatch)
        };
        assert_eq!(rows(100), None);
        assert_eq!(rows(101), Some(32));
        assert_eq!(rows(250), Some(16));
        assert_eq!(rows(10_000), Some(16), "no smaller");
    }
}
