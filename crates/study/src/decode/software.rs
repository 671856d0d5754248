//! How much of a machine's bandwidth software reaches, and what it spends on each
//! layer beside reading it. Knows figures and counts; knows no model.
//!
//! A lap takes `bytes / (rate · utilisation) + layers · (latency + batch · per sequence)`.
//! Utilisation alone cannot describe it: dense models reach most of the bandwidth of
//! one accelerator, a sparse mixture on eight of them a few per cent, because its
//! layers are too short to read for their launches, reductions and routers.

use serde::Serialize;

use crate::datasheet::{Library, SheetError, SheetKind};
use crate::interval::{Corner, Interval};

/// Numbers of accelerators for which a latency is on the data sheets, with its key.
const COUNTS: [(u32, &str); 4] = [
    (1, "latency_1"),
    (2, "latency_2"),
    (4, "latency_4"),
    (8, "latency_8"),
];

/// Largest number of accelerators that were measured together.
pub const MOST_MEASURED: u32 = COUNTS[COUNTS.len() - 1].0;

/// A class of software that runs models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Software {
    /// For people.
    pub name: String,
    /// Share of the memory's nominal rate at which weights are read.
    pub utilisation: Interval,
    /// Seconds of a layer that reading does not account for, by the largest number
    /// of accelerators that it holds for.
    pub layer_s: Vec<(u32, Interval)>,
    /// Seconds more of a layer for each sequence, on one accelerator.
    pub sequence_s: Interval,
    /// The same where several accelerators share each layer.
    pub shared_sequence_s: Interval,
}

impl Software {
    /// The software of a data sheet.
    ///
    /// # Errors
    /// [`SheetError`] when there is none.
    pub fn of(library: &Library, id: &str) -> Result<Self, SheetError> {
        let sheet = library.sheet(SheetKind::Software, id)?;
        Ok(Self {
            name: sheet.name.clone(),
            utilisation: sheet.get("utilisation"),
            layer_s: COUNTS.map(|(count, key)| (count, sheet.get(key))).to_vec(),
            sequence_s: sheet.get("sequence_1"),
            shared_sequence_s: sheet.get("sequence_several"),
        })
    }

    /// Software that reaches everything and costs nothing: its times are the roofline.
    pub fn ideal() -> Self {
        let nothing = Interval::exact(0.0);
        Self {
            name: "ideal software".to_owned(),
            utilisation: Interval::exact(1.0),
            layer_s: vec![(1, nothing)],
            sequence_s: nothing,
            shared_sequence_s: nothing,
        }
    }

    /// Seconds of a layer that reading does not account for. Between two measured
    /// numbers of accelerators that of the larger one holds; beyond the largest, its own.
    pub fn layer_s(&self, accelerators: u32, batch: u32, corner: Corner) -> f64 {
        let measured = self.layer_s.iter();
        let mut enough = measured.filter(|(count, _)| *count >= accelerators);
        let latency = enough.next().or(self.layer_s.last());
        let sequence = match accelerators {
            0 | 1 => self.sequence_s,
            _ => self.shared_sequence_s,
        };
        let latency_s = latency.map_or(0.0, |(_, latency)| corner.less_is_better(*latency));
        latency_s + f64::from(batch) * corner.less_is_better(sequence)
    }

    /// Seconds to read `bytes` from a memory of this nominal rate, in bytes per second.
    pub fn reading_s(&self, bytes: f64, rate_bytes_per_s: f64, corner: Corner) -> f64 {
        if bytes <= 0.0 {
            return 0.0;
        }
        bytes / (rate_bytes_per_s * corner.more_is_better(self.utilisation))
    }
}
