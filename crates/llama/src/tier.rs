//! Keeps blocks of the KV cache on disk: complete blocks are saved, and restored when a
//! prompt has a prefix of an earlier sequence. Blocks are copied through a spare sequence,
//! which takes part in no lap.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use delayline_engine::{Error, KvType, ModelFile, Options, budget};
use delayline_kv::{BLOCK_TOKENS, Block, KvStats, Namespace, Root, ShareLink, Store, StoreError};

use crate::context::Context;
use crate::log::kernel_features;
use crate::sys;

/// Minimum number of tokens for which restoring is faster than computing.
const WORTH: usize = 32;

const BLOCK: u32 = BLOCK_TOKENS as u32;

/// A store, and how much of each slot is in it.
#[derive(Debug)]
pub struct KvTier {
    store: Store,
    /// By slot: number of leading blocks that are known to be in the store.
    saved: Vec<usize>,
    flash_tokens: u64,
    shared_tokens: u64,
    restore_s: f64,
}

/// Statistics of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KvTierStats {
    /// Those of its store.
    pub store: KvStats,
    /// Tokens restored from blocks that this machine had saved.
    pub flash_tokens: u64,
    /// Tokens restored from blocks that were fetched from the shared store.
    pub shared_tokens: u64,
    /// Time spent on looking for tokens and restoring them, in seconds.
    pub restore_s: f64,
    /// Bytes written on this day in UTC.
    pub written_today: u64,
}

/// The versions that decide the bits of a block, besides the model and its options.
const BINDINGS: &str = concat!(
    "delayline ",
    env!("CARGO_PKG_VERSION"),
    ", llama-cpp-sys-2 0.1.161"
);

/// Where blocks are kept, and within which limits.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// The folder.
    pub folder: PathBuf,
    /// Maximum size of its blocks on disk, in bytes.
    pub size: u64,
    /// Hash of all bytes of the model.
    pub content: [u8; 32],
    /// Whether blocks are only read, and the folder is not changed.
    pub read_only: bool,
    /// Maximum number of bytes written per day.
    pub write_per_day: Option<u64>,
    /// The store that several machines share.
    pub share: Option<KvShare>,
}

/// Memory of the process that reaches a shared store, besides blocks, in bytes.
const REACHES: u64 = 24 << 20;

impl KvCache {
    /// Memory in bytes for blocks that are being saved or restored, and for the process that
    /// reaches the shared store.
    ///
    /// # Errors
    /// When the model cannot be opened.
    pub fn staging(&self, model: &Path, kv: KvType) -> Result<u64, Error> {
        let block = block_bytes(model, kv)?;
        // A block's bytes, and its file twice.
        let own = 3 * block + (256 << 10);
        Ok(match self.share {
            None => own,
            // Here, one block read for sending, its message, and one received; in the other
            // process those that are fetched, sent and queued.
            Some(_) => own + (3 + 9) * block + REACHES,
        })
    }
}

/// What a block of a model's cache takes, without headers, in bytes.
fn block_bytes(model: &Path, kv: KvType) -> Result<u64, Error> {
    let file = ModelFile::open(model)?;
    // The size of a cache is a multiple of 256 cells; a block has 64.
    Ok(budget::kv_bytes(&file, 256, kv) / 4)
}

/// How the store that several machines share is reached.
#[derive(Clone)]
pub struct KvShare(Arc<dyn Fn() -> Result<ShareLink, StoreError> + Send + Sync>);

impl KvShare {
    /// By calling `link`.
    pub fn new(link: impl Fn() -> Result<ShareLink, StoreError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(link))
    }
}

impl fmt::Debug for KvShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KvShare")
    }
}

impl KvTier {
    /// Opens the folder for a model that runs with `options`.
    ///
    /// # Errors
    /// When the model cannot be opened, the path is not a folder, the folder is in use, the size is too small, or the
    /// shared store cannot be reached.
    pub fn open(cache: &KvCache, model: &Path, options: &Options) -> Result<Self, Error> {
        let root = Root::new(&[
            &cache.content,
            BINDINGS.as_bytes(),
            kernel_features().as_bytes(),
            format!("{:?} {:?}", options.kv, options.flash).as_bytes(),
        ]);
        let told = |error: StoreError| Error::Option(error.to_string());
        let mut store = match cache.read_only {
            true => Store::open_read_only(&cache.folder, root),
            false => Store::open(&cache.folder, cache.size, root),
        }
        .map_err(told)?;
        // Within what `staging` sets aside, and more than headers need.
        store.limit_blocks(2 * block_bytes(model, options.kv)? + (256 << 10));
        if let Some(bytes) = cache.write_per_day {
            store.limit_a_day(bytes);
        }
        if let Some(KvShare(link)) = &cache.share {
            store.share(link().map_err(told)?);
        }
        Ok(Self::new(store))
    }

