//! The pump: llama.cpp's graph callback, which pauses the compute between runs,
//! points tensors at the bytes that the line has delivered, and gives back what
//! is done with. It runs on the compute thread; there is no other.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;

use delayline_engine::{Error, Graph, Itinerary, Names, RealLine};

use crate::lap::{Lap, Supplies};
use crate::learn::Learner;
use crate::sys;
use crate::zeros::Zeros;

/// What the callback is doing.
enum Mode {
    /// Nothing is known of a graph: let it compute.
    Idle,
    /// Recording a dry lap; the abort callback ends it.
    Learn(Learner),
    /// Feeding a lap.
    Drive(Lap),
}

/// The pump's handle. Its state lies at one address for life, because llama.cpp
/// holds a pointer to it; the handle is only used while llama.cpp is not
/// decoding, so the two never hold it at once.
pub struct Pump(NonNull<State>);

/// The state behind the callback.
struct State {
    mode: Mode,
    supply: Option<Supplies>,
    zeros: Zeros,
    /// Polled by llama.cpp after each node.
    abort: bool,
    failed: Option<Error>,
}

impl Pump {
    /// `largest` is the size of the largest weight in bytes.
    ///
    /// # Errors
    /// When the system refuses address space.
    pub fn new(largest: u64) -> Result<Self, Error> {
        let state = Box::new(State {
            mode: Mode::Idle,
            supply: None,
            zeros: Zeros::new(largest as usize).map_err(Error::Memory)?,
            abort: false,
            failed: None,
        });
        Ok(Self(NonNull::from(Box::leak(state))))
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: ours from `new` to `drop`. llama.cpp uses its pointer only
        // inside decode, and no borrow from here lives that long.
        unsafe { self.0.as_mut() }
    }

    /// The pointer for llama.cpp's callbacks.
    pub fn user_data(&self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    /// Sets where the bytes come from.
    pub fn supply(&mut self, supplies: Supplies) {
        self.state().supply = Some(supplies);
    }

    /// The supplies, once set.
    pub fn supplies(&mut self) -> Option<&mut Supplies> {
        self.state().supply.as_mut()
    }

    /// Makes the next decode a dry lap: its graph is recorded, not computed.
    pub fn learn(&mut self, names: Names) {
        let state = self.state();
        state.mode = Mode::Learn(Learner::new(names, state.zeros.ptr()));
        state.abort = true;
    }

    /// The graph of the dry lap.
    ///
    /// # Errors
    /// When none was announced.
    pub fn learned(&mut self) -> Result<Graph, Error> {
        let state = self.state();
        state.abort = false;
        match std::mem::replace(&mut state.mode, Mode::Idle) {
            Mode::Learn(learner) => learner.finish(),
            _ => Err(Error::Defect("there was no dry lap".into())),
        }
    }

    /// Gets ready for a lap: waits for the extents of its first run.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn begin(&mut self, graph: Rc<Graph>, itinerary: Rc<Itinerary>) -> Result<(), Error> {
        let state = self.state();
        state.abort = false;
        state.failed = None;
        let supply = state
            .supply
            .as_mut()
            .expect("supplies are set before a lap");
        let mut lap = Lap::new(graph, itinerary);
        supply.watch.begin(supply.line.counters());
        // What was laid for this lap and the next is asked for before anything computes.
        let first = supply
            .line
            .pump()
            .map_err(Error::from)
            .and_then(|()| lap.acquire(supply));
        lap.mark(supply, RealLine::mark_begin);
        state.mode = Mode::Drive(lap);
        if let Err(error) = first {
            state.failed = Some(error);
            return self.end(Ok(()));
        }
        Ok(())
    }

