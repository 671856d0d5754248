//! A link as a user writes it: a TOML file of names of data sheets and quantities, with their
//! units in the keys.

use serde::{Deserialize, Serialize};

use crate::optics::Error;
use crate::optics::error::{Accepted, accepted};
use crate::optics::modulation::{FECS, Fec, Format, fec};
use crate::optics::noise::{Accumulation, NoiseModel};
use crate::optics::raman::Direction;

/// A link's design.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// What people call it.
    pub name: String,
    /// Data sheet of the fiber.
    pub fiber: String,
    /// Data sheet of the ends.
    pub transceiver: String,
    /// Spans in a lap, if they are alike; without it, those of the list.
    #[serde(default)]
    pub spans: u32,
    /// Length of each.
    #[serde(default)]
    pub span_km: f64,
    /// Laps between regenerations, for which formats are chosen.
    #[serde(default = "one")]
    pub laps: f64,
    /// Cores or fibers side by side; without it, as many as the fiber has.
    pub cores: Option<u32>,
    /// Loss of the connector at each end of a span.
    #[serde(default = "half")]
    pub connector_loss_db: f64,
    /// Loss of putting the bands together, and again of taking them apart.
    #[serde(default)]
    pub splitter_loss_db: f64,
    /// Power that one kilometre couples in from other cores, over a core's own.
    pub crosstalk_db_per_km: Option<f64>,
    /// How nonlinear noise is computed.
    #[serde(default)]
    pub model: NoiseModel,
    /// How the noise of spans adds up.
    #[serde(default)]
    pub accumulation: Accumulation,
    /// Whether light scatters from high to low frequencies, as it does; `false` to see what
    /// that changes.
    #[serde(default = "yes")]
    pub raman: bool,
    /// What the ends do with light.
    #[serde(default)]
    pub signal: Signal,
    /// An amplifier of each band behind the transmitters, passed once a regeneration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booster: Option<Booster>,
    /// Spans that differ, instead of `spans` and `span_km`.
    #[serde(default, rename = "span", skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<SpanDesign>,
    /// Raman pumps of each span, beside its amplifiers.
    #[serde(default, rename = "pump", skip_serializing_if = "Vec::is_empty")]
    pub pumps: Vec<PumpDesign>,
    /// The groups of channels.
    #[serde(default, rename = "band")]
    pub bands: Vec<BandDesign>,
}

/// Spans of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanDesign {
    /// Length of each.
    pub km: f64,
    /// How many in a lap.
    #[serde(default = "one_span")]
    pub count: u32,
    /// Data sheet of their fiber; without it, the design's.
    pub fiber: Option<String>,
    /// Whether they have the design's Raman pumps.
    #[serde(default = "yes")]
    pub pumped: bool,
}

/// A Raman pump.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PumpDesign {
    /// Wavelength.
    pub nm: f64,
    /// Power before the connector.
    pub power_mw: f64,
    /// Which way its light goes.
    #[serde(default)]
    pub direction: Direction,
}

/// Amplifiers behind the transmitters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booster {
    /// Power of each channel before them.
    pub input_dbm: f64,
}

/// What the ends do with light.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signal {
    /// SNR of a transceiver with itself.
    pub snr_db: f64,
    /// Formats to choose from.
    pub formats: Vec<Format>,
    /// Name of the forward error correction.
    pub fec: String,
    /// Framing and pilots over payload. 400ZR has 4.26 %.
    pub framing_overhead: f64,
    /// SNR that is kept in reserve.
    pub margin_db: f64,
}

impl Default for Signal {
    fn default() -> Self {
        Self {
            snr_db: 22.0,
            formats: vec![Format::Qpsk, Format::Qam16, Format::Qam64],
            fec: "ofec".into(),
            framing_overhead: 0.0426,
            margin_db: 0.0,
        }
    }
}

/// Channels at equal distances with their amplifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandDesign {
    /// What people call it.
    pub name: String,
    /// Data sheet of its amplifiers.
    pub amplifier: String,
    /// Centre of the lowest channel.
    pub first_thz: f64,
    /// How many channels.
    pub channels: usize,
    /// Distance of their centres.
    pub spacing_ghz: f64,
    /// Symbols a second of each.
    pub symbol_rate_gbd: f64,
    /// Launch power of each channel; without it, the best that is found.
    pub launch_dbm: Option<f64>,
    /// Instead of the data sheet's.
    pub noise_figure_db: Option<f64>,
    /// Instead of the data sheet's.
    pub max_output_dbm: Option<f64>,
}

