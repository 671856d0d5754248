//! A stack in memory and on a medium: the newest items are in memory; the oldest are
//! spilled when room is needed, and read back in reverse order before they are popped.
//! It does not know what is pushed.
//!
//! Items have positions that grow with each push; position `p` is byte `p mod room` of
//! the memory, and an item that would straddle the end moves up to it. So an item
//! that is read back goes where it was, and the memory always holds the positions
//! between the oldest item there and the top, at most `room` of them. Of a stack of `S`
//! bytes about `S - room` are thus written once and read once, which is the minimum.

mod machine;

use std::collections::VecDeque;

use delayline_plan::ALIGN;
use thiserror::Error;

use crate::flights::{Failure, Flights};
use crate::{Clock, Completion, Medium, MediumError, Region};

use machine::{Item, State};

/// The sizes and limits of a [`Stack`]. Positions and lengths are in bytes, multiples of
/// `plan::ALIGN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackConfig {
    /// Memory position of the first byte that it may use.
    pub at: u64,
    /// Length of the memory that it may use.
    pub room: u64,
    /// The part that items are spilled to, from its first byte on.
    pub part: u16,
    /// Maximum length of the stack: the bytes of that part that it may use.
    pub capacity: u64,
    /// Largest single read or write.
    pub op_len: u32,
    /// How often a read or a write that failed is retried.
    pub retries: u32,
}

/// A leased item: from [`Stack::push`], to be filled and returned with
/// [`Stack::filled`], or from [`Stack::pop`], whole, to be returned with
/// [`Stack::release`].
#[derive(Debug)]
#[must_use = "an item that is not given back holds its room for good"]
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

    /// Always false: every item has bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Why an item cannot be pushed or popped. The stack stays usable after each, and no
/// item is lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StackError {
    /// A figure of the configuration is out of range.
    #[error("a stack cannot work with {what} of {got}: it must be {expected}")]
    Config {
        /// Which figure.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The values allowed.
        expected: String,
    },
    /// An item is longer than the memory, has no bytes, or is not aligned.
    #[error(
        "an item of {len} bytes cannot be pushed: the length must be a multiple of {ALIGN} up to \
         {room}, not 0"
    )]
    Length {
        /// The item's bytes.
        len: u64,
        /// The memory's bytes.
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
    /// Leased items leave no room.
    #[error("items that are not given back leave no room in {room} bytes; give some back first")]
    NoRoom {
        /// The memory's bytes.
        room: u64,
    },
    /// An item could not be spilled. It stays in memory, and the next call retries.
    #[error("an item could not be spilled: part {part} at byte {offset}, tried {attempts} times")]
    Spill {
        /// Which part.
        part: u16,
        /// First byte in the part that was not written.
        offset: u64,
        /// Number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: MediumError,
    },
    /// An item could not be read back. The next call retries.
    #[error("an item could not be read back: part {part} at byte {offset}, tried {attempts} times")]
    Refill {
        /// Which part.
        part: u16,
        /// First byte in the part that was not read.
        offset: u64,
        /// Number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: MediumError,
    },
    /// The medium broke its contract: it returned from waiting without a completion.
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
/// Drop it only together with its medium: operations on the memory may be under way.
#[derive(Debug)]
pub struct Stack<M: Medium, C: Clock> {
    medium: M,
    clock: C,
    config: StackConfig,
    flights: Flights,
    items: VecDeque<Item>,
    /// Items from this index on were popped.
    top: usize,
    /// Items below this index are not in memory, and have no operation under way.
    low: usize,
    /// The last call was a pop: spilled items are read back ahead of time.
    popping: bool,
    /// The first failure, and whether it was a refill.
    failure: Option<(bool, Failure)>,
    /// Lengths of the parts up to the one in use.
    part_lens: Vec<u64>,
    done: Vec<Completion>,
    counters: StackCounters,
}

impl<M: Medium, C: Clock> Stack<M, C> {
    /// An empty stack in the memory of `region`.
    ///
    /// # Errors
    /// [`StackError::Config`] if a figure is not aligned or out of range.
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

    /// Pushes an item of `len` bytes, a multiple of `plan::ALIGN`. The caller writes its
    /// bytes to memory and then calls [`Stack::filled`]. Waits if older items have to be
    /// spilled first.
    ///
    /// # Errors
    /// [`StackError`]; nothing was pushed then.
    pub fn push(&mut self, len: u64) -> Result<StackLease, StackError> {
        let StackConfig { room, capacity, .. } = self.config;
        if len == 0 || len > room || !len.is_multiple_of(ALIGN) {
            return Err(StackError::Length { len, room });
        }
        // Leased items that were popped are where the new one would be.
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

    /// Takes back an item that the caller has filled: from now on it may be spilled.
    ///
    /// # Panics
    /// If the lease is not from [`Stack::push`] of this stack.
    pub fn filled(&mut self, lease: StackLease) {
        let item = &mut self.items[lease.index];
        assert_eq!(
            item.state,
            State::Filling,
            "an item that was not to be filled"
        );
        item.state = State::Here;
    }

    /// Pops the item on top; `None` if there is none. Waits if it has to be read back or
    /// is being spilled.
    ///
    /// # Errors
    /// [`StackError`]; the item stays on top then. [`StackError::NoRoom`] if it is
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

    /// Takes a popped item back; its room becomes free.
    ///
    /// # Panics
    /// If the lease is not from [`Stack::pop`] of this stack.
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

    /// Processes completions and submits what is due. Never waits.
    pub fn pump(&mut self) {
        self.reap(false);
        if self.submit() > 0 {
            self.reap(false);
        }
    }

    /// Number of items, without those popped.
    pub fn len(&self) -> usize {
        self.top
    }

    /// Whether there is nothing to pop.
    pub fn is_empty(&self) -> bool {
        self.top == 0
    }

    /// Bytes of all items, those popped and not given back included.
    pub fn bytes(&self) -> u64 {
        self.items.back().map_or(0, |item| item.offset + item.len)
    }

    /// The counters so far.
    pub fn counters(&self) -> StackCounters {
        self.counters
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// The medium, to configure it. Only the stack may submit and reap operations.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.medium
    }

    /// Waits until `step`, which requests what it needs, returns true.
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
