//! Results of a line: by channel, by group, by lap, and in all.

use serde::Serialize;

use super::{OpticalLine, ValidityMark};
use crate::optics::bands::Band;
use crate::optics::lap::OpticalLoop;
use crate::optics::modulation::Format;
use crate::optics::noise::Noise;
use crate::optics::units::{dbm, watts};

/// One channel, after all laps asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelReport {
    /// Centre.
    pub frequency_thz: f64,
    /// Its wavelength in vacuum.
    pub wavelength_nm: f64,
    /// Band by wavelength.
    pub band: Option<Band>,
    /// The group it belongs to.
    pub group: String,
    /// Symbols a second.
    pub symbol_rate_gbd: f64,
    /// Power behind each amplifier.
    pub launch_dbm: f64,
    /// Power at the end of a span, before the amplifier.
    pub received_dbm: f64,
    /// Loss of a span, which the amplifier makes up for.
    pub span_loss_db: f64,
    /// What the channel gains (or, below zero, loses) on a span by Raman
    /// scattering from and to the others.
    pub raman_gain_db: f64,
    /// Signal over the amplifiers' noise.
    pub snr_emission_db: f64,
    /// Signal over nonlinear noise.
    pub snr_nonlinear_db: f64,
    /// Signal over all noise, the transceiver's included, in the symbol rate.
    pub snr_db: f64,
    /// The format that it can carry; none if it is dark.
    pub format: Option<Format>,
    /// Net rate with that format.
    pub net_rate_bit_per_s: f64,
    /// Net rate with an ideal code on the best format: no limit of the FEC.
    pub gmi_rate_bit_per_s: f64,
    /// Rate with ideal shaping as well.
    pub shannon_rate_bit_per_s: f64,
    /// Laps that its format allows.
    pub laps_before_regeneration: u64,
    /// SNR of what is launched: the transmitter's own, and the booster's behind it.
    #[serde(skip)]
    pub launched_snr_db: f64,
    /// What one span adds, in the mean.
    #[serde(skip)]
    pub noise: Noise,
}

/// A group of channels together, of one core.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// How many channels.
    pub channels: usize,
    /// How many of them carry data.
    pub lit: usize,
    /// Light that its amplifier gives.
    pub output_dbm: f64,
    /// Greatest loss of a span, which is the gain that it takes.
    pub span_loss_db: f64,
    /// Raman gain of the lowest frequency less that of the highest.
    pub raman_tilt_db: f64,
    /// SNR of the worst channel.
    pub least_snr_db: f64,
    /// Mean of the channels' SNR in dB.
    pub mean_snr_db: f64,
    /// SNR of the best channel.
    pub most_snr_db: f64,
    /// Net rate.
    pub net_rate_bit_per_s: f64,
    /// Laps that the first of its lit channels to fail allows.
    pub laps_before_regeneration: u64,
}

impl GroupReport {
    /// Adds up the channels, in order of frequency.
    pub(super) fn of<'a>(name: &str, channels: impl Iterator<Item = &'a ChannelReport>) -> Self {
        let channels: Vec<&ChannelReport> = channels.collect();
        let lit: Vec<&&ChannelReport> = channels.iter().filter(|c| c.format.is_some()).collect();
        let over = |f: &dyn Fn(&ChannelReport) -> f64, start: f64, fold: fn(f64, f64) -> f64| {
            channels.iter().map(|c| f(c)).fold(start, fold)
        };
        let output_w: f64 = channels.iter().map(|c| watts(c.launch_dbm)).sum();
        let tilt = match (channels.first(), channels.last()) {
            (Some(first), Some(last)) => first.raman_gain_db - last.raman_gain_db,
            _ => 0.0,
        };
        Self {
            name: name.to_owned(),
            channels: channels.len(),
            lit: lit.len(),
            output_dbm: dbm(output_w),
            span_loss_db: over(&|c| c.span_loss_db, f64::MIN, f64::max),
            raman_tilt_db: tilt,
            least_snr_db: over(&|c| c.snr_db, f64::MAX, f64::min),
            mean_snr_db: mean(channels.iter().map(|c| c.snr_db)),
            most_snr_db: over(&|c| c.snr_db, f64::MIN, f64::max),
            net_rate_bit_per_s: channels.iter().map(|c| c.net_rate_bit_per_s).sum(),
            laps_before_regeneration: lit
                .iter()
                .map(|c| c.laps_before_regeneration)
                .min()
                .unwrap_or(0),
        }
    }
}

