//! A pool of frames of one length, each of which holds a whole item: where every item
//! that is used has to be in memory while it is used, and a policy says which of the
//! others go for it. Knows which item is in which frame; no bytes, no addresses.

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
    pub is_hit: bool,
}

/// The frames and what is in them.
#[derive(Clone, Debug)]
pub struct FramePool<P> {
    policy: P,
    /// By item.
    frame_of: Vec<u32>,
    free: Vec<u32>,
    frames: u32,
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
        self.frames - self.free.len() as u32
    }

    /// Where an item is.
    pub fn frame_of(&self, item: ExtentId) -> Option<u32> {
        let frame = self.frame_of.get(item.index()).copied()?;
        (frame != NONE).then_some(frame)
    }

    /// Uses the items of a batch: each has a frame afterwards, and is added to `out`
    /// once, in the order in which they were named. What the batch uses is not given
    /// up for it. False, and nothing has changed, if it uses more items than there
    /// are frames.
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
                let is_hit = frame != NONE;
                out.push(Framed {
                    item,
                    frame,
                    is_hit,
                });
            }
        }
        if self.in_use.len() > self.frames as usize {
            out.truncate(first);
            return false;
        }
        for framed in &out[first..] {
            self.policy.touch(framed.item);
        }
        for framed in out[first..].iter_mut().filter(|framed| !framed.is_hit) {
            framed.frame = self.free.pop().unwrap_or_else(|| {
                let gone = self.policy.evict(&self.in_use);
                let gone = gone.expect("there are more frames than items in use");
                std::mem::replace(&mut self.frame_of[gone.index()], NONE)
            });
            self.frame_of[framed.item.index()] = framed.frame;
            self.policy.keep(framed.item);
        }
        true
    }

    /// Nothing is in any frame any more, after reads that failed. What is known of
    /// past uses is kept.
    pub fn clear(&mut self) {
        while self.policy.evict(&HashSet::new()).is_some() {}
        self.frame_of.fill(NONE);
        self.free = (0..self.frames).rev().collect();
    }
}
