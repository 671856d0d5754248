//! [`Line`]: passes operations from the state machine to the medium and completions
//! back, and waits. It does not know which operation is next or why.

use delayline_plan::{ALIGN, ExtentId, Use};

use crate::check;
use crate::state::State;
use crate::trace::{Event, EventKind};
use crate::types::{Counters, Lease, LineSetup, PartSpan, Ticket};
use crate::{Clock, Completion, LineError, Medium, Region};

/// The read-ahead engine over a medium: reads extents in the order of the known future,
/// so that they are in memory when the compute asks for them.
///
/// Drop it only together with its medium: reads into the memory may be under way.
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
    /// A line that reads from `medium` into the memory of `region`. Starts no read.
    ///
    /// # Errors
    /// [`LineError::Config`] and [`LineError::Extent`] if a figure is out of
    /// range or not aligned, an extent lies outside its file or is longer than
    /// the window, a home is outside the memory, or two homes overlap.
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

    /// Appends uses to the known future; an [`ExtentId`] stands for a use that reads.
    /// Resident extents that are loaded or already due are ignored. Reads start with the
    /// next [`Line::pump`].
    ///
    /// # Panics
    /// If the line has no such extent.
    pub fn enqueue(&mut self, uses: impl IntoIterator<Item = impl Into<Use>>) {
        for wanted in uses {
            self.state.enqueue(wanted.into());
        }
    }

    /// Number of enqueued uses of streamed extents not yet acquired, and of resident
    /// extents not yet loaded.
    pub fn ahead(&self) -> usize {
        self.state.ahead()
    }

    /// Processes completions and submits what fits. Never waits.
    ///
    /// # Errors
    /// None: a failed read is reported by the [`Line::acquire`] of its extent.
    pub fn pump(&mut self) -> Result<(), LineError> {
        // A medium may return one completion per poll.
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
    /// For a streamed extent this takes the next enqueued use of that extent and mode,
    /// and skips all uses before it: their room becomes free. If leases are outstanding,
    /// skipping also drops what was prefetched, which is read again later. An extent
    /// that is not enqueued is read on demand: that drops what was prefetched and stops
    /// prefetching until an enqueued extent is acquired or more is enqueued. Resident
    /// extents can be acquired in any order.
    ///
    /// An extent enqueued to be overwritten is not read: its memory is undefined.
    ///
    /// # Errors
    /// [`LineError::Read`] if its reads failed; it stays enqueued, and acquiring it again
    /// retries. [`LineError::WindowTooSmall`] if outstanding leases leave no room.
    /// [`LineError::BeingChanged`] if it is leased to be changed. [`LineError::Write`] if
    /// it waits for a write that failed. [`LineError::Lost`] if the medium lost an
    /// operation.
    ///
    /// # Panics
    /// If the line has no such extent.
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

    /// Takes a lease back. The next [`Line::pump`] uses its room.
    ///
    /// # Panics
    /// If the lease is of another line.
    pub fn release(&mut self, lease: Lease) {
        self.stamp();
        self.state.release(lease);
    }

    /// Takes back a lease whose bytes have changed. They are written from the next
    /// [`Line::pump`] on, in turns with reads. Until then they keep their room in the
    /// window, and the extent is not read from the medium.
    ///
    /// # Panics
    /// If the lease is of another line or has mode [`delayline_plan::Mode::Read`], or the
    /// extent reaches past the end of its file.
    pub fn write_back(&mut self, lease: Lease) {
        self.stamp();
        self.state.write_back(lease);
    }

    /// Bytes given to [`Line::write_back`] and not yet written.
    pub fn dirty(&self) -> u64 {
        self.state.dirty()
    }

    /// Waits until all that was given to [`Line::write_back`] is written. A power cut
    /// may still lose it; see [`Line::sync`].
    ///
    /// # Errors
    /// [`LineError::Write`] for the first extent that could not be written: its bytes
    /// stay in memory, and the next call that waits retries. [`LineError::Lost`] if the
    /// medium lost an operation.
    pub fn settle(&mut self) -> Result<(), LineError> {
        self.stamp();
        self.wait(None, State::is_settled)?;
        self.state.take_write_failure().map_or(Ok(()), Err)
    }

    /// Does [`Line::settle`], and waits until what was written survives a power cut.
    ///
    /// # Errors
    /// Those of [`Line::settle`]; [`LineError::Sync`] if the sync failed.
    pub fn sync(&mut self) -> Result<(), LineError> {
        self.settle()?;
        self.state.begin_sync();
        self.wait(None, State::is_synced)?;
        self.state.take_sync_failure()
    }

    /// Reads spans to positions outside the window, before all prefetching. The reads
    /// are submitted with the next [`Line::pump`] or call that waits.
    ///
    /// # Panics
    /// If a span is not aligned, outside its part or inside the window.
    pub fn fetch(&mut self, spans: &[PartSpan]) -> Ticket {
        self.check_spans(spans);
        Ticket(self.state.fetch(spans))
    }

    /// Like [`Line::fetch`] for spans that may be needed: read after all else, and only
    /// while 4 MiB or less are under way, so that other reads never wait for more. Until
    /// [`Line::promote`] or [`Line::cancel`] its bytes count neither as read nor as wasted.
    ///
    /// # Panics
    /// Like [`Line::fetch`].
    pub fn guess(&mut self, spans: &[PartSpan]) -> Ticket {
        self.check_spans(spans);
        Ticket(self.state.guess(spans))
    }

    /// Turns a guess into a fetch: its spans are needed.
    pub fn promote(&mut self, guess: &Ticket) {
        self.state.promote(guess.0);
    }

    /// Cancels a guess: reads that are not under way are not made. The caller may use
    /// its memory again once [`Line::is_settled`], and then ends it with
    /// [`Line::fetched`], whose error can be ignored.
    pub fn cancel(&mut self, guess: &Ticket) {
        self.state.cancel_guess(guess.0);
    }

    /// Whether no read into the memory of a fetch is under way or to come. Never waits.
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
                "{span:?} cannot be fetched: it must be aligned to {ALIGN}, end within the part's \
                 {part_len} bytes and lie after the window of {}",
                self.window
            );
        }
    }

    /// Waits until all the ticket's spans are in memory.
    ///
    /// # Errors
    /// [`LineError::Fetch`] if reads failed, [`LineError::Lost`] if the medium lost a
    /// read.
    pub fn fetched(&mut self, ticket: Ticket) -> Result<(), LineError> {
        self.stamp();
        self.wait(None, |state| state.fetch_ready(ticket.0))?;
        self.state.end_fetch(ticket.0)
    }

    /// Drops the whole future and waits until no operation is under way, fetches
    /// included. Leases stay valid, and loaded resident extents stay loaded. For a
    /// generation that ends early, or a plan that changes.
    ///
    /// # Errors
    /// [`LineError::Lost`] if the medium lost an operation.
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

    /// Bytes in the window of extents that are enqueued and not yet acquired.
    pub fn arrived(&self) -> u64 {
        self.state.arrived()
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        self.state.counters
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// The medium, to configure it. Only the line may submit and reap operations.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.medium
    }

    /// The medium and the region, to configure the medium while no operation is under
    /// way.
    pub fn medium_and_region(&mut self) -> (&mut M, &mut Region) {
        (&mut self.medium, self.state.region_mut())
    }

    /// Starts to collect events.
    pub fn trace_on(&mut self) {
        self.state.trace.on = true;
    }

    /// The events collected since the last time, in order of time.
    pub fn take_trace(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.state.trace.events)
    }

    /// Marks in the trace the beginning of something by the caller, such as a run.
    pub fn mark_begin(&mut self, name: &str) {
        self.stamp();
        self.state.trace.push(|| EventKind::MarkBegin(name.into()));
    }

    /// Marks its end.
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
            // Submitting also ends operations that need no retry, perhaps the last one.
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
        // Keep the medium busy during the compute that follows.
        self.pump()?;
        result
    }

    /// Submits all that fits; returns how many operations.
    fn submit(&mut self) -> usize {
        let mut count = 0;
        while let Some(op) = self.state.next_op() {
            self.medium.submit(op);
            count += 1;
        }
        count
    }

    /// Processes completions; returns how many.
    fn reap(&mut self, wait: bool) -> usize {
        self.medium.poll(wait, &mut self.done);
        self.stamp();
        let count = self.done.len();
        for completion in self.done.drain(..) {
            self.state.land(completion);
        }
        count
    }

    /// Sets the trace's time.
    fn stamp(&mut self) {
        if self.state.trace.on {
            self.state.trace.now_ns = self.clock.now_ns();
        }
    }
}
