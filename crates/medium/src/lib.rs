//! Where the extents are, and the memory they are read into: implementations
//! of the line's [`Medium`](delayline_line::Medium) and
//! [`Clock`](delayline_line::Clock). Knows no model and no policy.
//!
//! | medium | is for |
//! |---|---|
//! | [`Flash`] | files on a drive: io_uring and direct I/O, with fallbacks that it tells of |
//! | [`Dram`] | bytes already in memory: the ideal medium, and the one of tests |
//! | [`Simulated`] | a rate, a latency and a depth, in virtual time |
//! | [`Stripe`] | several other media as one, stripe by stripe |
//! | [`Faulty`] | any other medium, with seeded delays, short reads and errors |
//!
//! All of them read into a [`Memory`], at the byte offsets that a
//! [`Slot`](delayline_line::Slot) carries.
//!
//! ```
//! # use delayline_line::{Medium, Read, Slot};
//! # use delayline_medium::{Dram, Memory};
//! let memory = Memory::new(1 << 20)?;
//! let mut medium = Dram::new(vec![vec![7; 8192]], memory.clone(), 4);
//! let slot = Slot::claim(4096, 4096);
//! medium.submit(Read { id: 1, part: 0, offset: 0, slot });
//! let mut done = Vec::new();
//! medium.poll(true, &mut done);
//! assert_eq!(done[0].result, Ok(4096));
//! let mut bytes = [0; 4096];
//! memory.copy_out(4096, &mut bytes);
//! assert_eq!(bytes, [7; 4096]);
//! # Ok::<(), delayline_medium::MemoryError>(())
//! ```

mod clock;
mod direct;
mod dram;
mod engine;
mod error;
mod faulty;
mod flash;
mod identity;
mod memory;
mod parts;
mod pool;
mod probe;
mod rng;
mod simulated;
mod stripe;
mod uring;

pub use clock::{Pace, RealClock, VirtualClock};
pub use direct::DirectIo;
pub use dram::Dram;
pub use engine::{Backend, Options};
pub use error::{MemoryError, Notice, OpenError, ProbeError};
pub use faulty::{Faults, Faulty};
pub use flash::{Flash, Traffic};
pub use identity::Fingerprint;
pub use memory::{HUGE, Memory};
pub use parts::Access;
pub use probe::{Findings, ReadRate, device_rate, device_rate_within, findings, read_rates};
pub use rng::Rng;
pub use simulated::{Link, Simulated, Source};
pub use stripe::{Drive, Stripe, shares, stripes};
