//! The native half of the Python package `delayline`. It carries values over the
//! border; what they mean is said in `delayline-graph`, `delayline-train` and in the
//! package. Unsafe code hands memory to the interpreter, in `train.rs` alone.

use pyo3::prelude::*;

mod buffers;
mod errors;
mod features;
mod gguf;
mod sampler;
mod size;
mod train;

/// What `delayline/__init__.py` and `delayline/pyg.py` are made of.
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
