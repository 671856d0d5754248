//! Doubly linked lists of slots over one array: a slot is in one list at a time.

const NONE: u32 = u32::MAX;

/// Ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }
}

impl List {
    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }
}

/// The slots before and after each slot.
#[derive(Clone, Debug)]
pub(super) struct Links(Vec<(u32, u32)>);

impl Links {
    pub(super) fn new(slots: u32) -> Self {
        Self(vec![(NONE, NONE); slots as usize])
    }

    /// Appends a slot that is in no list.
    pub(super) fn push(&mut self, list: &mut List, slot: u32) {
        self.0[slot as usize] = (list.last, NONE);
        match list.last {
            NONE => list.first = slot,
            last => self.0[last as usize].1 = slot,
        }
        list.last = slot;
    }

    /// Removes a slot from the list that holds it.
    pub(super) fn remove(&mut self, list: &mut List, slot: u32) {
        let (before, behind) = self.0[slot as usize];
        match before {
            NONE => list.first = behind,
            before => self.0[before as usize].1 = behind,
        }
        match behind {
            NONE => list.last = before,
            behind => self.0[behind as usize].0 = before,
        }
    }
}
