//! Neighbours are drawn from the edges of the graph, with equal probability, and draws
//! repeat.

use delayline_graph::{InEdge, NeighborSampler, Subgraph, Topology};
use delayline_medium::Rng;
use std::collections::{HashMap, HashSet};

struct Edges {
    nodes: u64,
    sources: Vec<i64>,
    targets: Vec<i64>,
}

fn random_edges(rng: &mut Rng) -> Edges {
    let nodes = rng.below(30) + 1;
    let len = rng.below(200);
    let mut id = || rng.below(nodes) as i64;
    let (sources, targets) = (0..len).map(|_| (id(), id())).unzip();
    Edges {
        nodes,
        sources,
        targets,
    }
}

fn fresh() -> Rng {
    Rng::new(delayline_testing::seed())
}

#[test]
fn a_topology_holds_each_edge_once_in_its_order() {
    let mut rng = fresh();
    for _ in 0..300 {
        let edges = random_edges(&mut rng);
        let graph = Topology::from_edges(edges.nodes, &edges.sources, &edges.targets).unwrap();
        assert_eq!(graph.edges(), edges.sources.len() as u64);
        for node in 0..graph.nodes() {
            let into: Vec<InEdge> = (0..graph.degree(node))
                .map(|index| graph.edge_into(node, index))
                .collect();
            let expect: Vec<InEdge> = (0..)
                .zip(edges.sources.iter().zip(&edges.targets))
                .filter(|(_, (_, target))| **target == i64::from(node))
                .map(|(edge, (source, _))| InEdge {
                    source: *source as u32,
                    edge,
                })
                .collect();
            assert_eq!(into, expect);
        }
    }
}

#[test]
fn ids_out_of_range_are_refused_with_a_message() {
    for (sources, targets, expect) in [
        (
            vec![0, 3],
            vec![1, 1],
            "edge 1 names node 3, but the graph has 3 nodes",
        ),
        (vec![0, 1], vec![1, -1], "edge 1 names node -1"),
        (vec![0, 1], vec![1], "2 sources and 1 targets"),
    ] {
        let words = Topology::from_edges(3, &sources, &targets)
            .unwrap_err()
            .to_string();
        assert!(words.contains(expect), "{words}");
    }
    assert!(Topology::from_edges(1 << 32, &[], &[]).is_err());
    let graph = Topology::from_edges(3, &[0], &[1]).unwrap();
    let sampler = NeighborSampler::new(&[2], 0).unwrap();
    for seed in [-1, 3] {
        let words = sampler
            .sample(&graph, 0, &[0, seed])
            .unwrap_err()
            .to_string();
        assert!(words.contains(&format!(
            "node {seed} is asked for, but the graph has 3 nodes"
        )));
    }
    assert!(NeighborSampler::new(&[], 0).is_err());
    assert!(NeighborSampler::new(&[2, -2], 0).is_err());
}

/// Checks what holds for every sample.
fn check(graph: &Topology, fanouts: &[i64], seeds: &[i64], sampled: &Subgraph) {
    assert_eq!(
        sampled.nodes_of_hop.iter().sum::<usize>(),
        sampled.nodes.len()
    );
    assert_eq!(
        sampled.edges_of_hop.iter().sum::<usize>(),
        sampled.edges.len()
    );
    assert_eq!(sampled.nodes_of_hop[0], seeds.len());
    assert!(
        seeds
            .iter()
            .zip(&sampled.nodes)
            .all(|(seed, node)| *seed == i64::from(*node))
    );
    let others = &sampled.nodes[seeds.len()..];
    let distinct: HashSet<&u32> = others.iter().collect();
    assert_eq!(distinct.len(), others.len(), "a node is met once");
    let (mut from, mut at) = (0, 0);
    for (hop, fanout) in fanouts.iter().enumerate() {
        let to = from + sampled.nodes_of_hop[hop];
        let edges = at..at + sampled.edges_of_hop[hop];
        let mut of_column: HashMap<u32, Vec<u64>> = HashMap::new();
        for index in edges.clone() {
            let (row, column) = (sampled.rows[index] as usize, sampled.columns[index]);
            assert!(
                (from..to).contains(&(column as usize)),
                "the nodes that the last hop met"
            );
            let target = sampled.nodes[column as usize];
            let edge = InEdge {
                source: sampled.nodes[row],
                edge: sampled.edges[index],
            };
            assert!((0..graph.degree(target)).any(|i| graph.edge_into(target, i) == edge));
            of_column.entry(column).or_default().push(edge.edge);
        }
        for column in from..to {
            let taken = of_column.remove(&(column as u32)).unwrap_or_default();
            let degree = graph.degree(sampled.nodes[column]);
            let expect = if *fanout < 0 {
                degree
            } else {
                degree.min(*fanout as u64)
            };
            assert_eq!(
                taken.iter().collect::<HashSet<_>>().len() as u64,
                expect,
                "each once"
            );
            assert_eq!(taken.len() as u64, expect);
        }
        (from, at) = (to, edges.end);
    }
}

