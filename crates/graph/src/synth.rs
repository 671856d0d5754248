//! Graphs to measure with: a degree-corrected block model (Karrer and Newman, Phys.
//! Rev. E 83, 016107, 2011) whose blocks are the labels. Which node is popular, and
//! which class it has, has nothing to do with its number, as in real graphs.

use crate::Error;
use crate::folder::{FEATURES, LABELS, SOURCES, STARTS};
use crate::npy::npy_header;
use delayline_medium::Rng;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
    let beside = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let hidden = || {
        let mut builder = tempfile::Builder::new();
        // Readable by whom the user lets read, not by the user alone.
        let all = Permissions::from_mode(0o777);
        builder
            .prefix(".delayline-")
            .permissions(all)
            .tempdir_in(beside)
    };
    let dir = hidden().map_err(refused)?;
    let written = Writer::new(shape, seed, dir.path(), progress).and_then(Writer::write);
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

struct Writer<'a> {
    shape: &'a GraphShape,
    seed: u64,
    dir: &'a Path,
    progress: Progress<'a>,
    done: u64,
    /// The place of each node in the model, where class and popularity follow from it,
    /// and the node at each place.
    place_of: Vec<u32>,
    node_at: Vec<u32>,
}

impl<'a> Writer<'a> {
    fn new(
        shape: &'a GraphShape,
        seed: u64,
        dir: &'a Path,
        progress: Progress<'a>,
    ) -> io::Result<Self> {
        let mut node_at: Vec<u32> = (0..shape.nodes).collect();
        let mut rng = Rng::new(seed);
        for last in (1..node_at.len()).rev() {
            node_at.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let mut place_of = vec![0; node_at.len()];
        for (place, &node) in (0..).zip(&node_at) {
            place_of[node as usize] = place;
        }
        Ok(Self {
            shape,
            seed,
            dir,
            progress,
            done: 0,
            place_of,
            node_at,
        })
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
        self.file(FEATURES, "<f4", &[rows, columns.into()], Self::features)?;
        self.file(STARTS, "<i8", &[rows + 1], Self::starts)?;
        self.file(SOURCES, "<i4", &[edges], Self::sources)?;
        self.file(LABELS, "<i8", &[rows], Self::labels)?;
        let mark = format!(
            "{MARK_HEAD},\"shape\":\"{name}\",\"nodes\":{nodes},\"edges\":{edges},\
             \"columns\":{columns},\"classes\":{classes},\"seed\":{}}}\n",
            self.seed
        );
        fs::write(self.dir.join(MARK), mark)
    }

    fn file(
        &mut self,
        name: &str,
        descr: &str,
        shape: &[u64],
        fill: fn(&mut Self, &mut Out) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(self.dir.join(name))?);
        out.write_all(&npy_header(descr, shape))?;
        fill(self, &mut out)?;
        out.into_inner()?.sync_all()
    }

    /// Says how far it is, now and then.
    fn advance(&mut self, bytes: u64) -> io::Result<()> {
        let before = self.done;
        self.done += bytes;
        if before >> 22 != self.done >> 22 && !(self.progress)(self.done) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn class_of(&self, node: u32) -> u32 {
        self.place_of[node as usize] % self.shape.classes
    }

    /// The middle of the node's class and noise, which hides it: what tells the class
    /// is the mean over a neighbourhood.
    fn features(&mut self, out: &mut Out) -> io::Result<()> {
        let (columns, classes) = (self.shape.columns as usize, self.shape.classes as usize);
        let mut rng = Rng::new(self.seed ^ 0x0063_6c61_7373_6573);
        let middles: Vec<f32> = (0..columns * classes)
            .map(|_| if rng.chance(0.5) { SIGNAL } else { -SIGNAL })
            .collect();
        let mut row = vec![0; 4 * columns];
        for node in 0..self.shape.nodes {
            let class = self.class_of(node) as usize;
            let middle = &middles[class * columns..][..columns];
            for (bytes, middles) in row.chunks_mut(16).zip(middle.chunks(4)) {
                let drawn = rng.next_u64();
                for (index, (bytes, middle)) in bytes.chunks_mut(4).zip(middles).enumerate() {
                    let noise = f32::from((drawn >> (16 * index)) as i16) / 32768.0;
                    bytes.copy_from_slice(&(middle + noise).to_le_bytes());
                }
            }
            out.write_all(&row)?;
            self.advance(row.len() as u64)?;
        }
        Ok(())
    }

    /// Edges into each node, few into most of them.
    fn starts(&mut self, out: &mut Out) -> io::Result<()> {
        let weights = || {
            let mut rng = Rng::new(self.seed ^ 0x0064_6567_7265_6573);
            std::iter::repeat_with(move || 64 + (rng.below(1024).pow(3) >> 20))
        };
        let nodes = self.shape.nodes as usize;
        let sum: u64 = weights().take(nodes).sum();
        let (mut so_far, mut each) = (0, weights());
        for node in 0..=nodes {
            let start = u128::from(self.shape.edges) * u128::from(so_far) / u128::from(sum);
            out.write_all(&(start as u64).to_le_bytes())?;
            if node < nodes {
                so_far += each.next().expect("endless");
            }
        }
        self.advance(8 * (nodes as u64 + 1))
    }

    /// Most edges come from the target's class; how often from a node falls with the
    /// power -2/3 of its rank, so that degrees have the exponent 2.5.
    fn sources(&mut self, out: &mut Out) -> io::Result<()> {
        const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
        let (nodes, classes) = (self.shape.nodes, self.shape.classes);
        let starts = fs::read(self.dir.join(STARTS))?;
        let starts = starts[npy_header("<i8", &[u64::from(nodes) + 1]).len()..]
            .as_chunks()
            .0;
        let mut rng = Rng::new(self.seed ^ 0x0065_6467_6573);
        for node in 0..nodes {
            let own = self.class_of(node);
            let [start, end] = [0, 1].map(|next| u64::from_le_bytes(starts[node as usize + next]));
            for _ in start..end {
                let class = match rng.below(256) < WITHIN {
                    true => own,
                    false => rng.below(classes.into()) as u32,
                };
                let members = (nodes - class).div_ceil(classes);
                let drawn = (rng.next_u64() >> 11) as f64 * UNIT;
                let rank = (f64::from(members) * drawn * drawn * drawn) as u32;
                let source = self.node_at[(rank.min(members - 1) * classes + class) as usize];
                out.write_all(&source.to_le_bytes())?;
            }
            self.advance(4 * (end - start))?;
        }
        Ok(())
    }

    fn labels(&mut self, out: &mut Out) -> io::Result<()> {
        for node in 0..self.shape.nodes {
            out.write_all(&u64::from(self.class_of(node)).to_le_bytes())?;
        }
        self.advance(8 * u64::from(self.shape.nodes))
    }
}

type Out = BufWriter<File>;
