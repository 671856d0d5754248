//! What a medium between the files and the laps has done: as much as is needed to tell
//! how near its limit a lap came, and what it says of itself.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::KINDS;

/// Of a medium that is in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MediumFigures {
    /// As `--medium` calls it.
    pub kind: String,
    /// Where the bytes of a lap come from, as a noun.
    pub source: String,
    /// What sets the limit where compute does not, with its verb.
    pub allows: String,
    /// Lines for a summary, each with its end.
    pub lines: String,
    /// Bytes that it brings in each lap without the drive.
    pub held_bytes: u64,
    /// How long it takes for them at least, in seconds.
    pub turn_s: f64,
    /// What it can bring, in bytes per second; `None` for whatever the drive can.
    pub rate_bytes_per_s: Option<f64>,
    /// Whether the rest of each lap comes from the drive beside it.
    pub is_split: bool,
    /// What it tells programs.
    pub details: Value,
}

impl MediumFigures {
    /// What a lap of so many bytes takes: the least time for what is held, and the bytes
    /// that the drive brings.
    pub fn parts_of(&self, bytes_per_lap: u64) -> (f64, u64) {
        let turn_s = if self.held_bytes > 0 {
            self.turn_s
        } else {
            0.0
        };
        (turn_s, bytes_per_lap.saturating_sub(self.held_bytes))
    }

    /// What it can bring of laps of so many bytes, in bytes per second; `drive` measures
    /// the drive, where something comes from it.
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
            // Each byte once in a turn, for nothing comes by twice in one.
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
    /// What each kind of medium tells programs; null where it is not in use.
    #[serde(flatten)]
    by_kind: Map<String, Value>,
}

/// The part of a report from which the rest follows.
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
    /// Of these figures.
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

    /// Adds what each kind tells to an object.
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