    /// Ends a lap: everything leased is given back. `outcome` is llama.cpp's.
    ///
    /// # Errors
    /// What went wrong in it, the cause before its effect on llama.cpp. The
    /// results of the lap are worthless then.
    pub fn end(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        self.state().end(outcome)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // SAFETY: leaked from a box in `new`, taken back once; contexts that
        // hold the pointer are dropped before their pump.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl State {
    fn end(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        if self.failed.is_none() {
            self.failed = outcome.err();
        }
        if let (Mode::Drive(lap), None) = (&self.mode, &self.failed)
            && let (run, runs) = lap.progress()
            && run != runs
        {
            self.failed = Some(Error::Assumption(format!(
                "the graph ended in run {run} of {runs}"
            )));
        }
        self.abort = false;
        self.give_back();
        let Some(error) = self.failed.take() else {
            return Ok(());
        };
        if let Some(supply) = self.supply.as_mut() {
            // The failed reads are reported; what forgetting meets is the same trouble.
            let _ = supply.line.forget();
            let memory = supply.memory.clone();
            supply.items.clear(|range| memory.discard(range));
        }
        Err(error)
    }

    fn give_back(&mut self) {
        if let Mode::Drive(lap) = std::mem::replace(&mut self.mode, Mode::Idle) {
            lap.give_back(self.supply.as_mut().expect("a lap has supplies"));
        }
    }

    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
        self.abort = true;
    }

    /// # Safety
    /// `node` is the live node that llama.cpp is about to compute.
    unsafe fn ask(&mut self, node: *mut sys::ggml_tensor) -> bool {
        match &mut self.mode {
            Mode::Idle => false,
            Mode::Learn(learner) => {
                // SAFETY: the caller's promise.
                unsafe { learner.node(node) };
                false
            }
            Mode::Drive(lap) => {
                let failed = self.failed.is_some();
                let supply = self.supply.as_mut().expect("a lap has supplies");
                // SAFETY: the caller's promise.
                match unsafe { lap.ask(node, supply, failed.then_some(self.zeros.ptr())) } {
                    Ok(end) => end,
                    Err(error) => {
                        self.fail(error);
                        // Too late to stop: this node reads zeros, then the abort fires.
                        // SAFETY: as above.
                        unsafe { self.starve(node) };
                        true
                    }
                }
            }
        }
    }

    /// Points every weight of a node at zeros.
    ///
    /// # Safety
    /// `node` is the live node that was announced last.
    unsafe fn starve(&mut self, node: *mut sys::ggml_tensor) {
        if let Mode::Drive(lap) = &mut self.mode {
            // SAFETY: the caller's promise; the zeros are made for the largest weight.
            unsafe { lap.starve(node, self.zeros.ptr()) };
        }
    }

    fn done(&mut self) {
        let Mode::Drive(lap) = &mut self.mode else {
            return;
        };
        if self.failed.is_some() {
            return;
        }
        let supply = self.supply.as_mut().expect("a lap has supplies");
        if let Err(error) = lap.done(supply) {
            self.fail(error);
        }
    }
}

/// llama.cpp's `cb_eval`.
///
/// # Safety
/// `user_data` is from [`Pump::user_data`] of a live pump that nothing else is using; `node` is live.
pub unsafe extern "C" fn on_node(
    node: *mut sys::ggml_tensor,
    ask: bool,
    user_data: *mut c_void,
) -> bool {
    // SAFETY: the caller's promise; the engine does not touch the pump while
    // llama.cpp decodes.
    let pump = unsafe { &mut *user_data.cast::<State>() };
    // Unwinding through C is undefined: a panic becomes an error of the lap.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if ask {
            // SAFETY: llama.cpp announces live nodes.
            unsafe { pump.ask(node) }
        } else {
            pump.done();
            true
        }
    }));
    outcome.unwrap_or_else(|_| {
        pump.fail(Error::Defect("the pump panicked; see above".into()));
        // SAFETY: as above.
        unsafe { pump.starve(node) };
        true
    })
}

/// llama.cpp's abort callback.
///
/// # Safety
/// `user_data` is from [`Pump::user_data`] of a live pump.
pub unsafe extern "C" fn on_abort(user_data: *mut c_void) -> bool {
    // SAFETY: the caller's promise. Polled on the compute thread by which the
    // pump is driven, so nobody writes meanwhile.
    unsafe { (*user_data.cast::<State>()).abort }
}
