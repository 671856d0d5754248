//! The known future: which bytes are needed in which order, and therefore which
//! stay in memory and when the others are read.
//!
//! Pure code: no I/O, no clock, no thread, no tensor, no llama.cpp. Bytes are
//! `u64`, times are seconds as `f64`, indices are newtypes or `u32`.
//!
//! Weights are [`cut()`] into extents; the runs that need them make a [`Plan`];
//! its [`Schedule`] says when each extent is leased and released; [`choose`]
//! divides the memory between the window and the extents that stay;
//! [`lap_bound_s`] and [`lap_time_s`] say how long a lap then takes.
//!
//! ```
//! use delayline_plan::*;
//!
//! // Four matrices of 1 MiB in a file, each used by one run of a lap.
//! let weights: Vec<UsedRange> = (0..4)
//!     .map(|n| UsedRange { part: 0, offset: u64::from(n) << 20, len: 1 << 20, first_use: n, last_use: n })
//!     .collect();
//! let cut = cut(&weights, &[4 << 20], 1 << 20)?;
//! let runs = cut.homes.iter().map(|home| Run::reading([home.extent], 1.0)).collect();
//! let plan = Plan { extents: cut.extents, runs, ..Plan::default() };
//! let schedule = Schedule::new(&plan, NEAR_BYTES);
//!
//! // Three of them fit: one stays, and the others pass through a window of two.
//! let memory = MemoryShare { available: 3 << 20, lookahead: 1 << 20 };
//! let residency = choose(&plan, &schedule, memory)?;
//! assert_eq!((residency.resident_bytes, residency.window), (1 << 20, 2 << 20));
//! assert_eq!(residency.streamed_bytes, 3 << 20);
//!
//! // From a drive of 1 GiB/s, with a millisecond of compute, the drive decides.
//! let bound_s = lap_bound_s(0.001, residency.streamed_bytes, f64::from(1 << 30));
//! assert_eq!(bound_s, 3.0 / 1024.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Training passes the layers forward and backward:
//!
//! ```
//! use delayline_plan::*;
//!
//! // Eight layers of 16 MiB; the backward pass changes what the forward pass reads.
//! let len = 16 << 20;
//! let extents = (0..8).map(|i| Extent { part: 0, offset: i * len, len }).collect();
//! let layer = |i| RoundTrip {
//!     there: Run::reading([ExtentId(i)], 1.0),
//!     back: Run { uses: vec![Use::modify(ExtentId(i))], compute: 2.0 },
//! };
//! let plan = Plan::there_and_back(extents, (0..8).map(layer).collect());
//! let schedule = Schedule::new(&plan, NEAR_BYTES);
//!
//! // What stays in 80 MiB, and what a lap then reads and writes back.
//! let memory = MemoryShare { available: 5 * len, lookahead: len };
//! let chosen = choose(&plan, &schedule, memory)?;
//! let moved = schedule.transfer(&chosen.resident, 0..16);
//! assert_eq!(moved.written, 8 * len);
//!
//! // No order of reads and writes is faster than this.
//! let rates = DriveRates { read: 3.5e9, write: 2.0e9, mixed: 1.5e9 };
//! let least = LeastTransfer::new(&plan, memory.available);
//! assert!(least.lap.read <= moved.read);
//! assert!(least.lap_bound_s(&plan, 0.1, &rates) >= 0.1);
//! # Ok::<(), TooSmall>(())
//! ```
//!
//! Where the future is not certain, a [`Policy`] decides what stays. A [`Cache`]
//! follows a policy; [`replay`] runs one over a recorded trace.
//!
//! ```
//! use delayline_plan::{Belady, ExtentId, Lru, NextUse, Trace, replay};
//!
//! // Three items of one page take turns in a memory of two.
//! let uses = (0..30).map(|i| ExtentId(i % 3));
//! let trace = Trace::one_by_one(vec![4096; 3], uses);
//! assert_eq!(replay(&trace, 8192, 0, Lru::default()).hits, 0);
//! assert_eq!(replay(&trace, 8192, 0, Belady::new(&trace)).hits, 18);
//! // Knowing the next three uses is as good as knowing all.
//! assert_eq!(replay(&trace, 8192, 3, NextUse::new(8.0, 3)).hits, 18);
//! ```

#![forbid(unsafe_code)]

mod bound;
mod expert_replay;
mod experts;
mod extents;
mod frames;
mod lap;
mod lookahead;
mod policy;
mod replay;
mod residency;
mod route;
mod row_replay;
mod schedule;
mod shape;
mod spread;
mod stack;
mod sweep;
mod transfer;
mod types;
mod window;

pub use bound::{Bound, LeastTransfer, Side, lap_bound_s};
pub use expert_replay::{ReplayedExperts, replay_experts, replay_experts_ahead};
pub use experts::{
    ExpertLayer, ExpertPolicy, ExpertPools, PoolShape, pool_shapes, production_policy,
};
pub use extents::{Cut, CutError, Home, UsedRange, cut, default_target};
pub use frames::{FramePool, Framed, Presence};
pub use lap::{LapLayout, first_lap_s, lap_time_s, run_times};
pub use lookahead::{ExpectedUse, Lookahead, MissedRow};
pub use policy::{Belady, FirstCome, Frequency, Lru, NextUse, Policy, S3Fifo, least_read_bytes};
pub use replay::{Cache, Replayed, Trace, Visit, replay};
pub use residency::{MemoryShare, Residency, TooSmall, choose};
pub use route::{EXPERTS_MAX, ExpertRoute, LAYERS_MAX, ROUTE_HEAD, RouteError, RouteLap, RouteRow};
pub use row_replay::{RowPolicy, replay_rows};
pub use schedule::{NEAR_BYTES, Schedule, Step};
pub use shape::{Frame, RoundTrip};
pub use stack::SpillOrder;
pub use sweep::{ReadCost, sweep};
pub use transfer::{DriveRates, Transfer};
pub use types::{ALIGN, Extent, ExtentId, Mode, Plan, Run, Use};
pub use window::window_min;
