//! `study`: arguments to the library, its reports to the terminal. Calculates
//! nothing itself.

pub mod args;
mod show;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use delayline_study::datasheet::{AsOf, Library, SheetKind};
use delayline_study::decode::{self, CaseGrid, CaseOptions, MeasuredMedium, PlanFile};
use delayline_study::link::{self, Design};
use delayline_study::media::{self, Need};
use delayline_study::model::LanguageModel;
use delayline_study::report::{Report, html, write_whole};
use delayline_study::sweep::{self, Base, Setting};
use delayline_study::{claims, datasheet};
use serde_json::json;

use crate::interrupt::{self, Interrupted};
use crate::output::Output;
use args::{
    CommonArgs, DecodeArgs, LinkArgs, MachineArgs, MediaArgs, StudyArgs, StudyCommand, SweepArgs,
};

/// How often the progress of a sweep is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the command.
pub fn run(args: &StudyArgs, output: &Output) -> Result<()> {
    let mut library = Library::embedded();
    for path in &args.common.datasheets {
        library.load(path)?;
    }
    match &args.command {
        StudyCommand::Sweep(sweep) => run_sweep(&library, sweep, &args.common, output),
        StudyCommand::Link(link) => {
            set(&mut library, &mut CaseOptions::default(), &args.common.set)?;
            run_link(&library, link, &args.common, output)
        }
        StudyCommand::Claims(claims) => {
            set(&mut library, &mut CaseOptions::default(), &args.common.set)?;
            show(
                claims::report(&library, &claims.numbers)?,
                &library,
                &args.common,
                output,
            )
        }
        StudyCommand::Media(media) => {
            set(&mut library, &mut CaseOptions::default(), &args.common.set)?;
            show(
                media_report(&library, media)?,
                &library,
                &args.common,
                output,
            )
        }
        StudyCommand::Decode(decode) => {
            let report = decode_report(library.clone(), decode, &args.common)?;
            show(report, &library, &args.common, output)
        }
        StudyCommand::Measured => {
            set(&mut library, &mut CaseOptions::default(), &args.common.set)?;
            show(
                decode::measured_report(&library)?,
                &library,
                &args.common,
                output,
            )
        }
        StudyCommand::Sheets(sheets) => {
            set(&mut library, &mut CaseOptions::default(), &args.common.set)?;
            let report = match sheets.stale {
                true => datasheet::stale_report(&library, as_of(&args.common)),
                false => datasheet::report(&library, &sheets.ids)?,
            };
            show(report, &library, &args.common, output)
        }
    }
}

fn run_link(
    library: &Library,
    args: &LinkArgs,
    common: &CommonArgs,
    output: &Output,
) -> Result<()> {
    let name = args.design.as_str();
    let text = match link::preset(name) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(name).with_context(|| {
            let names = link::PRESETS.map(|(name, _)| name).join(", ");
            let expected = format!("expected a design file (.toml), or one of {names}");
            match media::ids(library).iter().any(|id| id == name) {
                true => format!(
                    "{name} has no design: {expected}; `study media {name}` has its figures"
                ),
                false => format!("{name} cannot be read: {expected}"),
            }
        })?,
    };
    if args.print {
        return Ok(output.line(text.trim_end())?);
    }
    let design = Design::parse(&text).with_context(|| format!("{name} is not a valid design"))?;
    show(
        link::report(library, &design, args.channels)?,
        library,
        common,
        output,
    )
}

