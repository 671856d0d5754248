//! The seal of a file: a hash of each of its blocks, stored in a file beside it, to check
//! bytes that are read later. It detects corruption, not forgery. Does no I/O.

use thiserror::Error;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of a block: the unit of direct I/O.
pub const SEAL_BLOCK: u64 = 4096;

/// Bytes before the hashes.
pub const SEAL_HEAD: u64 = 24;

const MAGIC: &[u8; 8] = b"DLSEAL\x00\x01";

/// Why a seal cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// It does not begin like a seal.
    #[error("it is not the seal of a model, or one of a later version")]
    NotOne,
    /// It is a model: a file that happens to have this name, or a file system that
    /// returns the same file for every name. There is no seal.
    #[error("it is a model, not the seal of one")]
    IsModel,
    /// It is the seal of a file of another length.
    #[error("it is of a file of {sealed} bytes, but the model has {has}")]
    OtherLength {
        /// Length of the file that was sealed, in bytes.
        sealed: u64,
        /// Length of the model's file, in bytes.
        has: u64,
    },
    /// Its own checksum is wrong.
    #[error("it is damaged")]
    Damaged,
}

/// The hash of a block: 64-bit XXH3 of its bytes.
pub fn block_hash(block: &[u8]) -> u64 {
    xxh3_64(block)
}

/// Length in bytes of the seal of a file of `len` bytes.
pub fn seal_len(len: u64) -> u64 {
    SEAL_HEAD + len.div_ceil(SEAL_BLOCK) * 8 + 8
}

/// Makes the seal of a file whose bytes are given in order, in pieces of any length.
pub struct Sealer {
    seal: Vec<u8>,
    block: Vec<u8>,
    len: u64,
}

impl Default for Sealer {
    fn default() -> Self {
        Self {
            seal: vec![0; SEAL_HEAD as usize],
            block: Vec::with_capacity(SEAL_BLOCK as usize),
            len: 0,
        }
    }
}

impl Sealer {
    /// Adds the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if !self.block.is_empty() {
            let missing = SEAL_BLOCK as usize - self.block.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.block.extend_from_slice(head);
            bytes = rest;
            if self.block.len() < SEAL_BLOCK as usize {
                return;
            }
            self.push(block_hash(&self.block));
            self.block.clear();
        }
        let mut blocks = bytes.chunks_exact(SEAL_BLOCK as usize);
        for block in &mut blocks {
            self.push(block_hash(block));
        }
        self.block.extend_from_slice(blocks.remainder());
    }

    fn push(&mut self, hash: u64) {
        self.seal.extend(hash.to_le_bytes());
    }

    /// The seal, as it is written to its file.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.block.is_empty() {
            self.push(block_hash(&self.block));
        }
        let mut seal = self.seal;
        seal[..8].copy_from_slice(MAGIC);
        seal[8..16].copy_from_slice(&SEAL_BLOCK.to_le_bytes());
        seal[16..24].copy_from_slice(&self.len.to_le_bytes());
        let check = xxh3_64(&seal);
        seal.extend(check.to_le_bytes());
        seal
    }
}

/// Whether a file that begins with `head` is a seal.
pub fn is_seal(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// Checks a seal, whose bytes are given in order, against the length of its file and its
/// own checksum.
pub struct SealCheck {
    file_len: u64,
    head: Vec<u8>,
    hasher: Xxh3,
    tail: Vec<u8>,
}

impl SealCheck {
    /// A check of the seal of a file of `file_len` bytes.
    pub fn new(file_len: u64) -> Self {
        Self {
            file_len,
            head: Vec::new(),
            hasher: Xxh3::new(),
            tail: Vec::new(),
        }
    }

    /// Adds the next bytes of the seal.
    pub fn update(&mut self, bytes: &[u8]) {
        let missing = SEAL_HEAD as usize - self.head.len();
        self.head.extend(&bytes[..missing.min(bytes.len())]);
        // The last eight bytes are the checksum of those before.
        self.tail.extend_from_slice(bytes);
        let ready = self.tail.len().saturating_sub(8);
        self.hasher.update(&self.tail[..ready]);
        self.tail.drain(..ready);
    }

    /// Ends the check after the last byte.
    ///
    /// # Errors
    /// [`SealError`] if it is not a seal, of another file, or damaged.
    pub fn finish(self) -> Result<(), SealError> {
        let word = |at: usize| -> Option<u64> {
            let bytes = self.head.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        if self.head.starts_with(crate::header::MAGIC) {
            return Err(SealError::IsModel);
        }
        if !is_seal(&self.head) || word(8) != Some(SEAL_BLOCK) {
            return Err(SealError::NotOne);
        }
        match word(16) {
            Some(len) if len == self.file_len => {}
            Some(sealed) => {
                let has = self.file_len;
                return Err(SealError::OtherLength { sealed, has });
            }
            None => return Err(SealError::Damaged),
        }
        match self.tail == self.hasher.digest().to_le_bytes() {
            true => Ok(()),
            false => Err(SealError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seal: &[u8], len: u64, step: usize) -> Result<(), SealError> {
        let mut check = SealCheck::new(len);
        seal.chunks(step).for_each(|bytes| check.update(bytes));
        check.finish()
    }

    #[test]
    fn a_seal_is_the_same_however_the_bytes_come() {
        for len in [0, 1, 4095, 4096, 4097, 3 * 4096 + 5] {
            let bytes: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
            let mut whole = Sealer::default();
            whole.update(&bytes);
            let whole = whole.finish();
            assert_eq!(whole.len() as u64, seal_len(len));
            for step in [1, 7, 4096, 5000] {
                let mut parts = Sealer::default();
                bytes.chunks(step).for_each(|bytes| parts.update(bytes));
                assert_eq!(parts.finish(), whole, "{len} by {step}");
                assert_eq!(check(&whole, len, step), Ok(()));
            }
            for (index, block) in bytes.chunks(4096).enumerate() {
                let at = SEAL_HEAD as usize + 8 * index;
                assert_eq!(whole[at..at + 8], block_hash(block).to_le_bytes());
            }
        }
    }

    #[test]
    fn what_is_not_the_seal_is_told() {
        let mut sealer = Sealer::default();
        sealer.update(&[3; 10_000]);
        let seal = sealer.finish();
        let other = SealError::OtherLength {
            sealed: 10_000,
            has: 9_999,
        };
        assert_eq!(check(&seal, 9_999, 16), Err(other));
        assert_eq!(check(&seal[1..], 10_000, 16), Err(SealError::NotOne));
        for len in 0..seal.len() {
            assert!(check(&seal[..len], 10_000, 16).is_err(), "cut at {len}");
        }
        for bit in 0..8 * seal.len() {
            let mut seal = seal.clone();
            seal[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&seal, 10_000, 64).is_err(), "bit {bit}");
        }
    }
}
