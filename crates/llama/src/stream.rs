//! Streaming: from a model without bytes to laps that are fed. Learns the
//! graphs, decides what stays, builds the line, and drives one lap at a time.

mod fill;

use std::rc::Rc;
use std::sync::Arc;

use delayline_engine::cgroup;
use delayline_engine::process::{self, Usage};
use delayline_engine::watch::{Ring, Stretch, Watch};
use delayline_engine::{
    Atlas, Error, Graph, Items, Itinerary, Layout, LineSource, ModelFile, Names, Needs, Options,
    Prefault, READ_LEN, RealLine, Role, Shape, Steady, Supplies, WeightUse, budget, open_line,
    open_medium, settle_budget,
};
use delayline_line::Span;
use delayline_medium::{LapOutline, MadeMedium, Memory};
use delayline_plan::Residency;

use crate::bind::TensorUse;
use crate::context::Context;
use crate::empty::Model;
use crate::engine::status;
use crate::piece::{self, Piece};
use crate::pump::Pump;
use crate::sample::SPELLED;
use crate::sys;

/// The kinds of laps; each has a graph of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One token, with logits: decoding.
    Single,
    /// Several tokens, with logits of some.
    Many,
    /// Several tokens without logits: the output head is skipped.
    Quiet,
}

impl Class {
    /// The class of a micro-batch.
    pub fn of(tokens: usize, output: bool) -> Self {
        match (tokens, output) {
            (1, _) => Self::Single,
            (_, true) => Self::Many,
            (_, false) => Self::Quiet,
        }
    }
}

/// A class's graph and its stops.
struct Learned {
    graph: Rc<Graph>,
    tensors: Rc<[TensorUse]>,
    itinerary: Rc<Itinerary>,
}

/// A fed model.
pub struct Stream {
    pump: Pump,
    classes: [Option<Learned>; 3],
    atlas: Atlas,
    residency: Residency,
    laid: Option<Class>,
    memory: Arc<Memory>,
    /// Until a lap has brought all that stays.
    prefault: Option<Prefault>,
    needs: u64,
    notices: Vec<String>,
}

impl Stream {
    /// Learns the model's graphs and builds a line that keeps within `total`
    /// bytes.
    ///
    /// # Errors
    /// When the budget is too small or llama.cpp does something unforeseen.
    pub(crate) fn open(
        model: &Arc<Model>,
        file: &ModelFile,
        shape: Shape,
        total: u64,
        options: &Options,
    ) -> Result<(Context, Self), Error> {
        let largest = file.weights().iter().map(|w| w.len).max().unwrap_or(0);
        let mut pump = Pump::new(largest)?;
        let mut context = Context::new(model, shape, Some(&pump))?;
        let made = Usage::now().data;
        let classes = learn_all(&mut context, &mut pump, &file.names(), shape)?;
        process::trim_heap();
        // The dry laps built all graphs, but computed nothing: buffers count
        // beside what is in memory by now, and so does what they allocated to work in.
        let usage = Usage::now();
        let occupied = usage.resident + context.buffer_bytes() + usage.data.saturating_sub(made);
        let graphs: Vec<Rc<Graph>> = classes.iter().flatten().map(|l| l.graph.clone()).collect();
        let mut atlas = Atlas::new(file, &graphs)?;

        let needs = budget::needs(occupied, file.facts().vocab)
            + atlas.layout.small_bytes
            + budget::set_aside(options, SPELLED as u64)
            + options
                .maker
                .as_ref()
                .map_or(0, |maker| maker.needs_bytes());
        let spend = Needs {
            total,
            needs,
            passing: atlas.layout.passing_bytes,
            kv: context.kv_bytes(),
        };
        let itinerary = atlas.lay_out(&graphs[0]);
        let lap = outline(&itinerary, file, shape.threads);
        let (residency, keep) = settle_budget(&lap, spend, options)?;

        let placed = atlas.layout.place(file, &atlas.cut, &residency);
        let (memory, region) = Memory::new(placed.len)?;
        for range in &placed.sparse {
            memory.no_huge(range.clone());
        }
        memory.populate(0..residency.window)?;
        let prefault = Prefault::start(memory.clone(), placed.stays.clone());
        atlas.homes.clone_from(&placed.homes);
        atlas.ring = Ring::of(&graphs[0], &atlas);
        let (medium, notices) = open_medium(file, &memory, &lap, &residency, options)?;
        let source = LineSource { medium, region };
        let mut line = open_line(file, source, &atlas, &residency, options)?;
        load_small(&mut line, &placed.small)?;
        settle_small(file, &atlas.layout, &classes, &placed.small, &memory);
        pump.supply(Supplies::new(
            line,
            memory.clone(),
            Items::new(placed.tables, keep),
            options.trace,
        ));

        let mut stream = Self {
            pump,
            classes,
            atlas,
            residency,
            laid: None,
            memory,
            prefault: Some(prefault),
            needs,
            notices,
        };
        stream.lay_out();
        Ok((context, stream))
    }

