//! A backend that compares instead of computing: for each node it checks that every byte
//! that it would read is the file's. Its outputs are those of the simulated decoder.

use std::rc::Rc;
use std::sync::Arc;

use delayline_engine::{
    Backend, Bind, Binding, Class, ContextShape, Error, Feed, Flow, FrameBinding, Graph, How, Load,
    Loader, ModelFile, Names, UseId, WeightUse,
};
use delayline_llama::batch::{
    Decoder, SimulatedDecoder, SimulatedLanguage, SimulatedModel, TokenBackend,
};
use delayline_llama::{LlamaBackend, Piece};
use delayline_medium::{Memory, Rng, VirtualClock};

use crate::medium::{Phase, Weather};
use crate::model::{EXPERTS, EXPERTS_USED, Model, uses_of};

pub struct CheckLoader {
    pub model: Rc<Model>,
    /// The model of the outputs.
    pub outputs: SimulatedModel,
    pub weather: Arc<Weather>,
}

impl Loader for CheckLoader {
    type Model = ();
    type Backend = CheckBackend;

    fn load(&self, _: &ModelFile, how: Load) -> Result<(), Error> {
        assert_eq!(how, Load::Empty, "a simulated model is always fed");
        Ok(())
    }

    fn spelled(&self) -> u64 {
        0
    }

    fn start(&self, (): &(), shape: ContextShape, fed: Option<u64>) -> Result<CheckBackend, Error> {
        assert!(fed.is_some(), "a simulated model is always fed");
        let outputs = SimulatedModel {
            slots: shape.seqs as usize,
            cells: shape.ctx as usize,
            rows: shape.ubatch as usize,
            ..self.outputs
        };
        Ok(CheckBackend {
            graphs: Default::default(),
            decoder: SimulatedDecoder::new(outputs),
            settled: vec![None; self.model.weights.len()],
            bound: Vec::new(),
            framed: Vec::new(),
            lap: Class::Single,
            tokens: Vec::new(),
            experts: Vec::new(),
            rng: Rng::new(self.outputs.seed),
            bytes: Vec::new(),
            memory: None,
            checked: 0,
            clock: VirtualClock::new(),
            node_ns: 0,
            model: self.model.clone(),
            weather: self.weather.clone(),
            shape,
        })
    }
}

pub struct CheckBackend {
    model: Rc<Model>,
    graphs: [Rc<Graph>; 3],
    decoder: SimulatedDecoder,
    /// By weight: its address once it has settled.
    settled: Vec<Option<u64>>,
    /// By use of the lap's graph: its binding.
    bound: Vec<Option<Binding>>,
    /// Uses whose experts are in frames, with the address of each chosen expert.
    framed: Vec<(UseId, Vec<u64>)>,
    lap: Class,
    /// The rows and the experts that the lap uses.
    tokens: Vec<i32>,
    experts: Vec<i32>,
    rng: Rng,
    bytes: Vec<u8>,
    memory: Option<Arc<Memory>>,
    /// Number of compared bytes.
    pub checked: u64,
    /// The medium's clock, once it is known.
    pub clock: VirtualClock,
    /// Compute of a node, in nanoseconds of virtual time.
    pub node_ns: u64,
    weather: Arc<Weather>,
    shape: ContextShape,
}

impl CheckBackend {
    fn graph(&self) -> Rc<Graph> {
        self.graphs[self.lap as usize].clone()
    }

    /// Computes these nodes: checks all their weights.
    fn compute(&mut self, graph: &Graph, nodes: std::ops::Range<u32>) {
        self.clock
            .advance_ns(self.node_ns * u64::from(nodes.end - nodes.start));
        for node in nodes {
            for (used, u) in uses_of(graph, node) {
                if let Some(framed) = self.framed.iter().find(|(of, _)| *of == used) {
                    let places = framed.1.clone();
                    self.compare_framed(u, &places);
                    continue;
                }
                let settled = self.settled[u.weight.0 as usize];
                let at = match self.bound[used.0 as usize] {
                    Some(Binding::At(at)) => at,
                    Some(Binding::Settled) | None => {
                        settled.unwrap_or_else(|| panic!("{u:?} is nowhere"))
                    }
                    other => panic!("{u:?} is bound to {other:?} and computed"),
                };
                self.compare(u, at);
            }
        }
    }

