//! The result of a search as a table, the best first.

use serde_json::json;

use super::{FindQuestion, Found, FoundMachine, Wish, find};
use crate::datasheet::Library;
use crate::decode::{DecodeError, PORTS, extrapolated};
use crate::report::format::{count_range, counted, dollars_range, si, si_range};
use crate::report::{Axis, Headline, Plot, PlotShape, Report, ReportTable, Whisker};

/// The best machine of each medium, and in a sentence the best of all.
///
/// # Errors
/// [`DecodeError`].
pub fn find_report(library: &Library, question: &FindQuestion) -> Result<Report, DecodeError> {
    let found = find(library, question)?;
    let model = &library.any(&question.model)?.name;
    let whom = match question.users {
        1 => "for a user".to_owned(),
        users => format!("for each of {users} users"),
    };
    let asked = format!(
        "{} per second {whom} of {model} with a context of {}",
        counted(question.tokens_per_s, "token"),
        question.context
    );
    let mut report = Report {
        title: asked.clone(),
        answer: sentence(question, &found, &asked),
        tables: match found.machines.is_empty() {
            true => Vec::new(),
            false => vec![table(&found)],
        },
        plots: plots(&found),
        notes: notes(library, question, &found),
        headline: headline(question, &found),
        json: json!({"question": question, "found": found}),
        ..Report::default()
    };
    let mut ids: Vec<&str> = vec![&question.model, &question.software];
    if let Some(best) = found.machines.first() {
        ids.push(&best.medium);
        let name = |id: &str| {
            library
                .any(id)
                .is_ok_and(|sheet| best.accelerator.ends_with(&sheet.name))
        };
        let accelerators = library.of_kind(crate::datasheet::SheetKind::Accelerator);
        ids.extend(
            accelerators
                .map(|sheet| sheet.id.as_str())
                .filter(|id| name(id)),
        );
    }
    report.cite(library, &ids);
    Ok(report)
}

fn sentence(question: &FindQuestion, found: &Found, asked: &str) -> String {
    let wish = match question.wish {
        Wish::Cheapest => "cheapest",
        Wish::Coolest => "coolest",
    };
    match found.machines.first() {
        None => format!("Nothing gives {asked}."),
        Some(best) => format!(
            "The {wish} that does it: {}, {}, for {} and {}.",
            machine(best),
            fed(best),
            dollars_range(best.price),
            si_range(best.power_w, "W")
        ),
    }
}

fn machine(one: &FoundMachine) -> String {
    match one.machines {
        1 => one.accelerator.clone(),
        count => format!("{count} times {}", one.accelerator),
    }
}

fn fed(one: &FoundMachine) -> String {
    let medium = &one.decoded.medium;
    match one.medium.as_str() {
        "own" => "from its own memory".to_owned(),
        _ => format!(
            "fed by {} of {}",
            count_range(medium.units),
            medium.unit.name
        ),
    }
}

fn table(found: &Found) -> ReportTable {
    let mut table = ReportTable::new(
        "The best machine of each medium",
        &[
            "medium",
            "units",
            "accelerators",
            "machines",
            "batch",
            "each [token/s]",
            "price",
            "power",
        ],
    );
    for one in &found.machines {
        let units = one.decoded.medium.units.typical;
        table.row([
            one.decoded.medium.unit.name.clone(),
            match one.medium.as_str() {
                "own" => "–".to_owned(),
                _ => count_range(units.into()),
            },
            one.accelerator.clone(),
            one.machines.to_string(),
            one.batch.to_string(),
            si_range(one.decoded.tokens_per_s, ""),
            dollars_range(one.price),
            si_range(one.power_w, "W"),
        ]);
    }
    let column = |of: fn(&FoundMachine) -> f64| found.machines.iter().map(of).collect::<Vec<_>>();
    table.mark_least("price", &column(|one| one.price.typical));
    table.mark_least("power", &column(|one| one.power_w.typical));
    table
}

fn notes(library: &Library, question: &FindQuestion, found: &Found) -> Vec<String> {
    let mut notes = vec![format!(
        "Looked at by the closed form: {}; of each medium the best that does it in the simulation \
         is told. Units and batch are of one machine, price and power of all.",
        counted(found.looked_at, "machine")
    )];
    if !found.unpriced.is_empty() {
        notes.push(format!(
            "Left out, because no power or no price of it is published: {}.",
            found.unpriced.join(", ")
        ));
    }
    let machines = || found.machines.iter();
    if machines().any(|one| one.medium != "own") {
        notes.push(PORTS.to_owned());
    }
    let most = machines().map(|one| one.decoded.accelerators).max();
    notes.extend(most.and_then(extrapolated));
    // What is said of several media is said once.
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for (id, fastest) in &found.too_slow {
        let name = library
            .any(id)
            .map_or("its own memory", |sheet| &sheet.name);
        let bound = counted(si(*fastest, ""), "token");
        let why = match *fastest {
            0.0 => "no machine holds the model and the context".to_owned(),
            fastest if fastest < question.tokens_per_s => {
                format!("no machine does it; the bound of the fastest is {bound} per second")
            }
            _ => format!(
                "none of the machines that were simulated does it, though the bound of the \
                 fastest is {bound} per second"
            ),
        };
        match said.iter_mut().find(|(other, _)| *other == why) {
            Some((_, names)) => names.push(name),
            None => said.push((why, vec![name])),
        }
    }
    let said = said.into_iter();
    notes.extend(said.map(|(why, names)| format!("{}: {why}.", names.join(", "))));
    notes
}

fn headline(question: &FindQuestion, found: &Found) -> Option<Headline> {
    let best = found.machines.first()?;
    let (what, value, unit) = match question.wish {
        Wish::Cheapest => ("price of the cheapest", best.price.typical, "$"),
        Wish::Coolest => ("power of the coolest", best.power_w.typical, "W"),
    };
    Some(Headline {
        what: what.to_owned(),
        value,
        unit,
    })
}

fn plots(found: &Found) -> Vec<Plot> {
    let whiskers =
        |title: &str, x: Axis, of: &dyn Fn(&FoundMachine) -> crate::interval::Interval| Plot {
            title: title.to_owned(),
            caption: "Typical figures, and what the data sheets leave open.".to_owned(),
            shape: PlotShape::Whiskers {
                x,
                rows: found
                    .machines
                    .iter()
                    .map(|one| Whisker {
                        name: one.decoded.medium.unit.name.clone(),
                        value: of(one),
                    })
                    .collect(),
            },
        };
    match found.machines.is_empty() {
        true => Vec::new(),
        false => vec![
            whiskers("What it costs", Axis::log("price", "$"), &|one| one.price),
            whiskers("What it draws", Axis::log("power", "W"), &|one| one.power_w),
        ],
    }
}
