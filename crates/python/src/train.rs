//! The store and activations for Python. A lease is an object with a buffer, from which a
//! tensor is made without a copy; it lasts until the last view of the tensor is gone. Other
//! threads of Python run while a call waits for bytes.

use crate::errors::message;
use crate::size;
use delayline_medium::{Flash, Memory};
use delayline_plan::Mode;
use delayline_train::{
    ActivationId, Activations, Error, StateFolder, StateLayout, StateLease, TrainCounters,
};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::ffi::c_int;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

/// The exception for an error of `delayline-train`.
fn exception(error: Error) -> PyErr {
    let message = message(&error);
    match error {
        Error::NoRoom { .. } => PyMemoryError::new_err(message),
        Error::Memory { .. } | Error::Layout { .. } | Error::Record { .. } => {
            PyValueError::new_err(message)
        }
        Error::Nothing { .. } | Error::Held { .. } | Error::Broken | Error::Forked { .. } => {
            PyRuntimeError::new_err(message)
        }
        _ => PyOSError::new_err(message),
    }
}

fn set_counters(figures: &Bound<'_, PyDict>, counters: &TrainCounters) -> PyResult<()> {
    figures.set_item("bytes_read", counters.bytes_read)?;
    figures.set_item("bytes_written", counters.bytes_written)?;
    figures.set_item("retried", counters.retried)?;
    figures.set_item("stalls", counters.stalls)?;
    figures.set_item("stall_s", counters.stall_ns as f64 / 1e9)?;
    figures.set_item("commit_s", counters.commit_ns as f64 / 1e9)?;
    figures.set_item("peak", counters.peak)?;
    figures.set_item("deviations", counters.deviations)?;
    figures.set_item("commits", counters.commits)
}

/// A store or activations, shared with their leases. Only the process that opened them uses
/// and closes them, not a fork of it.
struct Owned<T, B> {
    inside: Mutex<Option<T>>,
    /// Leases that have ended since the last call.
    back: Mutex<Vec<B>>,
    process: u32,
}

impl<T, B> Owned<T, B> {
    fn new(inside: T) -> Arc<Self> {
        Arc::new(Self {
            inside: Mutex::new(Some(inside)),
            back: Mutex::default(),
            process: process::id(),
        })
    }

    /// Takes back the leases that have ended, and then calls `work`, while other threads of
    /// Python run.
    fn with<R: Send>(
        &self,
        py: Python<'_>,
        take_back: impl Fn(&mut T, B) -> Result<Option<B>, Error> + Send + Sync,
        work: impl FnOnce(&mut T) -> Result<R, Error> + Send,
    ) -> PyResult<R>
    where
        T: Send,
        B: Send,
    {
        let (opened, here) = (self.process, process::id());
        if opened != here {
            return Err(exception(Error::Forked { opened, here }));
        }
        let locked = || {
            let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
            let inside = inside.as_mut().expect("it is taken only in drop");
            let back = std::mem::take(&mut *self.lock_back());
            let mut later = Vec::new();
            for one in back {
                later.extend(take_back(inside, one)?);
            }
            self.lock_back().append(&mut later);
            work(inside)
        };
        py.detach(locked).map_err(exception)
    }

    /// Notes that a lease has ended. A fork must not wait for the mutex, and has nothing to
    /// give back.
    fn give_back(&self, lease: B) {
        if self.process == process::id() {
            self.lock_back().push(lease);
        }
    }

