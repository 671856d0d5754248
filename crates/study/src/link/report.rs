//! The report on a link: in all, by band, by lap, by component and, if asked, by channel.

use serde_json::json;

use super::answer::{Answer, Error, answer};
use crate::datasheet::Library;
use crate::interval::Interval;
use crate::optics::link::{ChannelReport, GroupReport, LineReport};
use crate::optics::modulation::Format;
use crate::optics::noise::{Accumulation, NoiseModel};
use crate::report::format::{capitalised, count_range, digits, dollars_range, si, si_range};
use crate::report::{Axis, Bar, Headline, Plot, PlotMark, PlotShape, Report, ReportTable, Series};

/// What there is to say of the design of the sheet `id`; `channels` adds a row for each channel.
///
/// # Errors
/// [`Error`], naming key, value and what is accepted.
pub fn report(library: &Library, id: &str, channels: bool) -> Result<Report, Error> {
    let design = &library.design(id)?;
    let answer = answer(design, library)?;
    let line = &answer.typical;
    let mut details = vec![laps(line), components(&answer)];
    if channels {
        details.push(channel_by_channel(line));
    }
    let cores = match line.cores {
        1 => String::new(),
        cores => format!(", {cores} cores"),
    };
    let spans = match line.spans {
        1 => "1 span".to_owned(),
        spans => format!("{spans} spans"),
    };
    let mut report = Report {
        title: format!(
            "{}: {} km in {spans}{cores}",
            capitalised(&design.name),
            digits(line.length_km),
        ),
        answer: format!(
            "It carries {} and holds {}, for {} and {}.",
            si_range(answer.net_rate_bit_per_s, "bit/s"),
            si_range(answer.bytes_in_flight, "B"),
            power(&answer),
            price(&answer)
        ),
        headline: Some(headline(answer.net_rate_bit_per_s.typical)),
        intro: "Typical figures of the data sheets; in brackets what becomes of the line when all \
                of them are at their worst or at their best."
            .to_owned(),
        tables: vec![in_all(&answer), bands(line)],
        details,
        plots: plots(&answer),
        notes: notes(&answer),
        json: json!({"link": answer}),
        ..Report::default()
    };
    let mut sheets = vec![design.fiber.as_str(), design.transceiver.as_str()];
    let kinds = design.kinds();
    sheets.extend(kinds.iter().map(|kind| design.fiber_of(kind)));
    sheets.extend(design.bands.iter().map(|band| band.amplifier.as_str()));
    report.cite(library, &sheets);
    Ok(report)
}

fn power(answer: &Answer) -> String {
    at_least(answer, "power") + &si_range(answer.cost.power_w, "W")
}

fn price(answer: &Answer) -> String {
    at_least(answer, "price") + &dollars_range(answer.cost.price_usd)
}

/// Said before what leaves out a component.
fn at_least(answer: &Answer, what: &str) -> String {
    match answer.cost.lacks(what) {
        true => "at least ".to_owned(),
        false => String::new(),
    }
}

/// The net rate of a design, as the number that its report comes down to.
pub fn headline(net_rate_bit_per_s: f64) -> Headline {
    Headline {
        what: "net rate".to_owned(),
        value: net_rate_bit_per_s,
        unit: "bit/s",
    }
}

fn in_all(answer: &Answer) -> ReportTable {
    let line = &answer.typical;
    let mut table = ReportTable::new("", &["in all", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("net rate", si_range(answer.net_rate_bit_per_s, "bit/s"));
    row("  with ideal codes", si(line.gmi_rate_bit_per_s, "bit/s"));
    row(
        "  and ideal shaping",
        si(line.shannon_rate_bit_per_s, "bit/s"),
    );
    row("lap", si_range(answer.delay_s, "s"));
    row("bytes in flight", si_range(answer.bytes_in_flight, "B"));
    row(
        "laps before regeneration",
        count_range(answer.laps_before_regeneration),
    );
    row("mean SNR", decibel_range(answer.mean_snr_db));
    row("bandwidth", si(line.bandwidth_thz * 1e12, "Hz"));
    row("power", power(answer));
    row("price", price(answer));
    table
}

fn bands(line: &LineReport) -> ReportTable {
    let mut table = ReportTable::new(
        "Bands, each core",
        &[
            "band",
            "channels",
            "dark",
            "launch",
            "loss a span",
            "Raman tilt",
            "worst SNR",
            "mean SNR",
            "formats",
            "net rate",
            "laps",
        ],
    );
    for group in &line.groups {
        let members = || line.channels.iter().filter(|c| c.group == group.name);
        let mean_dbm = members().map(|c| c.launch_dbm).sum::<f64>() / group.channels as f64;
        table.row([
            group.name.clone(),
            group.channels.to_string(),
            (group.channels - group.lit).to_string(),
            format!("{mean_dbm:.1} dBm"),
            decibels(group.span_loss_db),
            decibels(group.raman_tilt_db),
            decibels(group.least_snr_db),
            decibels(group.mean_snr_db),
            formats(members()),
            si(group.net_rate_bit_per_s, "bit/s"),
            laps_of(group),
        ]);
    }
    table
}

fn laps_of(group: &GroupReport) -> String {
    match group.lit {
        0 => "–".to_owned(),
        _ => group.laps_before_regeneration.to_string(),
    }
}

/// `60×64QAM 30×16QAM`.
fn formats<'a>(channels: impl Iterator<Item = &'a ChannelReport>) -> String {
    let found: Vec<Option<Format>> = channels.map(|channel| channel.format).collect();
    let count = |format: Format| {
        let count = found.iter().filter(|one| **one == Some(format)).count();
        (count > 0).then(|| format!("{count}×{}", format.name()))
    };
    let parts: Vec<String> = Format::ALL.into_iter().rev().filter_map(count).collect();
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(" ")
    }
}