    fn compare(&mut self, u: &WeightUse, at: u64) {
        let model = self.model.clone();
        let items: &[i32] = match u.how {
            How::Indexed { experts: false, .. } => &self.tokens,
            How::Indexed { experts: true, .. } => &self.experts,
            How::Whole | How::Small => &[0],
        };
        let memory = self.memory.as_ref().expect("set before a lap");
        for &item in items {
            let expected = model.part(u, item as u64);
            self.bytes.resize(expected.len(), 0);
            let at = at + item as u64 * expected.len() as u64;
            memory.copy_out(at, &mut self.bytes);
            assert!(
                self.bytes == expected,
                "wrong bytes for item {item} of {u:?}"
            );
            self.checked += expected.len() as u64;
        }
    }

    fn compare_framed(&mut self, u: &WeightUse, places: &[u64]) {
        let model = self.model.clone();
        let memory = self.memory.as_ref().expect("set before a lap");
        assert_eq!(places.len(), self.experts.len());
        for (&item, &at) in self.experts.iter().zip(places) {
            let expected = model.part(u, item as u64);
            self.bytes.resize(expected.len(), 0);
            memory.copy_out(at, &mut self.bytes);
            assert!(
                self.bytes == expected,
                "wrong bytes for expert {item} of {u:?} in its frame"
            );
            self.checked += expected.len() as u64;
        }
    }

    /// After a lap has failed: checks that the node reads nothing in the window.
    fn check_starved(&self, graph: &Graph, node: u32) {
        for (used, u) in uses_of(graph, node) {
            let bound = self.bound[used.0 as usize];
            let starved = match bound {
                Some(Binding::Zeros) => true,
                Some(Binding::Settled) | None => self.settled[u.weight.0 as usize].is_some(),
                Some(Binding::At(_) | Binding::Vacant) => false,
            };
            assert!(starved, "{u:?} of a failed lap is bound to {bound:?}");
        }
    }

    fn feed(&mut self, feed: &mut dyn Feed) -> Result<(), Error> {
        let graph = self.graph();
        let mut first = 0;
        for (node, &op) in (0..).zip(&graph.ops) {
            self.weather.enter(Phase::Items);
            let flow = feed.before(node, op, self);
            if flow == Flow::Go {
                continue;
            }
            let stopped = flow == Flow::Stop || {
                self.compute(&graph, first..node + 1);
                first = node + 1;
                let last = first == graph.nodes;
                self.weather
                    .enter(if last { Phase::End } else { Phase::Between });
                feed.after(self) == Flow::Stop
            };
            if stopped {
                if flow == Flow::Stop {
                    self.check_starved(&graph, node);
                }
                return Err(Error::Llama {
                    what: "decode",
                    message: "it was aborted".into(),
                });
            }
        }
        assert_eq!(first, graph.nodes, "the last run ends with the graph");
        Ok(())
    }
}

impl Bind for CheckBackend {
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        let graph = self.graph();
        match graph.uses[used.0 as usize].how {
            How::Indexed { experts: false, .. } => out.clone_from(&self.tokens),
            How::Indexed { experts: true, .. } => out.clone_from(&self.experts),
            other => panic!("indices of {other:?}"),
        }
        Ok(())
    }

    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        self.framed.retain(|(of, _)| *of != used);
        self.bound[used.0 as usize] = (binding != Binding::Vacant).then_some(binding);
        Ok(())
    }

    fn set_ids(&mut self, used: UseId, _: &[i32]) -> Result<(), Error> {
        panic!("the indices of {used:?} are set, and nobody asked for it")
    }

    /// Guesses right and wrong experts, some twice, and now and then one that does not exist.
    fn guess(&mut self, later: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        let how = self.graph().uses[later.0 as usize].how;
        assert!(matches!(how, How::Indexed { experts: true, .. }));
        out.clear();
        for at in 0..self.experts.len() {
            out.push(match self.rng.below(4) {
                0 => self.rng.below(EXPERTS + 1) as i32,
                _ => self.experts[at],
            });
        }
        Ok(())
    }

    fn bind_frames(&mut self, used: UseId, frames: FrameBinding<'_>) -> Result<(), Error> {
        let place = |&frame: &i32| {
            assert!((0..frames.frames as i32).contains(&frame));
            frames.at + frame as u64 * frames.stride
        };
        let places = frames.ids.iter().map(place).collect();
        self.framed.push((used, places));
        Ok(())
    }
}

