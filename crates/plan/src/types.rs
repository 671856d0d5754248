//! The words of the plan: extents and the runs that need them.

/// Alignment of an extent's offset and length in bytes, what direct I/O asks
/// of file offsets, lengths and memory on every Linux file system we know.
pub const ALIGN: u64 = 4096;

/// Index of an [`Extent`] in its [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentId(pub u32);

impl ExtentId {
    /// The index, for slices.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The unit that moves: consecutive bytes of one part of the model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Index of the file (a split model has several).
    pub part: u16,
    /// Where it starts in the part, a multiple of [`ALIGN`], in bytes.
    pub offset: u64,
    /// How long it is, a multiple of [`ALIGN`], in bytes. The last extent of a
    /// part may reach past the end of the file by less than [`ALIGN`].
    pub len: u64,
}

/// A stretch of compute that starts once all its extents are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// The extents it reads, in order of first use, each once.
    pub needs: Vec<ExtentId>,
    /// Its share of a lap's compute time, in any unit: only proportions count.
    pub compute: f64,
}

/// The order in which one lap uses its extents; the lap repeats (*cyclic*).
///
/// Training will be a palindrome, activations a stack, graph sampling a trace:
/// they will be other constructors of the same order, not other types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Every extent that a lap can need.
    pub extents: Vec<Extent>,
    /// The runs of a lap in order.
    pub runs: Vec<Run>,
}
