//! A line of spans round which a comb of channels goes: from fiber, amplifiers
//! and transceivers to what each channel carries. Knows neither files nor
//! prices.

mod report;
mod validity;

pub use report::{ChannelReport, GroupReport, LapsReport, LineReport};
pub use validity::{ValidityMark, marks};

use super::comb::{Channel, Comb};
use super::error::Error;
use super::gn::coherence_exponent;
use super::launch::{optimised, powers_w};
use super::modulation::{
    Format, bit_error_rate, gmi_bits, net_rate_bit_per_s, required_snr_db, shannon_bits,
};
use super::noise::{Accumulation, Noise, Passage, Solver, Span, accumulated};
use super::units::{db, dbm};

/// Largest number of laps that is counted; light that never fades reports this.
pub const MOST_LAPS: u64 = 1_000_000_000;

/// What turns bits into light and back.
#[derive(Clone, Debug, PartialEq)]
pub struct Transceiver {
    /// SNR that it has with itself, without any line.
    pub snr_db: f64,
    /// Formats that it can do.
    pub formats: Vec<Format>,
    /// Redundant bits over payload bits.
    pub fec_overhead: f64,
    /// Bits in error that the correction still takes.
    pub bit_error_threshold: f64,
    /// Bits of framing and pilots over payload bits.
    pub framing_overhead: f64,
    /// SNR that is kept in reserve.
    pub margin_db: f64,
}

/// What is said of one group of the comb.
#[derive(Clone, Debug, PartialEq)]
pub struct BandLaunch {
    /// Its name, for reports.
    pub name: String,
    /// What messages call it.
    pub key: String,
    /// Launch power of each channel behind the amplifier; none: optimised.
    pub launch_dbm: Option<f64>,
}

/// A line: spans in a row, closed to a loop.
#[derive(Clone, Debug)]
pub struct OpticalLine {
    /// Each span.
    pub span: Span,
    /// How many there are in a lap.
    pub spans: u32,
    /// The channels.
    pub comb: Comb,
    /// One entry for each group of the comb.
    pub groups: Vec<BandLaunch>,
    /// The ends.
    pub transceiver: Transceiver,
    /// Laps after which the SNR counts.
    pub laps: f64,
    /// Cores or fibers side by side, each with such a comb.
    pub cores: u32,
    /// How the noise of spans adds up.
    pub accumulation: Accumulation,
}

impl OpticalLine {
    /// Length of a lap.
    pub fn length_km(&self) -> f64 {
        self.span.length_km * f64::from(self.spans)
    }

    /// ε of a channel's interference with itself, 0 if it adds up by power.
    pub fn coherence(&self, channel: &Channel) -> f64 {
        if self.accumulation == Accumulation::Incoherent {
            return 0.0;
        }
        let fiber = &self.span.fiber;
        coherence_exponent(
            fiber.attenuation_per_m(channel.frequency_hz),
            self.span.length_km * 1e3,
            fiber.beta2_s2_per_m(channel.frequency_hz),
            channel.symbol_rate_hz,
        )
    }

    /// Everything there is to say of the line.
    ///
    /// # Errors
    /// When a launch power or a gain is beyond an amplifier.
    pub fn solve(&self) -> Result<LineReport, Error> {
        let given: Vec<Option<f64>> = self.groups.iter().map(|group| group.launch_dbm).collect();
        self.check_powers()?;
        let launches = optimised(self, &given);
        let launch_w = powers_w(&self.span, &self.comb, &launches);
        let passage = Solver::new(&self.span, &self.comb).pass(&launch_w);
        self.check_gains(&passage)?;
        let required: Vec<(Format, f64)> = self
            .transceiver
            .formats
            .iter()
            .map(|format| {
                let threshold = self.transceiver.bit_error_threshold;
                let needed_db = required_snr_db(*format, threshold);
                (*format, needed_db + self.transceiver.margin_db)
            })
            .collect();
        let channels = (0..launch_w.len())
            .map(|i| self.channel(i, &launch_w, &passage, &required))
            .collect();
        Ok(self.report(channels, &passage, &required))
    }

    /// No group may be given more light than its amplifier has.
    fn check_powers(&self) -> Result<(), Error> {
        for (index, group) in self.groups.iter().enumerate() {
            let Some(launch_dbm) = group.launch_dbm else {
                continue;
            };
            let members = self.comb.channels().iter().filter(|c| c.group == index);
            let channels = members.count();
            let max_output_dbm = self.span.amplifiers[index].max_output_dbm;
            let total_dbm = launch_dbm + db(channels as f64);
            // A share of a microdecibel is rounding.
            if total_dbm > max_output_dbm + 1e-6 {
                return Err(Error::LaunchPower {
                    key: format!("{}.launch_dbm", group.key),
                    launch_dbm,
                    channels,
                    total_dbm,
                    accepted_dbm: max_output_dbm - db(channels as f64),
                    max_output_dbm,
                });
            }
        }
        Ok(())
    }

    fn check_gains(&self, passage: &Passage) -> Result<(), Error> {
        for (index, group) in self.groups.iter().enumerate() {
            let members = self.comb.channels().iter().zip(&passage.loss_db);
            let most_db = members
                .filter(|(channel, _)| channel.group == index)
                .fold(0.0f64, |most, (_, loss_db)| most.max(*loss_db));
            let max_gain_db = self.span.amplifiers[index].max_gain_db;
            if most_db > max_gain_db {
                let takes = match most_db.is_finite() {
                    true => format!("{most_db:.1} dB"),
                    false => "all of the light".to_owned(),
                };
                return Err(Error::Value {
                    key: "span_km".into(),
                    value: format!("{} km", self.span.length_km),
                    accepted: format!(
                        "a span whose loss the amplifier of {} makes up for: it gives {max_gain_db} dB, the span takes {takes}",
                        group.key
                    ),
                });
            }
        }
        Ok(())
    }

