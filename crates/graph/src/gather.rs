//! The thread that owns the line: what is announced goes through the look-ahead, its
//! missing rows are read in sweeps over the file, arrive in chunks and move to their
//! slots; batches that are whole are told of. Whoever computes calls for a second now
//! and then, reads last milliseconds: so here, unlike in inference, a thread has
//! something to do.

use crate::budget::{CHUNKS, Shares};
use crate::{Error, FeatureFile};
use delayline_line::{Counters, Line, LineError, Medium, PartSpan, Ticket};
use delayline_medium::{Memory, RealClock};
use delayline_plan::{Lookahead, MissedRow, ReadCost, sweep};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

/// What the thread is told.
pub(crate) enum Command {
    /// A batch comes behind all others. Its rows are rows of the file.
    Announce(Vec<u32>),
    /// The first portion that was told of has been copied.
    Retire,
    /// Nothing of what was announced is wanted; told of by [`Told::Ended`].
    End,
}

/// What it tells.
pub(crate) enum Told {
    /// Rows of the first batch that were not told of yet are in memory.
    Portion(Portion),
    /// Nothing more comes of what was announced.
    Failed(Error),
    /// All announcements before [`Command::End`] are forgotten.
    Ended,
}

/// Rows of a batch that are all in memory until it is retired.
pub(crate) struct Portion {
    /// Slots, and indices in the batch.
    pub rows: Vec<(u32, u32)>,
    /// Whether the batch is whole with it.
    pub is_last: bool,
    /// Rows of it that were read.
    pub missed: u64,
    /// What the line has done so far.
    pub counters: Counters,
}

/// A portion that is announced and not told of yet.
struct Announced {
    /// Rows of the whole batch in order, and indices in it.
    batch: Rc<Vec<(u32, u32)>>,
    /// Those of this portion.
    part: Range<usize>,
    is_last: bool,
    missed: u64,
    /// The sweep that reads what it misses, once it is staged.
    sweep: u64,
}

impl Announced {
    fn wanted(&self) -> &[(u32, u32)] {
        &self.batch[self.part.clone()]
    }
}

/// A read and the rows that come with it.
struct SweepRead {
    bytes: Range<u64>,
    rows: Vec<MissedRow>,
}

/// A chunk of the landing area under way.
struct Chunk {
    ticket: Ticket,
    at: u64,
    /// Reads, and where each lands.
    reads: Vec<(SweepRead, u64)>,
    /// Whether a sweep is over when it has landed.
    ends_sweep: bool,
}

/// Rows of a portion at most, of which several fit into so many slots.
pub(crate) fn portion_rows(slots: usize) -> usize {
    (slots / 16).max(1)
}

/// How many rows that were missed may be in memory before their batches, in so many
/// `slots`: a quarter if sweeps over a file of `len` bytes then read a tenth less by sharing
/// pages and gaps, or else an eighth, and what stays is the rest. What two batches miss,
/// if half of the memory holds it, so that one is read while the other computes.
pub(crate) fn most_outstanding(slots: usize, len: u64, gap: u64, batch_missed: usize) -> usize {
    let near = delayline_plan::ALIGN + gap;
    let apart = len as f64 / (slots / 4).max(1) as f64;
    let shared = 1.0 - (-(near as f64) / apart).exp();
    let most = if shared > 0.1 { slots / 4 } else { slots / 8 };
    most.max((2 * batch_missed).min(slots / 2))
}

/// All that the thread has.
pub(crate) struct Gatherer<M: Medium> {
    pub line: Line<M, RealClock>,
    pub memory: Arc<Memory>,
    pub file: Arc<FeatureFile>,
    pub lookahead: Lookahead,
    pub shares: Shares,
    pub cost: Option<ReadCost>,
    pub commands: Receiver<Command>,
    pub told: Sender<Told>,
}

/// Where the epoch stands.
#[derive(Default)]
struct Epoch {
    /// Not told of. The look-ahead knows the first ones, of which the first are staged.
    portions: VecDeque<Announced>,
    known: usize,
    staged: usize,
    /// Told of and not retired.
    out: usize,
    reads: VecDeque<SweepRead>,
    under_way: VecDeque<Chunk>,
    free_chunks: Vec<u64>,
    /// Sweeps begun, and sweeps that are over.
    sweeps: u64,
    sweeps_done: u64,
    /// Rows that a sweep may read beyond what is outstanding.
    ramp: usize,
    /// Rows that the batch before this one missed, and this one so far.
    batch_missed: usize,
    missed_so_far: usize,
    failed: bool,
}

impl Epoch {
    fn new(shares: &Shares) -> Self {
        Self {
            free_chunks: (0..CHUNKS).map(|index| index * shares.chunk).collect(),
            ..Self::default()
        }
    }
}

