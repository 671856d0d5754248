//! Activations: the forward pass pushes them, the backward pass takes them in roughly
//! reverse order, each any number of times, and then removes them. The oldest are spilled,
//! only when room is needed. Does not know what they contain.

use crate::arena::ItemId;
use crate::order::{Order, Reverse};
use crate::pager::{Pager, Place};
use crate::{Error, TrainCounters};
use delayline_line::{Medium, Region};
use delayline_medium::{Memory, RealClock};
use delayline_plan::{ALIGN, Mode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The id of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationId(u32);

/// Activations in a bounded memory; those that do not fit are on a medium.
pub struct Activations<M: Medium> {
    pager: Pager<M, RealClock>,
    /// Items without an activation, by length.
    idle: BTreeMap<u64, Vec<ItemId>>,
    /// End of the part of the medium that items have been given.
    end: u64,
    capacity: u64,
    /// Bytes of all activations, and the maximum of that so far.
    live: u64,
    peak: u64,
}

impl<M: Medium> Activations<M> {
    /// No activations yet. They are spilled to part 0 of the medium, which has `capacity`
    /// bytes.
    pub fn new(medium: M, memory: (Arc<Memory>, Region), capacity: u64) -> Self {
        let order = Order::Reverse(Reverse::default());
        Self {
            pager: Pager::new((medium, RealClock::new()), memory, 0, order),
            idle: BTreeMap::new(),
            end: 0,
            capacity,
            live: 0,
            peak: 0,
        }
    }

    /// Makes a new activation of `len` bytes. Returns its id, and the memory position to
    /// write its bytes to; call [`Activations::filled`] when they are written.
    ///
    /// # Errors
    /// [`Error::Memory`] if it is longer than the memory or the medium is full, and the
    /// errors of making room. No activation is made then.
    pub fn push(&mut self, len: u64) -> Result<(ActivationId, u64), Error> {
        let len = len.max(1).next_multiple_of(ALIGN);
        if len > self.pager.len() {
            return Err(Error::Memory {
                memory: self.pager.len(),
                need: len,
                what: "one tensor of the activations",
            });
        }
        let item = self.item(len)?;
        let at = match self.pager.acquire(item, Mode::Write) {
            Ok(at) => at,
            Err(error) => {
                self.idle.entry(len).or_default().push(item);
                return Err(error);
            }
        };
        if let Order::Reverse(order) = &mut self.pager.order {
            order.made(item);
        }
        self.live += len;
        self.peak = self.peak.max(self.live);
        Ok((ActivationId(item), at))
    }

    /// Gives back a new activation whose bytes are written.
    pub fn filled(&mut self, id: ActivationId) {
        self.pager.release(id.0, Mode::Write, true);
        self.pager.pump();
    }

    /// Waits until an activation is in memory and holds it there. Returns its memory
    /// position.
    ///
    /// # Errors
    /// [`Error::Moved`], [`Error::Checksum`], [`Error::NoRoom`] or [`Error::Lost`]. Another
    /// call tries again.
    pub fn take(&mut self, id: ActivationId) -> Result<u64, Error> {
        self.pager.acquire(id.0, Mode::Read)
    }

    /// Gives back an activation that was taken. It can be taken again.
    pub fn release(&mut self, id: ActivationId) {
        self.pager.release(id.0, Mode::Read, false);
    }

    /// Removes an activation and its bytes.
    ///
    /// # Errors
    /// [`Error::Lost`].
    ///
    /// # Panics
    /// If it is held.
    pub fn remove(&mut self, id: ActivationId) -> Result<(), Error> {
        if let Order::Reverse(order) = &mut self.pager.order {
            order.gone(id.0);
        }
        self.pager.forget(id.0)?;
        let len = self.pager.item(id.0).len;
        self.live -= len;
        self.idle.entry(len).or_default().push(id.0);
        Ok(())
    }

    /// Whether an activation is being filled, or was taken and not given back.
    pub fn is_held(&self, id: ActivationId) -> bool {
        self.pager.is_held(id.0)
    }

    /// Bytes of all activations, each rounded up to whole pages.
    pub fn bytes(&self) -> u64 {
        self.live
    }

    /// The maximum of [`Activations::bytes`] so far.
    pub fn peak_bytes(&self) -> u64 {
        self.peak
    }

    /// The memory that they are in while they are held.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.pager.memory
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.pager.medium
    }

    /// The medium, to change its settings.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.pager.medium
    }

    /// The counters so far.
    pub fn counters(&self) -> TrainCounters {
        self.pager.counters
    }

    /// Handles completed operations and submits new ones. Never waits.
    pub fn pump(&mut self) {
        self.pager.pump();
    }

    /// An item of that length, with a place on the medium.
    fn item(&mut self, len: u64) -> Result<ItemId, Error> {
        if let Some(item) = self.idle.get_mut(&len).and_then(Vec::pop) {
            return Ok(item);
        }
        let offset = self.end;
        if offset + len > self.capacity {
            return Err(Error::Memory {
                memory: self.capacity,
                need: offset + len,
                what: "all activations at once on their medium",
            });
        }
        self.end += len;
        let item = self.pager.add(len, false);
        self.pager.item_mut(item).to = Place { part: 0, offset };
        Ok(item)
    }
}
