//! Tables and plots of decoding.

use rayon::prelude::*;
use serde_json::json;

use super::software::MOST_MEASURED;
use super::{
    CaseOptions, DEFAULT_SOFTWARE, DecodeError, Decoded, Delivery, Limit, MEASURED, OWN,
    WindowPlace, decode,
};
use crate::datasheet::{Library, SheetKind};
use crate::interval::Interval;
use crate::report::format::{
    capitalised, count_range, counted, dollars, dollars_range, percent, si, si_range,
};
use crate::report::{
    Axis, Headline, Plot, PlotMark, PlotShape, Report, ReportTable, Series, Whisker,
};

/// Which cases to compare: every combination.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseGrid {
    /// Ids of models.
    pub models: Vec<String>,
    /// Ids of accelerators.
    pub accelerators: Vec<String>,
    /// Ids of media, or `own`.
    pub media: Vec<String>,
    /// Batches.
    pub batches: Vec<u32>,
}

/// One row of the table.
#[derive(Clone, Debug, serde::Serialize)]
struct Row {
    model: String,
    accelerator: String,
    medium: String,
    software: String,
    batch: u32,
    #[serde(flatten)]
    decoded: Decoded,
}

impl Row {
    /// What tells it from other rows.
    fn name_among(&self, rows: &[Self]) -> String {
        let several = |of: &dyn Fn(&Self) -> &str| rows.iter().any(|row| of(row) != of(self));
        let mut name = format!("{}, batch {}", self.medium, self.batch);
        if several(&|row| &row.accelerator) {
            name = format!("{}, {name}", self.accelerator);
        }
        if several(&|row| &row.model) {
            name = format!("{}, {name}", self.model);
        }
        name
    }
}

