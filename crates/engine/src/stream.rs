//! [`Stream`]: everything that feeds the laps of a backend. Places what stays in memory,
//! builds the line, and drives one lap at a time.

mod fill;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use delayline_line::{Clock, PartSpan};
use delayline_medium::{CheckCounts, Checked, KnownRead, MadeMedium, Memory, RealClock};
use delayline_plan::{ExpertRoute, Residency};

use crate::arena::{ExpertArena, ExpertCounts};
use crate::atlas::{Atlas, Residence, Steady};
use crate::backend::{Backend, Class};
use crate::budget;
use crate::draft::{Draft, Learned, outline};
use crate::error::Error;
use crate::expert_feed::{ExpertFeed, GuessCounts};
use crate::graph::{UseId, WeightUse};
use crate::hotness::HotnessFile;
use crate::items::Items;
use crate::itinerary::Itinerary;
use crate::lap::{Feeder, Supplies};
use crate::layout::{Layout, Role};
use crate::ledger::{Account, Ledger};
use crate::model_file::ModelFile;
use crate::options::Options;
use crate::prefault::Prefault;
use crate::routes::Routes;
use crate::second::SecondReading;
use crate::source::{EngineLine, LineSource, READ_LEN, open_line, open_medium};
use crate::watch::{Ring, Stretch, StretchKind, Watch};

/// Feeds the laps of a backend.
pub struct Stream {
    feeder: Feeder,
    /// By class: its graph and itinerary.
    classes: [Option<Learned>; 3],
    atlas: Atlas,
    residency: Residency,
    /// The class whose lap is enqueued last.
    laid: Option<Class>,
    memory: Arc<Memory>,
    /// Touches the memory of resident weights until a lap has read them.
    prefault: Option<Prefault>,
    /// Touch the frames for experts while laps run.
    _warming: Vec<Prefault>,
    ledger: Ledger,
    notices: Vec<String>,
    unchecked: bool,
    /// Whether resident bytes are to be read a second time.
    reads_again: bool,
    /// Parts without a seal.
    unsealed: Vec<String>,
    /// Small weights, which are read when the stream is opened.
    small: Vec<PartSpan>,
    /// The second reading of resident bytes of parts without a seal.
    second: Option<SecondReading>,
    clock: Rc<dyn Clock>,
    /// The file that records hot experts.
    hotness: Option<Arc<HotnessFile>>,
    /// Hash of the model's headers.
    model: u64,
}

