//! A step of training as a report.

use delayline_plan::DriveRates;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{
    Contender, OffloadRow, Recipe, SimulatedStep, TrainError, TrainMachine, TrainStep,
    TrainedModel, contenders, offload_rows, simulate_step,
};
use crate::datasheet::Library;
use crate::report::format::{count_range, counted, digits, dollars_range, percent, si, si_range};
use crate::report::{Axis, Headline, Plot, PlotMark, PlotShape, Report, ReportTable, Series};

/// Batches that are shown, as multiples of the break-even batch.
const MULTIPLES: [f64; 6] = [0.25, 0.5, 0.75, 1.0, 1.3, 2.0];
/// Largest extents that fit into the memory when nobody says how much there is.
const LAYERS_IN_MEMORY: f64 = 6.0;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainQuestion {
    /// What is trained.
    pub model: TrainedModel,
    /// How.
    pub recipe: Recipe,
    /// Tokens of a step; of the data sheet if none.
    pub tokens: Option<f64>,
    /// An accelerator's sheet, and how many of them.
    pub accelerator: (String, u32),
    /// The drives' sheet, and how many of them for all accelerators together.
    pub drives: (String, u32),
    /// Measured: operations a second, in place of the accelerator's.
    pub flop_per_s: Option<f64>,
    /// Measured, in place of the drives'.
    pub rates: Option<DriveRates>,
    /// For weights and state; if none, as much as a few layers take.
    pub memory: Option<u64>,
}

impl TrainQuestion {
    fn step(&self, library: &Library, machine: &TrainMachine) -> Result<TrainStep, TrainError> {
        let (model, recipe) = (&self.model, self.recipe);
        let layer = (recipe.held() + recipe.gradient) * model.parameters / f64::from(model.layers);
        let tokens = match self.tokens {
            Some(tokens) => tokens,
            None => library.figure("training.batch")?.value.typical,
        };
        let flop_per_s = machine.flop_per_s().typical * f64::from(self.accelerator.1);
        let rates = machine.rates(f64::from(self.drives.1), |value| value.typical);
        Ok(TrainStep {
            recipe,
            parameters: model.parameters,
            layers: model.layers,
            tokens,
            flop_per_s: self.flop_per_s.unwrap_or(flop_per_s),
            rates: self.rates.unwrap_or(rates),
            memory: self.memory.unwrap_or((LAYERS_IN_MEMORY * layer) as u64),
        })
    }

    /// The break-even batch, in tokens, without all the rest.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn break_even_tokens(&self, library: &Library) -> Result<f64, TrainError> {
        let machine = TrainMachine::of(library, &self.accelerator.0, &self.drives.0)?;
        let step = self.step(library, &machine)?;
        Ok(step.break_even_tokens(if self.recipe.waits { 1.0 } else { 0.0 }))
    }
}

/// A batch and its results.
struct Row {
    step: TrainStep,
    waiting: u32,
    closed_s: f64,
    bound_s: f64,
    simulated: SimulatedStep,
}

