//! What a fiber loop and its rivals would really do: optics, power, cost and
//! tokens per second, the last by running the real line in virtual time. Knows
//! no llama.cpp and no real device.
//!
//! Every number comes from a [`datasheet`] with its source, and carries its
//! [`interval`] through to the result.

#![forbid(unsafe_code)]

pub mod claims;
pub mod datasheet;
pub mod decode;
pub mod interval;
pub mod link;
pub mod media;
pub mod model;
pub mod optics;
pub mod report;
pub mod sweep;
