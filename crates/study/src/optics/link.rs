//! A line of spans closed to a loop: from fiber, amplifiers and transceivers to what each
//! channel carries.

mod report;
mod validity;

pub use report::{ChannelReport, GroupReport, LapsReport, LineReport};
pub use validity::{ValidityMark, marks};

use super::amplifier::emission_w;
use super::comb::{Channel, Comb};
use super::error::Error;
use super::gn::coherence_exponent;
use super::launch::{optimised, powers_w};
use super::modulation::{
    Format, bit_error_rate, gmi_bits, net_rate_bit_per_s, required_snr_db, shannon_bits,
};
use super::noise::{Accumulation, Noise, Passage, Solver, Span, accumulated};
use super::units::{db, dbm, linear};

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

/// Spans that are alike.
#[derive(Clone, Debug)]
pub struct SpanKind {
    /// Each of them.
    pub span: Span,
    /// How many there are in a lap.
    pub count: u32,
}

/// A line: spans in a row, closed to a loop.
#[derive(Clone, Debug)]
pub struct OpticalLine {
    /// The spans, of which each begins with the same powers; one at least, and all with the
    /// same amplifiers.
    pub spans: Vec<SpanKind>,
    /// Power of each channel before an amplifier that is passed once a regeneration, behind
    /// the transmitter; none: the transmitter itself gives what is launched.
    pub booster_input_dbm: Option<f64>,
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
        let kinds = self.spans.iter();
        kinds
            .map(|kind| kind.span.length_km * f64::from(kind.count))
            .sum()
    }

    /// How many spans there are in a lap.
    pub fn span_count(&self) -> u32 {
        self.spans.iter().map(|kind| kind.count).sum()
    }

    /// Mean group index of a lap.
    pub fn group_index(&self) -> f64 {
        let kinds = self.spans.iter();
        let paths = kinds.map(|SpanKind { span, count }| {
            span.fiber.group_index * span.length_km * f64::from(*count)
        });
        paths.sum::<f64>() / self.length_km()
    }

    /// A span of the first kind: the amplifiers and the model of all.
    pub fn first(&self) -> &Span {
        &self.spans[0].span
    }

    /// ε of a channel's interference with itself, 0 if it adds up by power; of several kinds
    /// of spans their mean.
    pub fn coherence(&self, channel: &Channel) -> f64 {
        if self.accumulation == Accumulation::Incoherent {
            return 0.0;
        }
        let of_kind = |SpanKind { span, count }: &SpanKind| {
            let exponent = coherence_exponent(
                span.fiber.attenuation_per_m(channel.frequency_hz),
                span.length_km * 1e3,
                span.fiber.beta2_s2_per_m(channel.frequency_hz),
                channel.symbol_rate_hz,
            );
            exponent * f64::from(*count)
        };
        self.spans.iter().map(of_kind).sum::<f64>() / f64::from(self.span_count())
    }

    /// Solvers of each kind of span for a comb of the line.
    pub fn solvers<'a>(&'a self, comb: &'a Comb) -> Vec<Solver<'a>> {
        let kinds = self.spans.iter();
        kinds.map(|kind| Solver::new(&kind.span, comb)).collect()
    }

    /// Noise over signal of each channel: the mean over the spans.
    pub fn mean_noise(&self, passages: &[Passage]) -> Vec<Noise> {
        let counts = self.spans.iter().map(|kind| kind.count);
        let of_channel = |i: usize| {
            let noises = passages.iter().map(|passage| passage.noise[i]);
            Noise::mean(noises.zip(counts.clone()))
        };
        (0..passages[0].noise.len()).map(of_channel).collect()
    }

    /// SNR in dB of what is launched: the transmitter's own, and the booster's behind it.
    pub fn launched_snr_db(&self, channel: &Channel, launch_w: f64) -> f64 {
        let mut all = self.comb.channels().iter();
        let of_group = all.find(|other| other.group == channel.group);
        let stands_for = of_group.map_or(1.0, |one| channel.symbol_rate_hz / one.symbol_rate_hz);
        let emission_w = self.booster_input_dbm.map_or(0.0, |input_dbm| {
            emission_w(
                self.first().amplifiers[channel.group].noise_figure_db,
                (dbm(launch_w / stands_for) - input_dbm).max(0.0),
                channel.frequency_hz,
                channel.symbol_rate_hz,
            )
        });
        -db(linear(-self.transceiver.snr_db) + emission_w / launch_w)
    }

    /// Everything there is to say of the line.
    ///
    /// # Errors
    /// When a launch power or a gain is beyond an amplifier.
    pub fn solve(&self) -> Result<LineReport, Error> {
        let given: Vec<Option<f64>> = self.groups.iter().map(|group| group.launch_dbm).collect();
        self.check_powers()?;
        let launches = optimised(self, &given);
        let launch_w = powers_w(self.first(), &self.comb, &launches);
        let solvers = self.solvers(&self.comb);
        let passages: Vec<Passage> = solvers
            .iter()
            .map(|solver| solver.pass(&launch_w))
            .collect();
        for (kind, passage) in self.spans.iter().zip(&passages) {
            self.check_gains(&kind.span, passage)?;
        }
        self.check_booster(&launch_w)?;
        let noise = self.mean_noise(&passages);
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
            .map(|i| self.channel(i, &launch_w, &passages, &noise[i], &required))
            .collect();
        Ok(self.report(channels, &passages, &required))
    }

    /// No group may be given more light than its amplifier has.
    fn check_powers(&self) -> Result<(), Error> {
        for (index, group) in self.groups.iter().enumerate() {
            let Some(launch_dbm) = group.launch_dbm else {
                continue;
            };
            let members = self.comb.channels().iter().filter(|c| c.group == index);
            let channels = members.count();
            let max_output_dbm = self.first().amplifiers[index].max_output_dbm;
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

    /// A booster's gain is that of its amplifier at most.
    fn check_booster(&self, launch_w: &[f64]) -> Result<(), Error> {
        let Some(input_dbm) = self.booster_input_dbm else {
            return Ok(());
        };
        for (channel, &launch_w) in self.comb.channels().iter().zip(launch_w) {
            let gain_db = dbm(launch_w) - input_dbm;
            let max_gain_db = self.first().amplifiers[channel.group].max_gain_db;
            if gain_db > max_gain_db {
                return Err(Error::Value {
                    key: "booster.input_dbm".into(),
                    value: format!("{input_dbm} dBm"),
                    accepted: format!(
                        "at least {:.1} dBm: {:.1} dBm are launched, and the amplifier of {} gives {max_gain_db} dB",
                        dbm(launch_w) - max_gain_db,
                        dbm(launch_w),
                        self.groups[channel.group].key
                    ),
                });
            }
        }
        Ok(())
    }

    fn check_gains(&self, span: &Span, passage: &Passage) -> Result<(), Error> {
        if !passage.settled {
            return Err(Error::Value {
                key: "pump.power_mw".into(),
                value: format!("{} pumps", span.pumps.len()),
                accepted: "less power in all: channels and pumps of this strength do not settle"
                    .into(),
            });
        }
        for (index, group) in self.groups.iter().enumerate() {
            let members = self.comb.channels().iter().zip(&passage.loss_db);
            let most_db = members
                .filter(|(channel, _)| channel.group == index)
                .fold(0.0f64, |most, (_, loss_db)| most.max(*loss_db));
            let max_gain_db = span.amplifiers[index].max_gain_db;
            if most_db > max_gain_db {
                let takes = match most_db.is_finite() {
                    true => format!("{most_db:.1} dB"),
                    false => "all of the light".to_owned(),
                };
                return Err(Error::Value {
                    key: "span_km".into(),
                    value: format!("{} km", span.length_km),
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
        passages: &[Passage],
        noise: &Noise,
        required: &[(Format, f64)],
    ) -> ChannelReport {
        let channel = &self.comb.channels()[i];
        let lap_spans = f64::from(self.span_count());
        let mean = |of_kind: &dyn Fn(&Span, &Passage) -> f64| {
            let kinds = self.spans.iter().zip(passages);
            let all = kinds.map(|(kind, at)| f64::from(kind.count) * of_kind(&kind.span, at));
            all.sum::<f64>() / lap_spans
        };
        let loss_db = mean(&|_, passage| passage.loss_db[i]);
        let without_raman_db = mean(&|span, _| {
            span.fiber.attenuation_db_per_km(channel.frequency_hz) * span.length_km
                + 2.0 * (span.connector_loss_db + span.splitter_loss_db)
        });
        let spans = lap_spans * self.laps;
        let launched_snr_db = self.launched_snr_db(channel, launch_w[i]);
        let booster = linear(-launched_snr_db) - linear(-self.transceiver.snr_db);
        let itself = noise.nonlinear_self * spans.powf(self.coherence(channel));
        let nonlinear = spans * (noise.nonlinear_cross + itself);
        let snr = self.snr(noise, channel, launched_snr_db, self.laps);
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
            snr_emission_db: -db(noise.emission * spans + booster),
            snr_nonlinear_db: -db(nonlinear),
            snr_db,
            format: format.map(|(format, _)| format),
            net_rate_bit_per_s: format
                .map_or(0.0, |(format, _)| self.rate(format, channel.symbol_rate_hz)),
            gmi_rate_bit_per_s: channel.symbol_rate_hz * self.gmi(snr)
                / (1.0 + self.transceiver.framing_overhead),
            shannon_rate_bit_per_s: 2.0 * channel.symbol_rate_hz * shannon_bits(snr),
            laps_before_regeneration: format.map_or(0, |(_, needed_db)| {
                self.most_laps(noise, channel, launched_snr_db, needed_db)
            }),
            launched_snr_db,
            noise: *noise,
        }
    }

    /// Share of the bits of each channel that are wrong before correction if it
    /// keeps its format and its power but goes so many laps; `None` of a dark one.
    pub fn bit_error_rates(&self, report: &LineReport, laps: f64) -> Vec<Option<f64>> {
        let of_channel = |(channel, found): (&Channel, &ChannelReport)| {
            let snr = self.snr(&found.noise, channel, found.launched_snr_db, laps);
            found.format.map(|format| bit_error_rate(format, snr))
        };
        let channels = self.comb.channels().iter().zip(&report.channels);
        channels.map(of_channel).collect()
    }

    /// SNR of a channel after some laps.
    fn snr(&self, noise: &Noise, channel: &Channel, launched_snr_db: f64, laps: f64) -> f64 {
        let spans = f64::from(self.span_count()) * laps;
        let exponent = self.coherence(channel);
        1.0 / accumulated(noise, spans, exponent, launched_snr_db)
    }

    /// The maximum number of laps after which a channel still has the SNR that it needs.
    fn most_laps(
        &self,
        noise: &Noise,
        channel: &Channel,
        launched_snr_db: f64,
        needed_db: f64,
    ) -> u64 {
        let enough =
            |laps: u64| db(self.snr(noise, channel, launched_snr_db, laps as f64)) >= needed_db;
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
        passages: &[Passage],
        required: &[(Format, f64)],
    ) -> LineReport {
        let groups = (0..self.groups.len())
            .map(|index| {
                let name = &self.groups[index].name;
                GroupReport::of(name, channels.iter().filter(|c| c.group == *name))
            })
            .collect();
        let after = |laps: f64| {
            let of_channel = |(channel, found): (&Channel, &ChannelReport)| {
                let snr_db = db(self.snr(&found.noise, channel, found.launched_snr_db, laps));
                let rate = |(format, _)| self.rate(format, channel.symbol_rate_hz);
                (snr_db, best(required, snr_db).map_or(0.0, rate))
            };
            let all = self.comb.channels().iter().zip(&channels).map(of_channel);
            LapsReport::of(laps, f64::from(self.cores), all)
        };
        let doublings = (0..12).map(|power| f64::from(1u32 << power));
        let by_laps = doublings.map(after).collect();
        LineReport::of(self, channels, groups, by_laps, marks(self, passages))
    }
}

/// The format with most bits whose need is met.
fn best(required: &[(Format, f64)], snr_db: f64) -> Option<(Format, f64)> {
    let met = required
        .iter()
        .filter(|(_, needed_db)| snr_db >= *needed_db);
    met.max_by_key(|(format, _)| format.bits()).copied()
}
