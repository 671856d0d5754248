//! The medium's side of the state machine: which operation is next, and what its
//! completion changes.

use delayline_plan::ExtentId;

use super::{Entry, Presence, State};
use crate::flights::{Landing, Target, Verdict};
use crate::trace::EventKind;
use crate::types::PartSpan;
use crate::window::{Key, Load, Phase};
use crate::{Completion, Op};

impl State {
    /// The next operation to submit. Retries come first, then fetches, then writes and
    /// reads in turns, then syncs, then guesses. Reads follow the order of the future;
    /// while the window is full, resident extents that come later, which need no room.
    pub(crate) fn next_op(&mut self) -> Option<Op> {
        while let Some(target) = self.flights.next_again() {
            if self.wanted(target) {
                self.counters.retried += 1;
                let op = self.flights.retry();
                return Some(self.sent(op, target));
            }
            let rest = self.flights.abandon();
            self.end_op(target, rest);
        }
        if self.flights.full() {
            return None;
        }
        let (target, span) = self.next_span()?;
        self.writes.launched(target);
        let op = self.flights.launch(target, span);
        Some(self.sent(op, target))
    }

    fn next_span(&mut self) -> Option<(Target, PartSpan)> {
        if let Some((span, number)) = self.fetches.next(self.config.read_len) {
            return Some((Target::Fetch(number), span));
        }
        if self.writes.is_next()
            && let Some(write) = self.next_write()
        {
            return Some(write);
        }
        let read = self.next_read();
        read.or_else(|| self.next_write())
            .or_else(|| self.next_sync())
            .or_else(|| self.next_guess())
    }

    fn next_guess(&mut self) -> Option<(Target, PartSpan)> {
        let under_way = self.flights.bytes_under_way();
        let guess = self.fetches.next_guess(self.config.read_len, under_way);
        let (span, number) = guess?;
        self.counters.bytes_guessed += span.len;
        Some((Target::Fetch(number), span))
    }

    fn next_sync(&mut self) -> Option<(Target, PartSpan)> {
        let part = self.writes.next_sync()?;
        let (offset, at, len) = (0, 0, 0);
        let all = PartSpan {
            part,
            offset,
            at,
            len,
        };
        Some((Target::Sync(part), all))
    }

    fn next_read(&mut self) -> Option<(Target, PartSpan)> {
        let enqueued_before = self.next_resident().is_some_and(|seq| seq <= self.cursor);
        let waited_for = self.urgent && self.cursor == self.base;
        let read = if enqueued_before && !waited_for {
            self.next_resident_read()
        } else {
            self.next_streamed().or_else(|| self.next_resident_read())
        };
        read.map(|(key, span)| (Target::Load(key), span))
    }

    fn next_streamed(&mut self) -> Option<(Key, PartSpan)> {
        loop {
            if self.off_plan && !(self.urgent && self.cursor == self.base) {
                return None;
            }
            let entry = *self.future.get((self.cursor - self.base) as usize)?;
            let key = match entry.load {
                Some(key) => key,
                None => self.place(entry)?,
            };
            let load = &self.loads[key];
            if load.all_issued() {
                self.cursor += 1;
                continue;
            }
            let len = u64::from(self.config.read_len).min(load.len - load.issued);
            let end = load.pos + load.issued + len;
            if !self.window.reaches(&self.loads, end) {
                return None;
            }
            return Some((key, self.cut(key, len)));
        }
    }

    /// Places the cursor's entry in the window, if there is room for its first read. An
    /// extent that an acquire waits for must have room as a whole, because nothing before
    /// it will be released meanwhile, and be right after the leases, or a gap would
    /// remain between them.
    fn place(&mut self, Entry { extent, mode, .. }: Entry) -> Option<Key> {
        // Until the changes are written, the bytes on the medium are old.
        if self.passing(extent).changing > 0 {
            return None;
        }
        let len = self.extent(extent).len;
        let pos = self.window.next_pos(&self.loads, len);
        let needed = if self.urgent && self.cursor == self.base {
            if self.leased > 0 && !self.window.ends_leased(&self.loads) {
                return None;
            }
            len
        } else if !mode.reads() {
            len
        } else {
            len.min(u64::from(self.config.read_len))
        };
        if !self.window.reaches(&self.loads, pos + needed) {
            return None;
        }
        let at = self.window.memory(pos);
        let mut load = Load::new(extent, self.cursor, pos, at, len);
        load.mode = mode;
        if !mode.reads() {
            (load.issued, load.missing) = (len, 0);
        }
        self.passing(extent).changing += u32::from(mode.writes());
        let key = self.loads.add(load);
        self.window.push(key);
        self.future[(self.cursor - self.base) as usize].load = Some(key);
        self.note_fill();
        Some(key)
    }

    /// The sequence number of the first resident extent with reads to launch.
    fn next_resident(&mut self) -> Option<u64> {
        loop {
            let &(seq, id) = self.resident_queue.front()?;
            match self.resident(id) {
                Some((_, Presence::Queued)) => return Some(seq),
                Some((_, Presence::Loading(key))) if !self.loads[key].all_issued() => {
                    return Some(seq);
                }
                _ => self.resident_queue.pop_front(),
            };
        }
    }

