//! `study`: arguments to the library, its reports to the terminal. Calculates
//! nothing itself.

pub mod args;
mod show;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use delayline_graph::{Error as GraphError, GraphFolder, RowTrace, TraceShape};
use delayline_plan::DriveRates;
use delayline_study::datasheet::{AsOf, Library, SheetKind};
use delayline_study::decode::{self, CaseGrid, CaseOptions, MeasuredMedium, PlanFile};
use delayline_study::experts::{experts_report, read_route};
use delayline_study::find::{FindQuestion, Wish, best_weight, find_report};
use delayline_study::graph::{self, GraphDrive, graph_report};
use delayline_study::kv::{self, kv_report, read_trace};
use delayline_study::link;
use delayline_study::media::{self, Need};
use delayline_study::model::LanguageModel;
use delayline_study::report::{Headline, Report, format, html};
use delayline_study::sensitivity::{add_sensitivity, sensitivities};
use delayline_study::setting::Setting;
use delayline_study::sweep::{self, Base};
use delayline_study::train::{Recipe, TrainQuestion, TrainedModel, train_report};
use delayline_study::{claims, datasheet};
use serde_json::json;

use crate::interrupt::{self, Interrupted};
use crate::output::Output;
use crate::written::{self, FileKind};
use args::{
    CommonArgs, DecodeArgs, FindArgs, GraphStudyArgs, MachineArgs, MediaArgs, StudyArgs,
    StudyCommand, SweepArgs, TrainStudyArgs,
};

/// How often the progress of long work is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the command.
pub fn run(args: &StudyArgs, output: &Output) -> Result<()> {
    let mut library = Library::embedded();
    for path in &args.common.datasheets {
        library.load(path)?;
    }
    let common = &args.common;
    let nothing = CaseOptions::default();
    let report = match &args.command {
        StudyCommand::Sweep(sweep) => {
            let medium = link::named(&mut library, &sweep.medium)?;
            return run_sweep(&library, sweep, medium, common, output);
        }
        StudyCommand::Link(link) if link.print => return print_design(&link.design, output),
        StudyCommand::Link(link) => {
            let id = design_of(&mut library, &link.design)?;
            let answer = |asked: &Asked, _| Ok(link::report(&asked.library, &id, link.channels)?);
            let rate = |asked: &Asked| {
                let design = asked.library.design(&id).ok()?;
                let carried = link::carried(&design, &asked.library).ok()?;
                Some(carried.net_rate_bit_per_s.typical)
            };
            answered(&library, &nothing, common, answer, Some(&rate))?
        }
        StudyCommand::Claims(claims) => {
            let about = link::named(&mut library, &claims.about)?;
            let answer =
                |asked: &Asked, _| Ok(claims::report(&asked.library, &claims.numbers, &about)?);
            answered(&library, &nothing, common, answer, None)?
        }
        StudyCommand::Media(media) => {
            let ids = named(&mut library, media.media.iter())?;
            let answer = |asked: &Asked, _| media_report(&asked.library, media, &ids);
            answered(&library, &nothing, common, answer, None)?
        }
        StudyCommand::Decode(decode) => {
            let media = media_to_decode_from(&mut library, decode)?;
            let ask = ask(&decode.machine)?;
            let answer = |asked: &Asked, plots| decode_report(asked, decode, &media, plots);
            let first = |asked: &Asked| {
                let grid = grid(asked, decode, &media);
                let [model, accelerator, medium] =
                    [&grid.models, &grid.accelerators, &grid.media].map(|ids| ids.first());
                let batch = *grid.batches.first()?;
                let (library, ask) = (&asked.library, &asked.ask);
                let case = ask
                    .case(library, model?, accelerator?, medium?, batch)
                    .ok()?;
                decode::typical_tokens_per_s(&case).ok()
            };
            answered(&library, &ask, common, answer, Some(&first))?
        }
        StudyCommand::Find(find) => {
            let media = named(&mut library, find.medium.iter().flat_map(|list| &list.0))?;
            let answer = |asked: &Asked, _| {
                let question = question(asked, find, &media);
                Ok(find_report(&asked.library, &question)?)
            };
            let best =
                |asked: &Asked| best_weight(&asked.library, &question(asked, find, &media)).ok()?;
            answered(&library, &nothing, common, answer, Some(&best))?
        }
        StudyCommand::Experts(args) => {
            let route = read_route(&args.route)?;
            let answer = |_: &Asked, _| Ok(experts_report(&route, &args.share));
            answered(&library, &nothing, common, answer, None)?
        }
        StudyCommand::Graph(args) => {
            let (name, trace) = trace_of(args, output)?;
            let drives: Vec<_> = args
                .drive
                .iter()
                .filter_map(|name| GraphDrive::named(name))
                .collect();
            let total = graph::replays(args.share.len(), drives.len());
            with_progress(output, "replays", total as u64, |_, done| {
                let answer =
                    |_: &Asked, _| Ok(graph_report(&name, &trace, &args.share, &drives, done)?);
                answered(&library, &nothing, common, answer, None)
            })?
        }
        StudyCommand::Kv(args) => {
            let trace = read_trace(&args.trace)?;
            let name = args.trace.file_stem().unwrap_or_default();
            let name = name.to_string_lossy();
            let total = kv::replays(args.size.len());
            with_progress(output, "replays", total as u64, |_, done| {
                let answer = |_: &Asked, _| Ok(kv_report(&name, &trace, &args.size, done));
                answered(&library, &nothing, common, answer, None)
            })?
        }
        StudyCommand::Train(args) => {
            let answer = |asked: &Asked, _| {
                let question = train_question(&asked.library, args)?;
                Ok(train_report(&asked.library, &question)?)
            };
            let even = |asked: &Asked| {
                let question = train_question(&asked.library, args).ok()?;
                question.break_even_tokens(&asked.library).ok()
            };
            answered(&library, &nothing, common, answer, Some(&even))?
        }
        StudyCommand::Measured => {
            let answer = |asked: &Asked, _| Ok(decode::measured_report(&asked.library)?);
            answered(&library, &nothing, common, answer, None)?
        }
        StudyCommand::Sheets(sheets) => {
            let answer = |asked: &Asked, _| {
                let mut report = match sheets.stale {
                    true => datasheet::stale_report(&asked.library, as_of(common)),
                    false => datasheet::report(&asked.library, &sheets.ids)?,
                };
                if common.sensitivity || common.html.is_some() {
                    datasheet::add_widest(&mut report, &asked.library, &sheets.ids);
                }
                Ok(report)
            };
            answered(&library, &nothing, common, answer, None)?
        }
    };
    show(report, &library, common, output)
}

