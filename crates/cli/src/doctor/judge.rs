//! What each fact about the machine means for streaming: facts in, findings out, no I/O.

use delayline_medium::{DirectIo, ReadRate};
use serde_json::{Value, json};

use super::{CgroupMemory, DEPTHS, Finding, Mark, READ_LENS};
use crate::output::{TextTable, format_seconds};
use crate::size::{format_rate, format_size};

/// Whether the kernel is new enough, by its release, such as `6.8.0-45`.
pub fn kernel(release: &str) -> Finding {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (mark, so) = match version {
        (0, _) => (
            Mark::Mind,
            "its version is unknown; 5.6 or newer is expected",
        ),
        version if version >= (5, 6) => (Mark::Good, "new enough for everything used here"),
        _ => (
            Mark::Mind,
            "too old for io_uring as used here (5.6 or newer): threads read instead, which costs CPU time",
        ),
    };
    Finding::new(
        "kernel",
        mark,
        format!("Linux {release}"),
        so,
        json!(release),
    )
}

/// What this program was built for.
pub fn program(level: &str, text: String, glibc: Option<&str>) -> Finding {
    let so = match glibc {
        Some(glibc) => format!("it needs glibc {glibc} or newer"),
        None => "it needs no glibc".into(),
    };
    let value = json!({ "level": level, "glibc": glibc });
    Finding::new("program", Mark::Good, text, so, value)
}

/// CPU features that llama.cpp has kernels for: in `/proc/cpuinfo`, and in
/// llama.cpp's words.
const FEATURES: [(&str, &str); 13] = [
    ("avx", "AVX"),
    ("avx2", "AVX2"),
    ("f16c", "F16C"),
    ("fma", "FMA"),
    ("bmi2", "BMI2"),
    ("avx_vnni", "AVX_VNNI"),
    ("avx512f", "AVX512"),
    ("avx512vbmi", "AVX512_VBMI"),
    ("avx512_vnni", "AVX512_VNNI"),
    ("avx512_bf16", "AVX512_BF16"),
    ("asimddp", "DOTPROD"),
    ("i8mm", "MATMUL_INT8"),
    ("sve", "SVE"),
];

/// Whether the kernels use what the CPU has; `cpuinfo` is `/proc/cpuinfo`.
pub fn cpu(cpuinfo: &str, kernels: Option<&str>) -> Finding {
    let field = |names: &[&str]| {
        let pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        pairs
            .map(|(name, value)| (name.trim(), value.trim()))
            .find(|(name, _)| names.contains(name))
    };
    let model = field(&["model name", "Processor"]).map_or("CPU", |(_, model)| model);
    let flags: Vec<&str> =
        field(&["flags", "Features"]).map_or(Vec::new(), |(_, flags)| flags.split(' ').collect());
    let has: Vec<&str> = FEATURES
        .iter()
        .filter(|(flag, _)| flags.contains(flag))
        .map(|(_, name)| *name)
        .collect();
    let text = format!(
        "{model}: {}",
        if has.is_empty() {
            "no vector features known".into()
        } else {
            has.join(" ")
        }
    );
    let Some(kernels) = kernels else {
        let value = json!({ "model": model, "features": has });
        return Finding::new(
            "CPU",
            Mark::Mind,
            text,
            "what the kernels were built for is unknown",
            value,
        );
    };
    let built = kernels
        .split('|')
        .filter_map(|part| part.rsplit(':').next()?.split_once('='));
    let built: Vec<&str> = built
        .filter(|(_, value)| value.trim() != "0")
        .map(|(name, _)| name.trim())
        .collect();
    let unused: Vec<&str> = has
        .iter()
        .filter(|name| !built.contains(name))
        .copied()
        .collect();
    let (mark, so) = if has.is_empty() {
        (Mark::Mind, "compute may be slow here".to_owned())
    } else if unused.is_empty() {
        (Mark::Good, "the kernels use all of it".to_owned())
    } else {
        let so = "the kernels were built without {}: compute is slower than need be; build on this machine, or with -C target-cpu=native";
        (Mark::Mind, so.replace("{}", &unused.join(" ")))
    };
    Finding::new(
        "CPU",
        mark,
        text,
        so,
        json!({ "model": model, "features": has, "built_for": built }),
    )
}

