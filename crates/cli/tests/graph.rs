//! `delayline graph` as a shell sees it: a graph is written, measured, and not replaced.

mod common;

use common::{delayline, number, objects, scratch, stderr};

#[test]
fn a_graph_is_written_measured_and_not_replaced() {
    let dir = scratch();
    let out = dir.path().join("tiny");
    let path = out.to_str().expect("a plain path");
    let written = objects(&delayline("graph synth tiny --json", &[path]));
    assert_eq!(number(&written[0], "/nodes"), 20_000.0);
    let again = delayline("graph synth tiny", &[path]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));

    let args = "graph bench --json --memory 2MiB --batches 20 --batch-size 32 --fanouts 5,5";
    let report = &objects(&delayline(args, &[path]))[0];
    let sum = |figure: &str| {
        let of = |epoch| number(report, &format!("/epochs/{epoch}/{figure}"));
        of(0) + of(1)
    };
    assert!(sum("belady_missed") <= sum("rows_missed"), "{report}");
    assert!(sum("rows_missed") <= sum("rows"), "{report}");
    // Rows and their order do not depend on the memory.
    let more = delayline(&args.replace("2MiB", "64MiB"), &[path]);
    assert_eq!(report["digest"], objects(&more)[0]["digest"]);

    let small = delayline("graph bench --memory 64KiB", &[path]);
    assert!(
        stderr(&small).contains("allow at least"),
        "{}",
        stderr(&small)
    );
    let none = delayline(
        "graph bench --memory 2MiB",
        &[dir.path().to_str().expect("plain")],
    );
    assert!(stderr(&none).contains("node_feat.npy"), "{}", stderr(&none));
}
