//! The replay of a trace misses what the loader misses: no less than the optimum, and less
//! than LRU.

use delayline_graph::{
    Error, GraphBench, GraphFolder, GraphShape, RowTrace, TraceShape, bench_graph, write_graph,
};
use delayline_plan::{ReadCost, RowPolicy, replay_rows};

const COST: ReadCost = ReadCost {
    read_s: 1e-5,
    bytes_per_s: 2e9,
};

const SHAPE: TraceShape = TraceShape {
    rows: 40_000,
    row_len: 512,
    batches: 60,
    draws: 1_000,
    skew: 0.7,
    seed: 3,
};

fn ahead(trace: &RowTrace, memory: u64) -> u64 {
    let mut missed = 0;
    let mut count = |rows: &[u32]| {
        assert!(rows.is_sorted_by(|a, b| a < b), "in order, each once");
        missed += rows.len() as u64;
    };
    trace.ahead(memory, &COST, &mut count).unwrap();
    missed
}

fn others(trace: &RowTrace, memory: u64, policy: RowPolicy) -> u64 {
    let kept = trace.rows_kept(memory).unwrap() as usize;
    let mut missed = 0;
    replay_rows(&trace.batches, trace.rows as usize, kept, policy, |_, _| {
        missed += 1
    });
    missed
}

#[test]
fn the_replay_misses_no_less_than_belady_and_less_than_recency() {
    let trace = RowTrace::drawn(&SHAPE).unwrap();
    let memory = 4 << 20;
    let ours = ahead(&trace, memory);
    assert!(ours >= others(&trace, memory, RowPolicy::Belady));
    assert!(ours < others(&trace, memory, RowPolicy::Lru));
    // If all rows fit, each is missed once.
    let memory = 64 << 20;
    assert_eq!(
        ahead(&trace, memory),
        others(&trace, memory, RowPolicy::Belady)
    );
}

#[test]
fn the_replay_misses_what_the_loader_misses() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("g");
    let shape = GraphShape {
        name: "small",
        nodes: 12_000,
        edges: 120_000,
        columns: 64,
        classes: 5,
    };
    write_graph(&shape, 1, &out, false, &mut |_| true).unwrap();
    let bench = GraphBench {
        memory: 2 << 20,
        fanouts: vec![5, 5],
        batch_size: 16,
        batches: 60,
        epochs: 1,
        seed: 1,
    };
    let open = || GraphFolder::open(&out).unwrap();
    let trace = RowTrace::sampled(&open(), &bench, &mut |_| true).unwrap();
    let measured = bench_graph(open(), &bench, None, &mut |_| true).unwrap();
    let real = measured.epochs[0].rows_missed as f64;
    let replayed = ahead(&trace, bench.memory) as f64;
    assert!(
        (0.85..1.15).contains(&(replayed / real)),
        "{replayed} for {real}"
    );
    let stopped = RowTrace::sampled(&open(), &bench, &mut |done| done < 3);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

#[test]
fn invalid_traces_are_refused_with_a_message() {
    for (rows, row_len) in [(0, 512), (u32::MAX, 512), (1, 0), (1, u64::MAX)] {
        let shape = TraceShape {
            rows,
            row_len,
            ..SHAPE
        };
        let refused = RowTrace::drawn(&shape).unwrap_err();
        assert!(refused.to_string().contains("expected 1 row"), "{refused}");
    }
    let long = RowTrace::drawn(&TraceShape {
        batches: u32::MAX,
        ..SHAPE
    })
    .unwrap_err();
    assert!(long.to_string().contains("fewer batches"), "{long}");
    let trace = RowTrace::drawn(&SHAPE).unwrap();
    assert!(matches!(trace.rows_kept(1000), Err(Error::Budget { .. })));
}
