//! A stack in memory and on a medium: what was pushed last is in memory, the oldest is
//! spilled when room is wanted, and comes back in reverse order before it is popped.
//! It does not know what is pushed.
//!
//! Items have positions that grow with each push; position `p` is byte `p mod room` of
//! the memory, and an item that would lie across the end moves up to it. So an item
//! that comes back goes where it was, and what is in memory is always the positions
//! between the oldest item there and the top, at most `room` of them. Of a stack of `S`
//! bytes about `S - room` are thus written once and read once, which is the least.

mod machine;

use std::collections::VecDeque;

use delayline_plan::ALIGN;
use thiserror::Error;

use crate::flights::{Failure, Flights};
use crate::{Clock, Completion, Medium, MediumError, Region};

use machine::{Item, State};

/// The measures of a [`Stack`]. All are multiples of `plan::ALIGN`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackConfig {
    /// Memory position of the first byte that it may use.
    pub at: u64,
    /// How many bytes of memory.
    pub room: u64,
    /// The part that items are spilled to, from its first byte on.
    pub part: u16,
    /// How many bytes of that part.
    pub capacity: u64,
    /// Largest single read or write.
    pub op_len: u32,
    /// How often a read or a write that failed is tried again.
    pub retries: u32,
}

/// An item in the caller's hands: one to be filled from [`Stack::push`], or a whole one
/// from [`Stack::pop`]. It goes back with [`Stack::filled`] or [`Stack::release`].
#[derive(Debug)]
#[must_use = "an item that is not given back holds its room for ever"]
pub struct StackLease {
    index: usize,
    at: u64,
    len: u64,
}

impl StackLease {
    /// Memory position of its first byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: there are no items without bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Why an item cannot be pushed or popped. The stack stays usable after each, and no
/// item is lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StackError {
    /// It was set up with figures that it cannot work with.
    #[error("a stack cannot work with {what} of {got}: it must be {expected}")]
    Config {
        /// Which figure.
        what: &'static str,
        /// What it was.
        got: u64,
        /// What it may be.
        expected: String,
    },
    /// An item is longer than the memory, or has no bytes.
    #[error("an item of {len} bytes cannot be pushed: 1 to {room} are possible")]
    Length {
        /// The item's bytes.
        len: u64,
        /// The memory's.
        room: u64,
    },
    /// The part that items are spilled to is full.
    #[error("the stack holds {held} of {capacity} bytes, too many for {len} more")]
    Full {
        /// Bytes on the stack.
        held: u64,
        /// Bytes that it may hold.
        capacity: u64,
        /// Bytes to be pushed.
        len: u64,
    },
    /// Items in the caller's hands leave no room.
    #[error("items that are not given back leave no room in {room} bytes; give some back first")]
    NoRoom {
        /// The memory's bytes.
        room: u64,
    },
    /// An item could not be spilled. It stays in memory, and the next call tries again.
    #[error("an item could not be spilled: part {part} at byte {offset}, tried {attempts} times")]
    Spill {
        /// Which part.
        part: u16,
        /// First byte that did not arrive.
        offset: u64,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt said.
        source: MediumError,
    },
    /// An item could not be read back. The next call tries again.
    #[error("an item could not be read back: part {part} at byte {offset}, tried {attempts} times")]
    Refill {
        /// Which part.
        part: u16,
        /// First byte that did not come.
        offset: u64,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt said.
        source: MediumError,
    },
    /// The medium broke its contract: it waited and had nothing to say.
    #[error(
        "the medium has {operations} operations under way but returned from waiting without a \
         completion; this is a bug of the medium"
    )]
    Lost {
        /// Operations submitted and not completed.
        operations: usize,
    },
}

