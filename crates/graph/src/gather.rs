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

/// A row, and its index in the batch.
pub(crate) type BatchRow = (u32, u32);

/// What the thread is told.
pub(crate) enum Command {
    /// A batch comes behind all others. Its rows are rows of the file, in order.
    Announce(Vec<BatchRow>),
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
    pub rows: Vec<BatchRow>,
    /// Whether the batch is whole with it.
    pub is_last: bool,
    /// Rows of it that were read.
    pub missed: u64,
    /// What the line has done so far.
    pub counters: Counters,
}

/// A portion that is announced and not told of yet.
struct Announced {
    /// Rows of the whole batch in order.
    batch: Rc<Vec<BatchRow>>,
    /// Those of this portion.
    part: Range<usize>,
    is_last: bool,
    missed: u64,
    /// The sweep that reads what it misses, once it is staged.
    sweep: u64,
}

impl Announced {
    fn wanted(&self) -> &[BatchRow] {
        &self.batch[self.part.clone()]
    }
}

/// A read of a sweep.
struct SweepRead {
    bytes: Range<u64>,
    /// How many of the rows that are awaited come with it.
    rows: usize,
    ends_sweep: bool,
}

/// A chunk of the landing area under way.
struct Chunk {
    ticket: Ticket,
    at: u64,
    /// Rows, and where each lands.
    rows: Vec<(MissedRow, u64)>,
    /// Sweeps that are over when it has landed.
    ends_sweeps: u64,
}

/// Rows of a portion at most, of which several fit into so many slots. What is done to
/// one takes less time than a drive needs for the reads that it has.
pub(crate) fn portion_rows(slots: usize) -> usize {
    (slots / 16).clamp(1, 4096)
}

/// Rows that the first sweep of an epoch may read, of batches of `len`.
pub(crate) fn first_sweep(len: usize, slots: usize) -> usize {
    len.min(slots / 16)
}

