//! Which rows batches want, one after the other, and what the loader would miss of them:
//! its own look-ahead and its own division of the memory, without a drive. Nobody computes,
//! so what a sweep has read is used up while the next one is read.

use crate::bench::{first_seeds, held_bytes, shuffle_epoch, within_trace};
use crate::budget::{Shares, row_ahead_bytes};
use crate::gather::{first_sweep, most_outstanding, portion_rows};
use crate::{Error, GraphBench, GraphFolder, NeighborSampler};
use delayline_medium::Rng;
use delayline_plan::{ExpectedUse, Lookahead, ReadCost};
use std::collections::VecDeque;

/// Bytes that are held for a sampled row, edges included, where no graph tells them.
const HELD_A_ROW: u64 = 48;

/// A trace that is drawn: the n-th most popular row is wanted in proportion to
/// 1 / n^`skew`, each time anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceShape {
    /// Rows of the file.
    pub rows: u32,
    /// Bytes of a row.
    pub row_len: u64,
    /// Batches.
    pub batches: u32,
    /// Draws of a batch; a row that is drawn twice is in it once.
    pub draws: u32,
    /// How unequal rows are; 0 for all equal.
    pub skew: f64,
    /// What is drawn depends on this alone.
    pub seed: u64,
}

/// Rows and held bytes of the batch that a portion ends, if it ends one.
type Ends = Option<(u64, u64)>;

/// The rows that batches want.
#[derive(Clone, Debug, Default)]
pub struct RowTrace {
    /// Rows of the file.
    pub rows: u64,
    /// Bytes of a row.
    pub row_len: u64,
    /// Rows of each batch, each once.
    pub batches: Vec<Vec<u32>>,
    /// Bytes that are held for each batch until it is handed out.
    held: Vec<u64>,
    /// How often each row is expected to be used, but for a factor.
    expected: Vec<f32>,
}

impl RowTrace {
    /// What `bench` samples from a graph. `progress` is told how many batches are sampled;
    /// `false` stops.
    ///
    /// # Errors
    /// [`Error::Graph`] when the graph has fewer nodes than seeds are wanted or too many
    /// rows are, [`Error::Interrupted`].
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

    /// A trace of this shape.
    ///
    /// # Errors
    /// [`Error::Graph`] when it wants too many rows, or there are none.
    pub fn drawn(shape: &TraceShape) -> Result<Self, Error> {
        within_trace(shape.batches as usize * shape.draws as usize)?;
        const MOST: u32 = 1_000_000_000;
        if !(1..=MOST).contains(&shape.rows) || shape.row_len == 0 {
            let what = "a trace needs rows of 1 byte or more, expected 1 row to a billion";
            return Err(Error::Graph(what.into()));
        }
        let rows = u64::from(shape.rows);
        // Popular rows do not lie side by side: the factor is prime, so each is met once.
        let row_of = |rank: u64| (rank * 4_294_967_291 % rows) as u32;
        let mut expected = vec![0.0; rows as usize];
        for rank in 0..rows {
            expected[row_of(rank) as usize] = ((rank + 1) as f64).powf(-shape.skew) as f32;
        }
        let mut rng = Rng::new(shape.seed);
        let mut draw = || {
            const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
            let drawn = (rng.next_u64() >> 11) as f64 * UNIT;
            let (most, power) = ((rows + 1) as f64, 1.0 - shape.skew);
            let place = match power.abs() < 1e-6 {
                true => most.powf(drawn),
                false => (1.0 + drawn * (most.powf(power) - 1.0)).powf(1.0 / power),
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
                .map(|b| HELD_A_ROW * b.len() as u64)
                .collect(),
            batches,
            expected,
        })
    }

    /// How many rows stay in `memory` bytes.
    ///
    /// # Errors
    /// [`Error::Budget`].
    pub fn rows_kept(&self, memory: u64) -> Result<u32, Error> {
        Ok(Shares::new(memory, self.row_len, self.rows, true)?.slots)
    }

    /// Calls `swept` with the rows that each sweep of the loader reads, in order of place,
    /// with `memory` bytes and on a drive of this cost.
    ///
    /// # Errors
    /// [`Error::Budget`].
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
        // Batches that are announced: rows and bytes; of these the portions that the
        // look-ahead does not know, and those it knows, each with the batch it ends.
        let (mut coming, mut rows, mut held) =
            (self.batches.iter().zip(&self.held).peekable(), 0, 0);
        let mut unknown: VecDeque<(Vec<u32>, Ends)> = VecDeque::new();
        let mut known: VecDeque<Ends> = VecDeque::new();
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
            let most = most_outstanding(slots, file_len, cost.gap(), batch_missed);
            let (mut missed, mut staged) = (Vec::new(), 0);
            if under_way == 0 || lookahead.outstanding() <= most / 2 {
                let most = most.min(lookahead.outstanding() + ramp);
                loop {
                    let before = missed.len();
                    if !lookahead.stage(most, &mut missed) {
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
