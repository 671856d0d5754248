//! Features for Python. Other threads of Python run while a call waits for rows.

use crate::buffers::{aligned, ids};
use crate::errors::exception;
use crate::size;
use delayline_graph::{ElementType, Error, FeatureFile, Features, RowFormat};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};
use std::path::PathBuf;
use std::process;
use std::sync::{Mutex, PoisonError};

/// The base class of `delayline.Features`.
#[pyclass(subclass, module = "delayline._native")]
pub(crate) struct NativeFeatures {
    features: Mutex<Features>,
    process: u32,
    rows: u64,
    columns: u64,
    element: ElementType,
    path: PathBuf,
}

/// Converts ids to rows of a file with `rows` rows.
fn rows_of(ids: &[i64], rows: u64) -> Result<Vec<u32>, Error> {
    let row = |&row: &i64| u32::try_from(row).map_err(|_| Error::NoSuchRow { row, rows });
    ids.iter().map(row).collect()
}

impl NativeFeatures {
    /// Calls `work` with the features while other threads of Python run.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Features) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        // Checked before locking: a thread that held the mutex at a fork is not in the child,
        // so it would stay locked for ever there.
        let (opened, here) = (self.process, process::id());
        if opened != here {
            return Err(exception(Error::Forked { opened, here }));
        }
        let locked = || {
            let mut features = self.features.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut features)
        };
        py.detach(locked).map_err(exception)
    }

    /// A byte array with `rows` rows that `work` writes, and their offset.
    fn filled<'py>(
        &self,
        py: Python<'py>,
        rows: usize,
        work: impl FnOnce(&mut Features, &mut [u8]) -> Result<(), Error> + Send,
    ) -> PyResult<(Bound<'py, PyByteArray>, usize)> {
        let row_len = (self.columns * self.element.size()) as usize;
        aligned(py, rows * row_len, |out| {
            self.with(py, |features| work(features, out))
        })
    }
}

#[pymethods]
impl NativeFeatures {
    #[new]
    #[pyo3(signature = (path, memory, shape=None, dtype=None, offset=None))]
    fn new(
        path: PathBuf,
        memory: &Bound<'_, PyAny>,
        shape: Option<(u64, u64)>,
        dtype: Option<&Bound<'_, PyAny>>,
        offset: Option<u64>,
    ) -> PyResult<Self> {
        let memory = size::bytes(memory)?;
        let element = match dtype {
            // Either a name, or a torch.dtype, whose string is its name.
            Some(dtype) => {
                let name = dtype.str()?.to_string();
                Some(ElementType::from_name(&name).map_err(PyValueError::new_err)?)
            }
            None => None,
        };
        let given = RowFormat {
            shape,
            element,
            offset,
        };
        let file = FeatureFile::open(&path, &given).map_err(exception)?;
        let (rows, columns, element) = (file.rows, file.columns, file.element);
        let features = Features::new(file, memory).map_err(exception)?;
        Ok(Self {
            features: Mutex::new(features),
            process: process::id(),
            rows,
            columns,
            element,
            path,
        })
    }

    /// Number of rows, and of elements in each.
    #[getter]
    fn shape(&self) -> (u64, u64) {
        (self.rows, self.columns)
    }

    /// The name of the elements' type in PyTorch.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.element.name()
    }

    /// The path of the file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Announces the next batch by its ids; the caller holds `held` bytes for it.
    fn announce(&self, py: Python<'_>, rows: &Bound<'_, PyAny>, held: u64) -> PyResult<()> {
        let rows = rows_of(&ids(rows)?.to_vec(py)?, self.rows).map_err(exception)?;
        self.with(py, |features| features.announce(rows, held))
    }

    /// Whether there is room to announce another batch.
    fn wants_more(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |features| Ok(features.wants_more()))
    }

    /// Takes the first announced batch: a byte array, and the offset of its rows.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyByteArray>, usize)> {
        let next = |features: &mut Features| features.next_rows().ok_or(Error::NothingAhead);
        let rows = self.with(py, next)?;
        self.filled(py, rows, Features::take)
    }

    /// Gathers rows that were not announced: a byte array, and the offset of the rows.
    fn gather_bytes<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'_, PyAny>,
    ) -> PyResult<(Bound<'py, PyByteArray>, usize)> {
        let rows = rows_of(&ids(rows)?.to_vec(py)?, self.rows).map_err(exception)?;
        let count = rows.len();
        self.filled(py, count, |features, out| features.gather(rows, out))
    }

    /// Ends an epoch and forgets the announced batches.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |features| {
            features.end();
            Ok(())
        })
    }

    /// Sets how often each row is expected to be used, as the bytes of 32-bit floats.
    fn expect(&self, py: Python<'_>, figures: &[u8]) -> PyResult<()> {
        let figures: Vec<f32> = figures
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        self.with(py, |features| features.expect(&figures))
    }

    /// The figures so far, by name.
    fn figures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.with(py, |features| Ok(features.report()))?;
        let figures = PyDict::new(py);
        figures.set_item("batches", report.batches)?;
        figures.set_item("rows", report.rows)?;
        figures.set_item("rows_missed", report.rows_missed)?;
        figures.set_item("reads", report.reads)?;
        figures.set_item("bytes_read", report.bytes_read)?;
        figures.set_item("retried", report.retried)?;
        figures.set_item("wait_s", report.wait_s)?;
        figures.set_item("elapsed_s", report.elapsed_s)?;
        figures.set_item("limit_s", report.limit_s())?;
        figures.set_item("share_of_limit", report.share_of_limit())?;
        figures.set_item("rows_kept", report.rows_kept)?;
        figures.set_item("memory", report.memory)?;
        Ok(figures)
    }
}
