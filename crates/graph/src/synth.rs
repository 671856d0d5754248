//! Graphs to measure with: a degree-corrected block model (Karrer and Newman, Phys.
//! Rev. E 83, 016107, 2011) whose blocks are the labels. Which node is popular, and
//! which class it has, has nothing to do with its number, as in real graphs.

use crate::Error;
use crate::folder::{FEATURES, LABELS, SOURCES, STARTS, folder_of};
use crate::npy::{NPY_HEADER, npy_header};
use delayline_medium::Rng;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// What tells a folder that was written here.
const MARK: &str = "graph.json";
const MARK_HEAD: &str = "{\"delayline_graph\":1";

/// Share of edges that stay in their class, in 256ths.
const WITHIN: u64 = 192;

/// How far classes lie apart in each column; the noise goes from -1 to 1.
const SIGNAL: f32 = 0.06;

/// Sizes of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphShape {
    /// What it is called.
    pub name: &'static str,
    /// How many nodes.
    pub nodes: u32,
    /// How many edges.
    pub edges: u64,
    /// Features of a node, each an f32.
    pub columns: u32,
    /// How many labels.
    pub classes: u32,
}

impl GraphShape {
    /// Those with a name: papers100M's proportions at a tenth of its size, IGB's (a row
    /// is a page), and one for tests.
    pub const ALL: [Self; 3] = [
        Self {
            name: "papers-mini",
            nodes: 11_100_000,
            edges: 162_000_000,
            columns: 128,
            classes: 172,
        },
        Self {
            name: "igb-mini",
            nodes: 2_700_000,
            edges: 32_400_000,
            columns: 1024,
            classes: 19,
        },
        Self {
            name: "tiny",
            nodes: 20_000,
            edges: 240_000,
            columns: 96,
            classes: 8,
        },
    ];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.name == name)
    }

    /// Bytes of all that is written but for headers.
    pub fn bytes(&self) -> u64 {
        let nodes = u64::from(self.nodes);
        4 * nodes * u64::from(self.columns) + 4 * self.edges + 8 * (nodes + 1) + 8 * nodes
    }
}

/// Told how many bytes are written; `false` stops.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Writes a graph into the folder `out`, which has its name only when all is there. The
/// bytes depend on `shape` and `seed` alone. With `force` an earlier graph that was
/// written here is replaced; nothing else ever is.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`], [`Error::Interrupted`]; nothing is left then.
pub fn write_graph(
    shape: &GraphShape,
    seed: u64,
    out: &Path,
    force: bool,
    progress: Progress<'_>,
) -> Result<(), Error> {
    check_free(out, force)?;
    let refused = |source| Error::Write {
        path: out.to_owned(),
        source,
    };
    let hidden = || {
        let mut builder = tempfile::Builder::new();
        // Readable by whom the user lets read, not by the user alone.
        let all = Permissions::from_mode(0o777);
        builder
            .prefix(".delayline-")
            .permissions(all)
            .tempdir_in(folder_of(out))
    };
    let dir = hidden().map_err(refused)?;
    let written = Writer::new(shape, seed, dir.path(), progress).write();
    written.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Error::Interrupted,
        _ => refused(error),
    })?;
    // Whatever has come there meanwhile counts.
    check_free(out, force)?;
    let old = hidden().map_err(refused)?;
    if out.exists() {
        fs::rename(out, old.path().join("old")).map_err(refused)?;
    }
    if let Err(error) = fs::rename(dir.path(), out) {
        // What was there goes back; where even that fails it stays beside.
        let kept = old.path().join("old");
        if kept.exists() && fs::rename(&kept, out).is_err() {
            _ = old.keep();
        }
        return Err(refused(error));
    }
    // It has another name now.
    _ = dir.keep();
    Ok(())
}

/// Whether `out` may be written: nothing or an empty folder is there, or by `force` a
/// folder that holds a graph written here and nothing else.
fn check_free(out: &Path, force: bool) -> Result<(), Error> {
    let exists = |why| Error::Exists {
        path: out.to_owned(),
        why,
    };
    let Ok(found) = fs::symlink_metadata(out) else {
        return Ok(());
    };
    let not_ours = " and is not a graph of `delayline graph synth`, so it is not replaced: choose \
                    another name";
    if !found.is_dir() {
        return Err(exists(not_ours));
    }
    let refused = |source| Error::Open {
        path: out.to_owned(),
        source,
    };
    let entries = fs::read_dir(out).map_err(refused)?;
    let names: Vec<_> = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()
        .map_err(refused)?;
    if names.is_empty() {
        return Ok(());
    }
    let ours = [FEATURES, STARTS, SOURCES, LABELS, MARK];
    let marked = fs::read(out.join(MARK)).is_ok_and(|mark| mark.starts_with(MARK_HEAD.as_bytes()));
    if !marked || !names.iter().all(|name| ours.iter().any(|own| name == own)) {
        return Err(exists(not_ours));
    }
    match force {
        true => Ok(()),
        false => Err(exists("; choose another name, or replace it with --force")),
    }
}

