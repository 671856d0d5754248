//! How often a row is expected to be used, in 256 classes: given beforehand, or
//! counted.

/// What orders rows that no announced batch uses.
#[derive(Clone, Debug)]
pub enum ExpectedUse {
    /// Nothing is known: the one goes that was used longest ago.
    Unknown,
    /// A class for each row, given up in rising order.
    Given(Box<[u8]>),
    /// Uses of each row so far. All are halved when one has 255, unless that was
    /// the case less than as many uses ago as there are rows.
    Counted {
        /// Uses of each row.
        uses: Box<[u8]>,
        /// Uses of all rows since they were halved.
        since: u64,
    },
}

impl ExpectedUse {
    /// To be counted, for so many rows.
    pub fn counted(rows: usize) -> Self {
        Self::Counted {
            uses: vec![0; rows].into(),
            since: 0,
        }
    }

    /// From figures in proportion to the uses that are expected: an eighth of an
    /// octave is a class, from the largest figure down.
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

    /// A row is used; whether all classes have changed.
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
