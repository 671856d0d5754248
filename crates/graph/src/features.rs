//! The interface to the rows of a file: batches are announced, and taken in the same
//! order. The thread that reads starts with the first announcement.

use crate::budget::{Shares, row_ahead_bytes};
use crate::gather::{BatchRow, Command, GatherEvent, Gatherer, Portion};
use crate::{Error, FeatureFile, GatherReport};
use delayline_line::{Config, Line, LineSetup, Medium, Region};
use delayline_medium::{Checked, Checks, Flash, FlashOptions, Memory, RealClock, read_rates};
use delayline_plan::{ALIGN, ExpectedUse, Lookahead, ReadCost};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// Maximum number of reads at once. More gained nothing on the drives that we measured.
const DEPTH: usize = 128;

/// Maximum number of retries of a read.
const RETRIES: u32 = 3;

/// How long each of two rates is measured.
const PROBE: Duration = Duration::from_millis(30);

/// How often each rate is measured. The highest counts, because other users of the drive
/// can only lower it.
const PROBES: usize = 3;

/// Makes a medium around that of the file, for example a faulty one in tests.
pub type WrapFlash = Box<dyn FnOnce(Flash, Arc<Memory>) -> Box<dyn Medium> + Send>;

/// The rows of a file, gathered batch by batch within a bounded memory.
pub struct Features {
    file: Arc<FeatureFile>,
    memory: u64,
    /// The process that opened it. A fork of it does not have the thread.
    process: u32,
    expected: Option<ExpectedUse>,
    wrap: Option<WrapFlash>,
    running: Option<Running>,
    /// Of each announced batch: its rows, and the bytes that the caller holds for it.
    ahead: VecDeque<(usize, u64)>,
    /// When the first of the announced batches was announced.
    since: Option<Instant>,
    report: GatherReport,
}

/// The thread, and what is shared with it.
struct Running {
    memory: Arc<Memory>,
    shares: Shares,
    commands: Sender<Command>,
    events: Receiver<GatherEvent>,
    thread: Option<JoinHandle<()>>,
}

impl Features {
    /// The rows of `file`, within `memory` bytes for resident rows, arriving reads and the
    /// tables for batches ahead.
    ///
    /// # Errors
    /// [`Error::Budget`] if the memory is too small.
    pub fn new(file: FeatureFile, memory: u64) -> Result<Self, Error> {
        Shares::new(memory, file.row_len(), file.rows, false)?;
        Ok(Self {
            file: Arc::new(file),
            memory,
            process: std::process::id(),
            expected: None,
            wrap: None,
            running: None,
            ahead: VecDeque::new(),
            since: None,
            report: GatherReport::default(),
        })
    }

    /// The same, read through the medium that `wrap` makes.
    pub fn through(mut self, wrap: WrapFlash) -> Self {
        self.wrap = Some(wrap);
        self
    }

    /// Sets how often each row is expected to be used, in any unit, one number for each
    /// row. Of the rows that no announced batch uses, those with the largest numbers stay.
    /// Without these numbers, uses are counted. It has no effect after the first
    /// announcement, or if the memory has no room for the numbers.
    ///
    /// # Errors
    /// [`Error::Graph`] if the list does not have one number for each row.
    pub fn expect(&mut self, figures: &[f32]) -> Result<(), Error> {
        if figures.len() as u64 != self.file.rows {
            return Err(Error::Graph(format!(
                "expected uses of {} rows are given, but the features have {}",
                figures.len(),
                self.file.rows
            )));
        }
        // One byte for each row is kept.
        if Shares::new(self.memory, self.file.row_len(), self.file.rows, true).is_ok() {
            self.expected = Some(ExpectedUse::from_figures(figures));
        }
        Ok(())
    }

    /// The file of the rows.
    pub fn file(&self) -> &FeatureFile {
        &self.file
    }

    /// Announces the next batch and starts to read its rows. `held` is the number of bytes
    /// that the caller holds for the batch until it is taken; they count as memory for
    /// batches ahead.
    ///
    /// # Errors
    /// [`Error::NoSuchRow`], [`Error::Forked`], [`Error::Stopped`], and the errors of
    /// starting the thread.
    pub fn announce(&mut self, rows: Vec<u32>, held: u64) -> Result<(), Error> {
        self.check_process()?;
        let all = self.file.rows;
        if let Some(&row) = rows.iter().find(|row| u64::from(**row) >= all) {
            return Err(Error::NoSuchRow {
                row: i64::from(row),
                rows: all,
            });
        }
        if self.running.is_none() {
            self.running = Some(self.start()?);
        }
        let running = self.running.as_ref().expect("started");
        self.ahead.push_back((rows.len(), held));
        self.since.get_or_insert_with(Instant::now);
        let mut batch: Vec<BatchRow> = rows.into_iter().zip(0..).collect();
        batch.sort_unstable();
        let sent = running.commands.send(Command::Announce(batch));
        sent.map_err(|_| Error::Stopped)
    }

