//! The pump: llama.cpp's graph callback, which pauses the compute between runs,
//! points tensors at the bytes that the line has delivered, and gives back what
//! is done with. It runs on the compute thread; there is no other.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use delayline_line::{Lease, Line, Span, Ticket};
use delayline_medium::{Memory, RealClock};
use llama_cpp_sys_2 as sys;

use crate::error::Error;
use crate::graph::{Graph, Learner};
use crate::items::Items;
use crate::itinerary::{Feed, Itinerary, Supply};
use crate::model_file::Names;
use crate::zeros::Zeros;

/// The line as it runs in production.
pub type RealLine = Line<Box<dyn delayline_line::Medium>, RealClock>;

/// What the callback is doing.
enum Mode {
    /// Nothing is known of a graph: let it compute.
    Idle,
    /// Recording a dry lap; the abort callback ends it.
    Learn(Learner),
    /// Feeding a lap.
    Drive(Lap),
}

/// A lap under way.
struct Lap {
    itinerary: Rc<Itinerary>,
    /// Operation of each node, as learned.
    graph: Rc<Graph>,
    node: usize,
    feed: usize,
    /// First feed of the run under way.
    run_feed: usize,
    run: usize,
    leases: Vec<Lease>,
    /// Reads of items that share their indices with an earlier node.
    early: Vec<(usize, Ticket)>,
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

/// Where the bytes come from, once a budget is known.
pub struct Supplies {
    /// The engine.
    pub line: RealLine,
    /// The memory it reads into.
    pub memory: Arc<Memory>,
    /// Rows and experts.
    pub items: Items,
    /// Whether runs are marked in the line's trace.
    trace: bool,
    spans: Vec<Span>,
    ids: Vec<i32>,
}

impl Supplies {
    /// From its parts.
    pub fn new(line: RealLine, memory: Arc<Memory>, items: Items, trace: bool) -> Self {
        Self { line, memory, items, trace, spans: Vec::new(), ids: Vec::new() }
    }
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
        let supply = state.supply.as_mut().expect("supplies are set before a lap");
        let mut lap = Lap {
            leases: Vec::new(),
            itinerary,
            graph,
            node: 0,
            feed: 0,
            run_feed: 0,
            run: 0,
            early: Vec::new(),
        };
        // What was laid for this lap and the next is asked for before anything computes.
        let first = supply.line.pump().map_err(Error::from).and_then(|()| lap.acquire(supply));
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
            && lap.run != lap.itinerary.plan.runs.len()
        {
            self.failed = Some(Error::Assumption(format!(
                "the graph ended after run {} of {}",
                lap.run,
                lap.itinerary.plan.runs.len()
            )));
        }
        self.abort = false;
        self.give_back();
        let Some(error) = self.failed.take() else { return Ok(()) };
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
            let feeds = lap.run_feed..lap.feed;
            // SAFETY: llama.cpp is not computing: `end` is called after decode.
            unsafe { vacate(&lap.itinerary.feeds[feeds]) };
            let supply = self.supply.as_mut().expect("a lap has supplies");
            for lease in lap.leases {
                supply.line.release(lease);
            }
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

    /// Points every weight of a node at zeros, but for those that keep their
    /// addresses for good.
    unsafe fn starve(&mut self, node: *mut sys::ggml_tensor) {
        let Mode::Drive(lap) = &mut self.mode else { return };
        let at = lap.node.saturating_sub(1) as u32;
        for feed in lap.itinerary.feeds.iter().filter(|f| f.node == at && f.supply != Supply::Settled) {
            // SAFETY: the node is live and of the learned shape or it would not
            // have feeds; a wrong source is excluded by `point`.
            let _ = unsafe { point(node, feed, self.zeros.ptr()) };
        }
        lap.feed = lap.itinerary.feeds.partition_point(|f| f.node <= at);
    }

    fn done(&mut self) {
        let Mode::Drive(lap) = &mut self.mode else { return };
        if self.failed.is_some() {
            return;
        }
        let supply = self.supply.as_mut().expect("a lap has supplies");
        if let Err(error) = lap.done(supply) {
            self.fail(error);
        }
    }
}

impl Lap {
    /// Waits for the extents of the run that comes.
    fn acquire(&mut self, supply: &mut Supplies) -> Result<(), Error> {
        for step in self.itinerary.schedule.leased_before(self.run as u32) {
            self.leases.push(supply.line.acquire(step.extent)?);
        }
        Ok(())
    }

    /// Notes in the trace that the compute of the run begins or ends.
    fn mark(&self, supply: &mut Supplies, note: fn(&mut RealLine, &str)) {
        if supply.trace {
            note(&mut supply.line, &format!("run {}", self.run));
        }
    }

    /// # Safety
    /// `node` is live.
    unsafe fn ask(
        &mut self,
        node: *mut sys::ggml_tensor,
        supply: &mut Supplies,
        zeros: Option<*mut c_void>,
    ) -> Result<bool, Error> {
        let index = self.node;
        self.node += 1;
        // SAFETY: the caller's promise.
        let op = unsafe { (*node).op };
        if self.graph.ops.get(index) != Some(&op) {
            return Err(Error::Assumption(format!("node {index} is not the one that was learned")));
        }
        while let Some(feed) = self.itinerary.feeds.get(self.feed).copied()
            && feed.node as usize == index
        {
            let address = match (zeros, feed.supply) {
                // Also when the lap has failed: nobody gives this address back.
                // SAFETY: reads the root's settled address.
                (_, Supply::Settled) => unsafe { (*feed.tensor.0).data },
                (Some(zeros), _) => zeros,
                (None, Supply::Extent { extent, at }) => {
                    let lease = self
                        .leases
                        .iter()
                        .find(|lease| lease.extent() == extent)
                        .ok_or_else(|| Error::Defect(format!("extent {} is not leased", extent.0)))?;
                    supply.memory.ptr(lease.at() + at).cast_mut().cast()
                }
                (None, Supply::Items(table)) => {
                    // SAFETY: the caller's promise; a run ended before this node.
                    unsafe { self.items(node, &feed, table, supply)? };
                    supply.memory.ptr(supply.items.table(table).at).cast_mut().cast()
                }
            };
            // SAFETY: the address is readable for the whole tensor: a leased
            // extent holds it, items are there, or it is address space of its
            // size; it stays so until the run is over.
            unsafe { point(node, &feed, address)? };
            self.feed += 1;
        }
        Ok(self.itinerary.ends[index])
    }

