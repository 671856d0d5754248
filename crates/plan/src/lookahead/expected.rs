//! How often a row is expected to be used, in 256 classes: given, or counted.

/// The order in which rows that no announced batch uses are given up.
#[derive(Clone, Debug)]
pub enum ExpectedUse {
    /// No figures: the least recently used row goes first.
    Unknown,
    /// A class for each row; the lowest goes first.
    Given(Box<[u8]>),
    /// Uses of each row so far. All are halved when one reaches 255, but not again
    /// within as many uses as there are rows.
    Counted {
        /// Uses of each row.
        uses: Box<[u8]>,
        /// Uses of all rows since they were halved.
        since: u64,
    },
}

impl ExpectedUse {
    /// Counted from zero, for `rows` rows.
    pub fn counted(rows: usize) -> Self {
        Self::Counted {
            uses: vec![0; rows].into(),
            since: 0,
        }
    }

    /// From figures proportional to expected uses: one class per eighth of an octave,
    /// from the largest figure down.
    pub fn from_figures(figures: &[f32]) -> Self {
        let largest = figures.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        let class = |&figure: &f32| match figure > 0.0 {
            true => (255.0 + 8.0 * (figure / largest).log2()).clamp(1.0, 255.0) as u8,
            false => 0,
        };
        Self::Given(figures.iter().map(class).collect())
    }

    /// Class of a row.
    pub(super) fn class(&self, row: u32) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Given(classes) => classes[row as usize],
            Self::Counted { uses, .. } => uses[row as usize],
        }
    }

    /// Counts a use of a row; returns whether all counts were halved.
    pub(super) fn count(&mut self, row: u32) -> bool {
        let Self::Counted { uses, since } = self else {
            return false;
        };
        *since += 1;
        let count = &mut uses[row as usize];
        *count = count.saturating_add(1);
        let aged = *count == u8::MAX && *since >= uses.len() as u64;
        if aged {
            uses.iter_mut().for_each(|count| *count /= 2);
            *since = 0;
        }
        aged
    }
}