impl Backend for CheckBackend {
    type Work<'a> = &'a [Piece<'a>];

    fn rows(work: &[Piece<'_>]) -> usize {
        LlamaBackend::rows(work)
    }

    fn has_output(work: &[Piece<'_>]) -> bool {
        LlamaBackend::has_output(work)
    }

    fn blank() -> &'static [Piece<'static>] {
        LlamaBackend::blank()
    }

    fn shape(&self) -> ContextShape {
        self.shape
    }

    fn kv_bytes(&self) -> u64 {
        u64::from(self.shape.ctx) * 1024
    }

    fn buffer_bytes(&self) -> u64 {
        u64::from(self.shape.ubatch) * 4096
    }

    fn learn(&mut self, class: Class, _: &Names) -> Result<Graph, Error> {
        let rows = match class {
            Class::Single => 1,
            Class::Many | Class::Quiet => self.shape.ubatch.into(),
        };
        let graph = self.model.graph(class, rows);
        self.graphs[class as usize] = Rc::new(graph.clone());
        Ok(graph)
    }

    fn use_memory(&mut self, memory: Arc<Memory>) {
        self.memory = Some(memory);
    }

    fn settle(&mut self, class: Class, used: UseId, at: u64) {
        let graph = &self.graphs[class as usize];
        self.settled[graph.uses[used.0 as usize].weight.0 as usize] = Some(at);
    }

    fn run(&mut self, work: &[Piece<'_>], feed: Option<&mut dyn Feed>) -> Result<(), Error> {
        self.lap = Class::of(Self::rows(work), Self::has_output(work));
        self.tokens.clear();
        self.tokens
            .extend(work.iter().flat_map(|piece| piece.tokens));
        let wanted = self.tokens.len() as u64 * EXPERTS_USED;
        self.experts.clear();
        for _ in 0..wanted {
            self.experts.push(self.rng.below(EXPERTS) as i32);
        }
        let given_up = self.bound.iter().all(Option::is_none) && self.framed.is_empty();
        assert!(given_up, "a lap gives up all that it was bound to");
        self.bound = vec![None; self.graph().uses.len()];
        let feed = feed.expect("a simulated model is always fed");
        let fed = self.feed(feed);
        self.weather.enter(Phase::End);
        fed?;
        self.decoder.decode(work, None)
    }

    fn undo(&mut self, work: &[Piece<'_>]) {
        for piece in work {
            self.decoder.keep(piece.seq, piece.pos);
        }
    }

    fn clear(&mut self) {
        self.decoder.clear();
    }

    fn use_threads(&mut self, _: u32) -> Result<(), Error> {
        Ok(())
    }
}

impl TokenBackend for CheckBackend {
    type Language = SimulatedLanguage;

    fn language(&self) -> SimulatedLanguage {
        SimulatedLanguage
    }

    fn logits(&self, row: usize) -> Option<&[f32]> {
        self.decoder.logits(row)
    }

    fn equal_pieces(&self) -> bool {
        self.decoder.equal_pieces()
    }

    fn keep(&mut self, slot: u32, tokens: u32) -> u32 {
        self.decoder.keep(slot, tokens)
    }

    fn shareable(&self, slot: u32, tokens: u32) -> u32 {
        self.decoder.shareable(slot, tokens)
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> u32 {
        self.decoder.share(from, to, tokens)
    }

    fn remember(&mut self, slot: u32, at_prompt: bool) {
        self.decoder.remember(slot, at_prompt);
    }
}
