//! The progress of laps for other threads: what a lap uses, how far it is, and where its
//! time went. Written by the compute thread between runs, read by any other.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use delayline_line::Counters;
use delayline_plan::ExtentId;

use crate::atlas::Atlas;
use crate::graph::{Graph, How, WeightUse};
use crate::layout::Role;
use crate::model_file::WeightId;

/// Where bytes are when the compute needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StretchKind {
    /// In memory permanently.
    Resident,
    /// Read through the window.
    Streamed,
    /// Experts, of which a lap needs some: fetched when they are known.
    Picked,
}

/// An extent, or the experts of a weight, in a decoding lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Length in bytes.
    pub bytes: u64,
    /// Where its bytes are.
    pub kind: StretchKind,
}

/// Everything that a decoding lap uses, in order of first use. Rows of tables and small
/// weights, which are few bytes, are left out.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// In order of first use.
    pub stretches: Vec<Stretch>,
    /// End of each stretch, in bytes from the start.
    ends: HashMap<Stop, u64>,
}

/// The stretch that a node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stop {
    Extent(ExtentId),
    Experts(WeightId),
}

impl Ring {
    /// The ring of the decoding graph, once it is known what stays.
    pub fn of(graph: &Graph, atlas: &Atlas) -> Self {
        let mut ring = Self::default();
        let mut end = 0;
        for u in &graph.uses {
            let Some(stop) = stop(u, atlas) else {
                continue;
            };
            if ring.ends.contains_key(&stop) {
                continue;
            }
            let (bytes, kind) = match stop {
                Stop::Extent(id) => {
                    let stays = atlas.residences[id.index()].at().is_some();
                    let kind = if stays {
                        StretchKind::Resident
                    } else {
                        StretchKind::Streamed
                    };
                    (atlas.cut.extents[id.index()].len, kind)
                }
                Stop::Experts(weight) => {
                    (atlas.weight_bytes[weight.0 as usize], StretchKind::Picked)
                }
            };
            end += bytes;
            ring.ends.insert(stop, end);
            ring.stretches.push(Stretch { bytes, kind });
        }
        ring
    }

    /// The progress of a lap through `graph`: nodes, each with the position after it in
    /// bytes of the ring.
    pub fn places(&self, graph: &Graph, atlas: &Atlas) -> Vec<(u32, u64)> {
        let mut places: Vec<(u32, u64)> = Vec::new();
        for u in &graph.uses {
            let end = stop(u, atlas).and_then(|stop| self.ends.get(&stop));
            if let Some(&end) = end
                && end > places.last().map_or(0, |&(_, place)| place)
            {
                places.push((u.node, end));
            }
        }
        places
    }
}

fn stop(u: &WeightUse, atlas: &Atlas) -> Option<Stop> {
    match (atlas.layout.roles[u.weight.0 as usize], u.how) {
        (Role::Dense { .. }, How::Whole) => {
            atlas.home(u.weight).map(|home| Stop::Extent(home.extent))
        }
        (Role::Indexed { .. }, How::Indexed { experts: true, .. }) => Some(Stop::Experts(u.weight)),
        _ => None,
    }
}

/// The state at the moment when a run begins to compute, or the lap ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Position of the lap, in bytes of its stretches.
    pub place: u64,
    /// Time since the lap began, in nanoseconds.
    pub at_ns: u64,
    /// The part of it in which the compute waited, in nanoseconds.
    pub stall_ns: u64,
    /// Bytes read from the medium and used so far.
    pub bytes_read: u64,
    /// Bytes in the window that were read and are not yet used.
    pub arrived: u64,
}

/// A lap under way.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// When it began.
    pub began: Instant,
    /// Its latest mark.
    pub mark: Mark,
    /// Whether the run of that mark has ended and the next has not begun: if that lasts,
    /// the compute waits.
    pub between: bool,
}

#[derive(Debug, Default)]
struct Seen {
    now: Option<Now>,
    before: Counters,
    marks: Vec<Mark>,
    last: Vec<Mark>,
}

/// The progress of laps. Locked once per run, for nanoseconds.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Seen>);

impl Watch {
    /// The lap under way, if there is one.
    pub fn now(&self) -> Option<Now> {
        self.seen().now
    }

    /// The marks of the latest completed lap, in order: one for each run, and one for the
    /// end.
    pub fn last(&self) -> Vec<Mark> {
        self.seen().last.clone()
    }

    /// Begins a lap; `counters` are the line's.
    pub fn begin(&self, counters: Counters) {
        let mut seen = self.seen();
        seen.before = counters;
        seen.marks.clear();
        seen.now = Some(Now {
            began: Instant::now(),
            mark: Mark::default(),
            between: true,
        });
    }

    /// Records that a run has ended and the next has not begun.
    pub fn between(&self) {
        if let Some(now) = &mut self.seen().now {
            now.between = true;
        }
    }

    /// Records that a run begins, or that the last has ended.
    pub fn mark(&self, place: u64, counters: Counters, arrived: u64) {
        let mut guard = self.seen();
        let seen = &mut *guard;
        let Some(now) = &mut seen.now else {
            return;
        };
        now.between = false;
        now.mark = Mark {
            place,
            at_ns: now.began.elapsed().as_nanos() as u64,
            stall_ns: counters.stall_ns - seen.before.stall_ns,
            bytes_read: counters.bytes_read - seen.before.bytes_read,
            arrived,
        };
        seen.marks.push(now.mark);
    }

    /// Ends a lap; its marks are kept if it was completed.
    pub fn end(&self, whole: bool) {
        let mut guard = self.seen();
        let seen = &mut *guard;
        seen.now = None;
        if whole {
            std::mem::swap(&mut seen.marks, &mut seen.last);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
