//! A pool of frames of one length that hold whole items. Every item must be in a frame
//! while it is used; a policy decides which of the others is evicted for it. Some frames
//! can be set aside for items that may be used soon. Knows which item is in which frame;
//! no bytes, no addresses.

use crate::policy::Policy;
use crate::types::ExtentId;
use std::collections::HashSet;

/// Stands for no frame.
const NONE: u32 = u32::MAX;

/// An item that is used now, and its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Which item.
    pub item: ExtentId,
    /// The frame that holds it, or that it has to be read into.
    pub frame: u32,
    /// Whether the frame holds it.
    pub found: Presence,
}

/// Whether an item that is used was in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was in a frame.
    Held,
    /// A frame was reserved for it; whoever reserved it reads the item.
    Reserved,
    /// It was not in a frame and has to be read.
    Missing,
}

/// The frames and what is in them.
#[derive(Clone, Debug)]
pub struct FramePool<P> {
    policy: P,
    /// By item.
    frame_of: Vec<u32>,
    free: Vec<u32>,
    frames: u32,
    /// How many frames hold an item.
    held: u32,
    /// How many frames are set aside for reservations.
    spare: u32,
    /// How many frames are reserved, or cancelled and not yet given back.
    taken: u32,
    reserved: Vec<(ExtentId, u32)>,
    /// Items of the last batch.
    in_use: HashSet<ExtentId>,
}

impl<P: Policy> FramePool<P> {
    /// `frames` empty frames, for items numbered below `items`.
    ///
    /// # Panics
    /// If there are 2³² − 1 frames or more.
    pub fn new(frames: u32, items: u32, policy: P) -> Self {
        assert!(frames < NONE, "{frames} frames are too many");
        Self {
            policy,
            frame_of: vec![NONE; items as usize],
            free: (0..frames).rev().collect(),
            frames,
            held: 0,
            spare: 0,
            taken: 0,
            reserved: Vec::new(),
            in_use: HashSet::new(),
        }
    }

