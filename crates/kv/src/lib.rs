//! Blocks of KV cache in a folder, found again by later requests and after a restart.
//! Knows tokens and bytes, but neither llama.cpp nor HTTP.
//!
//! A block holds what a model computed for up to [`BLOCK_TOKENS`] consecutive tokens.
//! Its name is a keyed hash of all tokens up to its end; the key is a [`Root`], which covers
//! everything else that decides the block's bits. The file contains the tokens, which are
//! compared, and a keyed hash of the whole file. So a block that is torn, stale, of another
//! model or under another block's name is a miss.
//!
//! ```
//! use delayline_kv::{Namespace, Root, Store};
//!
//! let folder = tempfile::tempdir()?;
//! let root = Root::new(&[b"which model", b"which kernels"]);
//! let tokens: Vec<i32> = (0..100).collect();
//! let mut store = Store::open(folder.path(), 1 << 20, root)?;
//! let whose = Namespace::new(b"the holder of a key", b"");
//! for block in store.chain(&whose, &tokens) {
//!     store.put(&block, format!("bytes of {:?}", block.range()).as_bytes())?;
//! }
//! let found = store.find(&whose, &tokens);
//! assert_eq!(found.last().map(|block| block.range().end), Some(100));
//! assert_eq!(store.get(&found[0]).as_deref(), Some(&b"bytes of 0..64"[..]));
//! let another = Namespace::new(b"the holder of a key", b"and a salt");
//! assert!(store.find(&another, &tokens).is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod aging;
mod block;
mod blocks;
mod content;
mod error;
mod folder;
mod index;
mod key;
mod message;
mod namespace;
mod secret;
mod shared;
mod store;
mod wear;

pub use aging::Aging;
pub use block::{BLOCK_TOKENS, Block};
pub use content::{ContentCache, content_of};
pub use error::StoreError;
pub use folder::{FolderStat, clear, make, prune, stat, verify};
pub use index::{ChainLink, KvIndex};
pub use key::Root;
pub use message::{ShareMessage, ShareVerb};
pub use namespace::Namespace;
pub use secret::ShareSecret;
pub use shared::ShareLink;
pub use store::{KvStats, Store};
