//! The secret of a shared store: object names that reveal nothing to whoever else can read
//! the store, and a keyed hash that only holders of the secret can make.

use crate::block::Block;
use crate::error::StoreError;
use crate::key::hex;
use crate::key::{Root, Tag};
use crate::namespace::Namespace;

/// Minimum length of a secret, in bytes.
const LEAST: usize = 16;

/// Length of the keyed hash at the start of an object, in bytes.
pub(crate) const SEAL: usize = 32;

/// The keys derived from a secret.
#[derive(Clone)]
pub struct ShareSecret {
    names: [u8; 32],
    seals: [u8; 32],
}

impl std::fmt::Debug for ShareSecret {
    /// Omits the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShareSecret")
    }
}

impl ShareSecret {
    /// From the bytes that all servers of a shared store know; white space around them is
    /// ignored.
    ///
    /// # Errors
    /// When they are too few.
    pub fn new(secret: &[u8]) -> Result<Self, StoreError> {
        let secret = secret.trim_ascii();
        if secret.len() < LEAST {
            return Err(StoreError::Secret {
                len: secret.len(),
                least: LEAST,
            });
        }
        let key = |context| blake3::derive_key(context, secret);
        Ok(Self {
            names: key("delayline shared kv cache 1, names"),
            seals: key("delayline shared kv cache 1, seals"),
        })
    }

    /// What is kept in a store to recognize its secret.
    pub(crate) fn check(&self) -> String {
        let hash = blake3::keyed_hash(&self.names, b"which secret");
        hash.to_hex().to_string()
    }

    fn tag_name(&self, tag: Tag) -> String {
        let hash = blake3::keyed_hash(&self.names, &[b"owner", &tag.0[..]].concat());
        hex(&hash.as_bytes()[..8])
    }

    /// The prefix of the names of all objects of an owner.
    pub(crate) fn owner(&self, root: &Root, namespace: &Namespace) -> String {
        self.tag_name(root.tag(namespace))
    }

    /// The name of a block's object.
    pub(crate) fn name(&self, block: &Block) -> String {
        let hash = blake3::keyed_hash(&self.names, &[b"block", &block.key.0[..]].concat());
        format!("{}-{}", self.tag_name(block.tag), hash.to_hex())
    }

    fn hash(&self, name: &str, file: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.seals);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(file);
        hasher.finalize()
    }

    /// The object of that name: the keyed hash and a block's file.
    pub(crate) fn seal(&self, name: &str, file: &[u8]) -> Vec<u8> {
        let mut object = Vec::with_capacity(SEAL + file.len());
        object.extend(self.hash(name, file).as_bytes());
        object.extend(file);
        object
    }

    /// The file in an object of that name; `None` if the keyed hash is wrong.
    pub(crate) fn open(&self, name: &str, mut object: Vec<u8>) -> Option<Vec<u8>> {
        let seal: [u8; SEAL] = object.get(..SEAL)?.try_into().ok()?;
        // `blake3::Hash` compares in constant time.
        if self.hash(name, &object[SEAL..]) != blake3::Hash::from_bytes(seal) {
            return None;
        }
        object.drain(..SEAL);
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_of_an_object_is_taken_for_it() {
        let secret = ShareSecret::new(b"sixteen bytes or more").expect("long enough");
        let other = ShareSecret::new(b"sixteen bytes or mose").expect("long enough");
        let (name, file) = ("a-name", b"what is in a file".repeat(9));
        let object = secret.seal(name, &file);
        assert_eq!(secret.open(name, object.clone()), Some(file));
        assert_eq!(secret.open("a-nam", object.clone()), None);
        assert_eq!(other.open(name, object.clone()), None);
        for len in 0..object.len() {
            assert_eq!(secret.open(name, object[..len].to_vec()), None, "{len}");
        }
        for bit in 0..8 * object.len() {
            let mut changed = object.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(secret.open(name, changed), None, "{bit}");
        }
    }
}
