//! A fiber loop as a medium: weights circulate as light, pass a tap once a lap,
//! and are taken as they pass. Owns all that only a loop needs: its parameters,
//! light, glass, decay and cuts, and optimum coding, which decides where on the
//! loop each extent circulates. To everything else it is a
//! [`Medium`](delayline_line::Medium).
//!
//! ```
//! # use delayline_fiber::LoopSpec;
//! // 256 Tb/s over 200 km of glass, nothing set aside for error correction.
//! let spec = LoopSpec {
//!     overhead: 0.0,
//!     ..LoopSpec::new(200.0, 256e12)
//! };
//! assert_eq!((spec.lap_s() * 1e6).round(), 979.0);
//! assert_eq!(spec.capacity_bytes() / 1_000_000_000, 31);
//! ```

#![forbid(unsafe_code)]

mod coding;
mod fiber_loop;
mod gauge;
mod glass;
mod light;
mod maker;
mod orbit;
mod placement;
mod quantity;
mod spec;

pub use coding::{
    Coding, CodingTask, LoopTiming, coded_lap_s, draft, in_order, interleaved, optimum,
};
pub use fiber_loop::{FiberLoop, FillError};
pub use gauge::{Gauge, LoopFigures, LoopNotice};
pub use maker::{FillProgress, LoopMaker, Order, PlacedLoop};
pub use orbit::{PlacedExtent, pieces};
pub use placement::PlacementError;
pub use quantity::Quantity;
pub use spec::{DoesNotFit, LightCut, LoopSpec, SpecBuilder, SpecError};
