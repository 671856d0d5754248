//! Helpers for the tests of all crates: seeds, tests that cannot run on a machine, models
//! with more metadata, and an HTTP server.
#![forbid(unsafe_code)]

pub mod http;

use std::fmt::Display;
use std::io::{self, Write};

/// Reports that the calling test cannot run on this machine, and why. The caller
/// returns after it.
///
/// A test that did not run must not look like one that passed. So the reason is
/// printed directly to standard error, which the test harness does not capture, and in
/// continuous integration (`CI=true`), where everything has to run, the test fails.
///
/// ```
/// # fn mounted() -> Result<(), std::io::Error> { Ok(()) }
/// if let Err(error) = mounted() {
///     delayline_testing::cannot_run(format!("no file system can be mounted: {error}"));
///     return;
/// }
/// ```
///
/// # Panics
/// In continuous integration.
pub fn cannot_run(why: impl Display) {
    lacks_data(&why);
    assert!(
        !must_run(std::env::var("CI").ok().as_deref()),
        "cannot run: {why}; with CI=true every test must run"
    );
}

/// As [`cannot_run`], for a test of recorded data that nobody can fetch: it is skipped aloud in
/// continuous integration as well.
pub fn lacks_data(why: impl Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Standard error may be closed.
    _ = writeln!(io::stderr(), "SKIPPED {test}: {why}");
}

/// A fresh seed, or the one in `SEED`. It is printed, so that the test harness shows it
/// when a case fails.
///
/// # Panics
/// If `SEED` is not a whole number.
pub fn seed() -> u64 {
    let now = || {
        let since = std::time::UNIX_EPOCH.elapsed();
        since.expect("the clock is past 1970").as_nanos() as u64
    };
    let given = std::env::var("SEED");
    let seed = given.map_or_else(
        |_| now(),
        |seed| seed.parse().expect("SEED is a whole number"),
    );
    println!("SEED={seed}");
    seed
}

/// Whether this value of `CI` means that every test must run.
fn must_run(ci: Option<&str>) -> bool {
    !matches!(ci, None | Some("" | "0" | "false"))
}

/// A number in a GGUF file's metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetadataNumber {
    /// A 32-bit unsigned integer.
    U32(u32),
    /// A 32-bit floating-point number.
    F32(f32),
}

impl From<u32> for MetadataNumber {
    fn from(number: u32) -> Self {
        Self::U32(number)
    }
}

impl From<f32> for MetadataNumber {
    fn from(number: f32) -> Self {
        Self::F32(number)
    }
}

/// The bytes of a GGUF file whose alignment is 32 bytes, with `numbers` added to its
/// metadata.
pub fn with_numbers<N>(file: &[u8], numbers: &[(&str, N)]) -> Vec<u8>
where
    N: Into<MetadataNumber> + Copy,
{
    let (u32_type, f32_type, text_type) = (4_u32, 6_u32, 8_u32);
    let mut more = Vec::new();
    let mut key = |key: &str, kind: u32, value: &[u8]| {
        more.extend((key.len() as u64).to_le_bytes());
        more.extend(key.as_bytes());
        more.extend(kind.to_le_bytes());
        more.extend(value);
        more.len()
    };
    for (name, number) in numbers {
        match (*number).into() {
            MetadataNumber::U32(number) => key(name, u32_type, &number.to_le_bytes()),
            MetadataNumber::F32(number) => key(name, f32_type, &number.to_le_bytes()),
        };
    }
    // A string that pads the addition to a multiple of the alignment, so that the tensors
    // stay aligned.
    let len = key("general.filler", text_type, &[]) + 8;
    let filler = len.next_multiple_of(32) - len;
    more.extend((filler as u64).to_le_bytes());
    more.resize(more.len() + filler, b'x');
    // The number of keys follows magic, version and the number of tensors.
    let keys = u64::from_le_bytes(file[16..24].try_into().expect("8 bytes"));
    let keys = keys + numbers.len() as u64 + 1;
    [&file[..16], &keys.to_le_bytes(), &more, &file[24..]].concat()
}

#[cfg(test)]
mod tests {
    use super::must_run;

    #[test]
    fn in_continuous_integration_every_test_must_run() {
        for (ci, expect) in [
            (None, false),
            (Some(""), false),
            (Some("0"), false),
            (Some("false"), false),
            (Some("true"), true),
            (Some("1"), true),
        ] {
            assert_eq!(must_run(ci), expect, "{ci:?}");
        }
    }
}
