//! The table of media, all sized for the same need, with plots.

use rayon::prelude::*;
use serde_json::json;

use super::{CostPart, Delivery, MediaError, Need, Sized, ids, size};
use crate::datasheet::{Library, SheetKind};
use crate::interval::Interval;
use crate::report::format::{capitalised, count_range, dollars_range, si, si_range};
use crate::report::{
    Axis, Bar, COLOURS, Headline, Plot, PlotMark, PlotShape, Report, ReportTable, Series, Whisker,
};

/// Points of a line.
const POINTS: usize = 41;

/// What each of `media` (all, if there are none) would be for `need`.
///
/// # Errors
/// [`MediaError`] when the need cannot be or a medium is not there.
pub fn report(library: &Library, need: Need, media: &[String]) -> Result<Report, MediaError> {
    let media = match media.is_empty() {
        true => of_today(library),
        false => media.to_vec(),
    };
    let sized: Result<Vec<Sized>, MediaError> =
        media.iter().map(|id| size(library, id, need)).collect();
    let sized = sized?;
    let hold = si(need.bytes, "B");
    let title = match need.rate_bytes_per_s > 0.0 {
        true => format!(
            "Hold {hold}, feed it at {}",
            si(need.rate_bytes_per_s, "B/s")
        ),
        false => format!("Hold {hold}"),
    };
    let mut report = Report {
        title,
        answer: answer(&sized),
        headline: headline(&sized),
        intro: "Every medium sized to meet the same need: enough units to hold the bytes and \
                enough to deliver the rate. In brackets what the data sheets' ranges leave open."
            .to_owned(),
        tables: vec![table(&sized)],
        plots: plots(library, need, &sized),
        notes: notes(&sized),
        json: json!({"need": need, "media": sized}),
        ..Report::default()
    };
    let media: Vec<&str> = media.iter().map(String::as_str).collect();
    report.cite(library, &media);
    Ok(report)
}

/// The best of all, in a sentence.
fn answer(sized: &[Sized]) -> String {
    let (Some(cheapest), Some(coolest)) = (least(sized, price), least(sized, power)) else {
        return String::new();
    };
    let costs = dollars_range(cheapest.price);
    let draws = si_range(coolest.power_w, "W");
    if let [one] = sized {
        let units = count_range(Interval::exact(one.units.typical));
        let name = &one.unit.name;
        return format!("It takes {units} of {name}, for {costs} and {draws}.");
    }
    match cheapest.unit.id == coolest.unit.id {
        true => format!(
            "{} costs least, {costs}, and draws least, {draws}.",
            capitalised(&cheapest.unit.name)
        ),
        false => format!(
            "{} costs least, {costs}; {} draws least, {draws}.",
            capitalised(&cheapest.unit.name),
            coolest.unit.name
        ),
    }
}

fn headline(sized: &[Sized]) -> Option<Headline> {
    Some(Headline {
        what: "price of the cheapest".to_owned(),
        value: least(sized, price)?.price.typical,
        unit: "$",
    })
}

fn price(one: &Sized) -> f64 {
    one.price.typical
}

fn power(one: &Sized) -> f64 {
    one.power_w.typical
}

fn least(sized: &[Sized], of: fn(&Sized) -> f64) -> Option<&Sized> {
    sized.iter().min_by(|a, b| of(a).total_cmp(&of(b)))
}

/// All media that one could have today: mercury is told when it is asked for.
pub fn of_today(library: &Library) -> Vec<String> {
    let mut all = ids(library);
    all.retain(|id| library.sheet(SheetKind::Acoustic, id).is_err());
    all
}

fn table(sized: &[Sized]) -> ReportTable {
    let mut table = ReportTable::new(
        "",
        &[
            "medium",
            "units",
            "because of",
            "power",
            "price",
            "capacity",
            "rate",
            "wait",
            "a bit delivered",
            "standby",
        ],
    );
    for one in sized {
        let because = match one.units_to_feed.typical > one.units_to_hold.typical {
            true => "rate",
            false => "size",
        };
        let dash = "–".to_owned();
        table.row([
            one.unit.name.clone(),
            count_range(Interval::exact(one.units.typical)),
            because.to_owned(),
            si_range(one.power_w, "W"),
            dollars_range(one.price),
            si(one.capacity_bytes.typical, "B"),
            si(one.rate_bytes_per_s.typical, "B/s"),
            si(one.unit.latency_s.typical, "s"),
            one.delivered_j_per_bit
                .map_or(dash, |energy| si_range(energy, "J")),
            si(one.standby_w.typical, "W"),
        ]);
    }
    let column = |of: fn(&Sized) -> f64| sized.iter().map(of).collect::<Vec<_>>();
    table.mark_least("power", &column(power));
    table.mark_least("price", &column(price));
    table.mark_least("wait", &column(|one| one.unit.latency_s.typical));
    table.mark_least("standby", &column(|one| one.standby_w.typical));
    let names = |access| match access {
        Delivery::ComesBy => "everything comes by",
        Delivery::OnDemand => "what is asked for comes",
    };
    let accesses: Vec<Delivery> = sized.iter().map(|one| one.unit.access).collect();
    let first = |row: &usize| *row == 0 || accesses[*row] != accesses[*row - 1];
    let begins: Vec<usize> = (0..sized.len()).filter(first).collect();
    if begins.len() == 2 {
        let groups = begins
            .into_iter()
            .map(|row| (row, names(accesses[row]).to_owned()));
        table.groups = groups.collect();
    }
    table
}

