//! What a fiber loop and its rivals would really do: optics, power, cost and
//! tokens per second, the last by running the real line in virtual time. Knows
//! no llama.cpp and no real device.

#![forbid(unsafe_code)]

pub mod optics;
