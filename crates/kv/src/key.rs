//! Keys of blocks: each is a keyed hash of the key before it and of the block's tokens.

use crate::namespace::Namespace;

/// A hash key made of everything but the tokens that decides the bits of a block: the
/// model's bytes, the kernels, the number formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Root([u8; 32]);

impl std::fmt::Debug for Root {
    /// Omits the bytes: whoever has them can forge blocks.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Root")
    }
}

impl Root {
    /// Made of parts in that order; the same bytes divided differently give another root.
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("delayline kv cache, blocks of version 1");
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The parent of the first block of every sequence of a namespace.
    pub(crate) fn begin(&self, namespace: &Namespace) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"begin");
        hasher.update(&namespace.owner);
        hasher.update(&namespace.salt);
        Key(*hasher.finalize().as_bytes())
    }

    /// The tag of an owner, the same for all its salts.
    pub(crate) fn tag(&self, namespace: &Namespace) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"owner");
        hasher.update(&namespace.owner);
        let mut tag = [0; 8];
        hasher.finalize_xof().fill(&mut tag);
        Tag(tag)
    }

    /// The key of the block of these tokens that follows `parent`.
    pub(crate) fn next(&self, parent: &Key, tokens: &[i32]) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"next");
        hasher.update(&parent.0);
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        Key(*hasher.finalize().as_bytes())
    }

    /// A hasher for the keyed hash of a file.
    pub(crate) fn seal(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }
}

/// Identifies a block, or the beginning of a namespace's sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub [u8; 32]);

impl Key {
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Identifies the owner of a block; the name of its file begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub [u8; 8]);

impl Tag {
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
