//! What the optics say of a design, as far as power, money and capacity follow from it. Each
//! line is solved once and remembered.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use serde::{Deserialize, Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

use super::answer::{Error, solved};
use super::design::Design;
use super::resolve::line;
use crate::datasheet::Library;
use crate::interval::{Corner, Interval};
use crate::optics::link::LineReport;

/// Solutions of the designs of the program by [`key`], which a test holds against fresh
/// ones: solving them takes longer than everything else that a command does.
const SOLVED: &str = include_str!("../../designs/solved.toml");

static KNOWN: LazyLock<Mutex<HashMap<String, Carried>>> = LazyLock::new(|| {
    let known = toml::from_str(SOLVED).expect("a test reads the embedded solutions");
    Mutex::new(known)
});

/// What a lap of a design carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// Net rate of all cores in bit/s, over the corners that work.
    #[serde(serialize_with = "as_list")]
    pub net_rate_bit_per_s: Interval,
    /// Laps before the first lit channel fails.
    #[serde(serialize_with = "as_list")]
    pub laps_before_regeneration: Interval,
    /// Mean over the channels of their SNR in dB.
    #[serde(serialize_with = "as_list")]
    pub mean_snr_db: Interval,
    /// Pairs of transmitter and receiver, typically.
    pub transceivers: u64,
    /// Laps without regeneration, and the net rate in bit/s with formats for so many.
    pub by_laps: Vec<(f64, f64)>,
    /// What is beyond the models, and which corner of the figures does not work.
    pub marks: Vec<String>,
}

impl Carried {
    /// From the typical line, and those of both ends that work.
    pub(super) fn of(typical: &LineReport, ends: &[LineReport], failed: Vec<String>) -> Self {
        let over = |f: &dyn Fn(&LineReport) -> f64| {
            let all = || ends.iter().map(f);
            let middle = f(typical);
            let (low, high) = (all().fold(middle, f64::min), all().fold(middle, f64::max));
            Interval::new(low, middle, high)
        };
        let marks = typical.marks.iter();
        let marks = marks.map(|mark| format!("Beyond the models, {}: {}.", mark.about, mark.text));
        Self {
            net_rate_bit_per_s: over(&|report| report.net_rate_bit_per_s),
            laps_before_regeneration: over(&|report| report.laps_before_regeneration as f64),
            mean_snr_db: over(&LineReport::mean_snr_db),
            transceivers: typical.transceivers,
            by_laps: typical
                .by_laps
                .iter()
                .map(|laps| (laps.laps, laps.net_rate_bit_per_s))
                .collect(),
            marks: marks.chain(failed).collect(),
        }
    }
}

/// What a design carries, solved unless the same line was solved before.
///
/// # Errors
/// As [`super::answer()`].
pub fn carried(design: &Design, library: &Library) -> Result<Carried, Error> {
    let key = key(design, library)?;
    let known = || KNOWN.lock().expect("nothing panics while it is held");
    if let Some(found) = known().get(&key) {
        return Ok(found.clone());
    }
    let carried = solved(design, library)?.carried();
    known().insert(key, carried.clone());
    Ok(carried)
}

/// The same with the channels of the typical line, which are not remembered.
///
/// # Errors
/// As [`super::answer()`].
pub(super) fn carried_with_channels(
    design: &Design,
    library: &Library,
) -> Result<(Carried, LineReport), Error> {
    let key = key(design, library)?;
    let known = || KNOWN.lock().expect("nothing panics while it is held");
    let found = known().get(&key).cloned();
    if let Some(carried) = found {
        return Ok((carried, line(design, library, Corner::Typical)?.solve()?));
    }
    let solved = solved(design, library)?;
    let carried = solved.carried();
    known().insert(key, carried.clone());
    Ok((carried, solved.typical))
}

/// Everything that a line's solution depends on, hashed.
fn key(design: &Design, library: &Library) -> Result<String, Error> {
    let mut hash = Xxh3::new();
    for &corner in library.corners() {
        hash.update(format!("{:?}", line(design, library, corner)?).as_bytes());
    }
    Ok(format!("{:032x}", hash.digest128()))
}

/// The embedded solutions as they should be.
///
/// # Errors
/// As [`super::answer()`].
pub fn solved_presets(library: &Library) -> Result<String, Error> {
    let mut out = String::from(
        "# What the designs of the program carry, solved with the program's data sheets:\n\
         # cargo run --release -p delayline-study --example solved > this file\n",
    );
    for (name, text) in super::PRESETS {
        let design = Design::parse(text)?;
        let table = HashMap::from([(key(&design, library)?, solved(&design, library)?.carried())]);
        let table = toml::to_string(&table).expect("numbers and texts can be written");
        out += &format!("\n# {name}\n{table}");
    }
    Ok(out)
}

fn as_list<S: Serializer>(value: &Interval, serializer: S) -> Result<S::Ok, S::Error> {
    [value.low, value.typical, value.high].serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each design of the program is there under its key, and carries what a fresh
    /// solution says.
    #[test]
    fn the_embedded_solutions_are_those_of_the_designs() {
        let library = Library::embedded();
        let kept: HashMap<String, Carried> = toml::from_str(SOLVED).expect("it is valid");
        assert_eq!(kept.len(), super::super::PRESETS.len());
        for (name, text) in super::super::PRESETS {
            let design = Design::parse(text).expect("it is a design");
            let key = key(&design, &library).expect("its sheets are there");
            let kept = kept.get(&key).unwrap_or_else(|| {
                panic!("{name} or its figures changed: solve the designs anew, see solved.toml")
            });
            let fresh = solved(&design, &library).expect("it works").carried();
            let near = |a: Interval, b: Interval| {
                let pairs = [(a.low, b.low), (a.typical, b.typical), (a.high, b.high)];
                for (a, b) in pairs {
                    assert!(
                        (a / b - 1.0).abs() < 1e-6,
                        "{name}: {kept:?} is not {fresh:?}"
                    );
                }
            };
            near(kept.net_rate_bit_per_s, fresh.net_rate_bit_per_s);
            near(
                kept.laps_before_regeneration,
                fresh.laps_before_regeneration,
            );
            near(kept.mean_snr_db, fresh.mean_snr_db);
            assert_eq!(kept.transceivers, fresh.transceivers, "{name}");
            assert_eq!(kept.marks, fresh.marks, "{name}");
            for (a, b) in kept.by_laps.iter().zip(&fresh.by_laps) {
                assert!((a.1 - b.1).abs() <= 1e-6 * b.1, "{name}: {a:?} {b:?}");
            }
        }
    }

    /// A line is solved anew when a figure of it changes, and not when a price does.
    #[test]
    fn what_decides_a_line_is_its_key() {
        let design = Design::parse(super::super::PRESETS[1].1).expect("it is a design");
        let mut library = Library::embedded();
        let before = key(&design, &library).expect("its sheets are there");
        let mut after = |path: &str, value: f64| {
            let set = library.set(path, Interval::exact(value));
            set.expect("it can be");
            key(&design, &library).expect("its sheets are there")
        };
        assert_eq!(before, after("smf.price", 1.0));
        assert_eq!(before, after("zr800.energy", 1.0));
        let noisy = after("edfa.noise_figure", 5.5);
        assert_ne!(before, noisy);
        assert_ne!(noisy, after("smf.attenuation_1550", 0.21));
    }
}
