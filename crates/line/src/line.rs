//! The line: carries completions from the medium to the state machine and reads
//! back, and waits. It does not know which read is next, nor why.

use delayline_plan::{ALIGN, ExtentId, Use};

use crate::check;
use crate::state::State;
use crate::trace::{Event, EventKind};
use crate::types::{Counters, Lease, LineSetup, PartSpan, Ticket};
use crate::{Clock, Completion, LineError, Medium, Region};

/// The engine: turns plan and medium into extents that are there when the
/// compute asks.
///
/// Drop it only with its medium: reads may be under way into the memory.
#[derive(Debug)]
pub struct Line<M: Medium, C: Clock> {
    state: State,
    medium: M,
    clock: C,
    done: Vec<Completion>,
    part_lens: Vec<u64>,
    window: u64,
}

impl<M: Medium, C: Clock> Line<M, C> {
    /// A line that reads from `medium` into the memory of `region`. Reads nothing
    /// yet.
    ///
    /// # Errors
    /// [`LineError::Config`] and [`LineError::Extent`] when a figure is out of
    /// range or off alignment, an extent lies outside its file or is longer than
    /// the window, a home is outside the memory, or two overlap.
    pub fn new(medium: M, clock: C, region: Region, setup: LineSetup) -> Result<Self, LineError> {
        check::all(&setup, medium.caps(), region.len())?;
        let depth = medium.caps().depth;
        Ok(Self {
            window: setup.config.window,
            part_lens: setup.part_lens.clone(),
            state: State::new(setup, region, depth),
            medium,
            clock,
            done: Vec::with_capacity(depth),
        })
    }

    /// Appends to the known future: uses, or extents that are only read. A resident extent that is loaded, or asked
    /// for, costs nothing. Reads start with the next [`Line::pump`].
    ///
    /// # Panics
    /// When an extent is not one of those that the line was made with.
    pub fn enqueue(&mut self, uses: impl IntoIterator<Item = impl Into<Use>>) {
        for wanted in uses {
            self.state.enqueue(wanted.into());
        }
    }

    /// How much of the enqueued future is still to come: uses of streamed extents
    /// that are not acquired, and resident extents that are not loaded.
    pub fn ahead(&self) -> usize {
        self.state.ahead()
    }

    /// Takes in what has completed and submits what fits. Never waits.
    ///
    /// # Errors
    /// None at present: a read that failed is reported by the
    /// [`Line::acquire`] of its extent.
    pub fn pump(&mut self) -> Result<(), LineError> {
        // A medium may give what has completed one by one.
        while self.reap(false) > 0 {
            self.submit();
        }
        if self.submit() > 0 {
            self.reap(false);
        }
        Ok(())
    }

    /// Waits until the extent is whole and leases it.
    ///
    /// Of a streamed one, the next use of that mode in the future is taken, and all
    /// uses before that are skipped: their bytes are given back. If leases are
    /// out, skipping also drops what was prefetched, which is read again, in
    /// order. An extent that the future does not hold is read on demand: that
    /// drops what was prefetched, and prefetching rests until a enqueued extent is
    /// acquired or more is enqueued. A resident extent comes without regard to the
    /// order.
    ///
    /// An extent that was enqueued to be overwritten comes with whatever its memory
    /// held.
    ///
    /// # Errors
    /// [`LineError::Read`] when its reads failed: what was enqueued stays enqueued, and
    /// acquiring it again tries again. [`LineError::WindowTooSmall`] when the
    /// leases that are out leave no room. [`LineError::Lost`] when the medium
    /// forgot a read.
    ///
    /// # Panics
    /// When the extent is not one of those that the line was made with.
    pub fn acquire(&mut self, wanted: impl Into<Use>) -> Result<Lease, LineError> {
        self.stamp();
        let wanted = wanted.into();
        let aim = self.state.aim(wanted)?;
        let id = Some(wanted.extent);
        if let Err(error) = self.wait(id, |state| state.ready(aim)) {
            self.state.cancel(aim);
            return Err(error);
        }
        self.state.take(aim, wanted)
    }

