//! A store of blocks of KV cache that several machines share: a folder or an S3 bucket.
//! Runs in a process of its own (`delayline-share`), so that the one that runs models
//! needs no network access and is not blocked by a network that hangs. Knows only names
//! and bytes; the server that sends a block seals it.
//!
//! ```
//! use delayline_kv::{Namespace, Root, ShareLink, ShareSecret, Store};
//! use delayline_share::SharedPlace;
//! use std::os::unix::net::UnixStream;
//!
//! let folder = tempfile::tempdir()?;
//! let (root, secret) = (Root::new(&[b"a model"]), ShareSecret::new(b"sixteen bytes or more")?);
//! // In the program this is a pair of pipes.
//! let connect = || -> Result<ShareLink, Box<dyn std::error::Error>> {
//!     let (ours, theirs) = UnixStream::pair()?;
//!     let place = SharedPlace::open(folder.path().to_str().ok_or("a name")?, 1 << 30)?;
//!     let input = theirs.try_clone()?;
//!     std::thread::spawn(move || delayline_share::serve(place, input, theirs));
//!     let input = Box::new(ours.try_clone()?);
//!     Ok(ShareLink::new(input, Box::new(ours), "a folder", secret.clone())?)
//! };
//! let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! let (whose, tokens) = (Namespace::default(), [7; 64]);
//! let mut one = Store::open(here.path(), 1 << 20, root)?;
//! one.share(connect()?);
//! for block in one.chain(&whose, &tokens) {
//!     one.put(&block, b"what was computed")?;
//! }
//! drop(one); // Sends the blocks still queued.
//! let mut other = Store::open(there.path(), 1 << 20, root)?;
//! other.share(connect()?);
//! while other.fetch(&whose, &tokens, None) {
//!     std::thread::yield_now();
//! }
//! assert_eq!(other.find(&whose, &tokens).len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod error;
mod evict;
mod place;
mod serve;

pub use error::Error;
pub use place::SharedPlace;
pub use serve::serve;
