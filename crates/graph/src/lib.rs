//! Feature rows for graph neural networks, read from flash. Mini-batches are sampled
//! ahead, so the rows of the next ones are known: they are read in sweeps over the file,
//! each page once for many batches, and the rows that are used soonest stay in memory.
//! Knows neither Python nor PyTorch.
//!
//! ```
//! use delayline_graph::*;
//!
//! // Six rows of two numbers, in a raw file.
//! let dir = tempfile::tempdir().unwrap();
//! let path = dir.path().join("rows");
//! let bytes: Vec<u8> = (0..12).flat_map(|n| (n as f32).to_le_bytes()).collect();
//! std::fs::write(&path, &bytes).unwrap();
//! let shape = RowFormat { shape: Some((6, 2)), element: Some(ElementType::F32), offset: None };
//! let mut features = Features::new(FeatureFile::open(&path, &shape)?, 2 << 20)?;
//!
//! // A ring of six nodes. Each hop samples one neighbour of a node.
//! let (sources, targets) = ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]);
//! let graph = Topology::from_edges(6, &sources, &targets)?;
//! let sampler = NeighborSampler::new(&[1, 1], 7)?;
//! let batches: Vec<Subgraph> = [[0], [3]]
//!     .iter()
//!     .map(|seeds| sampler.sample(&graph, 0, seeds))
//!     .collect::<Result<_, _>>()?;
//! assert_eq!(batches[0].nodes, [0, 5, 4]);
//!
//! // Both batches are announced before the first is taken.
//! for batch in &batches {
//!     features.announce(batch.nodes.clone(), 0)?;
//! }
//! for batch in &batches {
//!     let mut rows = vec![0; batch.nodes.len() * 8];
//!     features.take(&mut rows)?;
//!     let first = batch.nodes[0] as usize * 8;
//!     assert_eq!(rows[..8], bytes[first..first + 8]);
//! }
//! assert_eq!(features.report().rows, 6);
//! # Ok::<(), Error>(())
//! ```

#![forbid(unsafe_code)]

mod bench;
mod budget;
mod element;
mod error;
mod features;
mod file;
mod folder;
mod gather;
mod npy;
mod repack;
mod report;
mod sampler;
mod synth;
mod topology;
mod trace;

pub use bench::{EpochFigures, GraphBench, GraphBenchReport, bench_graph};
pub use element::ElementType;
pub use error::Error;
pub use features::{Features, WrapFlash};
pub use file::{FeatureFile, RowFormat};
pub use folder::GraphFolder;
pub use npy::{NPY_HEADER_MAX, NPY_MAGIC, NpyHeader};
pub use repack::repack_features;
pub use report::GatherReport;
pub use sampler::{NeighborSampler, Subgraph};
pub use synth::{GraphShape, write_graph};
pub use topology::{InEdge, Topology};
pub use trace::{RowTrace, TraceShape};