    /// How many frames there are.
    pub fn len(&self) -> u32 {
        self.frames
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// How many frames hold an item.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Where an item is.
    pub fn frame_of(&self, item: ExtentId) -> Option<u32> {
        let frame = self.frame_of.get(item.index()).copied()?;
        (frame != NONE).then_some(frame)
    }

    /// Whether an item is in a frame, or one is reserved for it.
    pub fn has_frame(&self, item: ExtentId) -> bool {
        self.frame_of(item).is_some() || self.position(item).is_some()
    }

    /// Whether every frame that is not set aside for reservations holds an item.
    pub fn is_full(&self) -> bool {
        self.held >= self.frames - self.spare
    }

    /// Sets aside `spare` frames for reservations from now on, and evicts items to make
    /// room; not those of the last batch.
    ///
    /// # Panics
    /// If there are fewer frames.
    pub fn leave(&mut self, spare: u32) {
        assert!(spare <= self.frames, "{spare} of {} frames", self.frames);
        self.spare = spare;
        self.make_room();
    }

    /// Reserves a frame for an item that may be used soon. `None` if it has one, or none
    /// of those set aside is free.
    pub fn reserve(&mut self, item: ExtentId) -> Option<u32> {
        if self.has_frame(item) || self.taken >= self.spare {
            return None;
        }
        let frame = self.free.pop()?;
        self.taken += 1;
        self.reserved.push((item, frame));
        Some(frame)
    }

    /// Reserves a frame that is still empty, other than those set aside, for an item to
    /// be added by [`FramePool::hold`]. `None` if the item has a frame, `taken_max`
    /// frames are reserved already, or no such frame is left.
    pub fn reserve_unused(&mut self, item: ExtentId, taken_max: u32) -> Option<u32> {
        let is_full = self.held + self.taken >= self.frames - self.spare;
        if is_full || self.taken >= taken_max || self.has_frame(item) {
            return None;
        }
        let frame = self.free.pop()?;
        self.taken += 1;
        self.reserved.push((item, frame));
        Some(frame)
    }

    /// Keeps an item that was read into its reserved frame, as if it had been used.
    /// Returns false, and frees the frame, if other items have filled all room since.
    ///
    /// # Panics
    /// If no frame is reserved for the item.
    pub fn hold(&mut self, item: ExtentId) -> bool {
        let at = self.position(item).expect("it was reserved");
        let (_, frame) = self.reserved.swap_remove(at);
        self.taken -= 1;
        if self.held >= self.room() {
            self.free.push(frame);
            return false;
        }
        self.held += 1;
        self.frame_of[item.index()] = frame;
        self.policy.keep(item);
        true
    }

    /// Cancels the reservation for an item. Its frame cannot be used until
    /// [`FramePool::give_back`].
    pub fn cancel(&mut self, item: ExtentId) {
        if let Some(at) = self.position(item) {
            self.reserved.swap_remove(at);
        }
    }

    /// Frees a frame whose reservation was cancelled, once no read into it is under way.
    pub fn give_back(&mut self, frame: u32) {
        self.taken -= 1;
        self.free.push(frame);
    }

    /// Index of the item's reservation.
    fn position(&self, item: ExtentId) -> Option<usize> {
        self.reserved.iter().position(|(of, _)| *of == item)
    }

    /// Frames that may hold an item.
    fn room(&self) -> u32 {
        self.frames - self.spare.max(self.taken)
    }

    /// Evicts items until those held fit in [`FramePool::room`].
    fn make_room(&mut self) {
        while self.held > self.room()
            && let Some(gone) = self.policy.evict(&self.in_use)
        {
            let frame = std::mem::replace(&mut self.frame_of[gone.index()], NONE);
            self.free.push(frame);
            self.held -= 1;
        }
    }

    /// A frame for an item; evicts another one if necessary.
    fn frame_for(&mut self, item: ExtentId) -> (u32, Presence) {
        if let Some(at) = self.position(item) {
            self.taken -= 1;
            self.held += 1;
            return (self.reserved.swap_remove(at).1, Presence::Reserved);
        }
        if self.held < self.room()
            && let Some(frame) = self.free.pop()
        {
            self.held += 1;
            return (frame, Presence::Missing);
        }
        let gone = self.policy.evict(&self.in_use);
        let gone = gone.expect("there are more frames than items in use");
        let frame = std::mem::replace(&mut self.frame_of[gone.index()], NONE);
        (frame, Presence::Missing)
    }

    /// Uses the items of a batch. Each gets a frame and is appended to `out` once, in
    /// the order given. Items of the batch are not evicted for one another. Returns
    /// false, and changes nothing, if it uses more items than may be held.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn visit(
        &mut self,
        batch: impl IntoIterator<Item = ExtentId>,
        out: &mut Vec<Framed>,
    ) -> bool {
        self.in_use.clear();
        let first = out.len();
        for item in batch {
            if self.in_use.insert(item) {
                let frame = self.frame_of[item.index()];
                let found = match frame {
                    NONE => Presence::Missing,
                    _ => Presence::Held,
                };
                out.push(Framed { item, frame, found });
            }
        }
        if self.in_use.len() > self.room() as usize {
            out.truncate(first);
            return false;
        }
        for framed in &out[first..] {
            self.policy.touch(framed.item);
        }
        let missing = |framed: &&mut Framed| framed.found == Presence::Missing;
        for framed in out[first..].iter_mut().filter(missing) {
            (framed.frame, framed.found) = self.frame_for(framed.item);
            self.frame_of[framed.item.index()] = framed.frame;
            self.policy.keep(framed.item);
        }
        self.make_room();
        true
    }

    /// Empties all frames and drops all reservations, after reads that failed. The
    /// policy keeps what it knows of past uses.
    pub fn clear(&mut self) {
        while self.policy.evict(&HashSet::new()).is_some() {}
        self.frame_of.fill(NONE);
        self.free = (0..self.frames).rev().collect();
        self.reserved.clear();
        (self.held, self.taken) = (0, 0);
    }
}
