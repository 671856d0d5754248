//! Models of the Hugging Face hub: resolves names such as `hf:org/repo:Q4_K_M`, finds
//! models in the cache that the hub's own tools use, and fetches into it. Does not parse
//! GGUF.
//!
//! ```no_run
//! use delayline_hub::{HubCache, Hub, HubName};
//!
//! let name = HubName::parse("hf:org/model-GGUF:Q8_0").expect("a name of the hub")?;
//! let cache = HubCache::from_env()?;
//! let path = match cache.find(&name) {
//!     Ok(path) => path,
//!     Err(_) => {
//!         let hub = Hub::from_env()?;
//!         let model = hub.model(&name)?;
//!         hub.fetch(&cache, &model, &mut |_bytes| true)?
//!     }
//! };
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod cache;
mod download;
mod error;
mod fetch;
mod name;

pub use cache::{CachedModel, HubCache};
pub use error::Error;
pub use fetch::{Hub, RemoteFile, RemoteModel};
pub use name::HubName;