/// Batches of the plot.
const BATCHES: [u32; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// Lengths of the plot, in kilometres.
const LENGTHS_KM: [f64; 13] = [
    10.0, 20.0, 40.0, 60.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
];

/// All cases of `grid`; with `plots`, also tokens per second over batch and
/// over the length of the loop, for the first model and accelerator.
///
/// # Errors
/// [`DecodeError`] of the first case that has no answer.
pub fn report(
    library: &Library,
    ask: &CaseOptions,
    grid: &CaseGrid,
    plots: bool,
) -> Result<Report, DecodeError> {
    let mut cases = Vec::new();
    for model in &grid.models {
        for accelerator in &grid.accelerators {
            for medium in &grid.media {
                cases.extend(
                    grid.batches
                        .iter()
                        .map(|&batch| (model, accelerator, medium, batch)),
                );
            }
        }
    }
    let rows: Result<Vec<Row>, DecodeError> = cases
        .par_iter()
        .map(|&(model, accelerator, medium, batch)| {
            let case = ask.case(library, model, accelerator, medium, batch)?;
            Ok(Row {
                model: case.model.name.clone(),
                accelerator: case.accelerator.name.clone(),
                medium: case.unit.name.clone(),
                software: case.software.name.clone(),
                batch,
                decoded: decode(library, &case)?,
            })
        })
        .collect();
    let rows = rows?;
    let names = |of: &dyn Fn(&Row) -> &str| {
        let mut names: Vec<&str> = Vec::new();
        for name in rows.iter().map(of) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    };
    let mut report = Report {
        title: format!("{} on {}", names(&|r| &r.model), names(&|r| &r.accelerator)),
        answer: answer(&rows),
        headline: rows
            .first()
            .map(|row| headline(row.decoded.tokens_per_s.typical)),
        intro: "Tokens per second by running the line itself in virtual time over each medium, \
                and beside it the bound that nothing beats."
            .to_owned(),
        tables: vec![brief(speed(&rows)), brief(cost(&rows))],
        notes: [notes(library, &rows), without_effect(ask, &rows)].concat(),
        json: json!({"rows": rows}),
        ..Report::default()
    };
    if plots {
        report.plots.extend(over_batch(library, ask, grid));
        report.plots.extend(over_length(library, ask, grid));
        report.plots.extend(whiskers(&rows));
    }
    let ids = grid
        .models
        .iter()
        .chain(&grid.accelerators)
        .chain(&grid.media);
    let software = match ask.software.as_str() {
        "" => DEFAULT_SOFTWARE,
        id => id,
    };
    let ids = ids.map(String::as_str).chain([software, "economy"]);
    let ids: Vec<&str> = ids.collect();
    report.cite(library, &ids);
    Ok(report)
}

/// The number that a report on decoding comes down to: of its first row.
pub fn headline(tokens_per_s: f64) -> Headline {
    Headline {
        what: "tokens per second of each".to_owned(),
        value: tokens_per_s,
        unit: "",
    }
}

/// The best of all, in a sentence.
fn answer(rows: &[Row]) -> String {
    let fastest = rows
        .iter()
        .max_by(|a, b| speed_of(a).total_cmp(&speed_of(b)));
    let Some(fastest) = fastest else {
        return String::new();
    };
    let fastest = format!(
        "{} gives each sequence most, {} per second",
        capitalised(&fastest.name_among(rows)),
        counted(si_range(fastest.decoded.tokens_per_s, ""), "token"),
    );
    let known = rows.iter().filter(|row| row.decoded.unknown.is_empty());
    match known.min_by(|a, b| price_of(a).total_cmp(&price_of(b))) {
        None => format!("{fastest}; what a token costs is not known."),
        Some(cheapest) => format!(
            "{fastest}; a million tokens cost least from {}, {}.",
            cheapest.name_among(rows),
            dollars_range(cheapest.decoded.dollars_per_million),
        ),
    }
}

fn speed_of(row: &Row) -> f64 {
    row.decoded.tokens_per_s.typical
}

fn price_of(row: &Row) -> f64 {
    row.decoded.dollars_per_million.typical
}

fn speed(rows: &[Row]) -> ReportTable {
    let mut table = ReportTable::new(
        "Speed",
        &[
            "model",
            "accelerator",
            "medium",
            "units",
            "batch",
            "a lap",
            "each [token/s]",
            "all [token/s]",
            "waits",
            "limited by",
            "of the bound",
        ],
    );
    for row in rows {
        let d = &row.decoded;
        table.row([
            row.model.clone(),
            row.accelerator.clone(),
            row.medium.clone(),
            count_range(Interval::exact(d.medium.units.typical)),
            row.batch.to_string(),
            si(d.lap_s.typical, "s"),
            si_range(d.tokens_per_s, ""),
            si_range(d.total_tokens_per_s, ""),
            percent(d.stall_share),
            limit_name(d).to_owned(),
            percent(d.of_roofline),
        ]);
    }
    let column = |of: fn(&Row) -> f64| rows.iter().map(of).collect::<Vec<_>>();
    table.mark_greatest("each [token/s]", &column(speed_of));
    let all = column(|row| row.decoded.total_tokens_per_s.typical);
    table.mark_greatest("all [token/s]", &all);
    table
}

fn cost(rows: &[Row]) -> ReportTable {
    let mut table = ReportTable::new(
        "Power, money, and what passes",
        &[
            "model",
            "accelerator",
            "medium",
            "batch",
            "passes a lap",
            "needed",
            "a token",
            "a million tokens",
            "medium draws",
            "medium costs",
        ],
    );
    for row in rows {
        let d = &row.decoded;
        table.row([
            row.model.clone(),
            row.accelerator.clone(),
            row.medium.clone(),
            row.batch.to_string(),
            si(d.passing_bytes, "B"),
            percent(d.needed_share),
            at_least(row, &["power"]) + &si_range(d.joules_per_token, "J"),
            at_least(row, &["power", "price"]) + &dollars_range(d.dollars_per_million),
            known(d, si_range(d.medium_w, "W")),
            known(d, dollars(d.medium.price.typical)),
        ]);
    }
    // Of what is known in part nothing is the least.
    let column = |of: fn(&Row) -> f64| {
        let of = |row: &Row| match row.decoded.unknown.is_empty() {
            true => of(row),
            false => f64::INFINITY,
        };
        rows.iter().map(of).collect::<Vec<_>>()
    };
    let joules = column(|row| row.decoded.joules_per_token.typical);
    table.mark_least("a token", &joules);
    table.mark_least("a million tokens", &column(price_of));
    table
}

/// Before a figure of which a part is not known.
fn at_least(row: &Row, parts: &[&str]) -> String {
    match row.decoded.unknown.iter().any(|part| parts.contains(part)) {
        true => "at least ".to_owned(),
        false => String::new(),
    }
}

/// What a medium draws or costs, where it is known by itself.
fn known(decoded: &Decoded, text: String) -> String {
    match decoded.medium.unit.parts.is_empty() {
        true => "–".to_owned(),
        false => text,
    }
}

/// Without the columns of names that say the same in every row: the title does.
fn brief(mut table: ReportTable) -> ReportTable {
    for head in ["model", "accelerator"] {
        let Some(column) = table.heads.iter().position(|name| name == head) else {
            continue;
        };
        let mut cells = table.rows.iter().map(|row| &row[column]);
        let first = cells.next();
        if cells.all(|cell| Some(cell) == first) {
            table.heads.remove(column);
            for best in &mut table.best {
                best.1 -= usize::from(best.1 > column);
            }
            for row in &mut table.rows {
                row.remove(column);
            }
        }
    }
    table
}

fn limit_name(decoded: &Decoded) -> &'static str {
    match decoded.limit {
        Limit::Compute => "compute",
        Limit::Medium if decoded.turns.is_some() => "the turn",
        Limit::Medium => "its rate",
        Limit::Window => "the window",
    }
}

