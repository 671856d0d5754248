//! The OpenAI-compatible server: every sequence on the same lap. Knows nothing
//! of the command line.

pub mod live;
pub mod page;
