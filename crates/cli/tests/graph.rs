//! `delayline graph` as a shell sees it: graphs and features are written, measured, and not
//! replaced.

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

#[test]
fn features_are_written_anew_and_nothing_else_is_replaced() {
    let dir = scratch();
    let at = |name: &str| {
        dir.path()
            .join(name)
            .to_str()
            .expect("a plain path")
            .to_owned()
    };
    let (raw, out, text) = (at("raw"), at("x.npy"), at("notes"));
    let bytes: Vec<u8> = (0..40).collect();
    std::fs::write(&raw, &bytes).expect("written");
    std::fs::write(&text, "mine").expect("written");
    let args = "graph repack --json --shape 5,4 --dtype int8 --offset 20";
    let done = objects(&delayline(args, &[&raw, &out]));
    assert_eq!(number(&done[0], "/rows"), 5.0);
    assert_eq!(std::fs::read(&out).expect("there")[4096..], bytes[20..]);
    for (args, to, words) in [
        (args.to_owned(), &out, "--force"),
        (format!("{args} --force"), &text, "is not a .npy file"),
        (args.replace("5,4", "5"), &out, "expected ROWS,COLUMNS"),
        (
            args.replace("int8", "int9"),
            &out,
            "expected one of float32",
        ),
    ] {
        let refused = delayline(&args, &[&raw, to]);
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    assert!(
        delayline(&format!("{args} --force"), &[&raw, &out])
            .status
            .success()
    );
    assert_eq!(std::fs::read(&text).expect("there"), b"mine");
}
