//! The budget: what is allowed, what llama.cpp takes of it, and the defaults
//! that follow. All in bytes unless said otherwise.

use crate::error::Error;
use crate::kv_share::KvTrade;
use crate::ledger::{Account, Ledger};
use crate::model_file::ModelFile;
use crate::options::Options;
use crate::shape::{ContextShape, KvType};
use crate::{cgroup, process};

/// What stays free of the machine's or the cgroup's memory by default, as a
/// share: other programs and the page cache live there too.
const MARGIN: f64 = 0.1;

/// A context so short that its KV cache is always made: that of the smallest
/// budget, unless the user asks for another.
pub const SHORT_CTX: u32 = 512;

/// What the process grows by after the measurement, not tied to any size: heap
/// of templates and scheduling, io_uring's rings, kernel structures.
const SLACK: u64 = 1 << 20;

/// Sampling copies the logits with their tokens, and sorts them into a second
/// copy: bytes for each token of the vocabulary.
const SAMPLING: u64 = 2 * 12;

/// A grammar that has to choose spells out tokens, so many at once: bytes for each.
/// That is for tokens of 31 characters, with two lists of what is left of them for
/// each character.
const SPELLING: u64 = 32 * 128;

/// Rules of a grammar, for each sequence: the largest that the server makes of a
/// schema counts out 4,000, at some 90 bytes each.
const GRAMMAR: u64 = 512 << 10;

/// The kernel charges a cgroup 64 pages in advance on each core that works for it.
const CHARGED_AHEAD: u64 = 64 * 4096;

/// What two runs of the same program differ by when each measures itself: the
/// smallest budget that one names must do for the next.
pub const NOISE: u64 = 256 << 10;

/// A page of 4 KiB costs 8 bytes of page table.
const TABLE_SHARE: u64 = 512;

/// A budget of `total` bytes with the accounts that depend on no measurement: what a
/// process of this kind needs beside the model, and what is set aside as `options`
/// say. A grammar that has to choose spells out `spelled` tokens at once.
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

/// What is left of `bytes` when the page tables for them are paid from it.
pub fn without_tables(bytes: u64) -> u64 {
    bytes - bytes.div_ceil(TABLE_SHARE + 1)
}

/// `bytes` and the page tables for them.
pub fn with_tables(bytes: u64) -> u64 {
    bytes + bytes.div_ceil(TABLE_SHARE) + 1
}

/// What running natively takes beside what `ledger` has, in a program of `base` bytes:
/// weights (repacked in place of the original, a tied table twice), and what comes
/// beside them: while they are loaded, a staging copy of the largest; afterwards KV
/// cache and buffers.
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
    // llama.cpp's default micro-batch of 512 rows, a few activations wide.
    let buffers = 512 * widest * 16 + u64::from(shape.seqs) * facts.vocab * 8 + (32 << 20);
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

/// The budget from which on the model runs natively: that with the context which
/// unlimited memory would bring, and so never too small.
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

/// The budget in force: what the user said, else what the machine or the cgroup
/// has free with a margin.
///
/// # Errors
/// When neither is known.
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

/// Compute threads: as asked, else one for each core this process may use.
pub fn threads(asked: Option<u32>) -> u32 {
    asked
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
        .clamp(1, 512)
}

/// Rows from which a streamed lap of a 4-bit model is compute-bound, assuming
/// 200 GFLOP/s a thread and a drive of 3 GB/s. Assumed, not measured, so that
/// the same command gives the same tokens.
pub fn default_ubatch(threads: u32) -> u32 {
    (32 * threads).next_power_of_two().clamp(64, 512)
}

/// The micro-batch to try when there is no room for one of so many rows, two at least:
/// by a quarter or a third less. A prompt takes as many laps as its micro-batches, so
/// that halving it where a little less would do costs up to as many laps again.
pub fn smaller_ubatch(rows: u32) -> u32 {
    match rows.is_power_of_two() {
        true => rows / 2 + rows / 4,
        false => rows * 2 / 3,
    }
}

/// Tokens that the KV cache holds. Of one sequence: a context, as asked or by default,
/// or what an eighth of the budget holds. Of several: what serves most tokens a second,
/// from the longest request and a short one beside it up to a context for each.
pub fn context(file: &ModelFile, options: &Options, total: u64, shape: &ContextShape) -> u32 {
    let trained = file.facts().context.clamp(1, u64::from(u32::MAX)) as u32;
    let one = options.ctx.unwrap_or(trained.min(4096)).max(1);
    let least = options.ctx.unwrap_or(SHORT_CTX).max(1);
    if shape.seqs == 1 {
        let mut ctx = one;
        while ctx > least && kv_bytes(file, ctx, shape.kv) > total / 8 {
            ctx = (ctx / 2).max(least);
        }
        return ctx;
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

/// Largest share of the budget that the KV cache of several sequences gets.
const KV_MOST: f64 = 0.5;

/// What the program takes beside cache and weights, roughly, in bytes.
const PROGRAM: u64 = 64 << 20;

/// A device's rate where none was measured, in bytes per second.
const DEVICE: f64 = 3e9;

/// What to say of a context that is longer than the model was trained for.
pub fn beyond_training(trained: u64, asked: Option<u32>) -> Option<String> {
    let asked = asked.filter(|&asked| trained > 0 && u64::from(asked) > trained)?;
    Some(format!(
        "--ctx {asked} is more than the {trained} tokens that the model was trained on at once: \
         answers may fall apart beyond that"
    ))
}

/// What a context of `shape.ctx` tokens needs more than a short one: KV cache,
/// and for each row of a micro-batch a row of attention of up to 64 heads.
pub fn longer_context(file: &ModelFile, options: &Options, shape: &ContextShape) -> u64 {
    let kv = |ctx| kv_bytes(file, ctx, shape.kv);
    let rows = u64::from(options.ubatch.unwrap_or(1).clamp(1, shape.ctx));
    kv(shape.ctx).saturating_sub(kv(SHORT_CTX))
        + rows * u64::from(shape.ctx.saturating_sub(SHORT_CTX)) * 64 * 4
}

/// KV cache of `ctx` tokens, from the header; an upper bound.
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
