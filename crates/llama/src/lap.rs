//! One lap under way: at which node it is, what it has leased, what each node is
//! pointed at. Driven by the pump; does not know when it is called.

use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

use crate::sys;
use delayline_engine::watch::Watch;
use delayline_engine::{Error, Feed, Graph, Items, Itinerary, RealLine, Supply, Tensor};
use delayline_line::{Lease, Span, Ticket};
use delayline_medium::Memory;

/// A lap under way.
pub struct Lap {
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

/// Where the bytes come from, once a budget is known.
pub struct Supplies {
    /// The engine.
    pub line: RealLine,
    /// The memory it reads into.
    pub memory: Arc<Memory>,
    /// Rows and experts.
    pub items: Items,
    /// For those who watch.
    pub watch: Arc<Watch>,
    /// Whether runs are marked in the line's trace.
    trace: bool,
    spans: Vec<Span>,
    ids: Vec<i32>,
}

impl Supplies {
    /// From its parts.
    pub fn new(line: RealLine, memory: Arc<Memory>, items: Items, trace: bool) -> Self {
        Self {
            line,
            memory,
            items,
            watch: Arc::default(),
            trace,
            spans: Vec::new(),
            ids: Vec::new(),
        }
    }
}

impl Lap {
    /// Before the first node.
    pub fn new(graph: Rc<Graph>, itinerary: Rc<Itinerary>) -> Self {
        Self {
            itinerary,
            graph,
            node: 0,
            feed: 0,
            run_feed: 0,
            run: 0,
            leases: Vec::new(),
            early: Vec::new(),
        }
    }

    /// Which run is under way, of how many; the number of runs when all are over.
    pub fn progress(&self) -> (usize, usize) {
        (self.run, self.itinerary.plan.runs.len())
    }

    /// Gives everything back, also in the middle.
    pub fn give_back(self, supply: &mut Supplies) {
        supply.watch.end(self.run == self.itinerary.plan.runs.len());
        // SAFETY: llama.cpp is not computing: a lap is given back after decode.
        unsafe { vacate(&self.itinerary.feeds[self.run_feed..self.feed]) };
        for lease in self.leases {
            supply.line.release(lease);
        }
    }

    /// Points every weight of the node announced last at zeros, but for those
    /// that keep their addresses for good.
    ///
    /// # Safety
    /// `node` is that node, and live; `zeros` is as long as the largest weight.
    pub unsafe fn starve(&mut self, node: *mut sys::ggml_tensor, zeros: *mut c_void) {
        let at = self.node.saturating_sub(1) as u32;
        for feed in self
            .itinerary
            .feeds
            .iter()
            .filter(|f| f.node == at && f.supply != Supply::Settled)
        {
            // SAFETY: the caller's promise; `point` refuses a wrong source.
            let _ = unsafe { point(node, feed, zeros) };
        }
        self.feed = self.itinerary.feeds.partition_point(|f| f.node <= at);
    }

    /// Waits for the extents of the run that comes.
    pub fn acquire(&mut self, supply: &mut Supplies) -> Result<(), Error> {
        for step in self.itinerary.schedule.leased_before(self.run as u32) {
            self.leases.push(supply.line.acquire(step.extent)?);
        }
        self.note(supply);
        Ok(())
    }

    /// Lets those who watch know how far the lap is.
    fn note(&self, supply: &Supplies) {
        let places = &self.itinerary.places;
        let over = places.partition_point(|&(node, _)| (node as usize) < self.node);
        let place = over.checked_sub(1).map_or(0, |last| places[last].1);
        let line = &supply.line;
        supply.watch.mark(place, line.counters(), line.arrived());
    }

    /// Notes in the trace that the compute of the run begins or ends.
    pub fn mark(&self, supply: &mut Supplies, note: fn(&mut RealLine, &str)) {
        if supply.trace {
            note(&mut supply.line, &format!("run {}", self.run));
        }
    }

    /// Points the sources of the node that is announced, and tells whether the
    /// run ends after it. `zeros` feeds a lap that has failed.
    ///
    /// # Errors
    /// When the node is not the learned one, or its items cannot be had.
    ///
    /// # Safety
    /// `node` is live.
    pub unsafe fn ask(
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
            return Err(Error::Assumption(format!(
                "node {index} is not the one that was learned"
            )));
        }
        while let Some(feed) = self.itinerary.feeds.get(self.feed).copied()
            && feed.node as usize == index
        {
            let address = match (zeros, feed.supply) {
                // Also when the lap has failed: nobody gives this address back.
                // SAFETY: reads the root's settled address.
                (_, Supply::Settled) => unsafe { (*ggml(feed.tensor)).data },
                (Some(zeros), _) => zeros,
                (None, Supply::Extent { extent, at }) => {
                    let lease = self
                        .leases
                        .iter()
                        .find(|lease| lease.extent() == extent)
                        .ok_or_else(|| {
                            Error::Defect(format!("extent {} is not leased", extent.0))
                        })?;
                    supply.memory.ptr(lease.at() + at).cast_mut().cast()
                }
                (None, Supply::Items(table)) => {
                    // SAFETY: the caller's promise; a run ended before this node.
                    unsafe { self.items(node, &feed, table, supply)? };
                    supply
                        .memory
                        .ptr(supply.items.table(table).at)
                        .cast_mut()
                        .cast()
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

    /// The run is over: gives back what it was last to use, and waits for the
    /// extents of the next.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn done(&mut self, supply: &mut Supplies) -> Result<(), Error> {
        // SAFETY: called between runs, when nothing computes.
        unsafe { vacate(&self.itinerary.feeds[self.run_feed..self.feed]) };
        self.run_feed = self.feed;
        self.mark(supply, RealLine::mark_end);
        supply.watch.between();
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
            self.note(supply);
        }
        Ok(())
    }
}

/// llama.cpp's tensor of which the graph knows the address.
pub fn ggml(tensor: Tensor) -> *mut sys::ggml_tensor {
    tensor.0.cast()
}

fn want(supply: &mut Supplies, table: u32) -> Result<Ticket, Error> {
    supply.spans.clear();
    supply
        .items
        .want(table, &supply.ids, &mut supply.spans)
        .map_err(|bad| {
            Error::Assumption(format!(
                "the graph asks for item {} of {}",
                bad.index, bad.count
            ))
        })?;
    Ok(supply.line.fetch(&supply.spans))
}

/// Points a node's source at `address`, through a view if it has one.
///
/// # Safety
/// `node` is live; `address` is readable for as long as the node may compute.
unsafe fn point(
    node: *mut sys::ggml_tensor,
    feed: &Feed,
    address: *mut c_void,
) -> Result<(), Error> {
    // SAFETY: sources of a live node are live.
    unsafe {
        let source = (*node).src[feed.src];
        let root = if source.is_null() || (*source).view_src.is_null() {
            source
        } else {
            (*source).view_src
        };
        if root != ggml(feed.tensor) {
            return Err(Error::Assumption(format!(
                "node {} reads another weight than learned",
                feed.node
            )));
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
            unsafe { (*ggml(feed.tensor)).data = feed.vacant };
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
