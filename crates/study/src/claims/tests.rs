//! The claims of the reference against what it expects, and the turning points
//! against themselves.

use super::*;
use crate::datasheet::SheetKind;
use crate::media::Need;

fn claims() -> (Library, Vec<Claim>) {
    let library = Library::embedded();
    let claims = all(&library).expect("all sheets are there");
    (library, claims)
}

fn computed(claims: &[Claim], number: u32, what: &str) -> Interval {
    let claim = &claims[number as usize - 1];
    assert_eq!(claim.number, number);
    let found = claim.computed.iter().find(|finding| finding.what == what);
    found
        .unwrap_or_else(|| panic!("claim {number} has no {what}: {claim:?}"))
        .value
}

#[test]
fn the_verdicts_are_those_of_the_numbers() {
    let (_, claims) = claims();
    let verdicts: Vec<Verdict> = claims.iter().map(|claim| claim.verdict).collect();
    use Verdict::{Depends, Fails, Holds};
    assert_eq!(
        verdicts,
        [
            Holds, Fails, Fails, Holds, Holds, Fails, Holds, Holds, Holds, Holds, Depends, Fails,
            Holds, Depends, Holds
        ]
    );
}

/// The numbers of `references/fiber.md`, section 5.
#[test]
fn the_numbers_are_those_of_the_reference() {
    let (_, claims) = claims();
    for (number, what, low, high) in [
        (1, "in flight", 31.33e9, 31.35e9),
        (1, "rate", 31.9e12, 32.1e12),
        (5, "half a lap", 0.489e-3, 0.491e-3),
        (6, "one fiber, a year", 0.10, 0.11),
        (6, "one HBM stack, a year", 0.28, 0.29),
        (7, "stacks for the same rate", 20.0, 20.0),
        (7, "they hold", 10e12, 10.5e12),
        (8, "in flight, hollow, at the same rate", 21.3e9, 21.4e9),
        (9, "loops for Llama 3.1 70B", 4.45, 4.55),
        (9, "tokens per second, each, at most", 1020.0, 1022.0),
        // 922.5 TFLOP/s; 16 / 28 + 12 / 14 s a billion parameters; 8 million tokens.
        (
            13,
            "tokens a step from which on one drive keeps up",
            219_600.0,
            219_700.0,
        ),
        (15, "a step", 623.0, 625.0),
        (
            15,
            "days until drives with two copies are worn out",
            26.2,
            26.5,
        ),
    ] {
        let value = computed(&claims, number, what).typical;
        assert!(
            (low..=high).contains(&value),
            "claim {number}, {what}: {value}"
        );
    }
    let keeps = computed(&claims, 2, "DRAM, keeping as much");
    assert!(keeps.high < 5.0, "{keeps}");
    let cheap = computed(&claims, 2, "the loop, if co-packaged optics reached");
    assert!((1.4e3..1.6e3).contains(&cheap.low), "{cheap}");
}

/// Passive laps save the energy of the ends, as `study link` has their rates, and not that
/// of the amplifiers.
#[test]
fn passive_laps_save_ends_and_not_amplifiers() {
    let (library, claims) = claims();
    let design = library.design("hollow-core").expect("it is there");
    let answer = crate::link::answer(&design, &library).expect("it works");
    let items = &answer.cost.items;
    let amplifiers_w: f64 = items[1..].iter().map(|item| item.power_w.typical).sum();
    let best = computed(&claims, 12, "laps at which it takes least").typical;
    let then = answer.typical.by_laps.iter().find(|laps| laps.laps == best);
    let rate = then.expect("it is in the table").net_rate_bit_per_s;
    let energy = library
        .figure("zr800.energy")
        .expect("it is there")
        .value
        .typical;
    let bytes = rate * answer.delay_s.typical / 8.0;
    let expected = (rate * energy / best + amplifiers_w) / bytes * 1e9;
    let got = computed(&claims, 12, "a GB, made anew after those").typical;
    assert!((got / expected - 1.0).abs() < 1e-6, "{got} {expected}");
    let every = computed(&claims, 12, "a GB, made anew in every lap").typical;
    assert!(
        best >= 8.0 && got < every / 4.0,
        "{best} laps: {got} after {every}"
    );
}

