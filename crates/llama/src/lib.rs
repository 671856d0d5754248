//! llama.cpp fed from a line: a model is loaded without its bytes, its graph
//! announces which weights it will read, and the pump has them in memory when
//! they are needed. Knows nothing of HTTP and terminals.
//!
//! Data flow: the engine's stream (graphs, roles, residency, line) → pump
//! (pointers in llama.cpp's tensors) → [`Session`] or [`batch`] (tokens, text).

mod backend;
pub mod batch;
mod bind;
mod chat;
mod context;
mod cut;
mod empty;
mod kept;
mod kind;
mod learn;
mod log;
mod mapped;
mod own_graph;
mod piece;
mod pump;
mod rehearse;
mod router;
mod sample;
mod session;
mod special;
mod sys;
mod thoughts;
mod threads;
mod tier;
mod tokenize;
mod vocab;
mod zeros;

pub use backend::{LlamaBackend, LlamaEngine, LlamaLoader, open};
pub use chat::{Conversation, Message, Rendered, Template};
pub use delayline_kv::Namespace;
pub use kind::{REFUSED, RefusedArchs, rides_alone};
pub use log::kernel_features;
pub use piece::Piece;
pub use rehearse::{Rehearsed, rehearse};
pub use sample::{Candidates, Sampler, Sampling, TokenBias, Trigger};
pub use session::{Finish, Generated, Session};
pub use thoughts::Thinking;
pub use tier::{KvCache, KvShare, KvTier, KvTierStats};
pub use tokenize::TokenizeRequest;
pub use vocab::{Utf8, Vocab};
