//! From a design and data sheets to a line of the optics, with every figure at one corner of
//! its range.

use super::design::{BandDesign, Design, PumpDesign, SpanDesign};
use super::fiber::fiber;
use crate::datasheet::{Library, SheetKind};
use crate::interval::Corner;
use crate::optics::amplifier::Amplifier;
use crate::optics::comb::{self, Comb};
use crate::optics::fiber::RamanGain;
use crate::optics::link::{BandLaunch, OpticalLine, SpanKind, Transceiver};
use crate::optics::noise::Span;
use crate::optics::raman::RamanPump;
use crate::optics::units::{LIGHT_M_PER_S, linear};

use super::Error;

/// The line of a design.
///
/// # Errors
/// When a sheet is not there, or the channels make no comb.
pub fn line(design: &Design, library: &Library, corner: Corner) -> Result<OpticalLine, Error> {
    let amplifiers: Result<Vec<Amplifier>, Error> = design
        .bands
        .iter()
        .map(|band| amplifier(band, library, corner))
        .collect();
    let amplifiers = amplifiers?;
    let kinds = design.kinds();
    let spans: Result<Vec<SpanKind>, Error> = kinds
        .iter()
        .map(|kind| {
            let span = span(design, kind, &amplifiers, library, corner)?;
            Ok(SpanKind {
                span,
                count: kind.count,
            })
        })
        .collect();
    let cores = library.sheet(SheetKind::Fiber, &design.fiber)?.get("cores");
    let groups: Vec<comb::ChannelGroup> = design.bands.iter().map(channels).collect();
    Ok(OpticalLine {
        spans: spans?,
        booster_input_dbm: design.booster.as_ref().map(|booster| booster.input_dbm),
        comb: Comb::new(&groups)?,
        groups: design.bands.iter().map(group).collect(),
        transceiver: transceiver(design)?,
        laps: design.laps,
        cores: design.cores.unwrap_or(cores.typical as u32),
        accumulation: design.accumulation,
    })
}

fn span(
    design: &Design,
    kind: &SpanDesign,
    amplifiers: &[Amplifier],
    library: &Library,
    corner: Corner,
) -> Result<Span, Error> {
    let sheet = library.sheet(SheetKind::Fiber, design.fiber_of(kind))?;
    let mut fiber = fiber(sheet, corner);
    if !design.raman {
        fiber.raman_gain = RamanGain::None;
    }
    fiber.crosstalk_per_km = design.crosstalk_db_per_km.map_or(0.0, linear);
    let pumps = design.pumps.iter().filter(|_| kind.pumped);
    Ok(Span {
        fiber,
        length_km: kind.km,
        connector_loss_db: design.connector_loss_db,
        splitter_loss_db: design.splitter_loss_db,
        amplifiers: amplifiers.to_vec(),
        pumps: pumps.map(pump).collect(),
        model: design.model,
    })
}

fn pump(pump: &PumpDesign) -> RamanPump {
    RamanPump {
        frequency_hz: LIGHT_M_PER_S / (pump.nm * 1e-9),
        power_w: pump.power_mw * 1e-3,
        direction: pump.direction,
    }
}

fn channels(band: &BandDesign) -> comb::ChannelGroup {
    comb::ChannelGroup {
        key: band.key(),
        first_thz: band.first_thz,
        spacing_ghz: band.spacing_ghz,
        symbol_rate_gbd: band.symbol_rate_gbd,
        channels: band.channels,
    }
}

fn group(band: &BandDesign) -> BandLaunch {
    BandLaunch {
        name: band.name.clone(),
        key: band.key(),
        launch_dbm: band.launch_dbm,
    }
}

/// Output power and gain are what the best type of its kind can do in every
/// corner: one buys the type that the design needs.
fn amplifier(band: &BandDesign, library: &Library, corner: Corner) -> Result<Amplifier, Error> {
    let sheet = library.sheet(SheetKind::Amplifier, &band.amplifier)?;
    let most = |key: &str| sheet.get(key).high;
    let noise_figure = corner.less_is_better(sheet.get("noise_figure"));
    Ok(Amplifier {
        noise_figure_db: band.noise_figure_db.unwrap_or(noise_figure),
        max_output_dbm: band.max_output_dbm.unwrap_or_else(|| most("output_power")),
        max_gain_db: most("gain"),
    })
}

fn transceiver(design: &Design) -> Result<Transceiver, Error> {
    let signal = &design.signal;
    let fec = signal.correction()?;
    Ok(Transceiver {
        snr_db: signal.snr_db,
        formats: signal.formats.clone(),
        fec_overhead: fec.overhead,
        bit_error_threshold: fec.bit_error_threshold,
        framing_overhead: signal.framing_overhead,
        margin_db: signal.margin_db,
    })
}
