//! A block and the format of its file: a header with a keyed hash of all the rest, the
//! tokens, the bytes.

use std::ops::Range;

use crate::key::{Key, Root, Tag};

/// Tokens of a block; the last block of a sequence may have fewer.
pub const BLOCK_TOKENS: usize = 64;

const MAGIC: &[u8; 8] = b"DLKVBLK\x01";

/// Bytes of magic, hash, owner tag, parent, first position and number of tokens.
const HEAD: usize = 8 + 32 + 8 + 32 + 4 + 4;

/// Identifies a block: its tokens, their positions, and a hash of the tokens before them.
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

    /// The positions of its tokens in their sequence.
    pub fn range(&self) -> Range<usize> {
        self.from..self.from + self.tokens.len()
    }

    /// How many leading tokens it has in common with `tokens`, which begin at the same
    /// position.
    pub fn common(&self, tokens: &[i32]) -> usize {
        let same = self.tokens.iter().zip(tokens);
        same.take_while(|(a, b)| a == b).count()
    }

    /// Whether it has fewer than [`BLOCK_TOKENS`] tokens, so that a longer one may replace it.
    pub fn is_tail(&self) -> bool {
        self.tokens.len() < BLOCK_TOKENS
    }

    /// The name of its file. It begins with the parent's key, so that all blocks behind a
    /// parent can be listed. A tail's name has no key of its own: a longer tail replaces it.
    pub(crate) fn file_name(&self) -> String {
        let place = self.place();
        match self.is_tail() {
            true => format!("{place}.tail"),
            false => format!("{place}-{}.block", self.key.hex()),
        }
    }

    /// The prefix of the names of all files that follow the same tokens.
    pub(crate) fn place(&self) -> String {
        format!("{}-{}", self.tag.hex(), self.parent.hex())
    }

    /// The content of its file.
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

    /// Length of the header and the tokens, which precede the block's bytes.
    pub(crate) fn head_len(&self) -> usize {
        HEAD + 4 * self.tokens.len()
    }
}

/// A file whose keyed hash is right.
pub(crate) struct Decoded {
    pub block: Block,
    /// Offset of the block's bytes.
    pub bytes_at: usize,
}

/// Parses a file; `None` if its keyed hash or its header is wrong.
pub(crate) fn decode(root: &Root, file: &[u8]) -> Option<Decoded> {
    let head = file.get(..HEAD)?;
    if head[..8] != MAGIC[..] {
        return None;
    }
    let mut hasher = root.seal();
    hasher.update(&file[40..]);
    // `blake3::Hash` compares in constant time, so that whoever can write files cannot learn
    // the hash by trying.
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

/// The keys in the name of a file: its parent's, and its own unless it is a tail.
pub(crate) fn links(name: &str) -> Option<(&str, Option<&str>)> {
    let (_whose, name) = name.split_once('-')?;
    if let Some(parent) = name.strip_suffix(".tail") {
        return Some((parent, None));
    }
    let (parent, own) = name.strip_suffix(".block")?.split_once('-')?;
    Some((parent, Some(own)))
}

/// Whether a file begins with the magic of a block.
pub(crate) fn is_block(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}
