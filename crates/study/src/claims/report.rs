//! The verdicts as tables and break-even curves.

use serde_json::json;

use super::list::{LOOP, articles_need, path_of};
use super::rivals::PRICED;
use super::{Claim, ClaimError, Finding, Verdict, about, all};
use crate::datasheet::{Library, Tag};
use crate::interval::Interval;
use crate::media::{size, unit};
use crate::report::format::{count_range, digits, dollars_range, percent, si_range};
use crate::report::{Axis, Headline, Plot, PlotMark, PlotShape, Report, ReportTable, Series};

/// Points of a curve.
const POINTS: usize = 49;
/// How many years a trend is drawn on.
const YEARS: usize = 25;

/// All claims, or those of `numbers`, about the loop `id`.
///
/// # Errors
/// [`ClaimError`] when a data sheet lacks what one takes, or there is no such loop.
pub fn report(library: &Library, numbers: &[u32], id: &str) -> Result<Report, ClaimError> {
    let library = &about(library, id)?;
    let wanted = |claim: &Claim| numbers.is_empty() || numbers.contains(&claim.number);
    let claims: Vec<Claim> = all(library)?.into_iter().filter(wanted).collect();
    let mut report = Report {
        title: "What was said, and what the numbers say".to_owned(),
        answer: answer(&claims),
        headline: headline(&claims),
        intro: "Each claim computed from the data sheets. \u{201c}Holds\u{201d} and \
                \u{201c}fails\u{201d} mean over the whole range of the inputs; it turns where a \
                single input, all others as they are, would change the verdict."
            .to_owned(),
        tables: vec![verdicts(&claims)],
        details: vec![numbers_table(&claims), turns(&claims)],
        notes: vec![
            of_which_loop(library),
            "A dash where a verdict would turn: no value of that figure alone turns it.".to_owned(),
        ],
        json: json!({"claims": claims}),
        ..Report::default()
    };
    report.plots.extend(price_over_dram(library));
    report.plots.extend(power_over_energy(library));
    report.plots.extend(rates_over_years(library));
    report.plots.extend(prices_over_years(library));
    for claim in &claims {
        for path in &claim.inputs {
            report.add_input(path.clone(), library.figure(path)?.clone());
        }
    }
    Ok(report)
}

/// How many of the claims are right, in a sentence.
fn answer(claims: &[Claim]) -> String {
    let of = |verdict: Verdict| {
        let found = claims.iter().filter(|claim| claim.verdict == verdict);
        let numbers: Vec<String> = found.map(|claim| claim.number.to_string()).collect();
        match numbers.is_empty() {
            true => "none".to_owned(),
            false => numbers.join(", "),
        }
    };
    format!(
        "Of the claims these hold: {}; these fail: {}; these depend on the figures: {}.",
        of(Verdict::Holds),
        of(Verdict::Fails),
        of(Verdict::Depends)
    )
}

/// The first number of the first claim.
fn headline(claims: &[Claim]) -> Option<Headline> {
    let claim = claims.first()?;
    let finding = claim.computed.first()?;
    Some(Headline {
        what: format!("claim {}, {}", claim.number, finding.what),
        value: finding.value.typical,
        unit: finding.unit,
    })
}

/// Which loop the claims were judged for.
fn of_which_loop(library: &Library) -> String {
    let sheet = library.any(LOOP).ok();
    let said = sheet.is_some_and(|sheet| sheet.figures["rate"].tag == Tag::SecondHand);
    let name = sheet.map_or("", |sheet| sheet.name.as_str());
    match said {
        true => format!(
            "The loop is {LOOP}: 256 Tb/s over 200 km with the ends of 400ZR, as it was said. What \
             optics make of it is the design `article`, whose rate, power and price differ: --loop \
             article, or any other, judges the same claims for that."
        ),
        false => format!(
            "The loop is {name}. Its rate is as solved; while a verdict's turn is searched it is \
             held."
        ),
    }
}

fn verdicts(claims: &[Claim]) -> ReportTable {
    let mut table = ReportTable::new("Verdicts", &["", "said", "verdict", "because"]);
    for claim in claims {
        table.row([
            claim.number.to_string(),
            claim.said.clone(),
            claim.verdict.name().to_owned(),
            claim.because.clone(),
        ]);
    }
    table
}

