//! The tensors of GGUF files for Python, as 32-bit floats.

use delayline_gguf::{Array, Header, Tensor, Value, ValueType, parts, read_header};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyFileNotFoundError, PyKeyError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Maximum length of a header in bytes.
const MAX_HEADER: u64 = 1 << 30;

/// Bytes of a tensor that are read at once, rounded up to whole blocks.
const PIECE: u64 = 1 << 20;

/// The file of a model, or all of its parts.
#[pyclass(frozen, module = "delayline._native")]
pub(crate) struct NativeGguf {
    parts: Vec<Part>,
}

struct Part {
    path: PathBuf,
    file: File,
    header: Vec<u8>,
    len: u64,
    tensors: Vec<Tensor>,
}

impl Part {
    fn open(path: &Path) -> PyResult<Self> {
        let failed = |error: std::io::Error| {
            let message = format!("{}: {error}", path.display());
            match error.kind() {
                ErrorKind::NotFound => PyFileNotFoundError::new_err(message),
                _ => PyOSError::new_err(message),
            }
        };
        let wrong = |error: &dyn std::error::Error| {
            PyValueError::new_err(format!("{}: {error}", path.display()))
        };
        let mut file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let header = read_header(&mut file, len, MAX_HEADER).map_err(|error| wrong(&error))?;
        let tensors = Header::parse(&header, len)
            .map_err(|error| wrong(&error))?
            .tensors;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            len,
            tensors,
        })
    }

    fn parsed(&self) -> Header<'_> {
        Header::parse(&self.header, self.len).expect("it was parsed when it was opened")
    }

    /// Reads a tensor and writes its elements to `numbers`, 4 bytes each.
    fn read(&self, tensor: &Tensor, numbers: &mut [u8]) -> PyResult<()> {
        let block = tensor.ty.block_bytes();
        let mut piece = vec![0; (PIECE.next_multiple_of(block).min(tensor.len)) as usize];
        let mut numbers = numbers.chunks_exact_mut(4);
        let mut at = 0;
        while at < tensor.len {
            let some = (piece.len() as u64).min(tensor.len - at) as usize;
            let read = self.file.read_exact_at(&mut piece[..some], tensor.at + at);
            read.map_err(|error| {
                let name = &tensor.name;
                PyOSError::new_err(format!("{}: {name}: {error}", self.path.display()))
            })?;
            let put = |number: f32| {
                let to = numbers.next().expect("the shape fits the blocks");
                to.copy_from_slice(&number.to_le_bytes());
            };
            let taken = tensor.ty.numbers(&piece[..some], put);
            taken.map_err(|error| {
                let name = &tensor.name;
                PyValueError::new_err(format!("{}: {name}: {error}", self.path.display()))
            })?;
            at += some as u64;
        }
        Ok(())
    }
}

#[pymethods]
impl NativeGguf {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| {
            let first = Part::open(&path)?;
            let split = first.parsed().split();
            let wrong = |error: delayline_gguf::Error| {
                PyValueError::new_err(format!("{}: {error}", path.display()))
            };
            let mut all = vec![first];
            if let Some(split) = split.map_err(wrong)? {
                let paths = parts(&path, split.count).map_err(wrong)?;
                for path in &paths[1..] {
                    all.push(Part::open(path)?);
                }
            }
            Ok(Self { parts: all })
        })
    }

    /// The names of all tensors, in the order of the file.
    fn names(&self) -> Vec<&str> {
        let tensors = self.parts.iter().flat_map(|part| &part.tensors);
        tensors.map(|tensor| &*tensor.name).collect()
    }

    /// The elements of a tensor as 32-bit floats in a byte array, and its shape, with the
    /// contiguous dimension last.
    fn read<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<(Bound<'py, PyByteArray>, Vec<u64>)> {
        let find = |part: &'_ Part| part.tensors.iter().position(|tensor| tensor.name == name);
        let found = self.parts.iter().find_map(|part| Some((part, find(part)?)));
        let Some((part, index)) = found else {
            return Err(PyKeyError::new_err(name.to_owned()));
        };
        let tensor = &part.tensors[index];
        let count: u64 = tensor.shape().iter().product();
        let bytes = PyByteArray::new_with(py, 4 * count as usize, |bytes| part.read(tensor, bytes));
        Ok((bytes?, tensor.shape().iter().rev().copied().collect()))
    }

    /// The metadata of the first part. In lists, strings that are not UTF-8 are bytes.
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for (key, value) in self.parts[0].parsed().metadata {
            found.set_item(&*key, object(py, &value)?)?;
        }
        Ok(found)
    }
}

/// A value of the metadata as an object of Python.
fn object<'py>(py: Python<'py>, value: &Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::U8(value) => value.into_bound_py_any(py),
        Value::I8(value) => value.into_bound_py_any(py),
        Value::U16(value) => value.into_bound_py_any(py),
        Value::I16(value) => value.into_bound_py_any(py),
        Value::U32(value) => value.into_bound_py_any(py),
        Value::I32(value) => value.into_bound_py_any(py),
        Value::F32(value) => value.into_bound_py_any(py),
        Value::Bool(value) => value.into_bound_py_any(py),
        Value::Str(value) => value.into_bound_py_any(py),
        Value::U64(value) => value.into_bound_py_any(py),
        Value::I64(value) => value.into_bound_py_any(py),
        Value::F64(value) => value.into_bound_py_any(py),
        Value::Array(array) => list(py, array),
    }
}

fn list<'py>(py: Python<'py>, array: &Array<'_>) -> PyResult<Bound<'py, PyAny>> {
    let list = PyList::empty(py);
    if array.kind() == ValueType::Str {
        for text in array.strings() {
            match std::str::from_utf8(text) {
                Ok(text) => list.append(text)?,
                Err(_) => list.append(text)?,
            }
        }
    } else {
        for value in array.scalars() {
            list.append(object(py, &value)?)?;
        }
    }
    list.into_bound_py_any(py)
}