    /// For an open store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            saved: Vec::new(),
            flash_tokens: 0,
            shared_tokens: 0,
            restore_s: 0.0,
        }
    }

    /// Its statistics so far.
    pub fn stats(&self) -> KvTierStats {
        KvTierStats {
            store: self.store.stats(),
            flash_tokens: self.flash_tokens,
            shared_tokens: self.shared_tokens,
            restore_s: self.restore_s,
            written_today: self.store.written_today(),
        }
    }

    /// An error of the system that the store has met; each is returned once.
    pub fn trouble(&mut self) -> Option<String> {
        self.store.trouble()
    }

    /// Removes an owner's blocks, for all salts; returns how many.
    pub(crate) fn forget(&mut self, namespace: &Namespace) -> usize {
        self.store.forget(namespace)
    }

    fn saved(&mut self, slot: u32) -> &mut usize {
        let slot = slot as usize;
        if self.saved.len() <= slot {
            self.saved.resize(slot + 1, 0);
        }
        &mut self.saved[slot]
    }

    /// Saves what a slot has computed for `tokens`: the next complete block, or, with
    /// `all`, everything not yet saved.
    pub(crate) fn save(
        &mut self,
        context: &mut Context,
        slot: u32,
        namespace: &Namespace,
        tokens: &[i32],
        all: bool,
    ) {
        if !self.store.writes() {
            return;
        }
        let complete = tokens.len() / BLOCK_TOKENS;
        let first = *self.saved(slot);
        if !all && first >= complete {
            return;
        }
        // With a sliding window, cells outside of it may be reused before the next call.
        let all_complete = all || context.attention_window > 0;
        let chain = self.store.chain(namespace, tokens);
        for (number, block) in chain.iter().enumerate().skip(first) {
            if block.is_tail() && !all {
                break;
            }
            let known = self.store.has(block);
            if !known {
                let Some(bytes) = context.block(slot, block) else {
                    break;
                };
                // The store reports errors of the system; blocks after a missing one are of
                // no use.
                if !matches!(self.store.put(block, &bytes), Ok(true)) {
                    break;
                }
            }
            if !block.is_tail() {
                *self.saved(slot) = number + 1;
            }
            if !known && !all_complete {
                break;
            }
        }
    }

    /// Whether complete blocks of these tokens are being fetched from the shared store to
    /// the folder, and waiting is faster than computing at `token_s` seconds per token.
    pub(crate) fn fetch(
        &mut self,
        namespace: &Namespace,
        tokens: &[i32],
        token_s: Option<f64>,
    ) -> bool {
        self.store.fetch(namespace, tokens, token_s)
    }

    /// Restores what is stored of these tokens into a slot that holds the first `have` of
    /// them; returns how many it holds then.
    pub(crate) fn restore(
        &mut self,
        context: &mut Context,
        slot: u32,
        namespace: &Namespace,
        tokens: &[i32],
        have: usize,
    ) -> usize {
        let began = Instant::now();
        let held = self.bring_back(context, slot, namespace, tokens, have);
        self.restore_s += began.elapsed().as_secs_f64();
        held
    }

    fn bring_back(
        &mut self,
        context: &mut Context,
        slot: u32,
        namespace: &Namespace,
        tokens: &[i32],
        have: usize,
    ) -> usize {
        *self.saved(slot) = 0;
        let found = self.store.find(namespace, tokens);
        // The last block may agree with the tokens only in part.
        let end = found.last().map(|last| {
            let from = last.range().start;
            from + last.common(&tokens[from..])
        });
        let Some(end) = end else {
            return have;
        };
        if end < have + WORTH {
            return have;
        }
        let mut held = have;
        for block in found.iter().skip(have / BLOCK_TOKENS) {
            let from = block.range().start;
            let until = from + block.common(&tokens[from..]);
            let Some(bytes) = self.store.get(block) else {
                break;
            };
            // Only what is missing is copied: other slots may share the cells before.
            if !context.put_block(slot, block, &bytes, held..until) {
                break;
            }
            let common = until - held;
            held = until;
            match self.store.was_fetched(block) {
                true => self.shared_tokens += common as u64,
                false => self.flash_tokens += common as u64,
            }
        }
        // Checks that the attention window is complete.
        context.keep(slot, held as u32) as usize
    }
}

