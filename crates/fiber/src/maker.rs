//! Makes a loop for the weights of a model, around the medium that has them, places each
//! extent on it, and fills it. Knows laps and memory, not who computes.

use crate::coding::Coding;
use crate::fiber_loop::{FiberLoop, FillError};
use crate::gauge::{Gauge, LoopFigures};
use crate::placement::{Course, Placement, believed_s, fittest};
use crate::spec::LoopSpec;
use delayline_line::{Caps, Completion, Medium, MediumEvent, Op, Region, Stats};
use delayline_medium::{LapOutline, MadeMedium, MakeError, MediumMaker, MediumSite, RealClock};
use delayline_plan::Residency;
use serde_json::{Value, json};
use std::ops::{ControlFlow, Range};

/// Reads under way at once: a loop takes any number, the window is the limit.
const DEPTH: usize = 1024;

/// Memory of this process for a loop, without the bytes in flight, in bytes: two buffers,
/// a thread, the state of each piece.
const NEEDS: u64 = 1 << 20;

/// Where on the loop extents lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Each where it passes when the compute is ready for it.
    #[default]
    Optimum,
    /// One after the other, as the model uses them.
    Plain,
}

/// Makes a loop for the streamed weights of a model.
#[derive(Clone, Debug)]
pub struct LoopMaker {
    /// The loop.
    pub spec: LoopSpec,
    /// Whether weights for which the loop has no room may come from the drive.
    pub split: bool,
    /// Where on the loop extents lie.
    pub order: Order,
    /// Copies of everything on the loop; none for as many as fit and are of use.
    pub copies: Option<u32>,
    /// Compute of a decoding lap in seconds, if it is known; else it is measured where
    /// the placement depends on it.
    pub compute_s: Option<f64>,
    /// Called while the loop is filled; a break ends that, and so the opening of the
    /// model.
    pub progress: Option<FillProgress>,
}

/// Is given the bytes sent and the bytes in all.
pub type FillProgress = fn(u64, u64) -> ControlFlow<()>;

impl LoopMaker {
    /// A maker of this loop with the defaults: no split, the optimum order, everything else
    /// found out.
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

impl MediumMaker for LoopMaker {
    fn name(&self) -> Option<String> {
        Some("the fiber loop".into())
    }

    fn rate_bytes_per_s(&self) -> Option<f64> {
        Some(self.spec.net_bytes_per_s())
    }

    fn describe(&self) -> Option<Value> {
        Some(json!({
            "length_km": self.spec.length_km,
            "loops": self.spec.loops,
            "lap_s": self.spec.lap_s(),
            "rate_bytes_per_s": self.spec.net_bytes_per_s(),
        }))
    }

    fn insists(&self) -> bool {
        true
    }

    fn needs_bytes(&self) -> u64 {
        NEEDS
    }

    fn prefer(
        &self,
        lap: &LapOutline<'_>,
        ways: &mut dyn Iterator<Item = Residency>,
    ) -> Result<Residency, MakeError> {
        Ok(fittest(self, lap, ways)?)
    }

    fn make(
        &self,
        behind: Box<dyn Medium>,
        site: &MediumSite<'_>,
    ) -> Result<Box<dyn MadeMedium>, MakeError> {
        Ok(Box::new(PlacedLoop::new(self, behind, site)?))
    }
}

/// The loop of a model that runs.
pub struct PlacedLoop {
    ring: FiberLoop<Box<dyn Medium>, RealClock>,
    maker: LoopMaker,
    placement: Placement,
    /// Whether the final placement waits for a measurement of compute.
    is_open: bool,
}

impl PlacedLoop {
    /// Places what streams and makes the loop, still dark, around `behind`.
    fn new(
        maker: &LoopMaker,
        behind: Box<dyn Medium>,
        site: &MediumSite<'_>,
    ) -> Result<Self, MakeError> {
        let course = course(site);
        let (placement, is_open) = match maker.compute_s {
            Some(compute_s) => (Placement::best(maker, &course, compute_s)?, false),
            None => {
                let trial = Placement::trial(maker, &course)?;
                let is_open = !trial.is_good(maker, &course);
                (trial, is_open)
            }
        };
        let spec = LoopSpec {
            copies: placement.copies,
            ..maker.spec.clone()
        };
        let ring = FiberLoop::new(
            behind,
            RealClock::default(),
            site.memory.clone(),
            spec,
            // Until compute is measured, everything is read from behind.
            if is_open { &[] } else { &placement.placed },
            (site.lap.read_len, DEPTH),
            site.part_lens,
        )?;
        let made = Self {
            ring,
            maker: maker.clone(),
            placement,
            is_open,
        };
        made.tell_placement();
        Ok(made)
    }

    /// Places everything again, for a measured compute of a lap in seconds.
    fn place(&mut self, site: &MediumSite<'_>, compute_s: f64) -> Result<(), MakeError> {
        self.placement = Placement::best(&self.maker, &course(site), compute_s)?;
        self.is_open = false;
        let Placement { placed, copies, .. } = &self.placement;
        self.ring.place(placed, *copies)?;
        self.tell_placement();
        Ok(())
    }

    fn tell_placement(&self) {
        let placement = &self.placement;
        self.gauge().count(|figures| {
            figures.left_out_bytes = placement.left_out;
            figures.placed_for_compute_s = placement.compute_s;
            figures.predicted_lap_s = placement.coding.lap_s;
            figures.predicted_plain_lap_s = placement.plain_lap_s;
        });
    }

    /// Where the extents lie and what a lap is predicted to take.
    pub fn coding(&self) -> &Coding {
        &self.placement.coding
    }

    /// What it is and has done so far.
    pub fn figures(&self) -> LoopFigures {
        self.gauge().figures()
    }

    /// Access to figures and events, also while the line owns the loop.
    pub fn gauge(&self) -> Gauge {
        self.ring.gauge()
    }

    /// Cuts the light, until [`PlacedLoop::mend`].
    pub fn break_fiber(&mut self) {
        self.ring.break_fiber();
    }

    /// Brings the light back.
    pub fn mend(&mut self) {
        self.ring.mend();
    }
}

fn course<'a>(site: &MediumSite<'a>) -> Course<'a> {
    Course {
        lap: site.lap,
        residency: site.residency,
    }
}

impl Medium for PlacedLoop {
    fn caps(&self) -> &Caps {
        self.ring.caps()
    }

    fn submit(&mut self, op: Op) {
        self.ring.submit(op);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.ring.poll(wait, done);
    }

    fn stats(&self) -> Stats {
        self.ring.stats()
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.ring.events(out);
    }
}

impl MadeMedium for PlacedLoop {
    fn wants_compute(&self) -> bool {
        self.is_open
    }

    /// Places the weights, if that waited for the measurement, and sends them into the
    /// loop.
    fn make_ready(
        &mut self,
        site: &MediumSite<'_>,
        region: &mut Region,
        scratch: Range<u64>,
        compute_s: Option<f64>,
    ) -> Result<(), MakeError> {
        if let Some(measured_s) = compute_s {
            self.place(site, believed_s(&site.lap, measured_s))?;
        }
        let progress = self.maker.progress;
        let told = |done, total| match progress {
            Some(progress) => progress(done, total),
            None => ControlFlow::Continue(()),
        };
        self.ring
            .fill(region, scratch, told)
            .map_err(|error| match error {
                FillError::Read(source) => MakeError::Read {
                    what: "the loop cannot be filled",
                    source,
                },
                FillError::Stopped => MakeError::Stopped,
            })
    }
}