    /// Whether there is room to announce one more batch of average size. True if none is
    /// announced.
    pub fn wants_more(&self) -> bool {
        let Some(running) = &self.running else {
            return self.ahead.is_empty();
        };
        let (count, rows, held) = self.ahead.iter().fold((0, 0, 0), |sum, (rows, held)| {
            (sum.0 + 1, sum.1 + *rows as u64, sum.2 + held)
        });
        if count == 0 {
            return true;
        }
        let one_more = |sum: u64| sum + sum / count;
        one_more(rows) <= running.shares.ahead_rows()
            && one_more(held + rows * row_ahead_bytes()) <= running.shares.ahead
    }

    /// Number of rows of the batch that is taken next; `None` if none is announced.
    pub fn next_rows(&self) -> Option<usize> {
        self.ahead.front().map(|(rows, _)| *rows)
    }

    /// Waits for the first announced batch and copies its rows to `out`, consecutively and
    /// in the order in which they were announced.
    ///
    /// # Errors
    /// [`Error::Buffer`] if `out` has another length than the batch, and
    /// [`Error::NothingAhead`]. After any other error the epoch is over: nothing is
    /// announced any more, and the content of `out` is undefined.
    pub fn take(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.check_process()?;
        let rows = self.next_rows().ok_or(Error::NothingAhead)?;
        let row_len = self.file.row_len() as usize;
        if out.len() != rows * row_len {
            return Err(Error::Buffer {
                have: out.len(),
                need: rows * row_len,
            });
        }
        let result = self.fill(out);
        match &result {
            Ok(()) => {
                self.ahead.pop_front();
                self.report.batches += 1;
                self.report.rows += rows as u64;
                self.count_time(!self.ahead.is_empty());
            }
            Err(_) => self.end(),
        }
        result
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let running = self.running.as_ref().ok_or(Error::NothingAhead)?;
        loop {
            let since = Instant::now();
            let event = running.events.recv().map_err(|_| Error::Stopped)?;
            self.report.wait_s += since.elapsed().as_secs_f64();
            let portion = match event {
                GatherEvent::Portion(portion) => portion,
                GatherEvent::Failed(error) => return Err(error),
                GatherEvent::Ended => return Err(Error::NothingAhead),
            };
            running.copy(&portion, self.file.row_len() as usize, out);
            _ = running.commands.send(Command::Retire);
            self.report.rows_missed += portion.missed;
            self.report.reads = portion.counters.reads;
            self.report.bytes_read = portion.counters.bytes_read;
            self.report.retried = portion.counters.retried;
            if portion.is_last {
                return Ok(());
            }
        }
    }

    /// Ends an epoch and forgets the batches that are announced.
    pub fn end(&mut self) {
        self.ahead.clear();
        self.count_time(false);
        if self.check_process().is_err() {
            return;
        }
        let Some(running) = &self.running else { return };
        if running.commands.send(Command::End).is_ok() {
            while let Ok(event) = running.events.recv() {
                if matches!(event, GatherEvent::Ended) {
                    return;
                }
            }
        }
        // The thread has stopped. The next announcement returns the error.
    }

    /// Gathers rows without announcing them ahead, for callers that do not know what comes
    /// next.
    ///
    /// # Errors
    /// As [`Features::announce`] and [`Features::take`]; [`Error::Busy`] while batches
    /// are announced.
    pub fn gather(&mut self, rows: Vec<u32>, out: &mut [u8]) -> Result<(), Error> {
        if !self.ahead.is_empty() {
            return Err(Error::Busy);
        }
        self.announce(rows, 0)?;
        self.take(out)
    }

    /// The figures since the features were opened.
    pub fn report(&self) -> GatherReport {
        self.report
    }

    /// Adds the time since `since` to the time of epochs. If batches are `left`, the next
    /// interval begins now.
    fn count_time(&mut self, left: bool) {
        if let Some(since) = self.since.take() {
            self.report.elapsed_s += since.elapsed().as_secs_f64();
            self.since = left.then(Instant::now);
        }
    }

    fn check_process(&self) -> Result<(), Error> {
        match std::process::id() {
            here if here == self.process => Ok(()),
            here => Err(Error::Forked {
                opened: self.process,
                here,
            }),
        }
    }

