//! The thread that owns the line. Announced batches pass through the look-ahead, their
//! missing rows are read in sweeps over the file, land in chunks and move to their slots,
//! and portions whose rows are all there are handed out. It is a thread, unlike in
//! inference, because training computes for up to a second between two calls, while the
//! reads that a drive takes at once last milliseconds.

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

/// A command to the thread.
pub(crate) enum Command {
    /// The next batch, with its rows in ascending order. All of them are in the file.
    Announce(Vec<BatchRow>),
    /// The oldest portion that was handed out has been copied.
    Retire,
    /// Forget the announced batches; the thread answers with [`GatherEvent::Ended`].
    End,
}

/// A message from the thread.
pub(crate) enum GatherEvent {
    /// The next rows of the first batch are in memory.
    Portion(Portion),
    /// The announced batches cannot be gathered.
    Failed(Error),
    /// All batches announced before [`Command::End`] are forgotten.
    Ended,
}

/// Rows of a batch, which stay in memory until [`Command::Retire`].
pub(crate) struct Portion {
    /// The slot of each row, and its index in the batch.
    pub rows: Vec<BatchRow>,
    /// Whether it is the last portion of the batch.
    pub is_last: bool,
    /// Number of its rows that were not in memory.
    pub missed: u64,
    /// The counters of the line so far.
    pub counters: Counters,
}

/// A portion that is announced and not handed out yet.
struct Announced {
    /// Rows of the whole batch, in ascending order.
    batch: Rc<Vec<BatchRow>>,
    /// The range of this portion in `batch`.
    part: Range<usize>,
    is_last: bool,
    missed: u64,
    /// Number of the sweep that reads its missing rows, once it is staged.
    sweep: u64,
}

impl Announced {
    fn rows(&self) -> &[BatchRow] {
        &self.batch[self.part.clone()]
    }
}

/// A read of a sweep.
struct SweepRead {
    bytes: Range<u64>,
    /// Number of missed rows in these bytes.
    rows: usize,
    ends_sweep: bool,
}

/// A chunk of the landing area that is being read.
struct Chunk {
    ticket: Ticket,
    /// Its memory position.
    at: u64,
    /// The rows in it, with their memory positions.
    rows: Vec<(MissedRow, u64)>,
    /// Number of sweeps that end with it.
    ends_sweeps: u64,
}

/// Maximum number of rows in a portion. Several portions fit into `slots`, and to plan one
/// takes less time than the drive needs for the reads that it has.
pub(crate) fn portion_rows(slots: usize) -> usize {
    (slots / 16).clamp(1, 4096)
}

/// Maximum number of rows that the first sweep of an epoch reads, for batches of `len` rows.
pub(crate) fn first_sweep(len: usize, slots: usize) -> usize {
    len.min(slots / 16)
}

/// The reads of the next sweep are enqueued when fewer than this are left of the sweep
/// before, because planning them takes a while.
const FEW_READS: usize = 1024;

/// Maximum number of missed rows that are in memory, or being read, before their batch is
/// handed out.
///
/// A quarter of the `slots` if sweeps over a file of `len` bytes then read a tenth fewer
/// bytes by sharing pages and gaps, otherwise an eighth; the other slots are for rows that
/// stay. At least the missed rows of two batches, up to half of the slots, so that one
/// batch is read while the other computes.
pub(crate) fn max_outstanding(slots: usize, len: u64, gap: u64, batch_missed: usize) -> usize {
    let near = delayline_plan::ALIGN + gap;
    let apart = len as f64 / (slots / 4).max(1) as f64;
    // The probability that a row has another one so near behind it, if rows are spread at
    // random.
    let shared = 1.0 - (-(near as f64) / apart).exp();
    let rows = if shared > 0.1 { slots / 4 } else { slots / 8 };
    rows.max((2 * batch_missed).min(slots / 2))
}

