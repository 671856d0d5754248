//! The options of `delayline graph`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use delayline_graph::{ElementType, GraphBench, GraphShape};

use crate::size::parse_size;

/// What to do with graphs.
#[derive(Debug, Subcommand)]
pub enum GraphCommand {
    Synth(GraphSynthArgs),
    Bench(GraphBenchArgs),
    Repack(GraphRepackArgs),
}

/// Write a synthetic graph: features, edges and labels, as .npy files.
///
/// Labels are blocks of a degree-corrected block model, so that a network that sees the
/// edges can learn them; ids are permuted, so that neighbours do not lie side by side.
#[derive(Debug, Args)]
pub struct GraphSynthArgs {
    /// papers-mini: 11.1 M nodes, 162 M edges, 128 features of f32, 6.5 GB; igb-mini: 2.7 M nodes, 32 M edges, 1024 features, 11.2 GB; tiny: 20,000 nodes, for tests
    #[arg(value_name = "SHAPE", value_parser = PossibleValuesParser::new(GraphShape::ALL.map(|shape| shape.name)))]
    pub shape: String,
    /// The folder to write; it must not be there, or be empty
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Seed of the graph: the same seed gives the same graph
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Replace a graph that was written by this command
    #[arg(long)]
    pub force: bool,
}

/// Rewrite features with row 0 at the beginning of a page, so that fewer reads are needed.
///
/// The result is a .npy file like any other. After NumPy's own header every eighth row of
/// 512 bytes would lie in two pages.
#[derive(Debug, Args)]
pub struct GraphRepackArgs {
    /// A .npy file of two dimensions, or raw rows with --shape and --dtype
    #[arg(value_name = "FEATURES")]
    pub features: PathBuf,
    /// The .npy file to write
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Rows and columns of a raw file
    #[arg(long, value_name = "ROWS,COLUMNS", value_delimiter = ',', num_args = 1)]
    pub shape: Vec<u64>,
    /// Type of the elements of a raw file: float32, float64, float16, bfloat16, int8 or uint8
    #[arg(long, value_name = "TYPE", value_parser = ElementType::from_name)]
    pub dtype: Option<ElementType>,
    /// First byte of row 0 in a raw file
    #[arg(long, value_name = "N")]
    pub offset: Option<u64>,
    /// Replace a .npy file
    #[arg(long)]
    pub force: bool,
}

/// Measure the loader alone: mini-batches are sampled ahead and their rows gathered.
///
/// Nothing is computed, so this is the maximum rate for training. The missed rows are
/// compared with those of other policies on the same trace with as many rows in memory.
#[derive(Debug, Args)]
pub struct GraphBenchArgs {
    /// A folder of `delayline graph synth`, or any with node_feat.npy, indptr.npy (int64) and indices.npy (int32)
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Memory for features and batches ahead, such as 700MiB; the edges are not included
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: u64,
    #[command(flatten)]
    pub sampling: MiniBatchArgs,
    /// Epochs; the first begins with nothing in memory
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub epochs: u32,
}

/// How mini-batches are sampled from the graph in the folder DIR.
#[derive(Debug, Args)]
pub struct MiniBatchArgs {
    /// Neighbours to sample of each node in each hop, -1 for all
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "15,10,5",
        requires = "dir",
        allow_negative_numbers = true
    )]
    pub fanouts: Vec<i64>,
    /// Seed nodes of a batch
    #[arg(long, value_name = "N", default_value_t = 128, requires = "dir", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Batches of an epoch
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batches: u32,
    /// Seed of everything random: the same seed gives the same batches
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl MiniBatchArgs {
    /// The parameters for so many epochs, in `memory` bytes.
    pub fn bench(&self, epochs: u32, memory: u64) -> GraphBench {
        GraphBench {
            memory,
            fanouts: self.fanouts.clone(),
            batch_size: self.batch_size as usize,
            batches: self.batches as usize,
            epochs: epochs.into(),
            seed: self.seed,
        }
    }
}