/// Nodes that are drawn together, by whichever thread is free. The bytes depend on it.
const BLOCK: u32 = 1 << 14;

/// Pieces that wait to be told of.
const FINISHED: usize = 64;

struct Writer<'a> {
    shape: &'a GraphShape,
    seed: u64,
    dir: &'a Path,
    progress: Progress<'a>,
    done: u64,
    model: Model,
}

/// What all nodes follow from.
struct Model {
    shape: GraphShape,
    seed: u64,
    /// The place of each node in the model, where class and popularity follow from it,
    /// and the node at each place.
    place_of: Vec<u32>,
    node_at: Vec<u32>,
    /// The first edge into each node, and their number.
    starts: Vec<u64>,
    /// The middle of each class.
    middles: Vec<f32>,
}

/// Appends what a file has of some nodes.
type Fill = fn(&Model, Range<u32>, &mut Vec<u8>);

impl<'a> Writer<'a> {
    fn new(shape: &'a GraphShape, seed: u64, dir: &'a Path, progress: Progress<'a>) -> Self {
        Self {
            shape,
            seed,
            dir,
            progress,
            done: 0,
            model: Model::new(*shape, seed),
        }
    }

    fn write(mut self) -> io::Result<()> {
        let GraphShape {
            name,
            nodes,
            edges,
            columns,
            classes,
        } = *self.shape;
        let rows = u64::from(nodes);
        let row_len = 4 * u64::from(columns);
        self.file(
            FEATURES,
            "<f4",
            &[rows, columns.into()],
            Model::features,
            |_, node| row_len * u64::from(node),
        )?;
        self.file(STARTS, "<i8", &[rows + 1], Model::starts, |_, node| {
            8 * u64::from(node)
        })?;
        self.file(SOURCES, "<i4", &[edges], Model::sources, |model, node| {
            4 * model.starts[node as usize]
        })?;
        self.file(LABELS, "<i8", &[rows], Model::labels, |_, node| {
            8 * u64::from(node)
        })?;
        let mark = format!(
            "{MARK_HEAD},\"shape\":\"{name}\",\"nodes\":{nodes},\"edges\":{edges},\
             \"columns\":{columns},\"classes\":{classes},\"seed\":{}}}\n",
            self.seed
        );
        fs::write(self.dir.join(MARK), mark)
    }

    /// Writes a file, of which `fill` says what it has of nodes, and `place_of` where that
    /// of a node begins: as many blocks at once as there are processors.
    fn file(
        &mut self,
        name: &str,
        descr: &str,
        shape: &[u64],
        fill: Fill,
        place_of: impl Fn(&Model, u32) -> u64 + Sync,
    ) -> io::Result<()> {
        let mut file = File::create_new(self.dir.join(name))?;
        file.write_all(&npy_header(descr, shape, NPY_HEADER))?;
        let (file, model, next) = (&file, &self.model, &AtomicU32::new(0));
        let write = &|out: &SyncSender<io::Result<u64>>| {
            let (nodes, mut bytes) = (model.shape.nodes, Vec::new());
            loop {
                let from = next.fetch_add(1, Ordering::Relaxed).saturating_mul(BLOCK);
                if from >= nodes {
                    return;
                }
                bytes.clear();
                fill(
                    model,
                    from..nodes.min(from.saturating_add(BLOCK)),
                    &mut bytes,
                );
                let at = NPY_HEADER as u64 + place_of(model, from);
                let written = file.write_all_at(&bytes, at).map(|()| bytes.len() as u64);
                // Whoever has stopped needs no more.
                if written.is_err() | out.send(written).is_err() {
                    return;
                }
            }
        };
        let (done, progress) = (&mut self.done, &mut *self.progress);
        thread::scope(|scope| {
            let (out, finished) = sync_channel(FINISHED);
            for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
                let out = out.clone();
                scope.spawn(move || write(&out));
            }
            drop(out);
            for bytes in finished {
                *done += bytes?;
                if !progress(*done) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            io::Result::Ok(())
        })?;
        file.sync_all()
    }
}