    fn next_resident_read(&mut self) -> Option<(Key, PartSpan)> {
        self.next_resident()?;
        let (_, id) = self.resident_queue[0];
        let (at, is) = self.resident(id).expect("a resident extent");
        let key = if let Presence::Loading(key) = is {
            key
        } else {
            let len = self.extent(id).len;
            let key = self.loads.add(Load::new(id, 0, 0, at, len));
            self.set(id, Presence::Loading(key));
            key
        };
        let load = &self.loads[key];
        let len = u64::from(self.config.read_len).min(load.len - load.issued);
        Some((key, self.cut(key, len)))
    }

    /// The next `len` bytes of a load, as a span to launch.
    pub(super) fn cut(&mut self, key: Key, len: u64) -> PartSpan {
        let extent = self.extent(self.loads[key].extent);
        let load = &mut self.loads[key];
        let span = PartSpan {
            part: extent.part,
            offset: extent.offset + load.issued,
            at: load.at + load.issued,
            len,
        };
        load.issued += len;
        load.under_way += 1;
        span
    }

    /// Counts and traces an operation that is submitted.
    fn sent(&mut self, op: Op, target: Target) -> Op {
        match target {
            Target::Load(_) | Target::Fetch(_) => self.counters.reads += 1,
            Target::WriteBack(_) => self.counters.writes += 1,
            Target::Sync(_) => self.counters.syncs += 1,
        }
        let extent = self.extent_of(target);
        self.trace.push(|| EventKind::Submitted {
            read: op.id,
            lane: self.flights.lane_of(op.id),
            extent,
            bytes: op.buffer.len(),
        });
        op
    }

    /// Processes a completion.
    pub(crate) fn land(&mut self, completion: Completion) {
        let landing = self.flights.land(completion, &self.part_lens);
        let extent = self.extent_of(landing.target);
        self.trace.push(|| EventKind::Completed {
            read: landing.id,
            lane: landing.lane,
            extent,
            bytes: landing.landed as u32,
        });
        let Landing {
            target,
            settled,
            landed,
            dropped,
            rest,
            short,
            verdict,
            ..
        } = landing;
        if let Target::Load(_) | Target::Fetch(_) = target {
            self.counters.short_reads += u64::from(short);
            self.counters.bytes_wasted += dropped;
        }
        match target {
            Target::Sync(_) => {}
            Target::WriteBack(key) => {
                let load = &mut self.loads[key];
                load.missing -= settled;
                load.landed += landed;
                self.counters.bytes_written += landed;
            }
            Target::Fetch(number) => {
                let came = self.fetches.land(number, settled, landed);
                self.count(came);
            }
            Target::Load(key) => {
                let load = &mut self.loads[key];
                load.missing -= settled;
                load.landed += landed;
                if load.phase == Phase::Done {
                    self.counters.bytes_wasted += landed;
                }
            }
        }
        match verdict {
            Verdict::Again => return,
            Verdict::Landed => {}
            Verdict::Failed(failure) => match target {
                Target::Fetch(number) => self.fetches.fail(number, failure),
                Target::Sync(part) => return self.end_sync(part, Some(failure)),
                Target::Load(key) | Target::WriteBack(key) => {
                    let kept = &mut self.loads[key].failure;
                    kept.get_or_insert_with(|| Box::new(failure));
                }
            },
        }
        self.end_op(target, rest);
    }

    /// Ends an operation that will not be retried; `rest` of its bytes were not moved.
    fn end_op(&mut self, target: Target, rest: u64) {
        let key = match target {
            Target::Fetch(number) => return self.fetches.settle(number, rest),
            Target::WriteBack(key) => return self.end_write(key),
            Target::Sync(part) => return self.end_sync(part, None),
            Target::Load(key) => key,
        };
        let load = &mut self.loads[key];
        load.under_way -= 1;
        let (extent, landed) = (load.extent, load.landed);
        if load.phase == Phase::Done {
            self.window.trim(&mut self.loads);
            self.note_fill();
        } else if load.missing == 0 && self.resident(extent).is_some() {
            self.counters.bytes_read += landed;
            self.set(extent, Presence::Loaded);
            self.resident_due -= 1;
            self.loads.remove(key);
        }
    }

    /// Whether an operation is worth retrying.
    fn wanted(&self, target: Target) -> bool {
        match target {
            Target::Fetch(number) => self.fetches.wanted(number),
            Target::WriteBack(key) => self.loads[key].failure.is_none(),
            Target::Sync(_) => true,
            Target::Load(key) => {
                let load = &self.loads[key];
                load.phase != Phase::Done && load.failure.is_none()
            }
        }
    }

    fn extent_of(&self, target: Target) -> Option<ExtentId> {
        match target {
            Target::Fetch(_) | Target::Sync(_) => None,
            Target::Load(key) | Target::WriteBack(key) => Some(self.loads[key].extent),
        }
    }
}