fn numbers_table(claims: &[Claim]) -> ReportTable {
    let mut table = ReportTable::new("Numbers", &["", "what", "said", "computed"]);
    for claim in claims {
        for (index, finding) in claim.computed.iter().enumerate() {
            let mut said = claim.numbers_said.iter();
            let said = said.find(|said| said.what == finding.what);
            table.row([
                first(index, claim),
                finding.what.clone(),
                said.map_or_else(String::new, show),
                show(finding),
            ]);
        }
    }
    table
}

/// The claim's number, in the first of its rows.
fn first(index: usize, claim: &Claim) -> String {
    match index {
        0 => claim.number.to_string(),
        _ => String::new(),
    }
}

fn turns(claims: &[Claim]) -> ReportTable {
    let mut table = ReportTable::new(
        "Where it would turn",
        &["", "so that", "if this alone", "now", "became", "that is"],
    );
    for claim in claims {
        for (index, turn) in claim.turns.iter().enumerate() {
            let times = turn.at.map(|at| at / turn.now.typical);
            table.row([
                first(index, claim),
                turn.so_that.clone(),
                turn.input.clone(),
                written(turn.now, &turn.unit),
                turn.at.map_or_else(
                    || "\u{2013}".to_owned(),
                    |at| written(Interval::exact(at), &turn.unit),
                ),
                times.map_or_else(String::new, |times| match times < 1.0 {
                    true => format!("÷ {}", digits(1.0 / times)),
                    false => format!("× {}", digits(times)),
                }),
            ]);
        }
    }
    table
}

/// A value as on its data sheet: `6 $/km (3.7–35)`.
fn written(value: Interval, unit: &str) -> String {
    let unit = if unit == "1" { "" } else { unit };
    let typical = format!("{} {unit}", count_range(Interval::exact(value.typical)));
    let typical = typical.trim();
    match value.is_exact() {
        true => typical.to_owned(),
        false => format!("{typical} ({}–{})", digits(value.low), digits(value.high)),
    }
}

fn show(finding: &Finding) -> String {
    let value = finding.value;
    match finding.unit {
        "$" => dollars_range(value),
        "%" if value.is_exact() => percent(value.typical),
        "%" => format!(
            "{} % ({}–{})",
            digits(value.typical * 100.0),
            digits(value.low * 100.0),
            digits(value.high * 100.0)
        ),
        "" => count_range(value),
        unit => si_range(value, unit),
    }
}

fn spread(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let step = (high / low).powf(1.0 / (POINTS - 1) as f64);
    (0..POINTS).map(move |n| low * step.powi(n as i32))
}

fn level(name: &str, xs: (f64, f64), y: f64) -> Series {
    Series {
        name: name.to_owned(),
        points: vec![(xs.0, y), (xs.1, y)],
        ..Series::default()
    }
}

/// Break-even against the price of DRAM.
fn price_over_dram(library: &Library) -> Option<Plot> {
    let need = articles_need(library).ok()?;
    let (low, high) = (0.5, 100.0);
    let mut series = vec![Series {
        name: "DRAM".to_owned(),
        points: spread(low, high)
            .filter_map(|price| {
                let mut changed = library.clone();
                changed.set("dram.price", Interval::exact(price)).ok()?;
                Some((price, size(&changed, "dram", need).ok()?.price.typical))
            })
            .collect(),
        ..Series::default()
    }];
    for id in PRICED {
        let other = size(library, id, need).ok()?;
        series.push(level(&other.unit.name, (low, high), other.price.typical));
    }
    let now = library.figure("dram.price").ok()?.written.typical;
    Some(Plot {
        title: "Break-even against the price of DRAM".to_owned(),
        caption: "Holding and feeding what the loop does. Where the line of DRAM crosses \
                  another, both cost the same."
            .to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("price of a GB of DRAM", "$"),
            y: Axis::log("price", "$"),
            series,
            marks: vec![PlotMark {
                label: "now".to_owned(),
                x: Some(now),
                y: 0.0,
            }],
        },
    })
}

