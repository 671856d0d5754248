//! The simulation against the closed form, and the rules of `mod.rs`.

use super::*;
use crate::media;

fn near(got: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (got / expected - 1.0).abs() <= tolerance,
        "{what}: {got} is not {expected} within {tolerance}"
    );
}

fn on_demand(rate_bytes_per_s: f64, latency_s: f64) -> SimulatedFeed {
    SimulatedFeed::OnDemand {
        rate_bytes_per_s,
        latency_s,
        depth: 4096,
    }
}

/// A case of the library with one sequence and no context, without losses: as many
/// accelerators as take what comes, and ideal software.
fn case(library: &Library, model: &str, accelerator: &str, medium: &str) -> Case {
    let one = Accelerator::of(library, accelerator).expect("it is embedded");
    let accelerator = match medium {
        "own" => one,
        _ => one.times(100),
    };
    let unit = match medium {
        "own" => accelerator.own_memory(library).expect("it has some"),
        _ => media::unit(library, medium).expect("it is embedded"),
    };
    Case {
        model: LanguageModel::of(library, model).expect("it is embedded"),
        accelerator,
        software: Software::ideal(),
        unit,
        units: 0,
        feed_bytes_per_s: 0.0,
        batch: 1,
        context: 0,
        window_bytes: None,
        resident_bytes: 0,
        compute_s: None,
        plan: None,
    }
}

/// Even extents, no latency, a window that is small against the lap: there the
/// closed form is exact.
#[test]
fn the_line_runs_at_the_roofline_where_that_is_exact() {
    for rate in [1e3, 2.8e9, 32e12] {
        for of_medium in [0.0, 0.3, 0.9, 1.1, 3.0] {
            let window_bytes = 8 << 20;
            let course = Course::even(40, 2e9, 0.0, window_bytes, 0);
            let bytes = course.weights_bytes() as f64;
            let machine = SimulatedMachine {
                feed: on_demand(rate, 0.0),
                compute_s: of_medium * bytes / rate,
            };
            let lap = simulate(&machine, &course, 2).expect("it runs");
            let roof = Roofline::new(machine.compute_s, bytes, rate, 0.0, window_bytes as f64);
            near(
                lap.lap_s,
                roof.lap_s(),
                1e-4,
                &format!("{rate} {of_medium}"),
            );
            near(lap.streamed_bytes, bytes, 1e-12, "each byte once");
            let stall_s = (roof.medium_s - roof.compute_s).max(0.0);
            assert!(
                (lap.stall_s - stall_s).abs() <= 1e-3 * roof.lap_s(),
                "{rate} {of_medium}"
            );
        }
    }
}

/// The program's own loop, laid out by its own coding: a lap takes whole turns of
/// it, the closed form of a loop. Even courses and such as are searched for.
#[test]
fn a_lap_on_a_loop_takes_whole_turns() {
    for is_even in [true, false] {
        for (compute, turns) in [(0.1, 1.0), (0.8, 1.0), (1.5, 2.0), (1.8, 2.0), (2.6, 3.0)] {
            let mut course = Course::even(12, 96.0 * 65_536.0, 0.0, 12 * 65_536, 0);
            course.is_even = is_even;
            let turn_s = course.weights_bytes() as f64 / 1e9;
            let machine = SimulatedMachine {
                feed: SimulatedFeed::ComesBy {
                    turn_s,
                    rate_bytes_per_s: 1e9,
                    latency_s: 0.0,
                },
                compute_s: compute * turn_s,
            };
            let lap = simulate(&machine, &course, 24).expect("it runs");
            let what = format!("{compute} turns of compute, even: {is_even}");
            near(lap.lap_s, turns * turn_s, 1e-2, &what);
            near(
                lap.streamed_bytes,
                course.weights_bytes() as f64,
                1e-12,
                &what,
            );
        }
    }
}

