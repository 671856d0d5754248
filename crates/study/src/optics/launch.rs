//! The search for launch powers: for each group of channels a level and a tilt over frequency
//! that maximise what the whole comb would carry with ideal shaping.

use super::comb::Comb;
use super::link::OpticalLine;
use super::modulation::shannon_bits;
use super::noise::{Noise, Passage, Solver, Span, accumulated};
use super::units::{db, watts};

/// Channels that the search works with: each stands for several.
const SEARCH_CHANNELS: usize = 28;

/// Step widths of the search, one after the other.
const STEPS_DB: [f64; 4] = [2.0, 1.0, 0.5, 0.2];

/// Level and tilt of a group's launch powers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Launch {
    /// Power density at the group's centre: dBm in 1 GHz of symbol rate.
    pub level_dbm_per_ghz: f64,
    /// Rise from the group's lowest to its highest channel.
    pub tilt_db: f64,
}

/// Launch powers in watts, each channel's share of its group, never more in all
/// than its amplifier gives.
pub fn powers_w(span: &Span, comb: &Comb, launches: &[Launch]) -> Vec<f64> {
    let channels = comb.channels();
    let mut powers_w = vec![0.0; channels.len()];
    for (group, launch) in launches.iter().enumerate() {
        let members: Vec<usize> = (0..channels.len())
            .filter(|i| channels[*i].group == group)
            .collect();
        let (Some(first), Some(last)) = (members.first(), members.last()) else {
            continue;
        };
        let low_hz = channels[*first].frequency_hz;
        let width_hz = (channels[*last].frequency_hz - low_hz).max(1.0);
        for &i in &members {
            let place = (channels[i].frequency_hz - low_hz) / width_hz - 0.5;
            let level_dbm = launch.level_dbm_per_ghz + launch.tilt_db * place;
            powers_w[i] = watts(level_dbm) * channels[i].symbol_rate_hz * 1e-9;
        }
        let total_w: f64 = members.iter().map(|i| powers_w[*i]).sum();
        let most_w = watts(span.amplifiers[group].max_output_dbm);
        let share = (most_w / total_w).min(1.0);
        members.iter().for_each(|i| powers_w[*i] *= share);
    }
    powers_w
}

/// The launch of every group: what was given, or the best found. A pattern
/// search from the local optimum, in which nonlinear noise is half of the
/// amplifiers'; Poggiolini et al., J. Lightwave Technol. 32 (2014) 694.
pub fn optimised(line: &OpticalLine, given_dbm: &[Option<f64>]) -> Vec<Launch> {
    let comb = line
        .comb
        .thinned(line.comb.channels().len().div_ceil(SEARCH_CHANNELS));
    let solvers = line.solvers(&comb);
    let mut launches: Vec<Launch> = given_dbm
        .iter()
        .enumerate()
        .map(|(group, given)| Launch {
            level_dbm_per_ghz: given.map_or(-17.0, |dbm| dbm - group_width_db(line, group)),
            tilt_db: 0.0,
        })
        .collect();
    let free: Vec<usize> = (0..launches.len())
        .filter(|i| given_dbm[*i].is_none())
        .collect();
    if free.is_empty() {
        return launches;
    }
    for _ in 0..4 {
        to_local_optimum(line, &solvers, &comb, &mut launches, &free);
    }
    let mut best = carried(line, &solvers, &comb, &launches);
    for step_db in STEPS_DB {
        // Each pass tries both directions of every knob; three passes a width
        // are enough, since knobs of different groups act on each other weakly.
        for _ in 0..3 {
            if !improve(
                line,
                &solvers,
                &comb,
                &mut launches,
                &free,
                step_db,
                &mut best,
            ) {
                break;
            }
        }
    }
    launches
}

/// Symbol rate of a channel of the group in dB over 1 GHz.
fn group_width_db(line: &OpticalLine, group: usize) -> f64 {
    let of_group = line.comb.channels().iter().find(|c| c.group == group);
    of_group.map_or(0.0, |channel| db(channel.symbol_rate_hz * 1e-9))
}

