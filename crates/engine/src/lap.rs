//! Feeds a lap under way: leases extents, fetches rows and experts, and binds weights to
//! their bytes, as the backend calls it node by node. Computes nothing.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use delayline_line::{LineError, PartSpan, Ticket, Walk};
use delayline_medium::Memory;

use crate::backend::{Bind, Binding, Feed, Flow};
use crate::error::Error;
use crate::expert_feed::ExpertFeed;
use crate::graph::Graph;
use crate::items::{BadIndex, Items};
use crate::itinerary::{Itinerary, Supply, UseSupply};
use crate::routes::Routes;
use crate::source::EngineLine;
use crate::watch::Watch;

/// A lap under way.
struct Lap {
    itinerary: Rc<Itinerary>,
    /// The graph as it was learned, to compare nodes with.
    graph: Rc<Graph>,
    /// Number of nodes announced so far.
    node: usize,
    /// Index of the next of the itinerary's supplies.
    next: usize,
    /// Index of the first supply of the run under way.
    run_first: usize,
    walk: Walk,
    /// Fetches of items that share their indices with an earlier node, by supply.
    early: Vec<(usize, Ticket)>,
}

/// Feeds laps: takes extents from the line, fetches rows and experts, and binds weights
/// to them.
pub struct Feeder {
    source: Supplies,
    lap: Option<Lap>,
    failed: Option<Error>,
    /// The medium has lost a read, which may still write into the memory: no further lap
    /// can be fed.
    lost: Option<LineError>,
}

/// Where the bytes of laps come from.
pub struct Supplies {
    /// The line.
    pub line: EngineLine,
    /// The memory it reads into.
    pub memory: Arc<Memory>,
    /// Rows and experts.
    pub items: Items,
    /// Whole experts, if there are frames for them.
    pub experts: Option<ExpertFeed>,
    /// Records or replaces the choices of experts, if requested.
    pub routes: Option<Routes>,
    /// Progress of the lap, for other threads.
    pub watch: Arc<Watch>,
    /// Whether runs are marked in the line's trace.
    trace: bool,
    spans: Vec<PartSpan>,
    ids: Vec<i32>,
    guess: Vec<i32>,
}

impl Supplies {
    /// Without frames for experts and routes.
    pub fn new(line: EngineLine, memory: Arc<Memory>, items: Items, trace: bool) -> Self {
        Self {
            line,
            memory,
            items,
            experts: None,
            routes: None,
            watch: Arc::default(),
            trace,
            spans: Vec::new(),
            ids: Vec::new(),
            guess: Vec::new(),
        }
    }

    /// Whether the items of this table are matrices of experts that have frames.
    fn has_frames(&self, table: u32) -> bool {
        self.seat(table).is_some()
    }

    /// Layer and matrix of such a table.
    fn seat(&self, table: u32) -> Option<(u32, u32)> {
        self.experts.as_ref()?.arena.seat(table)
    }

    /// Gets the indices that a node uses. Those of experts may be recorded or replaced.
    fn ask(&mut self, u: &UseSupply, table: u32, bind: &mut dyn Bind) -> Result<(), Error> {
        bind.ids(u.used, &mut self.ids)?;
        if let Some(routes) = &mut self.routes
            && let Some(layer) = routes.layer(table)
            && routes.choose(layer, &mut self.ids)
        {
            bind.set_ids(u.used, &self.ids)?;
        }
        Ok(())
    }
}

impl Feeder {
    /// A feeder with no lap under way.
    pub fn new(source: Supplies) -> Self {
        Self {
            source,
            lap: None,
            failed: None,
            lost: None,
        }
    }

    /// The sources of the bytes.
    pub fn source(&mut self) -> &mut Supplies {
        &mut self.source
    }

