//! Which extents circulate, how often, and where on the loop: what the plan makes
//! of a loop and a lap's compute. It does not touch the loop.

use delayline_fiber::{self as fiber_loop, Coding, DoesNotFit, Placed, pieces};
use delayline_plan::{Extent, Plan, Residency, Schedule};

use super::{Fiber, Order};
use crate::error::{Error, mib};
use crate::{cgroup, process};

/// What a thread computes when it decodes, in weights' bytes per second, as long
/// as it has not been measured. Assumed.
const COMPUTE_BYTES_PER_S: f64 = 8e9;

/// By how much that may be wrong, as a factor.
const OFF: f64 = 4.0;

/// By how much of it a lap may become longer without being another.
const SAME: f64 = 0.02;

/// What the drive behind is taken to read where a model is split.
const BEHIND_BYTES_PER_S: f64 = 2e9;

/// Turns of the loop in a lap of compute beyond which more copies gain nothing:
/// waiting for the next turn is then a few hundredths of the lap.
const TURNS: f64 = 32.0;

/// Numbers of copies that are tried are this part of the largest apart.
const TRIED: u32 = 16;

/// Copies of pieces that are kept account of at most: a few hundred KiB, within
/// what is set aside for a loop.
const LIGHTS: u64 = 8192;

/// A lap of the model, whatever stays.
#[derive(Clone, Copy)]
pub struct Lap<'a> {
    /// The runs.
    pub plan: &'a Plan,
    /// When each extent is leased.
    pub schedule: &'a Schedule,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Compute threads.
    pub threads: u32,
    /// Largest single read in bytes.
    pub read_len: u32,
}

/// What decides where extents are placed.
#[derive(Clone, Copy)]
pub struct Course<'a> {
    /// The lap.
    pub lap: Lap<'a>,
    /// What of it stays.
    pub residency: &'a Residency,
}

impl Lap<'_> {
    /// Compute of one in seconds, before it is measured.
    fn assumed_s(&self) -> f64 {
        self.weight_bytes as f64 / COMPUTE_BYTES_PER_S / f64::from(self.threads)
    }

    /// What a measurement says of it, in seconds: not more than the assumption can
    /// be wrong by, for another program may have had the processor meanwhile.
    pub fn believed_s(&self, measured_s: f64) -> f64 {
        let assumed_s = self.assumed_s();
        measured_s.clamp(assumed_s / OFF, assumed_s * OFF)
    }
}

/// What lies where, and what that is worth.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub placed: Vec<Placed>,
    pub copies: u32,
    /// Compute of a lap for which it was made, in seconds.
    pub compute_s: f64,
    pub coding: Coding,
    pub plain_lap_s: f64,
    /// Streamed bytes of a lap for which the loop has no room.
    pub left_out: u64,
}

impl Placement {
    /// The best that is found for a lap of so much compute, in seconds.
    pub fn best(fiber: &Fiber, course: &Course<'_>, compute_s: f64) -> Result<Self, Error> {
        Self::of(fiber, course, compute_s, usize::MAX, fiber_loop::optimum)
    }

    /// A good one for as much compute as is known or assumed.
    pub fn trial(fiber: &Fiber, course: &Course<'_>) -> Result<Self, Error> {
        let compute_s = fiber.compute_s.unwrap_or(course.lap.assumed_s());
        Self::of(fiber, course, compute_s, 1, fiber_loop::draft)
    }

