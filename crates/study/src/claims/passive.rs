//! Claim 12: light that goes several laps between regenerations.

use super::list::{finding, paths, value};
use super::{Claim, ClaimError, less, turn};
use crate::datasheet::Library;
use crate::interval::Interval;
use crate::link;
use crate::media::MediaError;
use crate::report::format::digits;

/// The design with the lowest loss.
const PASSIVE: &str = "hollow-core";

/// A loop that is regenerated after so many laps.
struct Kept {
    laps: f64,
    bytes: f64,
    power_w: Interval,
}

impl Kept {
    /// What keeping a byte draws, in watts.
    fn w_per_byte(&self) -> Interval {
        self.power_w / self.bytes
    }
}

/// The loop after each number of laps at which it carries something: its ends work for an
/// `n`th of the light at a time, its amplifiers for all of it.
fn kept(library: &Library) -> Result<Vec<Kept>, ClaimError> {
    let design = library.design(PASSIVE).map_err(MediaError::from)?;
    let carried = link::carried(&design, library).map_err(MediaError::from)?;
    let cost = link::cost(&design, library, &carried).map_err(MediaError::from)?;
    let lap_s = link::lap_s(&design, library)
        .map_err(MediaError::from)?
        .typical;
    let amplifiers_w: Interval = cost.items[1..].iter().map(|item| item.power_w).sum();
    let energy = value(library, &format!("{}.energy", design.transceiver))?;
    let of = |&(laps, rate): &(f64, f64)| Kept {
        laps,
        bytes: rate * lap_s / 8.0,
        power_w: energy * (rate / laps) + amplifiers_w,
    };
    let carrying = carried.by_laps.iter().filter(|(_, rate)| *rate > 0.0);
    Ok(carrying.map(of).collect())
}

pub fn passive(library: &Library) -> Result<Claim, ClaimError> {
    let all = kept(library)?;
    let typical = |one: &&Kept| one.w_per_byte().typical;
    let best = all.iter().min_by(|a, b| typical(a).total_cmp(&typical(b)));
    let (Some(first), Some(best)) = (all.first(), best) else {
        return Err(ClaimError::Media(MediaError::NoMedium {
            id: PASSIVE.to_owned(),
            expected: "a line that carries light".to_owned(),
        }));
    };
    let gigabyte = 1e9;
    let dram = value(library, "dram.standby")?;
    let light = best.w_per_byte();
    let margin = |library: &Library| {
        let dram = library.figure("dram.standby").ok()?.value.typical;
        Some(light.typical - dram)
    };
    Ok(Claim {
        number: 12,
        said: "Light need not be sent again in every turn: passive laps make keeping cheap"
            .to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding(
                "a GB, made anew in every lap",
                first.w_per_byte() * gigabyte,
                "W",
            ),
            finding("laps at which it takes least", best.laps.into(), ""),
            finding("a GB, made anew after those", light * gigabyte, "W"),
            finding("the loop then holds", best.bytes.into(), "B"),
            finding("it held, made anew in every lap", first.bytes.into(), "B"),
            finding("a GB of DRAM, keeping", dram * gigabyte, "W"),
        ],
        verdict: less(light, dram),
        because: format!(
            "{} laps of hollow core between two regenerations take {} times less for each byte, \
             and still {} times what DRAM draws: amplifiers go on, and light that goes farther \
             carries fewer bits. What is read has to be received in every lap as before",
            digits(best.laps),
            digits(first.w_per_byte().typical / light.typical),
            digits(light.typical / dram.typical)
        ),
        turns: vec![turn(library, "dram.standby", "DRAM draws as much", margin)?],
        inputs: paths(
            library,
            &[&[
                "dram.standby",
                "zr800.energy",
                "edfa.power",
                "edfa.noise_figure",
                "edfa.output_power",
                "hollow.group_index",
                "hollow.attenuation_1550",
                "hollow.cores",
                "hollow-core.length",
            ]],
        ),
    })
}