    /// Begins a lap: waits for the extents of its first run.
    ///
    /// # Errors
    /// If they cannot be read; no lap is under way then.
    pub fn begin(&mut self, graph: Rc<Graph>, itinerary: Rc<Itinerary>) -> Result<(), Error> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone().into());
        }
        self.failed = None;
        let source = &mut self.source;
        if let Some(routes) = &mut source.routes {
            routes.begin();
        }
        if let Some(experts) = &mut source.experts {
            experts.begin();
        }
        let lap = self.lap.insert(Lap::new(graph, itinerary));
        source.watch.begin(source.line.counters());
        // Reads for this lap and the next are submitted before anything computes.
        let first = source
            .line
            .pump()
            .map_err(Error::from)
            .and_then(|()| lap.acquire(source));
        lap.mark(source, EngineLine::mark_begin);
        match first {
            Ok(()) => Ok(()),
            Err(error) => {
                self.failed = Some(error);
                self.finish()
            }
        }
    }

    /// Ends a lap and gives back all leases. `outcome` is that of the backend, which must
    /// have stopped computing.
    ///
    /// # Errors
    /// The first error of the lap, which may be the cause of the backend's. The outputs
    /// of the lap must not be used then.
    pub fn end(&mut self, outcome: Result<(), Error>, bind: &mut dyn Bind) -> Result<(), Error> {
        if self.failed.is_none() {
            self.failed = outcome.err();
        }
        if let Some(lap) = &self.lap {
            let (run, runs) = lap.progress();
            if run != runs && self.failed.is_none() {
                self.failed = Some(Error::Assumption(format!(
                    "the graph ended in run {run} of {runs}"
                )));
            }
            vacate(lap.bound(), bind);
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Error> {
        let source = &mut self.source;
        if let Some(lap) = self.lap.take() {
            lap.give_back(source);
        }
        let Some(error) = self.failed.take() else {
            return Ok(());
        };
        if let Some(routes) = &mut source.routes {
            routes.fail();
        }
        // The error is reported already; forgetting may meet the same.
        if let Err(lost) = source.line.forget() {
            self.lost = Some(lost);
            return Err(error);
        }
        let memory = source.memory.clone();
        source.items.clear(|range| memory.discard(range));
        if let Some(experts) = &mut source.experts {
            experts.clear(&mut source.line);
        }
        Err(error)
    }
}

impl Feed for Feeder {
    fn before(&mut self, node: u32, op: u32, bind: &mut dyn Bind) -> Flow {
        let Some(lap) = &mut self.lap else {
            return Flow::Stop;
        };
        let failed = self.failed.is_some();
        match lap.before(node, op, &mut self.source, bind, failed) {
            Ok(_) if failed => Flow::Stop,
            Ok(true) => Flow::Pause,
            Ok(false) => Flow::Go,
            Err(error) => {
                // This node cannot be stopped: it reads zeros, then the lap ends.
                self.fail(error, bind);
                Flow::Stop
            }
        }
    }

    fn after(&mut self, bind: &mut dyn Bind) -> Flow {
        let Some(lap) = self.lap.as_mut().filter(|_| self.failed.is_none()) else {
            return Flow::Stop;
        };
        match lap.after(&mut self.source, bind) {
            Ok(()) => Flow::Go,
            Err(error) => {
                self.failed = Some(error);
                Flow::Stop
            }
        }
    }

    fn fail(&mut self, error: Error, bind: &mut dyn Bind) {
        self.failed.get_or_insert(error);
        if let Some(lap) = &mut self.lap {
            lap.starve(bind);
        }
    }
}

impl Lap {
    /// A lap before its first node.
    fn new(graph: Rc<Graph>, itinerary: Rc<Itinerary>) -> Self {
        Self {
            itinerary,
            graph,
            node: 0,
            next: 0,
            run_first: 0,
            walk: Walk::new(),
            early: Vec::new(),
        }
    }

    /// The run under way, or the number of runs when all are over; and that number.
    fn progress(&self) -> (usize, usize) {
        (self.walk.run() as usize, self.itinerary.plan.runs.len())
    }

    /// The uses bound in the run under way.
    fn bound(&self) -> &[UseSupply] {
        &self.itinerary.supplies[self.run_first..self.next]
    }

    /// Gives back all leases, at any point of the lap.
    fn give_back(self, source: &mut Supplies) {
        let (run, runs) = self.progress();
        source.watch.end(run == runs);
        self.walk.abandon(&mut source.line);
    }

    /// Binds every weight of the node announced last to zeros, except those with a
    /// permanent address.
    fn starve(&mut self, bind: &mut dyn Bind) {
        let at = self.node.saturating_sub(1) as u32;
        let supplies = &self.itinerary.supplies;
        let from = supplies.partition_point(|u| u.node < at);
        let until = supplies.partition_point(|u| u.node <= at);
        let moving = |u: &&UseSupply| u.supply != Supply::Settled;
        for u in supplies[from..until].iter().filter(moving) {
            // The lap has failed already; another error adds nothing.
            let _ = bind.bind(u.used, Binding::Zeros);
        }
        self.next = until;
    }

    /// Waits for the extents of the next run.
    fn acquire(&mut self, source: &mut Supplies) -> Result<(), Error> {
        self.walk
            .begin(&self.itinerary.schedule, &mut source.line)?;
        self.note(source);
        Ok(())
    }

    /// Publishes the lap's progress.
    fn note(&self, source: &Supplies) {
        let places = &self.itinerary.places;
        let over = places.partition_point(|&(node, _)| (node as usize) < self.node);
        let place = over.checked_sub(1).map_or(0, |last| places[last].1);
        let line = &source.line;
        source.watch.mark(place, line.counters(), line.arrived());
    }

    /// Marks in the trace that the compute of the run begins or ends.
    fn mark(&self, source: &mut Supplies, note: fn(&mut EngineLine, &str)) {
        if source.trace {
            note(&mut source.line, &format!("run {}", self.walk.run()));
        }
    }

    /// Binds the weights of the announced node, to zeros if the lap has failed. Returns
    /// whether the run ends after it.
    ///
    /// # Errors
    /// If the node is not the learned one, or its items cannot be read.
    fn before(
        &mut self,
        node: u32,
        op: u32,
        source: &mut Supplies,
        bind: &mut dyn Bind,
        failed: bool,
    ) -> Result<bool, Error> {
        let index = node as usize;
        self.node = index + 1;
        if self.graph.ops.get(index) != Some(&op) {
            return Err(Error::Assumption(format!(
                "node {index} is not the one that was learned"
            )));
        }
        while let Some(u) = self.itinerary.supplies.get(self.next).copied()
            && u.node == node
        {
            let binding = match u.supply {
                // Also if the lap has failed: this address is permanent.
                Supply::Settled => Binding::Settled,
                _ if failed => Binding::Zeros,
                Supply::Extent { extent, at } => {
                    let lease = self.walk.lease(extent).ok_or_else(|| {
                        Error::Defect(format!("extent {} is not leased", extent.0))
                    })?;
                    Binding::in_lease(lease, at)
                }
                Supply::Items(table) if source.has_frames(table) => {
                    self.experts(&u, table, source, bind)?;
                    self.next += 1;
                    continue;
                }
                Supply::Items(table) => {
                    self.items(&u, table, source, bind)?;
                    Binding::At(source.items.table(table).at)
                }
            };
            bind.bind(u.used, binding)?;
            self.next += 1;
        }
        Ok(self.itinerary.ends[index])
    }

    /// Fetches the items that the node uses. A run has ended before the node, so its
    /// indices are computed.
    fn items(
        &mut self,
        u: &UseSupply,
        table: u32,
        source: &mut Supplies,
        bind: &mut dyn Bind,
    ) -> Result<(), Error> {
        if let Some(early) = self.early.iter().position(|(at, _)| *at == self.next) {
            let (_, ticket) = self.early.swap_remove(early);
            return Ok(source.line.fetched(ticket)?);
        }
        source.ask(u, table, bind)?;
        let ticket = want(source, table)?;
        // Later nodes with the same indices, such as the other projections of the same
        // experts: fetch their items now, and compute the first meanwhile.
        let supplies = self.itinerary.supplies.iter().enumerate();
        for (ahead, other) in supplies.skip(self.next + 1) {
            if let Supply::Items(table) = other.supply
                && other.group == u.group
                && u.group.is_some()
            {
                let ticket = want(source, table)?;
                self.early.push((ahead, ticket));
            } else if other.group != u.group {
                break;
            }
        }
        Ok(source.line.fetched(ticket)?)
    }

    /// Waits until one matrix of the experts that the node uses is in frames. The first
    /// node of a layer requests all matrices, and computes while the others are read.
    fn experts(
        &mut self,
        u: &UseSupply,
        table: u32,
        source: &mut Supplies,
        bind: &mut dyn Bind,
    ) -> Result<(), Error> {
        let none = || Error::Defect(format!("table {table} has no frames"));
        let (layer, matrix) = source.seat(table).ok_or_else(none)?;
        let experts = source.experts.as_mut().ok_or_else(none)?;
        if !experts.is_at(layer) {
            source.ask(u, table, bind)?;
            let experts = source.experts.as_mut().ok_or_else(none)?;
            experts
                .visit(layer, &source.ids, &mut source.line)
                .map_err(bad_index)?;
            self.guess(layer, source, bind)?;
            let experts = source.experts.as_mut().ok_or_else(none)?;
            experts.warm(&mut source.line, &source.memory)?;
        }
        let experts = source.experts.as_mut().ok_or_else(none)?;
        experts.wait(matrix, &mut source.line, &source.memory)?;
        bind.bind_frames(u.used, experts.binding(layer, matrix))
    }

    /// Reads experts that the next layer will probably use, after all that is certainly
    /// needed.
    fn guess(&self, layer: u32, source: &mut Supplies, bind: &mut dyn Bind) -> Result<(), Error> {
        let rest = self.itinerary.supplies.iter().skip(self.next + 1);
        let next = rest.filter_map(|u| match u.supply {
            Supply::Items(table) => source.seat(table).map(|(layer, _)| (u.used, layer)),
            _ => None,
        });
        let Some((used, ahead)) = { next }.find(|&(_, of)| of != layer) else {
            return Ok(());
        };
        let Some(experts) = &mut source.experts else {
            return Ok(());
        };
        if !experts.wants_guess(&source.line) {
            return Ok(());
        }
        let begun = Instant::now();
        match &source.routes {
            Some(routes) if routes.follows() => routes.guess(ahead, &mut source.guess),
            _ => bind.guess(used, &mut source.guess)?,
        }
        experts.guess(ahead, &source.guess, begun.elapsed(), &mut source.line);
        Ok(source.line.pump()?)
    }

    /// Ends a run: gives back extents that no later run needs, and waits for those of the
    /// next run.
    ///
    /// # Errors
    /// If they cannot be read.
    fn after(&mut self, source: &mut Supplies, bind: &mut dyn Bind) -> Result<(), Error> {
        vacate(self.bound(), bind);
        self.run_first = self.next;
        self.mark(source, EngineLine::mark_end);
        source.watch.between();
        if self.early.is_empty() {
            let memory = &source.memory;
            source.items.pass(|range| memory.discard(range));
        }
        self.walk.end(&self.itinerary.schedule, &mut source.line)?;
        let (run, runs) = self.progress();
        if run < runs {
            self.acquire(source)?;
            self.mark(source, EngineLine::mark_begin);
        } else {
            self.note(source);
        }
        Ok(())
    }
}

/// Starts to fetch the items of `source.ids` from a table.
fn want(source: &mut Supplies, table: u32) -> Result<Ticket, Error> {
    source.spans.clear();
    source
        .items
        .want(table, &source.ids, &mut source.spans)
        .map_err(bad_index)?;
    Ok(source.line.fetch(&source.spans))
}

fn bad_index(bad: BadIndex) -> Error {
    let BadIndex { index, count } = bad;
    Error::Assumption(format!("the graph asks for item {index} of {count}"))
}

/// Unbinds the weights of a run that is over, so that a node that is not fed faults
/// instead of computing on other bytes in the window.
fn vacate(bound: &[UseSupply], bind: &mut dyn Bind) {
    for u in bound.iter().filter(|u| u.supply != Supply::Settled) {
        // Cannot fail for what was bound.
        let _ = bind.bind(u.used, Binding::Vacant);
    }
}
