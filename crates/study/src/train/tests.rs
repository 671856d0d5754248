//! Cases computed by hand, the reference's anchors, and the simulation against the bound.

use super::*;
use crate::datasheet::Library;

fn recipe(name: &str) -> Recipe {
    Recipe::named(name).expect("there is one")
}

/// A billion parameters at one rate, as many tokens as make compute `times` the moving.
fn step(name: &str, times: f64) -> TrainStep {
    let step = TrainStep {
        recipe: recipe(name),
        parameters: 1e9,
        layers: 96,
        tokens: 1.0,
        flop_per_s: 310e9,
        rates: DriveRates::reading(1.5e9),
        memory: 1 << 30,
    };
    let waits = if step.recipe.waits { 1.0 } else { 0.0 };
    let tokens = step.break_even_tokens(waits) * times;
    TrainStep { tokens, ..step }
}

#[test]
fn a_step_moves_what_its_recipe_says() {
    let moved = |name: &str| {
        let recipe = recipe(name);
        let moved = recipe.moved(if recipe.waits { 1.0 } else { 0.0 });
        (moved.bytes(), moved.written)
    };
    assert_eq!(moved("adamw"), (28.0, 12.0));
    assert_eq!(moved("adamw-waits"), (36.0, 16.0));
    assert_eq!(moved("bf16"), (28.0, 14.0));
    assert_eq!(moved("bf16-8bit"), (10.0, 4.0));
    assert_eq!(moved("lora"), (4.0, 0.0));
    let [there, back] = recipe("adamw").passes(0.0);
    assert_eq!((there.bytes(), back.bytes()), (4.0, 24.0));
}

#[test]
fn the_break_even_batch_is_that_of_the_closed_form() {
    // 28 * 310e9 / (6 * 1.5e9), whatever the number of parameters.
    for parameters in [1e8, 1e9, 7e10] {
        let step = TrainStep {
            parameters,
            ..step("adamw", 1.0)
        };
        assert!((step.break_even_tokens(0.0) - 964.4).abs() < 0.1);
        assert!((step.free_tokens(0.0) / step.break_even_tokens(0.0) - 9.0 / 7.0).abs() < 1e-6);
    }
    assert!((step("adamw-waits", 1.0).tokens - 1240.0).abs() < 0.1);
    // 400 TFLOP/s beside 48 GB/s of flash.
    let gpu = TrainStep {
        flop_per_s: 400e12,
        rates: DriveRates::reading(48e9),
        ..step("adamw", 1.0)
    };
    assert!((gpu.break_even_tokens(0.0) - 38_889.0).abs() < 1.0);
    // Reading at 28 and writing at 14, one after the other: 16 / 28 + 12 / 14 s for 1e9.
    let apart = TrainStep {
        rates: DriveRates {
            read: 28e9,
            write: 14e9,
            mixed: 2.0 / (1.0 / 28e9 + 1.0 / 14e9),
        },
        ..gpu
    };
    assert!((apart.moving_s(0.0) - (16.0 / 28.0 + 12.0 / 14.0)).abs() < 1e-6);
}

/// The reference's table: share of max(compute, what is moved).
#[test]
fn updates_that_wait_even_out_the_passes() {
    for (times, fused, best, waiting) in [
        (0.5, 0.98, 0.99, 0.03),
        (0.75, 0.90, 0.96, 0.13),
        (1.0, 0.84, 0.94, 0.22),
        (1.3, 1.0, 1.0, 0.0),
    ] {
        let step = TrainStep {
            layers: 100,
            ..step("adamw", times)
        };
        let ideal_s = step.in_memory_s().max(step.moving_s(0.0));
        let share = |waiting: f64| ideal_s / step.closed_form_s(waiting);
        assert!(
            (share(0.0) - fused).abs() < 0.006,
            "{times}: {}",
            share(0.0)
        );
        let found = f64::from(step.best_waiting()) / 100.0;
        assert!((found - waiting).abs() < 0.015, "{times}: {found}");
        assert!(
            (share(found) - best).abs() < 0.006,
            "{times}: {}",
            share(found)
        );
    }
}

