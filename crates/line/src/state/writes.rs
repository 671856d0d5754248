//! Writing back: which changed bytes are written next, what a finished write frees,
//! and syncs. After a failed write the bytes stay in memory until the next attempt.

use std::collections::VecDeque;

use delayline_plan::ExtentId;

use super::{Presence, State};
use crate::LineError;
use crate::flights::{Failure, Target};
use crate::trace::EventKind;
use crate::types::{Lease, PartSpan};
use crate::window::{Key, Load, Phase};

/// Changed extents to write, and the parts to sync.
#[derive(Debug, Default)]
pub(crate) struct WriteBack {
    /// Dirty loads with writes to launch and none that failed, oldest first.
    queue: VecDeque<Key>,
    /// Dirty loads of which a write failed, with nothing under way.
    failed: Vec<Key>,
    /// Number of dirty loads.
    loads: usize,
    /// Sum of their bytes.
    bytes: u64,
    /// Whether the last operation launched was a write: reads and writes take turns.
    last: bool,
    /// Parts written to since they were last synced, by index.
    unsynced: Vec<bool>,
    /// Syncs to launch.
    syncs: Vec<u16>,
    /// Number of syncs not completed.
    syncing: usize,
    sync_failure: Option<Failure>,
}

impl WriteBack {
    pub(crate) fn new(parts: usize) -> Self {
        Self {
            unsynced: vec![false; parts],
            ..Self::default()
        }
    }

    /// Bytes that are changed and not written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a write is due before the next read.
    pub(crate) fn is_next(&self) -> bool {
        !self.last
    }

    /// Records that an operation was launched.
    pub(crate) fn launched(&mut self, target: Target) {
        self.last = matches!(target, Target::WriteBack(_));
    }

    pub(crate) fn next_sync(&mut self) -> Option<u16> {
        self.syncs.pop()
    }

    /// Whether every write has succeeded or failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.loads == self.failed.len()
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.syncing == 0
    }

    fn add(&mut self, key: Key, load: &mut Load) {
        load.soil();
        self.loads += 1;
        self.bytes += load.len;
        self.queue.push_back(key);
    }
}

impl State {
    /// Takes back a lease whose bytes have changed.
    pub(crate) fn write_back(&mut self, lease: Lease) {
        let Lease {
            extent, at, key, ..
        } = lease;
        assert!(
            lease.mode.writes(),
            "extent {} was leased to be read and cannot be written back",
            extent.0
        );
        let range = self.extent(extent);
        assert!(
            range.offset + range.len <= self.part_lens[usize::from(range.part)],
            "extent {} reaches past the end of its file and cannot be written",
            extent.0
        );
        match (key, self.resident(extent)) {
            (Some(key), _) => {
                let load = &mut self.loads[key];
                assert_eq!(
                    (load.extent, load.at, load.phase),
                    (extent, at, Phase::Leased),
                    "a lease of another line"
                );
                self.leased -= load.len;
                self.writes.add(key, load);
            }
            // It was leased twice, and is being written since the first lease came back.
            (None, Some((_, Presence::Writing(key)))) => self.loads[key].changed_again = true,
            (None, _) => {
                let load = Load::new(extent, 0, 0, at, range.len);
                let key = self.loads.add(load);
                self.writes.add(key, &mut self.loads[key]);
                self.set(extent, Presence::Writing(key));
            }
        }
        self.trace.push(|| EventKind::Release(extent));
    }

    /// The next write, of at most [`crate::Config::read_len`] bytes.
    pub(crate) fn next_write(&mut self) -> Option<(Target, PartSpan)> {
        let key = *self.writes.queue.front()?;
        let load = &self.loads[key];
        let rest = load.len - load.issued;
        let len = rest.min(u64::from(self.config.read_len));
        if len == rest {
            self.writes.queue.pop_front();
        }
        Some((Target::WriteBack(key), self.cut(key, len)))
    }

    /// Ends a write that will not be retried.
    pub(crate) fn end_write(&mut self, key: Key) {
        let load = &mut self.loads[key];
        load.under_way -= 1;
        if load.missing > 0 {
            if load.failure.is_some() {
                let under_way = load.under_way;
                self.writes.queue.retain(|&other| other != key);
                if under_way == 0 {
                    self.writes.failed.push(key);
                }
            }
            return;
        }
        if std::mem::take(&mut load.changed_again) {
            load.soil();
            return self.writes.queue.push_back(key);
        }
        let (extent, len) = (load.extent, load.len);
        self.writes.loads -= 1;
        self.writes.bytes -= len;
        let part = self.extent(extent).part;
        self.writes.unsynced[usize::from(part)] = true;
        if self.resident(extent).is_some() {
            self.loads.remove(key);
            self.set(extent, Presence::Loaded);
            return;
        }
        self.loads[key].phase = Phase::Done;
        self.passing(extent).changing -= 1;
        self.window.trim(&mut self.loads);
        self.note_fill();
    }

    /// The first error of failed writes, if there are any. All failed writes are queued
    /// again.
    pub(crate) fn take_write_failure(&mut self) -> Option<LineError> {
        let mut first = None;
        for key in std::mem::take(&mut self.writes.failed) {
            let load = &mut self.loads[key];
            let failure = load.failure.take().expect("a failed write");
            load.soil();
            let extent = load.extent;
            self.writes.queue.push_back(key);
            first.get_or_insert_with(|| write_error(extent, *failure));
        }
        first
    }

    /// Queues a sync of every part that was written to.
    pub(crate) fn begin_sync(&mut self) {
        let writes = &mut self.writes;
        for (part, unsynced) in writes.unsynced.iter_mut().enumerate() {
            if std::mem::take(unsynced) {
                writes.syncs.push(part as u16);
                writes.syncing += 1;
            }
        }
    }

    pub(crate) fn end_sync(&mut self, part: u16, failure: Option<Failure>) {
        self.writes.syncing -= 1;
        if let Some(failure) = failure {
            self.writes.unsynced[usize::from(part)] = true;
            self.writes.sync_failure.get_or_insert(failure);
        }
    }

    pub(crate) fn take_sync_failure(&mut self) -> Result<(), LineError> {
        self.writes.sync_failure.take().map_or(Ok(()), |failure| {
            Err(LineError::Sync {
                part: failure.part,
                source: failure.source,
            })
        })
    }

    /// Whether the extent is leased to be changed.
    pub(crate) fn is_being_changed(&mut self, extent: ExtentId) -> bool {
        self.passing(extent).changing > 0
            && (0..self.window.count()).any(|place| {
                let load = &self.loads[self.window.key(place)];
                load.extent == extent && load.phase == Phase::Leased && load.mode.writes()
            })
    }
}

fn write_error(extent: ExtentId, failure: Failure) -> LineError {
    LineError::Write {
        extent,
        part: failure.part,
        offset: failure.offset,
        attempts: failure.attempts,
        source: failure.source,
    }
}
