//! Loops with a name, and loops from a design: the source of the parameters that are not
//! given.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use delayline_fiber::{LoopSpec, SpecBuilder, SpecError};
use delayline_study::datasheet::Library;
use delayline_study::link::{self, Design, Lit, Optics};
use delayline_study::media;

use super::wrong;

/// A loop of the data sheets without a design: its length and rate are known, not its
/// optics.
const ORBIT: &str = "orbit";

/// A loop of 10,000 km at a rate that a laptop can emulate.
const OCEAN: &str = "ocean";

/// The names of all presets, with commas between.
pub fn names() -> String {
    let designs = link::PRESETS.map(|(name, _)| name);
    let names: Vec<&str> = designs.into_iter().chain([ORBIT, OCEAN]).collect();
    names.join(", ")
}

/// Where a loop's parameters come from.
#[derive(Clone, Debug, Default)]
pub struct PresetSource {
    from: Option<From>,
    laps: Option<f64>,
}

#[derive(Clone, Debug)]
enum From {
    Preset(String),
    Design(PathBuf),
}

impl PresetSource {
    /// Takes a parameter of the source; false if the key is not one.
    pub fn set(&mut self, key: &str, value: &str, folder: &Path) -> Result<bool, SpecError> {
        let from = match key {
            "preset" if names().split(", ").any(|name| name == value) => From::Preset(value.into()),
            "preset" => return Err(wrong(key, value, &format!("one of {}", names()))),
            "design" => From::Design(folder.join(value)),
            "laps" => {
                let laps = value.parse().ok().filter(|laps| (1.0..=1e9).contains(laps));
                let expected =
                    "from 1 to 1000000000, from one regeneration of the light to the next";
                self.laps = Some(laps.ok_or_else(|| wrong(key, value, expected))?);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        match self.from.replace(from) {
            None => Ok(true),
            Some(_) => Err(wrong(key, value, "either one preset or one design")),
        }
    }

    /// The loop before the parameters that were `given`, and its optics. Of those given the
    /// length is used, because the optics depend on it.
    pub fn light(&self, given: SpecBuilder) -> Result<(SpecBuilder, Option<Optics>)> {
        let without_light = |spec| match self.laps {
            None => Ok((SpecBuilder::from_spec(spec), None)),
            Some(laps) => bail!(
                "laps={laps}: only a design says what happens to light in so many laps; give \
                 design=FILE.toml or a preset with a design, or ber= in place of laps="
            ),
        };
        let library = Library::embedded();
        let text = match &self.from {
            None => return without_light(LoopSpec::new(f64::NAN, f64::NAN)),
            Some(From::Preset(name)) if name == OCEAN => {
                return without_light(LoopSpec::new(1e4, 2e10));
            }
            Some(From::Preset(name)) if name == ORBIT => {
                return without_light(media::as_loop(&library, name)?);
            }
            Some(From::Preset(name)) => link::preset(name).expect("a known name").to_owned(),
            Some(From::Design(path)) => std::fs::read_to_string(path)
                .with_context(|| format!("design={} cannot be read", path.display()))?,
        };
        let place = || match &self.from {
            Some(From::Design(path)) => format!("design={}", path.display()),
            _ => "the preset's design".to_owned(),
        };
        let design = Design::parse(&text).with_context(place)?;
        let design = match given.length_km() {
            Some(length_km) => design.of_length(length_km)?,
            None => design,
        };
        let Lit { spec, optics } = link::lit(&design, &library, self.laps).with_context(place)?;
        Ok((SpecBuilder::from_spec(spec), Some(optics)))
    }
}