/// The whole line after some laps, formats chosen for that number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LapsReport {
    /// Laps without regeneration.
    pub laps: f64,
    /// Mean of the channels' SNR in dB.
    pub mean_snr_db: f64,
    /// SNR of the worst channel.
    pub least_snr_db: f64,
    /// Net rate, of all cores.
    pub net_rate_bit_per_s: f64,
}

impl LapsReport {
    /// Adds up the SNR and the rate of every channel.
    pub(super) fn of(laps: f64, cores: f64, channels: impl Iterator<Item = (f64, f64)>) -> Self {
        let (snr_db, rates): (Vec<f64>, Vec<f64>) = channels.unzip();
        Self {
            laps,
            mean_snr_db: mean(snr_db.iter().copied()),
            least_snr_db: snr_db.iter().copied().fold(f64::MAX, f64::min),
            net_rate_bit_per_s: cores * rates.iter().sum::<f64>(),
        }
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LineReport {
    /// Length of a lap.
    pub length_km: f64,
    /// Spans in it.
    pub spans: u32,
    /// Laps after which the SNR counts.
    pub laps: f64,
    /// Cores or fibers side by side.
    pub cores: u32,
    /// Distance of the outer edges of the comb.
    pub bandwidth_thz: f64,
    /// Net rate of all cores.
    pub net_rate_bit_per_s: f64,
    /// Net rate of all cores with ideal codes on the formats.
    pub gmi_rate_bit_per_s: f64,
    /// Rate of all cores with ideal codes and shaping.
    pub shannon_rate_bit_per_s: f64,
    /// Time of a lap.
    pub delay_s: f64,
    /// Bytes under way.
    pub bytes_in_flight: f64,
    /// Laps that the first lit channel to fail allows.
    pub laps_before_regeneration: u64,
    /// Pairs of transmitter and receiver, of lit channels in all cores.
    pub transceivers: u64,
    /// Amplifiers of all spans, groups and cores.
    pub amplifiers: u64,
    /// Fiber, of all cores as if each had its own.
    pub fiber_km: f64,
    /// What the models are not valid for.
    pub marks: Vec<ValidityMark>,
    /// Groups, of one core.
    pub groups: Vec<GroupReport>,
    /// The whole after more and more laps.
    pub by_laps: Vec<LapsReport>,
    /// Channels, of one core.
    pub channels: Vec<ChannelReport>,
}

impl LineReport {
    pub(super) fn of(
        line: &OpticalLine,
        channels: Vec<ChannelReport>,
        groups: Vec<GroupReport>,
        by_laps: Vec<LapsReport>,
        marks: Vec<ValidityMark>,
    ) -> Self {
        let cores = f64::from(line.cores);
        let sum = |f: fn(&ChannelReport) -> f64| cores * channels.iter().map(f).sum::<f64>();
        let net_rate_bit_per_s = sum(|c| c.net_rate_bit_per_s);
        let lap = OpticalLoop {
            length_km: line.length_km(),
            group_index: line.group_index(),
            net_rate_bit_per_s,
        };
        let lit: usize = groups.iter().map(|group| group.lit).sum();
        let laps = groups.iter().filter(|group| group.lit > 0);
        Self {
            length_km: lap.length_km,
            spans: line.span_count(),
            laps: line.laps,
            cores: line.cores,
            bandwidth_thz: line.comb.width_hz() * 1e-12,
            net_rate_bit_per_s,
            gmi_rate_bit_per_s: sum(|c| c.gmi_rate_bit_per_s),
            shannon_rate_bit_per_s: sum(|c| c.shannon_rate_bit_per_s),
            delay_s: lap.delay_s(),
            bytes_in_flight: lap.bytes_in_flight(),
            laps_before_regeneration: laps
                .map(|group| group.laps_before_regeneration)
                .min()
                .unwrap_or(0),
            transceivers: lit as u64 * u64::from(line.cores),
            amplifiers: u64::from(line.span_count()) * groups.len() as u64 * u64::from(line.cores),
            fiber_km: lap.length_km * cores,
            marks,
            groups,
            by_laps,
            channels,
        }
    }

    /// Mean over the channels of their SNR in dB.
    pub fn mean_snr_db(&self) -> f64 {
        mean(self.channels.iter().map(|channel| channel.snr_db))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    if count > 0.0 { sum / count } else { 0.0 }
}