fn laps(line: &LineReport) -> ReportTable {
    let mut table = ReportTable::new(
        "Laps without regeneration, formats chosen anew for each number",
        &["laps", "mean SNR", "worst SNR", "net rate"],
    );
    // Once nothing is carried any more, one row says so.
    let carrying = line
        .by_laps
        .iter()
        .take_while(|laps| laps.net_rate_bit_per_s > 0.0);
    let shown = (carrying.count() + 1).min(line.by_laps.len());
    for laps in &line.by_laps[..shown] {
        table.row([
            digits(laps.laps),
            decibels(laps.mean_snr_db),
            decibels(laps.least_snr_db),
            si(laps.net_rate_bit_per_s, "bit/s"),
        ]);
    }
    table
}

fn components(answer: &Answer) -> ReportTable {
    let mut table = ReportTable::new("Power and money", &["component", "", "power", "price"]);
    for item in &answer.cost.items {
        table.row([
            item.name.clone(),
            match item.count {
                1.0 => format!("1 {}", item.unit.trim_end_matches('s')),
                count => format!("{} {}", digits(count), item.unit),
            },
            match item.unknown.contains(&"power") {
                true => "–".to_owned(),
                false => si_range(item.power_w, "W"),
            },
            match item.unknown.contains(&"price") {
                true => "–".to_owned(),
                false => dollars_range(item.price_usd),
            },
        ]);
    }
    table
}

fn channel_by_channel(line: &LineReport) -> ReportTable {
    let mut table = ReportTable::new(
        "Channels, each core",
        &[
            "frequency",
            "wavelength",
            "band",
            "launch",
            "received",
            "Raman",
            "amplifiers",
            "nonlinear",
            "SNR",
            "format",
            "net rate",
            "laps",
        ],
    );
    for channel in &line.channels {
        table.row([
            format!("{:.4} THz", channel.frequency_thz),
            format!("{:.2} nm", channel.wavelength_nm),
            channel.group.clone(),
            format!("{:.1} dBm", channel.launch_dbm),
            format!("{:.1} dBm", channel.received_dbm),
            decibels(channel.raman_gain_db),
            decibels(channel.snr_emission_db),
            decibels(channel.snr_nonlinear_db),
            decibels(channel.snr_db),
            channel.format.map_or("–", Format::name).to_owned(),
            si(channel.net_rate_bit_per_s, "bit/s"),
            channel.laps_before_regeneration.to_string(),
        ]);
    }
    table
}

fn decibels(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.1} dB")
    } else {
        "–".to_owned()
    }
}

/// `19.6 dB (19.3–20)`.
fn decibel_range(range: Interval) -> String {
    let typical = format!("{} dB", digits(range.typical));
    match range.is_exact() {
        true => typical,
        false => format!("{typical} ({}–{})", digits(range.low), digits(range.high)),
    }
}

