//! What a fiber loop and its rivals would really do: optics, power, cost and
//! tokens per second, the last by running the real line in virtual time. Knows
//! no llama.cpp and no real device.
//!
//! Every number comes from a [`datasheet`] with its source, and carries its
//! [`interval`] through to the result.
//!
//! ```
//! use delayline_study::decode::{Course, SimulatedFeed, SimulatedMachine, simulate};
//!
//! // 32 layers of 4 GB in all, which pass through a window of 200 MB.
//! let course = Course::even(32, 4e9, 0.0, 200_000_000, 0);
//! let drive = SimulatedFeed::OnDemand { rate_bytes_per_s: 4e9, latency_s: 80e-6, depth: 32 };
//! let machine = SimulatedMachine { feed: drive, compute_s: 0.3 };
//! let lap = simulate(&machine, &course, 4)?;
//!
//! // The drive takes a second for 4 GB, and hides the compute.
//! assert!((1.0..1.05).contains(&lap.lap_s));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod claims;
pub mod datasheet;
pub mod decode;
pub mod experts;
pub mod find;
pub mod graph;
pub mod interval;
pub mod kv;
pub mod link;
pub mod media;
pub mod model;
pub mod optics;
pub mod report;
pub mod sensitivity;
pub mod setting;
pub mod sweep;
pub mod train;
