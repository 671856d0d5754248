//! The question `study link`: a fiber loop from a design file and data sheets to
//! what it carries, holds, takes and costs. Knows the optics as functions and
//! the data sheets as figures; knows no command line.

mod answer;
mod cost;
mod design;
mod fiber;
mod medium;
mod report;
mod resolve;

pub use answer::{Answer, Error, answer};
pub use cost::{Cost, Item};
pub use design::{Design, PRESETS, preset};
pub use fiber::fiber;
pub use medium::{Lit, Optics, lit};
pub use report::report;
pub use resolve::line;

#[cfg(test)]
mod tests;
