//! The API as OpenAI describes it: what a request says, what an answer looks
//! like, how an error is put. Knows no sockets and no engine.

pub mod answer;
pub mod calls;
pub mod error;
pub mod fields;
pub mod messages;
pub mod request;
pub mod schema;
pub mod tools;
