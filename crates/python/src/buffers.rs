//! Lists of ids from Python, and byte arrays to Python, from which a tensor is made without
//! a copy.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

/// Alignment of PyTorch's own memory in bytes. Matrix products may round differently at
/// another alignment, and a batch must give the same bits as features in memory.
const ALIGNMENT: usize = 64;

/// The ids in an object with a buffer of 64-bit integers.
///
/// # Errors
/// `ValueError` if it has no such buffer, or not one consecutive dimension.
pub(crate) fn ids(object: &Bound<'_, PyAny>) -> PyResult<PyBuffer<i64>> {
    let buffer = PyBuffer::<i64>::get(object).map_err(|_| {
        PyValueError::new_err(
            "expected ids as 64-bit integers in consecutive memory: a numpy array or array('q')",
        )
    })?;
    if buffer.dimensions() != 1 || !buffer.is_c_contiguous() {
        let message =
            "expected ids in one dimension, in consecutive memory: make the array contiguous";
        return Err(PyValueError::new_err(message));
    }
    Ok(buffer)
}

/// A byte array that contains `len` aligned bytes, which `fill` writes, and their offset.
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

/// The ids as 64-bit integers in a byte array.
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