    /// Takes a lease back; its room is used by the next [`Line::pump`].
    ///
    /// # Panics
    /// When the lease is of another line.
    pub fn release(&mut self, lease: Lease) {
        self.stamp();
        self.state.release(lease);
    }

    /// Takes a lease back whose bytes have changed: they are written, beside the
    /// reads, from the next [`Line::pump`] on. They keep their room of the window
    /// until that is done, and until then nobody reads the extent from the medium.
    ///
    /// # Panics
    /// When the lease is of another line, was taken to read alone, or the extent
    /// reaches past the end of its file.
    pub fn write_back(&mut self, lease: Lease) {
        self.stamp();
        self.state.write_back(lease);
    }

    /// Bytes that are changed and not yet written.
    pub fn dirty(&self) -> u64 {
        self.state.dirty()
    }

    /// Waits until all that was given to [`Line::write_back`] is written. It may be
    /// lost in a power cut until [`Line::sync`].
    ///
    /// # Errors
    /// [`LineError::Write`] for the first that could not be written: none of the bytes
    /// is lost, and this, or whatever waits next, tries again. [`LineError::Lost`]
    /// when the medium forgot an operation.
    pub fn settle(&mut self) -> Result<(), LineError> {
        self.stamp();
        self.wait(None, State::is_settled)?;
        self.state.take_write_failure().map_or(Ok(()), Err)
    }

    /// Settles, and waits until what was written survives a power cut.
    ///
    /// # Errors
    /// As [`Line::settle`]; [`LineError::Sync`] when the medium could not promise it.
    pub fn sync(&mut self) -> Result<(), LineError> {
        self.settle()?;
        self.state.begin_sync();
        self.wait(None, State::is_synced)?;
        self.state.take_sync_failure()
    }

    /// Reads spans to fixed places outside the window, ahead of all prefetch.
    /// They are submitted with the next [`Line::pump`] or whatever waits first.
    ///
    /// # Panics
    /// When a span is off alignment, outside its part or inside the window: the
    /// memory would not be the caller's to overwrite.
    pub fn fetch(&mut self, spans: &[PartSpan]) -> Ticket {
        self.check_spans(spans);
        Ticket(self.state.fetch(spans))
    }

    /// The same for what will perhaps be wanted: read behind all else, and only while
    /// 4 MiB or less are under way, so that what is certain never waits for more. Until
    /// [`Line::promote`] or [`Line::cancel`] its bytes count neither as read nor as wasted.
    ///
    /// # Panics
    /// As [`Line::fetch`].
    pub fn guess(&mut self, spans: &[PartSpan]) -> Ticket {
        self.check_spans(spans);
        Ticket(self.state.guess(spans))
    }

    /// A guess came true: from now on it is a fetch.
    pub fn promote(&mut self, guess: &Ticket) {
        self.state.promote(guess.0);
    }

    /// A guess was wrong: what is not under way is not read any more. Its places are
    /// the caller's again once it is settled; then it ends with [`Line::fetched`], which
    /// does not wait, and the error of which says nothing of importance.
    pub fn cancel(&mut self, guess: &Ticket) {
        self.state.cancel_guess(guess.0);
    }

    /// Whether nothing more will be written to the places of a fetch. Never waits.
    pub fn is_settled(&self, ticket: &Ticket) -> bool {
        self.state.fetch_ready(ticket.0)
    }

    fn check_spans(&self, spans: &[PartSpan]) {
        for span in spans {
            let part_len = self.part_lens[usize::from(span.part)];
            assert!(
                (span.offset | span.len | span.at).is_multiple_of(ALIGN)
                    && span.at >= self.window
                    && span.offset + span.len < part_len + ALIGN,
                "{span:?} cannot be fetched: it must be aligned to {ALIGN}, end within {part_len} \
                 and go behind the window of {}",
                self.window
            );
        }
    }

