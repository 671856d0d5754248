//! Which items are in memory, and which operation is next: takes completions and returns
//! operations. It does not wait.

use super::{Stack, StackError};
use crate::flights::{Landing, Target, Verdict};
use crate::types::PartSpan;
use crate::{Clock, Completion, Medium, Op};

/// Where the bytes of an item are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In memory, being filled by the caller.
    Filling,
    /// Only in memory.
    Here,
    /// In memory, being written.
    Leaving,
    /// In memory and on the medium.
    Both,
    /// Only on the medium.
    Away,
    /// On the medium, being read.
    Coming,
    /// In memory, leased by a pop.
    Leased,
    /// Popped and given back, below an item that is not.
    Gone,
}

/// One item.
#[derive(Debug)]
pub(super) struct Item {
    pub pos: u64,
    /// First byte in the part.
    pub offset: u64,
    pub len: u64,
    pub state: State,
    /// Bytes, from the start, for which operations have been launched.
    issued: u64,
    /// Bytes for which none has completed.
    missing: u64,
    under_way: u32,
    failed: bool,
}

impl Item {
    pub(super) fn new(pos: u64, offset: u64, len: u64) -> Self {
        Self {
            pos,
            offset,
            len,
            state: State::Filling,
            issued: 0,
            missing: len,
            under_way: 0,
            failed: false,
        }
    }

    fn end(&self) -> u64 {
        self.pos + self.len
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        (self.issued, self.missing, self.failed) = (0, self.len, false);
    }
}

impl<M: Medium, C: Clock> Stack<M, C> {
    /// Position of the next item, of `len` bytes.
    pub(super) fn after_top(&self, len: u64) -> u64 {
        let head = self.items.back().map_or(0, Item::end);
        let room = self.config.room;
        if head % room + len <= room {
            head
        } else {
            head.next_multiple_of(room)
        }
    }

    /// Memory position of stack position `pos`.
    pub(super) fn memory(&self, pos: u64) -> u64 {
        self.config.at + pos % self.config.room
    }

    /// Whether positions up to `end` can be used without overwriting an item; if not,
    /// starts to spill what is in the way.
    pub(super) fn make_room(&mut self, end: u64) -> Result<bool, StackError> {
        let room = self.config.room;
        while let Some(item) = self.items.get_mut(self.low)
            && item.pos + room < end
        {
            match item.state {
                State::Both => item.state = State::Away,
                State::Here => {
                    item.begin(State::Leaving);
                    self.spill_below(end);
                    return Ok(false);
                }
                State::Leaving => {
                    self.spill_below(end);
                    return Ok(false);
                }
                // A refill still under way.
                State::Coming => return Ok(false),
                State::Away => {}
                State::Filling | State::Leased | State::Gone => {
                    return Err(StackError::NoRoom { room });
                }
            }
            self.low += 1;
        }
        Ok(true)
    }

    /// Starts to spill all items in the way of `end`.
    fn spill_below(&mut self, end: u64) {
        let room = self.config.room;
        let items = self.items.iter_mut().skip(self.low);
        for item in items.take_while(|item| item.pos + room < end) {
            if item.state == State::Here {
                item.begin(State::Leaving);
            }
        }
    }

    /// Whether an item is whole in memory with nothing under way; if not, requests it.
    pub(super) fn bring(&mut self, index: usize) -> Result<bool, StackError> {
        let item = &mut self.items[index];
        match item.state {
            State::Here | State::Both => Ok(true),
            // Writes that were not launched are not needed.
            State::Leaving if item.under_way == 0 => {
                item.state = State::Here;
                Ok(true)
            }
            State::Leaving => {
                item.issued = item.len;
                Ok(false)
            }
            State::Coming => Ok(false),
            // A refill that failed: its memory is still reserved.
            State::Away if index >= self.low => {
                item.begin(State::Coming);
                Ok(false)
            }
            State::Away => {
                self.refill();
                if self.low > index {
                    let room = self.config.room;
                    return Err(StackError::NoRoom { room });
                }
                Ok(false)
            }
            State::Filling | State::Leased | State::Gone => {
                unreachable!("an item below the top is none of these")
            }
        }
    }