    fn lock_back(&self) -> std::sync::MutexGuard<'_, Vec<B>> {
        self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, B> Drop for Owned<T, B> {
    fn drop(&mut self) {
        if self.process != process::id() {
            // The operations under way belong to the parent. The mutex is not locked: if
            // another thread held it at the fork, it would stay locked for ever here.
            let inside = self.inside.get_mut();
            std::mem::forget(inside.unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

type OwnedStore = Owned<StateFolder, StateLease>;
type OwnedActivations = Owned<Activations<Flash>, Back>;

/// How the use of an activation ended.
enum Back {
    Filled(ActivationId),
    Taken(ActivationId),
    Removed(ActivationId),
}

/// Gives a lease back when it is dropped.
enum Hold {
    State(Arc<OwnedStore>, Option<StateLease>),
    Activation(Arc<OwnedActivations>, Option<Back>),
}

impl Drop for Hold {
    fn drop(&mut self) {
        match self {
            Self::State(owned, lease) => lease.take().map(|lease| owned.give_back(lease)),
            Self::Activation(owned, back) => back.take().map(|back| owned.give_back(back)),
        };
    }
}

/// A lease: bytes of the store's memory, for as long as the object lives.
#[pyclass(frozen, module = "delayline._native")]
pub(crate) struct NativeLease {
    memory: Arc<Memory>,
    at: u64,
    len: u64,
    _hold: Hold,
}

#[pymethods]
impl NativeLease {
    /// The bytes, to be read and written.
    ///
    /// # Safety
    /// Called by the interpreter alone, with a view to fill.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let lease = slf.get();
        let bytes = lease.memory.ptr(lease.at).cast_mut();
        let len = lease.len as ffi::Py_ssize_t;
        // SAFETY: the view is the interpreter's. The bytes stay mapped and are used by
        // nobody else while the lease lasts: the view keeps the object alive, and the object
        // the memory and the lease.
        let failed =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), bytes.cast(), len, 0, flags) };
        match failed {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }

    fn __len__(&self) -> usize {
        self.len as usize
    }
}

fn mode_of(mode: &str) -> PyResult<Mode> {
    match mode {
        "read" => Ok(Mode::Read),
        "write" => Ok(Mode::Write),
        "modify" => Ok(Mode::Modify),
        _ => Err(PyValueError::new_err(format!(
            "a lease to {mode:?}, expected read, write or modify"
        ))),
    }
}

/// The store of `delayline.torch`.
#[pyclass(frozen, module = "delayline._native")]
pub(crate) struct NativeStore {
    owned: Arc<OwnedStore>,
    memory: Arc<Memory>,
    lens: Vec<u64>,
}

impl NativeStore {
    fn of(folder: StateFolder) -> Self {
        let layout = folder.layout();
        let lens = layout.lens.iter().chain(&layout.waiting).copied().collect();
        let memory = folder.memory().clone();
        let owned = Owned::new(folder);
        Self {
            owned,
            memory,
            lens,
        }
    }

    fn with<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut StateFolder) -> Result<R, Error> + Send,
    ) -> PyResult<R> {
        let take_back = |folder: &mut StateFolder, lease: StateLease| {
            folder.release(lease);
            Ok(None)
        };
        self.owned.with(py, take_back, work)
    }
}

#[pymethods]
impl NativeStore {
    /// Creates a store in a folder.
    #[staticmethod]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        memory: u64,
        lens: Vec<u64>,
        waiting: Vec<u64>,
        twin: bool,
        payload: u64,
    ) -> PyResult<Self> {
        let layout = StateLayout {
            lens,
            waiting,
            twin,
            payload,
        };
        let folder = py.detach(|| StateFolder::create(&path, memory, layout));
        folder.map(Self::of).map_err(exception)
    }

    /// Opens the store in a folder, with the content of its last commit.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, memory: u64) -> PyResult<Self> {
        let folder = py.detach(|| StateFolder::open(&path, memory));
        folder.map(Self::of).map_err(exception)
    }

    /// Whether a folder contains a store.
    #[staticmethod]
    fn exists(path: PathBuf) -> bool {
        StateFolder::exists(&path)
    }

    /// The caller's data in the last commit in a folder, and the lengths of its extents.
    #[staticmethod]
    fn peek(py: Python<'_>, path: PathBuf) -> PyResult<(Bound<'_, PyBytes>, Vec<u64>)> {
        let (payload, lens) = StateFolder::peek(&path).map_err(exception)?;
        Ok((PyBytes::new(py, &payload), lens))
    }

    /// The caller's data in the last commit.
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let payload = self.with(py, |folder| Ok(folder.payload().to_vec()))?;
        Ok(PyBytes::new(py, &payload))
    }

    /// Waits for an extent and leases it.
    fn lease(&self, py: Python<'_>, extent: u32, mode: &str) -> PyResult<NativeLease> {
        let mode = mode_of(mode)?;
        let Some(&len) = self.lens.get(extent as usize) else {
            return Err(PyValueError::new_err("no such extent"));
        };
        let lease = self.with(py, |folder| folder.acquire(extent, mode))?;
        Ok(NativeLease {
            memory: self.memory.clone(),
            at: lease.at(),
            len,
            _hold: Hold::State(self.owned.clone(), Some(lease)),
        })
    }

    /// Waits for several extents that are used together, and leases them.
    fn lease_together(
        &self,
        py: Python<'_>,
        extents: Vec<u32>,
        mode: &str,
    ) -> PyResult<Vec<NativeLease>> {
        let mode = mode_of(mode)?;
        if extents
            .iter()
            .any(|&extent| extent as usize >= self.lens.len())
        {
            return Err(PyValueError::new_err("no such extent"));
        }
        let leases = self.with(py, |folder| folder.acquire_together(&extents, mode))?;
        let native = |lease: StateLease| NativeLease {
            memory: self.memory.clone(),
            at: lease.at(),
            len: self.lens[lease.extent() as usize],
            _hold: Hold::State(self.owned.clone(), Some(lease)),
        };
        Ok(leases.into_iter().map(native).collect())
    }

    /// Says that an extent that waits does not change before the next commit.
    fn write_soon(&self, py: Python<'_>, extent: u32) -> PyResult<()> {
        self.with(py, |folder| {
            folder.write_soon(extent);
            Ok(())
        })
    }

    /// Empties an extent that waited.
    fn forget(&self, py: Python<'_>, extent: u32) -> PyResult<()> {
        self.with(py, |folder| folder.forget(extent))
    }

    /// Whether an address is in the store's memory.
    fn holds(&self, address: usize) -> bool {
        let start = self.memory.ptr(0).addr();
        (start..start + self.memory.len() as usize).contains(&address)
    }

    /// Takes back leases that have ended, and submits reads and writes.
    fn pump(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |folder| {
            folder.pump();
            Ok(())
        })
    }

    /// Ends a step.
    fn end_step(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |folder| {
            folder.end_step();
            Ok(())
        })
    }

    /// Makes all extents and `payload` durable.
    fn commit(&self, py: Python<'_>, payload: &[u8]) -> PyResult<()> {
        self.with(py, |folder| folder.commit(payload))
    }

    /// The figures so far, by name.
    fn figures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        use delayline_line::Medium;
        let (counters, stats) = self.with(py, |folder| {
            Ok((folder.counters(), folder.medium().stats()))
        })?;
        let figures = PyDict::new(py);
        set_counters(&figures, &counters)?;
        figures.set_item("busy_s", stats.busy_ns as f64 / 1e9)?;
        figures.set_item("memory", self.memory.len())?;
        Ok(figures)
    }
}

