//! The budget: how much memory may be used, how much llama.cpp needs of it, and the
//! defaults that follow. In bytes unless said otherwise.

use crate::error::Error;
use crate::kv_share::KvTrade;
use crate::ledger::{Account, Ledger};
use crate::model_file::ModelFile;
use crate::options::Options;
use crate::shape::{ContextShape, KvType};
use crate::{cgroup, process};

/// Share of the machine's or the cgroup's free memory that is left by default, for other
/// programs and the page cache.
const MARGIN: f64 = 0.1;

/// A context so short that its KV cache is always made: that of the smallest
/// budget, unless the user asks for another.
pub const SHORT_CTX: u32 = 512;

/// Growth of the process after the measurement that depends on no size: heap of
/// templates and scheduling, io_uring's rings, kernel structures.
const SLACK: u64 = 1 << 20;

/// Bytes of sampling for each token of the vocabulary: logits are copied with their
/// tokens, and sorted into a second copy.
const SAMPLING: u64 = 2 * 12;

/// Bytes for each token that a grammar examines at a time when it has to choose one: for
/// tokens of 31 characters, with two lists of the remaining text for each character.
const SPELLING: u64 = 32 * 128;

/// Bytes of a grammar's rules for each sequence: the largest that the server makes of a
/// schema has 4,000, at about 90 bytes each.
const GRAMMAR: u64 = 512 << 10;

/// Bytes that the kernel charges a cgroup in advance on each core: 64 pages.
const CHARGED_AHEAD: u64 = 64 * 4096;

/// Difference between two runs of the same program when each measures itself: the
/// smallest budget that one run reports must work in the next.
pub const NOISE: u64 = 256 << 10;

/// A page of 4 KiB costs 8 bytes of page table.
const TABLE_SHARE: u64 = 512;

/// A budget of `total` bytes with the accounts that depend on no measurement: what the
/// process needs besides the model, and what `options` set aside. `spelled` is the number
/// of tokens that a grammar examines at a time.
pub fn ledger(total: u64, file: &ModelFile, options: &Options, spelled: u64) -> Ledger {
    let mut ledger = Ledger::new(total);
    ledger.book(Account::Sampling, SAMPLING * file.facts().vocab);
    if options.grammars {
        let rules = GRAMMAR * u64::from(options.seqs.unwrap_or(1));
        ledger.book(Account::Grammars, SPELLING * spelled + rules);
    }
    ledger.book(Account::SetAside, options.reserve);
    ledger.book(Account::Kernel, CHARGED_AHEAD * u64::from(threads(None)));
    ledger.book(Account::Margin, SLACK);
    ledger
}

/// `bytes` less the page tables for the rest.
pub fn without_tables(bytes: u64) -> u64 {
    bytes - bytes.div_ceil(TABLE_SHARE + 1)
}

/// `bytes` and the page tables for them.
pub fn with_tables(bytes: u64) -> u64 {
    bytes + bytes.div_ceil(TABLE_SHARE) + 1
}

/// `ledger` with what running natively needs, in a program of `base` bytes: weights
/// (repacked in place of the original, a tied table twice), and besides them while
/// loading a staging copy of the largest, afterwards KV cache and buffers.
pub fn native(ledger: &Ledger, file: &ModelFile, base: u64, shape: &ContextShape) -> Ledger {
    let largest = file.weights().iter().map(|w| w.len).max().unwrap_or(0);
    let tied = if file.weights().iter().any(|w| w.name == "output.weight") {
        0
    } else {
        file.weights()
            .iter()
            .find(|w| w.name == "token_embd.weight")
            .map_or(0, |w| w.len)
    };
    let weights = file.weight_bytes() + tied;
    let facts = file.facts();
    let widest = facts.embedding.max(facts.feed_forward);
    // A micro-batch, a few activations wide, and its mask where the context is long.
    let activations = u64::from(NATIVE_ROWS) * widest * 16;
    let mask = mask_bytes(NATIVE_ROWS, shape.ctx.saturating_sub(MASKED));
    let outputs = u64::from(shape.seqs) * facts.vocab * 8;
    let buffers = activations + mask + outputs + (32 << 20);
    let kv = kv_bytes(file, shape.ctx, shape.kv);
    let mut ledger = ledger.clone();
    ledger.book(Account::Program, base);
    ledger.book(Account::KvCache, kv);
    ledger.book(Account::Buffers, buffers);
    ledger.book(Account::Loading, largest.saturating_sub(kv + buffers));
    ledger.book(Account::Weights, weights);
    ledger.book(Account::PageTables, with_tables(weights) - weights);
    ledger
}

