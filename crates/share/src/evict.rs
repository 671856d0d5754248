//! Which blocks stay in a shared store. It has no owner: each server that has written for a
//! while looks at all of it, and where it has outgrown its size removes what is oldest.
//! Two that look at once remove the same, and one that dies is missed by nobody.

use std::time::SystemTime;

use futures_util::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::error::Error;
use crate::place::SharedPlace;

/// A server looks when it has written so small a part of the size.
const STEP: u64 = 64;

/// So small a part of the size is made free, so that not every look removes.
const FREE: u64 = 16;

/// What one server knows of the size of a store.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    written: u64,
    looked: bool,
    /// What was last written before is in the older half of the store.
    old: Option<SystemTime>,
}

impl Keeper {
    /// So many bytes were written; whether it is time to look.
    pub fn wrote(&mut self, bytes: u64, size: u64) -> bool {
        self.written += bytes;
        !self.looked || self.written > size / STEP
    }

    /// Whether what was last written then is among what goes next, if it is not written
    /// anew.
    pub fn is_old(&self, written: SystemTime) -> bool {
        self.old.is_some_and(|old| written < old)
    }

    /// Looks, and removes what is too much; returns how many blocks.
    pub async fn look(&mut self, place: &SharedPlace) -> Result<usize, Error> {
        (self.written, self.looked) = (0, true);
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
                // Another server was sooner.
                Ok(()) | Err(Error::Store(object_store::Error::NotFound { .. })) => gone += 1,
                Err(error) => return Err(error),
            }
            bytes -= one.size;
        }
        // In a store with room nothing need be written anew.
        let half = all.get(gone + (all.len() - gone) / 2);
        let crowded = bytes > place.size / 2;
        self.old = half.filter(|_| crowded).map(|one| one.last_modified.into());
        Ok(gone)
    }
}
