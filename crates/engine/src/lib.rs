//! Plans, budgets and what laps are made of: a model's files and the graphs that a
//! backend announces are turned into extents, what stays, and stops of a lap.
//! Knows no llama.cpp and no tokens.

mod atlas;
mod backend;
pub mod budget;
pub mod cap;
pub mod cgroup;
mod device;
mod error;
mod graph;
mod items;
mod itinerary;
mod lap;
mod layout;
mod model_file;
mod options;
mod prefault;
pub mod process;
mod report;
mod settle;
mod shape;
mod sound;
mod source;
mod striped;
pub mod watch;

pub use atlas::{Atlas, Steady};
pub use backend::{Bind, Binding, Feed, Flow};
pub use budget::Needs;
pub use device::device_rate;
pub use error::{Error, mib};
pub use graph::{Graph, How, TensorId, UseId, WeightUse};
pub use items::Items;
pub use itinerary::{Itinerary, Supply, UseSupply};
pub use lap::{Feeder, Supplies};
pub use layout::{Layout, Role};
pub use model_file::{Facts, ModelFile, Names, Part, PartFile, Weight, WeightId};
pub use options::{Options, Way};
pub use prefault::Prefault;
pub use process::{Usage, available_bytes, share_heap};
pub use report::{Laps, MemoryReport, Source};
pub use settle::settle_budget;
pub use shape::{FlashAttention, KvType, Shape};
pub use source::{LineSource, READ_LEN, RealLine, open_line, open_medium};
pub use striped::{Manifest, StripedPart};
