//! Small traces with known answers, and the recorded ones.

use std::path::Path;

use super::trace::parsed;
use super::{replayed as replayed_telling, *};

fn replayed(trace: &KvTrace, sizes: &[u64]) -> Vec<KvRow> {
    replayed_telling(trace, sizes, &|| ())
}

/// A request of `tokens`, with these ids.
fn request(tokens: u32, ids: &[u32]) -> String {
    format!(
        "{{\"timestamp\": 0, \"input_length\": {tokens}, \"output_length\": 1, \"hash_ids\": {ids:?}}}\n"
    )
}

fn hits(rows: &[KvRow], policy: KvPolicy, size: u64) -> u64 {
    let mut of = rows
        .iter()
        .filter(|row| row.policy == policy && row.size.is_none_or(|known| known == size));
    of.next().expect("there is a row").hit_tokens
}

#[test]
fn a_request_is_blocks_of_64_and_the_last_is_what_is_left() {
    // 600 tokens: a part of eight blocks, and one of 64 + 24.
    let trace = parsed(&(request(600, &[7, 9]) + &request(512, &[7]))).expect("a trace");
    assert_eq!((trace.len(), trace.blocks(), trace.tokens()), (2, 16, 1112));
    let requests: Vec<_> = trace.requests().collect();
    let tokens: Vec<u32> = requests[0].iter().map(|used| used.tokens).collect();
    assert_eq!(tokens, [vec![64; 9], vec![24]].concat());
    assert_eq!(requests[0][9].depth, 576);
    assert_eq!(requests[1].len(), 8);
    assert_eq!((requests[0][7].next, requests[0][8].next), (Some(1), None));
    let rows = replayed(&trace, &[600]);
    for policy in KvPolicy::ALL {
        assert_eq!(hits(&rows, policy, 600), 512, "{policy:?}");
    }
}

#[test]
fn policies_do_what_their_names_say() {
    // Two prompts in turns and room for one: what was used last goes first, or stays.
    let [a, b] = [request(512, &[0]), request(512, &[1])];
    let turns = parsed(&[&*a, &b].repeat(4).concat()).expect("a trace");
    let rows = replayed(&turns, &[512]);
    assert_eq!(hits(&rows, KvPolicy::Lru, 512), 0);
    assert_eq!(hits(&rows, KvPolicy::Belady, 512), 3 * 512);
    assert_eq!(hits(&rows, KvPolicy::Unlimited, 512), 6 * 512);
    // One that was used often outlives one that was not, and not for ever.
    let often = a.repeat(4) + &b;
    let rows = replayed(
        &parsed(&(often.clone() + &request(512, &[2]) + &a)).expect("a trace"),
        &[1024],
    );
    assert_eq!(hits(&rows, KvPolicy::Frequency, 1024), 4 * 512);
    assert_eq!(hits(&rows, KvPolicy::Lru, 1024), 3 * 512);
    let others: String = (2..20).map(|id| request(512, &[id]).repeat(2)).collect();
    let rows = replayed(&parsed(&(often + &others + &a)).expect("a trace"), &[1024]);
    assert_eq!(hits(&rows, KvPolicy::Frequency, 1024), (3 + 18) * 512);
}

#[test]
fn a_prompt_longer_than_the_store_keeps_its_beginning() {
    let trace = parsed(&request(2048, &[0, 1, 2, 3]).repeat(2)).expect("a trace");
    let rows = replayed(&trace, &[1024]);
    for policy in [KvPolicy::Lru, KvPolicy::Belady] {
        assert_eq!(hits(&rows, policy, 1024), 1024, "{policy:?}");
    }
}

/// Belady's against every choice that there is.
#[test]
fn nothing_beats_belady_and_nothing_holds_more_than_its_size() {
    let mut rng = delayline_medium::Rng::new(delayline_testing::seed());
    for _ in 0..300 {
        let text: String = (0..30)
            .map(|_| {
                // A tree: each prompt is one of two beginnings with one of four ends.
                let (start, end) = (rng.below(2) as u32, rng.below(4) as u32);
                request(1024, &[start, 10 + 4 * start + end])
            })
            .collect();
        let trace = parsed(&text).expect("a trace");
        for size in [64, 512, 1000, 1536, 4096] {
            let rows = replayed(&trace, &[size]);
            let best = hits(&rows, KvPolicy::Belady, size);
            let most = hits(&rows, KvPolicy::Unlimited, size);
            for row in rows.iter().filter(|row| row.size.is_some()) {
                assert!(row.held_tokens <= size, "{row:?}");
                assert!(row.hit_tokens <= best && best <= most, "{row:?} of {best}");
                assert_eq!(row.hit_tokens % 64, 0);
            }
        }
    }
}

#[test]
fn what_is_no_trace_is_told_with_its_line() {
    let good = request(600, &[0, 1]);
    let cases = [
        (String::new(), 1, "no request"),
        (format!("{good}no JSON"), 2, "expected"),
        (good.clone() + &request(600, &[0]), 2, "has 2 ids"),
        (request(0, &[]), 1, "0 tokens"),
        (good.clone() + &request(600, &[1, 0]), 2, "other tokens"),
        (good.clone() + &request(601, &[0, 1]), 2, "other tokens"),
        (request(1024, &[0, 0]), 1, "other tokens"),
        (
            "{\"input_length\": -1, \"hash_ids\": []}".to_owned(),
            1,
            "invalid value",
        ),
    ];
    for (text, line, words) in cases {
        let error = parsed(&text).expect_err(&text).to_string();
        assert!(
            error.contains(&format!("line {line}:")) && error.contains(words),
            "{error}"
        );
    }
    let told = read_trace(Path::new("/dev/zero")).expect_err("no file");
    assert!(matches!(told, KvTraceError::Read { .. }), "{told}");
}

/// What the program promises of its policy, on what was recorded.
#[test]
fn the_program_s_policy_is_no_worse_than_lru_on_recorded_traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/kv-traces");
    if !folder.exists() {
        return delayline_testing::lacks_data(format_args!("{} is not there", folder.display()));
    }
    // LRU's shares as another replay has them, with blocks of 512 tokens in place of 64.
    for (name, lru) in [
        ("mooncake-conversation", [0.054, 0.139, 0.291, 0.358]),
        ("mooncake-synthetic", [0.145, 0.315, 0.577, 0.651]),
    ] {
        let trace = read_trace(&folder.join(format!("{name}.jsonl"))).expect("a trace");
        let sizes = [1, 3, 10, 20].map(|millions| millions * 1_000_000);
        let rows = replayed(&trace, &sizes);
        for (size, known) in sizes.into_iter().zip(lru) {
            let of = |policy| hits(&rows, policy, size) as f64;
            let (ours, lru) = (of(KvPolicy::Frequency), of(KvPolicy::Lru));
            let least = if size < 20_000_000 { 1.0 } else { 0.97 };
            println!("{name}, {size}: {:.4} of LRU", ours / lru);
            assert!(ours >= least * lru, "{name}, {size}: {ours} and {lru}");
            assert!(ours <= of(KvPolicy::Belady));
            let share = lru / trace.tokens() as f64;
            assert!((share - known).abs() < 0.01, "{name}, {size}: {share}");
        }
    }
}

#[test]
fn each_replay_is_told() {
    let trace = parsed(&request(512, &[0])).expect("a trace");
    let count = std::sync::atomic::AtomicUsize::new(0);
    let told = || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    replayed_telling(&trace, &[512, 1024], &told);
    assert_eq!(count.into_inner(), replays(2));
}