/// The answer.
///
/// # Errors
/// [`TrainError`].
pub fn train_report(library: &Library, question: &TrainQuestion) -> Result<Report, TrainError> {
    let (accelerator, accelerators) = &question.accelerator;
    let (store, drives) = &question.drives;
    let machine = TrainMachine::of(library, accelerator, store)?;
    let (model, recipe) = (&question.model, question.recipe);
    if let Some(rates) = question.rates {
        check_rates(rates)?;
    }
    let count = f64::from(*accelerators);
    let step = question.step(library, &machine)?;
    let tokens = step.tokens;
    let waits = if recipe.waits { 1.0 } else { 0.0 };
    let even = step.break_even_tokens(waits);
    let batches: Vec<f64> = std::iter::once(tokens)
        .chain(MULTIPLES.map(|times| times * even))
        // A step has at least one token.
        .filter(|&tokens| tokens >= 1.0)
        .collect();
    let rows: Result<Vec<Row>, TrainError> = batches
        .par_iter()
        .map(|&tokens| Row::of(TrainStep { tokens, ..step }))
        .collect();
    let rows = rows?;
    let asked = &rows[0];
    let beside = contenders(library, &machine, &recipe, model, tokens)?;
    let published = offload_rows(library)?;
    let measured = question.flop_per_s.is_some() || question.rates.is_some();
    let place = match measured {
        true => "as measured".to_owned(),
        false => format!(
            "{drives} × {} beside {count} × {}",
            machine.drive, machine.accelerator.name
        ),
    };
    let mut report = Report {
        title: format!(
            "A step of training {} from flash: {}; {place}",
            model.name, recipe.what
        ),
        answer: format!(
            "With {} a step or more the drives move as fast as it computes, and with {} or more \
             training from flash takes no longer than in memory; a step of {} takes {} × as long.",
            counted(si(even.ceil(), ""), "token"),
            si(step.free_tokens(waits).ceil(), ""),
            si(tokens, ""),
            si(asked.simulated.step_s / asked.step.in_memory_s(), ""),
        ),
        headline: Some(Headline {
            what: "tokens of a step from which on flash keeps up".to_owned(),
            value: even,
            unit: "",
        }),
        intro: "By closed form, and by running the line itself in virtual time.".to_owned(),
        tables: vec![steps_table(&rows, even), contenders_table(&beside)],
        plots: vec![plot(&rows, even)],
        details: vec![recipes_table(&step), published_table(&published)],
        notes: notes(&step, &machine, &beside),
        json: json!({
            "train": {
                "model": model.name, "parameters": model.parameters, "layers": model.layers,
                "recipe": recipe.name, "flop_per_s": step.flop_per_s,
                "read_bytes_per_s": step.rates.read, "write_bytes_per_s": step.rates.write,
                "mixed_bytes_per_s": step.rates.mixed, "memory_bytes": step.memory,
                "break_even_tokens": even, "free_tokens": step.free_tokens(waits),
                "steps": rows.iter().map(Row::json).collect::<Vec<Value>>(),
                "recipes": Recipe::ALL.iter().map(|recipe| recipe_json(&step, recipe)).collect::<Vec<Value>>(),
                "contenders": beside, "published": published,
            }
        }),
        ..Report::default()
    };
    if !measured {
        let elsewhere = memory_elsewhere(&step, &machine, count);
        report.notes.extend(elsewhere);
        let range = machine.break_even_tokens(&recipe, f64::from(*drives) / count);
        report.notes.insert(
            0,
            format!(
                "The break-even batch over the ranges of all figures: {} tokens.",
                si_range(range, "")
            ),
        );
    }
    report.cite(library, &[accelerator, store, "training", "economy"]);
    Ok(report)
}

/// Half of what is moved is read and half written: neither is faster than it is alone.
fn check_rates(rates: DriveRates) -> Result<(), TrainError> {
    let most = 2.0 * rates.read.min(rates.write);
    match rates.mixed <= most * (1.0 + 1e-9) {
        true => Ok(()),
        false => Err(TrainError::Value {
            what: "the rate of both together",
            got: si(rates.mixed, "B/s"),
            expected: format!(
                "at most {}, twice the slower of reading and writing",
                si(most, "B/s")
            ),
        }),
    }
}

/// Said where weights and state in passing do not fit beside the accelerators.
fn memory_elsewhere(step: &TrainStep, machine: &TrainMachine, count: f64) -> Option<String> {
    let (own, _) = machine.accelerator.home();
    let own = own.typical * count;
    (step.memory as f64 > own).then(|| {
        format!(
            "What stays and what passes takes {}, more than the {} of the accelerators: the rest \
             is in the host's memory, of which neither rate nor price is counted.",
            si(step.memory as f64, "B"),
            si(own, "B")
        )
    })
}

