//! A graph in a folder: features, edges ordered by target, and labels, as .npy files that
//! NumPy can read too.

use crate::npy::{NPY_HEADER_MAX, npy_list};
use crate::{Error, FeatureFile, RowFormat, Topology};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Features: one row for each node.
pub(crate) const FEATURES: &str = "node_feat.npy";
/// For each node the index of the first edge into it, and at the end the number of edges;
/// int64.
pub(crate) const STARTS: &str = "indptr.npy";
/// The source of each edge; int32.
pub(crate) const SOURCES: &str = "indices.npy";
/// The class of each node; int64.
pub(crate) const LABELS: &str = "labels.npy";

/// A graph with features on flash and edges in memory.
#[derive(Debug)]
pub struct GraphFolder {
    /// The features.
    pub features: FeatureFile,
    /// The edges.
    pub topology: Topology,
}

impl GraphFolder {
    /// Opens the features and reads the edges of the graph in `dir`.
    ///
    /// # Errors
    /// As [`FeatureFile::open`], also for the edges; [`Error::Graph`] if the edges are not
    /// a graph with one node for each row of the features.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let features = FeatureFile::open(&dir.join(FEATURES), &RowFormat::default())?;
        let starts = read_list(&dir.join(STARTS), "<i8", u64::from_le_bytes)?;
        if starts.len() as u64 != features.rows + 1 {
            return Err(Error::Graph(format!(
                "{}: {} numbers, expected {}, one more than the features have rows; take both \
                 files from one graph",
                dir.join(STARTS).display(),
                starts.len(),
                features.rows + 1
            )));
        }
        let sources = read_list(&dir.join(SOURCES), "<i4", u32::from_le_bytes)?;
        Ok(Self {
            features,
            topology: Topology::from_columns(&starts, sources)?,
        })
    }
}

/// The numbers in a .npy file, of `N` bytes each.
fn read_list<T, const N: usize>(
    path: &Path,
    descr: &str,
    number: fn([u8; N]) -> T,
) -> Result<Vec<T>, Error> {
    let refused = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let format = |what| Error::Format {
        path: path.to_owned(),
        what,
    };
    let mut file = File::open(path).map_err(refused)?;
    let mut start = Vec::new();
    (&mut file)
        .take(NPY_HEADER_MAX as u64)
        .read_to_end(&mut start)
        .map_err(refused)?;
    let (len, data_at) = npy_list(&start, descr).map_err(format)?;
    // Checked before anything is allocated.
    let have = file.metadata().map_err(refused)?.len();
    let need = len
        .checked_mul(N as u64)
        .and_then(|n| n.checked_add(data_at));
    if need.is_none_or(|need| need > have) {
        return Err(format(format!(
            "{len} numbers of {N} bytes are announced, but the file has {have} bytes; it is cut short"
        )));
    }
    file.seek(SeekFrom::Start(data_at)).map_err(refused)?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut numbers = Vec::with_capacity(len as usize);
    let mut bytes = [0; N];
    for _ in 0..len {
        file.read_exact(&mut bytes).map_err(refused)?;
        numbers.push(number(bytes));
    }
    Ok(numbers)
}

/// The folder that contains `path`. Output is made there and renamed when it is complete.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
