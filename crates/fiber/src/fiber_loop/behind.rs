//! Owns the medium behind the loop, and leaves it undropped once it was given up.

use std::ops::{Deref, DerefMut};

/// A medium that is dropped, which waits for its reads, unless it was given up.
pub(super) struct Behind<M> {
    /// Always there until this is dropped.
    medium: Option<M>,
    given_up: bool,
}

impl<M> Behind<M> {
    pub(super) fn new(medium: M) -> Self {
        Self {
            medium: Some(medium),
            given_up: false,
        }
    }

    /// Dropping this then does not wait for what is under way. The medium and the memory
    /// that it may still write into stay as long as the process.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
    }
}

impl<M> Drop for Behind<M> {
    fn drop(&mut self) {
        if self.given_up {
            std::mem::forget(self.medium.take());
        }
    }
}

impl<M> Deref for Behind<M> {
    type Target = M;

    fn deref(&self) -> &M {
        self.medium.as_ref().expect("there until it is dropped")
    }
}

impl<M> DerefMut for Behind<M> {
    fn deref_mut(&mut self) -> &mut M {
        self.medium.as_mut().expect("there until it is dropped")
    }
}

#[cfg(test)]
mod tests {
    use super::Behind;
    use std::rc::Rc;

    #[test]
    fn what_is_given_up_is_not_waited_for() {
        for given_up in [false, true] {
            let medium = Rc::new(());
            let mut behind = Behind::new(medium.clone());
            if given_up {
                behind.give_up();
            }
            drop(behind);
            assert_eq!(Rc::strong_count(&medium), 1 + usize::from(given_up));
        }
    }
}
