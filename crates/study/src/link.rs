//! `study link`: from a design file and data sheets to what a fiber loop carries, holds, draws
//! and costs. The physics is in `optics`.

mod answer;
mod carried;
mod cost;
mod design;
mod fiber;
mod medium;
mod named;
mod report;
mod resolve;

pub use answer::{Answer, Error, answer, lap_s};
pub use carried::{Carried, carried, solved_presets};
pub use cost::{Cost, Item, cost};
pub use design::{Design, PRESETS, preset};
pub use fiber::fiber;
pub use medium::{Lit, Optics, lit};
pub use named::{NameError, named};
pub use report::{headline, report};
pub use resolve::line;

#[cfg(test)]
mod tests;
