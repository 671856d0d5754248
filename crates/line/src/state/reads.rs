//! The medium's side of the state machine: which operation is next, and what its
//! completion changes. It does not know who waits for it, but for the one extent
//! that cannot wait.

use delayline_plan::ExtentId;

use super::{Entry, State, Way};
use crate::flights::{Landing, Piece, Target, Verdict};
use crate::trace::EventKind;
use crate::window::{Key, Load, Phase};
use crate::{Completion, Op};

impl State {
    /// The next operation to submit: what failed before, then fetches, then in
    /// turns what is to be written and the future in its order, and while the
    /// window is full the resident extents that come later in it, which need no room;
    /// guesses last.
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
        let (target, piece) = self.next_piece()?;
        self.writes.launched(target);
        let op = self.flights.launch(target, piece);
        Some(self.sent(op, target))
    }

    fn next_piece(&mut self) -> Option<(Target, Piece)> {
        if let Some((piece, number)) = self.fetches.next(self.config.read_len) {
            return Some((Target::Fetch(number), piece));
        }
        if self.writes.is_next()
            && let Some(write) = self.write_piece()
        {
            return Some(write);
        }
        let read = self.read_piece();
        read.or_else(|| self.write_piece())
            .or_else(|| self.sync_piece())
            .or_else(|| self.guess_piece())
    }

    fn guess_piece(&mut self) -> Option<(Target, Piece)> {
        let under_way = self.flights.bytes_under_way();
        let guess = self.fetches.next_guess(self.config.read_len, under_way);
        let (piece, number) = guess?;
        self.counters.bytes_guessed += u64::from(piece.len);
        Some((Target::Fetch(number), piece))
    }

    fn sync_piece(&mut self) -> Option<(Target, Piece)> {
        let part = self.writes.next_sync()?;
        let piece = Piece {
            part,
            offset: 0,
            at: 0,
            len: 0,
        };
        Some((Target::Sync(part), piece))
    }

    fn read_piece(&mut self) -> Option<(Target, Piece)> {
        let enqueued_before = self.next_resident().is_some_and(|seq| seq <= self.cursor);
        let waited_for = self.urgent && self.cursor == self.base;
        let piece = if enqueued_before && !waited_for {
            self.resident_piece()
        } else {
            self.streamed_piece().or_else(|| self.resident_piece())
        };
        piece.map(|(key, piece)| (Target::Load(key), piece))
    }

    fn streamed_piece(&mut self) -> Option<(Key, Piece)> {
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

    /// Gives the cursor's entry a place, if its first read finds room there. An
    /// extent that somebody waits for must find room as a whole, since nothing
    /// before it will be released meanwhile, and right behind the leases, or a
    /// gap would stay between them.
    fn place(&mut self, Entry { extent, mode, .. }: Entry) -> Option<Key> {
        // Until it is written, the bytes there are old.
        if self.changing[extent.index()] > 0 {
            return None;
        }
        let len = self.extents[extent.index()].len;
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
        self.changing[extent.index()] += u32::from(mode.writes());
        let key = self.loads.add(load);
        self.window.push(key);
        self.future[(self.cursor - self.base) as usize].load = Some(key);
        self.note_fill();
        Some(key)
    }

    /// The first resident extent with reads to launch: where it was enqueued.
    fn next_resident(&mut self) -> Option<u64> {
        loop {
            let &(seq, id) = self.resident_queue.front()?;
            match self.ways[id.index()] {
                Way::Queued => return Some(seq),
                Way::Loading(key) if !self.loads[key].all_issued() => return Some(seq),
                _ => self.resident_queue.pop_front(),
            };
        }
    }

    fn resident_piece(&mut self) -> Option<(Key, Piece)> {
        self.next_resident()?;
        let (_, id) = self.resident_queue[0];
        let key = if let Way::Loading(key) = self.ways[id.index()] {
            key
        } else {
            let at = self.homes[id.index()].expect("a resident extent's home");
            let len = self.extents[id.index()].len;
            let key = self.loads.add(Load::new(id, 0, 0, at, len));
            self.ways[id.index()] = Way::Loading(key);
            key
        };
        let load = &self.loads[key];
        let len = u64::from(self.config.read_len).min(load.len - load.issued);
        Some((key, self.cut(key, len)))
    }

    pub(super) fn cut(&mut self, key: Key, len: u64) -> Piece {
        let load = &mut self.loads[key];
        let extent = self.extents[load.extent.index()];
        let piece = Piece {
            part: extent.part,
            offset: extent.offset + load.issued,
            at: load.at + load.issued,
            len: len as u32,
        };
        load.issued += len;
        load.under_way += 1;
        piece
    }

    fn sent(&mut self, read: Op, target: Target) -> Op {
        match target {
            Target::Load(_) | Target::Fetch(_) => self.counters.reads += 1,
            Target::WriteBack(_) => self.counters.writes += 1,
            Target::Sync(_) => self.counters.syncs += 1,
        }
        let extent = self.extent_of(target);
        self.trace.push(|| EventKind::Submitted {
            read: read.id,
            lane: self.flights.lane_of(read.id),
            extent,
            bytes: read.buffer.len(),
        });
        read
    }

    /// Takes a completion in.
    pub(crate) fn land(&mut self, completion: Completion) {
        let landing = self.flights.land(completion, &self.part_lens);
        let extent = self.extent_of(landing.target);
        self.trace.push(|| EventKind::Completed {
            read: landing.id,
            lane: landing.lane,
            extent,
            bytes: landing.landed,
        });
        let Landing {
            target,
            settled,
            rest,
            verdict,
            ..
        } = landing;
        let landed = u64::from(landing.landed);
        if let Target::Load(_) | Target::Fetch(_) = target {
            self.counters.short_reads += u64::from(landing.short);
            self.counters.bytes_wasted += u64::from(landing.dropped);
        }
        match target {
            Target::Sync(_) => {}
            Target::WriteBack(key) => {
                let load = &mut self.loads[key];
                load.missing -= u64::from(settled);
                load.landed += landed;
                self.counters.bytes_written += landed;
            }
            Target::Fetch(number) => {
                let came = self.fetches.land(number, settled, landed);
                self.count(came);
            }
            Target::Load(key) => {
                let load = &mut self.loads[key];
                load.missing -= u64::from(settled);
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

    /// An operation is over, for good; it lacks `rest` bytes.
    fn end_op(&mut self, target: Target, rest: u32) {
        let key = match target {
            Target::Fetch(number) => return self.fetches.settle(number, rest),
            Target::WriteBack(key) => return self.end_write(key),
            Target::Sync(part) => return self.end_sync(part, None),
            Target::Load(key) => key,
        };
        let load = &mut self.loads[key];
        load.under_way -= 1;
        if load.phase == Phase::Done {
            self.window.trim(&mut self.loads);
            self.note_fill();
        } else if load.missing == 0 && self.homes[load.extent.index()].is_some() {
            let (extent, landed) = (load.extent, load.landed);
            self.counters.bytes_read += landed;
            self.ways[extent.index()] = Way::Loaded;
            self.resident_due -= 1;
            self.loads.remove(key);
        }
    }

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