fn notes(sized: &[Sized]) -> Vec<String> {
    let mut notes = vec![
        "Wait: the mean time until something asked for at random begins to come; half a turn \
         where everything comes by. An order that is known in advance hides it."
            .to_owned(),
        "A loop draws its whole power all the time, because each bit is sent again in every turn, \
         read or not: its standby is its power."
            .to_owned(),
    ];
    for one in sized {
        let marks = one.unit.marks.iter();
        notes.extend(marks.map(|mark| format!("{}: {mark}", one.unit.name)));
    }
    if sized.iter().any(|one| one.unit.id == "orbit") {
        notes.push("Satellites and launches are not in the price of the orbit.".to_owned());
    }
    notes
}

fn plots(library: &Library, need: Need, sized: &[Sized]) -> Vec<Plot> {
    let whiskers = |title: &str, axis: Axis, of: &dyn Fn(&Sized) -> Interval| Plot {
        title: title.to_owned(),
        caption: String::new(),
        shape: PlotShape::Whiskers {
            x: axis,
            rows: sized
                .iter()
                .map(|one| Whisker {
                    name: one.unit.name.clone(),
                    value: of(one),
                })
                .collect(),
        },
    };
    let mut plots = vec![
        whiskers("What it costs", Axis::log("price", "$"), &|one| one.price),
        whiskers(
            "What it draws while feeding",
            Axis::log("power", "W"),
            &|one| one.power_w,
        ),
        price_over_size(library, need, sized),
    ];
    if sized.iter().any(|one| one.unit.parts.len() > 2) {
        plots.push(shares(sized, "Where a loop's money goes", |part| {
            part.price.typical
        }));
        plots.push(shares(sized, "Where a loop's power goes", |part| {
            part.power_w.typical
        }));
    }
    plots
}

/// What the loops consist of.
fn shares(sized: &[Sized], title: &str, of: fn(&CostPart) -> f64) -> Plot {
    let loops = sized.iter().filter(|one| one.unit.parts.len() > 2);
    let rows = loops.map(|one| Bar {
        name: one.unit.name.clone(),
        parts: thirds(&one.unit.parts, of),
    });
    Plot {
        title: title.to_owned(),
        caption: "Typical values.".to_owned(),
        shape: PlotShape::Shares {
            parts: ["transceivers", "amplifiers", "fiber"]
                .map(str::to_owned)
                .to_vec(),
            rows: rows.collect(),
        },
    }
}

/// A loop's parts in three: its ends come first, the fiber last, and amplifiers between.
fn thirds(parts: &[CostPart], of: fn(&CostPart) -> f64) -> Vec<f64> {
    let last = parts.len() - 1;
    let amplifiers = parts[1..last].iter().map(of).sum();
    vec![of(&parts[0]), amplifiers, of(&parts[last])]
}

/// The price of each medium for the same rate, over how much it holds.
fn price_over_size(library: &Library, need: Need, sized: &[Sized]) -> Plot {
    let sizes: Vec<f64> = (0..POINTS)
        .map(|n| 10f64.powf(9.0 + 5.0 * n as f64 / (POINTS - 1) as f64))
        .collect();
    // One loop for all, and no more lines than there are colours.
    let first_loop = sized
        .iter()
        .find(|one| one.unit.access == Delivery::ComesBy);
    let stores = sized
        .iter()
        .filter(|one| one.unit.access == Delivery::OnDemand);
    let few: Vec<&Sized> = first_loop.into_iter().chain(stores).take(COLOURS).collect();
    let series = few.par_iter().map(|one| Series {
        name: one.unit.name.clone(),
        points: sizes
            .iter()
            .filter_map(|&bytes| {
                let need = Need { bytes, ..need };
                Some((bytes, size(library, &one.unit.id, need).ok()?.price.typical))
            })
            .collect(),
        ..Series::default()
    });
    Plot {
        title: "What it costs to hold more".to_owned(),
        caption: "At the same rate. A loop holds rate times delay and no more, so its price grows \
                  with the size at once; flash is bought for its rate and holds far more."
            .to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("held", "B"),
            y: Axis::log("price", "$"),
            series: series.collect(),
            marks: vec![PlotMark {
                label: "this need".to_owned(),
                x: Some(need.bytes),
                y: 0.0,
            }],
        },
    }
}
