//! The figures of a medium between the files and the laps: those needed to say how near
//! its limit a lap came, and the medium's own report.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::KINDS;

/// The figures of a medium that is in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MediumFigures {
    /// Its name in `--medium`.
    pub kind: String,
    /// Where the bytes of a lap come from, as a noun.
    pub source: String,
    /// What sets the limit where compute does not, with its verb: `the drive allows`.
    pub allows: String,
    /// Lines for a summary, each with a line end.
    pub lines: String,
    /// Bytes that it brings in each lap without the drive.
    pub held_bytes: u64,
    /// Least time for these, in seconds.
    pub turn_s: f64,
    /// Rate that it can reach, in bytes per second; `None` for the drive's.
    pub rate_bytes_per_s: Option<f64>,
    /// Whether the rest of each lap comes from the drive.
    pub is_split: bool,
    /// Its own report, for programs.
    pub details: Value,
}

impl MediumFigures {
    /// The parts of a lap of `bytes_per_lap`: the least time for the held bytes, in seconds,
    /// and the bytes that the drive brings.
    pub fn parts_of(&self, bytes_per_lap: u64) -> (f64, u64) {
        let turn_s = if self.held_bytes > 0 {
            self.turn_s
        } else {
            0.0
        };
        (turn_s, bytes_per_lap.saturating_sub(self.held_bytes))
    }

    /// Rate that it can reach in laps of `bytes_per_lap`, in bytes per second; `drive`
    /// measures the drive, where something comes from it.
    ///
    /// # Errors
    /// Those of `drive`.
    pub fn rate<E>(
        &self,
        bytes_per_lap: u64,
        drive: impl FnOnce() -> Result<f64, E>,
    ) -> Result<f64, E> {
        let bytes = bytes_per_lap as f64;
        let (turn_s, rest) = self.parts_of(bytes_per_lap);
        match self.rate_bytes_per_s {
            // Nothing passes twice in a turn.
            Some(own) if !self.is_split => Ok((bytes / self.turn_s).min(own)),
            _ => Ok(bytes / turn_s.max(rest as f64 / drive()?)),
        }
    }
}

/// The figures of the medium of a run, if it has one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Received")]
pub struct MediumReport {
    /// Its figures.
    #[serde(rename = "medium_figures")]
    pub figures: Option<MediumFigures>,
    /// The report of each kind of medium; null for kinds that are not in use.
    #[serde(flatten)]
    by_kind: Map<String, Value>,
}

/// The field of a report from which the others follow.
#[derive(Deserialize)]
struct Received {
    medium_figures: Option<MediumFigures>,
}

impl From<Received> for MediumReport {
    fn from(received: Received) -> Self {
        Self::new(received.medium_figures)
    }
}

impl MediumReport {
    /// The report of these figures.
    pub fn new(figures: Option<MediumFigures>) -> Self {
        let details = |kind: &str| {
            let figures = figures.as_ref().filter(|figures| figures.kind == kind);
            figures.map_or(Value::Null, |figures| figures.details.clone())
        };
        let by_kind = KINDS.map(|kind| (kind.name.to_owned(), details(kind.name)));
        Self {
            by_kind: by_kind.into_iter().collect(),
            figures,
        }
    }

    /// Adds the field of each kind to an object.
    pub fn tell(&self, object: &mut Value) {
        for (kind, details) in &self.by_kind {
            object[kind] = details.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn a_split_lap_takes_the_longer_of_a_turn_and_the_rest() {
        for (turn_s, held_bytes, is_split, rate) in [
            (5.0, 700, true, 200.0),
            (1.0, 700, true, 1000.0 / 3.0),
            (5.0, 0, true, 100.0),
            (10.0, 1000, false, 100.0),
            (5.0, 1000, false, 150.0),
        ] {
            let figures = MediumFigures {
                turn_s,
                held_bytes,
                is_split,
                rate_bytes_per_s: Some(150.0),
                ..MediumFigures::default()
            };
            let drive = || Ok::<_, Infallible>(100.0);
            assert_eq!(figures.rate(1000, drive), Ok(rate), "{figures:?}");
        }
    }

    #[test]
    fn each_kind_has_its_field() {
        let object = |figures| serde_json::to_value(MediumReport::new(figures)).expect("JSON");
        let none = object(None);
        assert!(KINDS.iter().all(|kind| none[kind.name].is_null()), "{none}");
        let some = object(Some(MediumFigures {
            kind: "fiber".into(),
            details: 7.into(),
            ..MediumFigures::default()
        }));
        assert_eq!(some["fiber"], 7);
        let back: MediumReport = serde_json::from_value(some.clone()).expect("the same");
        assert_eq!(serde_json::to_value(back).expect("JSON"), some);
    }
}
