//! The namespace of a sequence: its owner and a salt.

/// Who may find a block: an owner, such as the holder of an API key, and a salt with which
/// an owner separates some of its sequences. A block of one namespace is never found from
/// another. Holds hashes of both, not the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    pub(crate) owner: [u8; 32],
    pub(crate) salt: [u8; 32],
}

impl Namespace {
    /// The namespace of that owner and that salt; either may be empty.
    pub fn new(owner: &[u8], salt: &[u8]) -> Self {
        Self {
            owner: *blake3::hash(owner).as_bytes(),
            salt: *blake3::hash(salt).as_bytes(),
        }
    }

    /// Whether both have the same owner, whatever their salts.
    pub fn same_owner(&self, other: &Self) -> bool {
        self.owner == other.owner
    }
}

impl Default for Namespace {
    /// With an empty owner and an empty salt.
    fn default() -> Self {
        Self::new(b"", b"")
    }
}
