//! Replayed row policies against simple implementations that search lists.

use delayline_plan::{RowPolicy, replay_rows};

fn misses(batches: &[Vec<u32>], slots: usize, policy: RowPolicy) -> Vec<(usize, u32)> {
    let mut all = Vec::new();
    replay_rows(batches, 8, slots, policy, |batch, row| {
        all.push((batch, row))
    });
    all
}

/// All traces of `len` batches, each of two different rows below `rows`.
fn traces(rows: u32, len: u32) -> impl Iterator<Item = Vec<Vec<u32>>> {
    let pairs: Vec<Vec<u32>> = (0..rows)
        .flat_map(|a| (0..rows).filter(move |&b| b != a).map(move |b| vec![a, b]))
        .collect();
    (0..pairs.len().pow(len)).map(move |mut number| {
        let mut trace = Vec::new();
        for _ in 0..len {
            trace.push(pairs[number % pairs.len()].clone());
            number /= pairs.len();
        }
        trace
    })
}

/// The fewest misses in the remaining batches, over all choices of what is kept.
fn fewest(batches: &[Vec<u32>], held: u32, slots: u32) -> u32 {
    let Some((batch, rest)) = batches.split_first() else {
        return 0;
    };
    let wanted = batch.iter().fold(0, |set, row| set | 1 << row);
    let there = held | wanted;
    let kept = (0..16u32).filter(|kept| kept & !there == 0 && kept.count_ones() <= slots);
    let best = kept.map(|kept| fewest(rest, kept, slots)).min();
    (wanted & !held).count_ones() + best.expect("nothing can always be kept")
}

#[test]
fn nobody_misses_fewer_than_belady() {
    for slots in 0..=3 {
        for trace in traces(4, 3) {
            let best = fewest(&trace, 0, slots) as usize;
            let slots = slots as usize;
            assert_eq!(
                misses(&trace, slots, RowPolicy::Belady).len(),
                best,
                "{trace:?}"
            );
            for policy in [RowPolicy::Sieve, RowPolicy::Lru] {
                assert!(misses(&trace, slots, policy).len() >= best, "{trace:?}");
            }
        }
    }
}

#[test]
fn lru_and_sieve_agree_with_simple_versions() {
    for slots in 1..=3 {
        for trace in traces(4, 4) {
            let mut uses = Vec::new();
            for (number, batch) in trace.iter().enumerate() {
                uses.extend(batch.iter().map(|&row| (number, row)));
            }
            // The oldest first.
            let (mut lru, mut sieve) = (Vec::new(), Vec::<(u32, bool)>::new());
            let (mut hand, mut lru_missed, mut sieve_missed) = (0, Vec::new(), Vec::new());
            for &(number, row) in &uses {
                match lru.iter().position(|&held| held == row) {
                    Some(at) => drop(lru.remove(at)),
                    None => {
                        lru_missed.push((number, row));
                        if lru.len() == slots {
                            lru.remove(0);
                        }
                    }
                }
                lru.push(row);
                if let Some(held) = sieve.iter_mut().find(|held| held.0 == row) {
                    held.1 = true;
                    continue;
                }
                sieve_missed.push((number, row));
                if sieve.len() == slots {
                    hand %= slots;
                    while std::mem::take(&mut sieve[hand].1) {
                        hand = (hand + 1) % slots;
                    }
                    sieve.remove(hand);
                    // Past the newest, the hand starts again at the oldest.
                    if hand == slots - 1 {
                        hand = slots;
                    }
                }
                sieve.push((row, false));
                // Not at the newcomer.
                if hand == slots {
                    hand = 0;
                }
            }
            assert_eq!(
                misses(&trace, slots, RowPolicy::Lru),
                lru_missed,
                "{trace:?}"
            );
            assert_eq!(
                misses(&trace, slots, RowPolicy::Sieve),
                sieve_missed,
                "{trace:?}"
            );
        }
    }
}