#[test]
fn every_input_is_on_a_data_sheet_and_every_turn_turns() {
    let (library, claims) = claims();
    for claim in &claims {
        assert!(
            !claim.inputs.is_empty() && !claim.turns.is_empty(),
            "{claim:?}"
        );
        for path in &claim.inputs {
            library
                .figure(path)
                .unwrap_or_else(|error| panic!("{}: {error}", claim.number));
        }
    }
    // Amplifiers alone cost more than the fiber: cheaper optics cannot turn it.
    assert_eq!(claims[2].turns[1].at, None);
    // What the verdict says about typical values is the other way round beyond.
    for (number, index) in [
        (3, 0),
        (6, 0),
        (7, 0),
        (9, 0),
        (9, 1),
        (8, 0),
        (10, 0),
        (5, 0),
        (13, 0),
        (13, 1),
        (14, 0),
        (14, 2),
        (15, 0),
    ] {
        let claim = &claims[number - 1];
        let turn = &claim.turns[index];
        let at = turn
            .at
            .unwrap_or_else(|| panic!("claim {number} never turns: {turn:?}"));
        let away = |factor: f64| {
            let mut changed = library.clone();
            let value = at * factor;
            // All inputs exact, so that verdicts are sharp.
            for path in &claim.inputs {
                let typical = library.figure(path).expect("it is there").written.typical;
                changed
                    .set(path, Interval::exact(typical))
                    .expect("it can be");
            }
            changed
                .set(&turn.input, Interval::exact(value))
                .expect("it can be");
            all(&changed).expect("all sheets are there")[number - 1].verdict
        };
        let (below, above) = (away(0.99), away(1.01));
        assert_ne!(below, above, "claim {number}, {}: at {at}", turn.input);
    }
}

/// A claim's inputs are exactly the figures that change one of its numbers: each
/// figure of all sheets is made a tenth larger, one after the other.
#[test]
fn the_inputs_are_those_that_decide() {
    let (library, claims) = claims();
    let typical = |claims: &[Claim], index: usize| -> Vec<f64> {
        let findings = claims[index].computed.iter();
        let findings = findings.chain(&claims[index].numbers_said);
        findings.map(|finding| finding.value.typical).collect()
    };
    let paths = SheetKind::ALL
        .into_iter()
        .flat_map(|kind| library.of_kind(kind))
        .flat_map(|sheet| {
            sheet
                .figures
                .keys()
                .map(|key| format!("{}.{key}", sheet.id))
        });
    for path in paths {
        let now = library.figure(&path).expect("it is there").written.typical;
        let mut changed = library.clone().typically();
        // What is counted, or at its limit, goes up or down by one.
        let set = [now * 1.1, now + 1.0, now - 1.0, now / 1.1]
            .into_iter()
            .any(|value| value != now && changed.set(&path, Interval::exact(value)).is_ok());
        assert!(set, "{path}");
        let Ok(after) = all(&changed) else {
            continue; // An expert more than there is room for.
        };
        for (index, claim) in claims.iter().enumerate() {
            let decides = typical(&claims, index) != typical(&after, index);
            let listed = claim.inputs.contains(&path);
            assert_eq!(decides, listed, "claim {}, {path}", claim.number);
        }
    }
}

#[test]
fn a_turning_point_is_found_on_either_side() {
    let library = Library::embedded();
    let price = |library: &Library| Some(library.figure("dram.price").ok()?.written.typical);
    for wanted in [0.01, 3.0, 8.5, 200.0] {
        let turn = turn(&library, "dram.price", "even", |l| Some(price(l)? - wanted))
            .expect("it is there");
        let at = turn.at.expect("it is in reach");
        assert!((at / wanted - 1.0).abs() < 1e-6, "{wanted}: {at}");
    }
    let never = turn(&library, "dram.price", "even", |_| Some(1.0)).expect("it is there");
    assert_eq!(never.at, None);
}

#[test]
fn verdicts_need_the_whole_range() {
    let range = Interval::new;
    assert_eq!(
        less(range(1.0, 2.0, 3.0), range(4.0, 5.0, 6.0)),
        Verdict::Holds
    );
    assert_eq!(
        less(range(4.0, 5.0, 6.0), range(1.0, 2.0, 3.0)),
        Verdict::Fails
    );
    assert_eq!(
        less(range(1.0, 2.0, 5.0), range(4.0, 5.0, 6.0)),
        Verdict::Depends
    );
    assert_eq!(Verdict::Holds.and(Verdict::Depends), Verdict::Depends);
    assert_eq!(Verdict::Depends.and(Verdict::Fails), Verdict::Fails);
}

/// Against the same need, the break-even prices are consistent with sizing.
#[test]
fn at_the_break_even_both_cost_the_same() {
    let (library, claims) = claims();
    let turn = &claims[10].turns[0];
    assert_eq!(turn.input, "dram.price");
    let mut changed = library.clone();
    let at = turn.at.expect("it turns");
    changed
        .set("dram.price", Interval::exact(at))
        .expect("it can be");
    let unit = crate::media::unit(&library, super::list::LOOP).expect("it is there");
    let need = Need {
        bytes: unit.capacity_bytes.typical,
        rate_bytes_per_s: unit.rate_bytes_per_s.typical,
    };
    let price = |id| {
        crate::media::size(&changed, id, need)
            .expect("it can be")
            .price
            .typical
    };
    let (dram, light) = (price("dram"), price(super::list::LOOP));
    assert!((dram / light - 1.0).abs() < 1e-6, "{dram} against {light}");
}

#[test]
fn claims_are_about_loops() {
    let error = about(&Library::embedded(), "dram")
        .expect_err("it is none")
        .to_string();
    assert!(
        error.contains("`dram` is no loop") && error.contains("hollow-core"),
        "{error}"
    );
}
