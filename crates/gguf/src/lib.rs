//! The GGUF file format: parses headers, as hostile input, and writes them; turns the
//! numbers of simple blocks into `f32`; and makes the seal of a file, a hash of each of
//! its blocks. It knows no model and opens no file.
//!
//! A header's length is unknown before it has been read, so [`Header::parse`]
//! takes a prefix of the file and says when it is too short:
//!
//! ```
//! use delayline_gguf::{Error, Header, TensorSpec, TensorType, Value, write};
//!
//! let metadata = [("general.architecture".into(), Value::from("llama"))];
//! let tensors = [TensorSpec::new("token_embd.weight", TensorType::Q4_0, &[64, 10])];
//! let layout = write(&metadata, &tensors)?;
//!
//! let mut prefix = 16;
//! let header = loop {
//!     match Header::parse(&layout.header[..prefix], layout.file_len) {
//!         Err(Error::NeedMore { at_least }) => prefix = at_least as usize,
//!         done => break done?,
//!     }
//! };
//! assert_eq!(header.architecture()?, "llama");
//! assert_eq!(header.tensors[0].len, 64 * 10 / 32 * 18);
//! # Ok::<(), Error>(())
//! ```

#![forbid(unsafe_code)]

mod access;
mod cursor;
mod error;
mod header;
mod numbers;
mod read;
mod seal;
mod split;
mod tensor;
mod types;
mod value;
mod write;

pub use error::Error;
pub use header::{DEFAULT_ALIGNMENT, Header, MAX_ALIGNMENT, MAX_HEADER_LEN, Metadata};
pub use numbers::NoNumbers;
pub use read::{ReadError, read_header};
pub use seal::{
    SEAL_BLOCK, SEAL_HEAD, SealCheck, SealError, Sealer, block_hash, is_seal, seal_len,
};
pub use split::{Split, part_path, parts};
pub use tensor::{MAX_NAME_LEN, Tensor, TensorSpec};
pub use types::TensorType;
pub use value::{Array, Value, ValueType};
pub use write::{FileLayout, write};