    fn start(&mut self) -> Result<Running, Error> {
        let (file, is_given) = (self.file.clone(), self.expected.is_some());
        let shares = Shares::new(self.memory, file.row_len(), file.rows, is_given)?;
        let expected = match self.expected.take() {
            Some(expected) => expected,
            None if shares.counted => ExpectedUse::counted(file.rows as usize),
            None => ExpectedUse::Unknown,
        };
        let cost = measure(file.path(), file.len(), self.memory);
        self.report.cost = cost;
        (self.report.memory, self.report.rows_kept) = (self.memory, u64::from(shares.slots));
        let (memory, region) = Memory::new(shares.len())?;
        let lookahead = Lookahead::new(shares.slots, shares.ahead_rows() as usize, expected);
        let (commands, receiver) = channel();
        let (sender, events) = channel();
        let (opens, opened) = channel();
        let wrap = self.wrap.take();
        let shared = memory.clone();
        let work = move || {
            let line = match open(&file, region, &shared, &shares, wrap) {
                Ok(line) => line,
                Err(error) => return opens.send(Err(error)).unwrap_or(()),
            };
            if opens.send(Ok(())).is_err() {
                return;
            }
            let gatherer = Gatherer {
                line,
                memory: shared,
                file,
                lookahead,
                shares,
                cost,
                commands: receiver,
                events: sender,
            };
            gatherer.run();
        };
        let builder = std::thread::Builder::new().name("delayline-rows".into());
        let thread = builder
            .spawn(work)
            .map_err(|source| Error::Thread { source })?;
        opened.recv().map_err(|_| Error::Stopped)??;
        Ok(Running {
            memory,
            shares,
            commands,
            events,
            thread: Some(thread),
        })
    }
}

impl Drop for Features {
    fn drop(&mut self) {
        let is_here = self.check_process().is_ok();
        if let Some(mut running) = self.running.take() {
            let thread = running.thread.take();
            // The thread ends when the channel is closed.
            drop(running.commands);
            if let Some(thread) = thread.filter(|_| is_here) {
                _ = thread.join();
            }
        }
    }
}

impl Running {
    /// Copies the rows of a portion to their places in the batch.
    fn copy(&self, portion: &Portion, row_len: usize, out: &mut [u8]) {
        for &(slot, index) in &portion.rows {
            let to = index as usize * row_len;
            self.memory
                .copy_out(self.shares.at(slot), &mut out[to..to + row_len]);
        }
    }
}

/// The line that reads the file.
fn open(
    file: &FeatureFile,
    region: Region,
    memory: &Arc<Memory>,
    shares: &Shares,
    wrap: Option<WrapFlash>,
) -> Result<Line<Checked<Box<dyn Medium>>, RealClock>, Error> {
    let refused = |source| Error::Open {
        path: file.path().to_owned(),
        source,
    };
    let own = file.file().try_clone().map_err(refused)?;
    let options = FlashOptions {
        depth: DEPTH,
        register: std::iter::once(0..crate::budget::CHUNKS * shares.chunk).collect(),
        ..FlashOptions::default()
    };
    let files = vec![(file.path().to_owned(), own)];
    let flash = Flash::from_files(files, memory.clone(), &options)?;
    let medium: Box<dyn Medium> = match wrap {
        Some(wrap) => wrap(flash, memory.clone()),
        None => Box::new(flash),
    };
    // If the drive returns other bytes than at the first reading, the read is retried, and
    // then fails.
    let checks = shares.checked.then(|| {
        let mut checks = Checks::new(vec![file.len()], xxh3_64);
        checks.add_scattered([(0, file.bytes_of_rows())]);
        checks
    });
    let medium = Checked::new(medium, memory.clone(), checks);
    let setup = LineSetup {
        extents: Vec::new(),
        part_lens: vec![file.len()],
        homes: Vec::new(),
        config: Config {
            window: 0,
            read_len: shares.chunk as u32,
            retries: RETRIES,
        },
    };
    Ok(Line::new(medium, RealClock::new(), region, setup)?)
}

/// The cost of a read, from the rates of short and of long reads; `None` if the file is
/// too small to tell, or the drive cannot be measured.
fn measure(path: &Path, len: u64, memory: u64) -> Option<ReadCost> {
    const LONG: u32 = 64 << 10;
    let depth = (memory / 8 / u64::from(LONG)).clamp(1, 32) as usize;
    if len < 16 << 20 {
        return None;
    }
    let short = ALIGN as u32;
    let rate = |read_len: u32, depth| {
        let rates = read_rates(path, 0, &[read_len], &[depth], PROBE).ok()?;
        Some(rates.first()?.rate_bytes_per_s)
    };
    let (mut short_rate, mut long_rate) = (0.0f64, 0.0f64);
    for _ in 0..PROBES {
        short_rate = short_rate.max(rate(short, DEPTH)?);
        long_rate = long_rate.max(rate(LONG, depth)?);
    }
    let short = (u64::from(short), short_rate);
    Some(ReadCost::from_rates(short, (u64::from(LONG), long_rate)))
}