/// A plan as the program has it: what is asked for on the way waits, what stays
/// does not pass, and a loop carries the rest.
#[test]
fn a_plan_of_the_program_is_run() {
    let page = 4096;
    let extent = |index: u64, stays| PlannedExtent {
        part: (index % 2) as u16,
        offset: index * 64 * page,
        bytes: 64 * page,
        stays,
    };
    let run = |needs: &[u32], asks_bytes| PlannedRun {
        needs: needs.to_vec(),
        compute: 1.0,
        asks_bytes,
    };
    let file = PlanFile {
        delayline_plan: 1,
        model: "four extents".to_owned(),
        window_bytes: 128 * page,
        read_bytes: 16 * page as u32,
        depth: 32,
        extents: (0..4).map(|index| extent(index, index == 2)).collect(),
        runs: vec![run(&[0], 612), run(&[1], 0), run(&[], 0), run(&[3], 0)],
    };
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("plan.json");
    let text = serde_json::to_string(&file).expect("it is plain");
    std::fs::write(&path, &text).expect("it is writable");
    let planned = PlanFile::read(&path).expect("it is sound").planned();
    let streamed = 3.0 * 64.0 * page as f64;
    assert_eq!(planned.course.streamed_bytes(), streamed + page as f64);

    let library = Library::embedded();
    let mut ask = CaseOptions {
        measured: Some(MeasuredMedium {
            rate_bytes_per_s: 1e9,
            latency_s: 5e-3,
            turn_s: None,
        }),
        plan: Some(Arc::new(planned)),
        compute_s: Some(1e-6),
        ..CaseOptions::default()
    };
    let decoded = |ask: &CaseOptions| {
        let case = ask.case(&library, "plan", "h100", "measured", 1);
        decode(&library, &case.expect("it is one")).expect("it runs")
    };
    let lap = decoded(&ask);
    assert_eq!(lap.passing_bytes, streamed + page as f64);
    // The row is asked for when the window is full already: it shows a latency.
    assert!(
        (5e-3..12e-3).contains(&lap.lap_s.typical),
        "{:?}",
        lap.lap_s
    );
    ask.measured = Some(MeasuredMedium {
        rate_bytes_per_s: 1e9,
        latency_s: 0.0,
        turn_s: Some(2e-3),
    });
    let lap = decoded(&ask);
    near(
        lap.lap_s.typical,
        1e-3,
        1e-6,
        "half a turn: it is there twice",
    );
    assert_eq!((lap.turns, lap.copies), (Some(1), Some(2)));
}

/// Whatever stays need not pass: exact again, to one extent.
#[test]
fn what_stays_does_not_pass() {
    let window_bytes = 8 << 20;
    let bytes = Course::even(40, 2e9, 0.0, window_bytes, 0).weights_bytes();
    for share in [0.25, 0.5, 0.75] {
        let course = Course::even(40, 2e9, 0.0, window_bytes, (share * bytes as f64) as u64);
        let machine = SimulatedMachine {
            feed: on_demand(1e9, 0.0),
            compute_s: 0.1,
        };
        let lap = simulate(&machine, &course, 2).expect("it runs");
        near(
            lap.streamed_bytes,
            (1.0 - share) * bytes as f64,
            1e-2,
            "streamed",
        );
        near(lap.lap_s, lap.streamed_bytes / 1e9, 1e-3, "lap");
    }
}

/// A window that holds less than rate times latency is the limit, and no lap
/// beats any of the bounds.
#[test]
fn no_lap_beats_the_roofline() {
    let window_bytes = 8 << 20;
    for latency_s in [0.0, 1e-6, 1e-4, 1e-2] {
        for chosen in [0.0, 5e7] {
            for compute_s in [0.0, 0.1] {
                let course = Course::even(20, 2e8, chosen, window_bytes, 0);
                let machine = SimulatedMachine {
                    feed: on_demand(2e9, latency_s),
                    compute_s,
                };
                let lap = simulate(&machine, &course, 2).expect("it runs");
                let window = window_bytes as f64;
                let roof = Roofline::new(compute_s, lap.streamed_bytes, 2e9, latency_s, window);
                let what = format!("{latency_s} {chosen} {compute_s}: {lap:?} {roof:?}");
                assert!(lap.lap_s >= roof.lap_s() * (1.0 - 1e-6), "{what}");
                if chosen == 0.0 {
                    // At most what a full and an empty window differ by.
                    assert!(lap.lap_s <= 1.2 * (roof.lap_s() + compute_s), "{what}");
                }
            }
        }
    }
}

