//! A test of reality: with launch powers optimised, the model carries at least
//! what was measured over the same bandwidth and spans, and its SNR is not more
//! than 4 dB above what the measured rate takes at the very least. What is not
//! told of an experiment is as in the data sheets and the defaults of a design.

use delayline_study::datasheet::Library;
use delayline_study::interval::Corner;
use delayline_study::link::{Design, line};
use delayline_study::optics::units::{db, linear};

/// What was measured, and how.
struct Record {
    name: &'static str,
    rate_bit_per_s: f64,
    fiber: &'static str,
    spans: u32,
    span_km: f64,
    spacing_ghz: f64,
    symbol_rate_gbd: f64,
    bands: &'static [Band],
    /// What else is not as usual, in lines of a design.
    more: &'static str,
}

struct Band {
    name: &'static str,
    amplifier: &'static str,
    first_thz: f64,
    channels: u32,
    max_output_dbm: Option<f64>,
}

const fn band(name: &'static str, amplifier: &'static str, first_thz: f64, channels: u32) -> Band {
    Band {
        name,
        amplifier,
        first_thz,
        channels,
        max_output_dbm: None,
    }
}

impl Band {
    /// With an amplifier that gives so much.
    const fn giving(self, dbm: f64) -> Self {
        Self {
            max_output_dbm: Some(dbm),
            ..self
        }
    }
}

/// Pittala et al., arXiv 2108.01873 (doi 10.1109/lpt.2022.3142538): one span in
/// the field, erbium only. The transceiver: 1.88 Tb/s back to back are at least
/// 21.7 dB.
const PITTALA: Record = Record {
    name: "56.51 Tb/s over 96.5 km",
    rate_bit_per_s: 56.51e12,
    fiber: "smf",
    spans: 1,
    span_km: 96.5,
    spacing_ghz: 150.0,
    symbol_rate_gbd: 130.0,
    bands: &[band("C", "edfa", 191.35, 34).giving(23.0)],
    more: "",
};

/// Mazur et al., Opt. Express 27 (2019) 24654: 51 channels of 64QAM at 9.3 and
/// 8.3 bit/s/Hz, spans of 80 km, erbium only.
const MAZUR_480: Record = Record {
    name: "11.9 Tb/s over 480 km",
    rate_bit_per_s: 11.9e12,
    fiber: "smf",
    spans: 6,
    span_km: 80.0,
    spacing_ghz: 25.0,
    symbol_rate_gbd: 24.0,
    bands: &[band("C", "edfa", 192.8, 51)],
    more: "",
};
const MAZUR_960: Record = Record {
    name: "10.6 Tb/s over 960 km",
    rate_bit_per_s: 10.6e12,
    spans: 12,
    ..MAZUR_480
};

/// Ghazisaeidi et al., J. Lightwave Technol. 35 (2017) 1291: 179 channels in C
/// and L, 363.1 Gb/s each at 7.3 bit/s/Hz, 6,600 km. Spans of 55 km of fiber with
/// 150 µm² and 0.157 dB/km, which stand in a sheet of this test.
const GHAZISAEIDI: Record = Record {
    name: "65 Tb/s over 6,600 km",
    rate_bit_per_s: 65e12,
    fiber: "large-area",
    spans: 120,
    span_km: 55.0,
    spacing_ghz: 50.0,
    symbol_rate_gbd: 49.0,
    bands: &[
        band("L", "edfa", 186.6, 90).giving(23.0),
        band("C", "edfa", 191.5, 89).giving(23.0),
    ],
    more: "connector_loss_db = 0.2\nsplitter_loss_db = 0.3",
};

/// Puttnam et al., OFC 2021, F3B.3: 319 Tb/s in four cores, 552 channels over
/// more than 120 nm, 43 spans. A core here.
const PUTTNAM_2021: Record = Record {
    name: "79.75 Tb/s a core over 3,001 km",
    rate_bit_per_s: 79.75e12,
    fiber: "smf",
    spans: 43,
    span_km: 69.8,
    spacing_ghz: 25.0,
    symbol_rate_gbd: 24.5,
    bands: &[
        band("L", "edfa", 186.3, 200),
        band("C", "edfa", 191.5, 176),
        band("S", "tdfa", 196.1, 176),
    ],
    more: "splitter_loss_db = 0.5",
};

/// Puttnam et al., Opt. Express 30 (2022) 10011: 793 channels over 157 nm of S, C
/// and L.
const PUTTNAM_2022: Record = Record {
    name: "256.4 Tb/s over 54 km",
    rate_bit_per_s: 256.4e12,
    spans: 1,
    span_km: 54.0,
    bands: &[
        band("L", "edfa", 184.5, 270),
        band("C", "edfa", 191.5, 176),
        band("S", "tdfa", 196.1, 347),
    ],
    ..PUTTNAM_2021
};