    /// Has the items that `node` names in memory.
    ///
    /// # Safety
    /// `node` is live and its indices are computed.
    unsafe fn items(
        &mut self,
        node: *mut sys::ggml_tensor,
        feed: &Feed,
        table: u32,
        supply: &mut Supplies,
    ) -> Result<(), Error> {
        if let Some(early) = self.early.iter().position(|(at, _)| *at == self.feed) {
            let (_, ticket) = self.early.swap_remove(early);
            return Ok(supply.line.fetched(ticket)?);
        }
        // SAFETY: the caller's promise.
        unsafe { read_ids((*node).src[feed.ids_src], &mut supply.ids)? };
        let ticket = want(supply, table)?;
        // Up and down projections name the same experts: ask for them now, and
        // compute the first while they come.
        for (ahead, next) in self.itinerary.feeds.iter().enumerate().skip(self.feed + 1) {
            if let Supply::Items(other) = next.supply
                && next.group == feed.group
                && feed.group.is_some()
            {
                let ticket = want(supply, other)?;
                self.early.push((ahead, ticket));
            } else if next.group != feed.group {
                break;
            }
        }
        Ok(supply.line.fetched(ticket)?)
    }

    fn done(&mut self, supply: &mut Supplies) -> Result<(), Error> {
        // SAFETY: called between runs, when nothing computes.
        unsafe { vacate(&self.itinerary.feeds[self.run_feed..self.feed]) };
        self.run_feed = self.feed;
        self.mark(supply, RealLine::mark_end);
        for step in self.itinerary.schedule.released_after(self.run as u32) {
            if let Some(at) = self.leases.iter().position(|l| l.extent() == step.extent) {
                supply.line.release(self.leases.swap_remove(at));
            }
        }
        if self.early.is_empty() {
            let memory = &supply.memory;
            supply.items.pass(|range| memory.discard(range));
        }
        self.run += 1;
        if self.run < self.itinerary.plan.runs.len() {
            supply.line.pump()?;
            self.acquire(supply)?;
            self.mark(supply, RealLine::mark_begin);
        } else {
            supply.line.pump()?;
        }
        Ok(())
    }
}

fn want(supply: &mut Supplies, table: u32) -> Result<Ticket, Error> {
    supply.spans.clear();
    supply.items.want(table, &supply.ids, &mut supply.spans).map_err(|bad| {
        Error::Assumption(format!("the graph asks for item {} of {}", bad.index, bad.count))
    })?;
    Ok(supply.line.fetch(&supply.spans))
}

/// Points a node's source at `address`, through a view if it has one.
///
/// # Safety
/// `node` is live; `address` is readable for as long as the node may compute.
unsafe fn point(node: *mut sys::ggml_tensor, feed: &Feed, address: *mut c_void) -> Result<(), Error> {
    // SAFETY: sources of a live node are live.
    unsafe {
        let source = (*node).src[feed.src];
        let root = if source.is_null() || (*source).view_src.is_null() {
            source
        } else {
            (*source).view_src
        };
        if root != feed.tensor.0 {
            return Err(Error::Assumption(format!("node {} reads another weight than learned", feed.node)));
        }
        (*root).data = address;
        if source != root {
            (*source).data = address.wrapping_byte_add((*source).view_offs);
        }
    }
    Ok(())
}

/// Gives tensors back the addresses that fault: what nobody feeds must not
/// compute on what happens to lie in the window.
///
/// # Safety
/// Nothing computes.
unsafe fn vacate(feeds: &[Feed]) {
    for feed in feeds {
        if feed.supply != Supply::Settled {
            // SAFETY: the tensor belongs to the model, which outlives the pump.
            unsafe { (*feed.tensor.0).data = feed.vacant };
        }
    }
}

/// Copies a computed tensor of 32-bit indices, with its strides.
///
/// # Safety
/// `ids` is live and its data is in memory.
unsafe fn read_ids(ids: *const sys::ggml_tensor, out: &mut Vec<i32>) -> Result<(), Error> {
    out.clear();
    // SAFETY: the caller's promise.
    let t = unsafe { &*ids };
    if t.type_ != sys::GGML_TYPE_I32 || t.data.is_null() {
        return Err(Error::Assumption("indices are not 32-bit integers".into()));
    }
    let [n0, n1, n2, n3] = t.ne.map(|n| n.max(0) as usize);
    for i3 in 0..n3 {
        for i2 in 0..n2 {
            for i1 in 0..n1 {
                for i0 in 0..n0 {
                    let at = i0 * t.nb[0] + i1 * t.nb[1] + i2 * t.nb[2] + i3 * t.nb[3];
                    // SAFETY: inside the tensor by its own strides.
                    out.push(unsafe { t.data.cast::<u8>().add(at).cast::<i32>().read_unaligned() });
                }
            }
        }
    }
    Ok(())
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