/// The choice of experts cannot be read ahead: each layer waits a latency.
#[test]
fn every_router_shows_the_latency() {
    let window_bytes = 64 << 20;
    let lap_s = |latency_s| {
        let course = Course::even(50, 1e9, 1e9, window_bytes, 0);
        let machine = SimulatedMachine {
            feed: on_demand(1e11, latency_s),
            compute_s: 0.0,
        };
        simulate(&machine, &course, 2).expect("it runs").lap_s
    };
    let shown = lap_s(1e-4) - lap_s(0.0);
    assert!(shown >= 50.0 * 1e-4 * 0.99, "{shown}");
}

/// `references/fiber.md`, claim 9: a model of 141 GB takes 4.5 loops, and a
/// sequence gets one token a lap, 1,021 a second.
#[test]
fn a_loop_gives_one_token_a_turn() {
    let library = Library::embedded();
    let decoded =
        decode(&library, &case(&library, "llama-70b", "b200", "said-loop")).expect("it runs");
    assert_eq!(decoded.medium.units.typical, 5.0);
    near(decoded.tokens_per_s.typical, 1021.1, 1e-3, "tokens/s");
    assert_eq!((decoded.turns, decoded.copies), (Some(1), Some(1)));
    near(decoded.of_roofline, 1.0, 1e-3, "of roofline");
    assert!(decoded.stall_share > 0.8, "{}", decoded.stall_share);
    assert!(decoded.tokens_per_s.low <= 1021.0 && decoded.tokens_per_s.high >= 1021.0);
}

/// A small model fits several times, and comes by as often.
#[test]
fn a_model_that_fits_twice_comes_by_twice() {
    let library = Library::embedded();
    let mut case = case(&library, "llama-8b", "b200", "said-loop");
    // 31.3 GB hold 16.06 GB once, and two loops hold it three times.
    for (units, copies) in [(1, 1), (2, 3)] {
        case.units = units;
        let decoded = decode(&library, &case).expect("it runs");
        assert_eq!(decoded.copies, Some(copies), "{units}");
        near(
            decoded.tokens_per_s.typical,
            1021.1 * f64::from(copies),
            1e-3,
            "tokens/s",
        );
    }
}

/// A compute longer than a turn takes whole turns.
#[test]
fn compute_takes_whole_turns() {
    let library = Library::embedded();
    let mut case = case(&library, "llama-70b", "b200", "said-loop");
    for (compute_s, turns) in [(0.5e-3, 1), (0.97e-3, 1), (1.3e-3, 2), (2.9e-3, 3)] {
        case.compute_s = Some(compute_s);
        let decoded = decode(&library, &case).expect("it runs");
        assert_eq!(decoded.turns, Some(turns), "{compute_s}");
        near(
            decoded.lap_s.typical,
            f64::from(turns) * 979.34e-6,
            2e-3,
            "lap",
        );
    }
}

/// At batch 1 a loop carries all experts past for the few that are needed.
#[test]
fn a_loop_carries_all_experts_for_the_chosen_few() {
    let library = Library::embedded();
    let mut case = case(&library, "deepseek-v3", "b200", "said-loop");
    let alone = decode(&library, &case).expect("it runs");
    near(alone.passing_bytes, 672.97e9, 1e-3, "passing");
    near(alone.needed_share, 37.7e9 / 672.97e9, 0.02, "needed");
    assert_eq!(alone.distinct_experts, Some(8.0));
    case.batch = alone.certain_from_batch.expect("it is a mixture");
    let together = decode(&library, &case).expect("it runs");
    assert!(together.needed_share > 0.98, "{}", together.needed_share);
    let mut case = super::tests::case(&library, "deepseek-v3", "b200", "hbf");
    case.feed_bytes_per_s = 32e12;
    let chosen = decode(&library, &case).expect("it runs");
    near(chosen.passing_bytes, 37.7e9, 0.02, "chosen");
}

