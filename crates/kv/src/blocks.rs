//! Finds, reads, writes and removes the blocks of a folder. Any failure to read one is a miss.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::block::{BLOCK_TOKENS, Block, decode, links};
use crate::error::StoreError;
use crate::folder::{self, drop_pages, on_disk};
use crate::index::{ChainLink, KvIndex};
use crate::key::Root;
use crate::namespace::Namespace;
use crate::store::KvStats;
use crate::wear::{WEAR, Wear};

/// Minimum size of a store, in bytes.
const LEAST: u64 = 64 << 10;

/// Maximum number of blocks behind the same parent that are read in search of the longest
/// common beginning.
const ALIKE: usize = 8;

/// The current time, in seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The folder of a [`crate::Store`], whose methods of the same names document these.
#[derive(Debug)]
pub(crate) struct Blocks {
    path: PathBuf,
    root: Root,
    index: KvIndex<String, String>,
    /// The last use of each file, in seconds since 1970.
    used: HashMap<String, u64>,
    /// Files that came from a shared store and have not been used yet.
    fetched: HashSet<String>,
    stats: KvStats,
    /// The last failed operation, until it has been reported.
    trouble: Option<String>,
    /// Whether a write or a removal has failed, such as on a full disk: then nothing is written
    /// any more.
    frozen: bool,
    /// Maximum length of a file, in bytes.
    longest: u64,
    /// None if the folder is open for reading only.
    writes: Option<Writes>,
}

/// What is needed to change a folder.
#[derive(Debug)]
struct Writes {
    wear: Wear,
    _lock: File,
}

impl Blocks {
    pub fn open(path: &Path, size: u64, root: Root) -> Result<Self, StoreError> {
        if size < LEAST {
            return Err(StoreError::TooSmall { size, least: LEAST });
        }
        let lock = folder::open(path)?;
        folder::sweep(path)?;
        let wear = Wear::open(path).map_err(|source| StoreError::Io {
            what: "cannot write to",
            path: path.join(WEAR),
            source,
        })?;
        let writes = Writes { wear, _lock: lock };
        let mut blocks = Self::of(path, size, root, Some(writes))?;
        blocks.make_room(0, None);
        Ok(blocks)
    }

    pub fn open_read_only(path: &Path, root: Root) -> Result<Self, StoreError> {
        Self::of(path, u64::MAX, root, None)
    }

    fn of(path: &Path, size: u64, root: Root, writes: Option<Writes>) -> Result<Self, StoreError> {
        folder::check(path)?;
        let (mut index, mut used) = (KvIndex::new(size), HashMap::new());
        for found in folder::blocks(path)? {
            let link = link(&found.name);
            used.insert(found.name.clone(), found.used);
            index.add_old(found.name, found.bytes, link);
        }
        Ok(Self {
            path: path.to_owned(),
            root,
            index,
            used,
            fetched: HashSet::new(),
            stats: KvStats::default(),
            trouble: None,
            frozen: false,
            longest: u64::MAX,
            writes,
        })
    }

    pub fn limit_blocks(&mut self, bytes: u64) {
        self.longest = bytes;
    }

    pub fn limit_a_day(&mut self, bytes: u64) {
        if let Some(writes) = &mut self.writes {
            writes.wear.limit(bytes);
        }
    }

    pub fn writes(&self) -> bool {
        let writes = self.writes.as_ref();
        !self.frozen && writes.is_some_and(|writes| writes.wear.has_room())
    }

    pub fn written_today(&mut self) -> u64 {
        let writes = self.writes.as_mut();
        writes.map_or(0, |writes| writes.wear.written_today())
    }

    pub fn stats(&self) -> KvStats {
        self.stats
    }

    pub fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    pub fn blocks(&self) -> usize {
        self.index.len()
    }

    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    pub fn has(&self, block: &Block) -> bool {
        !block.is_tail() && self.index.has(&block.file_name())
    }

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