    /// One lap, as [`crate::Engine::lap`].
    pub(crate) fn lap(
        &mut self,
        context: &mut Context,
        file: &ModelFile,
        pieces: &[Piece],
        next: Option<Class>,
    ) -> Result<(), Error> {
        let class = piece::class(pieces);
        if self.laid.take().is_none() {
            self.lay(class);
        }
        if let Some(next) = next {
            self.lay(next);
        }
        let learned = self.learned(class);
        let (graph, tensors) = (learned.graph.clone(), learned.tensors.clone());
        let itinerary = learned.itinerary.clone();
        let begun = self.pump.begin(graph, tensors, itinerary.clone());
        let outcome = begun.and_then(|()| {
            let code = match (class, pieces) {
                // The graph that was learned for a single token has an output.
                (Class::Single, &[piece]) => context.decode(&[piece.with_output()]),
                _ => context.decode(pieces),
            };
            self.pump.end(code.and_then(status))
        });
        if outcome.is_err() {
            self.laid = None;
        }
        // A file that shrank fails to be read as well: the change is the cause.
        if let Err(error) = file.check_unchanged().and(outcome) {
            piece::undo(pieces, context);
            return Err(error);
        }
        self.settle(&itinerary);
        Ok(())
    }

    fn learned(&self, class: Class) -> &Learned {
        self.classes[class as usize]
            .as_ref()
            .expect("a micro-batch of one has only the single class")
    }

    /// Tells the line what a lap of this class will need.
    fn lay(&mut self, class: Class) {
        let itinerary = self.learned(class).itinerary.clone();
        let supplies = self.pump.supplies().expect("set on opening");
        supplies
            .line
            .enqueue(itinerary.schedule.steps().iter().map(|s| s.extent));
        self.laid = Some(class);
    }

    fn lay_out(&mut self) {
        for learned in self.classes.iter_mut().flatten() {
            learned.itinerary = Rc::new(self.atlas.lay_out(&learned.graph));
        }
    }

    /// Resident extents that have come by now get their addresses for good.
    fn settle(&mut self, itinerary: &Itinerary) {
        let mut news = false;
        for step in itinerary.schedule.steps() {
            let at = step.extent.index();
            if self.atlas.homes[at].is_some() && !self.atlas.settled[at] {
                self.atlas.settled[at] = true;
                news = true;
            }
        }
        if !news {
            return;
        }
        self.prefault = None;
        for (u, tensor) in uses(&self.classes) {
            if let Some(home) = self.atlas.home(u.weight)
                && self.atlas.settled[home.extent.index()]
                && let Some(at) = self.atlas.homes[home.extent.index()]
            {
                // SAFETY: nothing computes between laps; a settled extent is
                // whole and stays where it is as long as the memory lives.
                unsafe { (*tensor).data = self.memory.ptr(at + home.at).cast_mut().cast() };
            }
        }
        self.lay_out();
    }

    /// Bytes of the window.
    pub fn window(&self) -> u64 {
        self.residency.window
    }

    /// Bytes of weights that stay, items included.
    pub fn resident_bytes(&mut self) -> u64 {
        let kept = self.pump.supplies().map_or(0, |s| s.items.kept_bytes());
        self.residency.resident_bytes + self.atlas.layout.small_bytes + kept
    }

    /// Bytes of extents that a decoding lap streams.
    pub fn bytes_per_lap(&self) -> u64 {
        self.residency.streamed_bytes
    }

    /// What stays and what streams, for prediction.
    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    /// Bytes that everything but window and large resident weights takes.
    pub fn needs(&self) -> u64 {
        self.needs
    }

