//! Traces of the rows that batches use, and which of them the loader misses. The replay has
//! the loader's look-ahead, division of memory and rule for sweeps, but neither a drive nor
//! training: the rows of a sweep are used up while the next one is read.

use crate::bench::{first_seeds, held_bytes, shuffle_epoch, within_trace};
use crate::budget::{Shares, row_ahead_bytes};
use crate::gather::{first_sweep, max_outstanding, portion_rows};
use crate::{Error, GraphBench, GraphFolder, NeighborSampler};
use delayline_medium::Rng;
use delayline_plan::{ExpectedUse, Lookahead, ReadCost};
use std::collections::VecDeque;

/// Bytes that the loader holds for a sampled row, edges included, if there is no graph to
/// count them.
const HELD_PER_ROW: u64 = 48;

/// Maximum number of rows of a drawn trace.
const MAX_ROWS: u32 = 1_000_000_000;

/// Maximum bytes of a row, as in a file of features.
const MAX_ROW_LEN: u64 = 8 << 24;

/// A random trace: each draw is independent, and the probability of the n-th most popular
/// row is proportional to 1 / n^`skew`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceShape {
    /// Rows of the file, at most a billion.
    pub rows: u32,
    /// Bytes of a row.
    pub row_len: u64,
    /// Number of batches.
    pub batches: u32,
    /// Draws in a batch. A row that is drawn twice is in the batch once.
    pub draws: u32,
    /// The exponent of the popularity; 0 if all rows are equally popular.
    pub skew: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// Of the last portion of a batch: the batch's rows and held bytes.
type BatchEnd = Option<(u64, u64)>;

/// The rows that a sequence of batches uses.
#[derive(Clone, Debug, Default)]
pub struct RowTrace {
    /// Rows of the file.
    pub rows: u64,
    /// Bytes of a row.
    pub row_len: u64,
    /// Rows of each batch, each once.
    pub batches: Vec<Vec<u32>>,
    /// Bytes that the loader holds for each batch until it is taken.
    held: Vec<u64>,
    /// How often each row is expected to be used, in any unit.
    expected: Vec<f32>,
}

