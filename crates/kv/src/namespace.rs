//! Whose a sequence is.

/// Who may find what was kept: an owner, such as the holder of a key, and a salt by which
/// an owner keeps some of its sequences apart. What is kept in one namespace is never found
/// from another. Keeps hashes of both, which are compared instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    pub(crate) owner: [u8; 32],
    pub(crate) salt: [u8; 32],
}

impl Namespace {
    /// Of that owner and with that salt; either may be empty.
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
    /// Nobody's in particular.
    fn default() -> Self {
        Self::new(b"", b"")
    }
}
