//! The APIs of OpenAI and Anthropic: parsing of requests, and the form of answers and
//! errors. Chat completions are the core; messages and responses are adapters, which
//! translate a request to a chat and its answer back. Knows no sockets and no engine.

pub mod answer;
pub mod anthropic;
pub mod blocks;
pub mod calls;
pub mod channels;
pub mod completion;
pub mod embeddings;
pub mod error;
pub mod fields;
pub mod messages;
pub mod request;
pub mod responses;
pub mod schema;
pub mod thoughts;
pub mod tools;
