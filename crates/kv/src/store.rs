//! The store: the folder of this machine, and behind it what several machines share.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::block::{BLOCK_TOKENS, Block};
use crate::blocks::Blocks;
use crate::error::StoreError;
use crate::key::Root;
use crate::namespace::Namespace;
use crate::shared::{ShareLink, SharedTier};

/// What a store has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KvStats {
    /// Blocks that were read and used.
    pub hits: u64,
    /// Files that were not what they should be, and are gone.
    pub rejected: u64,
    /// Of those, whole blocks under another's name.
    pub misplaced: u64,
    /// Blocks that were written.
    pub written: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Blocks that went to make room.
    pub evicted: u64,
    /// Seconds since each of those was last used, all together.
    pub evicted_unused_s: u64,
    /// Blocks that were not written because enough was written that day.
    pub deferred: u64,
    /// Writes and reads that the system refused.
    pub failed: u64,
    /// Blocks that came from a shared store, and bytes of those and of what was none.
    pub fetched: u64,
    /// See `fetched`.
    pub fetched_bytes: u64,
    /// Blocks that a shared store has taken, and bytes that were sent there.
    pub shared: u64,
    /// See `shared`.
    pub shared_bytes: u64,
    /// Objects of a shared store that no holder of its secret has made so.
    pub shared_rejected: u64,
    /// Questions that a shared store did not answer, or not well.
    pub shared_failed: u64,
}

/// Blocks of one root, in a folder.
#[derive(Debug)]
pub struct Store {
    root: Root,
    blocks: Arc<Mutex<Blocks>>,
    shared: Option<SharedTier>,
}

impl Store {
    /// Opens the folder at `path`, or makes it; blocks take `size` bytes at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path, size: u64, root: Root) -> Result<Self, StoreError> {
        let blocks = Blocks::open(path, size, root)?;
        Ok(Self {
            root,
            blocks: Arc::new(Mutex::new(blocks)),
            shared: None,
        })
    }

    /// Opens the folder at `path` and changes nothing in it, whoever writes to it meanwhile:
    /// what was there at the start is found.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_read_only(path: &Path, root: Root) -> Result<Self, StoreError> {
        let blocks = Blocks::open_read_only(path, root)?;
        Ok(Self {
            root,
            blocks: Arc::new(Mutex::new(blocks)),
            shared: None,
        })
    }

    /// Writes at most so many bytes a day, of UTC, those of earlier processes included.
    pub fn limit_a_day(&mut self, bytes: u64) {
        self.lock().limit_a_day(bytes);
    }

    /// Whether anything is written at all now: not to a folder that is only read, nor to a
    /// drive that has refused, nor when enough was written that day.
    pub fn writes(&self) -> bool {
        self.lock().writes()
    }

    /// Bytes that were written today.
    pub fn written_today(&self) -> u64 {
        self.lock().written_today()
    }

    /// Has a store that several machines share behind it.
    pub fn share(&mut self, link: ShareLink) {
        let blocks = Arc::downgrade(&self.blocks);
        self.shared = Some(SharedTier::new(link, self.root, blocks));
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        // A panic while it was held leaves at worst an index that is not as the folder is,
        // which any other program can make as well.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has done.
    pub fn stats(&self) -> KvStats {
        let shared = self.shared.as_ref().map(SharedTier::stats);
        let shared = shared.unwrap_or_default();
        KvStats {
            fetched: shared.fetched,
            fetched_bytes: shared.fetched_bytes,
            shared: shared.sent,
            shared_bytes: shared.sent_bytes,
            shared_rejected: shared.rejected,
            shared_failed: shared.failed,
            ..self.lock().stats()
        }
    }

    /// What its blocks take on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// How many there are.
    pub fn blocks(&self) -> usize {
        self.lock().blocks()
    }

    /// What the system or the shared store refused, once.
    pub fn trouble(&mut self) -> Option<String> {
        let own = self.lock().trouble();
        own.or_else(|| self.shared.as_ref().and_then(SharedTier::trouble))
    }

    /// The blocks of a sequence, the last of which may be a tail. `namespace` is whose.
    pub fn chain(&self, namespace: &Namespace, tokens: &[i32]) -> Vec<Block> {
        let (tag, mut parent) = (self.root.tag(namespace), self.root.begin(namespace));
        let mut chain = Vec::new();
        for (number, tokens) in tokens.chunks(BLOCK_TOKENS).enumerate() {
            let block = Block::new(&self.root, tag, parent, number * BLOCK_TOKENS, tokens);
            parent = block.key;
            chain.push(block);
        }
        chain
    }

    /// Whether a block is there, as far as is known without reading it. A tail has to be
    /// asked for by [`Store::find`].
    pub fn has(&self, block: &Block) -> bool {
        self.lock().has(block)
    }

    /// The blocks that are there of a sequence, from its beginning. Of the last one perhaps
    /// only the first tokens are the sequence's: the rest is for the caller to cut.
    pub fn find(&mut self, namespace: &Namespace, tokens: &[i32]) -> Vec<Block> {
        self.lock().find(namespace, tokens)
    }

    /// The bytes of a block; none where it is not there, or not what it should be.
    pub fn get(&mut self, block: &Block) -> Option<Vec<u8>> {
        self.lock().get(block)
    }

    /// Whether a block has come from the shared store and is used for the first time, so
    /// that this is a hit of that one.
    pub fn was_fetched(&mut self, block: &Block) -> bool {
        self.lock().was_fetched(block)
    }

    /// Keeps the bytes of a block; whether it is there now. What the system refuses is not
    /// kept, and told.
    ///
    /// # Errors
    /// The system's, for those who want to know; [`Store::trouble`] tells it as well.
    pub fn put(&mut self, block: &Block, bytes: &[u8]) -> io::Result<bool> {
        let mut blocks = self.lock();
        let known = blocks.has(block);
        let is_there = blocks.put(block, bytes)?;
        let path = blocks.path_of(block);
        drop(blocks);
        if let Some(shared) = self.shared.as_ref().filter(|_| is_there && !known) {
            shared.send(path, block);
        }
        Ok(is_there)
    }

    /// Asks the shared store for the complete blocks of a sequence that are not here;
    /// whether some are on their way, and worth waiting for where computing a token takes
    /// `token_s` seconds. They come while others compute: ask again.
    pub fn fetch(&mut self, namespace: &Namespace, tokens: &[i32], token_s: Option<f64>) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        let chain = self.chain(namespace, tokens);
        let blocks = self.lock();
        let missing = chain.into_iter().filter(|block| !block.is_tail());
        let missing = missing.skip_while(|block| blocks.has(block)).collect();
        drop(blocks);
        shared.wants(missing, token_s)
    }

    /// Whether blocks are on their way to the shared store.
    pub fn sends(&self) -> bool {
        self.shared.as_ref().is_some_and(SharedTier::sends)
    }

    /// Removes all blocks of an owner, whatever their salts; returns how many were in the
    /// folder. Those of the shared store go some time soon.
    pub fn forget(&mut self, namespace: &Namespace) -> usize {
        if let Some(shared) = &self.shared {
            shared.forget(namespace);
        }
        self.lock().forget(namespace)
    }
}