impl Row {
    fn of(step: TrainStep) -> Result<Self, TrainError> {
        let waiting = step.best_waiting();
        Ok(Self {
            waiting,
            closed_s: step.closed_form_s(f64::from(waiting) / f64::from(step.layers)),
            bound_s: step.bound_s(waiting),
            simulated: simulate_step(&step, waiting)?,
            step,
        })
    }

    fn json(&self) -> Value {
        json!({
            "tokens": self.step.tokens, "in_memory_s": self.step.in_memory_s(),
            "waiting_layers": self.waiting, "closed_form_s": self.closed_s,
            "bound_s": self.bound_s, "step_s": self.simulated.step_s,
            "stall_s": self.simulated.stall_s, "read_bytes": self.simulated.read_bytes,
            "written_bytes": self.simulated.written_bytes,
        })
    }
}

fn steps_table(rows: &[Row], even: f64) -> ReportTable {
    let mut table = ReportTable::new(
        "A step",
        &[
            "tokens",
            "of break-even",
            "in memory",
            "updates that wait",
            "closed form",
            "bound",
            "in virtual time",
            "slower",
            "of the bound",
        ],
    );
    for row in rows {
        let in_memory_s = row.step.in_memory_s();
        table.row([
            si(row.step.tokens.round(), ""),
            digits(row.step.tokens / even),
            si(in_memory_s, "s"),
            percent(f64::from(row.waiting) / f64::from(row.step.layers)),
            si(row.closed_s, "s"),
            si(row.bound_s, "s"),
            si(row.simulated.step_s, "s"),
            format!("{} ×", si(row.simulated.step_s / in_memory_s, "")),
            percent(row.bound_s / row.simulated.step_s),
        ]);
    }
    table.groups = vec![
        (0, "as asked".to_owned()),
        (1, "around the break-even batch".to_owned()),
    ];
    table
}

fn recipes_table(step: &TrainStep) -> ReportTable {
    let mut table = ReportTable::new(
        "What a step moves, in bytes a parameter",
        &[
            "recipe",
            "what",
            "forward",
            "backward",
            "in all",
            "written",
            "break-even batch",
        ],
    );
    for recipe in &Recipe::ALL {
        let waits = if recipe.waits { 1.0 } else { 0.0 };
        let [there, back] = recipe.passes(waits);
        let step = TrainStep {
            recipe: *recipe,
            ..*step
        };
        table.row([
            recipe.name.to_owned(),
            recipe.what.to_owned(),
            digits(there.bytes()),
            digits(back.bytes()),
            digits(there.bytes() + back.bytes()),
            digits(there.written + back.written),
            si(step.break_even_tokens(waits).round(), ""),
        ]);
    }
    table
}

fn recipe_json(step: &TrainStep, recipe: &Recipe) -> Value {
    let waits = if recipe.waits { 1.0 } else { 0.0 };
    let moved = recipe.moved(waits);
    let step = TrainStep {
        recipe: *recipe,
        ..*step
    };
    json!({
        "recipe": recipe.name, "bytes_per_parameter": moved.bytes(),
        "written_per_parameter": moved.written, "break_even_tokens": step.break_even_tokens(waits),
    })
}

fn contenders_table(all: &[Contender]) -> ReportTable {
    let mut table = ReportTable::new(
        "Where weights and state are held",
        &[
            "held in",
            "accelerators",
            "drives",
            "tokens a second",
            "price",
            "drives last",
            "a billion tokens",
        ],
    );
    for one in all {
        table.row([
            one.name.clone(),
            digits(one.accelerators),
            digits(one.drives),
            si_range(one.tokens_per_s, ""),
            dollars_range(one.price),
            one.drives_last_years.map_or_else(
                || "–".to_owned(),
                |years| {
                    let days = years * 365.25;
                    format!("{} days", count_range(days))
                },
            ),
            dollars_range(one.dollars_per_billion),
        ]);
    }
    let typical = |of: fn(&Contender) -> f64| all.iter().map(of).collect::<Vec<f64>>();
    table.mark_least("price", &typical(|one| one.price.typical));
    table.mark_least(
        "a billion tokens",
        &typical(|one| one.dollars_per_billion.typical),
    );
    table.mark_greatest("tokens a second", &typical(|one| one.tokens_per_s.typical));
    table
}

