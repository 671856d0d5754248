//! llama.cpp fed from a line: a model is loaded without its bytes, its graph
//! announces which weights it will read, and the pump has them in memory when
//! the compute gets there. Knows nothing of HTTP and terminals.
//!
//! The way of the data: [`ModelFile`] → [`Stream`] (graphs, roles, residency,
//! line) → pump (pointers in llama.cpp's tensors) → [`Session`] or [`batch`] (tokens, text).

mod atlas;
pub mod batch;
mod budget;
pub mod cap;
pub mod cgroup;
mod chat;
mod context;
mod device;
mod empty;
mod engine;
mod error;
mod fiber;
mod graph;
mod items;
mod itinerary;
mod kind;
mod lap;
mod layout;
mod log;
mod model_file;
mod options;
mod piece;
mod prefault;
mod process;
mod pump;
mod report;
mod sample;
mod session;
mod sound;
mod stream;
mod striped;
mod sys;
mod vocab;
pub mod watch;
mod zeros;

/// What [`Options::around`] puts between the files and the line, and what that
/// needs to be a medium itself; and what a [`Fiber`] is made of.
pub mod medium {
    pub use delayline_fiber::LoopSpec;
    pub use delayline_line::{Caps, Completion, Medium, MediumEvent, Op, Stats};
    pub use delayline_medium::{Faults, Faulty};
}

pub use atlas::Steady;
pub use chat::{Message, Template};
pub use context::{FlashAttention, KvType};
pub use device::device_rate;
pub use empty::Load;
pub use engine::Engine;
pub use error::Error;
pub use fiber::{Circuit, Fiber, Order, Progress};
pub use itinerary::Itinerary;
pub use log::kernel_features;
pub use model_file::{Facts, ModelFile, Part, PartFile, Weight, WeightId};
pub use options::{Options, Way};
pub use piece::Piece;
pub use process::{Usage, available_bytes, share_heap};
pub use report::{Laps, MemoryReport, Source};
pub use sample::{Candidates, Sampler, Sampling};
pub use session::{Finish, Generated, Session};
pub use stream::{Class, Stream};
pub use striped::{Manifest, StripedPart};
pub use vocab::{Utf8, Vocab};