/// Qian et al., OFC 2011, PDPB5: 370 channels of 294 Gb/s by 25 GHz as OFDM of
/// 128QAM, with Raman pumps, which are left out here.
const QIAN: Record = Record {
    name: "101.7 Tb/s over 165 km",
    rate_bit_per_s: 101.7e12,
    fiber: "smf",
    spans: 3,
    span_km: 55.0,
    spacing_ghz: 25.0,
    symbol_rate_gbd: 25.0,
    bands: &[band("L", "edfa", 186.4, 186), band("C", "edfa", 191.4, 184)],
    more: "splitter_loss_db = 0.5",
};

/// Galdino et al., IEEE Photon. Technol. Lett. 32 (2020) 1021: 660 channels over
/// 16.83 THz, amplifiers of Raman pumps and doped fibers together.
const GALDINO: Record = Record {
    name: "178.08 Tb/s over 40 km",
    rate_bit_per_s: 178.08e12,
    spans: 1,
    span_km: 40.0,
    spacing_ghz: 25.5,
    bands: &[
        band("L", "edfa", 185.1, 247),
        band("C", "edfa", 191.5, 178),
        band("S", "tdfa", 196.1, 235),
    ],
    ..QIAN
};

/// The fiber of [`GHAZISAEIDI`].
const LARGE_AREA: &str = r#"
    [large-area]
    kind = "fiber"
    name = "Corning Vascade EX3000"
    group_index = { value = 1.464, unit = "1", source = "data sheet", date = "2017", tag = "second-hand" }
    attenuation_1550 = { value = 0.157, unit = "dB/km", source = "the experiment", date = "2017", tag = "second-hand" }
    dispersion_1550 = { value = 20.5, unit = "ps/(nm km)", source = "data sheet", date = "2017", tag = "second-hand" }
    effective_area = { value = 150, unit = "µm²", source = "the experiment", date = "2017", tag = "second-hand" }
    nonlinear_index = { value = 2.2e-20, unit = "m²/W", source = "pure silica", date = "2017", tag = "second-hand" }
    cores = { value = 1, unit = "1", source = "one", date = "2017", tag = "read" }
    price = { value = 0, unit = "$/km", source = "not asked for", date = "2017", tag = "assumption" }
"#;

impl Record {
    /// As someone would write it down.
    fn design(&self) -> String {
        let bands = self.bands.iter().map(|band| {
            let output = band.max_output_dbm;
            format!(
                "[[band]]\nname = {:?}\namplifier = {:?}\nfirst_thz = {:?}\nchannels = {}\n\
                 spacing_ghz = {:?}\nsymbol_rate_gbd = {:?}\n{}\n",
                band.name,
                band.amplifier,
                band.first_thz,
                band.channels,
                self.spacing_ghz,
                self.symbol_rate_gbd,
                output.map_or_else(String::new, |dbm| format!("max_output_dbm = {dbm:?}"))
            )
        });
        format!(
            "name = {:?}\nfiber = {:?}\ntransceiver = \"zr400\"\nspans = {}\nspan_km = {:?}\n{}\n{}",
            self.name,
            self.fiber,
            self.spans,
            self.span_km,
            self.more,
            bands.collect::<String>()
        )
    }

    /// By how many decibels the model's SNR is above the least that the measured
    /// rate takes.
    fn excess_db(&self) -> f64 {
        let mut library = Library::embedded();
        library.add("test", LARGE_AREA).unwrap();
        let design = Design::parse(&self.design()).unwrap();
        let line = line(&design, &library, Corner::Typical).unwrap();
        let report = line.solve().unwrap();
        let symbols_per_s: f64 = line.comb.channels().iter().map(|c| c.symbol_rate_hz).sum();
        // Shannon's least SNR for the measured rate, spread evenly over the symbols.
        let least_db = db(2f64.powf(self.rate_bit_per_s / (2.0 * symbols_per_s)) - 1.0);
        let snr = report.channels.iter().map(|c| linear(c.snr_db));
        let got_db = db(snr.sum::<f64>() / report.channels.len() as f64);
        let rate = report.shannon_rate_bit_per_s;
        println!(
            "{}: {:.1} Tb/s, SNR {got_db:.1} dB; measured at least {least_db:.1} dB",
            self.name,
            rate * 1e-12
        );
        assert!(rate >= self.rate_bit_per_s, "{}: {rate:e}", self.name);
        got_db - least_db
    }
}

#[test]
fn records_are_reached_and_not_passed_by_far() {
    let records = [
        PITTALA,
        MAZUR_480,
        MAZUR_960,
        GHAZISAEIDI,
        PUTTNAM_2021,
        PUTTNAM_2022,
    ];
    for record in records {
        let excess_db = record.excess_db();
        assert!(excess_db <= 4.0, "{}: {excess_db} dB", record.name);
    }
}

/// Short lines, on which transceivers and not the line set the limit: these two
/// were far from the 22 dB with itself that a transceiver is taken to have. No
/// figure is bent to make them fit.
#[test]
fn records_that_transceivers_held_back_are_passed_by_more() {
    for record in [QIAN, GALDINO] {
        let excess_db = record.excess_db();
        assert!(
            (4.0..6.0).contains(&excess_db),
            "{}: {excess_db}",
            record.name
        );
    }
}
