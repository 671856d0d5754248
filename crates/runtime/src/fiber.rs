//! A model that circulates in a fiber loop: which of its extents, and where.
//! The loop itself is the medium's; what is read when stays the line's.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use delayline_line::{Completion, Medium, Read};
use delayline_medium::{
    DoesNotFit, FiberLoop, Gauge, LoopNotice, LoopSpec, Memory, Placed, RealClock, pieces,
};
use delayline_plan::{self as plan, Coding, Extent, Plan, Residency, Schedule};

use crate::error::{Error, mib};
use crate::model_file::ModelFile;
use crate::{cgroup, process};

/// Reads under way at once: a loop takes any number, the window is the limit.
const DEPTH: usize = 1024;

/// What a thread computes when it decodes, in weights' bytes per second: for
/// where extents are placed before anything was measured. Assumed, so that the
/// same command lays out the same loop; [`Fiber::compute_s`] says it better.
const COMPUTE_BYTES_PER_S: f64 = 8e9;

/// What the drive behind is taken to read where a model is split.
const BEHIND_BYTES_PER_S: f64 = 2e9;

/// Memory of this process for a loop beside what is in the glass, in bytes: two
/// buffers, a thread, what is known of each piece.
pub(crate) const NEEDS: u64 = 1 << 20;

/// Where on the loop extents lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Each where it comes by when the compute is ready for it.
    #[default]
    Optimum,
    /// One behind the other, as the model uses them.
    Plain,
}

/// A loop for the streamed weights of a model.
#[derive(Clone, Debug)]
pub struct Fiber {
    /// The loop.
    pub spec: LoopSpec,
    /// Whether weights for which the loop has no room may come from the drive.
    pub split: bool,
    /// Where on the loop extents lie.
    pub order: Order,
    /// Compute of a decoding lap in seconds, if it is known.
    pub compute_s: Option<f64>,
    /// Told bytes sent and bytes in all while the loop is filled.
    pub progress: Option<fn(u64, u64)>,
}

impl Fiber {
    /// This loop, all else by default.
    pub fn new(spec: LoopSpec) -> Self {
        Self {
            spec,
            split: false,
            order: Order::default(),
            compute_s: None,
            progress: None,
        }
    }
}

/// What decides where extents are placed.
pub(crate) struct Course<'a> {
    pub plan: &'a Plan,
    pub residency: &'a Residency,
    pub threads: u32,
    pub read_len: u32,
}

type Loop = FiberLoop<Box<dyn Medium>, RealClock>;

/// The loop of a model that runs.
#[derive(Clone)]
pub struct Circuit {
    ring: Rc<RefCell<Loop>>,
    spec: LoopSpec,
    coding: Coding,
    plain_lap_s: f64,
    left_out: u64,
}

impl Circuit {
    /// Places what streams and builds the loop, still dark, around `behind`.
    pub(crate) fn new(
        fiber: &Fiber,
        behind: Box<dyn Medium>,
        file: &ModelFile,
        memory: &Arc<Memory>,
        course: &Course<'_>,
    ) -> Result<Self, Error> {
        let (spec, extents) = (&fiber.spec, &course.plan.extents);
        let schedule = Schedule::new(course.plan, plan::NEAR_BYTES);
        let on_loop = chosen(fiber, &schedule, course)?;
        let whole_s =
            file.weight_bytes() as f64 / (COMPUTE_BYTES_PER_S * f64::from(course.threads));
        let task = plan::Task {
            plan: course.plan,
            schedule: &schedule,
            residency: course.residency,
            compute_s: fiber.compute_s.unwrap_or(whole_s),
            ring: plan::Loop {
                lap_s: spec.lap_s(),
                rate_bytes_per_s: spec.net_bytes_per_s(),
                guard_s: spec.guard_s,
                read_len: course.read_len.into(),
                behind_bytes_per_s: BEHIND_BYTES_PER_S,
            },
        };
        let plain = plan::in_order(&task, &on_loop);
        let plain_lap_s = plain.lap_s;
        let coding = match fiber.order {
            Order::Optimum => plan::optimum(&task, &on_loop),
            Order::Plain => plain,
        };
        let placed: Vec<Placed> = extents
            .iter()
            .zip(&coding.phase_s)
            .filter_map(|(&extent, phase)| phase.map(|phase_s| Placed { extent, phase_s }))
            .collect();
        let circulates: u64 = placed.iter().map(|one| one.extent.len).sum();
        check_host(circulates)?;
        let part_lens: Vec<u64> = file.parts().iter().map(|part| part.len).collect();
        let ring = FiberLoop::new(
            behind,
            RealClock::default(),
            memory.clone(),
            spec.clone(),
            &placed,
            (course.read_len, DEPTH),
            &part_lens,
        )
        .map_err(Error::Memory)?;
        Ok(Self {
            ring: Rc::new(RefCell::new(ring)),
            spec: spec.clone(),
            coding,
            plain_lap_s,
            left_out: course.residency.streamed_bytes.saturating_sub(circulates),
        })
    }