/// Does `work` on another thread, with a line of progress over what it says is done. It is
/// given what tells it to stop, after Ctrl-C where that is watched for.
fn with_progress<T: Send>(
    output: &Output,
    what: &str,
    total: u64,
    work: impl FnOnce(&AtomicBool, &(dyn Fn() + Sync)) -> T + Send,
) -> T {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (stop, done) = (&stop, &done);
    std::thread::scope(|scope| {
        let (works, ended) = channel::<()>();
        let work = scope.spawn(move || {
            let _works = works;
            work(stop, &|| {
                done.fetch_add(1, Ordering::Relaxed);
            })
        });
        let mut progress = output.count(what, total);
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            progress.set(done.load(Ordering::Relaxed));
            stop.fetch_or(interrupt::asked(), Ordering::Relaxed);
        }
        work.join().expect("a study does not panic")
    })
}

/// The rows that the batches of a graph use, or a random trace, and its name.
fn trace_of(args: &GraphStudyArgs, output: &Output) -> Result<(String, RowTrace)> {
    let Some(dir) = &args.dir else {
        let shape = TraceShape {
            rows: args.rows,
            row_len: args.row,
            batches: args.sampling.batches,
            draws: args.draws,
            skew: args.skew,
            seed: args.sampling.seed,
        };
        return Ok((
            "a trace that was drawn".to_owned(),
            RowTrace::drawn(&shape)?,
        ));
    };
    interrupt::watch();
    let graph = GraphFolder::open(dir)?;
    // Sampling alone does not depend on the memory.
    let bench = args.sampling.bench(args.epochs, 0);
    let total = bench.batches as u64 * bench.epochs;
    let mut bar = output.count("batches", total);
    let trace = RowTrace::sampled(&graph, &bench, &mut |done| {
        bar.set(done);
        !interrupt::asked()
    });
    match trace {
        Ok(trace) => Ok((dir.display().to_string(), trace)),
        Err(GraphError::Interrupted) => Err(Interrupted.into()),
        Err(error) => Err(error.into()),
    }
}

/// What is asked with the figures that were set.
#[derive(Clone)]
struct Asked {
    library: Library,
    ask: CaseOptions,
    batch: Option<u32>,
}

impl Asked {
    fn set<'a>(&self, settings: impl Iterator<Item = &'a Setting>) -> Result<Self> {
        let mut asked = self.clone();
        for setting in settings {
            anyhow::ensure!(
                setting.values.len() == 1,
                "{} is given {} values: only `study sweep` takes several",
                setting.name,
                setting.values.len()
            );
            let batch = setting.apply(0, &mut asked.library, &mut asked.ask)?;
            asked.batch = batch.or(asked.batch);
        }
        Ok(asked)
    }
}

