//! The closed form: the least that a lap takes, from three rates.

use serde::Serialize;

/// What limits a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Arithmetic, or reading keys and values.
    Compute,
    /// The rate of the medium.
    Medium,
    /// The window: it cannot hold what is under way for one latency.
    Window,
}

/// The bounds of a lap, in seconds. None can be beaten.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// Computing without waiting.
    pub compute_s: f64,
    /// Bytes over the rate of the medium.
    pub medium_s: f64,
    /// Each byte holds its place in the window for at least a latency (Little's
    /// law): bytes times latency over window.
    pub window_s: f64,
}

impl Roofline {
    /// From a lap's compute, its streamed bytes, the medium's rate and latency
    /// and the window.
    pub fn new(
        compute_s: f64,
        streamed_bytes: f64,
        rate_bytes_per_s: f64,
        latency_s: f64,
        window_bytes: f64,
    ) -> Self {
        let over = |bytes: f64, rate: f64| if bytes > 0.0 { bytes / rate } else { 0.0 };
        Self {
            compute_s,
            medium_s: over(streamed_bytes, rate_bytes_per_s),
            window_s: over(streamed_bytes * latency_s, window_bytes),
        }
    }

    /// The lap, in seconds.
    pub fn lap_s(&self) -> f64 {
        self.compute_s.max(self.medium_s).max(self.window_s)
    }

    /// Which bound it is.
    pub fn limit(&self) -> Limit {
        let lap_s = self.lap_s();
        if lap_s <= self.compute_s {
            Limit::Compute
        } else if lap_s <= self.medium_s {
            Limit::Medium
        } else {
            Limit::Window
        }
    }
}
