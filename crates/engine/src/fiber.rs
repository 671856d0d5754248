//! A model that circulates in a fiber loop: which of its extents, and where.
//! The loop itself is the medium's; what is read when stays the line's.

mod placement;

use std::cell::RefCell;
use std::fmt;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use delayline_fiber::{Coding, FiberLoop, FillError, Gauge, LoopNotice, LoopSpec};
use delayline_line::{Caps, Completion, Medium, MediumEvent, Op, Region, Stats};
use delayline_medium::{Memory, RealClock};

use self::placement::Placement;
use crate::error::Error;
use crate::model_file::ModelFile;

pub use self::placement::{Course, Lap, fittest};

/// Reads under way at once: a loop takes any number, the window is the limit.
const DEPTH: usize = 1024;

/// Memory of this process for a loop beside what is in the glass, in bytes: two
/// buffers, a thread, what is known of each piece.
pub const NEEDS: u64 = 1 << 20;

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
    /// How often everything circulates; none is as often as fits and is of use.
    pub copies: Option<u32>,
    /// Compute of a decoding lap in seconds, if it is known; else it is measured
    /// where it decides about the lap.
    pub compute_s: Option<f64>,
    /// Told bytes sent and bytes in all while the loop is filled; a break ends
    /// that, and so the opening of the model.
    pub progress: Option<Progress>,
}

/// Is told bytes done and bytes in all.
pub type Progress = fn(u64, u64) -> ControlFlow<()>;

impl Fiber {
    /// This loop, all else by default.
    pub fn new(spec: LoopSpec) -> Self {
        Self {
            spec,
            split: false,
            order: Order::default(),
            copies: None,
            compute_s: None,
            progress: None,
        }
    }
}

type Loop = FiberLoop<Box<dyn Medium>, RealClock>;

/// The loop of a model that runs.
#[derive(Clone)]
pub struct Circuit {
    ring: Rc<RefCell<Loop>>,
    fiber: Fiber,
    placement: Placement,
    /// Whether the placement waits for a measurement of compute.
    is_open: bool,
}

impl Circuit {
    /// Places what streams and builds the loop, still dark, around `behind`.
    pub fn new(
        fiber: &Fiber,
        behind: Box<dyn Medium>,
        file: &ModelFile,
        memory: &Arc<Memory>,
        course: &Course<'_>,
    ) -> Result<Self, Error> {
        let (placement, is_open) = match fiber.compute_s {
            Some(compute_s) => (Placement::best(fiber, course, compute_s)?, false),
            None => {
                let trial = Placement::trial(fiber, course)?;
                let is_open = !trial.is_good(fiber, course);
                (trial, is_open)
            }
        };
        let part_lens: Vec<u64> = file.parts().iter().map(|part| part.len).collect();
        let spec = LoopSpec {
            copies: placement.copies,
            ..fiber.spec.clone()
        };
        let ring = FiberLoop::new(
            behind,
            RealClock::default(),
            memory.clone(),
            spec,
            // Until it is measured, everything comes from behind.
            if is_open { &[] } else { &placement.placed },
            (course.lap.read_len, DEPTH),
            &part_lens,
        )
        .map_err(Error::Memory)?;
        Ok(Self {
            ring: Rc::new(RefCell::new(ring)),
            fiber: fiber.clone(),
            placement,
            is_open,
        })
    }

    /// Whether [`Circuit::place`] has to come before [`Circuit::fill`].
    pub fn wants_compute(&self) -> bool {
        self.is_open
    }

    /// Places everything anew for a lap of which the compute was measured, in
    /// seconds.
    pub fn place(&mut self, course: &Course<'_>, measured_s: f64) -> Result<(), Error> {
        let compute_s = course.lap.believed_s(measured_s);
        self.placement = Placement::best(&self.fiber, course, compute_s)?;
        self.is_open = false;
        let Placement { placed, copies, .. } = &self.placement;
        let placed = self.ring.borrow_mut().place(placed, *copies);
        placed.map_err(Error::Memory)
    }

    /// The loop as the line sees it.
    pub fn medium(&self) -> Box<dyn Medium> {
        let caps = self.ring.borrow().caps().clone();
        let ring = self.ring.clone();
        Box::new(Shared { caps, ring })
    }

    /// Sends the weights into the loop, through `window` bytes of the memory.
    pub fn fill(&self, region: &mut Region, window: u64) -> Result<(), Error> {
        let told = |done, total| match self.fiber.progress {
            Some(progress) => progress(done, total),
            None => ControlFlow::Continue(()),
        };
        let filled = self.ring.borrow_mut().fill(region, 0..window, told);
        filled.map_err(|error| match error {
            FillError::Read(error) => Error::Fill(error),
            FillError::Stopped => Error::Stopped,
        })
    }

    /// The loop's parameters, but for copies.
    pub fn spec(&self) -> &LoopSpec {
        &self.fiber.spec
    }

    /// How often everything circulates, and so passes in a lap of the light.
    pub fn copies(&self) -> u32 {
        self.placement.copies
    }

    /// From one pass of an extent to the next, in seconds.
    pub fn turn_s(&self) -> f64 {
        self.spec().lap_s() / f64::from(self.copies())
    }

    /// Where the extents lie and what a lap is predicted to take.
    pub fn coding(&self) -> &Coding {
        &self.placement.coding
    }

    /// Compute of a lap, in seconds, for which they were placed.
    pub fn compute_s(&self) -> f64 {
        self.placement.compute_s
    }

    /// What a lap is predicted to take in the plain order, in seconds.
    pub fn plain_lap_s(&self) -> f64 {
        self.placement.plain_lap_s
    }

    /// Streamed bytes of a lap for which the loop has no room.
    pub fn left_out_bytes(&self) -> u64 {
        self.placement.left_out
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
            .field("spec", self.spec())
            .finish_non_exhaustive()
    }
}

/// Puts the loop, if one is wanted, around `medium`.
pub fn around(
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
struct Shared {
    caps: Caps,
    ring: Rc<RefCell<Loop>>,
}

impl Medium for Shared {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        self.ring.borrow_mut().submit(op);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.ring.borrow_mut().poll(wait, done);
    }

    fn stats(&self) -> Stats {
        self.ring.borrow().stats()
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.ring.borrow_mut().events(out);
    }
}