/// How much memory is free; `meminfo` is `/proc/meminfo`.
pub fn free_memory(meminfo: &str) -> Finding {
    let field = |name: &str| {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    let value =
        json!({ "available_bytes": field("MemAvailable:"), "total_bytes": field("MemTotal:") });
    let (Some(available), Some(total)) = (field("MemAvailable:"), field("MemTotal:")) else {
        return Finding::new(
            "memory",
            Mark::Mind,
            "unknown",
            "/proc/meminfo tells nothing: give --memory",
            value,
        );
    };
    let text = format!("{} free of {}", format_size(available), format_size(total));
    let (mark, so) = if available < 256 << 20 {
        (
            Mark::Mind,
            "enough for small models only: end other programs".to_owned(),
        )
    } else {
        (
            Mark::Good,
            "a model larger than this is streamed; a smaller --memory is kept to as well"
                .to_owned(),
        )
    };
    Finding::new("memory", mark, text, so, value)
}

/// How much memory this process may have.
pub fn cgroup(group: Option<CgroupMemory>) -> Finding {
    let name = "memory limit";
    let Some(CgroupMemory {
        is_v2,
        limit_bytes,
        available_bytes,
    }) = group
    else {
        return Finding::new(
            name,
            Mark::Good,
            "no cgroup",
            "only the machine's memory counts",
            Value::Null,
        );
    };
    let version = if is_v2 { 2 } else { 1 };
    let value = json!({ "version": version, "limit_bytes": limit_bytes, "available_bytes": available_bytes });
    let Some(limit) = limit_bytes else {
        let text = format!("none (cgroup version {version})");
        return Finding::new(
            name,
            Mark::Good,
            text,
            "only the machine's memory counts",
            value,
        );
    };
    let left = available_bytes.unwrap_or(limit);
    let text = format!(
        "{} (cgroup version {version}), {} of it free",
        format_size(limit),
        format_size(left)
    );
    let (mark, so) = if left < 256 << 20 {
        (Mark::Mind, "enough for small models only: raise the limit")
    } else {
        (
            Mark::Good,
            "the default --memory keeps to it, page cache included",
        )
    };
    Finding::new(name, mark, text, so, value)
}

/// What kind of file system the models are on.
pub fn file_system(name: &str) -> Finding {
    let (mark, so) = match name {
        "ext4" | "xfs" | "btrfs" | "f2fs" | "bcachefs" | "zfs" => (Mark::Good, "a local drive"),
        "tmpfs" | "ramfs" => (
            Mark::Mind,
            "this is memory, not a drive: models here take from what they need to run",
        ),
        "nfs" | "cifs" | "smb2" | "9p" => (
            Mark::Mind,
            "over the network: expect its rate and its delays",
        ),
        "fuse" | "overlayfs" => (
            Mark::Mind,
            "a layer above the drive: it may cost speed; a local folder has none",
        ),
        _ => (Mark::Mind, "not known here: trust the measured rate"),
    };
    Finding::new("file system", mark, name, so, json!(name))
}

/// Whether direct I/O bypasses the page cache.
pub fn direct_io(found: DirectIo) -> Finding {
    let cost = "reading goes through the page cache, which is emptied behind it: more CPU time; xfs, or ext4 without data=journal, avoids that";
    let (mark, text, so, value) = match found {
        DirectIo::Bypasses => (
            Mark::Good,
            "yes",
            "reads bypass the page cache, as they should",
            "bypasses",
        ),
        DirectIo::Cached => (Mark::Mind, "taken, but cached all the same", cost, "cached"),
        DirectIo::Refused => (Mark::Mind, "refused by the file system", cost, "refused"),
        DirectIo::Unknown => (
            Mark::Mind,
            "unknown for this file",
            "if it fills the page cache, that counts against --memory",
            "unknown",
        ),
    };
    Finding::new("direct I/O", mark, text, so, json!(value))
}

/// Whether many reads can be under way without threads.
pub fn io_uring(found: &Result<(), String>) -> Finding {
    match found {
        Ok(()) => Finding::new(
            "io_uring",
            Mark::Good,
            "available",
            "many reads at once without threads",
            json!(true),
        ),
        Err(reason) => {
            let so = "threads read instead, which costs CPU time; allow it (sysctl kernel.io_uring_disabled, the container's seccomp profile)";
            Finding::new(
                "io_uring",
                Mark::Mind,
                format!("refused: {reason}"),
                so,
                json!(false),
            )
        }
    }
}

/// Whether the window can be registered with the kernel; `status` is
/// `/proc/self/status`, because a process may be exempt from the limit.
pub fn locked_memory(limit: Option<u64>, status: &str) -> Finding {
    /// The capability to lock any amount, `capabilities(7)`.
    const CAP_IPC_LOCK: u32 = 14;
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let exempt = bits.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1);
    let mut text = limit.map_or("no limit".to_owned(), format_size);
    if exempt && limit.is_some() {
        text += ", from which this process is exempt";
    }
    let (mark, so) = match limit {
        Some(limit) if limit < 64 << 20 && !exempt => (
            Mark::Mind,
            "too little to register the window with the kernel: a little more CPU time for each read; raise it (ulimit -l)",
        ),
        _ => (
            Mark::Good,
            "the window can be registered with the kernel, which saves CPU time",
        ),
    };
    Finding::new(
        "locked memory",
        mark,
        text,
        so,
        json!({ "limit_bytes": limit, "exempt": exempt }),
    )
}