impl Stream {
    /// Builds the line for a draft and a residency. Rows and experts may keep `keep` bytes
    /// besides.
    ///
    /// # Errors
    /// If memory or the medium cannot be made, or the small weights cannot be read.
    pub(crate) fn open<B: Backend>(
        draft: Draft,
        residency: Residency,
        keep: u64,
        backend: &mut B,
        file: &ModelFile,
        options: &Options,
    ) -> Result<Self, Error> {
        let Draft {
            classes,
            mut atlas,
            checks,
            unsealed,
            itinerary,
            mut ledger,
        } = draft;
        let lap = outline(&itinerary, file, backend.shape().threads);
        // If nothing else streams, whole experts stay, provided that those of a lap fit.
        let beside = atlas.layout.passing_beside_arena;
        let frames = keep + budget::without_tables(ledger.of(Account::Passing) - beside);
        let pools = (keep > 0)
            .then(|| atlas.layout.arena.shapes(frames))
            .flatten();
        let has_frames = pools.is_some();
        let (items, keep) = if has_frames {
            (frames, 0)
        } else {
            (keep, keep)
        };
        if has_frames {
            // Frames replace most of the memory for passing items.
            ledger.set(Account::Passing, beside);
        }
        ledger.book(Account::Window, residency.window);
        ledger.book(Account::Weights, residency.resident_bytes);
        ledger.book(Account::Items, items);
        let divided = residency.window + residency.resident_bytes + items;
        ledger.book(Account::PageTables, budget::with_tables(divided) - divided);

        let pools = pools.unwrap_or_default();
        let placed = atlas.layout.place(file, &atlas.cut, &residency, pools);
        let (memory, region) = Memory::new(placed.len)?;
        for range in &placed.sparse {
            memory.no_huge(range.clone());
        }
        memory.populate(0..residency.window)?;
        let prefault = Prefault::start(memory.clone(), placed.stays.clone());
        atlas.residences.clone_from(&placed.residences);
        let decoding = classes.iter().flatten().next();
        atlas.ring = decoding.map_or_else(Ring::default, |l| Ring::of(&l.graph, &atlas));
        let (medium, mut notices) = open_medium(file, &memory, &lap, &residency, options)?;
        let clock = medium.clock();
        let clock = clock.unwrap_or_else(|| Rc::new(RealClock::default()));
        let source = LineSource {
            medium: Checked::new(medium, memory.clone(), checks).with_team(backend.team()),
            region,
            clock: clock.clone(),
        };
        let mut line = open_line(file, source, &atlas, &residency, options)?;
        load_small(&mut line, &placed.small)?;
        backend.use_memory(memory.clone());
        settle_small(file, &atlas.layout, &classes, &placed.small, backend);
        let warming = placed
            .arena
            .ranges()
            .map(|range| Prefault::start(memory.clone(), range.start..range.end));
        let warming = warming.collect();
        let items = Items::new(placed.tables, keep);
        let mut supplies = Supplies::new(line, memory.clone(), items, options.trace);
        if has_frames {
            let layout = atlas.layout.arena.clone();
            let mut laps = layout.no_laps();
            let arena = ExpertArena::new(layout, placed.arena, options.experts);
            let mut experts = ExpertFeed::new(arena, !options.no_guess);
            if let Some(kept) = &options.hotness {
                notices.extend(kept.read(&mut laps, file.header_hash()));
                experts.recall(laps);
            }
            supplies.experts = Some(experts);
        }
        let asked = &options.routes;
        if asked.record || asked.follow.is_some() {
            let arena = &atlas.layout.arena;
            let (layers, layer_of) = (arena.bare_layers(), arena.layer_of());
            let routes = Routes::new(layers, arena.chosen(), layer_of, asked.clone())?;
            supplies.routes = Some(routes);
        }
        let feeder = Feeder::new(supplies);

        let mut stream = Self {
            feeder,
            classes,
            atlas,
            residency,
            laid: None,
            memory,
            prefault: Some(prefault),
            _warming: warming,
            ledger,
            notices,
            unchecked: options.unchecked,
            // A medium of `options.maker` may hold bytes that no file has.
            reads_again: !options.unchecked && options.maker.is_none() && !unsealed.is_empty(),
            unsealed,
            small: placed.small,
            second: None,
            clock,
            hotness: options.hotness.clone(),
            model: file.header_hash(),
        };
        stream.lay_out();
        Ok(stream)
    }

    /// Runs one lap; see [`crate::Engine::lap`].
    pub(crate) fn lap<B: Backend>(
        &mut self,
        backend: &mut B,
        file: &ModelFile,
        work: B::Work<'_>,
        next: Option<Class>,
    ) -> Result<(), Error> {
        if let Some(message) = self.second.as_ref().and_then(SecondReading::found) {
            // If the file was changed, report that instead.
            file.check_unchanged()?;
            return Err(Error::Resident(message));
        }
        let class = Class::of(B::rows(work), B::has_output(work));
        if self.laid.take().is_none() {
            self.lay(class);
        }
        if let Some(next) = next {
            self.lay(next);
        }
        let learned = self.learned(class);
        let (graph, itinerary) = (learned.graph.clone(), learned.itinerary.clone());
        let begun = self.feeder.begin(graph, itinerary.clone());
        let outcome = begun.and_then(|()| {
            let computed = backend.run(work, Some(&mut self.feeder));
            self.feeder.end(computed, backend)
        });
        if outcome.is_err() {
            self.laid = None;
        }
        // A file that was changed may also fail to be read: report the change first.
        if let Err(error) = file.check_unchanged().and(outcome) {
            backend.undo(work);
            return Err(error);
        }
        let news = self.settle(backend, &itinerary);
        if self.reads_again && (news || self.second.is_none()) {
            let reads = self.stays();
            self.second = SecondReading::start(file, reads);
            self.reads_again = self.second.is_some();
        }
        Ok(())
    }

    /// The reads of settled resident bytes whose sums are known.
    fn stays(&mut self) -> Vec<KnownRead> {
        let read_len = u64::from(READ_LEN);
        let extents = self.atlas.cut.extents.iter().zip(&self.atlas.residences);
        let extents = extents.filter(|(_, residence)| residence.is_settled());
        let mut pieces = Vec::new();
        for (extent, _) in extents {
            let from = (0..extent.len).step_by(READ_LEN as usize);
            pieces.extend(from.map(|from| {
                let len = (extent.len - from).min(read_len);
                (extent.part, extent.offset + from, len)
            }));
        }
        for span in &self.small {
            pieces.push((span.part, span.offset, span.len));
        }
        let medium = self.line().medium_mut();
        let known = pieces.into_iter();
        known
            .filter_map(|(part, offset, len)| medium.known(part, offset, len))
            .collect()
    }

