//! A block and its file: a head, the tokens, the bytes, and a keyed hash of all of it.

use std::ops::Range;

use crate::key::{Key, Root, Tag};

/// Tokens of a block; the last of a chain may have fewer.
pub const BLOCK_TOKENS: usize = 64;

const MAGIC: &[u8; 8] = b"DLKVBLK\x01";

/// Magic, hash, whose, parent, first position, number of tokens.
const HEAD: usize = 8 + 32 + 8 + 32 + 4 + 4;

/// Which block: the tokens that it is of, and those before them by their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub(crate) tag: Tag,
    pub(crate) parent: Key,
    pub(crate) key: Key,
    pub(crate) from: usize,
    pub(crate) tokens: Vec<i32>,
}

impl Block {
    pub(crate) fn new(root: &Root, tag: Tag, parent: Key, from: usize, tokens: &[i32]) -> Self {
        Self {
            tag,
            parent,
            key: root.next(&parent, tokens),
            from,
            tokens: tokens.to_vec(),
        }
    }

    /// Its tokens' positions in their sequence.
    pub fn range(&self) -> Range<usize> {
        self.from..self.from + self.tokens.len()
    }

    /// How many of these tokens, which lie where it does, are its own from the first on.
    pub fn common(&self, tokens: &[i32]) -> usize {
        let same = self.tokens.iter().zip(tokens);
        same.take_while(|(a, b)| a == b).count()
    }

    /// Whether it is shorter than others, and may be continued.
    pub fn is_tail(&self) -> bool {
        self.tokens.len() < BLOCK_TOKENS
    }

    /// The name of its file, by which it is found from the block before it as well. A tail
    /// has that of its place: a longer one follows it there.
    pub(crate) fn file_name(&self) -> String {
        let place = self.place();
        match self.is_tail() {
            true => format!("{place}.tail"),
            false => format!("{place}-{}.block", self.key.hex()),
        }
    }

    /// How the names of all files begin that lie where it does, behind the same tokens.
    pub(crate) fn place(&self) -> String {
        format!("{}-{}", self.tag.hex(), self.parent.hex())
    }

    /// Its file.
    pub(crate) fn encode(&self, root: &Root, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + 4 * self.tokens.len() + bytes.len());
        out.extend(MAGIC);
        out.extend([0; 32]);
        out.extend(self.tag.0);
        out.extend(self.parent.0);
        out.extend((self.from as u32).to_le_bytes());
        out.extend((self.tokens.len() as u32).to_le_bytes());
        for token in &self.tokens {
            out.extend(token.to_le_bytes());
        }
        out.extend(bytes);
        let mut hasher = root.seal();
        hasher.update(&out[40..]);
        out[8..40].copy_from_slice(hasher.finalize().as_bytes());
        out
    }

    /// Bytes of a file before those of the block.
    pub(crate) fn head_len(&self) -> usize {
        HEAD + 4 * self.tokens.len()
    }
}

/// What a file says of itself, if all of it is as it was written by whoever has the root.
pub(crate) struct Decoded {
    pub block: Block,
    /// Where the bytes begin.
    pub bytes_at: usize,
}

/// Takes a file apart; none where it is not whole.
pub(crate) fn decode(root: &Root, file: &[u8]) -> Option<Decoded> {
    let head = file.get(..HEAD)?;
    if head[..8] != MAGIC[..] {
        return None;
    }
    let mut hasher = root.seal();
    hasher.update(&file[40..]);
    // In constant time: who can write files shall not learn the hash by trying.
    let sealed: [u8; 32] = head[8..40].try_into().ok()?;
    if hasher.finalize() != blake3::Hash::from_bytes(sealed) {
        return None;
    }
    let word = |at: usize| -> Option<u32> {
        let bytes = file.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let tag = Tag(head[40..48].try_into().ok()?);
    let parent = Key(head[48..80].try_into().ok()?);
    let (from, count) = (word(80)? as usize, word(84)? as usize);
    if count == 0 || count > BLOCK_TOKENS {
        return None;
    }
    let tokens: Option<Vec<i32>> = (0..count)
        .map(|n| word(HEAD + 4 * n).map(u32::cast_signed))
        .collect();
    Some(Decoded {
        block: Block::new(root, tag, parent, from, &tokens?),
        bytes_at: HEAD + 4 * count,
    })
}

/// What the name of a file links: the block before it, and, unless it is a tail, itself.
pub(crate) fn links(name: &str) -> Option<(&str, Option<&str>)> {
    let (_whose, name) = name.split_once('-')?;
    if let Some(parent) = name.strip_suffix(".tail") {
        return Some((parent, None));
    }
    let (parent, own) = name.strip_suffix(".block")?.split_once('-')?;
    Some((parent, Some(own)))
}

/// Whether a file begins as one of a block.
pub(crate) fn is_block(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}