impl Context {
    /// Checks that blocks of this model's cache can be saved and restored.
    ///
    /// # Errors
    /// When they cannot.
    pub(crate) fn check_tier(&self) -> Result<(), Error> {
        let what = match (self.has_recurrent_state, self.attention_window) {
            (true, _) => "has recurrent states",
            (_, 1..BLOCK) => "has a sliding attention window of fewer tokens than a block",
            _ => return Ok(()),
        };
        Err(Error::Option(format!(
            "this model {what}: its KV cache is not kept on disk yet; leave out --kv-cache"
        )))
    }

    /// The sequence through which blocks are copied.
    fn spare(&self) -> i32 {
        self.shape().seqs as i32
    }

    /// The bytes of a block of a slot; `None` if it is not completely there.
    fn block(&mut self, slot: u32, block: &Block) -> Option<Vec<u8>> {
        let range = block.range();
        let (from, until) = (range.start as i32, range.end as i32);
        let spare = self.spare();
        let taken = || -> Result<Option<Vec<u8>>, sys::Exception> {
            // SAFETY: the context is live and not decoding; the vector is `len` bytes long.
            unsafe {
                let memory = sys::llama_get_memory(self.as_ptr());
                sys::llama_memory_seq_cp(memory, slot as i32, spare, from, until)?;
                let first = sys::llama_memory_seq_pos_min(memory, spare)?;
                let last = sys::llama_memory_seq_pos_max(memory, spare)?;
                let mut bytes = Vec::new();
                let mut whole = first == from && last == until - 1;
                if whole {
                    let len = sys::llama_state_seq_get_size_ext(self.as_ptr(), spare, 0)?;
                    whole = bytes.try_reserve_exact(len).is_ok();
                    if whole {
                        bytes.resize(len, 0);
                        let out = bytes.as_mut_ptr();
                        let written =
                            sys::llama_state_seq_get_data_ext(self.as_ptr(), out, len, spare, 0)?;
                        whole = written == len;
                    }
                }
                sys::llama_memory_seq_rm(memory, spare, -1, -1)?;
                Ok(whole.then_some(bytes))
            }
        };
        match taken() {
            Ok(bytes) => bytes,
            Err(thrown) => {
                self.unknown = Some(thrown);
                None
            }
        }
    }

    /// Appends the positions `wanted` of a block to what a slot holds; false if that failed,
    /// and then the slot is unchanged.
    fn put_block(&mut self, slot: u32, block: &Block, bytes: &[u8], wanted: Range<usize>) -> bool {
        let range = block.range();
        let (from, until) = (range.start as i32, range.end as i32);
        let spare = self.spare();
        let put = || -> Result<bool, sys::Exception> {
            // SAFETY: the context is live and not decoding; a context wrote these bytes,
            // which the store has verified by a keyed hash.
            unsafe {
                let memory = sys::llama_get_memory(self.as_ptr());
                let read = sys::llama_state_seq_set_data_ext(
                    self.as_ptr(),
                    bytes.as_ptr(),
                    bytes.len(),
                    spare,
                    0,
                )?;
                let first = sys::llama_memory_seq_pos_min(memory, spare)?;
                let last = sys::llama_memory_seq_pos_max(memory, spare)?;
                let whole = read == bytes.len() && first == from && last == until - 1;
                if whole {
                    let (first, end) = (wanted.start as i32, wanted.end as i32);
                    sys::llama_memory_seq_cp(memory, spare, slot as i32, first, end)?;
                }
                sys::llama_memory_seq_rm(memory, spare, -1, -1)?;
                Ok(whole)
            }
        };
        match put() {
            Ok(whole) => whole,
            Err(thrown) => {
                self.unknown = Some(thrown);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BINDINGS;

    #[test]
    fn the_version_in_the_root_is_the_pinned_one() {
        let manifest = include_str!("../../../Cargo.toml");
        let (_, version) = BINDINGS.rsplit_once(' ').expect("a version");
        assert!(manifest.contains(&format!("llama-cpp-sys-2 = {{ version = \"={version}\"")));
    }
}