/// Reads that are left of a sweep when the next one is laid behind it, which takes a while.
const FEW_READS: usize = 1024;

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
    /// What the next sweep reads, so far.
    planned: Vec<MissedRow>,
    /// Reads of sweeps that are not under way, and their rows in the same order.
    reads: VecDeque<SweepRead>,
    awaited: VecDeque<MissedRow>,
    under_way: VecDeque<Chunk>,
    free_chunks: Vec<u64>,
    /// Sweeps begun, and sweeps that are over.
    sweeps: u64,
    sweeps_done: u64,
    /// Rows that the next sweep may read.
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
        let mut is_idle = true;
        loop {
            if is_idle {
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
            let advanced = self.advance(&mut epoch);
            is_idle = !matches!(advanced, Ok(true));
            if let Err(error) = advanced {
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
            Command::Announce(rows) => self.announce(epoch, rows),
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
    fn announce(&mut self, epoch: &mut Epoch, batch: Vec<BatchRow>) {
        let slots = self.lookahead.slots();
        let (batch, most) = (Rc::new(batch), portion_rows(slots));
        epoch.ramp = epoch.ramp.max(first_sweep(batch.len(), slots));
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
            from = to;
            if from == batch.len() {
                return;
            }
        }
    }

    /// Does a little of what can be done, so that the drive never waits for the rest, and
    /// waits for the oldest chunk where that is all; whether anything was done.
    fn advance(&mut self, epoch: &mut Epoch) -> Result<bool, Error> {
        self.begin_sweep(epoch);
        self.launch(epoch);
        self.line.pump()?;
        let planned = self.plan(epoch);
        self.tell(epoch)?;
        let chunk = epoch.under_way.front();
        let is_due = chunk.is_some_and(|chunk| !planned || self.line.is_settled(&chunk.ticket));
        if is_due && let Some(chunk) = epoch.under_way.pop_front() {
            self.land(epoch, chunk)?;
        }
        Ok(planned || is_due)
    }

    /// Makes a portion known, or else stages one: the more is known, the better is chosen
    /// what stays.
    fn plan(&mut self, epoch: &mut Epoch) -> bool {
        let known = self.make_known(epoch);
        let is_busy = !epoch.reads.is_empty();
        if known && is_busy {
            return true;
        }
        self.stage(epoch) || known
    }

    /// Tells the look-ahead of a portion if its tables have room.
    fn make_known(&mut self, epoch: &mut Epoch) -> bool {
        let Some(portion) = epoch.portions.get(epoch.known) else {
            return false;
        };
        let announced = self.lookahead.announced();
        let most = self.shares.ahead_rows() as usize;
        if announced > 0 && announced + portion.part.len() > most {
            return false;
        }
        let mut rows: Vec<u32> = portion.wanted().iter().map(|&(row, _)| row).collect();
        rows.dedup();
        self.lookahead.announce(rows);
        epoch.known += 1;
        true
    }

    /// Rows that may be outstanding.
    fn most(&self, epoch: &Epoch) -> usize {
        let (slots, len) = (self.lookahead.slots(), self.file.len());
        most_outstanding(slots, len, self.gap(), epoch.batch_missed)
    }

    /// Whether the next sweep is as long as it may be: all that may be outstanding, for the
    /// longer it is the more pages are read once for several portions. The first sweeps of
    /// an epoch are short, for nothing is there to compute with.
    fn is_full(&self, epoch: &Epoch) -> bool {
        epoch.planned.len() >= epoch.ramp.min(self.most(epoch)).max(1)
    }

    /// Stages a portion for the next sweep, if there is room.
    fn stage(&mut self, epoch: &mut Epoch) -> bool {
        let before = epoch.planned.len();
        if self.is_full(epoch) {
            return false;
        }
        let most = self.most(epoch);
        if !self.lookahead.stage(most, &mut epoch.planned) {
            return false;
        }
        let portion = &mut epoch.portions[epoch.staged];
        portion.missed = (epoch.planned.len() - before) as u64;
        portion.sweep = epoch.sweeps + u64::from(!epoch.planned.is_empty());
        epoch.staged += 1;
        true
    }

    /// Lays the reads of the next sweep behind those that are left of the one before, once
    /// these are few; a short one only when little else is outstanding.
    fn begin_sweep(&mut self, epoch: &mut Epoch) {
        let others = self.lookahead.outstanding() - epoch.planned.len();
        let is_long = self.is_full(epoch) || others <= self.most(epoch) / 2;
        if epoch.planned.is_empty() || epoch.reads.len() >= FEW_READS || !is_long {
            return;
        }
        let mut missed = std::mem::take(&mut epoch.planned);
        epoch.ramp = epoch.ramp.max(2 * missed.len());
        epoch.sweeps += 1;
        missed.sort_unstable();
        epoch.reads.extend(self.reads_for(&missed));
        epoch.awaited.extend(missed);
    }

    fn gap(&self) -> u64 {
        self.cost.map_or(0, |cost| cost.gap())
    }

    fn reads_for(&self, missed: &[MissedRow]) -> Vec<SweepRead> {
        let places = missed.iter().map(|missed| self.file.bytes_of(missed.row));
        let reads = sweep(places, self.gap(), self.shares.chunk);
        let (mut rest, last) = (missed, reads.len() - 1);
        let with_rows = |(index, bytes): (usize, Range<u64>)| {
            let within = |missed: &MissedRow| self.file.bytes_of(missed.row).end <= bytes.end;
            let rows = rest.iter().take_while(|missed| within(missed)).count();
            rest = &rest[rows..];
            SweepRead {
                bytes,
                rows,
                ends_sweep: index == last,
            }
        };
        reads.into_iter().enumerate().map(with_rows).collect()
    }

    /// Fills free chunks with reads.
    fn launch(&mut self, epoch: &mut Epoch) {
        while !epoch.reads.is_empty()
            && let Some(at) = epoch.free_chunks.pop()
        {
            let (mut spans, mut rows) = (Vec::new(), Vec::new());
            let (mut to, mut ends_sweeps) = (at, 0);
            let fits = |read: &mut SweepRead, to: u64| {
                to + (read.bytes.end - read.bytes.start) <= at + self.shares.chunk
            };
            while let Some(read) = epoch.reads.pop_front_if(|read| fits(read, to)) {
                let (offset, len) = (read.bytes.start, read.bytes.end - read.bytes.start);
                spans.push(PartSpan {
                    part: 0,
                    offset,
                    len,
                    at: to,
                });
                let place = |missed: MissedRow| {
                    (missed, to + self.file.bytes_of(missed.row).start - offset)
                };
                rows.extend(epoch.awaited.drain(..read.rows).map(place));
                ends_sweeps += u64::from(read.ends_sweep);
                to += len;
            }
            assert!(!spans.is_empty(), "a read fits into a chunk");
            epoch.under_way.push_back(Chunk {
                ticket: self.line.fetch(&spans),
                at,
                rows,
                ends_sweeps,
            });
        }
    }

    /// Waits for a chunk and moves its rows to their slots.
    fn land(&mut self, epoch: &mut Epoch, chunk: Chunk) -> Result<(), Error> {
        self.line
            .fetched(chunk.ticket)
            .map_err(|error| self.describe(error))?;
        let mut row = vec![0; self.file.row_len() as usize];
        for (missed, at) in &chunk.rows {
            self.memory.copy_out(*at, &mut row);
            self.memory.copy_in(self.shares.at(missed.slot), &row);
        }
        epoch.free_chunks.push(chunk.at);
        epoch.sweeps_done += chunk.ends_sweeps;
        Ok(())
    }

    /// Tells of the portions that are whole. Before, the file has to be the same still.
    fn tell(&mut self, epoch: &mut Epoch) -> Result<(), Error> {
        while epoch.staged > 0 && epoch.portions[0].sweep <= epoch.sweeps_done {
            self.line.pump()?;
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
