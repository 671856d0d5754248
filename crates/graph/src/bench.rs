//! Measures the loader alone: a thread samples batches, which are announced as far ahead
//! as the memory allows and gathered, without any training. The missed rows are compared
//! with those of other policies on the same trace.

use crate::{Error, Features, GraphFolder, NeighborSampler, Subgraph, WrapFlash};
use delayline_medium::Rng;
use delayline_plan::{ReadCost, RowPolicy, replay_rows, sweep};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Instant;

/// Maximum number of batches that are sampled and not yet announced.
const SAMPLED: usize = 4;

/// Maximum number of rows in a recorded trace. Each takes about 20 bytes, which the
/// budget does not include.
const MAX_TRACE: usize = 1 << 26;

/// The parameters of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphBench {
    /// Bytes of memory for features.
    pub memory: u64,
    /// Neighbours to sample of each node, for each hop; -1 for all.
    pub fanouts: Vec<i64>,
    /// Seed nodes in a batch.
    pub batch_size: usize,
    /// Batches in an epoch. Each epoch has the same seed nodes in another order.
    pub batches: usize,
    /// Number of epochs.
    pub epochs: u64,
    /// Seed of everything random.
    pub seed: u64,
}

/// The figures of one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochFigures {
    /// Duration in seconds.
    pub seconds: f64,
    /// Seconds of it spent waiting for rows.
    pub wait_s: f64,
    /// Rows of all batches.
    pub rows: u64,
    /// Rows that were not in memory.
    pub rows_missed: u64,
    /// Number of reads, retries included.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Rows that Belady's policy would have missed in this epoch, knowing all epochs.
    pub belady_missed: u64,
    /// Rows that SIEVE would have missed.
    pub sieve_missed: u64,
    /// Rows that LRU would have missed.
    pub lru_missed: u64,
    /// Seconds that the drive needs to read the rows that Belady's policy misses, batch by
    /// batch; reads are merged within a batch. `None` if the drive was not measured.
    pub belady_s: Option<f64>,
}

impl EpochFigures {
    /// The minimum duration of the epoch divided by its duration, at most 1. The minimum
    /// is the longer of the time without waiting and of [`EpochFigures::belady_s`]. `None`
    /// if the drive was not measured.
    pub fn share_of_limit(&self) -> Option<f64> {
        let limit_s = self.belady_s?.max(self.seconds - self.wait_s);
        Some((limit_s / self.seconds).min(1.0))
    }
}

/// The result of a measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphBenchReport {
    /// The figures of each epoch.
    pub epochs: Vec<EpochFigures>,
    /// Rows that fit into memory; the other policies are given as many.
    pub rows_kept: u64,
    /// Maximum number of batches announced at once.
    pub max_ahead: usize,
    /// Cost of a read on this drive, if it was measured.
    pub cost: Option<ReadCost>,
    /// Digest of all rows in order. Two ways of gathering the same rows give the same.
    pub digest: u64,
}