    /// The block behind the same parent that has the most leading tokens in common with
    /// `wanted`.
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
            let misplaced = block.is_some();
            let Some(block) = block.filter(|block| block.file_name() == name) else {
                self.reject(&name, misplaced);
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

    pub fn get(&mut self, block: &Block) -> Option<Vec<u8>> {
        let name = block.file_name();
        if !self.index.has(&name) {
            return None;
        }
        let mut file = self.read(&name)?;
        match decode(&self.root, &file) {
            Some(decoded) if decoded.block == *block => {
                self.touch(&name);
                self.date(&name);
                self.stats.hits += 1;
                file.drain(..decoded.bytes_at);
                Some(file)
            }
            other => {
                self.reject(&name, other.is_some());
                None
            }
        }
    }

    pub fn was_fetched(&mut self, block: &Block) -> bool {
        self.fetched.remove(&block.file_name())
    }

    pub fn put(&mut self, block: &Block, bytes: &[u8]) -> io::Result<bool> {
        let name = block.file_name();
        if self.has(block) {
            self.touch(&name);
            return Ok(true);
        }
        // Checked first, so that a block that is not kept need not be encoded.
        match self.takes((block.head_len() + bytes.len()) as u64) {
            true => self.add(block, &block.encode(&self.root, bytes)),
            false => Ok(false),
        }
    }

    /// Keeps the file of a block from a shared store, which the caller has verified.
    pub fn adopt(&mut self, block: &Block, file: &[u8]) {
        if self.has(block) || !self.takes(file.len() as u64) {
            return;
        }
        // `add` has recorded any error.
        if self.add(block, file).unwrap_or(false) {
            self.fetched.insert(block.file_name());
        }
    }

    /// Whether a file of `bytes` may be written now; counts it as deferred if the daily limit
    /// forbids it.
    fn takes(&mut self, bytes: u64) -> bool {
        let needed = on_disk(bytes);
        let fits = !self.frozen && needed <= self.index.size();
        let Some(writes) = self.writes.as_mut().filter(|_| fits) else {
            return false;
        };
        let takes = writes.wear.takes(needed);
        self.stats.deferred += u64::from(!takes);
        takes
    }

    fn add(&mut self, block: &Block, file: &[u8]) -> io::Result<bool> {
        let (name, needed) = (block.file_name(), on_disk(file.len() as u64));
        let link = link(&name);
        self.make_room(needed, Some(&link.behind));
        if self.frozen || !self.index.has_room(needed) {
            // Room could not be made, or all that is left are the blocks before this one.
            return Ok(false);
        }
        if let Err(error) = self.write(&name, file) {
            // Further attempts would most likely fail too, and each takes time.
            self.frozen = true;
            self.refused("write", &name, &error);
            return Err(error);
        }
        self.used.insert(name.clone(), now());
        self.index.add(name, needed, link);
        self.stats.written += 1;
        self.stats.written_bytes += file.len() as u64;
        let wear = self.writes.as_mut().map(|writes| &mut writes.wear);
        if let Some(Err(error)) = wear.map(|wear| wear.wrote(needed)) {
            // Without its count the daily limit cannot be kept.
            self.frozen = true;
            self.refused("write", WEAR, &error);
        }
        Ok(true)
    }

    pub fn path_of(&self, block: &Block) -> PathBuf {
        self.path.join(block.file_name())
    }

    pub fn remove(&mut self, block: &Block) {
        self.drop_file(&block.file_name());
    }

    /// Records a use of a block.
    fn touch(&mut self, name: &String) {
        self.index.touch(name);
        self.used.insert(name.clone(), now());
    }

    /// Takes a block out of the index; its file stays.
    fn lose(&mut self, name: &String) {
        self.index.forget(name);
        self.used.remove(name);
    }

    pub fn forget(&mut self, namespace: &Namespace) -> usize {
        let whose = format!("{}-", self.root.tag(namespace).hex());
        let names: Vec<String> = self.index.beginning(&whose).cloned().collect();
        let mut removed = 0;
        for name in names {
            removed += usize::from(self.drop_file(&name));
        }
        removed
    }

    fn make_room(&mut self, needed: u64, behind: Option<&String>) {
        for name in self.index.make_room(needed, behind) {
            self.stats.evicted += 1;
            let used = self.used.remove(&name).unwrap_or_else(now);
            self.stats.evicted_unused_s += now().saturating_sub(used);
            self.delete(&name);
        }
    }

    /// Takes a block out of the index and deletes its file; returns whether it is gone. If the
    /// folder may only be read, the file stays, but is not found any more.
    fn drop_file(&mut self, name: &String) -> bool {
        self.lose(name);
        self.delete(name)
    }

    /// Deletes a file that has left the index; returns whether it is gone. One that cannot be
    /// removed still takes room, so that nothing is written any more.
    fn delete(&mut self, name: &str) -> bool {
        self.fetched.remove(name);
        if self.writes.is_none() {
            return false;
        }
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.frozen = true;
                self.refused("remove", name, &error);
                false
            }
            _ => true,
        }
    }

    /// Writes a file under a temporary name and renames it, so that a crash leaves no partial
    /// file under a block's name. Nothing is synced: a block torn by a power cut is a miss.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let written = folder::create(&new).and_then(|mut file| {
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

    fn read(&mut self, name: &String) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = folder::read(&self.path.join(name)).and_then(|file| {
            let len = file.metadata()?.len();
            if len > self.longest {
                return Ok(false);
            }
            bytes.try_reserve_exact(len as usize)?;
            (&file).take(len).read_to_end(&mut bytes)?;
            drop_pages(&file);
            Ok(true)
        });
        match read {
            Ok(true) => {
                self.stats.read_bytes += bytes.len() as u64;
                Some(bytes)
            }
            Ok(false) => {
                self.reject(name, false);
                None
            }
            Err(error) => {
                self.lose(name);
                if error.kind() != io::ErrorKind::NotFound {
                    self.refused("read", name, &error);
                }
                None
            }
        }
    }

    /// Sets a file's time to now, from which the next process orders the blocks by last use.
    /// A failure affects only that order and is ignored.
    fn date(&self, name: &str) {
        if self.writes.is_none() {
            return;
        }
        let file = folder::read(&self.path.join(name));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Removes a file whose content is not what its name says; `misplaced` if it is another
    /// block.
    fn reject(&mut self, name: &String, misplaced: bool) {
        self.stats.rejected += 1;
        self.stats.misplaced += u64::from(misplaced);
        self.drop_file(name);
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

/// The link of a block, parsed from the name of its file.
fn link(name: &str) -> ChainLink<String> {
    let (behind, own) = links(name).unwrap_or((name, None));
    ChainLink {
        own: own.map(str::to_owned),
        behind: behind.to_owned(),
    }
}