/// Break-even against the energy of a transceiver.
fn power_over_energy(library: &Library) -> Option<Plot> {
    let need = articles_need(library).ok()?;
    let (low, high) = (1e-3, 100.0);
    let path = path_of(library, "transceiver.energy");
    let points = spread(low, high).filter_map(|energy| {
        let mut changed = library.clone();
        changed.set(&path, Interval::exact(energy)).ok()?;
        Some((energy * 1e-12, unit(&changed, LOOP).ok()?.standby_w.typical))
    });
    let xs = (low * 1e-12, high * 1e-12);
    let mut series = vec![Series {
        name: "the loop".to_owned(),
        points: points.collect(),
        ..Series::default()
    }];
    let keeps = library.figure("dram.standby").ok()?.value.typical * need.bytes;
    series.push(level("DRAM, as much", xs, keeps));
    for id in ["dram", "hbm3e", "hbf"] {
        let other = size(library, id, need).ok()?;
        let name = format!("{}, as fast", other.unit.name);
        series.push(level(&name, xs, other.power_w.typical));
    }
    let mark = |id: &str| {
        let figure = library.figure(&format!("{id}.energy")).ok()?;
        Some(PlotMark {
            label: library.any(id).ok()?.name.clone(),
            x: Some(figure.value.typical),
            y: 0.0,
        })
    };
    let (own, _) = path.rsplit_once('.')?;
    let ids = [own, "cpo"];
    Some(Plot {
        title: "Break-even against the energy of a transceiver".to_owned(),
        caption: "What the loop draws if its transceivers took so much for a bit: what remains at \
                  the left are the amplifiers. Beside it what DRAM draws to keep as much, and \
                  what others draw to deliver as fast."
            .to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("energy of a transceiver", "J/bit"),
            y: Axis::log("power", "W"),
            series,
            marks: ids.into_iter().filter_map(mark).collect(),
        },
    })
}

/// Values from today on that change by a share each year, with their range.
fn trend(name: &str, start: f64, growth: Interval) -> Series {
    let at = |growth: f64, year: usize| start * (1.0 + growth).powi(year as i32);
    Series {
        name: name.to_owned(),
        points: (0..=YEARS)
            .map(|year| (year as f64, at(growth.typical, year)))
            .collect(),
        band: (0..=YEARS)
            .map(|year| (at(growth.low, year), at(growth.high, year)))
            .collect(),
        dashed: false,
    }
}

fn rates_over_years(library: &Library) -> Option<Plot> {
    let growth = |id: &str| Some(library.figure(&format!("{id}.growth")).ok()?.value);
    let rate = |id: &str| Some(library.figure(&format!("{id}.rate")).ok()?.value.typical);
    Some(Plot {
        title: "Growth: a fiber against a stack".to_owned(),
        caption: "If both go on as they did. Shaded: the ranges of the trends.".to_owned(),
        shape: PlotShape::Lines {
            x: Axis::linear("years from now", ""),
            y: Axis::log("rate", "B/s"),
            series: vec![
                trend("one fiber", rate(LOOP)?, growth("fiber-rate")?),
                trend("one HBM stack", rate("hbm4")?, growth("hbm-rate")?),
            ],
            marks: Vec::new(),
        },
    })
}

fn prices_over_years(library: &Library) -> Option<Plot> {
    let need = articles_need(library).ok()?;
    let price = |id: &str| Some(size(library, id, need).ok()?.price.typical);
    let growth = |id: &str| Some(library.figure(&format!("{id}.growth")).ok()?.value);
    Some(Plot {
        title: "Prices: optics against DRAM".to_owned(),
        caption: "The loop follows the trend of optics, DRAM its own; both for the same capacity \
                  and rate."
            .to_owned(),
        shape: PlotShape::Lines {
            x: Axis::linear("years from now", ""),
            y: Axis::log("price", "$"),
            series: vec![
                trend("the loop", price(LOOP)?, growth("optics-price")?),
                trend("DRAM", price("dram")?, growth("dram-price")?),
            ],
            marks: Vec::new(),
        },
    })
}