    /// The loop as the line sees it.
    pub(crate) fn medium(&self) -> Box<dyn Medium> {
        Box::new(Shared(self.ring.clone()))
    }

    /// Sends the weights into the loop, through `window` bytes of the memory.
    pub(crate) fn fill(&self, window: u64, progress: Option<fn(u64, u64)>) -> Result<(), Error> {
        let told = |done, total| {
            if let Some(progress) = progress {
                progress(done, total);
            }
        };
        let filled = self.ring.borrow_mut().fill(0..window, told);
        filled.map_err(Error::Fill)
    }

    /// The loop's parameters.
    pub fn spec(&self) -> &LoopSpec {
        &self.spec
    }

    /// Where the extents lie and what a lap is predicted to take.
    pub fn coding(&self) -> &Coding {
        &self.coding
    }

    /// What a lap is predicted to take in the plain order, in seconds.
    pub fn plain_lap_s(&self) -> f64 {
        self.plain_lap_s
    }

    /// Streamed bytes of a lap for which the loop has no room.
    pub fn left_out_bytes(&self) -> u64 {
        self.left_out
    }

    /// Figures and events.
    pub fn gauge(&self) -> Gauge {
        self.ring.borrow().gauge()
    }

    /// What happened since this was last asked.
    pub fn take_notices(&self) -> Vec<LoopNotice> {
        self.gauge().take_notices()
    }

    /// Cuts the fiber, until [`Circuit::mend`].
    pub fn break_fiber(&self) {
        self.ring.borrow_mut().break_fiber();
    }

    /// Mends it.
    pub fn mend(&self) {
        self.ring.borrow_mut().mend();
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// Puts the loop, if one is wanted, around `medium`.
pub(crate) fn around(
    fiber: Option<&Fiber>,
    medium: Box<dyn Medium>,
    file: &ModelFile,
    memory: &Arc<Memory>,
    course: &Course<'_>,
) -> Result<(Box<dyn Medium>, Option<Circuit>), Error> {
    let Some(fiber) = fiber else {
        return Ok((medium, None));
    };
    let circuit = Circuit::new(fiber, medium, file, memory, course)?;
    Ok((circuit.medium(), Some(circuit)))
}

/// One loop with two holders: the line, and whoever asks how it does.
struct Shared(Rc<RefCell<Loop>>);

impl Medium for Shared {
    fn depth(&self) -> usize {
        self.0.borrow().depth()
    }

    fn submit(&mut self, read: Read) {
        self.0.borrow_mut().submit(read);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.0.borrow_mut().poll(wait, done);
    }
}

/// Which extents circulate: all that stream, or, where they may be split, as many
/// as fit, spread evenly over the lap so that both sources always have work.
fn chosen(fiber: &Fiber, schedule: &Schedule, course: &Course<'_>) -> Result<Vec<bool>, Error> {
    let mut streams = vec![false; course.plan.extents.len()];
    for step in schedule.steps() {
        let at = step.extent.index();
        streams[at] = !course.residency.resident[at];
    }
    let all = |marked: &[bool]| -> Vec<Extent> {
        let extents = course.plan.extents.iter().zip(marked);
        extents.filter(|(_, on)| **on).map(|(e, _)| *e).collect()
    };
    let total = all(&streams);
    let bytes = |extents: &[Extent]| -> u64 { extents.iter().map(|e| e.len).sum() };
    let count = pieces(total.iter().copied(), course.read_len);
    let no_room = match fiber.spec.check_fits(bytes(&total), count) {
        Ok(()) => return Ok(streams),
        Err(no_room) => no_room,
    };
    if !fiber.split {
        return Err(refusal(no_room));
    }
    let share = no_room.capacity as f64 / no_room.bytes as f64;
    let mut due = 0.0;
    let mut left = no_room.capacity;
    for step in schedule.steps() {
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
    let fits = all(&streams);
    let count = pieces(fits.iter().copied(), course.read_len);
    let fit = fiber.spec.check_fits(bytes(&fits), count);
    fit.map_err(refusal).map(|()| streams)
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