fn published_table(rows: &[OffloadRow]) -> ReportTable {
    let mut table = ReportTable::new(
        "G10's networks: times as long as in memory",
        &[
            "network",
            "moved each way",
            "pages on demand",
            "FlashNeuron",
            "G10",
            "flash: bound",
            "flash: virtual time",
            "and host: bound",
            "and host: virtual time",
        ],
    );
    for row in rows {
        table.row([
            row.name.clone(),
            si(row.moved_bytes.iter().sum(), "B"),
            digits(row.pages),
            row.flashneuron.map_or_else(|| "–".to_owned(), digits),
            digits(row.g10),
            digits(row.flash[0]),
            digits(row.flash[1]),
            digits(row.flash_and_host[0]),
            digits(row.flash_and_host[1]),
        ]);
    }
    table
}

fn plot(rows: &[Row], even: f64) -> Plot {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| a.step.tokens.total_cmp(&b.step.tokens));
    let series = |name: &str, of: fn(&Row) -> f64, dashed: bool| Series {
        name: name.to_owned(),
        points: rows
            .iter()
            .map(|row| (row.step.tokens, of(row) / row.step.in_memory_s()))
            .collect(),
        dashed,
        ..Series::default()
    };
    Plot {
        title: "How much longer than in memory a step takes, over its batch".to_owned(),
        caption: "Broken: the closed form.".to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("batch, in tokens", ""),
            y: Axis::log("times as long", ""),
            series: vec![
                series("in virtual time", |row| row.simulated.step_s, false),
                series("closed form", |row| row.closed_s, true),
            ],
            marks: vec![PlotMark {
                label: "break-even".to_owned(),
                x: Some(even),
                y: 1.0,
            }],
        },
    }
}

fn notes(step: &TrainStep, machine: &TrainMachine, beside: &[Contender]) -> Vec<String> {
    let moved = step.recipe.moved(if step.recipe.waits { 1.0 } else { 0.0 });
    let mut notes = vec![
        format!(
            "{} bytes a parameter and step: in the closed form nothing stays in memory. Of what \
             is kept every byte saves itself once a turn, whichever it is; the bound counts that, \
             for {} here.",
            digits(moved.bytes()),
            si(step.memory as f64, "B")
        ),
        "Updates that wait for the next forward pass even out the two passes, and cost the \
         gradient once more each way; as many wait as make the step shortest."
            .to_owned(),
        "Activations are not in it, nor the network between accelerators that share a model, \
         whose state is divided among them and their drives."
            .to_owned(),
        "Drives hold two copies and are as many as make neither pass wait; the machine runs all \
         the time, and drives that are worn out are bought anew."
            .to_owned(),
        "G10's networks: bytes are those that G10 itself moved, in even layers. With the host's \
         memory as G10 had it a step takes 2 % more than its own at most, or less. What lies \
         between bound and virtual time is that the oldest activations are written only when \
         room is wanted, so that the drive rests until memory is full; flash alone is its rate."
            .to_owned(),
    ];
    if let [memory, as_many, ..] = beside
        && as_many.drives > 0.0
    {
        notes.push(format!(
            "As fast as {} × {} with everything in memory, flash costs {} of the price and {} of \
             a token's.",
            digits(memory.accelerators),
            machine.accelerator.name,
            percent(as_many.price.typical / memory.price.typical),
            percent(as_many.dollars_per_billion.typical / memory.dollars_per_billion.typical)
        ));
    }
    notes
}