/// Runs the epochs, through the medium that `wrap` makes if there is one. `progress` is
/// called with the number of batches done, and returns false to stop.
///
/// # Errors
/// [`Error::Graph`] if the graph has fewer nodes than there are seeds, or the trace would
/// be too long; [`Error::Interrupted`]; and the errors of [`Features::take`].
pub fn bench_graph(
    graph: GraphFolder,
    bench: &GraphBench,
    wrap: Option<WrapFlash>,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<GraphBenchReport, Error> {
    let GraphFolder { features, topology } = graph;
    let sampler = NeighborSampler::new(&bench.fanouts, bench.seed)?;
    let mut seeds = first_seeds(topology.nodes(), bench)?;
    let mut features = Features::new(features, bench.memory)?;
    if let Some(wrap) = wrap {
        features = features.through(wrap);
    }
    features.expect(&sampler.expected_uses(&topology, seeds.iter().map(|&seed| seed as u32)))?;
    let mut report = GraphBenchReport::default();
    let mut trace = Vec::new();
    for epoch in 0..bench.epochs {
        shuffle_epoch(&mut seeds, bench.seed, epoch);
        let (seeds, sampler, topology) = (&seeds, &sampler, &topology);
        let figures = thread::scope(|scope| {
            let (sampled, samples) = sync_channel(SAMPLED);
            scope.spawn(move || {
                for seeds in seeds.chunks(bench.batch_size) {
                    let batch = sampler.sample(topology, epoch, seeds);
                    let batch = batch.map(|batch| (held_bytes(&batch), batch.nodes));
                    // The epoch has ended early.
                    if sampled.send(batch).is_err() {
                        return;
                    }
                }
            });
            run_epoch(&mut features, samples, &mut report, &mut trace, progress)
        })?;
        report.epochs.push(figures);
    }
    let done = features.report();
    (report.rows_kept, report.cost) = (done.rows_kept, done.cost);
    compare(&features, &trace, bench.batches, &mut report);
    Ok(report)
}

/// The seed nodes of every epoch, in random order.
pub(crate) fn first_seeds(nodes: u32, bench: &GraphBench) -> Result<Vec<i64>, Error> {
    let wanted = bench.batches.saturating_mul(bench.batch_size);
    if wanted == 0 || wanted > nodes as usize {
        return Err(Error::Graph(format!(
            "{} batches of {} seeds are requested, expected 1 to {nodes} seeds in all (the number \
             of nodes); ask for fewer or smaller batches",
            bench.batches, bench.batch_size
        )));
    }
    let mut seeds: Vec<i64> = (0..i64::from(nodes)).collect();
    shuffle(&mut seeds, &mut Rng::new(bench.seed));
    seeds.truncate(wanted);
    Ok(seeds)
}

/// Puts the seed nodes in the order of an epoch.
pub(crate) fn shuffle_epoch(seeds: &mut [i64], seed: u64, epoch: u64) {
    shuffle(seeds, &mut Rng::new(seed ^ epoch.rotate_left(32)));
}

/// Bytes that a sampled batch takes, as the Python loader counts them: all numbers are
/// int64, one for a node and three for an edge (both ends and its number).
pub(crate) fn held_bytes(batch: &Subgraph) -> u64 {
    8 * batch.nodes.len() as u64 + 24 * batch.edges.len() as u64
}

/// Refuses a trace of so many rows that it would take too much memory.
pub(crate) fn within_trace(rows: usize) -> Result<(), Error> {
    match rows > MAX_TRACE {
        false => Ok(()),
        true => Err(Error::Graph(format!(
            "the batches have more than {MAX_TRACE} rows in all, which is the longest trace that \
             policies are compared on: ask for fewer batches or epochs"
        ))),
    }
}

fn shuffle(list: &mut [i64], rng: &mut Rng) {
    for last in (1..list.len()).rev() {
        list.swap(last, rng.below(last as u64 + 1) as usize);
    }
}

/// Bytes and nodes of a sampled batch.
type Sampled = Result<(u64, Vec<u32>), Error>;

fn run_epoch(
    features: &mut Features,
    samples: Receiver<Sampled>,
    report: &mut GraphBenchReport,
    trace: &mut Vec<Vec<u32>>,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<EpochFigures, Error> {
    let (before, start) = (features.report(), Instant::now());
    let (mut ahead, mut more) = (0, true);
    let mut done = trace.len() as u64;
    let mut kept_rows: usize = trace.iter().map(Vec::len).sum();
    let mut rows = Vec::new();
    loop {
        while more && (ahead == 0 || features.wants_more()) {
            let Ok(batch) = samples.recv() else {
                more = false;
                break;
            };
            let (held, nodes) = batch?;
            kept_rows += nodes.len();
            within_trace(kept_rows)?;
            trace.push(nodes.clone());
            features.announce(nodes, held)?;
            ahead += 1;
            report.max_ahead = report.max_ahead.max(ahead);
        }
        let Some(count) = features.next_rows() else {
            break;
        };
        rows.resize(count * features.file().row_len() as usize, 0);
        features.take(&mut rows)?;
        (ahead, done) = (ahead - 1, done + 1);
        // The first bytes of a row tell rows apart; a digest of all bytes would take time.
        for row in rows.chunks(features.file().row_len() as usize) {
            let head = row
                .iter()
                .take(8)
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            report.digest =
                (report.digest.rotate_left(5) ^ head).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        if !progress(done) {
            features.end();
            return Err(Error::Interrupted);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    features.end();
    let after = features.report();
    Ok(EpochFigures {
        seconds,
        wait_s: after.wait_s - before.wait_s,
        rows: after.rows - before.rows,
        rows_missed: after.rows_missed - before.rows_missed,
        reads: after.reads - before.reads,
        bytes_read: after.bytes_read - before.bytes_read,
        ..EpochFigures::default()
    })
}

/// Replays the trace with the other policies.
fn compare(features: &Features, trace: &[Vec<u32>], batches: usize, report: &mut GraphBenchReport) {
    let (rows, slots) = (features.file().rows as usize, report.rows_kept as usize);
    let epochs = &mut report.epochs;
    replay_rows(trace, rows, slots, RowPolicy::Sieve, |batch, _| {
        epochs[batch / batches].sieve_missed += 1;
    });
    replay_rows(trace, rows, slots, RowPolicy::Lru, |batch, _| {
        epochs[batch / batches].lru_missed += 1;
    });
    let mut missed = vec![Vec::new(); trace.len()];
    replay_rows(trace, rows, slots, RowPolicy::Belady, |batch, row| {
        epochs[batch / batches].belady_missed += 1;
        missed[batch].push(row);
    });
    let Some(cost) = report.cost else { return };
    for (batch, mut missed) in missed.into_iter().enumerate() {
        missed.sort_unstable();
        let places = missed.iter().map(|&row| features.file().bytes_of(row));
        let reads = sweep(places, cost.gap(), 1 << 20);
        let bytes = reads.iter().map(|read| read.end - read.start).sum();
        let seconds = cost.seconds(reads.len() as u64, bytes);
        *epochs[batch / batches].belady_s.get_or_insert(0.0) += seconds;
    }
}
