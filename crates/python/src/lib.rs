//! The native half of the Python package `delayline`. Converts values between Python and
//! Rust, and nothing else: their meaning is in `delayline-graph`, `delayline-train` and the
//! package. Only `train.rs` has unsafe code, which gives the interpreter access to memory.

use pyo3::prelude::*;

mod buffers;
mod errors;
mod features;
mod gguf;
mod sampler;
mod size;
mod train;

/// The module `delayline._native`.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<features::NativeFeatures>()?;
    module.add_class::<sampler::NativeSampler>()?;
    module.add_class::<gguf::NativeGguf>()?;
    module.add_class::<train::NativeStore>()?;
    module.add_class::<train::NativeLease>()?;
    module.add_class::<train::NativeActivations>()?;
    module.add_class::<train::NativeActivation>()?;
    module.add_function(wrap_pyfunction!(train::size_of, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
