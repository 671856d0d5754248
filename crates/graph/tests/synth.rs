//! Synthetic graphs: what they contain, and that nothing else is replaced.

use delayline_graph::{Error, GraphFolder, GraphShape, write_graph};
use std::fs;

const SMALL: GraphShape = GraphShape {
    name: "small",
    nodes: 3_000,
    edges: 40_001,
    columns: 6,
    classes: 7,
};

fn labels(dir: &std::path::Path) -> Vec<u64> {
    let bytes = fs::read(dir.join("labels.npy")).unwrap();
    let (numbers, _) = bytes[128..].as_chunks();
    numbers.iter().copied().map(u64::from_le_bytes).collect()
}

#[test]
fn edges_stay_mostly_in_a_class_and_few_nodes_are_popular() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("g");
    write_graph(&SMALL, 3, &out, false, &mut |_| true).unwrap();
    let graph = GraphFolder::open(&out).unwrap();
    assert_eq!((graph.features.rows, graph.features.columns), (3_000, 6));
    assert_eq!(graph.topology.edges(), SMALL.edges);
    let labels = labels(&out);
    assert_eq!(labels.len(), 3_000);
    let (mut within, mut uses) = (0, vec![0u32; 3_000]);
    for node in 0..3_000 {
        for index in 0..graph.topology.degree(node) {
            let edge = graph.topology.edge_into(node, index);
            within += u64::from(labels[node as usize] == labels[edge.source as usize]);
            uses[edge.source as usize] += 1;
        }
    }
    // Expected: 0.75, and a seventh of the rest.
    let share = within as f64 / SMALL.edges as f64;
    assert!((0.76..0.81).contains(&share), "{share}");
    // Expected: the cube root of 0.1, for the tenth of the nodes with the most edges.
    uses.sort_unstable();
    let popular: u32 = uses[2_700..].iter().sum();
    let share = f64::from(popular) / SMALL.edges as f64;
    assert!((0.40..0.56).contains(&share), "{share}");
}

#[test]
fn bytes_depend_on_shape_and_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let written = |name: &str, seed| {
        let out = dir.path().join(name);
        write_graph(&SMALL, seed, &out, false, &mut |_| true).unwrap();
        ["node_feat.npy", "indptr.npy", "indices.npy", "labels.npy"]
            .map(|name| fs::read(out.join(name)).unwrap())
    };
    let (one, same, other) = (written("a", 1), written("b", 1), written("c", 2));
    assert_eq!(one, same);
    for (one, other) in one.iter().zip(&other) {
        assert_ne!(one, other);
    }
}

#[test]
fn only_an_earlier_graph_is_replaced_and_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("g");
    let write = |seed, force| write_graph(&SMALL, seed, &out, force, &mut |_| true);
    fs::create_dir(&out).unwrap();
    write(1, false).unwrap();
    let before = labels(&out);
    let refused = write(2, false).unwrap_err().to_string();
    assert!(refused.contains("--force"), "{refused}");
    assert_eq!(labels(&out), before);
    write(2, true).unwrap();
    assert_ne!(labels(&out), before);
    // A folder with another file in it, and a file.
    fs::write(out.join("notes"), "mine").unwrap();
    let refused = write(3, true).unwrap_err().to_string();
    assert!(refused.contains("not replaced"), "{refused}");
    assert_eq!(fs::read(out.join("notes")).unwrap(), b"mine");
    fs::remove_dir_all(&out).unwrap();
    fs::write(&out, "mine").unwrap();
    assert!(matches!(write(3, true), Err(Error::Exists { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_graph_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shape = GraphShape {
        columns: 4_000,
        ..SMALL
    };
    let mut told = 0;
    let mut stop = |_| {
        told += 1;
        told < 3
    };
    let stopped = write_graph(&shape, 1, &dir.path().join("g"), false, &mut stop);
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_graph_whose_files_do_not_agree_is_refused_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("g");
    write_graph(&SMALL, 1, &out, false, &mut |_| true).unwrap();
    let refused = |file: &str, change: &dyn Fn(&mut Vec<u8>), words: &str| {
        let path = out.join(file);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let error = GraphFolder::open(&out).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        fs::write(&path, whole).unwrap();
    };
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1);
    refused("indices.npy", &cut, "cut short");
    refused("indptr.npy", &cut, "cut short");
    refused("indices.npy", &|bytes| bytes[131] = 0x7f, "names node");
    refused("indptr.npy", &|bytes| bytes[150] = 0x7f, "rise from 0");
    let header = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes[10..128].to_vec()).unwrap();
            assert!(text.contains(&from));
            bytes.splice(10..128, text.replace(&from, &to).into_bytes());
        }
    };
    refused(
        "indices.npy",
        &header("<i4", "<i8"),
        "expected a list of type \"<i4\"",
    );
    refused("indices.npy", &header("40001", "99999"), "cut short");
    refused("indptr.npy", &header("3001", "3000"), "expected 3001");
    GraphFolder::open(&out).unwrap();
}
