//! `delayline inspect` with a real model.

mod common;

use common::*;

#[test]
fn the_figures_of_a_budget_belong_together() {
    let args = "inspect --threads 1 --ctx 256 --memory 84MiB --rate 1GB/s --json";
    let output = delayline(args, &[&model()]);
    let objects = objects(&output);
    assert_eq!(objects.len(), 1, "{output:?}");
    let found = &objects[0];
    let whole = number(found, "/model/weight_bytes");
    let types = found["tensors"].as_array().expect("there are types");
    let sum: f64 = types.iter().map(|t| number(t, "/bytes")).sum();
    assert_eq!(sum, whole);

    let at = |name: &str| number(found, &format!("/at/{name}"));
    assert_eq!(at("budget_bytes"), 84.0 * 1048576.0);
    let accounts = found["at"]["accounts"].as_array().expect("there are some");
    let spent: f64 = accounts.iter().map(|entry| number(entry, "/bytes")).sum();
    assert_eq!(spent, at("budget_bytes"), "{accounts:?}");
    // Since what is left is what the others leave, the sum alone could not be wrong.
    let left = accounts
        .iter()
        .find(|entry| entry["account"] == "not spent");
    let left = number(left.expect("what is left is named"), "/bytes");
    assert!(left < 4.0 * 4096.0, "{accounts:?}");
    let sum = at("resident_weights_bytes") + at("bytes_per_lap");
    assert!((sum - whole).abs() < 0.02 * whole, "{found}");
    assert!(at("extents/count") > 1.0 && at("runs") > 1.0, "{found}");
    // No lap beats the drive.
    assert!(
        at("predicted/lap_s") >= at("bytes_per_lap") / 1e9,
        "{found}"
    );
    assert!(number(found, "/native_from_bytes") > whole, "{found}");

    let budgets = found["budgets"].as_array().expect("there is a table");
    assert_eq!(budgets.len(), 5);
    assert!(
        budgets.iter().any(|row| row["needs_bytes"].is_u64()),
        "{found}"
    );
    assert!(
        budgets
            .iter()
            .all(|row| row["needs_bytes"].is_u64() != row["works"].is_object())
    );
}

#[test]
fn a_plan_is_written_for_the_study() {
    let dir = tempfile::tempdir().expect("a folder");
    let plan = dir.path().join("plan.json");
    let plan = plan.to_str().expect("it is text");
    let budget = "--threads 1 --ctx 256 --memory 84MiB";
    let output = delayline(
        &format!("inspect {budget} --json --plan {plan}"),
        &[&model()],
    );
    let streams = number(&objects(&output)[0], "/at/bytes_per_lap");
    for (feed, bytes_per_s) in [
        ("--rate 1GB/s --latency-us 100", 1e9),
        ("--rate 2GB/s --turn-ms 60", 2e9),
    ] {
        let args = format!("study decode --plan {plan} {feed} --compute-ms 5 --json");
        let output = delayline(&args, &[]);
        let said = &objects(&output)[0]["rows"][0];
        // The embedding row of a token is small against all layers.
        let passing = number(said, "/passing_bytes");
        assert!((passing / streams - 1.0).abs() < 1e-3, "{said}");
        let lap_s = number(said, "/lap_s/typical");
        assert!(lap_s >= streams / bytes_per_s && lap_s < 0.13, "{said}");
    }
    let args = format!("inspect --threads 1 --ctx 256 --memory 40MiB --plan {plan}");
    let output = delayline(&args, &[&model()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.contains("smallest budget that works"),
        "{complaint}"
    );
}

#[test]
fn a_budget_too_small_is_no_failure_here() {
    let output = delayline("inspect --threads 1 --ctx 256 --memory 40MiB", &[&model()]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in [
        "40.0 MiB is too small",
        "smallest that works",
        "q4_1",
        "extents",
        "everything fits",
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let output = delayline("inspect", &["no/such/model.gguf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no/such/model.gguf"), "{output:?}");
}