fn show(mut report: Report, library: &Library, common: &CommonArgs, output: &Output) -> Result<()> {
    let stale = datasheet::stale_note(library, &report.inputs, as_of(common));
    report.notes.extend(stale);
    let report = &report;
    if let Some(path) = &common.html {
        html::write(report, path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        output.note(format_args!("wrote {}", path.display()));
    }
    output.object(&report.json)?;
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

/// Gives single figures other values; several of one are for a sweep.
fn set(library: &mut Library, ask: &mut CaseOptions, settings: &[Setting]) -> Result<Option<u32>> {
    let mut batch = None;
    for setting in settings {
        let [value] = setting.values[..] else {
            anyhow::bail!(
                "{} is given {} values: only `study sweep` takes several",
                setting.name,
                setting.values.len()
            );
        };
        batch = sweep::apply(library, ask, &setting.name, value)?.or(batch);
    }
    Ok(batch)
}

fn media_report(library: &Library, args: &MediaArgs) -> Result<Report> {
    let bytes = match args.hold {
        Some(bytes) => bytes as f64,
        None => LanguageModel::of(library, &args.model)?.weights_bytes,
    };
    let need = Need {
        bytes,
        rate_bytes_per_s: args.feed,
    };
    Ok(media::report(library, need, &args.media)?)
}

fn decode_report(mut library: Library, args: &DecodeArgs, common: &CommonArgs) -> Result<Report> {
    let mut ask = ask(&args.machine)?;
    let batch = set(&mut library, &mut ask, &common.set)?;
    let one = |given: bool, name: &str, ids: &[String]| match given {
        true => vec![name.to_owned()],
        false => ids.to_vec(),
    };
    let grid = CaseGrid {
        models: match &ask.plan {
            Some(plan) => vec![plan.model.clone()],
            None => one(ask.weights_bytes.is_some(), "weights", &args.model),
        },
        accelerators: args.accelerator.clone(),
        media: one(
            ask.measured.is_some(),
            "measured",
            &media_to_decode_from(&library, args),
        ),
        batches: batch.map_or_else(|| args.batch.clone(), |batch| vec![batch]),
    };
    let start = Instant::now();
    let mut report = decode::report(&library, &ask, &grid, common.html.is_some())?;
    // For the measurement of the simulation itself; with plots there is more.
    if let Some(object) = report.json.as_object_mut() {
        object.insert("wall_s".to_owned(), json!(start.elapsed().as_secs_f64()));
    }
    Ok(report)
}

/// The media that were named; else the loop, flash, and the accelerator's own
/// memory, unless one of them has none.
fn media_to_decode_from(library: &Library, args: &DecodeArgs) -> Vec<String> {
    if !args.medium.is_empty() {
        return args.medium.clone();
    }
    let has_memory = |id: &String| {
        let sheet = library.sheet(SheetKind::Accelerator, id);
        sheet.is_ok_and(|sheet| sheet.find("memory").is_some())
    };
    let own = args.accelerator.iter().all(has_memory).then_some("own");
    let media = ["article", "hbf"].into_iter().chain(own);
    media.map(str::to_owned).collect()
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

fn run_sweep(
    library: &Library,
    args: &SweepArgs,
    common: &CommonArgs,
    output: &Output,
) -> Result<()> {
    interrupt::watch();
    anyhow::ensure!(
        common.html.is_none(),
        "a sweep writes CSV: use --out FILE instead of --html"
    );
    let base = Base {
        model: args.model.clone(),
        accelerator: args.accelerator.clone(),
        medium: args.medium.clone(),
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
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let csv = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            sweep::sweep(library, &ask, &base, &common.set, &stop, || {
                done.fetch_add(1, Ordering::Relaxed);
            })
        });
        let mut progress = output.count("decoding", rows);
        while !work.is_finished() {
            std::thread::sleep(LOOK);
            progress.set(done.load(Ordering::Relaxed));
            if interrupt::asked() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        work.join().expect("a sweep does not panic")
    });
    if interrupt::asked() {
        return Err(Interrupted.into());
    }
    let csv = csv?;
    match &args.out {
        Some(path) => {
            write_whole(path, csv.as_bytes())
                .with_context(|| format!("{} cannot be written", path.display()))?;
            output.object(&json!({"event": "sweep", "rows": rows, "file": path}))?;
            output.note(format_args!("wrote {rows} rows to {}", path.display()));
        }
        None if output.json => {
            output.object(&json!({"event": "sweep", "rows": rows, "csv": csv}))?
        }
        None => std::io::stdout().lock().write_all(csv.as_bytes())?,
    }
    Ok(())
}