/// What a stack has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCounters {
    /// Bytes pushed.
    pub bytes_pushed: u64,
    /// Bytes written to the medium.
    pub bytes_spilled: u64,
    /// Bytes read back.
    pub bytes_refilled: u64,
    /// Time in which [`Stack::push`] and [`Stack::pop`] waited, in nanoseconds.
    pub stall_ns: u64,
    /// How often they waited.
    pub stalls: u64,
}

/// A stack of items of any length, in a bounded memory.
///
/// Drop it only with its medium: operations may be under way.
#[derive(Debug)]
pub struct Stack<M: Medium, C: Clock> {
    medium: M,
    clock: C,
    config: StackConfig,
    flights: Flights,
    items: VecDeque<Item>,
    /// Items that were popped, or are about to be, lie from here on.
    top: usize,
    /// Items below this are not in memory, and nothing of theirs is under way.
    low: usize,
    /// The last call popped: what was spilled is wanted again.
    popping: bool,
    /// What failed first, and whether it was a refill.
    failure: Option<(bool, Failure)>,
    /// As far as the part in use: its items end within it.
    part_lens: Vec<u64>,
    done: Vec<Completion>,
    counters: StackCounters,
}

impl<M: Medium, C: Clock> Stack<M, C> {
    /// An empty stack in the memory of `region`.
    ///
    /// # Errors
    /// [`StackError::Config`] when a figure is off alignment or out of range.
    pub fn new(
        medium: M,
        clock: C,
        region: Region,
        config: StackConfig,
    ) -> Result<Self, StackError> {
        let multiple = || format!("a positive multiple of {ALIGN}");
        let op_len = u64::from(config.op_len);
        let end = config.at.saturating_add(config.room);
        let aligned = |len: u64| len > 0 && len.is_multiple_of(ALIGN);
        let figures = [
            ("memory", config.room, aligned(config.room), multiple()),
            (
                "a capacity",
                config.capacity,
                config.capacity.is_multiple_of(ALIGN),
                multiple(),
            ),
            ("an operation", op_len, aligned(op_len), multiple()),
            (
                "a start",
                config.at,
                config.at.is_multiple_of(ALIGN),
                multiple(),
            ),
            (
                "an end",
                end,
                end <= region.len(),
                format!("at most {}", region.len()),
            ),
        ];
        if let Some((what, got, _, expected)) = figures.into_iter().find(|(_, _, good, _)| !good) {
            return Err(StackError::Config {
                what,
                got,
                expected,
            });
        }
        let depth = medium.caps().depth;
        Ok(Self {
            flights: Flights::new(region, depth, config.retries),
            medium,
            clock,
            config,
            items: VecDeque::new(),
            top: 0,
            low: 0,
            popping: false,
            failure: None,
            part_lens: vec![config.capacity; usize::from(config.part) + 1],
            done: Vec::with_capacity(depth),
            counters: StackCounters::default(),
        })
    }

    /// Room for an item of `len` bytes, a multiple of `plan::ALIGN`, on top. What the
    /// memory holds there is what the caller puts in; [`Stack::filled`] says that it is
    /// done. Waits where older items have to be spilled first.
    ///
    /// # Errors
    /// [`StackError`]; nothing was pushed then.
    pub fn push(&mut self, len: u64) -> Result<StackLease, StackError> {
        let StackConfig { room, capacity, .. } = self.config;
        if len == 0 || len > room || !len.is_multiple_of(ALIGN) {
            return Err(StackError::Length { len, room });
        }
        // Items in the caller's hands that were popped lie where the new one would.
        if self.top < self.items.len() {
            return Err(StackError::NoRoom { room });
        }
        let held = self.bytes();
        if held + len > capacity {
            return Err(StackError::Full {
                held,
                capacity,
                len,
            });
        }
        self.popping = false;
        let pos = self.after_top(len);
        self.wait(|stack| stack.make_room(pos + len))?;
        let at = self.memory(pos);
        self.items.push_back(Item::new(pos, held, len));
        self.top = self.items.len();
        self.counters.bytes_pushed += len;
        let index = self.top - 1;
        Ok(StackLease { index, at, len })
    }