    /// Waits until all the ticket's spans are in memory.
    ///
    /// # Errors
    /// [`LineError::Fetch`] when reads failed, [`LineError::Lost`] when the
    /// medium forgot a read.
    pub fn fetched(&mut self, ticket: Ticket) -> Result<(), LineError> {
        self.stamp();
        self.wait(None, |state| state.fetch_ready(ticket.0))?;
        self.state.end_fetch(ticket.0)
    }

    /// Drops the whole future and waits for the reads under way, those of
    /// fetches included. Leases stay good, resident extents that are loaded
    /// stay loaded. For a generation that ends early or a plan that changes.
    ///
    /// # Errors
    /// [`LineError::Lost`] when the medium forgot a read.
    pub fn forget(&mut self) -> Result<(), LineError> {
        self.stamp();
        self.state.forget();
        loop {
            self.submit();
            let operations = self.state.under_way();
            if operations == 0 {
                self.state.forget_failures();
                return Ok(());
            }
            if self.reap(true) == 0 {
                return Err(LineError::Lost { operations });
            }
        }
    }

    /// How much of what is ahead lies in the window already, in bytes: what has
    /// come of extents that are enqueued and not yet acquired.
    pub fn arrived(&self) -> u64 {
        self.state.arrived()
    }

    /// What the line has done so far.
    pub fn counters(&self) -> Counters {
        self.state.counters
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// The medium, to set it up; reads are the line's to submit and to reap.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.medium
    }

    /// The medium, and what lends the memory, to set the medium up while no read
    /// is under way.
    pub fn medium_and_region(&mut self) -> (&mut M, &mut Region) {
        (&mut self.medium, self.state.region_mut())
    }

    /// Collects events from now on.
    pub fn trace_on(&mut self) {
        self.state.trace.on = true;
    }

    /// The events collected since the last time, in order of time.
    pub fn take_trace(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.state.trace.events)
    }

    /// Notes in the trace that the caller begins something, such as a run.
    pub fn mark_begin(&mut self, name: &str) {
        self.stamp();
        self.state.trace.push(|| EventKind::MarkBegin(name.into()));
    }

    /// Notes in the trace that it ended.
    pub fn mark_end(&mut self, name: &str) {
        self.stamp();
        self.state.trace.push(|| EventKind::MarkEnd(name.into()));
    }

    /// Waits until `ready`, counting the time as a stall of `extent` or a fetch.
    fn wait(
        &mut self,
        extent: Option<ExtentId>,
        ready: impl Fn(&State) -> bool,
    ) -> Result<(), LineError> {
        if ready(&self.state) {
            return Ok(());
        }
        self.pump()?;
        if ready(&self.state) {
            return Ok(());
        }
        let start_ns = self.clock.now_ns();
        self.state.trace.push(|| EventKind::StallBegin(extent));
        let result = loop {
            self.submit();
            // What needs no further attempt ends there, which may be the last
            // that was missing.
            if ready(&self.state) {
                break Ok(());
            }
            let operations = self.state.under_way();
            if operations == 0
                && let Some(error) = self.state.take_write_failure()
            {
                break Err(error);
            }
            assert!(operations > 0, "the line waits and has nothing under way");
            if self.reap(true) == 0 {
                break Err(LineError::Lost { operations });
            }
        };
        self.state.trace.push(|| EventKind::StallEnd(extent));
        self.state.counters.stalls += 1;
        self.state.counters.stall_ns += self.clock.now_ns() - start_ns;
        // The compute is about to begin: the medium should not idle meanwhile.
        self.pump()?;
        result
    }

    /// Submits all that fits; returns how many reads.
    fn submit(&mut self) -> usize {
        let mut count = 0;
        while let Some(read) = self.state.next_op() {
            self.medium.submit(read);
            count += 1;
        }
        count
    }

    /// Takes in what has completed; returns how many reads.
    fn reap(&mut self, wait: bool) -> usize {
        self.medium.poll(wait, &mut self.done);
        self.stamp();
        let count = self.done.len();
        for completion in self.done.drain(..) {
            self.state.land(completion);
        }
        count
    }

    /// Tells the trace the time.
    fn stamp(&mut self) {
        if self.state.trace.on {
            self.state.trace.now_ns = self.clock.now_ns();
        }
    }
}
