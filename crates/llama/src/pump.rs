//! The pump: llama.cpp's graph callback, which pauses the compute between runs and
//! lets the engine's feeder bind tensors to the bytes that the line has delivered.
//! It runs on the compute thread; there is no other.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use delayline_engine::{Error, Feed, Feeder, Flow, Graph, Itinerary, Names, Supplies};
use delayline_medium::Memory;

use crate::bind::{NodeBind, TensorUse};
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
    Drive(Drive),
}

/// A lap that is being fed.
struct Drive {
    tensors: Rc<[TensorUse]>,
    memory: Arc<Memory>,
    /// How many nodes were announced.
    nodes: u32,
}

/// The pump's handle. Its state lies at one address for life, because llama.cpp
/// holds a pointer to it; the handle is only used while llama.cpp is not
/// decoding, so the two never hold it at once.
pub struct Pump(NonNull<State>);

/// The state behind the callback.
struct State {
    mode: Mode,
    feeder: Option<Feeder>,
    zeros: Zeros,
    /// Polled by llama.cpp after each node.
    abort: bool,
}

impl Pump {
    /// `largest` is the size of the largest weight in bytes.
    ///
    /// # Errors
    /// When the system refuses address space.
    pub fn new(largest: u64) -> Result<Self, Error> {
        let state = Box::new(State {
            mode: Mode::Idle,
            feeder: None,
            zeros: Zeros::new(largest as usize).map_err(Error::Memory)?,
            abort: false,
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
        self.state().feeder = Some(Feeder::new(supplies));
    }

    /// The supplies, once set.
    pub fn supplies(&mut self) -> Option<&mut Supplies> {
        self.state().feeder.as_mut().map(Feeder::source)
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
    pub fn learned(&mut self) -> Result<(Graph, Vec<TensorUse>), Error> {
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
    pub fn begin(
        &mut self,
        graph: Rc<Graph>,
        tensors: Rc<[TensorUse]>,
        itinerary: Rc<Itinerary>,
    ) -> Result<(), Error> {
        let state = self.state();
        state.abort = false;
        let feeder = state
            .feeder
            .as_mut()
            .expect("supplies are set before a lap");
        feeder.begin(graph, itinerary)?;
        let memory = feeder.source().memory.clone();
        state.mode = Mode::Drive(Drive {
            tensors,
            memory,
            nodes: 0,
        });
        Ok(())
    }

    /// Ends a lap: everything leased is given back. `outcome` is llama.cpp's.
    ///
    /// # Errors
    /// What went wrong in it, the cause before its effect on llama.cpp. The
    /// results of the lap are worthless then.
    pub fn end(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        let state = self.state();
        state.abort = false;
        let ended = state.drive(std::ptr::null_mut(), |_, feeder, bind| {
            feeder.end(outcome, bind)
        });
        state.mode = Mode::Idle;
        ended.unwrap_or_else(|| Err(Error::Defect("there was no lap to end".into())))
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
    /// Lets the feeder of the lap bind the weights of `node`, the latest of so many
    /// announced ones; it is null where none is announced. `None` where no lap is
    /// fed. llama.cpp is not computing.
    fn drive<T>(
        &mut self,
        node: *mut sys::ggml_tensor,
        body: impl FnOnce(&mut u32, &mut Feeder, &mut NodeBind<'_>) -> T,
    ) -> Option<T> {
        let (Mode::Drive(drive), Some(feeder)) = (&mut self.mode, &mut self.feeder) else {
            return None;
        };
        let (tensors, memory) = (&drive.tensors, &drive.memory);
        // SAFETY: llama.cpp announces live nodes and waits for this to return; the
        // model outlives the pump; the zeros are made for the largest weight.
        let mut bind = unsafe { NodeBind::new(node, tensors, memory, self.zeros.ptr()) };
        Some(body(&mut drive.nodes, feeder, &mut bind))
    }

    /// # Safety
    /// `node` is the live node that llama.cpp is about to compute.
    unsafe fn ask(&mut self, node: *mut sys::ggml_tensor) -> bool {
        if let Mode::Learn(learner) = &mut self.mode {
            // SAFETY: the caller's promise.
            unsafe { learner.node(node) };
            return false;
        }
        // SAFETY: the caller's promise.
        let op = unsafe { (*node).op };
        let flow = self.drive(node, |nodes, feeder, bind| {
            let index = *nodes;
            *nodes += 1;
            feeder.before(index, op, bind)
        });
        self.abort |= flow == Some(Flow::Stop);
        !matches!(flow, None | Some(Flow::Go))
    }

    fn done(&mut self) {
        let flow = self.drive(std::ptr::null_mut(), |_, feeder, bind| feeder.after(bind));
        self.abort |= flow == Some(Flow::Stop);
    }

    /// The pump itself has failed at this node.
    fn fail(&mut self, node: *mut sys::ggml_tensor, error: Error) {
        self.drive(node, |_, feeder, bind| feeder.fail(error, bind));
        self.abort = true;
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
        pump.fail(node, Error::Defect("the pump panicked; see above".into()));
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