    /// Requests spilled items, the newest first, as far as there is room.
    fn refill(&mut self) {
        let top = self.items.back().map_or(0, Item::end);
        while let Some(index) = self.low.checked_sub(1) {
            let item = &mut self.items[index];
            if item.pos + self.config.room < top {
                break;
            }
            item.begin(State::Coming);
            self.low = index;
        }
    }

    pub(super) fn next_op(&mut self) -> Option<Op> {
        if let Some(target) = self.flights.next_again() {
            if self.items[index(target)].failed {
                self.flights.abandon();
                self.end(target);
                return self.next_op();
            }
            return Some(self.flights.retry());
        }
        if self.flights.full() {
            return None;
        }
        if self.popping {
            self.refill();
        }
        let (target, span) = self.next_span()?;
        Some(self.flights.launch(target, span))
    }

    /// Reads are launched first, for the newest items first; writes for the oldest first.
    fn next_span(&mut self) -> Option<(Target, PartSpan)> {
        let unlaunched =
            |item: &Item, state| item.state == state && item.issued < item.len && !item.failed;
        let range = self.low..self.items.len();
        let coming = |at: &usize| unlaunched(&self.items[*at], State::Coming);
        let leaving = |at: &usize| unlaunched(&self.items[*at], State::Leaving);
        let (at, target) = match range.clone().rev().find(coming) {
            Some(at) => (at, Target::Load(at as u32)),
            None => {
                let at = range.clone().find(leaving)?;
                (at, Target::WriteBack(at as u32))
            }
        };
        let start = self.memory(self.items[at].pos);
        let item = &mut self.items[at];
        let len = u64::from(self.config.op_len).min(item.len - item.issued);
        let span = PartSpan {
            part: self.config.part,
            offset: item.offset + item.issued,
            at: start + item.issued,
            len,
        };
        item.issued += len;
        item.under_way += 1;
        Some((target, span))
    }

    pub(super) fn land(&mut self, completion: Completion) {
        let Landing {
            target,
            settled,
            landed,
            verdict,
            ..
        } = self.flights.land(completion, &self.part_lens);
        match target {
            Target::Load(_) => self.counters.bytes_refilled += landed,
            _ => self.counters.bytes_spilled += landed,
        }
        let item = &mut self.items[index(target)];
        item.missing -= settled;
        match verdict {
            Verdict::Again => return,
            Verdict::Landed => {}
            Verdict::Failed(failure) => {
                item.failed = true;
                let refill = matches!(target, Target::Load(_));
                self.failure.get_or_insert((refill, failure));
            }
        }
        self.end(target);
    }

    /// Ends an operation that will not be retried.
    fn end(&mut self, target: Target) {
        let item = &mut self.items[index(target)];
        item.under_way -= 1;
        if item.under_way > 0 || (item.issued < item.len && !item.failed) {
            return;
        }
        item.state = match (item.state, item.missing) {
            (State::Leaving | State::Coming, 0) => State::Both,
            (State::Leaving, _) => State::Here,
            (State::Coming, _) => State::Away,
            (state, _) => state,
        };
    }

    /// The failure, if there is one; the next call retries.
    pub(super) fn take_failure(&mut self) -> Option<StackError> {
        let (refill, failure) = self.failure.take()?;
        let (part, offset, attempts) = (failure.part, failure.offset, failure.attempts);
        let source = failure.source;
        Some(if refill {
            StackError::Refill {
                part,
                offset,
                attempts,
                source,
            }
        } else {
            StackError::Spill {
                part,
                offset,
                attempts,
                source,
            }
        })
    }
}

fn index(target: Target) -> usize {
    match target {
        Target::Load(key) | Target::WriteBack(key) => key as usize,
        Target::Fetch(_) | Target::Sync(_) => unreachable!("a stack neither fetches nor syncs"),
    }
}
