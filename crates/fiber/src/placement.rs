//! Decides which extents circulate, how often, and where on the loop, from the plan, the
//! loop's parameters and a lap's compute. It does not touch the loop.

#[cfg(test)]
mod tests;

use crate::coding::{self, Coding, CodingTask, LoopTiming};
use crate::maker::{LoopMaker, Order};
use crate::orbit::{PlacedExtent, pieces};
use crate::spec::DoesNotFit;
use delayline_medium::{LapOutline, MakeError};
use delayline_plan::{Extent, Plan, Residency};
use thiserror::Error;

/// Assumed bytes of weights that a thread computes with per second when it decodes, until
/// that is measured.
const COMPUTE_BYTES_PER_S: f64 = 8e9;

/// Factor by which that may be wrong, either way.
const OFF: f64 = 4.0;

/// Relative difference below which two laps count as equal.
const SAME: f64 = 0.02;

/// Assumed rate of the drive behind where a model is split.
const BEHIND_BYTES_PER_S: f64 = 2e9;

/// Turns of the loop in a lap of compute beyond which more copies gain nothing:
/// waiting for the next turn is then a few hundredths of the lap.
const TURNS: f64 = 32.0;

/// The numbers of copies that are tried are the largest divided by this apart.
const TRIED: u32 = 16;

/// Maximum number of copies of pieces that are kept account of: a few hundred KiB, within
/// the memory that a loop is allowed.
const LIGHTS: u64 = 8192;

/// Why what streams cannot be placed on a loop.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PlacementError {
    /// More streams than the loop holds.
    #[error(
        "{0}; more --memory lets more weights stay, and split=yes lets the rest come from the \
         drive"
    )]
    DoesNotFit(#[from] DoesNotFit),
    /// The loop does not hold that many copies.
    #[error(
        "copies={copies}: expected from 1 to {maximum}, as often as the loop holds the {:.1} MB \
         that stream",
        *bytes as f64 / 1e6
    )]
    Copies {
        /// Asked for.
        copies: u32,
        /// How many it holds.
        maximum: u32,
        /// What streams, in bytes.
        bytes: u64,
    },
    /// This machine has too little memory to emulate what would be in flight.
    #[error(
        "{} MiB would be in flight, which this machine emulates in memory, but it has only {} MiB \
         free; take a smaller model, or more --memory so that more weights stay",
        bytes.div_ceil(1 << 20), free.div_ceil(1 << 20)
    )]
    Host {
        /// What would be in flight, in bytes.
        bytes: u64,
        /// What the machine has free, in bytes.
        free: u64,
    },
}

impl From<PlacementError> for MakeError {
    fn from(error: PlacementError) -> Self {
        Self::Refused(error.into())
    }
}

/// What decides where extents are placed.
#[derive(Clone, Copy)]
pub(crate) struct Course<'a> {
    pub lap: LapOutline<'a>,
    pub residency: &'a Residency,
}

/// Compute of a lap in seconds, before it is measured.
fn assumed_s(lap: &LapOutline<'_>) -> f64 {
    lap.weight_bytes as f64 / COMPUTE_BYTES_PER_S / f64::from(lap.threads)
}

/// A measured compute of a lap, in seconds, limited to [`OFF`] times the assumption either
/// way, because another program may have had the processor meanwhile.
pub(crate) fn believed_s(lap: &LapOutline<'_>, measured_s: f64) -> f64 {
    let assumed_s = assumed_s(lap);
    measured_s.clamp(assumed_s / OFF, assumed_s * OFF)
}

/// Where extents lie on the loop, and what laps then take.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub placed: Vec<PlacedExtent>,
    pub copies: u32,
    /// The compute of a lap, in seconds, for which it was made.
    pub compute_s: f64,
    pub coding: Coding,
    pub plain_lap_s: f64,
    /// Streamed bytes of a lap for which the loop has no room.
    pub left_out: u64,
}

impl Placement {
    /// The best that is found for a lap with this compute, in seconds.
    pub fn best(
        maker: &LoopMaker,
        course: &Course<'_>,
        compute_s: f64,
    ) -> Result<Self, PlacementError> {
        Self::of(maker, course, compute_s, usize::MAX, coding::optimum)
    }