    fn channel(
        &self,
        i: usize,
        launch_w: &[f64],
        passage: &Passage,
        required: &[(Format, f64)],
    ) -> ChannelReport {
        let channel = &self.comb.channels()[i];
        let noise = &passage.noise[i];
        let loss_db = passage.loss_db[i];
        let without_raman_db = self.span.fiber.attenuation_db_per_km(channel.frequency_hz)
            * self.span.length_km
            + 2.0 * (self.span.connector_loss_db + self.span.splitter_loss_db);
        let spans = f64::from(self.spans) * self.laps;
        let itself = noise.nonlinear_self * spans.powf(self.coherence(channel));
        let nonlinear = spans * (noise.nonlinear_cross + itself);
        let snr = self.snr(noise, channel, self.laps);
        let snr_db = db(snr);
        let format = best(required, snr_db);
        let launch_dbm = dbm(launch_w[i]);
        ChannelReport {
            frequency_thz: channel.frequency_hz * 1e-12,
            wavelength_nm: super::units::wavelength_nm(channel.frequency_hz * 1e-12),
            band: channel.band(),
            group: self.groups[channel.group].name.clone(),
            symbol_rate_gbd: channel.symbol_rate_hz * 1e-9,
            launch_dbm,
            received_dbm: launch_dbm - loss_db,
            span_loss_db: loss_db,
            raman_gain_db: without_raman_db - loss_db,
            snr_emission_db: -db(noise.emission * spans),
            snr_nonlinear_db: -db(nonlinear),
            snr_db,
            format: format.map(|(format, _)| format),
            net_rate_bit_per_s: format
                .map_or(0.0, |(format, _)| self.rate(format, channel.symbol_rate_hz)),
            gmi_rate_bit_per_s: channel.symbol_rate_hz * self.gmi(snr)
                / (1.0 + self.transceiver.framing_overhead),
            shannon_rate_bit_per_s: 2.0 * channel.symbol_rate_hz * shannon_bits(snr),
            laps_before_regeneration: format.map_or(0, |(_, needed_db)| {
                self.most_laps(noise, channel, needed_db)
            }),
            noise: *noise,
        }
    }

    /// Share of the bits of each channel that are wrong before correction if it
    /// keeps its format and its power but goes so many laps; `None` of a dark one.
    pub fn bit_error_rates(&self, report: &LineReport, laps: f64) -> Vec<Option<f64>> {
        let of_channel = |(channel, found): (&Channel, &ChannelReport)| {
            let snr = self.snr(&found.noise, channel, laps);
            found.format.map(|format| bit_error_rate(format, snr))
        };
        let channels = self.comb.channels().iter().zip(&report.channels);
        channels.map(of_channel).collect()
    }

    /// SNR of a channel after some laps.
    fn snr(&self, noise: &Noise, channel: &Channel, laps: f64) -> f64 {
        let spans = f64::from(self.spans) * laps;
        let exponent = self.coherence(channel);
        1.0 / accumulated(noise, spans, exponent, self.transceiver.snr_db)
    }

    /// The maximum number of laps after which a channel still has the SNR that it needs.
    fn most_laps(&self, noise: &Noise, channel: &Channel, needed_db: f64) -> u64 {
        let enough = |laps: u64| db(self.snr(noise, channel, laps as f64)) >= needed_db;
        let (mut good, mut bad) = (0, MOST_LAPS + 1);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if enough(middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good
    }

    fn rate(&self, format: Format, symbol_rate_hz: f64) -> f64 {
        let ends = &self.transceiver;
        net_rate_bit_per_s(
            format,
            symbol_rate_hz,
            ends.fec_overhead,
            ends.framing_overhead,
        )
    }

    /// Bits a symbol, in all its polarisations, of the format that carries most with an ideal
    /// code.
    fn gmi(&self, snr: f64) -> f64 {
        let formats = self.transceiver.formats.iter();
        formats
            .map(|format| f64::from(format.polarisations()) * gmi_bits(*format, snr))
            .fold(0.0, f64::max)
    }

    fn report(
        &self,
        channels: Vec<ChannelReport>,
        passage: &Passage,
        required: &[(Format, f64)],
    ) -> LineReport {
        let groups = (0..self.groups.len())
            .map(|index| {
                let name = &self.groups[index].name;
                GroupReport::of(name, channels.iter().filter(|c| c.group == *name))
            })
            .collect();
        let after = |laps: f64| {
            let of_channel = |(channel, noise): (&Channel, &Noise)| {
                let snr_db = db(self.snr(noise, channel, laps));
                let rate = |(format, _)| self.rate(format, channel.symbol_rate_hz);
                (snr_db, best(required, snr_db).map_or(0.0, rate))
            };
            let all = self
                .comb
                .channels()
                .iter()
                .zip(&passage.noise)
                .map(of_channel);
            LapsReport::of(laps, f64::from(self.cores), all)
        };
        let doublings = (0..12).map(|power| f64::from(1u32 << power));
        LineReport::of(
            self,
            channels,
            groups,
            doublings.map(after).collect(),
            marks(self, passage),
        )
    }
}

/// The format with most bits whose need is met.
fn best(required: &[(Format, f64)], snr_db: f64) -> Option<(Format, f64)> {
    let met = required
        .iter()
        .filter(|(_, needed_db)| snr_db >= *needed_db);
    met.max_by_key(|(format, _)| format.bits()).copied()
}
