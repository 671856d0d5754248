//! Activations: pushed by the forward pass, taken by the backward pass in about reverse
//! order, each as often as it is wanted, and then dropped. The oldest are spilled, and
//! only when room is wanted. It does not know what they are.

use crate::arena::ItemId;
use crate::order::{Order, Reverse};
use crate::pager::{Pager, Place};
use crate::{Error, TrainCounters};
use delayline_line::{Medium, Region};
use delayline_medium::{Memory, RealClock};
use delayline_plan::{ALIGN, Mode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationId(u32);

/// Activations in a bounded memory, the rest on a medium.
pub struct Activations<M: Medium> {
    pager: Pager<M, RealClock>,
    /// Items that are not in use, by length.
    idle: BTreeMap<u64, Vec<ItemId>>,
    /// First byte of the part that was never used.
    end: u64,
    capacity: u64,
    live: u64,
    /// Most bytes that were live at once.
    most: u64,
}

impl<M: Medium> Activations<M> {
    /// None yet. They are spilled to part 0 of the medium, of `capacity` bytes.
    pub fn new(medium: M, memory: (Arc<Memory>, Region), capacity: u64) -> Self {
        let order = Order::Reverse(Reverse::default());
        Self {
            pager: Pager::new((medium, RealClock::new()), memory, 0, order),
            idle: BTreeMap::new(),
            end: 0,
            capacity,
            live: 0,
            most: 0,
        }
    }

    /// A new one of `len` bytes on top of all others: where its bytes are to be put.
    /// [`Activations::release`] says that they are there.
    ///
    /// # Errors
    /// [`Error`]; there is none then.
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
        self.most = self.most.max(self.live);
        Ok((ActivationId(item), at))
    }

    /// The bytes of a new one are there.
    pub fn filled(&mut self, id: ActivationId) {
        self.pager.release(id.0, Mode::Write, true);
        self.pager.pump();
    }

    /// Waits until one is in memory, and holds it there; says where.
    ///
    /// # Errors
    /// [`Error`]; asking again tries again.
    pub fn take(&mut self, id: ActivationId) -> Result<u64, Error> {
        self.pager.acquire(id.0, Mode::Read)
    }

    /// Gives back one that was taken; it can be taken again.
    pub fn release(&mut self, id: ActivationId) {
        self.pager.release(id.0, Mode::Read, false);
    }

    /// Nobody will take it again. Its bytes are gone.
    ///
    /// # Errors
    /// [`Error::Lost`].
    ///
    /// # Panics
    /// When it is held.
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

    /// Whether it is held.
    pub fn is_held(&self, id: ActivationId) -> bool {
        self.pager.is_held(id.0)
    }

    /// Bytes of those that are not removed.
    pub fn bytes(&self) -> u64 {
        self.live
    }

    /// Most bytes that there were at once.
    pub fn most_bytes(&self) -> u64 {
        self.most
    }

    /// The memory that they pass through.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.pager.memory
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.pager.medium
    }

    /// The medium, to set it up.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.pager.medium
    }

    /// What was done so far.
    pub fn counters(&self) -> TrainCounters {
        self.pager.counters
    }

    /// Takes in what has completed and submits what is wanted. Never waits.
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