    fn learned(&self, class: Class) -> &Learned {
        self.classes[class as usize]
            .as_ref()
            .expect("a micro-batch of one has only the single class")
    }

    /// Enqueues the extents of a lap of this class.
    fn lay(&mut self, class: Class) {
        let itinerary = self.learned(class).itinerary.clone();
        let steps = itinerary.schedule.steps().iter();
        self.line().enqueue(steps.map(|step| step.extent));
        self.laid = Some(class);
    }

    fn lay_out(&mut self) {
        for learned in self.classes.iter_mut().flatten() {
            learned.itinerary = Rc::new(self.atlas.lay_out(&learned.graph));
        }
    }

    /// Binds resident extents that this lap has read to their permanent addresses; returns
    /// whether there are any.
    fn settle<B: Backend>(&mut self, backend: &mut B, itinerary: &Itinerary) -> bool {
        let mut news = false;
        for step in itinerary.schedule.steps() {
            let residence = &mut self.atlas.residences[step.extent.index()];
            if let Residence::Expected(at) = *residence {
                *residence = Residence::Settled(at);
                news = true;
            }
        }
        if !news {
            return false;
        }
        self.prefault = None;
        for (class, used, u) in uses(&self.classes) {
            if let Some(home) = self.atlas.home(u.weight)
                && let Residence::Settled(at) = self.atlas.residences[home.extent.index()]
            {
                backend.settle(class, used, at + home.at);
            }
        }
        self.lay_out();
        true
    }

    /// Bytes of the window.
    pub fn window(&self) -> u64 {
        self.residency.window
    }

    /// Bytes of weights that stay, items included.
    pub fn resident_bytes(&mut self) -> u64 {
        let source = self.feeder.source();
        let held = source.experts.as_ref();
        let held = held.map_or(0, |experts| experts.arena.held_bytes());
        let kept = source.items.kept_bytes() + held;
        self.residency.resident_bytes + self.atlas.layout.small_bytes + kept
    }

    /// Bytes of extents that a decoding lap streams.
    pub fn bytes_per_lap(&self) -> u64 {
        self.residency.streamed_bytes
    }

    /// The extents that stay, and the window, for prediction.
    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    /// What the budget is spent on.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The line, for its counters and trace.
    pub fn line(&mut self) -> &mut EngineLine {
        &mut self.feeder.source().line
    }

    /// The line's clock.
    pub(crate) fn clock(&self) -> Rc<dyn Clock> {
        self.clock.clone()
    }

    /// Items requested, and those of them that were in memory.
    pub fn item_hits(&mut self) -> (u64, u64) {
        let items = &self.feeder.source().items;
        (items.asked, items.hits)
    }

    /// Counters of checking the bytes read; `None` if they are not checked.
    pub fn check_counts(&mut self) -> Option<CheckCounts> {
        let counts = self.line().medium_mut().counts();
        (!self.unchecked).then_some(counts)
    }

    /// Whether a second reading of resident bytes was made and is complete.
    pub fn is_read_again(&self) -> bool {
        self.second.as_ref().is_some_and(SecondReading::is_over)
    }

    /// The parts without a seal, whose first reading is trusted.
    pub fn unsealed(&self) -> &[String] {
        &self.unsealed
    }

    /// Counters of experts, if whole experts have frames.
    pub fn expert_counts(&mut self) -> Option<ExpertCounts> {
        let experts = self.feeder.source().experts.as_ref();
        experts.map(|experts| experts.arena.counts)
    }

    /// Counters of experts read ahead by guess, if whole experts have frames.
    pub fn guess_counts(&mut self) -> Option<GuessCounts> {
        let source = self.feeder.source();
        let experts = source.experts.as_ref();
        experts.map(|experts| experts.guesses(&source.line))
    }

    /// Which experts are in memory, and which the latest lap used: a string for each layer
    /// whose experts have frames, with a digit for each expert. 0: not in memory; 1: in
    /// memory; 2: used, and was in memory; 3: used, and had to be read.
    pub fn expert_picture(&mut self) -> Vec<String> {
        let experts = self.feeder.source().experts.as_ref();
        experts.map_or_else(Vec::new, |experts| experts.arena.picture())
    }

    /// Bytes of frames for whole experts.
    pub fn expert_capacity(&mut self) -> u64 {
        let experts = self.feeder.source().experts.as_ref();
        experts.map_or(0, |experts| experts.arena.capacity_bytes())
    }

    /// Bytes of all experts of the layers that may have frames.
    pub fn expert_bytes(&self) -> u64 {
        let layers = self.atlas.layout.arena.bare_layers().into_iter();
        layers
            .map(|layer| layer.bytes * u64::from(layer.count))
            .sum()
    }

