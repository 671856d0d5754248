//! Which blocks stay in a shared store. No server is in charge: each that has written
//! enough lists the store and, if that has outgrown its size, removes the oldest blocks.
//! Two that do so at once remove the same, and a server that dies need not be replaced.

use std::time::SystemTime;

use futures_util::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::error::Error;
use crate::place::SharedPlace;

/// A server lists the store when it has written this fraction (1/64) of the size.
const STEP: u64 = 64;

/// This fraction (1/16) of the size is made free, so that not every listing removes blocks.
const FREE: u64 = 16;

/// What one server knows of a store's size and age.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// Bytes written since the store was last listed.
    written: u64,
    listed: bool,
    /// Blocks last written before this are in the older half of the store.
    old: Option<SystemTime>,
}

impl Keeper {
    /// Counts bytes written; returns whether the store of `size` bytes should be listed.
    pub fn wrote(&mut self, bytes: u64, size: u64) -> bool {
        self.written += bytes;
        !self.listed || self.written > size / STEP
    }

    /// The store is about to be listed.
    pub fn begin(&mut self) {
        (self.written, self.listed) = (0, true);
    }

    /// The store was listed by [`evict`].
    pub fn end(&mut self, old: Option<SystemTime>) {
        self.old = old;
    }

    /// Whether a block last written at that time should be written again, so that it is
    /// not among the next to be removed.
    pub fn is_old(&self, written: SystemTime) -> bool {
        self.old.is_some_and(|old| written < old)
    }
}

/// Lists the store, and removes the oldest blocks if there are too many. Returns the time
/// before which blocks are in the older half; `None` in a store with room, where nothing
/// need be written again.
pub(crate) async fn evict(place: &SharedPlace) -> Result<Option<SystemTime>, Error> {
    let blocks = place.blocks();
    let list = place.store.list(Some(&blocks)).try_collect();
    let mut all: Vec<ObjectMeta> = place.within(list).await?;
    all.sort_by(|a, b| (a.last_modified, &a.location).cmp(&(b.last_modified, &b.location)));
    let mut bytes: u64 = all.iter().map(|one| one.size).sum();
    let full = bytes > place.size;
    let least = place.size - place.size / FREE;
    let mut gone = 0;
    for one in all.iter().take_while(|_| full) {
        if bytes <= least {
            break;
        }
        match place.within(place.store.delete(&one.location)).await {
            // Another server may have removed it.
            Ok(()) | Err(Error::Store(object_store::Error::NotFound { .. })) => gone += 1,
            Err(error) => return Err(error),
        }
        bytes -= one.size;
    }
    let half = all.get(gone + (all.len() - gone) / 2);
    let crowded = bytes > place.size / 2;
    Ok(half.filter(|_| crowded).map(|one| one.last_modified.into()))
}