impl RowTrace {
    /// The batches that `bench` samples from a graph. `progress` is called with the number
    /// of batches sampled, and returns false to stop.
    ///
    /// # Errors
    /// [`Error::Graph`] if the graph has fewer nodes than there are seeds, or the trace
    /// would be too long; [`Error::Interrupted`].
    pub fn sampled(
        graph: &GraphFolder,
        bench: &GraphBench,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self, Error> {
        let GraphFolder { features, topology } = graph;
        let sampler = NeighborSampler::new(&bench.fanouts, bench.seed)?;
        let mut seeds = first_seeds(topology.nodes(), bench)?;
        let mut trace = Self {
            rows: features.rows,
            row_len: features.row_len(),
            expected: sampler.expected_uses(topology, seeds.iter().map(|&seed| seed as u32)),
            ..Self::default()
        };
        let mut rows = 0;
        for epoch in 0..bench.epochs {
            shuffle_epoch(&mut seeds, bench.seed, epoch);
            for seeds in seeds.chunks(bench.batch_size) {
                let batch = sampler.sample(topology, epoch, seeds)?;
                rows += batch.nodes.len();
                within_trace(rows)?;
                trace.held.push(held_bytes(&batch));
                trace.batches.push(batch.nodes);
                if !progress(trace.batches.len() as u64) {
                    return Err(Error::Interrupted);
                }
            }
        }
        Ok(trace)
    }

    /// A random trace.
    ///
    /// # Errors
    /// [`Error::Graph`] if the trace would be too long, or the shape has no rows or too many
    /// or too long ones.
    pub fn drawn(shape: &TraceShape) -> Result<Self, Error> {
        within_trace(shape.batches as usize * shape.draws as usize)?;
        if !(1..=MAX_ROWS).contains(&shape.rows) || !(1..=MAX_ROW_LEN).contains(&shape.row_len) {
            return Err(Error::Graph(format!(
                "a trace of {} rows of {} bytes, expected 1 row to {MAX_ROWS} of 1 byte to \
                 {MAX_ROW_LEN}",
                shape.rows, shape.row_len
            )));
        }
        let rows = u64::from(shape.rows);
        // Spreads popular rows over the file. The factor is a prime greater than the number
        // of rows, so each row has one rank.
        let row_of = |rank: u64| (rank * 4_294_967_291 % rows) as u32;
        let mut expected = vec![0.0; rows as usize];
        for rank in 0..rows {
            expected[row_of(rank) as usize] = ((rank + 1) as f64).powf(-shape.skew) as f32;
        }
        let mut rng = Rng::new(shape.seed);
        let mut draw = || {
            const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
            let drawn = (rng.next_u64() >> 11) as f64 * UNIT;
            // The inverse of the cumulative distribution, integrated from 1 to `end`.
            let (end, power) = ((rows + 1) as f64, 1.0 - shape.skew);
            let place = match power.abs() < 1e-6 {
                true => end.powf(drawn),
                false => (1.0 + drawn * (end.powf(power) - 1.0)).powf(1.0 / power),
            };
            row_of((place as u64).clamp(1, rows) - 1)
        };
        let mut batch = || {
            let mut batch: Vec<u32> = (0..shape.draws).map(|_| draw()).collect();
            batch.sort_unstable();
            batch.dedup();
            batch
        };
        let batches: Vec<Vec<u32>> = (0..shape.batches).map(|_| batch()).collect();
        Ok(Self {
            rows,
            row_len: shape.row_len,
            held: batches
                .iter()
                .map(|b| HELD_PER_ROW * b.len() as u64)
                .collect(),
            batches,
            expected,
        })
    }

    /// Number of rows that fit into `memory` bytes.
    ///
    /// # Errors
    /// [`Error::Budget`] if the memory is too small.
    pub fn rows_kept(&self, memory: u64) -> Result<u32, Error> {
        Ok(Shares::new(memory, self.row_len, self.rows, true)?.slots)
    }

    /// Replays the trace with `memory` bytes, on a drive with that cost of a read. Calls
    /// `swept` with the rows that each sweep reads, in ascending order.
    ///
    /// # Errors
    /// [`Error::Budget`] if the memory is too small.
    pub fn ahead(
        &self,
        memory: u64,
        cost: &ReadCost,
        mut swept: impl FnMut(&[u32]),
    ) -> Result<(), Error> {
        let shares = Shares::new(memory, self.row_len, self.rows, true)?;
        let (room, expected) = (
            shares.ahead_rows(),
            ExpectedUse::from_figures(&self.expected),
        );
        let mut lookahead = Lookahead::new(shares.slots, room as usize, expected);
        let slots = shares.slots as usize;
        let part = portion_rows(slots);
        let file_len = self.rows * self.row_len;
        let mut coming = self.batches.iter().zip(&self.held).peekable();
        // Rows and held bytes of the announced batches.
        let (mut rows, mut held) = (0, 0);
        // Their portions: those that the look-ahead does not know yet, and those it knows.
        let mut unknown: VecDeque<(Vec<u32>, BatchEnd)> = VecDeque::new();
        let mut known: VecDeque<BatchEnd> = VecDeque::new();
        let (mut under_way, mut ramp) = (0, 0);
        let (mut batch_missed, mut missed_so_far) = (0, 0);
        loop {
            while let Some((batch, bytes)) = coming.next_if(|(batch, bytes)| {
                let (rows, held) = (rows + batch.len() as u64, held + **bytes);
                let is_none = unknown.is_empty() && known.is_empty();
                is_none || rows <= room && held + rows * row_ahead_bytes() <= shares.ahead
            }) {
                (rows, held) = (rows + batch.len() as u64, held + bytes);
                let mut sorted = batch.clone();
                sorted.sort_unstable();
                let parts = sorted.chunks(part).map(|part| (part.to_vec(), None));
                unknown.extend(parts);
                if let Some(last) = unknown.back_mut() {
                    last.1 = Some((batch.len() as u64, *bytes));
                }
                ramp = ramp.max(first_sweep(sorted.len(), slots));
            }
            while let Some((part, _)) = unknown.front()
                && (known.is_empty() || lookahead.announced() + part.len() <= room as usize)
            {
                let (part, ends) = unknown.pop_front().expect("seen above");
                lookahead.announce(part);
                known.push_back(ends);
            }
            if known.is_empty() {
                return Ok(());
            }
            let max_rows = max_outstanding(slots, file_len, cost.gap(), batch_missed);
            let (mut missed, mut staged) = (Vec::new(), 0);
            if under_way == 0 || lookahead.outstanding() <= max_rows / 2 {
                let max_rows = max_rows.min(lookahead.outstanding() + ramp);
                loop {
                    let before = missed.len();
                    if !lookahead.stage(max_rows, &mut missed) {
                        break;
                    }
                    missed_so_far += missed.len() - before;
                    if known[under_way + staged].is_some() {
                        batch_missed = std::mem::take(&mut missed_so_far);
                    }
                    staged += 1;
                }
            }
            if !missed.is_empty() {
                ramp = ramp.max(2 * missed.len());
                let mut missed: Vec<u32> = missed.iter().map(|missed| missed.row).collect();
                missed.sort_unstable();
                swept(&missed);
            }
            for _ in 0..under_way {
                lookahead.retire();
                if let Some((batch, bytes)) = known.pop_front().expect("under way") {
                    (rows, held) = (rows - batch, held - bytes);
                }
            }
            under_way = staged;
        }
    }
}
