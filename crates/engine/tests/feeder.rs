//! A backend that computes nothing is fed through media that fail: whenever it would
//! compute, every byte that it would read is compared with the file.
#![forbid(unsafe_code)]

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use delayline_engine::{
    Atlas, Bind, Binding, Error, Feed, Feeder, Flow, FrameBinding, Graph, How, Items, Itinerary,
    ModelFile, Supplies, TensorId, UseId, WeightId, WeightUse,
};
use delayline_line::{Clock, Config, Line, LineSetup, Medium};
use delayline_medium::{Checked, Dram, Faults, Faulty, MadeMedium, Memory, RealClock, Rng};
use delayline_plan as plan;
use delayline_synth::Quant;

const LAPS: u32 = 300;

/// Experts, or rows of a table, that a node uses.
const USED: usize = 2;

/// A graph that uses each weight once, in the file's order: rows of the first table,
/// experts, matrices.
fn graph(file: &ModelFile) -> Graph {
    let mut graph = Graph::default();
    for (weight, at) in file.weights().iter().zip(0..) {
        let indexed = |experts| How::Indexed {
            ids: USED as u64,
            // Two neighbours share their indices.
            ids_tensor: TensorId(1000 + at / 2),
            experts,
        };
        let how = match weight.dims.len() {
            3 => indexed(true),
            2 if weight.name == "token_embd.weight" => indexed(false),
            2 => How::Whole,
            _ => How::Small,
        };
        graph.ops.push(at % 7);
        graph.uses.push(WeightUse {
            node: at,
            tensor: TensorId(at),
            view: false,
            weight: WeightId(at),
            how,
        });
        graph.nodes += 1;
    }
    graph
}

/// A backend that compares instead of computing.
struct Checker<'a> {
    file: &'a ModelFile,
    bytes: &'a [u8],
    graph: &'a Graph,
    memory: Arc<Memory>,
    ids: Vec<i32>,
    /// Uses that are bound to bytes, and where.
    bound: Vec<(UseId, u64)>,
    checked: u64,
}

impl Checker<'_> {
    /// Compares everything that is bound with the file.
    fn compute(&mut self) {
        for &(used, at) in &self.bound {
            let used = &self.graph.uses[used.0 as usize];
            let weight = self.file.weight(used.weight);
            let (unit, items) = match used.how {
                How::Indexed { .. } => {
                    let count = weight.dims.last().expect("a table has rows");
                    (weight.len / count, self.ids.as_slice())
                }
                _ => (weight.len, [0].as_slice()),
            };
            for &item in items {
                let from = item as u64 * unit;
                let mut got = vec![0; unit as usize];
                self.memory.copy_out(at + from, &mut got);
                let there = (weight.offset + from) as usize;
                let expected = &self.bytes[there..there + unit as usize];
                assert!(got == expected, "{}: item {item} is wrong", weight.name);
                self.checked += unit;
            }
        }
    }

    /// Runs a lap: announces every node, and computes when it is told to.
    fn run(&mut self, feeder: &mut Feeder) -> Result<(), Error> {
        for (node, &op) in (0..).zip(&self.graph.ops) {
            match feeder.before(node, op, self) {
                Flow::Go => continue,
                Flow::Stop => break,
                Flow::Pause => self.compute(),
            }
            if feeder.after(self) == Flow::Stop {
                break;
            }
        }
        feeder.end(Ok(()), self)
    }
}

impl Bind for Checker<'_> {
    fn ids(&mut self, _: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        out.clone_from(&self.ids);
        Ok(())
    }

    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        self.bound.retain(|(other, _)| *other != used);
        if let Binding::At(at) = binding {
            self.bound.push((used, at));
        }
        Ok(())
    }

    fn set_ids(&mut self, used: UseId, _: &[i32]) -> Result<(), Error> {
        panic!("the indices of {used:?} are set, and nobody asked for it")
    }

    fn guess(&mut self, later: UseId, _: &mut Vec<i32>) -> Result<(), Error> {
        panic!("{later:?} is guessed, which has no frames")
    }

    fn bind_frames(&mut self, used: UseId, _: FrameBinding<'_>) -> Result<(), Error> {
        panic!("{used:?} is in frames that nobody asked for")
    }
}

/// A feeder for laps through one graph.
struct Fed {
    feeder: Feeder,
    memory: Arc<Memory>,
    itinerary: Rc<Itinerary>,
}

