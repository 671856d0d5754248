//! llama.cpp fed from a line: a model is loaded without its bytes, its graph
//! announces which weights it will read, and the pump has them in memory when
//! the compute gets there. Knows nothing of HTTP and terminals.
//!
//! The way of the data: [`ModelFile`] → [`Stream`] (graphs, roles, residency,
//! line) → pump (pointers in llama.cpp's tensors) → [`Session`] or [`batch`] (tokens, text).

pub mod batch;
mod bind;
mod chat;
mod context;
mod empty;
mod engine;
mod kind;
mod learn;
mod log;
mod piece;
mod pump;
mod sample;
mod session;
mod stream;
mod sys;
mod thread_choice;
mod vocab;
mod zeros;

/// What [`Options::maker`] puts between the files and the line, and what that needs
/// to be a medium itself.
pub mod medium {
    pub use delayline_line::{Caps, Completion, Medium, MediumEvent, Op, Stats};
    pub use delayline_medium::{
        FaultSwitch, Faults, Faulty, LapOutline, MadeMedium, MakeError, MediumMaker, MediumSite,
        wrapped,
    };
}

pub use chat::{Message, Template};
pub use delayline_engine::{
    Error, Facts, FlashAttention, Itinerary, KvType, Laps, Manifest, MemoryReport, ModelFile,
    Options, Part, PartFile, Source, Steady, StripedPart, Usage, Way, Weight, WeightId,
    available_bytes, cap, cgroup, device_rate, share_heap, watch,
};
pub use empty::Load;
pub use engine::Engine;
pub use log::kernel_features;
pub use piece::Piece;
pub use sample::{Candidates, Sampler, Sampling};
pub use session::{Finish, Generated, Session};
pub use stream::{Class, Stream};
pub use vocab::{Utf8, Vocab};