/// What streaming will cost.
pub fn read_rate(rates: &[ReadRate]) -> Finding {
    let value = rates.iter().map(|rate| {
        json!({ "read_bytes": rate.read_len, "depth": rate.depth, "rate_bytes_per_s": rate.rate_bytes_per_s })
    });
    let value = Value::Array(value.collect());
    let best = rates
        .iter()
        .max_by(|a, b| a.rate_bytes_per_s.total_cmp(&b.rate_bytes_per_s));
    let Some(best) = best.filter(|best| best.rate_bytes_per_s > 0.0) else {
        return Finding::new(
            "read rate",
            Mark::Bad,
            "nothing could be read",
            "there is nothing to stream from",
            value,
        );
    };
    let per_gib = format_seconds((1u64 << 30) as f64 / best.rate_bytes_per_s);
    let mark = if best.rate_bytes_per_s < 5e8 {
        Mark::Mind
    } else {
        Mark::Good
    };
    let advice = if mark == Mark::Mind {
        "; an NVMe drive reads ten times as fast"
    } else {
        ""
    };
    let text = format!(
        "{} with reads of {}, {} at a time",
        format_rate(best.rate_bytes_per_s),
        format_size(best.read_len.into()),
        best.depth
    );
    let so = format!(
        "each GiB of weights that does not stay in memory adds at least {per_gib} to every lap{advice}"
    );
    Finding::new("read rate", mark, text, so, value)
}

/// All rates, by depth and length.
pub fn rate_table(rates: &[ReadRate]) -> TextTable {
    let lens = READ_LENS.map(|len| format_size(len.into()));
    let mut table = TextTable::new(["    reads at once", &lens[0], &lens[1], &lens[2]]);
    for depth in DEPTHS {
        let of = |len| {
            rates
                .iter()
                .find(|rate| rate.depth == depth && rate.read_len == len)
        };
        let cells = READ_LENS
            .map(|len| of(len).map_or("–".into(), |rate| format_rate(rate.rate_bytes_per_s)));
        table.row([format!("    {depth}")].into_iter().chain(cells));
    }
    table
}

#[cfg(test)]
pub(super) mod tests;