/// Designs that are part of the program, by name.
pub const PRESETS: [(&str, &str); 5] = [
    ("article", include_str!("../../designs/article.toml")),
    ("c-l", include_str!("../../designs/c-l.toml")),
    ("s-c-l", include_str!("../../designs/s-c-l.toml")),
    ("multi-core", include_str!("../../designs/multi-core.toml")),
    (
        "hollow-core",
        include_str!("../../designs/hollow-core.toml"),
    ),
];

/// The text of the preset of that name.
pub fn preset(name: &str) -> Option<&'static str> {
    let found = PRESETS.iter().find(|(preset, _)| *preset == name);
    found.map(|(_, text)| *text)
}

const SPANS: Accepted = accepted(1.0, 100_000.0, "spans");
const SPAN_KM: Accepted = accepted(0.001, 1000.0, "km");
pub(super) const LAPS: Accepted = accepted(1.0, 1e9, "laps");
const CORES: Accepted = accepted(1.0, 10_000.0, "cores");
const LOSS_DB: Accepted = accepted(0.0, 20.0, "dB");
const CROSSTALK_DB: Accepted = accepted(-200.0, 0.0, "dB");
const SNR_DB: Accepted = accepted(0.0, 60.0, "dB");
const OVERHEAD: Accepted = accepted(0.0, 1.0, "(a share of the payload)");
const MARGIN_DB: Accepted = accepted(0.0, 20.0, "dB");
const LAUNCH_DBM: Accepted = accepted(-60.0, 30.0, "dBm");
const NOISE_FIGURE_DB: Accepted = accepted(0.0, 20.0, "dB");
const KINDS: Accepted = accepted(1.0, 64.0, "kinds of spans; alike ones have a count");
const PUMPS: Accepted = accepted(0.0, 16.0, "pumps");
const PUMP_NM: Accepted = accepted(1150.0, 1600.0, "nm");
const PUMP_MW: Accepted = accepted(0.001, 5000.0, "mW");
const OUTPUT_DBM: Accepted = accepted(-20.0, 40.0, "dBm");

impl Design {
    /// Reads a design and checks every value by itself.
    ///
    /// # Errors
    /// [`Error`] with key, value and what is accepted.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let design: Self =
            toml::from_str(text).map_err(|error| Error::Syntax(error.to_string()))?;
        design.check()?;
        Ok(design)
    }

    /// Length of a lap.
    pub fn length_km(&self) -> f64 {
        let kinds = self.kinds();
        kinds
            .iter()
            .map(|kind| kind.km * f64::from(kind.count))
            .sum()
    }

    /// The spans of a lap, kind by kind.
    pub fn kinds(&self) -> Vec<SpanDesign> {
        match self.list.is_empty() {
            false => self.list.clone(),
            true => vec![SpanDesign {
                km: self.span_km,
                count: self.spans,
                fiber: None,
                pumped: true,
            }],
        }
    }

    /// How many spans there are in a lap.
    pub fn span_count(&self) -> u32 {
        let kinds = self.kinds();
        kinds
            .iter()
            .fold(0, |sum, kind| sum.saturating_add(kind.count))
    }

    /// How many spans of a lap have Raman pumps.
    pub fn pumped_spans(&self) -> u32 {
        let kinds = self.kinds().into_iter();
        let pumped = kinds.filter(|kind| kind.pumped && !self.pumps.is_empty());
        pumped.map(|kind| kind.count).sum()
    }

    /// Data sheet of the fiber of a kind of spans.
    pub fn fiber_of<'a>(&'a self, kind: &'a SpanDesign) -> &'a str {
        kind.fiber.as_deref().unwrap_or(&self.fiber)
    }

    /// The same with a lap of this length: of as many spans as keeps them nearest
    /// to their length; of a list, all of it so many times.
    ///
    /// # Errors
    /// [`Error`] for a length that cannot be cut into spans.
    pub fn of_length(&self, length_km: f64) -> Result<Self, Error> {
        let times = match self.list.is_empty() {
            true => (length_km / self.span_km).round().max(1.0),
            false => (length_km / self.length_km()).round().max(1.0),
        };
        let each = match self.list.is_empty() {
            true => 1.0,
            false => f64::from(self.span_count()),
        };
        SPANS.check("spans", times * each)?;
        let design = match self.list.is_empty() {
            true => Self {
                spans: times as u32,
                span_km: length_km / times,
                ..self.clone()
            },
            false => {
                let longer = length_km / (self.length_km() * times);
                let mut design = self.clone();
                for kind in &mut design.list {
                    kind.km *= longer;
                    kind.count = kind.count.saturating_mul(times as u32);
                }
                design
            }
        };
        design.check().map(|()| design)
    }

    fn check(&self) -> Result<(), Error> {
        self.check_spans()?;
        LAPS.check("laps", self.laps)?;
        CORES.check("cores", self.cores.map_or(1.0, f64::from))?;
        LOSS_DB.check("connector_loss_db", self.connector_loss_db)?;
        LOSS_DB.check("splitter_loss_db", self.splitter_loss_db)?;
        let crosstalk_db = self.crosstalk_db_per_km.unwrap_or(-60.0);
        CROSSTALK_DB.check("crosstalk_db_per_km", crosstalk_db)?;
        self.signal.check()?;
        for (index, band) in self.bands.iter().enumerate() {
            // Reports tell bands apart by their names.
            let again = self.bands[..index].iter().any(|b| b.name == band.name);
            if again || band.name.trim().is_empty() {
                return Err(Error::Value {
                    key: "band.name".into(),
                    value: format!("{:?}", band.name),
                    accepted: "a name that no other band has".into(),
                });
            }
            let key = |name: &str| format!("{}.{name}", band.key());
            LAUNCH_DBM.check(&key("launch_dbm"), band.launch_dbm.unwrap_or(0.0))?;
            let noise_figure_db = band.noise_figure_db.unwrap_or(5.0);
            NOISE_FIGURE_DB.check(&key("noise_figure_db"), noise_figure_db)?;
            OUTPUT_DBM.check(&key("max_output_dbm"), band.max_output_dbm.unwrap_or(20.0))?;
        }
        Ok(())
    }
}

