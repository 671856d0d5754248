//! The pump: llama.cpp's graph callback. It pauses the compute between runs and lets the
//! engine's [`Feed`] bind tensors to bytes. It runs on the thread that called decode, as
//! all of the feeding does.

use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use delayline_engine::{Bind, Binding, Error, Feed, Flow, Names, UseId};
use delayline_medium::Memory;

use crate::bind::{FramedNode, NodeBind, TensorUse};
use crate::learn::{Learned, Learner};
use crate::router::Router;
use crate::sys;
use crate::zeros::Zeros;

/// What the callback is doing.
enum Mode {
    /// Neither: graphs compute without pauses.
    Idle,
    /// Recording a dry lap; the abort callback ends it.
    Learn(Box<Learner>),
    /// Feeding a lap.
    Drive(Drive),
}

/// A lap that is being fed.
struct Drive {
    /// Borrowed by [`Pump::drive`], which is on the stack as long as this exists.
    feed: NonNull<dyn Feed>,
    /// Number of nodes announced so far.
    nodes: u32,
}

/// The pump's handle. Its state stays at one address, because llama.cpp holds a pointer to
/// it. The handle is used only while llama.cpp is not decoding, so the two never access the
/// state at once.
pub struct Pump(NonNull<State>);

/// The state behind the callback.
struct State {
    mode: Mode,
    /// The uses of the last lap's graph.
    tensors: Rc<[TensorUse]>,
    /// The memory that bindings point into, once it is known.
    memory: Option<Arc<Memory>>,
    zeros: Zeros,
    /// Nodes of the run under way whose experts are in frames.
    framed: RefCell<Vec<FramedNode>>,
    /// The routers of the layers with experts, as far as they were found.
    routers: RefCell<Vec<Router>>,
    /// Whether the feed has asked to be called after the announced node.
    pauses: bool,
    /// The hidden states of the last lap, if they are kept.
    hidden: Option<Hidden>,
    /// Polled by llama.cpp after each node.
    abort: bool,
}

/// The hidden states of a lap's outputs after the last layer, one row each.
#[derive(Default)]
struct Hidden {
    /// Whether the announced node computes them.
    is_next: bool,
    /// Number of values in a row.
    width: usize,
    rows: Vec<f32>,
}

/// llama.cpp's name for the node of the normalized hidden states, from which the output
/// head computes logits.
const HIDDEN: &CStr = c"result_norm";