/// The budget from which on the model runs natively. Computed with the context of
/// unlimited memory, so that it is never too small.
pub fn native_from(
    ledger: &Ledger,
    file: &ModelFile,
    options: &Options,
    base: u64,
    shape: &ContextShape,
) -> u64 {
    let ctx = context(file, options, u64::MAX, shape);
    native(ledger, file, base, &ContextShape { ctx, ..*shape }).spent()
}

/// The budget: what the user asked for, else the free memory of the machine or the
/// cgroup less a margin.
///
/// # Errors
/// If neither is known.
pub fn allowed(asked: Option<u64>) -> Result<u64, Error> {
    if let Some(bytes) = asked {
        return Ok(bytes);
    }
    let machine = process::available_bytes();
    let group = cgroup::current().and_then(|group| group.available_bytes());
    let free = match (machine, group) {
        (Some(a), Some(b)) => a.min(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => {
            return Err(Error::Option(
                "free memory is unknown here: set a budget with --memory".into(),
            ));
        }
    };
    Ok((free as f64 * (1.0 - MARGIN)) as u64 + process::Usage::now().resident)
}

/// Compute threads: as requested, else one for each core that this process may use.
pub fn threads(asked: Option<u32>) -> u32 {
    asked
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
        .clamp(1, 512)
}

/// Rows from which on a streamed lap of a 4-bit model is compute-bound, assuming
/// 200 GFLOP/s per thread and a drive of 3 GB/s. Not measured, so that the same command
/// gives the same tokens.
pub fn default_ubatch(threads: u32) -> u32 {
    (32 * threads).next_power_of_two().clamp(64, 512)
}

/// The micro-batch to try if there is no room for one of `rows` rows, at least two: a
/// quarter or a third less. A prompt takes one lap per micro-batch, so halving it where a
/// little less is enough would cost up to as many laps again.
pub fn smaller_ubatch(rows: u32) -> u32 {
    match rows.is_power_of_two() {
        true => rows / 2 + rows / 4,
        false => rows * 2 / 3,
    }
}

/// Tokens that the KV cache holds. For one sequence: the context, as requested or by
/// default, or as much as an eighth of the budget holds. For several: the number with the
/// most tokens per second, between one longest request with a short one and a whole
/// context for each.
pub fn context(file: &ModelFile, options: &Options, total: u64, shape: &ContextShape) -> u32 {
    let one = options.ctx.unwrap_or(trained(file).min(4096)).max(1);
    let least = options.ctx.unwrap_or(SHORT_CTX).max(1);
    if shape.seqs == 1 {
        return in_an_eighth(total, one, least, |ctx| kv_bytes(file, ctx, shape.kv));
    }
    let fixed = options.reserve + PROGRAM;
    let token = kv_bytes(file, 1 << 20, shape.kv) as f64 / f64::from(1 << 20);
    let room = total.saturating_sub(fixed) as f64 * KV_MOST / token;
    let least = least.saturating_add(least / 8);
    KvTrade {
        budget: total,
        fixed,
        weights: file.weight_bytes(),
        token,
        least,
        most: one.saturating_mul(shape.seqs).min(room as u32),
        sequence: f64::from(one) / 2.0,
        seqs: shape.seqs,
        threads: shape.threads,
        rate: options.rate.unwrap_or(DEVICE),
    }
    .tokens()
}

/// The context of a single sequence where all weights are in memory, so that a longer one
/// makes no lap longer: the model's own, or as much of it as an eighth of the budget holds,
/// but not less than `shape` has.
pub fn own_context(
    file: &ModelFile,
    options: &Options,
    total: u64,
    shape: &ContextShape,
) -> ContextShape {
    if options.ctx.is_some() || shape.seqs > 1 {
        return *shape;
    }
    let rows = options.ubatch.unwrap_or(NATIVE_ROWS);
    let bytes = |ctx| kv_bytes(file, ctx, shape.kv) + mask_bytes(rows, ctx);
    ContextShape {
        ctx: in_an_eighth(total, trained(file).max(shape.ctx), shape.ctx, bytes),
        ..*shape
    }
}

/// Tokens of context that the model was trained with.
fn trained(file: &ModelFile) -> u32 {
    file.facts().context.clamp(1, u64::from(u32::MAX)) as u32
}

/// `most` tokens of context, halved until an eighth of the budget holds their bytes, but not
/// below `least`.
fn in_an_eighth(total: u64, most: u32, least: u32, bytes: impl Fn(u32) -> u64) -> u32 {
    let mut ctx = most;
    while ctx > least && bytes(ctx) > total / 8 {
        ctx = (ctx / 2).max(least);
    }
    ctx
}

/// Bytes of attention's mask, once in 32 and once in 16 bits.
fn mask_bytes(rows: u32, ctx: u32) -> u64 {
    u64::from(rows) * u64::from(ctx) * 6
}

/// Rows of llama.cpp's default micro-batch.
pub const NATIVE_ROWS: u32 = 512;

/// Tokens of context whose mask is in the constant part of the buffers.
const MASKED: u32 = 4096;

/// Maximum share of the budget for the KV cache of several sequences.
const KV_MOST: f64 = 0.5;

/// Rough size of the program without cache and weights, in bytes.
const PROGRAM: u64 = 64 << 20;

/// Device rate if none was measured, in bytes per second.
const DEVICE: f64 = 3e9;

/// The notice for a context that is longer than the model was trained for.
pub fn beyond_training(trained: u64, asked: Option<u32>) -> Option<String> {
    let asked = asked.filter(|&asked| trained > 0 && u64::from(asked) > trained)?;
    Some(format!(
        "--ctx {asked} is more than the {trained} tokens of context that the model was trained \
         with: answers may become wrong beyond that"
    ))
}

/// Further bytes of a context of `shape.ctx` tokens over a short one: KV cache, and for
/// each row of a micro-batch a row of attention of up to 64 heads.
pub fn longer_context(file: &ModelFile, options: &Options, shape: &ContextShape) -> u64 {
    let kv = |ctx| kv_bytes(file, ctx, shape.kv);
    let rows = u64::from(options.ubatch.unwrap_or(1).clamp(1, shape.ctx));
    let attention = rows
        .saturating_mul(shape.ctx.saturating_sub(SHORT_CTX).into())
        .saturating_mul(64 * 4);
    kv(shape.ctx)
        .saturating_sub(kv(SHORT_CTX))
        .saturating_add(attention)
}

/// Bytes of the KV cache of `ctx` tokens, from the header; an upper bound.
pub fn kv_bytes(file: &ModelFile, ctx: u32, kv: KvType) -> u64 {
    let per_value = match kv {
        KvType::F32 => 4.0,
        KvType::F16 => 2.0,
        KvType::Q8_0 => 34.0 / 32.0,
        KvType::Q4_0 => 18.0 / 32.0,
    };
    (file.facts().kv_values as f64 * per_value * f64::from(ctx.next_multiple_of(256))) as u64
}

#[cfg(test)]
mod tests {
    use super::smaller_ubatch;

    #[test]
    fn micro_batches_shrink_gently_and_reach_one_row() {
        let mut rows = 512;
        let mut tried = Vec::new();
        while rows > 1 {
            rows = smaller_ubatch(rows);
            tried.push(rows);
        }
        assert_eq!(tried[..8], [384, 256, 192, 128, 96, 64, 48, 32]);
        for rows in 2..=512 {
            let less = smaller_ubatch(rows);
            assert!(
                less >= 1 && less < rows && 2 * less >= rows - 1,
                "{rows}: {less}"
            );
        }
    }
}
