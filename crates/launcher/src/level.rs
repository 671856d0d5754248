//! The processor levels that programs are built for, and the best that a processor runs.

/// A level: the processor features that a program needs. Detection includes whether the
/// operating system saves the registers (XGETBV).
struct Level {
    /// The program is `delayline-NAME`.
    name: &'static str,
    /// Features by their names in `std::is_x86_feature_detected` (on Arm in
    /// `std::arch::is_aarch64_feature_detected`), beyond those of the ABI's level.
    needs: &'static [&'static str],
}

const V2: &[&str] = &["cmpxchg16b", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"];
const V3: &[&str] = &[
    "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave",
];

/// Best first. The ABI's levels do not include integer dot products, which quantised
/// matrix products use; hence the levels with VNNI.
const LEVELS: &[Level] = if cfg!(target_arch = "x86_64") {
    &[
        Level {
            name: "x86-64-v4-vnni",
            needs: &[
                "avx512f",
                "avx512bw",
                "avx512cd",
                "avx512dq",
                "avx512vl",
                "avx512vbmi",
                "avx512vnni",
            ],
        },
        Level {
            name: "x86-64-v3-vnni",
            needs: &["avxvnni"],
        },
        Level {
            name: "x86-64-v3",
            needs: &[],
        },
        Level {
            name: "x86-64-v2",
            needs: &[],
        },
    ]
} else {
    &[Level {
        name: "armv8-a",
        needs: &["neon"],
    }]
};

impl Level {
    fn runs(&self, has: impl Fn(&str) -> bool) -> bool {
        let below: &[&[&str]] = match self.name {
            "x86-64-v2" => &[V2],
            name if name.starts_with("x86-64") => &[V2, V3],
            _ => &[],
        };
        let mut needs = below.iter().copied().flatten().chain(self.needs);
        needs.all(|feature| has(feature))
    }
}

/// The file name of the best program for a processor with the features that `has`
/// confirms, among those that are `there`.
///
/// # Errors
/// A message for a person: the processor is too old, or its program is missing.
pub(crate) fn choose(
    has: impl Fn(&str) -> bool,
    there: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let runs: Vec<&str> = LEVELS
        .iter()
        .filter(|level| level.runs(&has))
        .map(|level| level.name)
        .collect();
    let lowest = LEVELS.last().map_or("", |level| level.name);
    if runs.is_empty() {
        return Err(format!(
            "this processor is too old: delayline needs {lowest} at least (for x86-64, a \
             processor of about 2009 or newer); built from source, it runs on any"
        ));
    }
    let mut files = runs.iter().map(|name| format!("delayline-{name}"));
    files.find(|file| there(file)).ok_or_else(|| {
        format!(
            "no program for this processor is in the launcher's folder: expected delayline-{}; \
             unpack the whole archive",
            runs.join(" or delayline-")
        )
    })
}

/// Whether this processor has a feature that [`LEVELS`] names, and the system lets
/// programs use it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn detected(feature: &str) -> bool {
    macro_rules! known {
        ($($name:tt)*) => { match feature { $($name => std::is_x86_feature_detected!($name),)* _ => false } };
    }
    known! {
        "cmpxchg16b" "popcnt" "sse3" "ssse3" "sse4.1" "sse4.2"
        "avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe" "xsave" "avxvnni"
        "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vbmi" "avx512vnni"
    }
}

/// For Arm only the lowest level is built.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn detected(_feature: &str) -> bool {
    true
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// The features of a processor, of those that levels need.
    fn processor(name: &str) -> Vec<&'static str> {
        let avx512 = LEVELS[0].needs;
        let all = |parts: &[&[&'static str]]| parts.concat();
        match name {
            "core2duo" => vec!["cmpxchg16b", "sse3", "ssse3"],
            "nehalem" => V2.to_vec(),
            "sandy bridge" => all(&[V2, &["avx", "xsave"]]),
            "haswell" => all(&[V2, V3]),
            "skylake-x" => all(&[V2, V3, &avx512[..5]]),
            "ice lake" => all(&[V2, V3, avx512]),
            "alder lake" => all(&[V2, V3, &["avxvnni"]]),
            "sapphire rapids" => all(&[V2, V3, &["avxvnni"], avx512]),
            // A system that does not save the registers of AVX.
            "no xsave" => all(&[V2, &["bmi1", "bmi2", "lzcnt", "movbe"]]),
            other => panic!("unknown: {other}"),
        }
    }

    #[test]
    fn each_processor_gets_its_program() {
        let check = |name: &str, expected: &str| {
            let features = processor(name);
            let chosen = choose(|feature| features.contains(&feature), |_| true);
            assert_eq!(chosen.as_deref(), Ok(expected), "{name}");
        };
        check("nehalem", "delayline-x86-64-v2");
        check("sandy bridge", "delayline-x86-64-v2");
        check("no xsave", "delayline-x86-64-v2");
        check("haswell", "delayline-x86-64-v3");
        check("skylake-x", "delayline-x86-64-v3");
        check("alder lake", "delayline-x86-64-v3-vnni");
        check("ice lake", "delayline-x86-64-v4-vnni");
        check("sapphire rapids", "delayline-x86-64-v4-vnni");
    }

    #[test]
    fn what_is_too_old_or_missing_is_said() {
        let old = processor("core2duo");
        let refused = choose(|feature| old.contains(&feature), |_| true).unwrap_err();
        assert!(refused.contains("too old"), "{refused}");
        let missing = choose(|_| true, |_| false).unwrap_err();
        for level in LEVELS {
            let file = format!("delayline-{}", level.name);
            assert!(missing.contains(&file), "{missing}");
            // Any level that is there will do.
            assert_eq!(choose(|_| true, |name| name == file), Ok(file.clone()));
        }
    }

    #[test]
    fn every_feature_is_known_to_the_detection_and_every_level_is_built() {
        // Both can be asked on every machine.
        assert!(detected("sse3") || !detected("avx512f"));
        let source = include_str!("level.rs");
        let (_, known) = source.split_once("known! {").unwrap();
        let (known, _) = known.split_once('}').unwrap();
        let script = include_str!("../../../scripts/dist");
        for level in LEVELS {
            let built = format!("level {} ", level.name);
            let mut lines = script.lines().map(str::trim_start);
            assert!(lines.any(|line| line.starts_with(&built)), "{built}");
            for feature in [V2, V3, level.needs].concat() {
                assert!(known.contains(&format!("\"{feature}\"")), "{feature}");
            }
        }
    }
}
