//! Keeps the best placement so far, and tries exchanges that may improve it.

use super::ring::{LAPS, WARM_LAPS};
use super::search::{Search, Slack};

/// Maximum steps of all simulations of one search together: a fraction of a second.
const EFFORT: usize = 5_000_000;

/// The best placement so far, and the steps left to find a better one.
pub(super) struct Best<'a, 'b> {
    search: &'a Search<'b>,
    pub(super) phase_s: Vec<f64>,
    order: Vec<usize>,
    lap_s: f64,
    left: usize,
}

impl<'a, 'b> Best<'a, 'b> {
    pub(super) fn new(search: &'a Search<'b>, plain: &[usize]) -> Self {
        let phase_s = search.packed(plain, Slack::End);
        let mut best = Self {
            search,
            phase_s: Vec::new(),
            order: Vec::new(),
            lap_s: f64::INFINITY,
            left: EFFORT,
        };
        best.offer(phase_s, plain);
        best
    }

    /// Whether the bound is reached, or the effort is spent.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0 || self.lap_s <= self.search.bound_s() * (1.0 + 1e-9)
    }

    /// Takes a placement if it is better; whether it was.
    pub(super) fn offer(&mut self, phase_s: Vec<f64>, order: &[usize]) -> bool {
        let steps = self.search.layout.steps.len() * (WARM_LAPS + LAPS);
        self.left = self.left.saturating_sub(steps.max(1));
        let lap_s = self.search.lap_s(&phase_s);
        let better = self.phase_s.is_empty() || lap_s < self.lap_s * (1.0 - 1e-9);
        if better {
            self.phase_s = phase_s;
            self.order = order.to_vec();
            self.lap_s = lap_s;
        }
        better
    }

    /// Exchanges neighbours, then those farther apart, as long as it helps.
    pub(super) fn improve(&mut self) {
        let count = self.order.len();
        let mut apart = 1;
        while apart < count && !self.is_done() {
            let mut helped = false;
            for place in 0..count {
                if self.is_done() {
                    return;
                }
                let mut order = self.order.clone();
                order.swap(place, (place + apart) % count);
                for slack in [Slack::End, Slack::Even] {
                    helped |= self.offer(self.search.packed(&order, slack), &order);
                }
            }
            apart = if helped { 1 } else { apart + 1 };
        }
    }
}