impl<M: Medium> Gatherer<M> {
    /// Works until nobody can tell it anything more.
    pub fn run(mut self) {
        let mut epoch = Epoch::new(&self.shares);
        loop {
            let idle = epoch.under_way.is_empty() && epoch.reads.is_empty();
            if idle {
                match self.commands.recv() {
                    Ok(command) => self.obey(&mut epoch, command),
                    Err(_) => return,
                }
            }
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(&mut epoch, command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.end(&mut epoch),
                }
            }
            if let Err(error) = self.advance(&mut epoch) {
                let is_lost = matches!(error, Error::Line(LineError::Lost { .. }));
                _ = self.told.send(Told::Failed(error));
                if is_lost {
                    // Reads may still come into any of the memory.
                    return;
                }
                self.end(&mut epoch);
                epoch.failed = true;
            }
        }
    }

    fn obey(&mut self, epoch: &mut Epoch, command: Command) {
        match command {
            // What comes before it is known that the epoch has failed.
            Command::Announce(_) | Command::Retire if epoch.failed => {}
            Command::Announce(rows) => self.announce(epoch, &rows),
            Command::Retire => {
                epoch.out -= 1;
                self.lookahead.retire();
            }
            Command::End => {
                self.end(epoch);
                _ = self.told.send(Told::Ended);
            }
        }
    }

    /// Cuts a batch into portions of which several fit at once, by row, so that pages
    /// are shared within them.
    fn announce(&mut self, epoch: &mut Epoch, rows: &[u32]) {
        let mut batch: Vec<(u32, u32)> = rows.iter().copied().zip(0..).collect();
        batch.sort_unstable();
        let (batch, most) = (Rc::new(batch), portion_rows(self.lookahead.slots()));
        let mut from = 0;
        loop {
            let mut to = (from + most).min(batch.len());
            // All of a row is in one portion.
            while to > 0 && to < batch.len() && batch[to].0 == batch[to - 1].0 {
                to += 1;
            }
            epoch.portions.push_back(Announced {
                batch: batch.clone(),
                part: from..to,
                is_last: to == batch.len(),
                missed: 0,
                sweep: 0,
            });
            epoch.ramp = epoch.ramp.max(to - from);
            from = to;
            if from == batch.len() {
                return;
            }
        }
    }

    /// Tells the look-ahead of portions as far as its tables have room.
    fn make_known(&mut self, epoch: &mut Epoch) {
        while let Some(portion) = epoch.portions.get(epoch.known) {
            let announced = self.lookahead.announced();
            let most = self.shares.ahead_rows() as usize;
            if announced > 0 && announced + portion.part.len() > most {
                return;
            }
            let mut rows: Vec<u32> = portion.wanted().iter().map(|&(row, _)| row).collect();
            rows.dedup();
            self.lookahead.announce(rows);
            epoch.known += 1;
        }
    }

    /// Does what can be done, and waits for the oldest chunk if there is one.
    fn advance(&mut self, epoch: &mut Epoch) -> Result<(), Error> {
        self.submit(epoch)?;
        self.tell(epoch)?;
        if let Some(chunk) = epoch.under_way.pop_front() {
            self.land(epoch, chunk)?;
            self.submit(epoch)?;
            self.tell(epoch)?;
        }
        Ok(())
    }

    fn submit(&mut self, epoch: &mut Epoch) -> Result<(), Error> {
        self.stage(epoch);
        self.launch(epoch);
        Ok(self.line.pump()?)
    }

    /// Begins a sweep when the last one is under way: as many portions at once as may
    /// be, so that each page is read once for all of them. The first sweeps of an epoch
    /// are short, for nothing is there to compute with.
    fn stage(&mut self, epoch: &mut Epoch) {
        if !epoch.reads.is_empty() {
            return;
        }
        self.make_known(epoch);
        let (slots, len) = (self.lookahead.slots(), self.file.len());
        let most = most_outstanding(slots, len, self.gap(), epoch.batch_missed);
        let is_starving = epoch.out == 0 && epoch.staged == 0;
        if self.lookahead.outstanding() > most / 2 && !is_starving {
            return;
        }
        let most = most.min(self.lookahead.outstanding() + epoch.ramp);
        let (first, mut missed) = (epoch.staged, Vec::new());
        loop {
            let before = missed.len();
            if !self.lookahead.stage(most, &mut missed) {
                break;
            }
            epoch.portions[epoch.staged].missed = (missed.len() - before) as u64;
            epoch.staged += 1;
        }
        epoch.sweeps += u64::from(!missed.is_empty());
        for portion in epoch.portions.range_mut(first..epoch.staged) {
            portion.sweep = epoch.sweeps;
        }
        epoch.ramp = epoch.ramp.max(2 * missed.len());
        missed.sort_unstable();
        epoch.reads = self.reads_for(&missed).into();
    }

    fn gap(&self) -> u64 {
        self.cost.map_or(0, |cost| cost.gap())
    }

    fn reads_for(&self, missed: &[MissedRow]) -> Vec<SweepRead> {
        let places = missed.iter().map(|missed| self.file.bytes_of(missed.row));
        let mut rest = missed.iter().copied().peekable();
        let with_rows = |bytes: Range<u64>| {
            let mut rows = Vec::new();
            while let Some(next) =
                rest.next_if(|next| self.file.bytes_of(next.row).end <= bytes.end)
            {
                rows.push(next);
            }
            SweepRead { bytes, rows }
        };
        let reads = sweep(places, self.gap(), self.shares.chunk);
        reads.into_iter().map(with_rows).collect()
    }

    /// Fills free chunks with reads.
    fn launch(&mut self, epoch: &mut Epoch) {
        while !epoch.reads.is_empty()
            && let Some(at) = epoch.free_chunks.pop()
        {
            let (mut spans, mut reads) = (Vec::new(), Vec::new());
            let mut to = at;
            while let Some(read) = epoch.reads.front() {
                let len = read.bytes.end - read.bytes.start;
                if to + len > at + self.shares.chunk {
                    break;
                }
                spans.push(PartSpan {
                    part: 0,
                    offset: read.bytes.start,
                    len,
                    at: to,
                });
                reads.push((epoch.reads.pop_front().expect("seen above"), to));
                to += len;
            }
            assert!(!spans.is_empty(), "a read fits into a chunk");
            epoch.under_way.push_back(Chunk {
                ticket: self.line.fetch(&spans),
                at,
                reads,
                ends_sweep: epoch.reads.is_empty(),
            });
        }
    }

    /// Waits for a chunk and moves its rows to their slots.
    fn land(&mut self, epoch: &mut Epoch, chunk: Chunk) -> Result<(), Error> {
        self.line
            .fetched(chunk.ticket)
            .map_err(|error| self.describe(error))?;
        let mut row = vec![0; self.file.row_len() as usize];
        for (read, at) in &chunk.reads {
            for missed in &read.rows {
                let place = self.file.bytes_of(missed.row);
                self.memory
                    .copy_out(at + place.start - read.bytes.start, &mut row);
                self.memory.copy_in(self.shares.at(missed.slot), &row);
            }
        }
        epoch.free_chunks.push(chunk.at);
        epoch.sweeps_done += u64::from(chunk.ends_sweep);
        Ok(())
    }

    /// Tells of the portions that are whole. Before, the file has to be the same still.
    fn tell(&mut self, epoch: &mut Epoch) -> Result<(), Error> {
        while epoch.staged > 0 && epoch.portions[0].sweep <= epoch.sweeps_done {
            self.file.check_unchanged()?;
            let portion = epoch.portions.pop_front().expect("staged");
            (epoch.known, epoch.staged) = (epoch.known - 1, epoch.staged - 1);
            epoch.out += 1;
            epoch.missed_so_far += portion.missed as usize;
            if portion.is_last {
                epoch.batch_missed = std::mem::take(&mut epoch.missed_so_far);
            }
            let slot = |row| self.lookahead.slot_of(row).expect("staged");
            let rows = portion
                .wanted()
                .iter()
                .map(|&(row, index)| (slot(row), index));
            _ = self.told.send(Told::Portion(Portion {
                rows: rows.collect(),
                is_last: portion.is_last,
                missed: portion.missed,
                counters: self.line.counters(),
            }));
        }
        Ok(())
    }

    /// Forgets what is announced. What no completed sweep has read is not kept, and
    /// nothing of a file that has changed.
    fn end(&mut self, epoch: &mut Epoch) {
        for chunk in epoch.under_way.drain(..) {
            // What comes now is wanted by nobody.
            _ = self.line.fetched(chunk.ticket);
        }
        let whole = |portion: &&Announced| portion.sweep <= epoch.sweeps_done;
        let staged = epoch.portions.iter().take(epoch.staged);
        let whole = epoch.out + staged.take_while(whole).count();
        self.lookahead.forget(whole);
        if self.file.check_unchanged().is_err() {
            self.lookahead.clear();
        }
        *epoch = Epoch::new(&self.shares);
    }

    /// Why rows did not come: a file that is another one now explains the rest.
    fn describe(&self, error: LineError) -> Error {
        if let Err(changed) = self.file.check_unchanged() {
            return changed;
        }
        match error {
            LineError::Fetch {
                offset,
                attempts,
                source,
                ..
            } => Error::Read {
                path: self.file.path().to_owned(),
                offset,
                attempts,
                source,
            },
            other => Error::Line(other),
        }
    }
}