    /// A good one for the compute that is known, else assumed.
    pub fn trial(maker: &LoopMaker, course: &Course<'_>) -> Result<Self, PlacementError> {
        let compute_s = maker.compute_s.unwrap_or(assumed_s(&course.lap));
        Self::of(maker, course, compute_s, 1, coding::draft)
    }

    /// The best that `code` finds with at most `tries` numbers of copies.
    fn of(
        maker: &LoopMaker,
        course: &Course<'_>,
        compute_s: f64,
        tries: usize,
        code: fn(&CodingTask<'_>, &[bool]) -> Coding,
    ) -> Result<Self, PlacementError> {
        let on_loop = chosen(maker, course)?;
        let extents = marked(course.lap.plan, &on_loop);
        let circulates: u64 = extents.iter().map(|extent| extent.len).sum();
        check_host(circulates, course.lap.free_bytes)?;
        let left_out = course.residency.streamed_bytes.saturating_sub(circulates);
        let mut best: Option<Self> = None;
        for copies in copies(maker, &extents, course, compute_s)?
            .into_iter()
            .take(tries)
        {
            let task = task(maker, course, copies, compute_s);
            let plain = coding::in_order(&task, &on_loop);
            let plain_lap_s = plain.lap_s;
            let coding = match maker.order {
                Order::Optimum => code(&task, &on_loop),
                Order::Plain => plain,
            };
            if best
                .as_ref()
                .is_none_or(|best| coding.lap_s < best.coding.lap_s)
            {
                best = Some(Self {
                    placed: placed(course.lap.plan, &coding),
                    copies,
                    compute_s,
                    coding,
                    plain_lap_s,
                    left_out,
                });
            }
            if best
                .as_ref()
                .is_some_and(|best| best.coding.distance() < SAME)
            {
                break;
            }
        }
        Ok(best.expect("at least one number of copies is tried"))
    }

    /// Whether it is near the bound, and stays so with the slowest compute that is to be
    /// expected: then nothing needs to be measured.
    pub fn is_good(&self, maker: &LoopMaker, course: &Course<'_>) -> bool {
        if self.placed.is_empty() || maker.order == Order::Plain {
            return true;
        }
        let slow_s = maker.compute_s.unwrap_or(self.compute_s * OFF);
        let slow = task(maker, course, self.copies, slow_s);
        let lap_s = coding::coded_lap_s(&slow, &self.coding.phase_s);
        self.coding.distance() < SAME && lap_s <= self.coding.lap_s * (1.0 + SAME)
    }
}

/// Of the ways to divide memory, the first with which all that streams is placed well,
/// also with slow compute; else the one with the shortest lap. A longer window is not
/// always better: where its ring ends decides when the largest extents have room in it,
/// and extents that stay need none.
///
/// # Errors
/// Of the first, when all are refused.
///
/// # Panics
/// Without any way.
pub(crate) fn fittest(
    maker: &LoopMaker,
    lap: &LapOutline<'_>,
    ways: impl Iterator<Item = Residency>,
) -> Result<Residency, PlacementError> {
    let mut best: Option<(f64, Residency)> = None;
    let mut refused = None;
    for residency in ways {
        let course = Course {
            lap: *lap,
            residency: &residency,
        };
        let trial = match Placement::trial(maker, &course) {
            Ok(trial) => trial,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        let lap_s = trial.coding.lap_s;
        if trial.is_good(maker, &course) {
            return Ok(residency);
        }
        if best
            .as_ref()
            .is_none_or(|&(least_s, _)| lap_s < least_s * (1.0 - 1e-9))
        {
            best = Some((lap_s, residency));
        }
    }
    match (best, refused) {
        (Some((_, residency)), _) => Ok(residency),
        (None, Some(error)) => Err(error),
        (None, None) => panic!("there is no way to divide memory"),
    }
}

fn task<'a>(maker: &LoopMaker, course: &Course<'a>, copies: u32, compute_s: f64) -> CodingTask<'a> {
    CodingTask {
        plan: course.lap.plan,
        schedule: course.lap.schedule,
        residency: course.residency,
        compute_s,
        ring: LoopTiming {
            // With copies at equal distances it is a loop of one turn.
            lap_s: maker.spec.lap_s() / f64::from(copies),
            rate_bytes_per_s: maker.spec.net_bytes_per_s(),
            guard_s: maker.spec.guard_s,
            read_len: course.lap.read_len.into(),
            behind_bytes_per_s: BEHIND_BYTES_PER_S,
        },
    }
}

