//! The types of a plan: extents, the runs that use them, and the plan itself.

/// Alignment of an extent's offset and length in bytes. Direct I/O requires no
/// more of file offsets, lengths and memory on any Linux file system we know.
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
    /// Offset in the part in bytes, a multiple of [`ALIGN`].
    pub offset: u64,
    /// Length in bytes, a multiple of [`ALIGN`]. The last extent of a part may
    /// reach past the end of the file by less than [`ALIGN`].
    pub len: u64,
}

/// What a run does with the bytes of an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Reads them and does not change them.
    #[default]
    Read,
    /// Overwrites all of them; they need not be read first.
    Write,
    /// Reads and changes them.
    Modify,
}

impl Mode {
    /// Whether the bytes must be there before the run starts.
    pub fn reads(self) -> bool {
        self != Self::Write
    }

    /// Whether the run may change the bytes.
    pub fn writes(self) -> bool {
        self != Self::Read
    }

    /// This use and a later one combined, for an extent that stays in memory
    /// between them.
    pub fn then(self, later: Self) -> Self {
        match (self, later) {
            (Self::Read, Self::Read) => Self::Read,
            (Self::Write, _) => Self::Write,
            _ => Self::Modify,
        }
    }
}

/// A run's use of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    /// Which extent.
    pub extent: ExtentId,
    /// What the run does with it.
    pub mode: Mode,
}

impl Use {
    /// A use that reads.
    pub fn read(extent: ExtentId) -> Self {
        let mode = Mode::Read;
        Self { extent, mode }
    }

    /// A use that overwrites.
    pub fn write(extent: ExtentId) -> Self {
        let mode = Mode::Write;
        Self { extent, mode }
    }

    /// A use that changes.
    pub fn modify(extent: ExtentId) -> Self {
        let mode = Mode::Modify;
        Self { extent, mode }
    }
}

impl From<ExtentId> for Use {
    fn from(extent: ExtentId) -> Self {
        Self::read(extent)
    }
}

/// A stretch of compute that starts once all its extents are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// The extents it uses, in order of first use, each once.
    pub uses: Vec<Use>,
    /// Its share of a lap's compute time, in any unit: only proportions count.
    pub compute: f64,
}

impl Run {
    /// A run that reads these extents, each once.
    pub fn reading(extents: impl IntoIterator<Item = ExtentId>, compute: f64) -> Self {
        let uses = extents.into_iter().map(Use::read).collect();
        Self { uses, compute }
    }

    /// Whether it uses the extent.
    pub fn needs(&self, extent: ExtentId) -> bool {
        self.uses.iter().any(|u| u.extent == extent)
    }

    /// Adds an extent that it reads, if it does not use it yet.
    pub fn read(&mut self, extent: ExtentId) {
        if !self.needs(extent) {
            self.uses.push(Use::read(extent));
        }
    }
}

/// The order in which one lap uses its extents; the lap repeats.
///
/// Constructors: [`Plan::cycle`] for inference, [`Plan::there_and_back`] for
/// training, [`Plan::stack`] for activations, [`Plan::trace`] for batches that a
/// sampler has drawn ahead of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Every extent that a lap can need.
    pub extents: Vec<Extent>,
    /// The runs of a lap in order.
    pub runs: Vec<Run>,
    /// Indices of the runs at which the direction reverses, ascending; empty for a
    /// cycle. They divide the lap into phases.
    pub turns: Vec<u32>,
}
