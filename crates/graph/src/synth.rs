//! Synthetic graphs for benchmarks: a degree-corrected block model (Karrer and Newman,
//! Phys. Rev. E 83, 016107, 2011) whose blocks are the labels. The ids are permuted, so
//! that a node's degree and class do not depend on its id, as in real graphs.

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

/// The file that marks a folder written by this module, and how it begins.
const MARK: &str = "graph.json";
const MARK_HEAD: &str = "{\"delayline_graph\":1";

/// Share of edges within a class, in 256ths. The others are drawn from all classes.
const WITHIN: u64 = 192;

/// The mean of a class in each column is plus or minus this; the noise goes from -1 to 1.
const SIGNAL: f32 = 0.06;

/// The sizes of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphShape {
    /// The name of the shape.
    pub name: &'static str,
    /// Number of nodes.
    pub nodes: u32,
    /// Number of edges.
    pub edges: u64,
    /// Number of features of a node; each is an f32.
    pub columns: u32,
    /// Number of classes, from 1 to the number of nodes.
    pub classes: u32,
}

impl GraphShape {
    /// The named shapes: one with the proportions of papers100M at a tenth of its size, one
    /// with those of IGB (a row is a page), and one for tests.
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

    /// The shape of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.name == name)
    }

    /// Bytes of all arrays, without their headers.
    pub fn bytes(&self) -> u64 {
        let nodes = u64::from(self.nodes);
        4 * nodes * u64::from(self.columns) + 4 * self.edges + 8 * (nodes + 1) + 8 * nodes
    }
}

/// Called with the number of bytes written so far; returns false to stop.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Writes a graph to the folder `out`, which appears only when it is complete. The bytes
/// depend only on `shape` and `seed`. With `force`, a graph that this function wrote is
/// replaced, but nothing else.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`], [`Error::Open`], [`Error::Interrupted`]. After an
/// error, nothing is left of the new graph.
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
        // The umask applies, as to other folders; the default is for the user only.
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
    // Something may have been written there meanwhile.
    check_free(out, force)?;
    let old = hidden().map_err(refused)?;
    if out.exists() {
        fs::rename(out, old.path().join("old")).map_err(refused)?;
    }
    if let Err(error) = fs::rename(dir.path(), out) {
        // The old graph gets its name back. If that fails too, it is kept beside it.
        let kept = old.path().join("old");
        if kept.exists() && fs::rename(&kept, out).is_err() {
            _ = old.keep();
        }
        return Err(refused(error));
    }
    // The folder was renamed, so there is nothing to remove.
    _ = dir.keep();
    Ok(())
}

/// Checks that `out` may be written: it does not exist, is an empty folder, or, with
/// `force`, is a folder with a graph of this module and nothing else.
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

/// Nodes that a thread draws together. The bytes depend on it.
const BLOCK: u32 = 1 << 14;

/// Maximum number of written blocks whose progress is not reported yet.
const FINISHED: usize = 64;

struct Writer<'a> {
    shape: &'a GraphShape,
    seed: u64,
    dir: &'a Path,
    progress: Progress<'a>,
    done: u64,
    model: Model,
}

/// The random numbers that all nodes share.
struct Model {
    shape: GraphShape,
    seed: u64,
    /// The place of each node, from which its class and its popularity follow.
    place_of: Vec<u32>,
    /// The node at each place.
    node_at: Vec<u32>,
    /// The first edge into each node, and at the end the number of edges.
    starts: Vec<u64>,
    /// The means of all columns of the first class, then of the second, and so on.
    means: Vec<f32>,
}

/// Appends the bytes of some nodes in a file.
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

    /// Writes a file, with one thread for each processor. `fill` makes the bytes of some
    /// nodes; `place_of` returns their offset behind the header.
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
                // The receiver is gone after an error.
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
        let means = (0..shape.columns as usize * shape.classes as usize)
            .map(|_| if rng.chance(0.5) { SIGNAL } else { -SIGNAL })
            .collect();
        Self {
            starts: starts(&shape, seed),
            shape,
            seed,
            place_of,
            node_at,
            means,
        }
    }

    /// The generator for a block of nodes in a file; `first` is the first node.
    fn rng(&self, file: u64, first: u32) -> Rng {
        Rng::new(Rng::new(self.seed ^ file).next_u64() ^ u64::from(first))
    }

    fn class_of(&self, node: u32) -> u32 {
        self.place_of[node as usize] % self.shape.classes
    }

    /// The mean of the node's class plus noise. The noise is so large that only the mean
    /// over a neighbourhood tells the class.
    fn features(&self, nodes: Range<u32>, out: &mut Vec<u8>) {
        let columns = self.shape.columns as usize;
        let mut rng = self.rng(0x0066_6561_7475_7265, nodes.start);
        for node in nodes {
            let class = self.class_of(node) as usize;
            for means in self.means[class * columns..][..columns].chunks(4) {
                let (drawn, mut row) = (rng.next_u64(), [0; 16]);
                for (index, (bytes, mean)) in row.chunks_mut(4).zip(means).enumerate() {
                    let noise = f32::from((drawn >> (16 * index)) as i16) / 32768.0;
                    bytes.copy_from_slice(&(mean + noise).to_le_bytes());
                }
                out.extend_from_slice(&row[..4 * means.len()]);
            }
        }
    }

    /// The last node is followed by the number of edges.
    fn starts(&self, nodes: Range<u32>, out: &mut Vec<u8>) {
        let ends_all = u32::from(nodes.end == self.shape.nodes);
        let starts = &self.starts[nodes.start as usize..(nodes.end + ends_all) as usize];
        out.extend(starts.iter().flat_map(|start| start.to_le_bytes()));
    }

    /// Most edges come from the target's class. Within a class, the probability of a source
    /// is proportional to its rank to the power -2/3, so that the degrees follow a power
    /// law with the exponent 2.5.
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

/// For each node the index of the first edge into it, and at the end the number of edges.
/// Most nodes have few edges.
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
