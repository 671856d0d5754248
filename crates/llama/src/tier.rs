//! What sequences computed, kept on disk: blocks of the KV cache go there as they are
//! complete, and come back when a prompt begins as an earlier sequence did. Blocks pass
//! through a sequence of their own, which no lap carries.

use std::path::PathBuf;

use delayline_engine::{Error, Options};
use delayline_kv::{BLOCK_TOKENS, Block, KvStats, Namespace, Root, Store};

use crate::context::Context;
use crate::log::kernel_features;
use crate::sys;

/// From so many tokens on it is sooner to read than to compute them.
const WORTH: usize = 32;

/// A store, and what of each slot is in it.
#[derive(Debug)]
pub struct KvTier {
    store: Store,
    /// By slot: blocks that need not be looked at again.
    saved: Vec<usize>,
    read_only: bool,
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
    /// Whether blocks are only found, and none are stored.
    pub read_only: bool,
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
        let store = Store::open(&cache.folder, cache.size, root);
        let store = store.map_err(|error| Error::Option(error.to_string()))?;
        Ok(Self::new(store, cache.read_only))
    }

    /// On that store; `read_only` adds nothing to it.
    pub fn new(store: Store, read_only: bool) -> Self {
        Self {
            store,
            saved: Vec::new(),
            read_only,
        }
    }

    /// What the store has done.
    pub fn stats(&self) -> KvStats {
        self.store.stats()
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
        if self.read_only {
            return;
        }
        let complete = tokens.len() / BLOCK_TOKENS;
        let first = *self.saved(slot);
        if !all && first >= complete {
            return;
        }
        let chain = self.store.chain(namespace, tokens);
        for (number, block) in chain.iter().enumerate().skip(first) {
            if block.is_tail() && !all {
                break;
            }
            if !block.is_tail() {
                *self.saved(slot) = number + 1;
            }
            if self.store.has(block) {
                continue;
            }
            let Some(bytes) = context.block(slot, block) else {
                break;
            };
            // What the system refuses is told by the store.
            if self.store.put(block, &bytes).is_err() || !all {
                break;
            }
        }
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
        let first = have / BLOCK_TOKENS;
        let mut held = first * BLOCK_TOKENS;
        if context.keep(slot, held as u32) as usize != held {
            held = 0;
            context.keep(slot, 0);
        }
        for block in found.iter().skip(held / BLOCK_TOKENS) {
            let Some(bytes) = self.store.get(block) else {
                break;
            };
            if !context.put_block(slot, block, &bytes) {
                break;
            }
            held = held + block.common(&tokens[held.min(tokens.len())..]);
            if context.keep(slot, held as u32) as usize != held {
                return context.keep(slot, 0) as usize;
            }
        }
        held
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
            (_, 1..) => "has layers that see a window of tokens alone",
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

    /// Puts a block behind what a slot holds; false if that cannot be, and then the slot
    /// holds what it held.
    fn put_block(&mut self, slot: u32, block: &Block, bytes: &[u8]) -> bool {
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
                    sys::llama_memory_seq_cp(memory, spare, slot as i32, from, until)?;
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
