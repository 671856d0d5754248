//! Numbers over the border: lists of ids in, byte arrays out, of which a tensor can be
//! made without a copy.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

/// What PyTorch aligns its own memory to. Products of matrices may round differently
/// elsewhere, and a batch shall give the bits that it gives in memory.
const ALIGNMENT: usize = 64;

/// The numbers in an object with a buffer of 64-bit integers.
pub(crate) fn ids(object: &Bound<'_, PyAny>) -> PyResult<PyBuffer<i64>> {
    let buffer = PyBuffer::<i64>::get(object).map_err(|_| {
        PyValueError::new_err(
            "expected ids as 64-bit integers in consecutive memory: a numpy array or array('q')",
        )
    })?;
    if buffer.dimensions() != 1 || !buffer.is_c_contiguous() {
        let words = "expected ids in one dimension, one behind the other";
        return Err(PyValueError::new_err(words));
    }
    Ok(buffer)
}

/// A byte array of which `fill` fills `len` bytes, from the offset on that is
/// returned, which is aligned.
pub(crate) fn aligned<'py>(
    py: Python<'py>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> PyResult<()>,
) -> PyResult<(Bound<'py, PyByteArray>, usize)> {
    let mut offset = 0;
    let array = PyByteArray::new_with(py, len + ALIGNMENT, |bytes| {
        offset = bytes.as_ptr().align_offset(ALIGNMENT);
        fill(&mut bytes[offset..offset + len])
    })?;
    Ok((array, offset))
}

/// The numbers as a byte array of 64-bit integers.
pub(crate) fn of_ids<'py, T: Copy + Into<u64>>(
    py: Python<'py>,
    ids: &[T],
) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, 8 * ids.len(), |bytes| {
        for (to, id) in bytes.chunks_exact_mut(8).zip(ids) {
            to.copy_from_slice(&(*id).into().to_le_bytes());
        }
        Ok(())
    })
}
