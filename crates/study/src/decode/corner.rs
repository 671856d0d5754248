//! A case at one end of the ranges of its figures, or in the middle: what the
//! simulation and the closed form start from. Knows no money.

use std::borrow::Cow;

use super::{Case, Course, Roofline, SimulatedFeed, SimulatedMachine};
use crate::interval::Corner;
use crate::media::Sized;

/// Reads that a drive of a data sheet takes at once: as many as it needs.
const DEPTH: usize = 4096;

/// A case at one corner: the machine, what a lap uses, and the closed form.
pub struct At<'a> {
    pub machine: SimulatedMachine,
    pub course: Cow<'a, Course>,
    pub roofline: Roofline,
    pub turns: Option<u32>,
    pub copies: Option<u32>,
}

impl Case {
    /// The case at one end of its ranges, or in the middle.
    pub(super) fn at(&self, medium: &Sized, corner: Corner) -> At<'_> {
        let sram = corner.more_is_better(self.accelerator.sram_bytes) as u64;
        let window_bytes = self.window_bytes.unwrap_or(sram);
        let units = corner.more_is_better(medium.units);
        match self.unit.lap_s {
            None => self.on_demand(units, window_bytes, corner),
            Some(lap) => self.comes_by(units, window_bytes, corner.less_is_better(lap), corner),
        }
    }

    /// What the lap needs is read: certain weights ahead, chosen ones when known.
    fn on_demand(&self, units: f64, window_bytes: u64, corner: Corner) -> At<'_> {
        let compute_s = self.compute_s(corner);
        let rate = units * corner.more_is_better(self.unit.rate_bytes_per_s);
        let latency_s = corner.less_is_better(self.unit.latency_s);
        let dense = self.model.dense_bytes();
        let chosen = self.model.needed_bytes(self.batch) - dense;
        let course = self.course(dense, chosen, window_bytes, self.resident_bytes);
        let (streamed, window) = (course.streamed_bytes(), course.residency.window);
        At {
            roofline: Roofline::new(compute_s, streamed, rate, latency_s, window as f64),
            machine: SimulatedMachine {
                feed: SimulatedFeed::OnDemand {
                    rate_bytes_per_s: rate,
                    latency_s,
                    depth: self.plan.as_ref().map_or(DEPTH, |plan| plan.depth),
                },
                compute_s,
            },
            course,
            turns: None,
            copies: None,
        }
    }

    /// Everything passes in each turn of the medium, as often as it holds the
    /// model. The closed form: a lap takes whole turns of the model.
    fn comes_by(
        &self,
        units: f64,
        window_bytes: u64,
        medium_turn_s: f64,
        corner: Corner,
    ) -> At<'_> {
        let compute_s = self.compute_s(corner);
        let all = self.model.weights_bytes - self.resident_bytes as f64;
        let course = self.course(all, 0.0, window_bytes, 0);
        let held = course.residency.streamed_bytes as f64;
        let capacity = units * corner.more_is_better(self.unit.capacity_bytes);
        // Where all of it stays, nothing comes by.
        let copies = match held > 0.0 {
            true => (capacity / held * (1.0 + 1e-9)).floor().max(1.0),
            false => 1.0,
        };
        let turn_s = medium_turn_s / copies;
        let turns = (compute_s / turn_s * (1.0 - 1e-9)).ceil().max(1.0);
        let window = course.residency.window as f64;
        At {
            roofline: Roofline::new(compute_s, held, held / (turns * turn_s), 0.0, window),
            machine: SimulatedMachine {
                feed: SimulatedFeed::ComesBy {
                    turn_s,
                    rate_bytes_per_s: capacity.max(held) / medium_turn_s,
                    latency_s: corner.less_is_better(self.unit.latency_s),
                },
                compute_s,
            },
            course,
            turns: Some(turns as u32),
            copies: Some(copies as u32),
        }
    }

    /// The course of the plan, or an even one of so many bytes.
    fn course(&self, dense: f64, chosen: f64, window: u64, resident: u64) -> Cow<'_, Course> {
        match &self.plan {
            Some(plan) => Cow::Borrowed(&plan.course),
            None => Cow::Owned(Course::even(
                self.model.layers,
                dense,
                chosen,
                window,
                resident,
            )),
        }
    }

    /// Compute of a lap that never waits, in seconds.
    fn compute_s(&self, corner: Corner) -> f64 {
        if let Some(compute_s) = self.compute_s {
            return compute_s;
        }
        let batch = f64::from(self.batch);
        let flop = 2.0 * self.model.active_parameters * batch;
        let arithmetic_s = flop / corner.more_is_better(self.accelerator.compute_flop_per_s);
        let kv = self.model.kv_bytes_per_token * f64::from(self.context) * batch;
        let kv_s = match self.accelerator.memory {
            Some((_, rate)) => kv / corner.more_is_better(rate),
            None => 0.0,
        };
        arithmetic_s + kv_s
    }
}