impl Model {
    fn new(shape: GraphShape, seed: u64) -> Self {
        let mut node_at: Vec<u32> = (0..shape.nodes).collect();
        let mut rng = Rng::new(seed);
        for last in (1..node_at.len()).rev() {
            node_at.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let mut place_of = vec![0; node_at.len()];
        for (place, &node) in (0..).zip(&node_at) {
            place_of[node as usize] = place;
        }
        let mut rng = Rng::new(seed ^ 0x0063_6c61_7373_6573);
        let middles = (0..shape.columns as usize * shape.classes as usize)
            .map(|_| if rng.chance(0.5) { SIGNAL } else { -SIGNAL })
            .collect();
        Self {
            starts: starts(&shape, seed),
            shape,
            seed,
            place_of,
            node_at,
            middles,
        }
    }

    /// Numbers for a file's part of the nodes from `first` on.
    fn rng(&self, file: u64, first: u32) -> Rng {
        Rng::new(Rng::new(self.seed ^ file).next_u64() ^ u64::from(first))
    }

    fn class_of(&self, node: u32) -> u32 {
        self.place_of[node as usize] % self.shape.classes
    }

    /// The middle of the node's class and noise, which hides it: what tells the class
    /// is the mean over a neighbourhood.
    fn features(&self, nodes: Range<u32>, out: &mut Vec<u8>) {
        let columns = self.shape.columns as usize;
        let mut rng = self.rng(0x0066_6561_7475_7265, nodes.start);
        for node in nodes {
            let class = self.class_of(node) as usize;
            for middles in self.middles[class * columns..][..columns].chunks(4) {
                let (drawn, mut row) = (rng.next_u64(), [0; 16]);
                for (index, (bytes, middle)) in row.chunks_mut(4).zip(middles).enumerate() {
                    let noise = f32::from((drawn >> (16 * index)) as i16) / 32768.0;
                    bytes.copy_from_slice(&(middle + noise).to_le_bytes());
                }
                out.extend_from_slice(&row[..4 * middles.len()]);
            }
        }
    }

    /// Behind the last node is the number of all edges.
    fn starts(&self, nodes: Range<u32>, out: &mut Vec<u8>) {
        let ends_all = u32::from(nodes.end == self.shape.nodes);
        let starts = &self.starts[nodes.start as usize..(nodes.end + ends_all) as usize];
        out.extend(starts.iter().flat_map(|start| start.to_le_bytes()));
    }

    /// Most edges come from the target's class; how often from a node falls with the
    /// power -2/3 of its rank, so that degrees have the exponent 2.5.
    fn sources(&self, targets: Range<u32>, out: &mut Vec<u8>) {
        const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
        let (nodes, classes) = (self.shape.nodes, self.shape.classes);
        let mut rng = self.rng(0x0065_6467_6573, targets.start);
        for node in targets {
            let own = self.class_of(node);
            for _ in self.starts[node as usize]..self.starts[node as usize + 1] {
                let class = match rng.below(256) < WITHIN {
                    true => own,
                    false => rng.below(classes.into()) as u32,
                };
                let members = (nodes - class).div_ceil(classes);
                let drawn = (rng.next_u64() >> 11) as f64 * UNIT;
                let rank = (f64::from(members) * drawn * drawn * drawn) as u32;
                let source = self.node_at[(rank.min(members - 1) * classes + class) as usize];
                out.extend_from_slice(&source.to_le_bytes());
            }
        }
    }

    fn labels(&self, nodes: Range<u32>, out: &mut Vec<u8>) {
        out.extend(nodes.flat_map(|node| u64::from(self.class_of(node)).to_le_bytes()));
    }
}

/// Edges into each node, few into most of them.
fn starts(shape: &GraphShape, seed: u64) -> Vec<u64> {
    let weights = || {
        let mut rng = Rng::new(seed ^ 0x0064_6567_7265_6573);
        let all = std::iter::repeat_with(move || 64 + (rng.below(1024).pow(3) >> 20));
        all.take(shape.nodes as usize)
    };
    let sum: u64 = weights().sum();
    let mut so_far = 0;
    let start =
        |so_far: u64| (u128::from(shape.edges) * u128::from(so_far) / u128::from(sum)) as u64;
    let ends = weights().map(|weight| {
        so_far += weight;
        start(so_far)
    });
    std::iter::once(0).chain(ends).collect()
}
