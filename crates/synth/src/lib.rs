//! GGUF files with random weights in the shape of real models, so that a
//! benchmark or a test needs no download. Knows nothing of how a model is run.
//!
//! The tensors have the names, types, sizes and order of the real model's, and
//! values that keep activations in range, so llama.cpp runs these files like any
//! other; the generated text is noise. The vocabulary has the real model's *size*,
//! but its strings are synthetic: a byte-level BPE that accepts any text and
//! generates lowercase words of two to four letters.
//!
//! ```no_run
//! use delayline_synth::{Quant, shape, size, write};
//!
//! let llama = shape("llama-8b").unwrap();
//! println!("{} bytes", size(&llama, Quant::Q4_0)?);
//! write(&llama, Quant::Q4_0, 1, "llama-8b.gguf".as_ref(), &mut |done, total| {
//!     eprint!("\r{} %", 100 * done / total);
//! })?;
//! # Ok::<(), delayline_synth::Error>(())
//! ```

#![forbid(unsafe_code)]

mod arch;
mod error;
mod layout;
mod metadata;
mod quant;
mod routing;
mod shape;
mod shapes;
mod tensors;
mod vocab;
mod weights;
mod write;

pub use arch::{SizedArch, TinyArch, sized_archs, tiny_archs};
pub use error::Error;
pub use layout::size;
pub use quant::Quant;
pub use shape::{Arch, Blueprint, Experts, Shape};
pub use shapes::{names, shape};
pub use write::{Summary, write, write_split};
