//! A case with all figures typical, or all at one end of their ranges: the input of the
//! simulation and of the closed form.

use std::borrow::Cow;

use super::{Case, Course, Roofline, SimulatedFeed, SimulatedMachine, Window};
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
    pub(super) fn at(&self, medium: &Sized, window: Window, corner: Corner) -> At<'_> {
        let units = corner.more_is_better(medium.units);
        match self.unit.lap_s {
            None => self.on_demand(units, window, corner),
            Some(lap) => self.comes_by(units, window, corner.less_is_better(lap), corner),
        }
    }

    /// The share of the experts that stays: what stays beyond all certain weights.
    fn experts_stay(&self) -> f64 {
        let beyond = self.resident_bytes as f64 - self.model.dense_bytes();
        let experts = self.model.expert_bytes();
        match experts > 0.0 && self.plan.is_none() {
            true => (beyond / experts).clamp(0.0, 1.0),
            false => 0.0,
        }
    }

    /// What the lap needs is read: certain weights ahead, chosen ones when known.
    fn on_demand(&self, units: f64, window: Window, corner: Corner) -> At<'_> {
        let rate = units * corner.more_is_better(self.unit.rate_bytes_per_s);
        let latency_s = corner.less_is_better(self.unit.latency_s);
        let dense = self.model.dense_bytes();
        let chosen = self.model.needed_bytes(self.batch) - dense;
        let chosen_near = chosen * self.experts_stay();
        let course = self.course(
            dense,
            chosen - chosen_near,
            window.bytes,
            self.resident_bytes,
        );
        let near = course.residency.resident_bytes as f64 + chosen_near;
        let streamed = course.streamed_bytes();
        let compute_s = self.compute_s(window, near, streamed, corner);
        let in_window = course.under_way_bytes();
        At {
            roofline: Roofline::new(compute_s, streamed, rate, latency_s, in_window),
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
    /// model: no lap is shorter than a turn of the model, and through a small window
    /// it takes whole ones.
    fn comes_by(&self, units: f64, window: Window, medium_turn_s: f64, corner: Corner) -> At<'_> {
        let all = self.model.weights_bytes - self.resident_bytes as f64;
        let course = self.course(all, 0.0, window.bytes, 0);
        let held = course.residency.streamed_bytes as f64;
        let stays = (self.model.weights_bytes - held).max(0.0);
        let needed = self.model.needed_bytes(self.batch) / self.model.weights_bytes;
        let compute_s = self.compute_s(window, stays * needed.min(1.0), held, corner);
        // What it holds at this corner of its rate and its turn: the ends of its capacity
        // belong to other turns.
        let rate = units * corner.more_is_better(self.unit.rate_bytes_per_s);
        let capacity = rate * medium_turn_s;
        // Where all of it stays, nothing comes by.
        let copies = match held > 0.0 {
            true => (capacity / held * (1.0 + 1e-9)).floor().max(1.0),
            false => 1.0,
        };
        let turn_s = (medium_turn_s / copies).max(held / rate);
        let turns = (compute_s / turn_s * (1.0 - 1e-9)).ceil().max(1.0);
        let in_window = course.residency.window as f64;
        At {
            roofline: Roofline::new(compute_s, held, held / turn_s, 0.0, in_window),
            machine: SimulatedMachine {
                feed: SimulatedFeed::ComesBy {
                    turn_s,
                    rate_bytes_per_s: rate,
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
}
