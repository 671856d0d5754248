//! `delayline inspect`: what a model is made of, and how it would run within memory budgets
//! and from a drive. Nothing is run; `show` has the text.

mod look;
mod show;
mod speed;

use std::path::Path;

use anyhow::{Result, bail};
use delayline_engine::{ModelFile, Options, Way, Weight, has_seal};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::InspectArgs;
use crate::config;
use crate::output::Output;
use crate::plan;
use crate::size::format_size;
use crate::trial;
use crate::written::{self, FileKind};

use self::look::{Look, look};
use self::speed::Speed;

/// Budgets of the table, as divisors of the bytes of the weights.
const DIVISORS: [f64; 5] = [4.0, 2.0, 1.5, 1.25, 1.1];
/// How many of the largest tensors are shown.
const LARGEST: usize = 5;

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Inspection {
    model: Model,
    tensors: Vec<Type>,
    largest: Vec<Tensor>,
    /// The drive and the processor; absent if neither was asked for.
    speed: Option<Speed>,
    /// At the budget in force, or at the smallest that works if that is too small.
    at: Look,
    /// The budget in force, if it is too small.
    too_small_bytes: Option<u64>,
    /// From this budget on llama.cpp holds the whole model.
    native_from_bytes: u64,
    budgets: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Model {
    name: Option<String>,
    architecture: String,
    parts: usize,
    /// Whether each part has a seal, by which everything read is checked.
    is_sealed: bool,
    weight_bytes: u64,
    layers: u64,
    embedding: u64,
    vocabulary: u64,
    trained_context: u64,
    experts: u64,
    experts_used: u64,
}

/// All tensors of a number format.
#[derive(Debug, Serialize)]
struct Type {
    kind: &'static str,
    count: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    kind: &'static str,
    dims: Vec<u64>,
    bytes: u64,
}

/// One budget of the table.
#[derive(Debug, Serialize)]
struct Row {
    divisor: f64,
    budget_bytes: u64,
    /// The model at this budget, or the smallest budget that works.
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Works(Box<Look>),
    NeedsBytes(u64),
}

/// Inspects a model and prints the result.
///
/// # Errors
/// When the model cannot be opened, the drive cannot be measured, or the plan cannot be
/// written.
pub fn run(args: &InspectArgs, output: &Output) -> Result<()> {
    if args.engine.trace.is_some() {
        return Err(config::conflict(
            "--trace is of no use here: nothing is run",
        ));
    }
    if args.engine.medium.is_some() {
        return Err(config::conflict(
            "--medium is of no use here: nothing is run; `delayline run -v --medium` tells what a \
             loop makes of a model",
        ));
    }
    if let Some(path) = &args.plan {
        written::check(path, FileKind::Plan)?;
    }
    let inspection = inspect(args, output)?;
    if let Some(path) = &args.plan {
        anyhow::ensure!(
            inspection.too_small_bytes.is_none(),
            "no plan is written: {} is the smallest budget that works",
            format_size(inspection.at.ledger.budget_bytes)
        );
        plan::write(&inspection.at.plan, path)?;
        output.note(format_args!("wrote {}", path.display()));
    }
    let mut object = serde_json::to_value(&inspection)?;
    if let Value::Object(fields) = &mut object {
        fields.insert("command".into(), json!("inspect"));
    }
    output.object(&object)?;
    output.line(&inspection)?;
    Ok(())
}

fn inspect(args: &InspectArgs, output: &Output) -> Result<Inspection> {
    let options = config::options(&args.engine, Way::Streamed)?;
    trial::ensure(&args.model, &args.engine, &options, output)?;
    let budget = options.memory.unwrap_or(u64::MAX);
    let file = ModelFile::open_within(&args.model, budget)?;
    for hole in file.holes() {
        output.note(format_args!("note: {hole}"));
    }
    let mut bar = output.count("inspecting", DIVISORS.len() as u64 + 1);
    let speed = Speed::of(args, &file)?;

    let (at, too_small_bytes) = match look(&args.model, &options, speed)? {
        Outcome::Works(at) => (*at, None),
        Outcome::NeedsBytes(least) => {
            let at = smallest(&args.model, &options, speed, least)?;
            (at, Some(args.engine.memory.unwrap_or(0)))
        }
    };
    let mut budgets = Vec::new();
    for divisor in DIVISORS {
        bar.set(budgets.len() as u64 + 1);
        let budget_bytes = (file.weight_bytes() as f64 / divisor) as u64;
        let memory = Some(budget_bytes);
        let options = Options {
            memory,
            ..options.clone()
        };
        let outcome = look(&args.model, &options, speed)?;
        budgets.push(Row {
            divisor,
            budget_bytes,
            outcome,
        });
    }
    let native_from_bytes = at.native_from_bytes;
    Ok(Inspection {
        model: model_of(&file),
        tensors: types_of(&file),
        largest: largest_of(&file),
        speed,
        at,
        too_small_bytes,
        native_from_bytes,
        budgets,
    })
}

/// The model at the smallest budget that works: `least`, or a little more if that turns out
/// to be too small.
fn smallest(path: &Path, options: &Options, speed: Option<Speed>, least: u64) -> Result<Look> {
    let mut memory = least;
    for _ in 0..3 {
        let options = Options {
            memory: Some(memory),
            ..options.clone()
        };
        match look(path, &options, speed)? {
            Outcome::Works(at) => return Ok(*at),
            Outcome::NeedsBytes(more) => memory = more.max(memory + (1 << 20)),
        }
    }
    bail!("no budget works: even {} is too small", format_size(memory))
}

fn model_of(file: &ModelFile) -> Model {
    let facts = file.facts();
    Model {
        name: facts.name.clone(),
        architecture: facts.architecture.clone(),
        parts: file.parts().len(),
        is_sealed: file.parts().iter().all(|part| has_seal(&part.path)),
        weight_bytes: file.weight_bytes(),
        layers: facts.layers,
        embedding: facts.embedding,
        vocabulary: facts.vocab,
        trained_context: facts.context,
        experts: facts.experts,
        experts_used: facts.experts_used,
    }
}

/// The tensors by number format, the format with the most bytes first.
fn types_of(file: &ModelFile) -> Vec<Type> {
    let mut types: Vec<Type> = Vec::new();
    for weight in file.weights() {
        let kind = weight.kind;
        let at = types
            .iter()
            .position(|t| t.kind == kind)
            .unwrap_or_else(|| {
                types.push(Type {
                    kind,
                    count: 0,
                    bytes: 0,
                });
                types.len() - 1
            });
        types[at].count += 1;
        types[at].bytes += weight.len;
    }
    types.sort_by_key(|t| std::cmp::Reverse(t.bytes));
    types
}

fn largest_of(file: &ModelFile) -> Vec<Tensor> {
    let mut weights: Vec<_> = file.weights().iter().collect();
    weights.sort_by_key(|weight| std::cmp::Reverse(weight.len));
    let largest = weights.into_iter().take(LARGEST);
    let tensor = |weight: &Weight| Tensor {
        name: weight.name.clone(),
        kind: weight.kind,
        dims: weight.dims.clone(),
        bytes: weight.len,
    };
    largest.map(tensor).collect()
}