/// Moves each free group to where the sum over its channels is at its optimum
/// while the others stay: P³ scales the nonlinear noise, so the third root.
fn to_local_optimum(
    line: &OpticalLine,
    solvers: &[Solver<'_>],
    comb: &Comb,
    launches: &mut [Launch],
    free: &[usize],
) {
    let (_, noises) = passed(line, solvers, comb, launches);
    for &group in free {
        let (mut emission, mut nonlinear) = (0.0, 0.0);
        for (channel, noise) in comb.channels().iter().zip(&noises) {
            if channel.group == group {
                emission += noise.emission;
                nonlinear += noise.nonlinear_self + noise.nonlinear_cross;
            }
        }
        // A fiber without nonlinearity leaves only the amplifier as a limit.
        let change_db = db(emission / (2.0 * nonlinear).max(1e-30)) / 3.0;
        launches[group].level_dbm_per_ghz += change_db.clamp(-6.0, 6.0);
    }
}

fn improve(
    line: &OpticalLine,
    solvers: &[Solver<'_>],
    comb: &Comb,
    launches: &mut Vec<Launch>,
    free: &[usize],
    step_db: f64,
    best: &mut f64,
) -> bool {
    let before = *best;
    for &group in free {
        for knob in 0..2 {
            for direction in [step_db, -step_db] {
                let mut trial = launches.clone();
                match knob {
                    0 => trial[group].level_dbm_per_ghz += direction,
                    _ => trial[group].tilt_db += direction,
                }
                let bits = carried(line, solvers, comb, &trial);
                if bits > *best {
                    (*best, *launches) = (bits, trial);
                    break;
                }
            }
        }
    }
    *best > before * (1.0 + 1e-6)
}

/// Launch powers in watts, and each channel's mean noise of a span.
fn passed(
    line: &OpticalLine,
    solvers: &[Solver<'_>],
    comb: &Comb,
    launches: &[Launch],
) -> (Vec<f64>, Vec<Noise>) {
    let launch_w = powers_w(line.first(), comb, launches);
    let passages: Vec<Passage> = solvers
        .iter()
        .map(|solver| solver.pass(&launch_w))
        .collect();
    let noises = line.mean_noise(&passages);
    (launch_w, noises)
}

/// Bits a second in one polarisation with ideal shaping, after all laps.
fn carried(line: &OpticalLine, solvers: &[Solver<'_>], comb: &Comb, launches: &[Launch]) -> f64 {
    let (launch_w, noises) = passed(line, solvers, comb, launches);
    let spans = f64::from(line.span_count()) * line.laps;
    let of_channel = |(i, noise)| {
        let channel = &comb.channels()[i];
        let exponent = line.coherence(channel);
        let launched_snr_db = line.launched_snr_db(channel, launch_w[i]);
        let noise_over_signal = accumulated(noise, spans, exponent, launched_snr_db);
        channel.symbol_rate_hz * shannon_bits(1.0 / noise_over_signal)
    };
    noises.iter().enumerate().map(of_channel).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasheet::Library;
    use crate::interval::Corner;
    use crate::link::{Design, line, preset};
    use crate::optics::units::dbm;

    fn line_of(name: &str) -> OpticalLine {
        let design = Design::parse(preset(name).unwrap()).unwrap();
        line(&design, &Library::embedded(), Corner::Typical).unwrap()
    }

    /// No knob turned by half a decibel carries more on the search's own comb.
    #[test]
    fn the_best_is_a_summit() {
        for name in ["c-l", "s-c-l", "hollow-core"] {
            let line = line_of(name);
            let free = vec![None; line.groups.len()];
            let best = optimised(&line, &free);
            let comb = line
                .comb
                .thinned(line.comb.channels().len().div_ceil(SEARCH_CHANNELS));
            let solvers = line.solvers(&comb);
            let most = carried(&line, &solvers, &comb, &best);
            for group in 0..best.len() {
                for change_db in [-0.5, 0.5] {
                    let mut level = best.clone();
                    level[group].level_dbm_per_ghz += change_db;
                    let mut tilt = best.clone();
                    tilt[group].tilt_db += change_db;
                    for trial in [level, tilt] {
                        let bits = carried(&line, &solvers, &comb, &trial);
                        assert!(bits <= most * (1.0 + 1e-4), "{name} {group} {change_db}");
                    }
                }
            }
        }
    }

    #[test]
    fn amplifiers_are_not_asked_for_more_than_they_give() {
        for name in ["article", "c-l", "hollow-core"] {
            let line = line_of(name);
            let launches = optimised(&line, &vec![None; line.groups.len()]);
            let launch_w = powers_w(line.first(), &line.comb, &launches);
            for (group, amplifier) in line.first().amplifiers.iter().enumerate() {
                let of_group = line.comb.channels().iter().zip(&launch_w);
                let total_w: f64 = of_group
                    .filter(|(channel, _)| channel.group == group)
                    .map(|(_, w)| w)
                    .sum();
                assert!(
                    dbm(total_w) <= amplifier.max_output_dbm + 1e-9,
                    "{name} {group}"
                );
            }
        }
    }

    /// One narrow comb at its optimum: nonlinear noise is half the amplifiers'.
    #[test]
    fn a_single_band_ends_at_half_the_noise() {
        let mut line = line_of("c-l");
        line.transceiver.snr_db = 60.0;
        line.spans[0]
            .span
            .amplifiers
            .iter_mut()
            .for_each(|a| a.max_output_dbm = 30.0);
        let launches = optimised(&line, &[None, None]);
        let launch_w = powers_w(line.first(), &line.comb, &launches);
        let passage = Solver::new(line.first(), &line.comb).pass(&launch_w);
        let emission: f64 = passage.noise.iter().map(|n| n.emission).sum();
        let nonlinear: f64 = passage
            .noise
            .iter()
            .map(|n| n.nonlinear_self + n.nonlinear_cross)
            .sum();
        let ratio = nonlinear / emission;
        assert!((0.4..0.6).contains(&ratio), "{ratio}");
    }
}
