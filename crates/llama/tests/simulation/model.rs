//! A model of random bytes with small extents that are not adjacent, small weights,
//! experts, and a table that is used both as a matrix and by rows.

use std::path::Path;

use delayline_engine::{Class, Graph, How, TensorId, UseId, WeightId, WeightUse};
use delayline_gguf::{FileLayout, TensorSpec, TensorType, Value, write};
use delayline_medium::Rng;

pub const VOCAB: u64 = 48;
pub const EXPERTS: u64 = 8;
pub const EXPERTS_USED: u64 = 2;
const LAYERS: u64 = 4;
const MATRICES: u64 = 3;
const WIDTH: u64 = 128;

/// What a node does with a weight.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Rows,
    Small,
    Matrix,
    /// A matrix so large that it is a run of its own.
    Large,
    /// Experts of that layer: up and down projections use the same ones.
    Experts(u32),
}

pub struct Model {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// First byte and length of each weight, in the order of the file.
    pub weights: Vec<(u64, u64)>,
    /// By weight: length of a row or an expert, else of the whole weight, in bytes.
    pub units: Vec<u64>,
    /// The weight that each node of a lap uses, in order.
    nodes: Vec<Option<(WeightId, Kind)>>,
}

fn dims(kind: Kind) -> Vec<u64> {
    match kind {
        Kind::Rows => vec![WIDTH, VOCAB],
        Kind::Small => vec![WIDTH],
        Kind::Matrix => vec![WIDTH, 40],
        Kind::Large => vec![WIDTH, 1000],
        Kind::Experts(_) => vec![WIDTH, 6, EXPERTS],
    }
}

impl Model {
    /// Writes a model to `path`.
    pub fn write(path: &Path, rng: &mut Rng) -> Self {
        let mut used = vec![("token_embd.weight".to_owned(), Kind::Rows)];
        for layer in 0..LAYERS {
            for matrix in 0..MATRICES {
                used.push((format!("blk.{layer}.norm{matrix}.weight"), Kind::Small));
                used.push((format!("blk.{layer}.m{matrix}.weight"), Kind::Matrix));
            }
            if layer == 2 {
                used.push(("blk.2.large.weight".to_owned(), Kind::Large));
            }
            if layer % 2 == 1 {
                for side in ["up", "down"] {
                    let name = format!("blk.{layer}.{side}_exps.weight");
                    used.push((name, Kind::Experts(layer as u32)));
                }
            }
        }
        // Weights that are adjacent in the file are used far apart, so that each is an extent.
        let mut order: Vec<usize> = (0..used.len()).collect();
        order.sort_by_key(|at| (at % 5, *at));
        let tensors: Vec<TensorSpec> = order
            .iter()
            .map(|&at| TensorSpec {
                name: used[at].0.clone(),
                ty: TensorType::F32,
                dims: dims(used[at].1),
            })
            .collect();
        let number = |value: u64| Value::U32(value as u32);
        let metadata = [
            (
                "general.architecture".into(),
                Value::Str("simulated".into()),
            ),
            ("simulated.block_count".into(), number(LAYERS)),
            ("simulated.context_length".into(), number(256)),
            ("simulated.embedding_length".into(), number(WIDTH)),
            ("simulated.attention.head_count".into(), number(4)),
            ("simulated.expert_count".into(), number(EXPERTS)),
        ];
        let FileLayout {
            header,
            tensors,
            file_len,
        } = write(&metadata, &tensors).expect("a sound header");
        let mut bytes = header;
        while (bytes.len() as u64) < file_len {
            bytes.extend(rng.next_u64().to_le_bytes());
        }
        bytes.truncate(file_len as usize);
        std::fs::write(path, &bytes).expect("a file");
        let weights: Vec<(u64, u64)> = tensors.iter().map(|t| (t.at, t.len)).collect();
        let id_of = |name: &str| {
            let at = tensors.iter().position(|t| t.name == name);
            WeightId(at.expect("it was written") as u32)
        };
        let mut nodes = Vec::new();
        for (name, kind) in &used {
            nodes.push(Some((id_of(name), *kind)));
            // A node that reads no weight.
            nodes.push(None);
        }
        // The embedding is also the output head.
        nodes.push(Some((id_of("token_embd.weight"), Kind::Matrix)));
        nodes.push(None);
        let units = order
            .iter()
            .zip(&weights)
            .map(|(&at, &(_, len))| match used[at].1 {
                Kind::Rows => len / VOCAB,
                Kind::Experts(_) => len / EXPERTS,
                Kind::Small | Kind::Matrix | Kind::Large => len,
            });
        Self {
            units: units.collect(),
            bytes,
            weights,
            nodes,
        }
    }

    /// The graph of laps of so many rows. Without outputs it has no output head.
    pub fn graph(&self, class: Class, rows: u64) -> Graph {
        let nodes = match class {
            Class::Quiet => &self.nodes[..self.nodes.len() - 2],
            Class::Single | Class::Many => &self.nodes,
        };
        let mut graph = Graph::default();
        for (node, at) in nodes.iter().zip(0..) {
            graph.ops.push(at % 7 + 10 * class as u32);
            graph.nodes += 1;
            let Some((weight, kind)) = *node else {
                continue;
            };
            let how = match kind {
                Kind::Small => How::Small,
                Kind::Matrix | Kind::Large => How::Whole,
                Kind::Rows => How::Indexed {
                    ids: rows,
                    ids_tensor: TensorId(1000),
                    experts: false,
                },
                Kind::Experts(layer) => How::Indexed {
                    ids: rows * EXPERTS_USED,
                    ids_tensor: TensorId(1001 + layer),
                    experts: true,
                },
            };
            graph.uses.push(WeightUse {
                node: at,
                tensor: TensorId(weight.0),
                view: false,
                weight,
                how,
            });
        }
        graph
    }

    /// The file's bytes of an item of an indexed weight, or of a whole weight.
    pub fn part(&self, used: &WeightUse, item: u64) -> &[u8] {
        let (offset, len) = self.weights[used.weight.0 as usize];
        let (from, len) = match used.how {
            How::Indexed { .. } => {
                let unit = self.units[used.weight.0 as usize];
                (offset + item * unit, unit)
            }
            How::Whole | How::Small => (offset, len),
        };
        &self.bytes[from as usize..(from + len) as usize]
    }
}

/// The uses of a node, with their numbers.
pub fn uses_of(graph: &Graph, node: u32) -> impl Iterator<Item = (UseId, &WeightUse)> {
    let from = graph.uses.partition_point(|used| used.node < node);
    let until = graph.uses.partition_point(|used| used.node <= node);
    (from..until).map(|at| (UseId(at as u32), &graph.uses[at]))
}