#[test]
fn the_line_moves_what_is_said_and_comes_near_the_bound() {
    for name in Recipe::ALL.map(|recipe| recipe.name) {
        for times in [0.5, 1.0, 1.3] {
            let step = step(name, times);
            let waiting = step.best_waiting();
            let done = simulate_step(&step, waiting).expect("it fits");
            let share = f64::from(waiting) / f64::from(step.layers);
            let bound_s = step.bound_s(waiting);
            assert!(
                done.step_s >= bound_s * (1.0 - 1e-6),
                "{name} {times}: {done:?}, {bound_s}"
            );
            println!("{name} {times}: {:.3} of the bound", bound_s / done.step_s);
            assert!(
                bound_s >= 0.9 * done.step_s,
                "{name} {times}: {done:?}, {bound_s}"
            );
            let most = step.recipe.moved(share);
            assert!(
                done.read_bytes <= most.read * step.parameters * 1.01,
                "{name}: {done:?}"
            );
            let written = most.written * step.parameters;
            assert!(
                (done.written_bytes - written).abs() <= 0.01 * written,
                "{name}: {done:?}"
            );
            assert!(done.stall_s <= done.step_s);
        }
    }
}

#[test]
fn memory_that_is_too_small_is_refused_and_all_of_it_saves_reads() {
    let small = TrainStep {
        memory: 1 << 20,
        ..step("adamw", 1.0)
    };
    let error = simulate_step(&small, 0).expect_err("a layer is larger");
    let TrainError::Memory { needed, .. } = error else {
        panic!("{error}")
    };
    assert!(
        simulate_step(
            &TrainStep {
                memory: needed,
                ..small
            },
            0
        )
        .is_ok()
    );
    let ample = TrainStep {
        memory: 20 << 30,
        ..small
    };
    let done = simulate_step(&ample, 0).expect("it fits");
    assert_eq!(done.read_bytes, 0.0);
    assert!((done.written_bytes / 12e9 - 1.0).abs() < 0.01, "{done:?}");
}

#[test]
fn a_stack_is_as_fast_as_what_moves_it() {
    let tier = |spilled: f64, rate_bytes_per_s: f64| StackTier {
        room: 10e9,
        spilled,
        rate_bytes_per_s,
    };
    // 30 GB at 10 GB/s beside 10 and 20 s: 3 s each way, hidden.
    let seconds = |tiers: &[StackTier]| simulate_stack(tiers, 200, [10.0, 20.0]).expect("it fits");
    let hidden = seconds(&[tier(30e9, 10e9)]);
    assert!((30.0..30.5).contains(&hidden), "{hidden}");
    // At 1 GB/s: 30 s there behind 10 GB that are pushed in 2.5, and 30 back behind 5.
    let slow = seconds(&[tier(30e9, 1e9)]);
    assert!((60.0..70.0).contains(&slow), "{slow}");
    // Side by side the slower one counts.
    let both = seconds(&[tier(30e9, 1e9), tier(30e9, 10e9)]);
    assert!((both / slow - 1.0).abs() < 0.02, "{both} {slow}");
}

#[test]
fn published_networks_are_as_published_and_none_is_slower_with_the_same_memory() {
    let rows = offload_rows(&Library::embedded()).expect("all sheets are there");
    let known: Vec<(f64, Option<f64>, f64)> = rows
        .iter()
        .map(|row| (row.pages, row.flashneuron, row.g10))
        .collect();
    let near = |a: f64, b: f64| (a - b).abs() < 0.006;
    for (pages, flashneuron, g10) in [
        (2.70, Some(1.40), 1.004),
        (4.71, None, 1.023),
        (4.16, Some(1.56), 1.016),
        (5.50, Some(1.88), 1.071),
        (6.62, None, 1.49),
    ] {
        assert!(
            known.iter().any(|one| near(one.0, pages)
                && near(one.2, g10)
                && one.1.is_some() == flashneuron.is_some()),
            "{pages}: {known:?}"
        );
    }
    for row in &rows {
        for [bound, simulated] in [row.flash, row.flash_and_host] {
            assert!((1.0..=simulated * (1.0 + 1e-3)).contains(&bound), "{row:?}");
        }
        assert!(row.flash_and_host[1] <= 1.02 * row.g10, "{row:?}");
        assert!(
            row.flash[1] < row.flashneuron.unwrap_or(row.pages),
            "{row:?}"
        );
    }
}

