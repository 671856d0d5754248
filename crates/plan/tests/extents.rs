//! Weights cut into extents: chosen cases, then random files.

mod common;

use common::Random;
use delayline_plan::{ALIGN, CutError, UsedRange, cut, default_target};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn weight(offset: u64, len: u64, first_use: u32, last_use: u32) -> UsedRange {
    UsedRange {
        part: 0,
        offset,
        len,
        first_use,
        last_use,
    }
}

/// `expect`: offset, length and weights of each extent in order.
fn check(weights: &[UsedRange], target: u64, expect: &[(u64, u64, &[usize])]) {
    let cut = cut(weights, &[1 << 40], target).unwrap();
    let found: Vec<(u64, u64, Vec<usize>)> = (0..cut.extents.len())
        .map(|e| {
            let members = (0..weights.len()).filter(|&w| cut.homes[w].extent.index() == e);
            let extent = cut.extents[e];
            (extent.offset, extent.len, members.collect())
        })
        .collect();
    let expect: Vec<_> = expect
        .iter()
        .map(|&(offset, len, members)| (offset, len, members.to_vec()))
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn neighbours_are_joined_up_to_the_target() {
    let all: Vec<UsedRange> = (0..5)
        .map(|i| weight(u64::from(i) * 100 * KIB, 100 * KIB, i, i))
        .collect();
    check(
        &all,
        200 * KIB,
        &[
            (0, 200 * KIB, &[0, 1]),
            (200 * KIB, 200 * KIB, &[2, 3]),
            (400 * KIB, 100 * KIB, &[4]),
        ],
    );
}

#[test]
fn unaligned_neighbours_share_the_block_between_them() {
    let all = [weight(100, 5000, 0, 0), weight(5100, 5000, 1, 1)];
    check(&all, 8192, &[(0, 8192, &[0]), (4096, 8192, &[1])]);
    check(&all, 12288, &[(0, 12288, &[0, 1])]);
}

#[test]
fn a_large_weight_is_its_own_extent() {
    let all = [
        weight(0, 8 * KIB, 0, 0),
        weight(8 * KIB, 3 * MIB, 1, 1),
        weight(8 * KIB + 3 * MIB, 8 * KIB, 2, 2),
    ];
    check(
        &all,
        MIB,
        &[
            (0, 8 * KIB, &[0]),
            (8 * KIB, 3 * MIB, &[1]),
            (8 * KIB + 3 * MIB, 8 * KIB, &[2]),
        ],
    );
}

#[test]
fn gaps_up_to_64_kib_are_read() {
    let pair = |gap| [weight(0, 4096, 0, 0), weight(4096 + gap, 4096, 1, 1)];
    check(&pair(64 * KIB), MIB, &[(0, 72 * KIB, &[0, 1])]);
    check(
        &pair(68 * KIB),
        MIB,
        &[(0, 4096, &[0]), (72 * KIB, 4096, &[1])],
    );
}

#[test]
fn weights_used_far_apart_are_not_joined() {
    // Two small neighbours; between their uses, a weight elsewhere in the file is used.
    let uses_with = |others: u64| {
        [
            weight(0, 4096, 0, 0),
            weight(4096, 4096, 2, 2),
            weight(64 * MIB, others, 1, 1),
        ]
    };
    check(
        &uses_with(MIB),
        MIB,
        &[(0, 8192, &[0, 1]), (64 * MIB, MIB, &[2])],
    );
    check(
        &uses_with(MIB + 4096),
        MIB,
        &[
            (0, 4096, &[0]),
            (64 * MIB, MIB + 4096, &[2]),
            (4096, 4096, &[1]),
        ],
    );
}

#[test]
fn a_weight_with_uses_far_apart_stays_alone() {
    let all = [
        weight(0, 4096, 0, 9),
        weight(4096, 4096, 0, 0),
        weight(MIB, 8 * MIB, 5, 5),
    ];
    check(
        &all,
        MIB,
        &[(0, 4096, &[0]), (4096, 4096, &[1]), (MIB, 8 * MIB, &[2])],
    );
}

#[test]
fn wrong_descriptions_are_refused_with_the_reason() {
    let part = UsedRange {
        part: 2,
        ..weight(0, 1, 0, 0)
    };
    let empty = weight(0, 0, 0, 0);
    let outside = weight(4000, 97, 0, 0);
    let wraps = weight(u64::MAX, 2, 0, 0);
    let refused = |w: UsedRange| cut(&[weight(0, 1, 0, 0), w], &[4096, 9], MIB).unwrap_err();
    assert!(matches!(
        refused(part),
        CutError::NoSuchPart {
            weight: 1,
            part: 2,
            parts: 2
        }
    ));
    assert_eq!(refused(empty), CutError::Empty { weight: 1 });
    assert!(matches!(
        refused(outside),
        CutError::Outside { weight: 1, .. }
    ));
    assert!(matches!(refused(wraps), CutError::Outside { .. }));
    assert!(refused(outside).to_string().contains("truncated"));
}

#[test]
fn the_default_target_follows_the_model_within_limits() {
    assert_eq!(default_target(0), 64 * KIB);
    assert_eq!(default_target(64 * MIB), MIB);
    assert_eq!(default_target(1 << 40), 4 * MIB);
}

#[test]
fn random_files_are_cut_whole_aligned_and_in_order() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut weights = Vec::new();
        let mut lens = Vec::new();
        for part in 0..2 {
            let mut at = random.between(0, 5000);
            for _ in 0..random.between(0, 30) {
                let most = if random.once_in(4) { 900_000 } else { 20_000 };
                let len = random.between(1, most);
                let first_use = random.between(0, 60) as u32;
                let last_use = first_use + if random.once_in(5) { 30 } else { 0 };
                weights.push(UsedRange {
                    part,
                    offset: at,
                    len,
                    first_use,
                    last_use,
                });
                at += len + random.between(0, 3) * random.between(0, 40_000);
            }
            lens.push(at);
        }
        let target = 4096 * random.between(1, 100);
        let cut = cut(&weights, &lens, target).unwrap();
        assert_eq!(cut.homes.len(), weights.len());
        let mut first = vec![u32::MAX; cut.extents.len()];
        let mut members = vec![0; cut.extents.len()];
        for (w, home) in weights.iter().zip(&cut.homes) {
            let extent = cut.extents[home.extent.index()];
            assert_eq!(extent.part, w.part, "seed {seed}");
            assert_eq!(extent.offset + home.at, w.offset, "seed {seed}");
            assert!(home.at + w.len <= extent.len, "seed {seed}");
            let first = &mut first[home.extent.index()];
            *first = w.first_use.min(*first);
            members[home.extent.index()] += 1;
        }
        assert!(first.is_sorted(), "seed {seed}");
        for (extent, members) in cut.extents.iter().zip(members) {
            assert_eq!((extent.offset % ALIGN, extent.len % ALIGN), (0, 0));
            assert!(members == 1 || extent.len <= target, "seed {seed}");
            assert!(members > 0, "seed {seed}");
            let end = lens[usize::from(extent.part)];
            assert!(extent.offset + extent.len < end + ALIGN, "seed {seed}");
        }
    }
}
