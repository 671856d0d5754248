//! Policies for futures that are not certain: which items stay in a memory too small
//! for all. Policies are told of uses and choose victims. They do not know lengths,
//! capacities or where bytes are; [`Cache`] does, and [`replay`] runs a policy over a
//! recorded trace.
//!
//! [`Cache`]: crate::Cache
//! [`replay`]: crate::replay

mod belady;
mod first_come;
mod frequency;
mod lru;
mod next_use;
mod s3_fifo;

pub use belady::{Belady, least_read_bytes};
pub use first_come::FirstCome;
pub use frequency::Frequency;
pub use lru::Lru;
pub use next_use::NextUse;
pub use s3_fifo::S3Fifo;

use crate::types::ExtentId;
use std::collections::HashSet;

/// Decides which items stay. The caller reports each use by [`Policy::touch`]. For a
/// missing item that may stay it asks for victims until there is room, and then calls
/// [`Policy::keep`].
pub trait Policy {
    /// Records a use of the item, whether it is in memory or not.
    fn touch(&mut self, item: ExtentId);

    /// Adds the item to those that stay. Also called for a victim that stays after
    /// all, because not enough room was found.
    fn keep(&mut self, item: ExtentId);

    /// Removes and returns the item that is worth least, if it is worth less than
    /// `newcomer`; `None` if the newcomer should not displace anything. Items in
    /// `in_use` are never chosen.
    fn victim(&mut self, newcomer: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId>;

    /// Removes and returns the item that is worth least, for callers that must make
    /// room. `None` if all items are in use.
    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId>;

    /// Announces a use of the item at time `at`, counted in calls of
    /// [`Policy::touch`] since the start. Uses of an item are announced in order.
    /// Policies that do not look ahead ignore it.
    fn announce(&mut self, item: ExtentId, at: u64) {
        let _ = (item, at);
    }
}

impl Policy for Box<dyn Policy> {
    fn touch(&mut self, item: ExtentId) {
        (**self).touch(item);
    }

    fn keep(&mut self, item: ExtentId) {
        (**self).keep(item);
    }

    fn victim(&mut self, newcomer: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        (**self).victim(newcomer, in_use)
    }

    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId> {
        (**self).evict(in_use)
    }

    fn announce(&mut self, item: ExtentId, at: u64) {
        (**self).announce(item, at);
    }
}
