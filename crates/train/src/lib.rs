//! Training from flash: weights and optimizer state are on a drive, and in memory only
//! while they are used. [`StateStore`] reads them ahead, writes back what has changed and
//! commits steps, so that a crash loses at most the current step. [`Activations`] keeps
//! what the forward pass leaves for the backward pass, and spills what does not fit. Knows
//! bytes, but no tensors.
//!
//! ```
//! use delayline_plan::Mode;
//! use delayline_train::{StateFolder, StateLayout};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("run");
//! // Eight extents of 1 MiB in 4 MiB of memory.
//! let layout = StateLayout { lens: vec![1 << 20; 8], waiting: vec![], twin: true, payload: 100 };
//! let mut store = StateFolder::create(&path, 4 << 20, layout)?;
//! for step in 1..=2u8 {
//!     for extent in 0..8 {
//!         let mode = if step == 1 { Mode::Write } else { Mode::Modify };
//!         let lease = store.acquire(extent, mode)?;
//!         store.memory().copy_in(lease.at(), &[step; 1 << 20]);
//!         store.release(lease);
//!     }
//!     store.end_step();
//!     store.commit(format!("after step {step}").as_bytes())?;
//! }
//! drop(store);
//!
//! let mut store = StateFolder::open(&path, 4 << 20)?;
//! assert_eq!(store.payload(), b"after step 2");
//! let lease = store.acquire(3, Mode::Read)?;
//! let mut byte = [0];
//! store.memory().copy_out(lease.at(), &mut byte);
//! assert_eq!(byte, [2]);
//! store.release(lease);
//! # Ok::<(), delayline_train::Error>(())
//! ```

#![forbid(unsafe_code)]

mod activations;
mod arena;
mod counters;
mod error;
mod folder;
mod order;
mod pager;
mod record;
mod store;

pub use activations::{ActivationId, Activations};
pub use counters::TrainCounters;
pub use error::Error;
pub use folder::StateFolder;
pub use store::{StateLayout, StateLease, StateStore};
