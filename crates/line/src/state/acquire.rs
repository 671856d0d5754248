//! The compute's side of the state machine: which extent it waits for, whether that is
//! in memory, and its lease. It does not know how reads are made.

use delayline_plan::{ExtentId, Use};

use super::{Aim, Entry, Presence, State};
use crate::LineError;
use crate::flights::Failure;
use crate::trace::EventKind;
use crate::types::Lease;
use crate::window::{Phase, Room};

impl State {
    /// Prepares to wait for an extent: skips what was enqueued before it and makes room.
    pub(crate) fn aim(&mut self, wanted: Use) -> Result<Aim, LineError> {
        let id = wanted.extent;
        let Some((_, is)) = self.resident(id) else {
            return self.aim_at_front(wanted);
        };
        match is {
            Presence::Loaded | Presence::Writing(_) => return Ok(Aim::Resident(id)),
            Presence::Loading(key) if self.loads[key].all_issued() => {
                return Ok(Aim::Resident(id));
            }
            Presence::Loading(_) | Presence::Queued => {}
            Presence::Absent => {
                self.resident_due += 1;
                self.set(id, Presence::Queued);
            }
        }
        // If it is further back as well, it will have been read by then.
        if self.resident_queue.front() != Some(&(0, id)) {
            self.resident_queue.push_front((0, id));
        }
        Ok(Aim::Resident(id))
    }

    fn aim_at_front(&mut self, wanted: Use) -> Result<Aim, LineError> {
        let Use { extent: id, mode } = wanted;
        // It can be read again only after that lease is returned and written.
        if self.is_being_changed(id) {
            return Err(LineError::BeingChanged { extent: id });
        }
        let matches = |entry: &Entry| (entry.extent, entry.mode) == (id, mode);
        let on_demand = self.passing(id).enqueued == 0 || !self.future.iter().any(matches);
        if on_demand {
            self.base -= 1;
            self.cursor = self.base;
            let (extent, load) = (id, None);
            self.future.push_front(Entry { extent, mode, load });
            self.passing(id).enqueued += 1;
        }
        while !matches(&self.future[0]) {
            self.gap |= self.future[0].load.is_some();
            self.skip_front();
        }
        self.window.trim(&mut self.loads);
        self.urgent = true;
        self.off_plan = on_demand;
        let aim = Aim::Front { on_demand };
        if !self.make_room(on_demand || (self.gap && self.leased > 0)) {
            self.cancel(aim);
            return Err(LineError::WindowTooSmall {
                extent: id,
                len: self.extent(id).len,
                window: self.config.window,
                leased: self.leased,
            });
        }
        Ok(aim)
    }

    /// Makes sure that the first entry has room once reads under way are over; false if
    /// the leases leave none.
    fn make_room(&mut self, afresh: bool) -> bool {
        let Entry { extent, load, .. } = self.future[0];
        let len = self.extent(extent).len;
        match self.window.room(&self.loads, load, len) {
            Room::Never => return false,
            // If `afresh`, the extent goes right after the leases. If what was
            // prefetched or skipped lay between, that room would be lost to the extents
            // leased together with it.
            Room::Made if !afresh => return true,
            Room::Made | Room::BehindLeases => {}
        }
        for place in (0..self.window.count()).rev() {
            let key = self.window.key(place);
            match self.loads[key].phase {
                Phase::Leased | Phase::Dirty => break,
                Phase::Done => {}
                Phase::Ahead => {
                    let seq = self.loads[key].seq;
                    self.future[(seq - self.base) as usize].load = None;
                    self.cursor = self.cursor.min(seq);
                    self.discard(key);
                }
            }
        }
        self.window.trim(&mut self.loads);
        self.note_fill();
        true
    }

    /// Whether [`State::take`] can return a lease or an error.
    pub(crate) fn ready(&self, aim: Aim) -> bool {
        let load = match aim {
            Aim::Front { .. } => self.future[0].load,
            Aim::Resident(id) => match self.resident(id) {
                Some((_, Presence::Loading(key))) => Some(key),
                Some((_, Presence::Loaded)) => return true,
                _ => None,
            },
        };
        load.is_some_and(|key| self.loads[key].settled())
    }

    /// Leases an extent for which [`State::ready`] is true, or returns its error.
    pub(crate) fn take(&mut self, aim: Aim, wanted: Use) -> Result<Lease, LineError> {
        let lease = match aim {
            Aim::Resident(_) => self.take_resident(wanted)?,
            Aim::Front { .. } => self.take_front(aim)?,
        };
        self.trace.push(|| EventKind::Lease(lease.extent));
        Ok(lease)
    }

    fn take_resident(&mut self, Use { extent, mode }: Use) -> Result<Lease, LineError> {
        let (at, is) = self.resident(extent).expect("a resident extent");
        if let Presence::Loading(key) = is {
            let failure = self.loads[key].failure.take().expect("a failed load");
            self.drop_resident(extent, key);
            return Err(read_error(extent, *failure));
        }
        let key = None;
        Ok(Lease {
            extent,
            mode,
            at,
            key,
        })
    }

    fn take_front(&mut self, aim: Aim) -> Result<Lease, LineError> {
        let Entry { extent, mode, load } = self.future[0];
        let key = load.expect("a load that is ready");
        let load = &mut self.loads[key];
        if let Some(failure) = load.failure.take() {
            // It keeps its place and is read again from the start.
            self.counters.bytes_wasted += load.landed;
            (load.issued, load.missing, load.landed) = (0, load.len, 0);
            self.cursor = self.base;
            self.cancel(aim);
            return Err(read_error(extent, *failure));
        }
        load.phase = Phase::Leased;
        self.leased += load.len;
        self.counters.bytes_read += load.landed;
        let (at, key) = (load.at, Some(key));
        (self.urgent, self.gap) = (false, false);
        self.pop_front();
        Ok(Lease {
            extent,
            mode,
            at,
            key,
        })
    }

    /// Ends an acquire without a lease. What was enqueued stays enqueued.
    pub(crate) fn cancel(&mut self, aim: Aim) {
        if let Aim::Front { on_demand } = aim {
            self.urgent = false;
            if on_demand {
                if let Some(key) = self.pop_front().load {
                    self.discard(key);
                }
                self.window.trim(&mut self.loads);
                self.note_fill();
            }
        }
    }

    pub(crate) fn release(&mut self, lease: Lease) {
        if let Some(key) = lease.key {
            let load = &mut self.loads[key];
            assert_eq!(
                (load.extent, load.at, load.phase),
                (lease.extent, lease.at, Phase::Leased),
                "a lease of another line"
            );
            load.phase = Phase::Done;
            self.leased -= load.len;
            if load.mode.writes() {
                self.passing(lease.extent).changing -= 1;
            }
            self.window.trim(&mut self.loads);
        }
        self.trace.push(|| EventKind::Release(lease.extent));
        self.note_fill();
    }
}

fn read_error(extent: ExtentId, failure: Failure) -> LineError {
    LineError::Read {
        extent,
        part: failure.part,
        offset: failure.offset,
        attempts: failure.attempts,
        source: failure.source,
    }
}
