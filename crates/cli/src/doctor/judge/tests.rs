//! Tests of the findings: facts, and the marks and words that they get.

use super::*;

/// Asserts a finding's mark, and that its text contains these words.
#[track_caller]
pub(in crate::doctor) fn check(finding: Finding, mark: Mark, words: &[&str]) {
    let said = format!("{}: {}\n{}", finding.name, finding.text, finding.so);
    assert_eq!(finding.mark, mark, "{said}");
    for word in words {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert!(!finding.so.is_empty());
}

#[test]
fn kernels_are_judged() {
    check(kernel("6.18.44-x"), Mark::Good, &["Linux 6.18.44-x"]);
    check(kernel("5.6.0"), Mark::Good, &[]);
    check(kernel("5.5.19"), Mark::Mind, &["threads"]);
    check(kernel("4.19"), Mark::Mind, &["threads"]);
    check(kernel(""), Mark::Mind, &["unknown"]);
}

#[test]
fn features_are_compared_with_what_was_built() {
    let x86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx avx2 fma avx512f\n";
    let all = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | FMA = 1 | AVX512 = 1 | REPACK = 1 | ";
    check(
        cpu(x86, Some(all)),
        Mark::Good,
        &["Some CPU", "AVX512", "use all"],
    );
    let some = "CPU : AVX = 1 | AVX2 = 1 | FMA = 1 | AVX512 = 0 | ";
    check(
        cpu(x86, Some(some)),
        Mark::Mind,
        &["without AVX512:", "target-cpu=native"],
    );
    check(cpu(x86, None), Mark::Mind, &["unknown"]);
    let arm = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n";
    check(
        cpu(arm, Some("CPU : NEON = 1 | DOTPROD = 1 | ")),
        Mark::Mind,
        &["without MATMUL_INT8:"],
    );
    check(cpu("", Some("")), Mark::Mind, &["slow"]);
}

#[test]
fn memory_is_judged() {
    check(
        free_memory("MemTotal: 2097152 kB\nMemAvailable: 1048576 kB"),
        Mark::Good,
        &["1.00 GiB free of 2.00 GiB"],
    );
    check(
        free_memory("MemTotal: 2097152 kB\nMemAvailable: 1024 kB"),
        Mark::Mind,
        &["1.00 MiB"],
    );
    check(free_memory(""), Mark::Mind, &["--memory"]);
}

#[test]
fn cgroups_are_judged() {
    let group = |limit_bytes, available_bytes| {
        Some(CgroupMemory {
            is_v2: true,
            limit_bytes,
            available_bytes,
        })
    };
    check(cgroup(None), Mark::Good, &["no cgroup"]);
    check(
        cgroup(group(None, None)),
        Mark::Good,
        &["none", "version 2"],
    );
    check(
        cgroup(group(Some(4 << 30), Some(2 << 30))),
        Mark::Good,
        &["4.00 GiB", "2.00 GiB of it free"],
    );
    check(
        cgroup(group(Some(4 << 30), Some(1 << 20))),
        Mark::Mind,
        &["raise the limit"],
    );
}

#[test]
fn drives_are_judged() {
    check(file_system("ext4"), Mark::Good, &["ext4"]);
    check(file_system("tmpfs"), Mark::Mind, &["memory"]);
    check(file_system("nfs"), Mark::Mind, &["network"]);
    check(file_system("0x1234"), Mark::Mind, &["0x1234"]);
    check(direct_io(DirectIo::Bypasses), Mark::Good, &["page cache"]);
    check(
        direct_io(DirectIo::Cached),
        Mark::Mind,
        &["cached all the same", "ext4"],
    );
    check(
        direct_io(DirectIo::Refused),
        Mark::Mind,
        &["refused", "ext4"],
    );
    check(direct_io(DirectIo::Unknown), Mark::Mind, &["--memory"]);
    check(io_uring(&Ok(())), Mark::Good, &["available"]);
    check(
        io_uring(&Err("not permitted".into())),
        Mark::Mind,
        &["not permitted", "sysctl"],
    );
    let (mortal, exempt) = (
        "CapEff:\t0000000000000000",
        "Name:\tx\nCapEff:\t0000000000004000",
    );
    check(locked_memory(None, mortal), Mark::Good, &["no limit"]);
    check(
        locked_memory(Some(8 << 20), mortal),
        Mark::Mind,
        &["8.00 MiB", "ulimit -l"],
    );
    check(locked_memory(Some(8 << 20), ""), Mark::Mind, &["ulimit -l"]);
    check(
        locked_memory(Some(8 << 20), exempt),
        Mark::Good,
        &["exempt"],
    );
    check(
        locked_memory(Some(8 << 30), mortal),
        Mark::Good,
        &["8.00 GiB"],
    );
}

#[test]
fn the_best_rate_counts() {
    let rate = |read_len, depth, rate_bytes_per_s| ReadRate {
        read_len,
        depth,
        rate_bytes_per_s,
    };
    let fast = [
        rate(128 << 10, 1, 8e8),
        rate(4 << 20, 32, 2.0 * (1u64 << 30) as f64),
    ];
    check(
        read_rate(&fast),
        Mark::Good,
        &[
            "2.15 GB/s with reads of 4.00 MiB, 32 at a time",
            "500 ms to every lap",
        ],
    );
    check(read_rate(&[rate(4 << 20, 32, 1e8)]), Mark::Mind, &["NVMe"]);
    check(read_rate(&[]), Mark::Bad, &["nothing"]);
    let table = rate_table(&fast).to_string();
    assert!(
        table.contains("800 MB/s") && table.contains("2.15 GB/s") && table.contains('–'),
        "{table}"
    );
}
