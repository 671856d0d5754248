//! `delayline graph`: arguments to the graph crate, figures to the terminal.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use delayline_graph::{
    EpochFigures, Error, FeatureFile, GraphBench, GraphBenchReport, GraphFolder, GraphShape,
    RowFormat, bench_graph, repack_features, write_graph,
};
use serde_json::json;

use crate::args::{GraphBenchArgs, GraphCommand, GraphRepackArgs, GraphSynthArgs};
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, format_seconds};
use crate::size::{format_rate, format_size};

/// Runs the command.
///
/// # Errors
/// When a file cannot be read or written or is not what it should be, or Ctrl-C is pressed.
pub fn run(command: &GraphCommand, output: &Output) -> Result<()> {
    interrupt::watch();
    let done = match command {
        GraphCommand::Synth(args) => synth(args, output),
        GraphCommand::Bench(args) => bench(args, output),
        GraphCommand::Repack(args) => repack(args, output),
    };
    done.map_err(|error| match error.downcast_ref() {
        Some(Error::Interrupted) => Interrupted.into(),
        _ => error,
    })
}

/// Has so many bytes written, with a bar, until Ctrl-C; how long that took, in seconds.
fn timed(
    output: &Output,
    bytes: u64,
    write: impl FnOnce(&mut dyn FnMut(u64) -> bool) -> Result<(), Error>,
) -> Result<f64> {
    let start = Instant::now();
    let mut bar = output.progress("writing", bytes);
    write(&mut |done| {
        bar.set(done);
        !interrupt::asked()
    })?;
    Ok(start.elapsed().as_secs_f64())
}

fn synth(args: &GraphSynthArgs, output: &Output) -> Result<()> {
    let shape = GraphShape::named(&args.shape).context("the shape has no description")?;
    let seconds = timed(output, shape.bytes(), |progress| {
        write_graph(&shape, args.seed, &args.out, args.force, progress)
    })?;
    output.object(&json!({
        "command": "graph synth", "path": args.out, "nodes": shape.nodes, "edges": shape.edges,
        "columns": shape.columns, "classes": shape.classes, "bytes": shape.bytes(),
        "seconds": seconds,
    }))?;
    output.line(args.out.display())?;
    output.line(format_args!(
        "{} nodes, {} edges, {} in {} ({})",
        shape.nodes,
        shape.edges,
        format_size(shape.bytes()),
        format_seconds(seconds),
        format_rate(shape.bytes() as f64 / seconds)
    ))?;
    Ok(())
}

fn repack(args: &GraphRepackArgs, output: &Output) -> Result<()> {
    let shape = match args.shape.as_slice() {
        [] => None,
        &[rows, columns] => Some((rows, columns)),
        other => bail!("--shape has {} numbers, expected ROWS,COLUMNS", other.len()),
    };
    let given = RowFormat {
        shape,
        element: args.dtype,
        offset: args.offset,
    };
    let from = FeatureFile::open(&args.features, &given)?;
    let bytes = from.rows * from.row_len();
    let seconds = timed(output, bytes, |progress| {
        repack_features(&from, &args.out, args.force, progress)
    })?;
    output.object(&json!({
        "command": "graph repack", "path": args.out, "rows": from.rows, "columns": from.columns,
        "dtype": from.element.name(), "bytes": bytes, "seconds": seconds,
    }))?;
    output.line(args.out.display())?;
    output.line(format_args!(
        "{} rows of {}, {} in {} ({})",
        from.rows,
        from.element,
        format_size(bytes),
        format_seconds(seconds),
        format_rate(bytes as f64 / seconds)
    ))?;
    Ok(())
}

fn bench(args: &GraphBenchArgs, output: &Output) -> Result<()> {
    let graph = GraphFolder::open(&args.dir)?;
    let bench = args.sampling.bench(args.epochs, args.memory);
    let total = bench.batches as u64 * bench.epochs;
    let mut bar = output.count("batches", total);
    let report = bench_graph(graph, &bench, None, &mut |done| {
        bar.set(done);
        !interrupt::asked()
    })?;
    drop(bar);
    show(&bench, &report, output)
}

fn show(bench: &GraphBench, report: &GraphBenchReport, output: &Output) -> Result<()> {
    let epoch_object = |epoch: &EpochFigures| {
        json!({
            "seconds": epoch.seconds, "wait_s": epoch.wait_s, "rows": epoch.rows,
            "rows_missed": epoch.rows_missed, "reads": epoch.reads,
            "bytes_read": epoch.bytes_read, "belady_missed": epoch.belady_missed,
            "sieve_missed": epoch.sieve_missed, "lru_missed": epoch.lru_missed,
            "belady_s": epoch.belady_s, "share_of_limit": epoch.share_of_limit(),
        })
    };
    let cost = report
        .cost
        .map(|cost| json!({"read_s": cost.read_s, "bytes_per_s": cost.bytes_per_s}));
    output.object(&json!({
        "command": "graph bench", "memory": bench.memory, "batches": bench.batches,
        "batch_size": bench.batch_size, "fanouts": bench.fanouts, "seed": bench.seed,
        "rows_kept": report.rows_kept, "most_ahead": report.max_ahead,
        "digest": format!("{:016x}", report.digest), "cost": cost,
        "epochs": report.epochs.iter().map(epoch_object).collect::<Vec<_>>(),
    }))?;
    output.line(format_args!(
        "{} rows stay in {}, at most {} batches ahead",
        report.rows_kept,
        format_size(bench.memory),
        report.max_ahead
    ))?;
    if let Some(cost) = report.cost {
        output.line(format_args!(
            "the drive gives {:.0} reads/s and {}",
            1.0 / cost.read_s.max(1e-9),
            format_rate(cost.bytes_per_s)
        ))?;
    }
    for (number, epoch) in report.epochs.iter().enumerate() {
        show_epoch(number, epoch, output)?;
    }
    Ok(())
}

fn show_epoch(number: usize, epoch: &EpochFigures, output: &Output) -> Result<()> {
    let share = match epoch.share_of_limit() {
        Some(share) => format!("{:.0} % of the limit", 100.0 * share),
        None => "limit not measured".to_owned(),
    };
    output.line(format_args!(
        "epoch {number}: {}, of which {} waiting for rows; {share}",
        format_seconds(epoch.seconds),
        format_seconds(epoch.wait_s)
    ))?;
    output.line(format_args!(
        "  {} rows, {} missed, {} reads, {}",
        epoch.rows,
        epoch.rows_missed,
        epoch.reads,
        format_size(epoch.bytes_read)
    ))?;
    let times = |missed: u64| epoch.rows_missed as f64 / missed.max(1) as f64;
    output.line(format_args!(
        "  missed rows: {:.2} x Belady's {}, {:.2} x SIEVE's {}, {:.2} x LRU's {}",
        times(epoch.belady_missed),
        epoch.belady_missed,
        times(epoch.sieve_missed),
        epoch.sieve_missed,
        times(epoch.lru_missed),
        epoch.lru_missed
    ))?;
    Ok(())
}
