//! The neighbour sampler for Python, with its graph.

use crate::buffers::{ids, of_ids};
use crate::errors::exception;
use delayline_graph::{NeighborSampler, Topology};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

/// A sampler of a graph, for `delayline.pyg.Sampler`.
#[pyclass(module = "delayline._native", frozen)]
pub(crate) struct NativeSampler {
    graph: Topology,
    sampler: NeighborSampler,
}

/// The nodes, rows, columns and edges as 64-bit integers in byte arrays, the number of nodes
/// of each hop, and the number of edges of each hop.
type Sampled<'py> = (
    Bound<'py, PyByteArray>,
    Bound<'py, PyByteArray>,
    Bound<'py, PyByteArray>,
    Bound<'py, PyByteArray>,
    Vec<usize>,
    Vec<usize>,
);

#[pymethods]
impl NativeSampler {
    /// A sampler of a graph with `nodes` nodes and edges from `sources` to `targets`.
    #[new]
    fn new(
        py: Python<'_>,
        nodes: u64,
        sources: &Bound<'_, PyAny>,
        targets: &Bound<'_, PyAny>,
        num_neighbors: Vec<i64>,
        seed: u64,
    ) -> PyResult<Self> {
        let sampler = NeighborSampler::new(&num_neighbors, seed).map_err(exception)?;
        let (sources, targets) = (ids(sources)?.to_vec(py)?, ids(targets)?.to_vec(py)?);
        let graph = py.detach(|| Topology::from_edges(nodes, &sources, &targets));
        let graph = graph.map_err(exception)?;
        Ok(Self { graph, sampler })
    }

    /// Samples the batch of these seed nodes.
    fn sample<'py>(
        &self,
        py: Python<'py>,
        epoch: u64,
        seeds: &Bound<'_, PyAny>,
    ) -> PyResult<Sampled<'py>> {
        let seeds = ids(seeds)?.to_vec(py)?;
        let sampled = py.detach(|| self.sampler.sample(&self.graph, epoch, &seeds));
        let sampled = sampled.map_err(exception)?;
        Ok((
            of_ids(py, &sampled.nodes)?,
            of_ids(py, &sampled.rows)?,
            of_ids(py, &sampled.columns)?,
            of_ids(py, &sampled.edges)?,
            sampled.nodes_of_hop,
            sampled.edges_of_hop,
        ))
    }

    /// How often each node is expected to be used in an epoch with these seed nodes, as the
    /// bytes of 32-bit floats. Seeds that are not in the graph are ignored.
    fn expected_uses<'py>(
        &self,
        py: Python<'py>,
        seeds: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let seeds = ids(seeds)?.to_vec(py)?;
        let nodes = self.graph.nodes();
        let known = seeds
            .into_iter()
            .filter_map(|seed| u32::try_from(seed).ok());
        let known = known.filter(move |seed| *seed < nodes);
        let figures = py.detach(|| self.sampler.expected_uses(&self.graph, known));
        let bytes: Vec<u8> = figures
            .iter()
            .flat_map(|figure| figure.to_le_bytes())
            .collect();
        Ok(PyBytes::new(py, &bytes))
    }

    /// Bytes of memory that the graph takes.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.graph.bytes()
    }
}
