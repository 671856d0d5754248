//! What sequences computed, kept on disk: blocks of the KV cache go there as they are
//! complete, and come back when a prompt begins as an earlier sequence did. Blocks pass
//! through a sequence of their own, which no lap carries.

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

/// From so many tokens on it is sooner to read than to compute them.
const WORTH: usize = 32;

const BLOCK: u32 = BLOCK_TOKENS as u32;

/// A store, and what of each slot is in it.
#[derive(Debug)]
pub struct KvTier {
    store: Store,
    /// By slot: blocks that need not be looked at again.
    saved: Vec<usize>,
    flash_tokens: u64,
    shared_tokens: u64,
    restore_s: f64,
}

/// What a tier has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KvTierStats {
    /// Its store.
    pub store: KvStats,
    /// Tokens that came back from this machine's folder.
    pub flash_tokens: u64,
    /// Tokens that came back and had been fetched from the shared store for that.
    pub shared_tokens: u64,
    /// Time in which tokens were looked for and brought back, in seconds.
    pub restore_s: f64,
    /// Bytes written today, of UTC.
    pub written_today: u64,
}

/// What of the program decides the bits of a block, beside the model and its options.
const BINDINGS: &str = concat!(
    "delayline ",
    env!("CARGO_PKG_VERSION"),
    ", llama-cpp-sys-2 0.1.161"
);

/// Where blocks are kept.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// The folder.
    pub folder: PathBuf,
    /// What its blocks may take on disk, in bytes.
    pub size: u64,
    /// What all bytes of the model are, as one hash.
    pub content: [u8; 32],
    /// Whether blocks are only found, and nothing of the folder is changed.
    pub read_only: bool,
    /// What may be written in a day, in bytes.
    pub write_per_day: Option<u64>,
    /// What several machines share.
    pub share: Option<KvShare>,
}

/// What the program that reaches a shared store takes beside blocks, in bytes.
const REACHES: u64 = 24 << 20;

impl KvCache {
    /// Memory for blocks on their way to the disk and back, in bytes, and for the program
    /// that reaches the shared store, which counts as well.
    ///
    /// # Errors
    /// When the model cannot be opened.
    pub fn staging(&self, model: &Path, kv: KvType) -> Result<u64, Error> {
        let file = ModelFile::open(model)?;
        // Of 256 tokens, as caches are made: a quarter of it is a block.
        let block = budget::kv_bytes(&file, 256, kv) / 4;
        // One as it is computed, and twice its file.
        let own = 3 * block + (256 << 10);
        Ok(match self.share {
            None => own,
            // One that is read to be sent and as it is sent, one that comes; and in the
            // other program those that are fetched, sent and in between.
            Some(_) => own + (3 + 9) * block + REACHES,
        })
    }
}

/// How a store is reached that several machines share.
#[derive(Clone)]
pub struct KvShare(Arc<dyn Fn() -> Result<ShareLink, StoreError> + Send + Sync>);

impl KvShare {
    /// By calling this.
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
    /// Opens the folder for a model that is run by `options`.
    ///
    /// # Errors
    /// When the folder is none, is in use, or the size too small.
    pub fn open(cache: &KvCache, options: &Options) -> Result<Self, Error> {
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
        if let Some(bytes) = cache.write_per_day {
            store.limit_a_day(bytes);
        }
        if let Some(KvShare(link)) = &cache.share {
            store.share(link().map_err(told)?);
        }
        Ok(Self::new(store))
    }

    /// On that store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            saved: Vec::new(),
            flash_tokens: 0,
            shared_tokens: 0,
            restore_s: 0.0,
        }
    }

    /// What it has done.
    pub fn stats(&self) -> KvTierStats {
        KvTierStats {
            store: self.store.stats(),
            flash_tokens: self.flash_tokens,
            shared_tokens: self.shared_tokens,
            restore_s: self.restore_s,
            written_today: self.store.written_today(),
        }
    }

    /// What the system refused, once.
    pub fn trouble(&mut self) -> Option<String> {
        self.store.trouble()
    }

    /// Removes what is stored of an owner, whatever the salts; returns how many blocks.
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

    /// Stores what a slot has computed for `tokens`: the next complete block, or, with
    /// `all`, whatever is not there yet.
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
        // Later on it may lack cells outside its window: others are given them.
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
                // What the system refuses is told by the store, and what lies behind a
                // block that is not there is of no use.
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

    /// Whether complete blocks of these tokens are on their way from the shared store to
    /// the folder, and worth waiting for where computing a token takes `token_s` seconds.
    pub(crate) fn fetch(
        &mut self,
        namespace: &Namespace,
        tokens: &[i32],
        token_s: Option<f64>,
    ) -> bool {
        self.store.fetch(namespace, tokens, token_s)
    }

    /// Brings into a slot that holds the first `have` of these tokens what else of them is
    /// stored; returns how many it holds then.
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
        // Of the last one perhaps only a few tokens are these.
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
            // What is held stays: others may share it.
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
        // Of a window everything has to be there.
        context.keep(slot, held as u32) as usize
    }
}

impl Context {
    /// Fails where blocks of this model's cache cannot be taken out and put back.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn check_tier(&self) -> Result<(), Error> {
        let what = match (self.only_goes_on, self.attention_window) {
            (true, _) => "has states that go on from token to token",
            (_, 1..BLOCK) => "has layers that see fewer tokens than a block",
            _ => return Ok(()),
        };
        Err(Error::Option(format!(
            "this model {what}: its KV cache is not kept on disk yet; leave out --kv-cache"
        )))
    }

    /// The sequence through which blocks come and go.
    fn spare(&self) -> i32 {
        self.shape().seqs as i32
    }

    /// The bytes of a block of a slot; none where some of it is not there.
    fn block(&mut self, slot: u32, block: &Block) -> Option<Vec<u8>> {
        let range = block.range();
        let (from, until) = (range.start as i32, range.end as i32);
        let spare = self.spare();
        let taken = || -> Result<Option<Vec<u8>>, sys::Exception> {
            // SAFETY: the context is live and not decoding; the vector has so many bytes.
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

    /// Puts positions `wanted` of a block behind what a slot holds; false if that cannot be,
    /// and then the slot holds what it held.
    fn put_block(&mut self, slot: u32, block: &Block, bytes: &[u8], wanted: Range<usize>) -> bool {
        let range = block.range();
        let (from, until) = (range.start as i32, range.end as i32);
        let spare = self.spare();
        let put = || -> Result<bool, sys::Exception> {
            // SAFETY: the context is live and not decoding; the bytes are as it wrote them,
            // which their keyed hash has shown.
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