#[test]
fn flash_lets_one_accelerator_train_what_many_hold() {
    let library = Library::embedded();
    let machine = TrainMachine::of(&library, "b200", "ssd").expect("both are there");
    let model = TrainedModel {
        name: "70B".to_owned(),
        parameters: 70e9,
        layers: 80,
    };
    let all = contenders(&library, &machine, &recipe("adamw"), &model, 8e6).expect("it can be");
    let [memory, many, one] = &all[..] else {
        panic!("{all:?}")
    };
    // 16 bytes of 70e9 in 192 GB each.
    assert_eq!(
        (memory.accelerators, many.accelerators, one.accelerators),
        (6.0, 6.0, 1.0)
    );
    assert_eq!(memory.drives, 0.0);
    assert!(many.drives >= one.drives && one.drives >= 1.0);
    assert!((memory.tokens_per_s.typical / one.tokens_per_s.typical - 6.0).abs() < 1e-9);
    assert!(one.price.typical < memory.price.typical / 4.0);
    // 12 bytes a parameter and step onto all that the drives can take.
    let steps_per_s = one.tokens_per_s.typical / 8e6;
    let life_s = one.drives * 7.68e12 * 1825.0 / (12.0 * 70e9 * steps_per_s);
    let years = one.drives_last_years.expect("they wear").typical;
    assert!((years * 365.25 * 86_400.0 / life_s - 1.0).abs() < 1e-9);
    let error = TrainMachine::of(&library, "b200", "hbf").expect_err("no rate of writing is known");
    assert!(error.to_string().contains("write_rate"), "{error}");
}

/// A clock of nanoseconds would lose what is far shorter than a second, or far longer.
#[test]
fn steps_of_any_length_are_simulated() {
    let usual = step("adamw", 0.7);
    for times in [1e-15, 1e-6, 1.0, 1e6, 1e15] {
        let step = TrainStep {
            flop_per_s: usual.flop_per_s * times,
            rates: DriveRates::reading(1.5e9 * times),
            ..usual
        };
        let waiting = step.best_waiting();
        let took = simulate_step(&step, waiting).expect("it runs").step_s;
        let same = simulate_step(&usual, waiting).expect("it runs").step_s / times;
        assert!((took / same - 1.0).abs() < 1e-3, "{times}: {took} {same}");
        assert!(took >= step.bound_s(waiting) * (1.0 - 1e-6));
    }
}

#[test]
fn a_question_that_contradicts_itself_is_refused_and_memory_elsewhere_is_told() {
    let library = Library::embedded();
    let mut question = TrainQuestion {
        model: TrainedModel {
            name: "1B".to_owned(),
            parameters: 1e9,
            layers: 32,
        },
        recipe: recipe("adamw"),
        tokens: None,
        accelerator: ("lpu".to_owned(), 1),
        drives: ("ssd".to_owned(), 1),
        flop_per_s: None,
        rates: None,
        memory: None,
    };
    let notes = train_report(&library, &question).expect("it can be").notes;
    let told = |notes: &[String]| {
        notes
            .iter()
            .any(|note| note.contains("host's memory, of which"))
    };
    assert!(told(&notes), "{notes:?}");
    question.accelerator.0 = "b200".to_owned();
    let notes = train_report(&library, &question).expect("it can be").notes;
    assert!(!told(&notes), "{notes:?}");
    for (mixed, is_possible) in [(2e9, true), (2.1e9, false)] {
        question.rates = Some(DriveRates {
            read: 5e9,
            write: 1e9,
            mixed,
        });
        assert_eq!(train_report(&library, &question).is_ok(), is_possible);
    }
}