    /// The line, for its counters and trace.
    pub fn line(&mut self) -> &mut RealLine {
        &mut self.pump.supplies().expect("set on opening").line
    }

    /// Items asked for and found in memory.
    pub fn item_hits(&mut self) -> (u64, u64) {
        self.pump
            .supplies()
            .map_or((0, 0), |s| (s.items.asked, s.items.hits))
    }

    /// What a person should know of how the files are read.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What a decoding lap passes over, in order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.atlas.ring.stretches
    }

    /// What there is to see of the laps, from any thread.
    pub fn watch(&mut self) -> Arc<Watch> {
        let supplies = self.pump.supplies().expect("set on opening");
        supplies.watch.clone()
    }

    /// What the line reads from, as its maker gave it: whoever made it can find
    /// its type again.
    pub fn medium(&mut self) -> &mut (dyn MadeMedium + 'static) {
        &mut **self.line().medium_mut()
    }

    /// What decoding laps use in the long run, and how it is read: the longest
    /// read in bytes, for prediction.
    pub fn steady(&self) -> (Steady, u32) {
        let graph = &self.learned(Class::Single).graph;
        (self.atlas.steady(graph), READ_LEN)
    }

    /// The decoding lap's stops, for prediction.
    pub fn itinerary(&self) -> &Itinerary {
        &self.learned(Class::Single).itinerary
    }
}

/// A decoding lap for those who may want something else between it and the files.
fn outline<'a>(itinerary: &'a Itinerary, file: &ModelFile, threads: u32) -> LapOutline<'a> {
    let group = cgroup::current().and_then(|group| group.available_bytes());
    LapOutline {
        plan: &itinerary.plan,
        schedule: &itinerary.schedule,
        weight_bytes: file.weight_bytes(),
        threads,
        read_len: READ_LEN,
        free_bytes: process::available_bytes().into_iter().chain(group).min(),
    }
}

/// All uses of weights, each with llama.cpp's tensor.
fn uses(
    classes: &[Option<Learned>; 3],
) -> impl Iterator<Item = (&WeightUse, *mut sys::ggml_tensor)> {
    let all = classes.iter().flatten();
    all.flat_map(|l| l.graph.uses.iter().zip(l.tensors.iter().map(|t| t.tensor)))
}

fn learn_all(
    context: &mut Context,
    pump: &mut Pump,
    names: &Names,
    shape: Shape,
) -> Result<[Option<Learned>; 3], Error> {
    let mut learn = |tokens: u32, outputs: u32| -> Result<Option<Learned>, Error> {
        let tokens = vec![0; tokens as usize];
        pump.learn(names.clone());
        let code = context.decode(&piece::even(&tokens, outputs));
        let (graph, tensors) = pump.learned()?;
        let code = code?;
        if code != 2 {
            return Err(Error::Assumption(format!(
                "a dry lap ended with status {code}, not 2"
            )));
        }
        context.clear();
        Ok(Some(Learned {
            graph: Rc::new(graph),
            tensors: tensors.into(),
            itinerary: Rc::default(),
        }))
    };
    let single = learn(1, 1)?;
    if shape.ubatch == 1 {
        return Ok([single, None, None]);
    }
    // As many outputs as a lap can have: what a node may ask for is learned too.
    let many = learn(shape.ubatch, shape.seqs)?;
    Ok([single, many, learn(shape.ubatch, 0)?])
}

fn load_small(line: &mut RealLine, spans: &[Span]) -> Result<(), Error> {
    let ticket = line.fetch(spans);
    Ok(line.fetched(ticket)?)
}

/// Small weights get their addresses for good.
fn settle_small(
    file: &ModelFile,
    layout: &Layout,
    classes: &[Option<Learned>; 3],
    spans: &[Span],
    memory: &Memory,
) {
    for (u, tensor) in uses(classes) {
        if layout.roles[u.weight.0 as usize] != Role::Small {
            continue;
        }
        let weight = file.weight(u.weight);
        let at = Layout::small_at(spans, weight.part, weight.offset)
            .expect("small weights were gathered");
        // SAFETY: nothing computes yet; the small area holds the whole weight
        // and lives as long as the memory.
        unsafe { (*tensor).data = memory.ptr(at).cast_mut().cast() };
    }
}