    /// The best that `code` finds, if at most so many numbers of copies are tried.
    fn of(
        fiber: &Fiber,
        course: &Course<'_>,
        compute_s: f64,
        tries: usize,
        code: fn(&fiber_loop::Task<'_>, &[bool]) -> Coding,
    ) -> Result<Self, Error> {
        let on_loop = chosen(fiber, course)?;
        let extents = marked(course.lap.plan, &on_loop);
        let circulates: u64 = extents.iter().map(|extent| extent.len).sum();
        check_host(circulates)?;
        let left_out = course.residency.streamed_bytes.saturating_sub(circulates);
        let mut best: Option<Self> = None;
        for copies in copies(fiber, &extents, course, compute_s)?
            .into_iter()
            .take(tries)
        {
            let task = task(fiber, course, copies, compute_s);
            let plain = fiber_loop::in_order(&task, &on_loop);
            let plain_lap_s = plain.lap_s;
            let coding = match fiber.order {
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
        best.ok_or_else(|| Error::Defect("a loop was to hold no copy".into()))
    }

    /// Whether it is near the bound, and stays so with another compute, within what
    /// an assumption may be wrong by: then nothing needs to be measured.
    pub fn is_good(&self, fiber: &Fiber, course: &Course<'_>) -> bool {
        if self.placed.is_empty() || fiber.order == Order::Plain {
            return true;
        }
        let slow_s = fiber.compute_s.unwrap_or(self.compute_s * OFF);
        let slow = task(fiber, course, self.copies, slow_s);
        let lap_s = fiber_loop::coded_lap_s(&slow, &self.coding.phase_s);
        self.coding.distance() < SAME && lap_s <= self.coding.lap_s * (1.0 + SAME)
    }
}

/// Of ways to divide the memory, the first with which all that streams can be placed
/// well, whatever the compute; else that with the shortest lap. A longer window is not
/// always better: where its ring ends decides when the largest extents have room, and
/// what stays instead needs none.
///
/// # Errors
/// Of the first, when all are refused.
pub fn fittest(
    fiber: &Fiber,
    lap: &Lap<'_>,
    ways: impl Iterator<Item = Residency>,
) -> Result<Residency, Error> {
    let mut best: Option<(f64, Residency)> = None;
    let mut refused = None;
    for residency in ways {
        let course = Course {
            lap: *lap,
            residency: &residency,
        };
        let trial = match Placement::trial(fiber, &course) {
            Ok(trial) => trial,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        let lap_s = trial.coding.lap_s;
        if trial.is_good(fiber, &course) {
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
        (None, None) => Err(Error::Defect("there is no way to divide memory".into())),
    }
}

fn task<'a>(
    fiber: &Fiber,
    course: &Course<'a>,
    copies: u32,
    compute_s: f64,
) -> fiber_loop::Task<'a> {
    fiber_loop::Task {
        plan: course.lap.plan,
        schedule: course.lap.schedule,
        residency: course.residency,
        compute_s,
        ring: fiber_loop::Loop {
            // With copies at equal distances the loop is one of that part, passed
            // several times a lap.
            lap_s: fiber.spec.lap_s() / f64::from(copies),
            rate_bytes_per_s: fiber.spec.net_bytes_per_s(),
            guard_s: fiber.spec.guard_s,
            read_len: course.lap.read_len.into(),
            behind_bytes_per_s: BEHIND_BYTES_PER_S,
        },
    }
}

fn marked(plan: &Plan, marks: &[bool]) -> Vec<Extent> {
    let extents = plan.extents.iter().zip(marks);
    extents.filter(|(_, on)| **on).map(|(e, _)| *e).collect()
}

fn placed(plan: &Plan, coding: &Coding) -> Vec<Placed> {
    let places = plan.extents.iter().zip(&coding.phase_s);
    let places = places.map(|(&extent, phase)| phase.map(|phase_s| Placed { extent, phase_s }));
    places.flatten().collect()
}

/// How often everything may circulate, the most promising first: as often as it
/// fits and is of use. Less often, where that leaves no gap in which the window
/// gets room.
fn copies(
    fiber: &Fiber,
    extents: &[Extent],
    course: &Course<'_>,
    compute_s: f64,
) -> Result<Vec<u32>, Error> {
    let bytes = extents.iter().map(|extent| extent.len).sum();
    let count = pieces(extents.iter().copied(), course.lap.read_len).max(1);
    let accounted = (LIGHTS / count).max(1) as u32;
    let most = fiber.spec.copies_that_fit(bytes, count).min(accounted);
    match fiber.copies {
        Some(copies) if (1..=most).contains(&copies) => Ok(vec![copies]),
        Some(copies) => Err(Error::Option(format!(
            "copies={copies}: expected from 1 to {most}, as often as the loop holds the {:.1} MB \
             that stream",
            bytes as f64 / 1e6
        ))),
        None if extents.is_empty() => Ok(vec![1]),
        None => {
            let useful = TURNS * fiber.spec.lap_s() / compute_s;
            let most = most.min(useful.clamp(1.0, f64::from(most)) as u32);
            let step = (most / TRIED).max(1) as usize;
            Ok((most.div_ceil(2)..=most).rev().step_by(step).collect())
        }
    }
}

/// Which extents circulate: all that stream, or, where they may be split, as many
/// as fit, spread evenly over the lap so that both sources always have work.
fn chosen(fiber: &Fiber, course: &Course<'_>) -> Result<Vec<bool>, Error> {
    let mut streams = vec![false; course.lap.plan.extents.len()];
    for step in course.lap.schedule.steps() {
        let at = step.extent.index();
        streams[at] = !course.residency.resident[at];
    }
    let fits = |marks: &[bool]| {
        let extents = marked(course.lap.plan, marks);
        let count = pieces(extents.iter().copied(), course.lap.read_len);
        let bytes = extents.iter().map(|extent| extent.len).sum();
        fiber.spec.check_fits(bytes, count)
    };
    let no_room = match fits(&streams) {
        Ok(()) => return Ok(streams),
        Err(no_room) => no_room,
    };
    if !fiber.split {
        return Err(refusal(no_room));
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
    fits(&streams).map_err(refusal).map(|()| streams)
}

/// Whether this machine has the memory to emulate so many bytes in flight.
fn check_host(bytes: u64) -> Result<(), Error> {
    let group = cgroup::current().and_then(|group| group.available_bytes());
    let free = process::available_bytes().into_iter().chain(group).min();
    match free.filter(|&free| free < bytes) {
        None => Ok(()),
        Some(free) => Err(Error::Option(format!(
            "{} would be in flight, which this machine emulates in memory, but it has only {} \
             free; take a smaller model, or more --memory so that more weights stay",
            mib(bytes),
            mib(free)
        ))),
    }
}

fn refusal(no_room: DoesNotFit) -> Error {
    Error::Option(format!(
        "{no_room}; more --memory lets more weights stay, and split=yes lets the rest come \
         from the drive"
    ))
}

#[cfg(test)]
mod tests {
    use delayline_fiber::LoopSpec;
    use delayline_plan::{ExtentId, NEAR_BYTES, Run};

    use super::*;

    const MB: u64 = 1 << 20;

    /// 60 layers of 1 MiB and a head of 26, each a run.
    fn model() -> Plan {
        let lens = (0..=60).map(|i| if i < 60 { MB } else { 26 * MB });
        let mut plan = Plan::default();
        for (i, len) in (0..).zip(lens) {
            let offset = plan.extents.last().map_or(0, |e: &Extent| e.offset + e.len);
            let part = 0;
            plan.extents.push(Extent { part, offset, len });
            plan.runs.push(Run::reading([ExtentId(i)], len as f64));
        }
        plan
    }

    /// The head streams through this window of so many MiB, or stays.
    fn way(window: u64, stays: bool) -> Residency {
        let mut resident = vec![false; 60];
        resident.push(stays);
        let resident_bytes = if stays { 26 * MB } else { 0 };
        Residency {
            resident,
            window: window * MB,
            resident_bytes,
            streamed_bytes: 86 * MB - resident_bytes,
        }
    }

    /// A loop that holds so many MiB, and the window that is taken of these ways.
    fn taken(holds: u64, ways: &[Residency]) -> Result<u64, Error> {
        let mut spec = LoopSpec::new(1e4, 1e9);
        spec.rate_bit_per_s *= (holds * MB) as f64 / spec.capacity_bytes() as f64;
        let plan = model();
        let lap = Lap {
            plan: &plan,
            schedule: &Schedule::new(&plan, NEAR_BYTES),
            weight_bytes: 86 * MB,
            threads: 2,
            read_len: 4 << 20,
        };
        let taken = fittest(&Fiber::new(spec), &lap, ways.iter().cloned())?;
        Ok(taken.window / MB)
    }

    #[test]
    fn a_shorter_window_is_taken_where_laps_are_shorter() {
        // With the head in the window a slow lap takes two turns, with the head in
        // memory one; with nothing to read ahead it takes many.
        let (long, short, none) = (way(30, false), way(8, true), way(1, true));
        let check = |holds, ways: &[&Residency], window| {
            let ways: Vec<Residency> = ways.iter().map(|&way| way.clone()).collect();
            assert_eq!(
                taken(holds, &ways).unwrap(),
                window,
                "{holds} MiB, {ways:?}"
            );
        };
        check(92, &[&long, &short, &none], 8);
        check(92, &[&long, &none], 30);
        check(92, &[&none, &short], 8);
        // Room enough to wait for the head.
        check(130, &[&long, &short], 30);
        // Only what streams has to fit.
        check(70, &[&long, &short], 8);
        let refused = taken(50, &[long, short]).unwrap_err().to_string();
        assert!(refused.contains("90.2 MB should circulate"), "{refused}");
    }
}