/// A feeder with `extra` bytes more than the least memory that works, over a medium whose
/// faults often outlast all retries.
fn fed(file: &ModelFile, graph: &Rc<Graph>, bytes: &[u8], extra: u64, seed: u64) -> Fed {
    let mut atlas = Atlas::new(file, std::slice::from_ref(graph)).expect("sound weights");
    let itinerary = Rc::new(atlas.lay_out(graph));
    let choose = |available| {
        let memory = plan::MemoryShare {
            available,
            lookahead: 64 << 10,
        };
        plan::choose(&itinerary.plan, &itinerary.schedule, memory)
    };
    let least = choose(0).expect_err("nothing is not enough").needed;
    let residency = choose(least + extra).expect("enough");
    assert!(residency.streamed_bytes > 0, "something streams");
    let placed = atlas.layout.place(file, &atlas.cut, &residency, Vec::new());
    atlas.residences.clone_from(&placed.residences);
    let (memory, region) = Memory::new(placed.len).expect("address space");
    let faults = Faults {
        delay_polls: 3,
        reorder: true,
        short: 0.1,
        transient: 0.15,
        in_a_row: 4,
        ..Faults::default()
    };
    let dram = Dram::new(vec![bytes.to_vec()], memory.clone(), 16);
    let medium: Box<dyn Medium> =
        Box::new(Faulty::new(dram, faults, seed).spoiling(memory.clone()));
    let setup = LineSetup {
        extents: atlas.cut.extents.clone(),
        part_lens: vec![bytes.len() as u64],
        homes: placed.residences.iter().map(|r| r.at()).collect(),
        config: Config {
            window: residency.window,
            read_len: 16 << 10,
            retries: 2,
        },
    };
    let medium: Box<dyn MadeMedium> = Box::new(medium);
    // Nothing is known of its bytes, so nothing is checked.
    let medium = Checked::new(medium, memory.clone(), None);
    let clock: Rc<dyn Clock> = Rc::new(RealClock::default());
    let line = Line::new(medium, clock, region, setup).expect("a line");
    let items = Items::new(placed.tables, extra / 4);
    Fed {
        feeder: Feeder::new(Supplies::new(line, memory.clone(), items, false)),
        memory,
        itinerary,
    }
}

fn check(path: &Path, extra: u64, rng: &mut Rng) {
    let file = ModelFile::open(path).expect("a sound model");
    let bytes = std::fs::read(path).expect("a file");
    let graph = Rc::new(graph(&file));
    let Fed {
        mut feeder,
        memory,
        itinerary,
    } = fed(&file, &graph, &bytes, extra, rng.next_u64());
    let mut checker = Checker {
        file: &file,
        bytes: &bytes,
        graph: &graph,
        memory,
        ids: vec![0; USED],
        bound: Vec::new(),
        checked: 0,
    };
    let (mut whole, mut failed) = (0, 0);
    for _ in 0..LAPS {
        checker.ids.fill_with(|| rng.below(4) as i32);
        let steps = itinerary.schedule.steps();
        let line = &mut feeder.source().line;
        line.enqueue(steps.iter().map(|step| step.extent));
        let begun = feeder.begin(graph.clone(), itinerary.clone());
        match begun.and_then(|()| checker.run(&mut feeder)) {
            Ok(()) => whole += 1,
            Err(Error::Line(_)) => failed += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(checker.bound, [], "everything is given back after a lap");
    }
    println!(
        "{}, {extra} bytes more: {whole} laps went well, {failed} failed",
        path.display()
    );
    assert!(
        whole > 0 && failed > 0,
        "{whole} laps went well, {failed} failed"
    );
    assert!(checker.checked > 0, "nothing was compared");
}

#[test]
fn a_backend_is_fed_the_files_bytes_whatever_fails() {
    let mut rng = Rng::new(delayline_testing::seed());
    let dir = tempfile::tempdir().expect("a folder");
    for shape in ["tiny-llama", "tiny-mixtral"] {
        let path = dir.path().join(format!("{shape}.gguf"));
        let spec = delayline_synth::shape(shape).expect("a known shape");
        delayline_synth::write(&spec, Quant::Q8_0, 1, &path, &mut |_, _| {}).expect("a model");
        for extra in [0, 16 << 10] {
            check(&path, extra, &mut rng);
        }
    }
}