#[test]
fn its_own_memory_runs_at_its_own_rate() {
    let library = Library::embedded();
    let mut case = case(&library, "llama-8b", "h100", "own");
    let peak = 3.35e12 / 15.0e9;
    let decoded = decode(&library, &case).expect("it runs");
    near(decoded.tokens_per_s.typical, peak, 0.02, "tokens/s");
    case.software = Software::of(&library, "tuned").expect("it is embedded");
    let decoded = decode(&library, &case).expect("it runs");
    let reached = decoded.tokens_per_s.typical / peak;
    assert!((0.4..0.85).contains(&reached), "{reached}");
    near(decoded.of_roofline, reached, 0.02, "of the bound");
    let error = Accelerator::of(&library, "lpu")
        .expect("it is embedded")
        .own_memory(&library);
    assert!(matches!(error, Err(DecodeError::NoMemory(_))));
}

#[test]
fn a_measured_machine_can_be_given() {
    let library = Library::embedded();
    let mut case = case(&library, "llama-8b", "h100", "dram");
    let exact = Interval::exact;
    case.model = LanguageModel::plain("file", 30, 98e6);
    case.unit = Unit::plain("disk", "disk", exact(1e12), exact(2e9), exact(1e-4));
    case.window_bytes = Some(8 << 20);
    case.resident_bytes = 30_000_000;
    case.compute_s = Some(10e-3);
    let decoded = decode(&library, &case).expect("it runs");
    near(decoded.lap_s.typical, 68e6 / 2e9, 0.03, "lap");
    assert!(decoded.lap_s.is_exact());
}

/// Where all weights fit the window nothing passes, and only compute is left.
#[test]
fn a_model_that_the_chip_holds_only_computes() {
    let library = Library::embedded();
    for medium in ["said-loop", "edsac", "hbf"] {
        let mut case = case(&library, "llama-8b", "wse3", medium);
        let decoded = decode(&library, &case).expect("it runs");
        assert_eq!(decoded.passing_bytes, 0.0, "{medium}");
        near(decoded.of_roofline, 1.0, 1e-3, medium);
        assert_eq!(decoded.limit, Limit::Compute, "{medium}");
        // Whatever was measured, no lap is shorter than what its parts take.
        case.compute_s = Some(0.0);
        let ideal = decode(&library, &case).expect("it runs");
        let chip = &case.accelerator;
        let arithmetic_s = case.flop() / chip.compute_flop_per_s.typical;
        let read_s = case.model.needed_bytes(1) / chip.sram_bytes_per_s.typical;
        let least_s = arithmetic_s.max(read_s);
        near(ideal.lap_s.typical, least_s, 1e-3, medium);
    }
}

/// A window that cuts a lap into more pieces than can be simulated is refused, with the
/// least that can; one of that size is simulated.
#[test]
fn a_window_too_small_to_simulate_is_refused_with_the_least_that_is_not() {
    let library = Library::embedded();
    let mut case = case(&library, "llama-8b", "b200", "hbf");
    case.window_bytes = Some(1 << 16);
    let error = decode(&library, &case)
        .expect_err("too many pieces")
        .to_string();
    let least = super::course::least_window(case.model.needed_bytes(1));
    assert!(error.contains("or more, because"), "{error}");
    case.window_bytes = Some(least.max(WINDOW_MIN));
    decode(&library, &case).expect("few enough");
}

/// What is asked of an accelerator's own memory and means nothing to it is told.
#[test]
fn options_without_effect_are_told() {
    let library = Library::embedded();
    let grid = CaseGrid {
        models: vec!["llama-8b".to_owned()],
        accelerators: vec!["b200".to_owned()],
        media: vec!["own".to_owned()],
        batches: vec![1],
    };
    let notes = |ask: &CaseOptions| {
        let told = report(&library, ask, &grid, false).expect("it runs").notes;
        told.join(" ")
    };
    assert!(!notes(&CaseOptions::default()).contains("changes nothing"));
    let ask = CaseOptions {
        window_bytes: Some(1 << 30),
        feed_bytes_per_s: 8e12,
        ..CaseOptions::default()
    };
    assert!(notes(&ask).contains("--window, --feed changes nothing there"));
}