#[test]
fn samples_are_of_the_graph_and_repeat() {
    let mut rng = fresh();
    for _ in 0..300 {
        let edges = random_edges(&mut rng);
        let graph = Topology::from_edges(edges.nodes, &edges.sources, &edges.targets).unwrap();
        let hops = rng.below(3) + 1;
        let fanouts: Vec<i64> = (0..hops).map(|_| rng.below(6) as i64 - 1).collect();
        let seeds: Vec<i64> = (0..rng.below(6))
            .map(|_| rng.below(edges.nodes) as i64)
            .collect();
        let sampler = NeighborSampler::new(&fanouts, rng.next_u64()).unwrap();
        let sampled = sampler.sample(&graph, 3, &seeds).unwrap();
        check(&graph, &fanouts, &seeds, &sampled);
        let elsewhere = std::thread::scope(|scope| {
            // On another thread, with other draws in between.
            let thread = scope.spawn(|| {
                sampler.sample(&graph, 2, &seeds).unwrap();
                sampler.clone().sample(&graph.clone(), 3, &seeds).unwrap()
            });
            thread.join().unwrap()
        });
        assert_eq!(elsewhere, sampled);
    }
}

#[test]
fn draws_are_fair_and_differ_by_seed_epoch_and_batch() {
    // Node 0 has twenty neighbours, and so has node 21.
    let sources: Vec<i64> = (1..=20).chain(1..=20).collect();
    let targets: Vec<i64> = [0; 20].into_iter().chain([21; 20]).collect();
    let graph = Topology::from_edges(22, &sources, &targets).unwrap();
    let sampler = NeighborSampler::new(&[5], 1).unwrap();
    let drawn = |sampler: &NeighborSampler, epoch, seeds: &[i64]| -> Vec<u64> {
        let sampled = sampler.sample(&graph, epoch, seeds).unwrap();
        sampled.edges[..5].to_vec()
    };
    let mut count = [0u32; 20];
    const EPOCHS: u64 = 20_000;
    for epoch in 0..EPOCHS {
        drawn(&sampler, epoch, &[0])
            .iter()
            .for_each(|edge| count[*edge as usize] += 1);
    }
    // Each edge is expected in a quarter of the epochs; six standard deviations are 370.
    let expect = EPOCHS as f64 / 4.0;
    assert!(
        count.iter().all(|&n| (f64::from(n) - expect).abs() < 370.0),
        "{count:?}"
    );
    let other = NeighborSampler::new(&[5], 2).unwrap();
    let same = |pairs: [(Vec<u64>, Vec<u64>); 3]| pairs.iter().filter(|(a, b)| a == b).count();
    for epoch in 0..20 {
        let base = drawn(&sampler, epoch, &[0]);
        let equal = same([
            (base.clone(), drawn(&other, epoch, &[0])),
            (base.clone(), drawn(&sampler, epoch + 1000, &[0])),
            (base.clone(), drawn(&sampler, epoch, &[0, 21])),
        ]);
        assert!(equal < 3, "one of them may be drawn twice, not all");
    }
    // A large sample has no edge twice either.
    let wide: Vec<i64> = (1..500).collect();
    let graph = Topology::from_edges(500, &wide, &vec![0; 499]).unwrap();
    let sampler = NeighborSampler::new(&[300], 1).unwrap();
    let sampled = sampler.sample(&graph, 0, &[0]).unwrap();
    check(&graph, &[300], &[0], &sampled);
}

#[test]
fn expected_uses_are_what_samples_use() {
    let mut rng = fresh();
    let nodes = 40u64;
    let mut id = || rng.below(nodes * nodes).isqrt() as i64;
    let (sources, targets): (Vec<i64>, Vec<i64>) = (0..300).map(|_| (id(), id())).unzip();
    let graph = Topology::from_edges(nodes, &sources, &targets).unwrap();
    let sampler = NeighborSampler::new(&[3], 1).unwrap();
    let expected = sampler.expected_uses(&graph, 0..nodes as u32);
    let mut used = vec![0u32; nodes as usize];
    const EPOCHS: u64 = 3000;
    for epoch in 0..EPOCHS {
        for seed in 0..nodes as i64 {
            let sampled = sampler.sample(&graph, epoch, &[seed]).unwrap();
            used[seed as usize] += 1;
            // Edges are expected: several from one node count each.
            for row in sampled.rows {
                used[sampled.nodes[row as usize] as usize] += 1;
            }
        }
    }
    for (expected, used) in expected.iter().zip(&used) {
        let mean = *used as f32 / EPOCHS as f32;
        assert!(
            (mean - expected).abs() < 0.25 + expected * 0.05,
            "{mean} instead of {expected}"
        );
    }
}
