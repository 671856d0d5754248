//! `delayline doctor`: what this machine can do for streaming, each finding with its
//! consequence. Drives are measured by the medium crate; what llama.cpp and the cgroup say
//! is passed in.

mod judge;
mod training;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use delayline_medium::{ScratchFile, findings, mixed_rates, read_rates};
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::built;
use crate::output::Output;

/// Facts about this process from the crates that run models.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// What llama.cpp's kernels were built for, in its words: `AVX2 = 1 | ...`.
    pub kernels: Option<String>,
    /// The glibc that this program needs at least.
    pub glibc: Option<String>,
    /// The memory cgroup.
    pub cgroup: Option<CgroupMemory>,
}

/// The memory that a cgroup allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupMemory {
    pub is_v2: bool,
    pub limit_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
}

/// Bytes of the file written to measure in a directory.
const SCRATCH_BYTES: u64 = 512 << 20;
const READ_LENS: [u32; 3] = [128 << 10, 1 << 20, 4 << 20];
const DEPTHS: [usize; 3] = [1, 8, 32];
const EACH: Duration = Duration::from_millis(300);

/// Writes among 100 operations: all, and as in the pass of a training step that updates what
/// it reads.
const WRITTEN_PERCENTS: [u32; 2] = [100, 50];
/// Time of measurement for each of them.
const EACH_MIXED: Duration = Duration::from_millis(600);

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    Mind,
    Bad,
}

impl Mark {
    fn sign(self) -> char {
        match self {
            Self::Good => '✓',
            Self::Mind => '!',
            Self::Bad => '✗',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Mind => "mind",
            Self::Bad => "bad",
        }
    }
}

/// One fact about the machine, and its consequence.
#[derive(Clone, Debug)]
struct Finding {
    name: &'static str,
    mark: Mark,
    /// The fact, for people.
    text: String,
    /// Its consequence, for people.
    so: String,
    /// The fact, for programs.
    value: Value,
}

impl Finding {
    fn new(
        name: &'static str,
        mark: Mark,
        text: impl Into<String>,
        so: impl Into<String>,
        value: Value,
    ) -> Self {
        Self {
            name,
            mark,
            text: text.into(),
            so: so.into(),
            value,
        }
    }

    fn print(&self, output: &Output) -> Result<()> {
        let Self {
            name,
            mark,
            text,
            so,
            value,
        } = self;
        output.line(format!("{} {name}: {text}\n    {so}", mark.sign()))?;
        output.object(&json!({
            "command": "doctor", "finding": name, "mark": mark.word(), "text": text, "so": so, "value": value,
        }))?;
        Ok(())
    }
}

/// Examines the machine and `args.path`, and prints each finding as it comes.
///
/// # Errors
/// When the path cannot be examined, or something is so bad that streaming
/// cannot work.
pub fn run(args: &DoctorArgs, given: &Given, output: &Output) -> Result<()> {
    let mut bad = Vec::new();
    let mut tell = |finding: Finding| {
        if finding.mark == Mark::Bad {
            bad.push(finding.name);
        }
        finding.print(output)
    };
    // First, so that a path that does not exist is reported before anything else.
    let drive = drive(&args.path)?;
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    tell(judge::kernel(read("/proc/sys/kernel/osrelease").trim()))?;
    tell(judge::program(
        built::LEVEL,
        built::text(),
        given.glibc.as_deref(),
    ))?;
    tell(judge::cpu(&read("/proc/cpuinfo"), given.kernels.as_deref()))?;
    tell(judge::free_memory(&read("/proc/meminfo")))?;
    tell(judge::cgroup(given.cgroup))?;
    for finding in drive {
        tell(finding)?;
    }
    output.note("measuring how fast it reads ...");
    let scratch = match args.path.is_dir() {
        true => Some(ScratchFile::write(&args.path, SCRATCH_BYTES)?),
        false => None,
    };
    let file = scratch.as_ref().map_or(&*args.path, ScratchFile::path);
    let rates = read_rates(file, 0, &READ_LENS, &DEPTHS, EACH)?;
    tell(judge::read_rate(&rates))?;
    output.line(judge::rate_table(&rates))?;
    let Some(scratch) = scratch else {
        tell(training::not_written(&args.path))?;
        return verdict(&bad);
    };
    output.note("measuring how fast it writes ...");
    let written = mixed_rates(&scratch, &WRITTEN_PERCENTS, EACH_MIXED)?;
    drop(scratch);
    tell(training::write_rate(&written))?;
    tell(training::step(
        args.params,
        args.endurance,
        &rates,
        &written,
    ))?;
    verdict(&bad)
}

/// Fails if any finding is bad.
fn verdict(bad: &[&str]) -> Result<()> {
    if !bad.is_empty() {
        bail!("streaming cannot work well here: see {}", bad.join(", "));
    }
    Ok(())
}

/// The findings about a file or folder.
fn drive(path: &Path) -> Result<Vec<Finding>> {
    let found = if path.is_dir() {
        let in_dir = || -> std::io::Result<_> {
            let file = tempfile::Builder::new()
                .prefix(".delayline-doctor-")
                .tempfile_in(path)?;
            // Not sparse, and on the drive: holes would not be read from it.
            fs::write(file.path(), vec![1; 4 << 20])?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let file = in_dir().with_context(|| {
            format!(
                "{}: cannot write a file to examine; name a model instead",
                path.display()
            )
        })?;
        findings(file.path())?
    } else {
        findings(path)?
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Ok(vec![
        judge::file_system(&found.file_system),
        judge::direct_io(found.direct_io),
        judge::io_uring(&found.io_uring),
        judge::locked_memory(found.locked_memory_bytes, &status),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_examined_and_left_as_it_was() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let names: Vec<&str> = drive(dir.path())?
            .iter()
            .map(|finding| finding.name)
            .collect();
        assert_eq!(
            names,
            ["file system", "direct I/O", "io_uring", "locked memory"]
        );
        assert_eq!(fs::read_dir(dir.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn a_path_that_is_not_there_is_said() {
        let error = drive(Path::new("no/such/file")).expect_err("is not there");
        assert!(format!("{error:#}").contains("no/such/file"), "{error:#}");
    }
}