#[test]
fn what_cannot_be_is_named() {
    let library = Library::embedded();
    let mut good = case(&library, "llama-70b", "h100", "said-loop");
    good.accelerator = Accelerator::of(&library, "h100").expect("it is embedded");
    let refused = |change: &dyn Fn(&mut Case), part: &str| {
        let mut case = good.clone();
        change(&mut case);
        let error = decode(&library, &case).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&|c| c.batch = 0, "the batch is 0");
    refused(&|c| c.window_bytes = Some(1), "the window is 1 bytes");
    refused(
        &|c| c.compute_s = Some(f64::NAN),
        "the compute time is NaN s",
    );
    refused(
        &|c| c.resident_bytes = 1 << 60,
        "the size of the weights that stay is",
    );
    refused(
        &|c| (c.batch, c.context) = (100, 8192),
        "at most a batch of 29 fits with this context",
    );
    refused(
        &|c| (c.batch, c.context, c.resident_bytes) = (20, 8192, 40_000_000_000),
        "at most a batch of 14 fits with this context",
    );
    refused(
        &|c| c.resident_bytes = 90_000_000_000,
        "weights of 90.00 GB are to stay, but NVIDIA H100 SXM holds 80.00 GB",
    );
    refused(
        &|c| c.window_bytes = Some(90_000_000_000),
        "a window of 90.000 GB has no room: beside what stays, NVIDIA H100 SXM has 80.000 GB",
    );
}

/// An accelerator of which neither power nor price is published: what a token takes and
/// costs is at least that of the medium, is called so, and is never the best.
#[test]
fn what_is_not_published_of_an_accelerator_is_left_out_and_said() {
    let library = Library::embedded();
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let mut grid = CaseGrid {
        models: ids(&["llama-8b"]),
        accelerators: ids(&["lpu3", "lpu"]),
        media: ids(&["hbf"]),
        batches: vec![1],
    };
    let told = report(&library, &CaseOptions::default(), &grid, false).expect("it runs");
    let cost = &told.tables[1];
    let column = |head| {
        cost.heads
            .iter()
            .position(|one| one == head)
            .expect("it is there")
    };
    for head in ["a token", "a million tokens"] {
        let at = column(head);
        assert!(!cost.is_text(at), "numbers stand to the right");
        assert!(cost.rows[0][at].starts_with("at least "), "{:?}", cost.rows);
        assert!(
            !cost.rows[1][at].starts_with("at least "),
            "{:?}",
            cost.rows
        );
        assert!(cost.best.contains(&(1, at)) && !cost.best.contains(&(0, at)));
    }
    let note = "Groq 3 LPU: no power and no price is published.";
    assert!(
        told.notes.iter().any(|one| one.starts_with(note)),
        "{:?}",
        told.notes
    );
    assert!(told.answer.contains("cost least from"), "{}", told.answer);
    grid.accelerators.truncate(1);
    let told = report(&library, &CaseOptions::default(), &grid, false).expect("it runs");
    assert!(
        told.answer.ends_with("; what a token costs is not known."),
        "{}",
        told.answer
    );
}

/// 140 GB of a 141 GB model stay on one accelerator: no faster than its memory reads
/// them, where leaving them out gave 16,200 tokens a second.
#[test]
fn resident_weights_are_read_from_memory() {
    let library = Library::embedded();
    let ask = CaseOptions {
        resident_bytes: 138_000_000_000,
        software: "ideal".to_owned(),
        ..CaseOptions::default()
    };
    let case = ask.case(&library, "llama-70b", "b200", "hbf", 1);
    let decoded = decode(&library, &case.expect("it is one")).expect("it runs");
    let all = 138.9e9 / 8e12;
    near(decoded.lap_s.typical, all, 0.02, "the memory's own rate");
    // A flash stack behind a window in memory is as fast as the stack, not as its cache.
    let ask = CaseOptions {
        feed_bytes_per_s: 3.2e12,
        ..ask
    };
    let ask = CaseOptions {
        resident_bytes: 0,
        ..ask
    };
    let case = ask.case(&library, "llama-70b", "b200", "hbf", 1);
    let decoded = decode(&library, &case.expect("it is one")).expect("it runs");
    near(decoded.lap_s.typical, 139e9 / 3.2e12, 0.05, "two stacks");
}