impl Pump {
    /// `largest` is the size of the largest weight in bytes.
    ///
    /// # Errors
    /// When the system refuses address space.
    pub fn new(largest: u64) -> Result<Self, Error> {
        let state = Box::new(State {
            mode: Mode::Idle,
            tensors: Rc::default(),
            memory: None,
            zeros: Zeros::new(largest as usize).map_err(Error::Memory)?,
            framed: RefCell::default(),
            routers: RefCell::default(),
            pauses: false,
            hidden: None,
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

    /// Sets what bindings point into.
    pub fn use_memory(&mut self, memory: Arc<Memory>) {
        self.state().memory = Some(memory);
    }

    /// The memory that bindings point into.
    pub fn memory(&mut self) -> Option<&Memory> {
        self.state().memory.as_deref()
    }

    /// Makes the next decode a dry lap: its graph is recorded, not computed.
    pub fn learn(&mut self, names: Names) {
        let state = self.state();
        state.mode = Mode::Learn(Box::new(Learner::new(names, state.zeros.ptr())));
        state.abort = true;
    }

    /// Makes the next decode a lap on zeros, which is computed to its end; its results mean
    /// nothing.
    pub fn learn_whole(&mut self, names: Names) {
        let state = self.state();
        state.mode = Mode::Learn(Box::new(Learner::whole(names, state.zeros.ptr())));
    }

    /// Ends a dry lap and returns what it recorded.
    ///
    /// # Errors
    /// When there was none, and as [`Learner::finish`].
    pub fn learned(&mut self) -> Result<Learned, Error> {
        let state = self.state();
        state.abort = false;
        match std::mem::replace(&mut state.mode, Mode::Idle) {
            Mode::Learn(learner) => learner.finish(),
            _ => Err(Error::Defect("there was no dry lap".into())),
        }
    }

    /// Calls `decode`, which makes llama.cpp compute a graph, and meanwhile `feed` for every
    /// node of it. `tensors` are the graph's uses.
    pub fn drive<T>(
        &mut self,
        feed: &mut dyn Feed,
        tensors: Rc<[TensorUse]>,
        decode: impl FnOnce() -> T,
    ) -> T {
        // SAFETY: changes only the lifetime. `Driven` removes the pointer before the borrow
        // ends, also when `decode` panics.
        let feed: &mut (dyn Feed + 'static) = unsafe { std::mem::transmute(feed) };
        let state = self.state();
        state.abort = false;
        state.tensors = tensors;
        if let Some(hidden) = &mut state.hidden {
            hidden.rows.clear();
        }
        state.mode = Mode::Drive(Drive {
            feed: NonNull::from(feed),
            nodes: 0,
        });
        let _driven = Driven(self.0);
        decode()
    }

    /// Keeps the hidden states of each lap's outputs from now on.
    pub fn keep_hidden(&mut self) {
        self.state().hidden = Some(Hidden::default());
    }

    /// Whether it keeps hidden states.
    pub fn keeps_hidden(&self) -> bool {
        // SAFETY: as in `Pump::state`.
        unsafe { self.0.as_ref() }.hidden.is_some()
    }

    /// The hidden state of an output of the last lap, counted from 0 over all of them.
    pub fn hidden(&self, output: usize) -> Option<&[f32]> {
        // SAFETY: as in `Pump::state`; nothing computes while this is lent.
        let hidden = unsafe { self.0.as_ref() }.hidden.as_ref()?;
        let mut rows = hidden.rows.chunks_exact(hidden.width.max(1));
        rows.nth(output)
    }

    /// Sets the routers by which experts are guessed.
    pub fn use_routers(&mut self, routers: Vec<Router>) {
        self.state().routers = RefCell::new(routers);
    }

    /// Changes the binding of a use of the last lap between laps: only vacating works then.
    ///
    /// # Errors
    /// As [`Bind::bind`].
    pub fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        let state = self.state();
        // SAFETY: nothing computes between laps.
        match unsafe { state.node_bind(std::ptr::null_mut()) } {
            Some(mut bind) => bind.bind(used, binding),
            None => Err(Error::Defect("there is no memory to bind to".into())),
        }
    }
}

impl Hidden {
    /// Keeps the rows of a node, if it is a contiguous matrix of 32-bit floats.
    ///
    /// # Safety
    /// `node` is live and was computed.
    unsafe fn take(&mut self, node: *mut sys::ggml_tensor) {
        self.is_next = false;
        // SAFETY: the caller's promise.
        let n = unsafe { &*node };
        let (width, rows) = (n.ne[0].max(0) as usize, n.ne[1].max(0) as usize);
        let is_plain = n.type_ == sys::GGML_TYPE_F32
            && n.nb[0] == size_of::<f32>()
            && n.nb[1] == width * size_of::<f32>()
            && n.ne[2..] == [1, 1];
        if n.data.is_null() || !is_plain {
            return;
        }
        // SAFETY: the tensor was computed by the CPU backend, so `data` points to a
        // contiguous matrix of this shape.
        let numbers = unsafe { std::slice::from_raw_parts(n.data.cast::<f32>(), width * rows) };
        self.width = width;
        self.rows.clear();
        self.rows.extend_from_slice(numbers);
    }
}

/// Ends the feeding of a lap when dropped.
struct Driven(NonNull<State>);

impl Drop for Driven {
    fn drop(&mut self) {
        // SAFETY: as in `Pump::state`: the pump is borrowed, and llama.cpp's call is over.
        let state = unsafe { self.0.as_mut() };
        state.mode = Mode::Idle;
        state.abort = false;
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
    /// The binder for the weights of `node`, the latest announced one, or null between laps.
    ///
    /// # Safety
    /// `node` is live or null, and nothing computes as long as the result exists.
    unsafe fn node_bind(&self, node: *mut sys::ggml_tensor) -> Option<NodeBind<'_>> {
        let memory = self.memory.as_deref()?;
        // SAFETY: the caller's promise; the model outlives the pump; the zeros are as long
        // as the largest weight; and the feed binds only to memory that it has leased.
        Some(unsafe {
            let zeros = self.zeros.ptr();
            NodeBind::new(
                node,
                &self.tensors,
                memory,
                zeros,
                &self.framed,
                &self.routers,
            )
        })
    }

    /// Calls `body` with the index of `node` among the announced nodes, the feed and a
    /// binder. `node` is null if none is announced. `None` if no lap is fed. llama.cpp must
    /// not be computing.
    fn drive<T>(
        &mut self,
        node: *mut sys::ggml_tensor,
        body: impl FnOnce(u32, &mut dyn Feed, &mut NodeBind<'_>) -> T,
    ) -> Option<T> {
        let Mode::Drive(drive) = &mut self.mode else {
            return None;
        };
        let index = drive.nodes;
        drive.nodes += u32::from(!node.is_null());
        let mut feed = drive.feed;
        // SAFETY: llama.cpp announces live nodes and waits for this to return.
        let mut bind = unsafe { self.node_bind(node) }?;
        // SAFETY: lent to `Pump::drive`, which has not returned, and used only here.
        Some(body(index, unsafe { feed.as_mut() }, &mut bind))
    }

    /// Handles an announced node; returns whether to pause after it.
    ///
    /// # Safety
    /// `node` is the live node that llama.cpp is about to compute.
    unsafe fn ask(&mut self, node: *mut sys::ggml_tensor) -> bool {
        if let Mode::Learn(learner) = &mut self.mode {
            // SAFETY: the caller's promise.
            unsafe { learner.node(node) };
            // All nodes are announced before the first computes.
            self.abort |= learner.refuses();
            return false;
        }
        // SAFETY: the caller's promise.
        let op = unsafe { (*node).op };
        let flow = self.drive(node, |index, feed, bind| feed.before(index, op, bind));
        self.abort |= flow == Some(Flow::Stop);
        self.pauses = !matches!(flow, None | Some(Flow::Go));
        let is_hidden = self.hidden.as_mut().is_some_and(|hidden| {
            // SAFETY: the caller's promise; names of tensors end with a zero byte.
            hidden.is_next = unsafe { CStr::from_ptr((*node).name.as_ptr()) } == HIDDEN;
            hidden.is_next
        });
        self.pauses || is_hidden
    }

    /// Handles the pause after a node.
    ///
    /// # Safety
    /// `node` is live and was just computed.
    unsafe fn done(&mut self, node: *mut sys::ggml_tensor) {
        if let Some(hidden) = self.hidden.as_mut().filter(|hidden| hidden.is_next) {
            // SAFETY: the caller's promise.
            unsafe { hidden.take(node) };
        }
        if !self.pauses {
            return;
        }
        let flow = self.drive(std::ptr::null_mut(), |_, feed, bind| feed.after(bind));
        self.abort |= flow == Some(Flow::Stop);
    }

    /// Reports to the feed that the pump itself has failed at this node, and ends the lap.
    fn fail(&mut self, node: *mut sys::ggml_tensor, error: Error) {
        self.drive(node, |_, feed, bind| feed.fail(error, bind));
        self.abort = true;
    }
}

/// llama.cpp's `cb_eval`.
///
/// # Safety
/// `user_data` is from [`Pump::user_data`] of a live pump that nothing else is using; `node`
/// is live.
pub unsafe extern "C" fn on_node(
    node: *mut sys::ggml_tensor,
    ask: bool,
    user_data: *mut c_void,
) -> bool {
    // SAFETY: the caller's promise; the engine does not touch the pump while
    // llama.cpp decodes.
    let pump = unsafe { &mut *user_data.cast::<State>() };
    // Unwinding through C++ is undefined behaviour, so a panic becomes an error of the lap.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if ask {
            // SAFETY: llama.cpp announces live nodes.
            unsafe { pump.ask(node) }
        } else {
            // SAFETY: llama.cpp has computed it, and waits.
            unsafe { pump.done(node) };
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
    // SAFETY: the caller's promise. Polled on the thread that drives the pump, so nothing
    // writes meanwhile.
    unsafe { (*user_data.cast::<State>()).abort }
}