impl Design {
    fn check_spans(&self) -> Result<(), Error> {
        match self.list.is_empty() {
            true => {
                SPANS.check("spans", f64::from(self.spans))?;
                SPAN_KM.check("span_km", self.span_km)?;
            }
            false if self.spans != 0 || self.span_km != 0.0 => {
                return Err(Error::Value {
                    key: "spans".into(),
                    value: format!("{} of {} km", self.spans, self.span_km),
                    accepted: "either spans and span_km, or a list of [[span]]".into(),
                });
            }
            false => {
                KINDS.check("the number of [[span]]", self.list.len() as f64)?;
                for kind in &self.list {
                    SPAN_KM.check("span.km", kind.km)?;
                    SPANS.check("span.count", f64::from(kind.count))?;
                }
                SPANS.check("all spans", f64::from(self.span_count()))?;
            }
        }
        if let Some(booster) = &self.booster {
            LAUNCH_DBM.check("booster.input_dbm", booster.input_dbm)?;
        }
        PUMPS.check("the number of pumps", self.pumps.len() as f64)?;
        for pump in &self.pumps {
            PUMP_NM.check("pump.nm", pump.nm)?;
            PUMP_MW.check("pump.power_mw", pump.power_mw)?;
        }
        Ok(())
    }
}

impl BandDesign {
    /// What messages call it.
    pub fn key(&self) -> String {
        format!("band {}", self.name)
    }
}

impl Signal {
    fn check(&self) -> Result<(), Error> {
        SNR_DB.check("signal.snr_db", self.snr_db)?;
        OVERHEAD.check("signal.framing_overhead", self.framing_overhead)?;
        MARGIN_DB.check("signal.margin_db", self.margin_db)?;
        if self.formats.is_empty() {
            return Err(Error::Missing {
                key: "signal.formats".into(),
                accepted: "at least one of OOK, QPSK, 16QAM, 64QAM, 256QAM".into(),
            });
        }
        self.correction().map(drop)
    }

    /// The forward error correction by its name.
    ///
    /// # Errors
    /// [`Error::Value`] with the names that there are.
    pub fn correction(&self) -> Result<&'static Fec, Error> {
        fec(&self.fec).ok_or_else(|| Error::Value {
            key: "signal.fec".into(),
            value: format!("{:?}", self.fec),
            accepted: FECS.map(|fec| fec.name).join(", "),
        })
    }
}

fn yes() -> bool {
    true
}

fn one_span() -> u32 {
    1
}

fn one() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}