/// The one number of an answer, where there is a quicker way to it than the whole answer.
type Number<'a> = dyn Fn(&Asked) -> Option<f64> + Sync + 'a;

/// The answer with everything set, and on a page, or where it is asked for, which figures
/// move it most. What was set and changes no printed figure was meant
/// for another question, and is refused.
fn answered(
    library: &Library,
    ask: &CaseOptions,
    common: &CommonArgs,
    answer: impl Fn(&Asked, bool) -> Result<Report> + Sync,
    number: Option<&Number<'_>>,
) -> Result<Report> {
    let plain = Asked {
        library: library.clone(),
        ask: ask.clone(),
        batch: None,
    };
    let asked = plain.set(common.set.iter())?;
    let mut report = answer(&asked, common.html.is_some())?;
    for (index, setting) in common.set.iter().enumerate() {
        let others = common
            .set
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let asked = plain.set(others.map(|(_, other)| other))?;
        let without = answer(&asked, false);
        anyhow::ensure!(
            !without.is_ok_and(|without| without.prints_as(&report)),
            "--set {} changes no printed figure: leave it out, or set what this answer depends on \
             (`study sheets` lists all figures)",
            setting.shown(0)
        );
    }
    let Some(headline) = report.headline.clone() else {
        if common.sensitivity && report.inputs.is_empty() && report.details.is_empty() {
            let nothing = "No figure of a data sheet moves this answer.";
            report.notes.push(nothing.to_owned());
        }
        return Ok(report);
    };
    if common.sensitivity || common.html.is_some() {
        let again = |library: &Library| {
            let asked = Asked {
                library: library.clone(),
                ..asked.clone()
            };
            match number {
                Some(number) => number(&asked),
                None => Some(answer(&asked, false).ok()?.headline?.value),
            }
        };
        let all = sensitivities(&asked.library, &report.inputs, &headline, again);
        add_sensitivity(&mut report, &headline, &all);
    }
    Ok(report)
}

/// Prints a design file, to start one's own from.
fn print_design(name: &str, output: &Output) -> Result<()> {
    let text = match link::preset(name) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(name)
            .with_context(|| format!("{name} cannot be read: --print takes a design or a file"))?,
    };
    Ok(output.line(text.trim_end())?)
}

/// The id of a design by its name.
fn design_of(library: &mut Library, name: &str) -> Result<String> {
    let id = link::named(library, name)?;
    if library.sheet(SheetKind::Design, &id).is_err() {
        let names = link::PRESETS.map(|(name, _)| name).join(", ");
        let expected = format!("expected a design file (.toml), or one of {names}");
        match media::ids(library).contains(&id) {
            true => anyhow::bail!(
                "{name} has no design: {expected}; `study media {name}` has its figures"
            ),
            false => anyhow::bail!("{name} is no design: {expected}"),
        }
    }
    Ok(id)
}

