//! The APIs as OpenAI and Anthropic describe them: what a request says, what an answer
//! looks like, how an error is put. Chats are the core; messages and responses are
//! adapters, which write a request as a chat and put its answer in their own form. Knows
//! no sockets and no engine.

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
