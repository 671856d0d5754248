//! The read-ahead engine: given a plan and a medium, it has extents in memory when the
//! compute asks for them. It does no I/O and reads no clock itself, but uses the traits
//! [`Medium`] and [`Clock`], so the same code runs under io_uring and in virtual time.
//!
//! [`Line::enqueue`] tells a [`Line`] the future, which it reads in that order, as far
//! ahead as its window allows. The compute takes extents with [`Line::acquire`] and
//! gives them back with [`Line::release`]. There is no thread: reads are submitted and
//! reaped only during calls, so the compute has to call [`Line::pump`] regularly.
//! A state machine (`state.rs`, `window.rs`, `flights.rs`) decides which bytes may be
//! overwritten when: it takes completions and returns operations, which [`Line`] passes
//! to and from the medium.
//!
//! ```
//! # use delayline_line::{Caps, Clock, Completion, Config, Line, LineSetup, Medium, MediumEvent, Op, Region, Stats};
//! # use delayline_plan::{Extent, ExtentId};
//! # struct Instant(Caps, Vec<Completion>);
//! # impl Medium for Instant {
//! #     fn caps(&self) -> &Caps { &self.0 }
//! #     fn submit(&mut self, op: Op) {
//! #         let len = op.buffer.len();
//! #         self.1.push(op.complete(Ok(len)));
//! #     }
//! #     fn poll(&mut self, _: bool, done: &mut Vec<Completion>) { done.append(&mut self.1); }
//! #     fn stats(&self) -> Stats { Stats::default() }
//! #     fn events(&mut self, _: &mut Vec<MediumEvent>) {}
//! # }
//! # struct Stopped;
//! # impl Clock for Stopped { fn now_ns(&self) -> u64 { 0 } }
//! # let (medium, clock) = (Instant(Caps::default(), Vec::new()), Stopped);
//! // Two extents of a file of 12 KiB; the first stays, at 8192, after the window.
//! let region = Region::new(12288);
//! let extents = vec![
//!     Extent { part: 0, offset: 0, len: 4096 },
//!     Extent { part: 0, offset: 4096, len: 8192 },
//! ];
//! let setup = LineSetup {
//!     extents,
//!     part_lens: vec![12288],
//!     homes: vec![Some(8192), None],
//!     config: Config { window: 8192, read_len: 4096, retries: 2 },
//! };
//! let mut line = Line::new(medium, clock, region, setup)?;
//! for _lap in 0..3 {
//!     line.enqueue([ExtentId(0), ExtentId(1)]);
//!     for id in [ExtentId(0), ExtentId(1)] {
//!         let lease = line.acquire(id)?;
//!         // ... compute on the memory at lease.at() ...
//!         line.release(lease);
//!         line.pump()?;
//!     }
//! }
//! assert_eq!(line.counters().bytes_read, 4096 + 3 * 8192);
//! # Ok::<(), delayline_line::LineError>(())
//! ```

#![forbid(unsafe_code)]

mod check;
mod clock;
mod error;
mod fetches;
mod flights;
mod line;
mod medium;
mod state;
mod trace;
mod types;
mod walk;
mod window;

pub use clock::Clock;
pub use error::LineError;
pub use line::Line;
pub use medium::{
    Alignment, Asked, Buffer, Caps, Completion, Durability, EventClass, Medium, MediumError,
    MediumEvent, Op, Rates, Region, RegionId, Stats, Tally, Verb,
};
pub use trace::{CHROME_HEAD, Event, EventKind, write_chrome};
pub use types::{Config, Counters, Lease, LineSetup, PartSpan, Ticket};
pub use walk::Walk;