/// The activations of `delayline.torch`.
#[pyclass(frozen, module = "delayline._native")]
pub(crate) struct NativeActivations {
    owned: Arc<OwnedActivations>,
    memory: Arc<Memory>,
}

/// An activation, which is removed when this object is gone.
#[pyclass(frozen, module = "delayline._native")]
pub(crate) struct NativeActivation {
    id: ActivationId,
    len: u64,
    owned: Arc<OwnedActivations>,
    memory: Arc<Memory>,
}

impl Drop for NativeActivation {
    fn drop(&mut self) {
        self.owned.give_back(Back::Removed(self.id));
    }
}

/// Takes an activation back. Returns one that cannot be removed yet, because it is leased.
fn take_back(activations: &mut Activations<Flash>, back: Back) -> Result<Option<Back>, Error> {
    match back {
        Back::Filled(id) => activations.filled(id),
        Back::Taken(id) => activations.release(id),
        Back::Removed(id) if activations.is_held(id) => return Ok(Some(back)),
        Back::Removed(id) => activations.remove(id)?,
    }
    Ok(None)
}

#[pymethods]
impl NativeActivations {
    #[new]
    fn new(py: Python<'_>, path: PathBuf, memory: u64) -> PyResult<Self> {
        let activations = py.detach(|| Activations::in_folder(&path, memory));
        let activations = activations.map_err(exception)?;
        Ok(Self {
            memory: activations.memory().clone(),
            owned: Owned::new(activations),
        })
    }

    /// Makes a new activation, and a lease to write its bytes.
    fn push(&self, py: Python<'_>, len: u64) -> PyResult<(NativeActivation, NativeLease)> {
        let pushed = |activations: &mut Activations<Flash>| activations.push(len);
        let (id, at) = self.owned.with(py, take_back, pushed)?;
        let activation = NativeActivation {
            id,
            len,
            owned: self.owned.clone(),
            memory: self.memory.clone(),
        };
        let hold = Hold::Activation(self.owned.clone(), Some(Back::Filled(id)));
        let lease = lease(&activation, at, hold);
        Ok((activation, lease))
    }

    /// The figures so far, by name.
    fn figures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (counters, peak_bytes) = self.owned.with(py, take_back, |activations| {
            Ok((activations.counters(), activations.peak_bytes()))
        })?;
        let figures = PyDict::new(py);
        set_counters(&figures, &counters)?;
        figures.set_item("most_bytes", peak_bytes)?;
        figures.set_item("memory", self.memory.len())?;
        Ok(figures)
    }
}

fn lease(activation: &NativeActivation, at: u64, hold: Hold) -> NativeLease {
    NativeLease {
        memory: activation.memory.clone(),
        at,
        len: activation.len,
        _hold: hold,
    }
}

#[pymethods]
impl NativeActivation {
    /// Waits for the activation and leases it.
    fn lease(&self, py: Python<'_>) -> PyResult<NativeLease> {
        let id = self.id;
        let taken = |activations: &mut Activations<Flash>| activations.take(id);
        let at = self.owned.with(py, take_back, taken)?;
        let hold = Hold::Activation(self.owned.clone(), Some(Back::Taken(id)));
        Ok(lease(self, at, hold))
    }
}

/// The bytes of a size such as `"2GiB"`.
#[pyfunction]
pub(crate) fn size_of(size: &Bound<'_, PyAny>) -> PyResult<u64> {
    size::bytes(size)
}