fn notes(library: &Library, rows: &[Row]) -> Vec<String> {
    let mut notes = vec![
        "Bound: the longest of compute, bytes over rate and bytes times latency over window, as a \
         share of the lap. No lap is shorter."
            .to_owned(),
        software(rows),
    ];
    notes.extend(windows(rows));
    for mark in rows.iter().flat_map(|row| &row.decoded.medium.unit.marks) {
        if !notes.contains(mark) {
            notes.push(mark.clone());
        }
    }
    let comes_by = |row: &&Row| row.decoded.medium.unit.access == Delivery::ComesBy;
    if rows.iter().any(|row| comes_by(&row)) {
        notes.push(
            "Where everything comes by, a sequence gets at most one token a turn of the model, and \
             through a small window a lap takes whole turns."
                .to_owned(),
        );
    }
    let is_own = |row: &&Row| row.decoded.medium.unit.id == OWN;
    if !rows.iter().all(|row| is_own(&row)) {
        notes.push(PORTS.to_owned());
    }
    if rows.iter().any(|row| is_own(&row)) {
        notes.push("Power and price of its own memory are the accelerator's.".to_owned());
    }
    if rows
        .iter()
        .any(|row| row.decoded.medium.unit.id == MEASURED)
    {
        let without = "What a medium as measured draws and costs is not known, nor counted.";
        notes.push(without.to_owned());
    }
    for row in rows.iter().filter(|row| !row.decoded.unknown.is_empty()) {
        let note = format!(
            "{}: no {} is published. What a token takes and costs is a lower bound without it; a \
             sheet of one's own (--datasheets) can give it.",
            row.accelerator,
            row.decoded.unknown.join(" and no ")
        );
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    let most = rows.iter().map(|row| row.decoded.accelerators).max();
    notes.extend(most.and_then(extrapolated));
    let mut told: Vec<&str> = Vec::new();
    for row in rows {
        let (Some(distinct), Some(certain)) =
            (row.decoded.distinct_experts, row.decoded.certain_from_batch)
        else {
            continue;
        };
        if told.contains(&row.model.as_str()) {
            continue;
        }
        told.push(&row.model);
        let sheet = library
            .of_kind(SheetKind::Model)
            .find(|sheet| sheet.name == row.model);
        let count = sheet
            .and_then(|sheet| sheet.find("experts"))
            .unwrap_or(Interval::exact(0.0));
        notes.push(format!(
            "{}: at batch {} a lap needs {distinct:.1} of {} experts a layer on average; from batch \
             {certain} on, 99 % of them: from there the order is as good as certain again.",
            row.model, row.batch, count.typical,
        ));
    }
    notes
}

/// Options that mean nothing to an accelerator's own memory, where one is asked about.
fn without_effect(ask: &CaseOptions, rows: &[Row]) -> Vec<String> {
    let given = [
        ("--window", ask.window_bytes.is_some()),
        ("--resident", ask.resident_bytes > 0 && ask.plan.is_none()),
        ("--feed", ask.feed_bytes_per_s > 0.0),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    let given: Vec<&str> = given.map(|(option, _)| option).collect();
    let own = rows.iter().any(|row| row.decoded.medium.unit.id == OWN);
    match own && !given.is_empty() {
        true => vec![format!(
            "Its own memory keeps all weights and is as fast as it is: {} changes nothing there.",
            given.join(", ")
        )],
        false => Vec::new(),
    }
}

/// What the software is taken to reach.
fn software(rows: &[Row]) -> String {
    let mut names: Vec<&str> = rows.iter().map(|row| row.software.as_str()).collect();
    names.dedup();
    format!(
        "Compute is that of {}: its share of the memory's rate and its latency for each layer are \
         on data sheets; `study measured` holds them against systems. --software ideal gives upper \
         bounds.",
        names.join(", ")
    )
}

/// How accelerators are taken to be fed.
pub const PORTS: &str = "An accelerator is taken to have ports for all that its medium delivers; \
                         none that is sold has them for the rate of a loop.";

/// Said of more accelerators than were measured together.
pub fn extrapolated(accelerators: u32) -> Option<String> {
    let most = MOST_MEASURED;
    (accelerators > most).then(|| {
        format!(
            "More than {most} accelerators that share each layer were not measured: their latency \
             is that of {most}, which is less than it will be."
        )
    })
}

/// Where the windows lie.
fn windows(rows: &[Row]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for row in rows {
        let Some(window) = row.decoded.window else {
            continue;
        };
        let place = match window.place {
            WindowPlace::OnChip => "on the chip",
            WindowPlace::Memory => {
                "in the memory beside it, where each byte is written and read once"
            }
        };
        let note = format!(
            "{} on {}: the window of {} lies {place}.",
            row.medium,
            row.accelerator,
            si(window.bytes as f64, "B")
        );
        if !told.contains(&note) {
            told.push(note);
        }
    }
    told
}

/// Tokens per second of all sequences over the batch, simulated, with the
/// closed form beside it.
fn over_batch(library: &Library, ask: &CaseOptions, grid: &CaseGrid) -> Option<Plot> {
    let (model, accelerator) = (grid.models.first()?, grid.accelerators.first()?);
    let points: Vec<(usize, u32, Decoded)> = (0..grid.media.len())
        .flat_map(|medium| BATCHES.map(|batch| (medium, batch)))
        .collect::<Vec<_>>()
        .into_par_iter()
        .filter_map(|(medium, batch)| {
            let id = &grid.media[medium];
            let case = ask.case(library, model, accelerator, id, batch).ok()?;
            Some((medium, batch, decode(library, &case).ok()?))
        })
        .collect();
    let mut series = Vec::new();
    for (index, _) in grid.media.iter().enumerate() {
        let own = || points.iter().filter(|(medium, ..)| *medium == index);
        let Some((_, _, first)) = own().next() else {
            continue;
        };
        series.push(Series {
            name: first.medium.unit.name.clone(),
            points: own()
                .map(|(_, batch, d)| (f64::from(*batch), d.total_tokens_per_s.typical))
                .collect(),
            band: own()
                .map(|(_, _, d)| (d.total_tokens_per_s.low, d.total_tokens_per_s.high))
                .collect(),
            dashed: false,
        });
    }
    (!series.is_empty()).then(|| Plot {
        title: "Tokens per second over the batch".to_owned(),
        caption: "All sequences together. Shaded: what the data sheets leave open. Lines that end \
                  early: the keys and values of more sequences do not fit."
            .to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("sequences in a lap", ""),
            y: Axis::log("tokens per second", ""),
            series,
            marks: Vec::new(),
        },
    })
}

/// Tokens per second of one sequence over the length of each loop.
fn over_length(library: &Library, ask: &CaseOptions, grid: &CaseGrid) -> Option<Plot> {
    let (model, accelerator) = (grid.models.first()?, grid.accelerators.first()?);
    let kinds = [SheetKind::Design, SheetKind::Loop];
    let is_loop = |id: &&String| kinds.iter().any(|&kind| library.sheet(kind, id).is_ok());
    let loops: Vec<&String> = grid.media.iter().filter(is_loop).collect();
    let batch = *grid.batches.first()?;
    let series: Vec<Series> = loops
        .par_iter()
        .filter_map(|id| {
            let mut points = Vec::new();
            for km in LENGTHS_KM {
                let mut changed = library.clone();
                let set = changed.set(&format!("{id}.length"), Interval::exact(km));
                let case = set
                    .ok()
                    .and_then(|()| ask.case(&changed, model, accelerator, id, batch).ok());
                // Beyond some length a design carries nothing any more.
                let Some(decoded) = case.and_then(|case| decode(&changed, &case).ok()) else {
                    continue;
                };
                points.push((km * 1e3, decoded.tokens_per_s.typical));
            }
            Some(Series {
                name: library.any(id).ok()?.name.clone(),
                points,
                ..Series::default()
            })
        })
        .collect();
    (!series.is_empty()).then(|| Plot {
        title: "One sequence over the length of the loop".to_owned(),
        caption: format!(
            "Batch {batch}, as many loops side by side as hold the model. A longer loop holds more \
             and comes by less often: fewer loops, fewer tokens."
        ),
        shape: PlotShape::Lines {
            x: Axis::log("length", "m"),
            y: Axis::log("tokens per second, each", ""),
            series,
            marks: vec![PlotMark {
                label: "200 km".to_owned(),
                x: Some(200e3),
                y: 0.0,
            }],
        },
    })
}

fn whiskers(rows: &[Row]) -> Vec<Plot> {
    let plot = |title: &str, axis: Axis, of: &dyn Fn(&Decoded) -> Interval| Plot {
        title: title.to_owned(),
        caption: String::new(),
        shape: PlotShape::Whiskers {
            x: axis,
            rows: rows
                .iter()
                .map(|row| Whisker {
                    name: row.name_among(rows),
                    value: of(&row.decoded),
                })
                .collect(),
        },
    };
    if rows.len() > 24 {
        return Vec::new();
    }
    vec![
        plot("Energy of a token", Axis::log("energy", "J"), &|d| {
            d.joules_per_token
        }),
        plot("Price of a million tokens", Axis::log("price", "$"), &|d| {
            d.dollars_per_million
        }),
    ]
}