fn marked(plan: &Plan, marks: &[bool]) -> Vec<Extent> {
    let extents = plan.extents.iter().zip(marks);
    extents.filter(|(_, on)| **on).map(|(e, _)| *e).collect()
}

fn placed(plan: &Plan, coding: &Coding) -> Vec<PlacedExtent> {
    let places = plan.extents.iter().zip(&coding.phase_s);
    let places =
        places.map(|(&extent, phase)| phase.map(|phase_s| PlacedExtent { extent, phase_s }));
    places.flatten().collect()
}

/// The numbers of copies to try, the most promising first: as many as fit and are of
/// use, then fewer, which leave gaps in which the window gets room.
fn copies(
    maker: &LoopMaker,
    extents: &[Extent],
    course: &Course<'_>,
    compute_s: f64,
) -> Result<Vec<u32>, PlacementError> {
    let bytes = extents.iter().map(|extent| extent.len).sum();
    let count = pieces(extents.iter().copied(), course.lap.read_len).max(1);
    let accounted = (LIGHTS / count).max(1) as u32;
    let most = maker.spec.copies_that_fit(bytes, count).min(accounted);
    match maker.copies {
        Some(copies) if (1..=most).contains(&copies) => Ok(vec![copies]),
        Some(copies) => Err(PlacementError::Copies {
            copies,
            maximum: most,
            bytes,
        }),
        None if extents.is_empty() => Ok(vec![1]),
        None => {
            let useful = TURNS * maker.spec.lap_s() / compute_s;
            let most = most.min(useful.clamp(1.0, f64::from(most)) as u32);
            let step = (most / TRIED).max(1) as usize;
            Ok((most.div_ceil(2)..=most).rev().step_by(step).collect())
        }
    }
}

/// Which extents circulate: all that stream, or, where the model may be split, as many
/// as fit, spread evenly over the lap so that loop and drive both always have work.
fn chosen(maker: &LoopMaker, course: &Course<'_>) -> Result<Vec<bool>, PlacementError> {
    let mut streams = vec![false; course.lap.plan.extents.len()];
    for step in course.lap.schedule.steps() {
        let at = step.extent.index();
        streams[at] = !course.residency.resident[at];
    }
    let fits = |marks: &[bool]| {
        let extents = marked(course.lap.plan, marks);
        let count = pieces(extents.iter().copied(), course.lap.read_len);
        let bytes = extents.iter().map(|extent| extent.len).sum();
        maker.spec.check_fits(bytes, count)
    };
    let no_room = match fits(&streams) {
        Ok(()) => return Ok(streams),
        Err(no_room) => no_room,
    };
    if !maker.split {
        return Err(no_room.into());
    }
    let share = no_room.capacity as f64 / no_room.bytes as f64;
    let mut due = 0.0;
    let mut left = no_room.capacity;
    for step in course.lap.schedule.steps() {
        let at = step.extent.index();
        if streams[at] {
            due += step.len as f64 * share;
            streams[at] = due >= step.len as f64 / 2.0 && step.len <= left;
            if streams[at] {
                due -= step.len as f64;
                left -= step.len;
            }
        }
    }
    fits(&streams)?;
    Ok(streams)
}

/// Whether this machine has the memory to emulate `bytes` in flight.
fn check_host(bytes: u64, free_bytes: Option<u64>) -> Result<(), PlacementError> {
    match free_bytes.filter(|&free| free < bytes) {
        None => Ok(()),
        Some(free) => Err(PlacementError::Host { bytes, free }),
    }
}
