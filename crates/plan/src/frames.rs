//! A pool of frames of one length, each of which holds a whole item: where every item
//! that is used has to be in memory while it is used, and a policy says which of the
//! others go for it. Some frames can be left to items that will perhaps be used soon.
//! Knows which item is in which frame; no bytes, no addresses.

use crate::policy::Policy;
use crate::types::ExtentId;
use std::collections::HashSet;

/// No frame.
const NONE: u32 = u32::MAX;

/// An item that is used now, and its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// Which item.
    pub item: ExtentId,
    /// Which frame it is in, or has to be read into.
    pub frame: u32,
    /// Whether it was there.
    pub found: Presence,
}

/// Whether an item that is used was in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was there.
    Held,
    /// A frame was reserved for it: whoever did that has it read, or has had.
    Reserved,
    /// It was not, and has to be read.
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
    /// How many of them hold an item.
    held: u32,
    /// How many are left to what is reserved.
    spare: u32,
    /// Frames that are reserved, or were and are not yet given back.
    taken: u32,
    reserved: Vec<(ExtentId, u32)>,
    in_use: HashSet<ExtentId>,
}

impl<P: Policy> FramePool<P> {
    /// So many empty frames, for items of which the last is `items - 1`.
    ///
    /// # Panics
    /// When there are 2³² − 1 frames or more.
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

    /// Whether every frame that is not left to what is reserved holds an item.
    pub fn is_full(&self) -> bool {
        self.held >= self.frames - self.spare
    }

    /// From now on so many frames are left to what is reserved. What the last batch
    /// uses is not given up for it.
    ///
    /// # Panics
    /// When there are not as many frames.
    pub fn leave(&mut self, spare: u32) {
        assert!(spare <= self.frames, "{spare} of {} frames", self.frames);
        self.spare = spare;
        self.make_room();
    }

    /// Reserves a frame for an item that will perhaps be used soon. None where it has
    /// one, or no frame is left.
    pub fn reserve(&mut self, item: ExtentId) -> Option<u32> {
        if self.has_frame(item) || self.taken >= self.spare {
            return None;
        }
        let frame = self.free.pop()?;
        self.taken += 1;
        self.reserved.push((item, frame));
        Some(frame)
    }

    /// Reserves a frame that nobody has any use for yet, beside those that are left to
    /// what is reserved, for an item that [`FramePool::hold`] will put into it. None
    /// where it has one, `most` are taken, or no such frame is there.
    pub fn reserve_unused(&mut self, item: ExtentId, most: u32) -> Option<u32> {
        let is_full = self.held + self.taken >= self.frames - self.spare;
        if is_full || self.taken >= most || self.has_frame(item) {
            return None;
        }
        let frame = self.free.pop()?;
        self.taken += 1;
        self.reserved.push((item, frame));
        Some(frame)
    }

    /// What a frame was reserved for is in it, and stays as if it had been used. False
    /// where the others have taken all the room meanwhile: its frame is free then.
    ///
    /// # Panics
    /// When none is reserved for the item.
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

    /// The item is not expected any more. Its frame is nobody's until it is given
    /// back with [`FramePool::give_back`].
    pub fn cancel(&mut self, item: ExtentId) {
        if let Some(at) = self.position(item) {
            self.reserved.swap_remove(at);
        }
    }

    /// Nothing is read any more into a frame that was reserved for an item that is not
    /// expected any more.
    pub fn give_back(&mut self, frame: u32) {
        self.taken -= 1;
        self.free.push(frame);
    }

    fn position(&self, item: ExtentId) -> Option<usize> {
        self.reserved.iter().position(|(of, _)| *of == item)
    }

    /// Frames that may hold an item.
    fn room(&self) -> u32 {
        self.frames - self.spare.max(self.taken)
    }

    /// Gives up items until as many frames are left as are to be.
    fn make_room(&mut self) {
        while self.held > self.room()
            && let Some(gone) = self.policy.evict(&self.in_use)
        {
            let frame = std::mem::replace(&mut self.frame_of[gone.index()], NONE);
            self.free.push(frame);
            self.held -= 1;
        }
    }

    /// A frame for an item, another one's if need be.
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

    /// Uses the items of a batch: each has a frame afterwards, and is added to `out`
    /// once, in the order in which they were named. What the batch uses is not given
    /// up for it. False, and nothing has changed, if it uses more items than may be
    /// held.
    ///
    /// # Panics
    /// When an item is beyond the last.
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

    /// Nothing is in any frame any more and nothing is reserved, after reads that
    /// failed. What is known of past uses is kept.
    pub fn clear(&mut self) {
        while self.policy.evict(&HashSet::new()).is_some() {}
        self.frame_of.fill(NONE);
        self.free = (0..self.frames).rev().collect();
        self.reserved.clear();
        (self.held, self.taken) = (0, 0);
    }
}
