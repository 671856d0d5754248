//! Which figure's range moves an answer most: each figure is set to both ends of its range,
//! all others typical.

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::datasheet::Library;
use crate::interval::Interval;
use crate::report::format::{count_range, percent};
use crate::report::{Axis, Headline, Input, Plot, PlotShape, Report, ReportTable, Whisker};

/// How many figures are told.
const TOLD: usize = 12;

/// What a figure's range does to an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The figure, `sheet.key`.
    pub path: String,
    /// As it is written, in `unit`.
    pub written: Interval,
    /// The unit of its data sheet.
    pub unit: String,
    /// The answer while the figure goes through its range.
    pub answer: Interval,
}

impl Sensitivity {
    /// Width of the answer's range over the answer.
    pub fn share(&self) -> f64 {
        (self.answer.high - self.answer.low) / self.answer.typical.abs()
    }
}

/// The figures among `inputs` whose ranges move the answer, the strongest first. `answer`
/// is asked with each figure at its ends; what has none there is left out.
pub fn sensitivities(
    library: &Library,
    inputs: &[Input],
    headline: &Headline,
    answer: impl Fn(&Library) -> Option<f64> + Sync,
) -> Vec<Sensitivity> {
    let ranged: Vec<&Input> = inputs
        .iter()
        .filter(|i| !i.figure.written.is_exact())
        .collect();
    let moved = |input: &&Input| {
        let written = input.figure.written;
        let at = |value: f64| {
            let mut changed = library.clone().typically();
            changed.set(&input.path, Interval::exact(value)).ok()?;
            answer(&changed).filter(|answer| answer.is_finite())
        };
        let ends = [at(written.low), at(written.high)];
        let all = || ends.iter().flatten().copied().chain([headline.value]);
        let answer = Interval::checked(
            all().fold(f64::INFINITY, f64::min),
            headline.value,
            all().fold(f64::NEG_INFINITY, f64::max),
        )?;
        Some(Sensitivity {
            path: input.path.clone(),
            written,
            unit: input.figure.unit.clone(),
            answer,
        })
    };
    let mut all: Vec<Sensitivity> = ranged.par_iter().filter_map(moved).collect();
    all.retain(|one| one.share() > 1e-6);
    all.sort_by(|a, b| b.share().total_cmp(&a.share()));
    all
}

/// Adds to a report which figures move its answer most.
pub fn add_sensitivity(report: &mut Report, headline: &Headline, all: &[Sensitivity]) {
    let show = |value| headline.show(value);
    let mut table = ReportTable::new(
        &format!("What moves the {} most", headline.what),
        &["figure", "its range", "the answer", "moved by"],
    );
    for one in all.iter().take(TOLD) {
        let unit = if one.unit == "1" { "" } else { &one.unit };
        table.row([
            one.path.clone(),
            format!("{} {unit}", count_range(one.written))
                .trim_end()
                .to_owned(),
            format!("{} to {}", show(one.answer.low), show(one.answer.high)),
            percent(one.share()),
        ]);
    }
    let rows = all.iter().take(TOLD).map(|one| Whisker {
        name: one.path.clone(),
        value: one.answer,
    });
    let rows: Vec<Whisker> = rows.collect();
    if rows.is_empty() {
        report
            .notes
            .push("No figure's range alone moves the answer.".to_owned());
        return;
    }
    report.plots.push(Plot {
        title: format!("Which figure's range moves the {} most", headline.what),
        caption: "Each figure through its own range, all others typical.".to_owned(),
        shape: PlotShape::Whiskers {
            x: Axis::linear(&headline.what, headline.unit),
            rows,
        },
    });
    report.details.push(table);
    if let Some(object) = report.json.as_object_mut() {
        object.insert(
            "sensitivity".to_owned(),
            json!({"of": headline, "figures": all}),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Need, size};

    /// The price of DRAM by hand: it moves with its own price as far as that goes, with
    /// the rate of a module, and with nothing of another medium.
    #[test]
    fn the_strongest_is_first_and_others_are_not_there() {
        let library = Library::embedded();
        let need = Need {
            bytes: 1e9,
            rate_bytes_per_s: 32e12,
        };
        let price = |library: &Library| Some(size(library, "dram", need).ok()?.price.typical);
        let headline = Headline {
            what: "price".to_owned(),
            value: price(&library).expect("it is embedded"),
            unit: "$",
        };
        let mut report = Report::default();
        report.cite(&library, &["dram", "hbf"]);
        let all = sensitivities(&library, &report.inputs, &headline, price);
        assert!(
            all.iter().all(|one| one.path.starts_with("dram.")),
            "{all:?}"
        );
        assert!(
            all.windows(2)
                .all(|pair| pair[0].share() >= pair[1].share())
        );
        let of = |path: &str| all.iter().find(|one| one.path == path).expect(path);
        let figure = library.figure("dram.price").expect("it is there").written;
        let expected = (figure.high - figure.low) / figure.typical;
        assert!((of("dram.price").share() - expected).abs() < 1e-9);
        add_sensitivity(&mut report, &headline, &all);
        assert_eq!(report.details[0].rows[0][0], all[0].path);
        assert_eq!(report.plots.len(), 1);
    }
}