fn notes(answer: &Answer) -> Vec<String> {
    let mut notes = answer.marks.clone();
    let groups = &answer.typical.groups;
    if groups.iter().any(|group| group.lit > 0) {
        let dark = groups.iter().filter(|group| group.lit == 0);
        notes.extend(dark.map(|group| {
            format!(
                "The {} band carries nothing over this line, and its amplifiers still draw and \
                 cost: a design without it holds as much for less.",
                group.name
            )
        }));
    }
    let model = match answer.design.model {
        NoiseModel::Profile => "the GN model integrated over the solved power profile",
        NoiseModel::Gn => "the GN model in closed form, without Raman scattering",
        NoiseModel::IsrsGn => "the ISRS-GN model in closed form",
    };
    let accumulation = match answer.design.accumulation {
        Accumulation::Incoherent => "span after span by power",
        Accumulation::Coherent => "coherently for each channel with itself",
    };
    notes.push(format!(
        "Nonlinear noise is that of {model}, added up {accumulation}. Each amplifier levels its \
         band again; its noise is that of the gain which each channel needs."
    ));
    if !answer.design.raman {
        notes.push("Raman scattering is switched off, which no glass does.".to_owned());
    }
    let signal = &answer.design.signal;
    notes.push(format!(
        "A transceiver has {} dB of SNR with itself, an assumption; {} corrects {}.",
        digits(signal.snr_db),
        signal.fec,
        signal.correction().map_or(String::new(), |fec| format!(
            "up to {:e} wrong bits for {} % more bits",
            fec.bit_error_threshold,
            digits(fec.overhead * 100.0)
        ))
    ));
    notes
}

fn plots(answer: &Answer) -> Vec<Plot> {
    let line = &answer.typical;
    let over_frequency = |title: &str, caption: &str, y: Axis, series: Vec<Series>| Plot {
        title: title.to_owned(),
        caption: caption.to_owned(),
        shape: PlotShape::Lines {
            x: Axis::linear("frequency", "Hz"),
            y,
            series,
            marks: starts(line),
        },
    };
    vec![
        over_frequency(
            "Signal over noise, channel by channel",
            "What the amplifiers and the glass leave, and what is left of both with the \
             transceiver's own noise. Broken lines: where each band begins.",
            Axis::linear("SNR", "dB"),
            vec![
                spectrum(line, "all noise", |c| c.snr_db),
                spectrum(line, "amplifiers", |c| c.snr_emission_db),
                spectrum(line, "nonlinear", |c| c.snr_nonlinear_db),
            ],
        ),
        over_frequency(
            "Power, channel by channel",
            "Behind an amplifier and at the end of a span. Without Raman scattering the light \
             of high frequency would keep what that of low frequency gains.",
            Axis::linear("power of a channel", "dBm"),
            vec![
                spectrum(line, "launched", |c| c.launch_dbm),
                spectrum(line, "received", |c| c.received_dbm),
                Series {
                    dashed: true,
                    ..spectrum(line, "received without Raman", |c| {
                        c.received_dbm - c.raman_gain_db
                    })
                },
            ],
        ),
        after_laps(line),
        shares(answer),
    ]
}

/// The channels of each band, by frequency.
fn by_band(line: &LineReport) -> impl Iterator<Item = &[ChannelReport]> {
    line.channels.chunk_by(|a, b| a.group == b.group)
}

/// Where each band begins.
fn starts(line: &LineReport) -> Vec<PlotMark> {
    let mark = |band: &[ChannelReport]| PlotMark {
        label: band[0].group.clone(),
        x: Some(band[0].frequency_thz * 1e12),
        y: 0.0,
    };
    by_band(line).map(mark).collect()
}

/// A line over each band, broken between them.
fn spectrum(line: &LineReport, name: &str, of: impl Fn(&ChannelReport) -> f64) -> Series {
    let mut points = Vec::new();
    for band in by_band(line) {
        let at = |channel: &ChannelReport| (channel.frequency_thz * 1e12, of(channel));
        points.extend(band.iter().map(at));
        points.extend(points.last().map(|&(hz, _)| (hz, f64::NAN)));
    }
    Series {
        name: name.to_owned(),
        points,
        ..Series::default()
    }
}

fn after_laps(line: &LineReport) -> Plot {
    let carrying = line
        .by_laps
        .iter()
        .filter(|laps| laps.net_rate_bit_per_s > 0.0);
    Plot {
        title: "Rate against laps without regeneration".to_owned(),
        caption: "Formats chosen anew for each number of laps.".to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("laps", ""),
            y: Axis::linear("net rate", "bit/s"),
            series: vec![Series {
                name: "net rate".to_owned(),
                points: carrying
                    .map(|laps| (laps.laps, laps.net_rate_bit_per_s))
                    .collect(),
                ..Series::default()
            }],
            marks: Vec::new(),
        },
    }
}

fn shares(answer: &Answer) -> Plot {
    let items = &answer.cost.items;
    let bar = |name: &str, parts: Vec<f64>| Bar {
        name: name.to_owned(),
        parts,
    };
    Plot {
        title: "Where power and money go".to_owned(),
        caption: "Typical figures.".to_owned(),
        shape: PlotShape::Shares {
            parts: items.iter().map(|item| item.name.clone()).collect(),
            rows: vec![
                bar(
                    "power",
                    items.iter().map(|item| item.power_w.typical).collect(),
                ),
                bar(
                    "price",
                    items.iter().map(|item| item.price_usd.typical).collect(),
                ),
            ],
        },
    }
}