/// The state of the thread.
pub(crate) struct Gatherer<M: Medium> {
    pub line: Line<M, RealClock>,
    pub memory: Arc<Memory>,
    pub file: Arc<FeatureFile>,
    pub lookahead: Lookahead,
    pub shares: Shares,
    pub cost: Option<ReadCost>,
    pub commands: Receiver<Command>,
    pub events: Sender<GatherEvent>,
}

/// The state of an epoch.
#[derive(Default)]
struct Epoch {
    /// Portions that are not handed out. The look-ahead knows the first `known` of them,
    /// and the first `staged` of these have slots.
    portions: VecDeque<Announced>,
    known: usize,
    staged: usize,
    /// Number of portions handed out and not retired.
    out: usize,
    /// The rows of the next sweep so far.
    planned: Vec<MissedRow>,
    /// Reads that are not submitted, and their rows in the same order.
    reads: VecDeque<SweepRead>,
    awaited: VecDeque<MissedRow>,
    under_way: VecDeque<Chunk>,
    /// Memory positions of the chunks that are free.
    free_chunks: Vec<u64>,
    /// Number of sweeps begun, and of those that are over.
    sweeps: u64,
    sweeps_done: u64,
    /// Maximum number of rows in the next sweep.
    ramp: usize,
    /// Missed rows of the last whole batch, and of the current one so far.
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
    /// Runs until the channel of commands is closed.
    pub fn run(mut self) {
        let mut epoch = Epoch::new(&self.shares);
        let mut is_idle = true;
        loop {
            if is_idle {
                match self.commands.recv() {
                    Ok(command) => self.handle(&mut epoch, command),
                    Err(_) => return,
                }
            }
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.handle(&mut epoch, command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.end(&mut epoch),
                }
            }
            let advanced = self.advance(&mut epoch);
            is_idle = !matches!(advanced, Ok(true));
            if let Err(error) = advanced {
                let is_lost = matches!(error, Error::Line(LineError::Lost { .. }));
                _ = self.events.send(GatherEvent::Failed(error));
                if is_lost {
                    // The read may still write to the memory.
                    return;
                }
                self.end(&mut epoch);
                epoch.failed = true;
            }
        }
    }

    fn handle(&mut self, epoch: &mut Epoch, command: Command) {
        match command {
            // Sent before the caller received the error.
            Command::Announce(_) | Command::Retire if epoch.failed => {}
            Command::Announce(rows) => self.announce(epoch, rows),
            Command::Retire => {
                epoch.out -= 1;
                self.lookahead.retire();
            }
            Command::End => {
                self.end(epoch);
                _ = self.events.send(GatherEvent::Ended);
            }
        }
    }

    /// Cuts a batch into portions, several of which fit at once. They are consecutive in
    /// the order of rows, so that the rows of a portion share pages.
    fn announce(&mut self, epoch: &mut Epoch, batch: Vec<BatchRow>) {
        let slots = self.lookahead.slots();
        let (batch, part_len) = (Rc::new(batch), portion_rows(slots));
        epoch.ramp = epoch.ramp.max(first_sweep(batch.len(), slots));
        let mut from = 0;
        loop {
            let mut to = (from + part_len).min(batch.len());
            // All uses of a row are in one portion.
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

    /// Does a small part of the work that is possible, so that the drive does not wait for
    /// all of it. If only the oldest chunk can make progress, waits for it. Returns whether
    /// anything was done.
    fn advance(&mut self, epoch: &mut Epoch) -> Result<bool, Error> {
        self.begin_sweep(epoch);
        self.submit(epoch);
        self.line.pump()?;
        let planned = self.plan(epoch);
        self.hand_out(epoch)?;
        let chunk = epoch.under_way.front();
        let is_due = chunk.is_some_and(|chunk| !planned || self.line.is_settled(&chunk.ticket));
        if is_due && let Some(chunk) = epoch.under_way.pop_front() {
            self.land(epoch, chunk)?;
        }
        Ok(planned || is_due)
    }

    /// Adds a portion to the look-ahead, or else stages one. Known portions come first: the
    /// more batches the look-ahead knows, the better it chooses what stays.
    fn plan(&mut self, epoch: &mut Epoch) -> bool {
        let known = self.make_known(epoch);
        let is_busy = !epoch.reads.is_empty();
        if known && is_busy {
            return true;
        }
        self.stage(epoch) || known
    }

    /// Adds the next portion to the look-ahead if its tables have room.
    fn make_known(&mut self, epoch: &mut Epoch) -> bool {
        let Some(portion) = epoch.portions.get(epoch.known) else {
            return false;
        };
        let announced = self.lookahead.announced();
        let max_rows = self.shares.ahead_rows() as usize;
        if announced > 0 && announced + portion.part.len() > max_rows {
            return false;
        }
        let mut rows: Vec<u32> = portion.rows().iter().map(|&(row, _)| row).collect();
        rows.dedup();
        self.lookahead.announce(rows);
        epoch.known += 1;
        true
    }

    /// Maximum number of outstanding rows.
    fn max_outstanding(&self, epoch: &Epoch) -> usize {
        let (slots, len) = (self.lookahead.slots(), self.file.len());
        max_outstanding(slots, len, self.gap(), epoch.batch_missed)
    }

    /// Whether the next sweep has its maximum length: all rows that may be outstanding,
    /// because in a long sweep more portions share a page. The first sweeps of an epoch are
    /// short, because nothing can be computed until they are over.
    fn is_full(&self, epoch: &Epoch) -> bool {
        let max_rows = epoch.ramp.min(self.max_outstanding(epoch));
        epoch.planned.len() >= max_rows.max(1)
    }

    /// Adds a portion to the next sweep, if there is room.
    fn stage(&mut self, epoch: &mut Epoch) -> bool {
        let before = epoch.planned.len();
        if self.is_full(epoch) {
            return false;
        }
        let max_rows = self.max_outstanding(epoch);
        if !self.lookahead.stage(max_rows, &mut epoch.planned) {
            return false;
        }
        let portion = &mut epoch.portions[epoch.staged];
        portion.missed = (epoch.planned.len() - before) as u64;
        portion.sweep = epoch.sweeps + u64::from(!epoch.planned.is_empty());
        epoch.staged += 1;
        true
    }

    /// Enqueues the reads of the next sweep when few are left of the one before. A sweep
    /// that is not full begins only when few other rows are outstanding.
    fn begin_sweep(&mut self, epoch: &mut Epoch) {
        let others = self.lookahead.outstanding() - epoch.planned.len();
        let is_long = self.is_full(epoch) || others <= self.max_outstanding(epoch) / 2;
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

    /// Longest gap between two rows, in bytes, that is read rather than skipped.
    fn gap(&self) -> u64 {
        self.cost.map_or(0, |cost| cost.gap())
    }

    /// The reads for missed rows, which are in ascending order and not empty.
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

    /// Submits reads into the free chunks.
    fn submit(&mut self, epoch: &mut Epoch) {
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

    /// Waits for a chunk and copies its rows to their slots.
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

    /// Hands out the portions whose rows are all in memory, if the file is unchanged.
    fn hand_out(&mut self, epoch: &mut Epoch) -> Result<(), Error> {
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
                .rows()
                .iter()
                .map(|&(row, index)| (slot(row), index));
            _ = self.events.send(GatherEvent::Portion(Portion {
                rows: rows.collect(),
                is_last: portion.is_last,
                missed: portion.missed,
                counters: self.line.counters(),
            }));
        }
        Ok(())
    }

    /// Forgets the announced batches. Rows of completed sweeps stay in memory, unless the
    /// file has changed.
    fn end(&mut self, epoch: &mut Epoch) {
        for chunk in epoch.under_way.drain(..) {
            // These rows are discarded, so an error does not matter.
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

    /// The error of a failed read. If the file has changed, that is the cause.
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
