//! Policies for futures that are not certain: which items stay in a memory that
//! is too small for all of them. Pure: they are told what is used and say whom
//! to give up. They do not know sizes, capacities or where bytes are; [`Cache`]
//! keeps those, [`replay`] runs a policy over a recorded trace.
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

/// Which items stay. Every use of an item is told by [`Policy::touch`]; an item
/// that was missing and is to stay is offered by asking for a victim, as often as
/// room is wanted, and then put in by [`Policy::keep`].
pub trait Policy {
    /// The item is used now, whether it is in memory or not.
    fn touch(&mut self, item: ExtentId);

    /// The item stays from now on. Also said of a victim that stays after all.
    fn keep(&mut self, item: ExtentId);

    /// Takes out the item that is worth least, if it is worth less than
    /// `newcomer`; `None` if the newcomer should not displace anything. Those in
    /// `in_use` are never taken.
    fn victim(&mut self, newcomer: ExtentId, in_use: &HashSet<ExtentId>) -> Option<ExtentId>;

    /// Takes out the item that is worth least, whatever it makes room for: where
    /// every item that is used has to be in memory. `None` if all are in use.
    fn evict(&mut self, in_use: &HashSet<ExtentId>) -> Option<ExtentId>;

    /// The item will be used at time `at`. Time is the number of calls of
    /// [`Policy::touch`] before. Uses of an item are announced in order. Ignored
    /// by those who do not look ahead.
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
