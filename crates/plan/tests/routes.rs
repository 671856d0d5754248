//! Policies on recorded routes of mixtures of experts, where they are at hand: they
//! are no part of the repository.

use delayline_plan::{
    Belady, ExtentId, FirstCome, Frequency, Lru, NextUse, Policy, Trace, least_read_bytes, replay,
};
use std::path::Path;

/// The experts that each layer of each step used while generating, layer by layer.
struct Route {
    trace: Trace,
    /// Layer of each item.
    layer_of: Vec<u32>,
}

fn route(text: &str) -> Route {
    let rows = text.lines().filter(|line| !line.starts_with(['#', 't']));
    let fields = rows.map(|row| row.split(',').map(|f| f.parse::<f64>().unwrap()).collect());
    let rows: Vec<Vec<f64>> = fields.collect();
    let experts = 128;
    let layers = rows.iter().map(|row| row[3] as u32 + 1).max().unwrap();
    let mut lens = vec![0; (layers * experts) as usize];
    let mut batches: Vec<((u64, u32), Vec<ExtentId>)> = Vec::new();
    for row in &rows {
        let (phase, step, layer, expert) = (row[1], row[2] as u64, row[3] as u32, row[5] as u32);
        let item = ExtentId(layer * experts + expert);
        // Of an expert that was at hand, no bytes are recorded.
        let of_layer = &mut lens[(layer * experts) as usize..][..experts as usize];
        of_layer.fill(of_layer[0].max(row[8] as u64));
        if phase == 0.0 {
            continue;
        }
        match batches.last_mut() {
            Some((of, batch)) if *of == (step, layer) => batch.push(item),
            _ => batches.push(((step, layer), vec![item])),
        }
    }
    Route {
        trace: Trace {
            batches: batches.into_iter().map(|(_, batch)| batch).collect(),
            lens,
        },
        layer_of: (0..layers * experts).map(|i| i / experts).collect(),
    }
}

/// Hits and uses of the first `count` batches.
fn hits(route: &Route, capacity: u64, count: usize, policy: impl Policy) -> (u64, u64) {
    let trace = Trace {
        lens: route.trace.lens.clone(),
        batches: route.trace.batches[..count].to_vec(),
    };
    let done = replay(&trace, capacity, 0, policy);
    (done.hits, done.hits + done.misses)
}

/// Share of hits in the last three quarters, in a memory of this share of all
/// experts.
fn late_hits<P: Policy>(route: &Route, share: f64, policy: impl Fn() -> P) -> f64 {
    let all: u64 = route.trace.lens.iter().sum();
    let capacity = (all as f64 * share) as u64;
    let count = route.trace.batches.len();
    let (all_hits, all_uses) = hits(route, capacity, count, policy());
    let (hits, uses) = hits(route, capacity, count / 4, policy());
    (all_hits - hits) as f64 / (all_uses - uses) as f64
}

/// A model, and the least share of hits of [`NextUse`] with 3, 10 and 25 % of the
/// experts in memory.
const ROUTES: [(&str, [f64; 3]); 3] = [
    ("qwen", [0.28, 0.57, 0.85]),
    ("gemma", [0.29, 0.56, 0.81]),
    ("gptoss", [0.38, 0.66, 0.81]),
];

#[test]
fn recorded_routes_are_replayed_sensibly() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/expert-routes");
    for (name, expected) in ROUTES {
        let path = folder.join(format!("{name}.route.csv"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: {} is not there", path.display());
            continue;
        };
        let route = route(&text);
        for (share, least) in [0.03, 0.1, 0.25].into_iter().zip(expected) {
            let first = late_hits(&route, share, || FirstCome);
            let lru = late_hits(&route, share, Lru::default);
            let frequency = late_hits(&route, share, Frequency::default);
            let next = late_hits(&route, share, || {
                NextUse::in_turns(10.0, usize::MAX, route.layer_of.clone())
            });
            let belady = late_hits(&route, share, || Belady::new(&route.trace));
            let shares = [first, lru, frequency, next, belady];
            println!("{name} {share}: {shares:.3?}");
            assert!(shares.iter().all(|hits| *hits <= belady), "{name} {share}");
            assert!(next >= least && next >= lru, "{name} {share}: {next}");
            if share > 0.05 {
                assert!(first < lru && lru <= frequency, "{name} {share}");
            }
        }
        let capacity = route.trace.lens.iter().sum::<u64>() / 10;
        let belady = replay(&route.trace, capacity, 0, Belady::new(&route.trace));
        assert!(least_read_bytes(&route.trace, capacity) <= belady.bytes_read);
    }
}
