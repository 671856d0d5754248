//! Where the extents are, and the memory they are read into: implementations
//! of the line's [`Medium`](delayline_line::Medium) and
//! [`Clock`](delayline_line::Clock). Knows no model and no policy.
//!
//! | medium | is for |
//! |---|---|
//! | [`Flash`] | files on a drive, read and written: io_uring and direct I/O, with fallbacks that it reports |
//! | [`Dram`] | bytes already in memory: the ideal medium, and the one of tests |
//! | [`Simulated`] | a rate, a latency and a depth, in virtual time |
//! | [`Stripe`] | several other media as one, stripe by stripe |
//! | [`Faulty`] | any other medium, with seeded delays, short operations, errors and lies |
//! | [`Checked`] | any other medium, whose reads are compared with a seal, or with what the first read brought |
//! | [`Crash`] | a power cut, after which writes that no sync has settled are found in any state |
//!
//! All of them read into and write from a [`Memory`], the bytes of a
//! [`Buffer`](delayline_line::Buffer) that its region has lent.
//!
//! ```
//! # use delayline_line::{Medium, Op};
//! # use delayline_medium::{Dram, Memory};
//! let (memory, mut region) = Memory::new(1 << 20)?;
//! let mut medium = Dram::new(vec![vec![7; 8192]], memory.clone(), 4);
//! medium.submit(Op::read(1, 0, 0, region.lend(4096, 4096)));
//! let mut done = Vec::new();
//! medium.poll(true, &mut done);
//! assert_eq!(done[0].result, Ok(4096));
//! region.take_back(done.remove(0).buffer);
//! let mut bytes = [0; 4096];
//! memory.copy_out(4096, &mut bytes);
//! assert_eq!(bytes, [7; 4096]);
//! # Ok::<(), delayline_medium::MemoryError>(())
//! ```

mod checked;
mod clock;
mod crash;
mod direct;
mod dram;
mod engine;
mod error;
mod faulty;
mod flash;
mod identity;
mod maker;
mod memory;
mod parts;
mod pool;
mod probe;
mod refuse;
mod rng;
mod simulated;
mod stripe;
mod uring;

pub use checked::{CHECK_BLOCK, CheckCounts, Checked, Checks, KnownRead, Team, sum_of_blocks};
pub use clock::{Pace, RealClock, VirtualClock};
pub use crash::Crash;
pub use direct::DirectIo;
pub use dram::Dram;
pub use engine::{FlashOptions, IoBackend};
pub use error::{MemoryError, OpenError, ProbeError};
pub use faulty::{FaultCounts, FaultSwitch, Faults, Faulty};
pub use flash::Flash;
pub use identity::Fingerprint;
pub use maker::{LapOutline, MadeMedium, MakeError, MediumMaker, MediumSite, wrapped};
pub use memory::{HUGE, Memory};
pub use parts::Access;
pub use probe::{
    Findings, MixedRate, ReadRate, ScratchFile, device_rate, device_rate_within, findings,
    mixed_rates, read_rates,
};
pub use rng::Rng;
pub use simulated::{Link, Simulated};
pub use stripe::{Drive, Stripe, shares, stripes};
