//! The store: blocks are found, read and written. Whatever goes wrong with one is a miss.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::block::{BLOCK_TOKENS, Block, decode, links};
use crate::error::StoreError;
use crate::folder::{self, drop_pages, on_disk};
use crate::index::{ChainLink, KvIndex};
use crate::key::Root;
use crate::namespace::Namespace;

/// Below this a store holds nothing.
const LEAST: u64 = 64 << 10;

/// Blocks behind the same tokens that are looked at for one that begins alike.
const ALIKE: usize = 8;

/// What a store has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KvStats {
    /// Blocks that were read and used.
    pub hits: u64,
    /// Files that were not what they should be, and are gone.
    pub rejected: u64,
    /// Blocks that were written.
    pub written: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Blocks that went to make room.
    pub evicted: u64,
    /// Writes and reads that the system refused.
    pub failed: u64,
}

/// A folder of blocks, of one root.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    root: Root,
    index: KvIndex<String, String>,
    stats: KvStats,
    /// The system's last refusal, told once.
    trouble: Option<String>,
    /// No more writes: the disk is full, or worse.
    frozen: bool,
    _lock: File,
}

impl Store {
    /// Opens the folder at `path`, or makes it; blocks take `size` bytes at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path, size: u64, root: Root) -> Result<Self, StoreError> {
        if size < LEAST {
            return Err(StoreError::TooSmall { size, least: LEAST });
        }
        let lock = folder::open(path)?;
        let mut index = KvIndex::new(size);
        for found in folder::blocks(path)? {
            let link = link(&found.name);
            index.add_old(found.name, found.bytes, link);
        }
        let mut store = Self {
            path: path.to_owned(),
            root,
            index,
            stats: KvStats::default(),
            trouble: None,
            frozen: false,
            _lock: lock,
        };
        store.make_room(0, None);
        Ok(store)
    }

    /// What it has done.
    pub fn stats(&self) -> KvStats {
        self.stats
    }

    /// What its blocks take on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// How many there are.
    pub fn blocks(&self) -> usize {
        self.index.len()
    }

    /// What the system refused, once.
    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
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
        !block.is_tail() && self.index.has(&block.file_name())
    }

    /// The blocks that are there of a sequence, from its beginning. Of the last one perhaps
    /// only the first tokens are the sequence's: the rest is for the caller to cut.
    pub fn find(&mut self, namespace: &Namespace, tokens: &[i32]) -> Vec<Block> {
        let (tag, mut parent) = (self.root.tag(namespace), self.root.begin(namespace));
        let mut found = Vec::new();
        for (number, tokens) in tokens.chunks(BLOCK_TOKENS).enumerate() {
            let from = number * BLOCK_TOKENS;
            let block = Block::new(&self.root, tag, parent, from, tokens);
            if !self.has(&block) {
                found.extend(self.alike(&block));
                break;
            }
            parent = block.key;
            found.push(block);
        }
        found
    }

    /// The block at the place of `wanted` that begins alike for longest.
    fn alike(&mut self, wanted: &Block) -> Option<Block> {
        let place = wanted.place();
        let names = self.index.beginning(&place);
        let names: Vec<String> = names.take(ALIKE).cloned().collect();
        let mut best: Option<(usize, Block)> = None;
        for name in names {
            let Some(file) = self.read(&name) else {
                continue;
            };
            let block = decode(&self.root, &file).map(|decoded| decoded.block);
            let Some(block) = block.filter(|block| block.file_name() == name) else {
                self.reject(&name);
                continue;
            };
            let common = block.common(&wanted.tokens);
            let is_there = block.from == wanted.from && common > 0;
            if is_there && best.as_ref().is_none_or(|(most, _)| common > *most) {
                best = Some((common, block));
            }
        }
        best.map(|(_, block)| block)
    }

    /// The bytes of a block; none where it is not there, or not what it should be.
    pub fn get(&mut self, block: &Block) -> Option<Vec<u8>> {
        let name = block.file_name();
        if !self.index.has(&name) {
            return None;
        }
        let mut file = self.read(&name)?;
        match decode(&self.root, &file) {
            Some(decoded) if decoded.block == *block => {
                self.index.touch(&name);
                self.used(&name);
                self.stats.hits += 1;
                file.drain(..decoded.bytes_at);
                Some(file)
            }
            _ => {
                self.reject(&name);
                None
            }
        }
    }

    /// Keeps the bytes of a block. What the system refuses is not kept, and told.
    ///
    /// # Errors
    /// The system's, for those who want to know; [`Store::trouble`] tells it as well.
    pub fn put(&mut self, block: &Block, bytes: &[u8]) -> io::Result<()> {
        let name = block.file_name();
        let needed = on_disk((block.head_len() + bytes.len()) as u64);
        if self.frozen || needed > self.index.size() {
            return Ok(());
        }
        if self.has(block) {
            self.index.touch(&name);
            return Ok(());
        }
        let link = link(&name);
        self.make_room(needed, Some(&link.behind));
        if !self.index.has_room(needed) {
            // All that there is stands before this one.
            return Ok(());
        }
        let file = block.encode(&self.root, bytes);
        let written = self.write(&name, &file);
        match &written {
            Ok(()) => {
                self.index.add(name, needed, link);
                self.stats.written += 1;
                self.stats.written_bytes += file.len() as u64;
            }
            Err(error) => {
                // One such error is enough: trying at every block would cost each of them.
                self.frozen = true;
                self.refused("write", &name, error);
            }
        }
        written
    }

    /// Removes all blocks of an owner, whatever their salts; returns how many.
    pub fn forget(&mut self, namespace: &Namespace) -> usize {
        let whose = format!("{}-", self.root.tag(namespace).hex());
        let names: Vec<String> = self.index.beginning(&whose).cloned().collect();
        let mut removed = 0;
        for name in names {
            match fs::remove_file(self.path.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.refused("remove", &name, &error);
                }
                _ => {
                    self.index.forget(&name);
                    removed += 1;
                }
            }
        }
        removed
    }

    fn make_room(&mut self, needed: u64, behind: Option<&String>) {
        for name in self.index.make_room(needed, behind) {
            self.stats.evicted += 1;
            if let Err(error) = fs::remove_file(self.path.join(&name))
                && error.kind() != io::ErrorKind::NotFound
            {
                self.refused("remove", &name, &error);
            }
        }
    }

    /// Under another name first: what a crash leaves behind has no name that is looked for.
    /// Nothing waits for the disk: a block that is torn by a power cut is a miss.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            drop_pages(&file);
            Ok(())
        });
        let named = written.and_then(|()| fs::rename(&new, self.path.join(name)));
        if named.is_err() {
            let _ = fs::remove_file(&new);
        }
        named
    }

    fn read(&mut self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = File::open(self.path.join(name)).and_then(|mut file| {
            let len = file.metadata()?.len();
            bytes.try_reserve_exact(len as usize)?;
            file.read_to_end(&mut bytes)?;
            drop_pages(&file);
            Ok(())
        });
        match read {
            Ok(()) => {
                self.stats.read_bytes += bytes.len() as u64;
                Some(bytes)
            }
            Err(error) => {
                self.index.forget(&name.to_owned());
                if error.kind() != io::ErrorKind::NotFound {
                    self.refused("read", name, &error);
                }
                None
            }
        }
    }

    /// Dates a file, so that after a restart what was used is not what goes first. Where
    /// the system refuses, that is all that is lost.
    fn used(&self, name: &str) {
        let file = File::open(self.path.join(name));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    fn reject(&mut self, name: &str) {
        self.stats.rejected += 1;
        self.index.forget(&name.to_owned());
        let _ = fs::remove_file(self.path.join(name));
    }

    fn refused(&mut self, what: &str, name: &str, error: &io::Error) {
        self.stats.failed += 1;
        let path = self.path.join(name);
        self.trouble = Some(format!(
            "the KV cache goes on without {}: cannot {what} it: {error}",
            path.display()
        ));
    }
}

/// Where the file of a block stands, by its name.
fn link(name: &str) -> ChainLink<String> {
    let (behind, own) = links(name).unwrap_or((name, None));
    ChainLink {
        own: own.map(str::to_owned),
        behind: behind.to_owned(),
    }
}
