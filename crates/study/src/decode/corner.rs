//! A case at one end of the ranges of its figures, or in the middle: what the
//! simulation and the closed form start from. Knows no money.

use super::{Case, Load, Machine, Roofline};
use crate::media::Sized;
use crate::range::Range;

/// The two ends and the middle: which end of each figure makes a lap longest.
#[derive(Clone, Copy, Debug)]
pub enum Corner {
    Slow,
    Typical,
    Fast,
}

impl Corner {
    /// A figure of which more makes a lap shorter.
    pub fn more_is_better(self, range: Range) -> f64 {
        match self {
            Self::Slow => range.low,
            Self::Typical => range.typical,
            Self::Fast => range.high,
        }
    }

    /// A figure of which more makes a lap longer.
    pub fn less_is_better(self, range: Range) -> f64 {
        match self {
            Self::Slow => range.high,
            Self::Typical => range.typical,
            Self::Fast => range.low,
        }
    }
}

/// A case at one corner: the machine, what it loads, and the closed form.
pub struct At {
    pub machine: Machine,
    pub load: Load,
    pub roofline: Roofline,
    pub turns: Option<u32>,
    pub copies: Option<u32>,
}

impl Case {
    /// The case at one end of its ranges, or in the middle.
    pub(super) fn at(&self, medium: &Sized, corner: Corner) -> At {
        let sram = corner.more_is_better(self.accelerator.sram_bytes) as u64;
        let window_bytes = self.window_bytes.unwrap_or(sram);
        let units = corner.more_is_better(medium.units);
        match self.unit.lap_s {
            None => self.on_demand(units, window_bytes, corner),
            Some(lap) => self.comes_by(units, window_bytes, corner.less_is_better(lap), corner),
        }
    }

    /// What the lap needs is read: certain weights ahead, chosen ones when known.
    fn on_demand(&self, units: f64, window_bytes: u64, corner: Corner) -> At {
        let compute_s = self.compute_s(corner);
        let rate = units * corner.more_is_better(self.unit.rate_bytes_per_s);
        let latency_s = corner.less_is_better(self.unit.latency_s);
        let dense = self.model.dense_bytes();
        let chosen = self.model.needed_bytes(self.batch) - dense;
        let streamed = (dense - self.resident_bytes as f64).max(0.0) + chosen;
        At {
            roofline: Roofline::new(compute_s, streamed, rate, latency_s, window_bytes as f64),
            machine: Machine {
                rate_bytes_per_s: rate,
                latency_s,
                window_bytes,
                resident_bytes: self.resident_bytes,
                compute_s,
            },
            load: Load::even(self.model.layers, dense, chosen, window_bytes),
            turns: None,
            copies: None,
        }
    }

    /// Everything passes in each turn of the medium, as often as it holds the
    /// model; a lap takes whole turns of the model.
    fn comes_by(&self, units: f64, window_bytes: u64, medium_turn_s: f64, corner: Corner) -> At {
        let compute_s = self.compute_s(corner);
        let held = (self.model.weights_bytes - self.resident_bytes as f64).max(1.0);
        let capacity = units * corner.more_is_better(self.unit.capacity_bytes);
        let copies = (capacity / held * (1.0 + 1e-9)).floor().max(1.0);
        let turn_s = medium_turn_s / copies;
        let turns = (compute_s / turn_s * (1.0 - 1e-9)).ceil().max(1.0);
        let rate = held / (turns * turn_s);
        At {
            roofline: Roofline::new(compute_s, held, rate, 0.0, window_bytes as f64),
            machine: Machine {
                rate_bytes_per_s: rate,
                latency_s: 0.0,
                window_bytes,
                resident_bytes: 0,
                compute_s,
            },
            load: Load::even(self.model.layers, held, 0.0, window_bytes),
            turns: Some(turns as u32),
            copies: Some(copies as u32),
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
