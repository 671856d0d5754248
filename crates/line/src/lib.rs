//! The engine: plan and medium in, extents that are there when the compute asks
//! out. It does no I/O and reads no clock of its own: everything passes through
//! the two seams [`Medium`] and [`Clock`], so the same code runs under io_uring
//! and in virtual time.
//!
//! A [`Line`] is told the future with [`Line::lay`] and reads it in that order,
//! as far ahead as its window allows. The compute takes extents with
//! [`Line::acquire`], gives them back with [`Line::release`] and calls
//! [`Line::pump`] now and then, because nothing moves between calls: there is
//! no thread. Which bytes may be overwritten when is decided by a state machine
//! (`state.rs`, `window.rs`, `flights.rs`) that takes completions in and gives
//! reads out; [`Line`] only carries them between it, the medium and the clock.
//!
//! ```
//! # use delayline_line::{Clock, Completion, Config, Line, Medium, Read};
//! # use delayline_plan::{Extent, ExtentId};
//! # struct Instant(Vec<Completion>);
//! # impl Medium for Instant {
//! #     fn depth(&self) -> usize { 4 }
//! #     fn submit(&mut self, read: Read) {
//! #         let len = read.slot.len();
//! #         self.0.push(Completion { id: read.id, slot: read.slot, result: Ok(len) });
//! #     }
//! #     fn poll(&mut self, _: bool, done: &mut Vec<Completion>) { done.append(&mut self.0); }
//! # }
//! # struct Stopped;
//! # impl Clock for Stopped { fn now_ns(&self) -> u64 { 0 } }
//! # let (medium, clock) = (Instant(Vec::new()), Stopped);
//! // Two extents of a file of 12 KiB; the first stays, at 8192, behind the window.
//! let extents = vec![
//!     Extent { part: 0, offset: 0, len: 4096 },
//!     Extent { part: 0, offset: 4096, len: 8192 },
//! ];
//! let homes = vec![Some(8192), None];
//! let config = Config { window: 8192, read_len: 4096, retries: 2 };
//! let mut line = Line::new(medium, clock, extents, vec![12288], homes, config)?;
//! for _lap in 0..3 {
//!     line.lay([ExtentId(0), ExtentId(1)]);
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
mod window;

pub use clock::Clock;
pub use error::LineError;
pub use line::Line;
pub use medium::{Completion, Medium, Read, ReadError, Slot};
pub use trace::{Event, EventKind, write_chrome};
pub use types::{Config, Counters, Lease, Span, Ticket};
