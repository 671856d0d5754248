//! The store: a folder of this machine and, behind it, a store that several machines share.

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

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KvStats {
    /// Blocks read and used.
    pub hits: u64,
    /// Files removed because their content was not what their name says.
    pub rejected: u64,
    /// Of those, whole blocks under another block's name.
    pub misplaced: u64,
    /// Blocks written.
    pub written: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Blocks evicted.
    pub evicted: u64,
    /// Sum of the times from the last use of each evicted block to its eviction, in seconds.
    pub evicted_unused_s: u64,
    /// Blocks not written because of the daily limit.
    pub deferred: u64,
    /// Reads, writes and removals that failed.
    pub failed: u64,
    /// Blocks that came from a shared store.
    pub fetched: u64,
    /// Bytes that came from a shared store, rejected objects included.
    pub fetched_bytes: u64,
    /// Blocks that a shared store has stored.
    pub shared: u64,
    /// Bytes that were sent to a shared store.
    pub shared_bytes: u64,
    /// Objects of a shared store whose keyed hash or content was wrong.
    pub shared_rejected: u64,
    /// Requests that a shared store did not answer in time, or answered with an error.
    pub shared_failed: u64,
}

/// A folder of blocks; finds those of one root.
#[derive(Debug)]
pub struct Store {
    root: Root,
    blocks: Arc<Mutex<Blocks>>,
    shared: Option<SharedTier>,
}

impl Store {
    /// Opens or creates the folder at `path`, whose blocks take `size` bytes at most.
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

    /// Opens the folder at `path` for reading only, also while another process writes to it.
    /// Finds the blocks that are there now.
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

    /// Limits the length of a block's file to `bytes`: a longer one is none of this model's, and
    /// is removed unread.
    pub fn limit_blocks(&mut self, bytes: u64) {
        self.lock().limit_blocks(bytes);
    }

    /// Limits the bytes written in a day (UTC), those of earlier processes included.
    pub fn limit_a_day(&mut self, bytes: u64) {
        self.lock().limit_a_day(bytes);
    }

    /// Whether blocks are written at present: not if the folder is open for reading only, a
    /// write has failed, or the daily limit is reached.
    pub fn writes(&self) -> bool {
        self.lock().writes()
    }

    /// Bytes written today (UTC).
    pub fn written_today(&self) -> u64 {
        self.lock().written_today()
    }

    /// Puts a store that several machines share behind the folder.
    pub fn share(&mut self, link: ShareLink) {
        let blocks = Arc::downgrade(&self.blocks);
        self.shared = Some(SharedTier::new(link, self.root, blocks));
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        // A panic while it was held leaves at worst an index that differs from the folder,
        // which is handled as a file that is missing or changed.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store has done since it was opened.
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

    /// Size of its blocks on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Number of its blocks.
    pub fn blocks(&self) -> usize {
        self.lock().blocks()
    }

    /// A message about the latest failure of the folder or the shared store, given once.
    pub fn trouble(&mut self) -> Option<String> {
        let own = self.lock().trouble();
        own.or_else(|| self.shared.as_ref().and_then(SharedTier::trouble))
    }

    /// The blocks into which a sequence is divided, whether stored or not. The last one may
    /// be a tail.
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

    /// Whether the index has a block. Always false for a tail, which only [`Store::find`]
    /// can tell.
    pub fn has(&self, block: &Block) -> bool {
        self.lock().has(block)
    }

    /// The stored blocks of a sequence, from its beginning without gaps. The last one may
    /// share only its first tokens with the sequence; the caller cuts off the rest.
    pub fn find(&mut self, namespace: &Namespace, tokens: &[i32]) -> Vec<Block> {
        self.lock().find(namespace, tokens)
    }

    /// The bytes of a block; none if it is missing or its file is wrong.
    pub fn get(&mut self, block: &Block) -> Option<Vec<u8>> {
        self.lock().get(block)
    }

    /// Whether a block came from the shared store and has not been used: then its use counts
    /// as a hit of that store. True once for each block.
    pub fn was_fetched(&mut self, block: &Block) -> bool {
        self.lock().was_fetched(block)
    }

    /// Writes a block unless it is stored already; returns whether it is stored now.
    ///
    /// # Errors
    /// Those of writing the file. They may be ignored: [`Store::trouble`] reports them, too.
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

    /// Requests from the shared store the full blocks of a sequence that the folder lacks.
    /// Returns whether some are under way and worth waiting for, if computing a token takes
    /// `token_s` seconds; they arrive in the background, and the caller polls this.
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

    /// Whether blocks or requests are on their way to the shared store.
    pub fn sends(&self) -> bool {
        self.shared.as_ref().is_some_and(SharedTier::sends)
    }

    /// Removes all blocks of an owner with any salt; returns how many were in the folder.
    /// Those of the shared store are removed in the background.
    pub fn forget(&mut self, namespace: &Namespace) -> usize {
        if let Some(shared) = &self.shared {
            shared.forget(namespace);
        }
        self.lock().forget(namespace)
    }
}