    /// Ends the recording of experts' choices and returns them, if they were recorded.
    pub fn take_route(&mut self) -> Option<ExpertRoute> {
        self.feeder.source().routes.as_mut()?.take()
    }

    /// Reads a few more experts that were hot when the model last ran, between laps and
    /// without waiting. Returns whether some are under way.
    ///
    /// # Errors
    /// Those of [`delayline_line::Line::pump`].
    pub fn warm(&mut self) -> Result<bool, Error> {
        let source = self.feeder.source();
        match &mut source.experts {
            Some(experts) => Ok(experts.warm(&mut source.line, &source.memory)?),
            None => Ok(false),
        }
    }

    /// Bytes of experts that were read because they were hot when the model last ran.
    pub fn warmed_bytes(&mut self) -> u64 {
        let experts = self.feeder.source().experts.as_ref();
        experts.map_or(0, ExpertFeed::warmed_bytes)
    }

    /// Sets whether the choices of the following laps count for which experts are hot. By
    /// default they do; those of laps without real text should not.
    pub fn keep_choices(&mut self, keep: bool) {
        if let Some(experts) = &mut self.feeder.source().experts {
            experts.arena.keep_hot(keep);
        }
    }

    /// Writes the file of hot experts, if anything has changed.
    ///
    /// # Errors
    /// If it cannot be written; reported once.
    pub fn write_hotness(&mut self) -> io::Result<()> {
        let model = self.model;
        let kept = self.hotness.clone();
        let experts = self.feeder.source().experts.as_mut();
        match kept.zip(experts) {
            Some((kept, experts)) => kept.write(experts.arena.hot(), model),
            None => Ok(()),
        }
    }

    /// The choices of experts of the last few dozen laps, if experts have frames. Laps of
    /// long prompts are left out; some laps may be of an earlier run.
    pub fn last_choices(&mut self) -> Option<ExpertRoute> {
        let layout = &self.atlas.layout.arena;
        let (layers, chosen) = (layout.bare_layers(), layout.chosen());
        let experts = self.feeder.source().experts.as_mut()?;
        Some(experts.arena.hot().route(layers, chosen))
    }

    /// Notices for a person about how the files are read.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The extents and experts of a decoding lap, in order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.atlas.ring.stretches
    }

    /// Whether laps read: extents through the window, or experts not in memory.
    pub fn reads(&self) -> bool {
        let picked = |stretch: &Stretch| stretch.kind == StretchKind::Picked;
        self.bytes_per_lap() > 0 || self.stretches().iter().any(picked)
    }

    /// The progress of laps, for any thread.
    pub fn watch(&mut self) -> Arc<Watch> {
        self.feeder.source().watch.clone()
    }

    /// The medium that the line reads from, which its maker can downcast.
    pub fn medium(&mut self) -> &mut (dyn MadeMedium + 'static) {
        &mut **self.line().medium_mut().inner_mut()
    }

    /// What decoding laps use once everything resident is loaded, and the longest read in
    /// bytes, for prediction.
    pub fn steady(&self) -> (Steady, u32) {
        let graph = &self.learned(Class::Single).graph;
        (self.atlas.steady(graph), READ_LEN)
    }

    /// The decoding lap's itinerary, for prediction.
    pub fn itinerary(&self) -> &Itinerary {
        &self.learned(Class::Single).itinerary
    }
}

/// All uses of weights, each with its class and number.
fn uses(classes: &[Option<Learned>; 3]) -> impl Iterator<Item = (Class, UseId, &WeightUse)> {
    classes.iter().flatten().flat_map(|learned| {
        let uses = (0..).map(UseId).zip(&learned.graph.uses);
        uses.map(|(used, u)| (learned.class, used, u))
    })
}

fn load_small(line: &mut EngineLine, spans: &[PartSpan]) -> Result<(), Error> {
    let ticket = line.fetch(spans);
    Ok(line.fetched(ticket)?)
}

/// Binds small weights to their permanent addresses.
fn settle_small<B: Backend>(
    file: &ModelFile,
    layout: &Layout,
    classes: &[Option<Learned>; 3],
    spans: &[PartSpan],
    backend: &mut B,
) {
    for (class, used, u) in uses(classes) {
        if layout.roles[u.weight.0 as usize] != Role::Small {
            continue;
        }
        let weight = file.weight(u.weight);
        let at = Layout::small_at(spans, weight.part, weight.offset)
            .expect("small weights were gathered");
        backend.settle(class, used, at);
    }
}