    /// The caller has filled an item: from now on it may be spilled.
    ///
    /// # Panics
    /// When the lease is not one of [`Stack::push`] of this stack.
    pub fn filled(&mut self, lease: StackLease) {
        let item = &mut self.items[lease.index];
        assert_eq!(
            item.state,
            State::Filling,
            "an item that was not to be filled"
        );
        item.state = State::Here;
    }

    /// The item on top, whole; `None` when there is none. Waits where it has to come
    /// back, or is being spilled.
    ///
    /// # Errors
    /// [`StackError`]; the item stays on top then. [`StackError::NoRoom`] when it is
    /// being filled.
    pub fn pop(&mut self) -> Result<Option<StackLease>, StackError> {
        let Some(index) = self.top.checked_sub(1) else {
            return Ok(None);
        };
        if self.items[index].state == State::Filling {
            return Err(StackError::NoRoom {
                room: self.config.room,
            });
        }
        self.popping = true;
        self.wait(|stack| stack.bring(index))?;
        let item = &mut self.items[index];
        item.state = State::Leased;
        let (pos, len) = (item.pos, item.len);
        self.top = index;
        let at = self.memory(pos);
        Ok(Some(StackLease { index, at, len }))
    }

    /// Takes a popped item back; its bytes are gone.
    ///
    /// # Panics
    /// When the lease is not one of [`Stack::pop`] of this stack.
    pub fn release(&mut self, lease: StackLease) {
        let item = &mut self.items[lease.index];
        assert_eq!(item.state, State::Leased, "an item that was not popped");
        item.state = State::Gone;
        while self
            .items
            .back()
            .is_some_and(|item| item.state == State::Gone)
        {
            self.items.pop_back();
        }
        self.low = self.low.min(self.items.len());
    }

    /// Takes in what has completed and submits what is wanted. Never waits.
    pub fn pump(&mut self) {
        self.reap(false);
        if self.submit() > 0 {
            self.reap(false);
        }
    }

    /// Items on it, those in the caller's hands after a pop not included.
    pub fn len(&self) -> usize {
        self.top
    }

    /// Whether there is nothing to pop.
    pub fn is_empty(&self) -> bool {
        self.top == 0
    }

    /// Bytes of the items that are not given back.
    pub fn bytes(&self) -> u64 {
        self.items.back().map_or(0, |item| item.offset + item.len)
    }

    /// What it has done so far.
    pub fn counters(&self) -> StackCounters {
        self.counters
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// The medium, to set it up; operations are the stack's to submit and to reap.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.medium
    }

    /// Waits until `step`, which asks for what it needs, says that it is done.
    fn wait(
        &mut self,
        mut step: impl FnMut(&mut Self) -> Result<bool, StackError>,
    ) -> Result<(), StackError> {
        if step(self)? {
            return Ok(());
        }
        let start_ns = self.clock.now_ns();
        let result = loop {
            self.submit();
            if let Some(error) = self.take_failure() {
                break Err(error);
            }
            match step(self) {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
            self.submit();
            let operations = self.flights.under_way();
            assert!(operations > 0, "the stack waits and has nothing under way");
            if self.reap(true) == 0 {
                break Err(StackError::Lost { operations });
            }
        };
        self.counters.stalls += 1;
        self.counters.stall_ns += self.clock.now_ns() - start_ns;
        self.submit();
        result
    }

    fn submit(&mut self) -> usize {
        let mut count = 0;
        while let Some(op) = self.next_op() {
            self.medium.submit(op);
            count += 1;
        }
        count
    }

    fn reap(&mut self, wait: bool) -> usize {
        self.medium.poll(wait, &mut self.done);
        let mut done = std::mem::take(&mut self.done);
        let count = done.len();
        for completion in done.drain(..) {
            self.land(completion);
        }
        self.done = done;
        count
    }
}
