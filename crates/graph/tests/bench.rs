//! The measurement of the loader, on a small graph: its figures agree with each other.

use delayline_graph::{Error, GraphBench, GraphFolder, GraphShape, bench_graph, write_graph};

const SHAPE: GraphShape = GraphShape {
    name: "small",
    nodes: 6_000,
    edges: 60_000,
    columns: 64,
    classes: 5,
};

fn bench(memory: u64) -> GraphBench {
    GraphBench {
        memory,
        fanouts: vec![5, 5],
        batch_size: 16,
        batches: 30,
        epochs: 2,
        seed: 1,
    }
}

#[test]
fn policies_are_ordered_and_rows_do_not_depend_on_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("g");
    write_graph(&SHAPE, 1, &out, false, &mut |_| true).unwrap();
    let run = |memory| {
        let graph = GraphFolder::open(&out).unwrap();
        bench_graph(graph, &bench(memory), None, &mut |_| true).unwrap()
    };
    let (small, large) = (run(1_500_000), run(8 << 20));
    assert_eq!(small.digest, large.digest);
    assert!(small.rows_kept < 3_000, "{small:?}");
    assert_eq!(large.rows_kept, 6_000);
    for report in [&small, &large] {
        assert_eq!(report.epochs.len(), 2);
        for epoch in &report.epochs {
            assert!(epoch.rows_missed <= epoch.rows && epoch.reads <= epoch.rows_missed);
            assert!(epoch.belady_missed <= epoch.sieve_missed.min(epoch.lru_missed));
        }
        let sum = |figure: fn(&delayline_graph::EpochFigures) -> u64| {
            report.epochs.iter().map(figure).sum::<u64>()
        };
        assert!(
            sum(|e| e.belady_missed) <= sum(|e| e.rows_missed),
            "{report:?}"
        );
    }
    // If all rows fit, every policy misses each row once.
    let missed = large.epochs.iter().map(|e| e.rows_missed).sum::<u64>();
    assert_eq!(
        missed,
        large.epochs.iter().map(|e| e.lru_missed).sum::<u64>()
    );
}

#[test]
fn more_seeds_than_nodes_and_a_stop_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("g");
    write_graph(&SHAPE, 1, &out, false, &mut |_| true).unwrap();
    let graph = || GraphFolder::open(&out).unwrap();
    let many = GraphBench {
        batches: 1_000,
        ..bench(8 << 20)
    };
    let refused = bench_graph(graph(), &many, None, &mut |_| true).unwrap_err();
    assert!(
        refused.to_string().contains("expected 1 to 6000 seeds"),
        "{refused}"
    );
    let stopped = bench_graph(graph(), &bench(8 << 20), None, &mut |done| done < 3);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
}