/// The ids of media by their names, each once; loops that their names describe are added.
fn named<'a>(
    library: &mut Library,
    names: impl Iterator<Item = &'a String>,
) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for name in names {
        let id = link::named(library, name)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn show(mut report: Report, library: &Library, common: &CommonArgs, output: &Output) -> Result<()> {
    let stale = datasheet::stale_note(library, &report.inputs, as_of(common));
    report.notes.extend(stale);
    let report = &report;
    if let Some(path) = &common.html {
        written::write(path, FileKind::Page, |out| {
            out.write_all(html::page(report).as_bytes())
        })?;
        output.note(format_args!("wrote {}", path.display()));
    }
    match &report.json {
        serde_json::Value::Array(rows) => {
            for row in rows {
                output.object(row)?;
            }
        }
        whole => output.object(whole)?,
    }
    show::report(report, output)
}

/// The month as of which figures are judged.
fn as_of(common: &CommonArgs) -> AsOf {
    common.as_of.unwrap_or_else(|| {
        let today = jiff::Zoned::now();
        AsOf {
            year: today.year().into(),
            month: today.month().into(),
        }
    })
}

fn media_report(library: &Library, args: &MediaArgs, ids: &[String]) -> Result<Report> {
    let bytes = match args.hold {
        Some(bytes) => bytes as f64,
        None => LanguageModel::of(library, &args.model)?.weights_bytes,
    };
    if args.solve.is_some() {
        return Ok(media::solve_report(library, ids, bytes)?);
    }
    let need = Need {
        bytes,
        rate_bytes_per_s: args.feed,
    };
    Ok(media::report(library, need, ids)?)
}

fn question(asked: &Asked, args: &FindArgs, media: &[String]) -> FindQuestion {
    FindQuestion {
        model: args.model.clone(),
        tokens_per_s: args.tokens,
        users: args.users,
        context: match asked.ask.context {
            0 => args.context,
            context => context,
        },
        software: args.software.clone(),
        accelerators: args.accelerator.clone(),
        media: media.to_vec(),
        wish: match args.coolest {
            true => Wish::Coolest,
            false => Wish::Cheapest,
        },
    }
}

fn train_question(library: &Library, args: &TrainStudyArgs) -> Result<TrainQuestion> {
    let model = match (args.parameters, args.layers) {
        (Some(parameters), Some(layers)) => TrainedModel {
            name: format!("{} parameters", format::si(parameters, "")),
            parameters,
            layers,
        },
        _ => TrainedModel::of(&LanguageModel::of(library, &args.model)?)?,
    };
    let rates = args.rate.map(|read| {
        let write = args.write_rate.unwrap_or(read);
        let apart = 2.0 / (1.0 / read + 1.0 / write);
        let mixed = args.mixed_rate.unwrap_or(apart);
        DriveRates { read, write, mixed }
    });
    Ok(TrainQuestion {
        model,
        recipe: Recipe::named(&args.recipe).context("there is no such recipe")?,
        tokens: args.tokens.map(|tokens| tokens as f64),
        accelerator: (args.accelerator.clone(), args.accelerators),
        drives: (args.medium.clone(), args.units),
        flop_per_s: args.compute,
        rates,
        memory: args.memory,
    })
}

/// The cases that are compared.
fn grid(asked: &Asked, args: &DecodeArgs, media: &[String]) -> CaseGrid {
    let ask = &asked.ask;
    let one = |given: bool, name: &str, ids: &[String]| match given {
        true => vec![name.to_owned()],
        false => each_once(ids),
    };
    CaseGrid {
        models: match &ask.plan {
            Some(plan) => vec![plan.model.clone()],
            None => one(ask.weights_bytes.is_some(), "weights", &args.model),
        },
        accelerators: each_once(&args.accelerator),
        media: one(ask.measured.is_some(), "measured", media),
        batches: asked
            .batch
            .map_or_else(|| each_once(&args.batch), |batch| vec![batch]),
    }
}

/// What was typed twice is compared once.
fn each_once<T: Clone + PartialEq>(all: &[T]) -> Vec<T> {
    let mut once: Vec<T> = Vec::new();
    for one in all {
        if !once.contains(one) {
            once.push(one.clone());
        }
    }
    once
}

fn decode_report(
    asked: &Asked,
    args: &DecodeArgs,
    media: &[String],
    plots: bool,
) -> Result<Report> {
    let grid = grid(asked, args, media);
    let start = Instant::now();
    let mut report = decode::report(&asked.library, &asked.ask, &grid, plots)?;
    // For the measurement of the simulation itself; with plots there is more.
    if let Some(object) = report.json.as_object_mut() {
        object.insert("wall_s".to_owned(), json!(start.elapsed().as_secs_f64()));
    }
    Ok(report)
}

/// The media that were named; else the loop, flash, and the accelerator's own
/// memory, unless one of them has none.
fn media_to_decode_from(library: &mut Library, args: &DecodeArgs) -> Result<Vec<String>> {
    if !args.medium.is_empty() {
        return named(library, args.medium.iter().flat_map(|list| &list.0));
    }
    let has_memory = |id: &String| {
        let sheet = library.sheet(SheetKind::Accelerator, id);
        sheet.is_ok_and(|sheet| sheet.find("memory").is_some())
    };
    let own = args.accelerator.iter().all(has_memory).then_some("own");
    let media = ["article", "hbf"].into_iter().chain(own);
    Ok(media.map(str::to_owned).collect())
}

fn ask(args: &MachineArgs) -> Result<CaseOptions> {
    let plan = args.plan.as_deref().map(PlanFile::read).transpose()?;
    Ok(CaseOptions {
        weights_bytes: args.weights,
        measured: args.rate.map(|rate_bytes_per_s| MeasuredMedium {
            rate_bytes_per_s,
            latency_s: args.latency_us * 1e-6,
            turn_s: args.turn_ms.map(|turn| turn * 1e-3),
        }),
        plan: plan.map(|plan| Arc::new(plan.planned())),
        accelerators: args.accelerators,
        software: args.software.clone(),
        context: args.context,
        units: args.units,
        feed_bytes_per_s: args.feed.unwrap_or(0.0),
        window_bytes: args.window,
        resident_bytes: args.resident.unwrap_or(0),
        compute_s: args.compute_ms.map(|compute| compute * 1e-3),
    })
}

/// Adds which figures move the best row of a sweep most.
fn best_row(
    library: &Library,
    ask: &CaseOptions,
    base: &Base,
    settings: &[Setting],
    csv: &str,
    page: &mut Report,
) -> Result<()> {
    let Some(row) = sweep::best_row(csv) else {
        return Ok(());
    };
    let (mut library, mut ask) = (library.clone(), ask.clone());
    let batch = sweep::set_row(settings, row, &mut library, &mut ask)?;
    let grid = CaseGrid {
        models: vec![match &ask.plan {
            Some(plan) => plan.model.clone(),
            None => base.model.clone(),
        }],
        accelerators: vec![base.accelerator.clone()],
        media: vec![base.medium.clone()],
        batches: vec![batch.unwrap_or(base.batch)],
    };
    let tokens = |library: &Library| {
        let [model, accelerator, medium] =
            [&grid.models, &grid.accelerators, &grid.media].map(|ids| &ids[0]);
        let case = ask.case(library, model, accelerator, medium, grid.batches[0]);
        decode::typical_tokens_per_s(&case.ok()?).ok()
    };
    let inputs = decode::report(&library, &ask, &grid, false)?.inputs;
    let Some(value) = tokens(&library) else {
        return Ok(());
    };
    let headline = Headline {
        what: "tokens per second of the best row".to_owned(),
        value,
        unit: "",
    };
    let all = sensitivities(&library, &inputs, &headline, tokens);
    add_sensitivity(page, &headline, &all);
    Ok(())
}

fn run_sweep(
    library: &Library,
    args: &SweepArgs,
    medium: String,
    common: &CommonArgs,
    output: &Output,
) -> Result<()> {
    interrupt::watch();
    if let Some(path) = &args.out {
        written::check(path, FileKind::Table)?;
    }
    if let Some(path) = &common.html {
        written::check(path, FileKind::Page)?;
    }
    anyhow::ensure!(
        !common.sensitivity || args.out.is_some() || common.html.is_some() || output.json,
        "the rows go to standard output: write them with --out FILE, so that --sensitivity has \
         room there"
    );
    let base = Base {
        model: args.model.clone(),
        accelerator: args.accelerator.clone(),
        medium,
        batch: args.batch,
    };
    let ask = ask(&args.machine)?;
    // What is wrong with the base itself is wrong with every row.
    if common.set.is_empty() {
        ask.case(
            library,
            &base.model,
            &base.accelerator,
            &base.medium,
            base.batch,
        )?;
    }
    let rows = sweep::rows(&common.set)? as u64;
    let csv = with_progress(output, "decoding", rows, |stop, done| {
        sweep::sweep(library, &ask, &base, &common.set, stop, done)
    });
    if interrupt::asked() {
        return Err(Interrupted.into());
    }
    let csv = csv?;
    let mut page = sweep::report(&base, &common.set, &csv);
    if common.sensitivity || common.html.is_some() {
        page.json = json!({});
        best_row(library, &ask, &base, &common.set, &csv, &mut page)?;
    }
    let sensitivity = page.json.get("sensitivity").cloned();
    let mut event = json!({"event": "sweep", "rows": rows});
    if let (Some(told), Some(event)) = (sensitivity, event.as_object_mut()) {
        event.insert("sensitivity".to_owned(), told);
    }
    let mut event_with = |key: &str, value: &str| {
        event[key] = json!(value);
        output.object(&event)
    };
    if let Some(path) = &common.html {
        written::write(path, FileKind::Page, |out| {
            out.write_all(html::page(&page).as_bytes())
        })?;
        output.note(format_args!("wrote {}", path.display()));
    }
    match &args.out {
        Some(path) => {
            written::write(path, FileKind::Table, |out| out.write_all(csv.as_bytes()))?;
            event_with("file", &path.to_string_lossy())?;
            output.note(format_args!("wrote {rows} rows to {}", path.display()));
            if common.sensitivity {
                let told = page.details.pop().into_iter().collect();
                let report = Report {
                    title: page.title,
                    answer: page.answer,
                    tables: told,
                    notes: page.notes,
                    ..Report::default()
                };
                show::report(&report, output)?;
            }
        }
        None if output.json => event_with("csv", &csv)?,
        None => std::io::stdout().lock().write_all(csv.as_bytes())?,
    }
    Ok(())
}
