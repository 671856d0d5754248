//! The budget is kept: measured from outside, by the cgroup that the real program runs in,
//! with everything that the kernel counts.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use delayline_engine::cap::Cap;
use delayline_synth::{Arch, Experts, Quant, Shape};
use delayline_testing::cannot_run;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// What the peak may exceed the budget by.
const TOLERANCE: u64 = MIB;

/// More than three of the micro-batches below.
const PROMPT: &str = "In the first computers, a bit was a pulse of sound in a tube of mercury. It was \
    sent in at one end, arrived at the other some hundred microseconds later, and was sent in again. \
    A thousand bits were under way at once, and whoever wanted one of them waited until it came by.";

/// A copy of the program, of which no other cgroup has pages in the page cache: they count
/// for the cgroup that reads them first.
struct Program {
    dir: TempDir,
    path: PathBuf,
}

impl Program {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("delayline");
        fs::copy(env!("CARGO_BIN_EXE_delayline"), &path).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        Self { dir, path }
    }

    /// Runs the model inside `cap`.
    fn run(&self, cap: &Cap, model: &Path, budget: u64, args: &[&str]) -> Output {
        let dropped = Command::new("dd")
            .arg(format!("if={}", self.path.display()))
            .args(["iflag=nocache", "count=0", "status=none"])
            .status();
        assert!(
            dropped.unwrap().success(),
            "the program's page cache is dropped"
        );
        let mut command = cap.command(&self.path);
        command
            .arg("run")
            .arg(model)
            .args(["--memory", &budget.to_string(), "--json"]);
        command
            .args(["--ctx", "256", "-n", "4", "--temp", "0", "-p", PROMPT])
            .args(args);
        command.output().unwrap()
    }
}

/// A cap; where there can be none, prints why.
fn cap(limit_bytes: u64) -> Option<Cap> {
    Cap::new(limit_bytes)
        .inspect_err(|error| cannot_run(format!("no memory cgroup can be made: {error}")))
        .ok()
}

/// Asserts that the run succeeded, with several laps, and streamed or not as expected.
fn check_output(label: &str, output: &Output, is_streamed: bool) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{label}: {}: {stderr}",
        output.status
    );
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout
        .lines()
        .last()
        .unwrap_or_else(|| panic!("{label}: no output: {stderr}"));
    let report: serde_json::Value = serde_json::from_str(last).expect("an object at the end");
    assert!(
        report["generated_tokens"].as_u64().is_some_and(|n| n >= 1),
        "{label}: {report}"
    );
    assert!(
        report["prompt_tokens"].as_u64().is_some_and(|n| n > 48),
        "{label}: {report}"
    );
    assert_eq!(
        report["model"]["is_streamed"], is_streamed,
        "{label}: {report}"
    );
}

/// Runs with a cap of twice the budget and of exactly the budget.
fn check(program: &Program, model: &Path, budget: u64, is_streamed: bool, args: &[&str]) {
    let label = format!(
        "{} in {} MiB {args:?}",
        model.file_stem().unwrap().display(),
        budget as f64 / MIB as f64
    );
    let Some(wide) = cap(2 * budget) else { return };
    let output = program.run(&wide, model, budget, args);
    check_output(&label, &output, is_streamed);
    assert_eq!((wide.oom_kills(), wide.swapped_bytes()), (0, 0), "{label}");
    if let Some(peak) = wide.peak_bytes() {
        let left = budget as f64 / MIB as f64 - peak as f64 / MIB as f64;
        let cached = wide.cached_bytes() as f64 / MIB as f64;
        println!("{label}: the peak is {left:.2} MiB below the budget, {cached:.2} MiB are cached");
        // Its output says what the memory was spent on.
        assert!(
            peak <= budget + TOLERANCE,
            "{label}: {left:.2} MiB left, {cached:.2} MiB in the page cache\n{}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    let Some(tight) = cap(budget) else { return };
    check_output(
        &label,
        &program.run(&tight, model, budget, args),
        is_streamed,
    );
    assert_eq!(
        (tight.oom_kills(), tight.swapped_bytes()),
        (0, 0),
        "{label}: capped"
    );
}

/// The smallest budget that works, by the error for one that is too small.
fn smallest(program: &Program, model: &Path, args: &[&str]) -> Option<u64> {
    let output = program.run(&cap(512 * MIB)?, model, 2 * MIB, args);
    assert!(!output.status.success(), "2 MiB are not enough");
    let message = String::from_utf8_lossy(&output.stderr);
    let (_, rest) = message
        .split_once("needs at least ")
        .unwrap_or_else(|| panic!("{message}"));
    let mib: u64 = rest
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    Some(mib * MIB)
}

/// One at a time: two on two cores only wait for each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_demo_model_keeps_every_budget() {
    let (_alone, program, model) = (alone(), Program::new(), PathBuf::from(common::model()));
    let several = ["--ubatch", "16"];
    let Some(least) = smallest(&program, &model, &several) else {
        return;
    };
    check(&program, &model, least, true, &several);
    for budget in [85, 90, 100, 120] {
        check(&program, &model, budget * MIB, true, &several);
    }
    // One row a lap.
    check(
        &program,
        &model,
        90 * MIB,
        true,
        &["--ubatch", "1", "--threads", "1"],
    );
}

#[test]
fn the_smallest_budget_works_with_the_defaults() {
    let (_alone, program, model) = (alone(), Program::new(), PathBuf::from(common::model()));
    let Some(least) = smallest(&program, &model, &[]) else {
        return;
    };
    check(&program, &model, least, true, &[]);
}

const SHAPE: Shape = Shape {
    name: "medium",
    arch: Arch::Llama,
    n_layers: 10,
    n_embd: 2048,
    n_ff: 5632,
    n_heads: 16,
    n_kv_heads: 4,
    head_dim: 128,
    vocab: 32_000,
    context: 4096,
    tied: false,
    rope_freq_base: 1e4,
    rope_factors: false,
    rms_eps: 1e-5,
    window: None,
    experts: None,
};

/// Half of a model of this shape.
fn check_half(shape: &Shape) {
    let (_alone, program) = (alone(), Program::new());
    let model = program.dir.path().join(format!("{}.gguf", shape.name));
    let bytes = delayline_synth::write(shape, Quant::Q4_0, 1, &model, &mut |_, _| {})
        .unwrap()
        .bytes;
    assert!((200 * MIB..500 * MIB).contains(&bytes), "{bytes}");
    check(&program, &model, bytes / 2, true, &["--ubatch", "16"]);
}

#[test]
fn half_of_a_dense_model_is_kept() {
    check_half(&SHAPE);
}

#[test]
fn half_of_a_mixture_of_experts_is_kept() {
    let experts = Some(Experts {
        count: 32,
        used: 4,
        n_ff: 768,
    });
    let moe = Shape {
        name: "experts",
        arch: Arch::Qwen3Moe,
        n_layers: 8,
        n_embd: 1024,
        experts,
        ..SHAPE
    };
    check_half(&Shape {
        n_heads: 8,
        n_kv_heads: 2,
        ..moe
    });
}

#[test]
fn everything_in_memory_keeps_the_budget_too() {
    let (_alone, program, model) = (alone(), Program::new(), PathBuf::from(common::model()));
    let inspected = Command::new(&program.path)
        .args(["inspect", "--json", "--memory", "1GiB", "--ctx", "256"])
        .arg(&model)
        .output()
        .unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&inspected.stdout).expect("an object");
    let from = facts["native_from_bytes"].as_u64().expect("a number");
    // Two processes measure themselves a little differently.
    check(&program, &model, from + MIB, false, &[]);
}
