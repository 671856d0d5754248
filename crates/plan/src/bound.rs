//! The lower bound of a lap that no policy can beat. Knows three numbers; does
//! not know plans, rings or media.

/// Which side of the machine limits a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The compute is the slower one: the stream hides behind it.
    Compute,
    /// The stream is the slower one: compute must wait.
    Stream,
}

/// What a lap takes on each side if that side never waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Compute of a lap with everything resident, in seconds.
    pub compute_s: f64,
    /// Streamed bytes of a lap over the device rate, in seconds.
    pub stream_s: f64,
}

impl Bound {
    /// From a lap's compute, its streamed bytes and the device rate. With
    /// nothing to stream the rate does not matter.
    pub fn new(compute_s: f64, streamed_bytes: u64, rate_bytes_per_s: f64) -> Self {
        let stream_s = if streamed_bytes == 0 {
            0.0
        } else {
            streamed_bytes as f64 / rate_bytes_per_s
        };
        Self {
            compute_s,
            stream_s,
        }
    }

    /// The bound: the slower side, in seconds.
    pub fn lap_s(&self) -> f64 {
        self.compute_s.max(self.stream_s)
    }

    /// How close a lap of `lap_s` seconds came to it: 1 is the limit itself.
    pub fn share_of(&self, lap_s: f64) -> f64 {
        self.lap_s() / lap_s
    }

    /// Which side that is.
    pub fn side(&self) -> Side {
        if self.stream_s > self.compute_s {
            Side::Stream
        } else {
            Side::Compute
        }
    }
}

/// The shortest possible lap in seconds: `max(compute, streamed / rate)`.
pub fn lap_bound_s(compute_s: f64, streamed_bytes: u64, rate_bytes_per_s: f64) -> f64 {
    Bound::new(compute_s, streamed_bytes, rate_bytes_per_s).lap_s()
}
