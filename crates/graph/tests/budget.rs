//! The process stays within the memory that is allowed, as the kernel counts it. The only
//! test in its program, because nothing else may allocate meanwhile.

use delayline_graph::{ElementType, FeatureFile, Features, RowFormat};
use delayline_medium::Rng;
use std::fs;
use std::io::Write;

const ROWS: u32 = 200_000;
const ROW: usize = 512;
const MIB: u64 = 1 << 20;

/// A size in bytes from the status of the process.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kib * 1024
}

#[test]
fn the_process_grows_by_the_memory_that_was_allowed_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    let mut file = fs::File::create(&path).unwrap();
    for row in 0..ROWS {
        file.write_all(&row.to_le_bytes().repeat(ROW / 4)).unwrap();
    }
    drop(file);
    let given = RowFormat {
        shape: Some((u64::from(ROWS), ROW as u64 / 4)),
        element: Some(ElementType::F32),
        offset: None,
    };
    let mut rng = Rng::new(1);
    let mut batch = |len| -> Vec<u32> { (0..len).map(|_| rng.below(ROWS.into()) as u32).collect() };
    // Short batches, many of which are ahead, and some longer than the smaller memory.
    let batches: Vec<Vec<u32>> = (0..300)
        .map(|n| batch(if n % 50 == 0 { 20_000 } else { 1000 }))
        .collect();
    let mut out = vec![1; 20_000 * ROW];
    // A first run, so that the program's code is in memory.
    let rows = FeatureFile::open(&path, &given).unwrap();
    let mut first = Features::new(rows, 2 * MIB).unwrap();
    first
        .gather(batches[1].clone(), &mut out[..1000 * ROW])
        .unwrap();
    drop(first);
    for allowed in [4 * MIB, 24 * MIB] {
        // Resets the peak.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS:");
        let rows = FeatureFile::open(&path, &given).unwrap();
        let mut features = Features::new(rows, allowed).unwrap();
        let (mut announced, mut most_ahead) = (0, 0);
        for (taken, batch) in batches.iter().enumerate() {
            while announced < batches.len() && features.wants_more() {
                features.announce(batches[announced].clone(), 0).unwrap();
                announced += 1;
            }
            most_ahead = most_ahead.max(announced - taken);
            let out = &mut out[..batch.len() * ROW];
            features.take(out).unwrap();
            for (row, bytes) in batch.iter().zip(out.chunks(ROW)) {
                assert_eq!(bytes[..4], row.to_le_bytes());
            }
        }
        let grown = status("VmHWM:").saturating_sub(before);
        println!("{grown} bytes of {allowed}, {most_ahead} batches ahead");
        assert!(grown <= allowed + MIB, "{grown} bytes instead of {allowed}");
        assert!(
            grown >= allowed / 2,
            "{grown} bytes of {allowed}: the memory is not used"
        );
        assert!(most_ahead > 3, "batches are ahead");
    }
}
