//! No result is above the roofline of any part of its machine: random machines from a
//! fresh, printed seed, which `SEED` gives again.

use fastrand::Rng;

use super::*;

const MACHINES: u32 = 24;

fn pick<'a>(random: &mut Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(..of.len())]
}

/// A machine of anything that there is, with figures that nobody chose to fit together.
fn random_case(library: &Library, random: &mut Rng) -> (String, Case) {
    let models = [
        "llama-8b",
        "llama-70b",
        "qwen3-235b",
        "gpt-oss-120b",
        "deepseek-v3",
    ];
    let chips = [
        "h100", "b200", "mi300x", "b300", "r200", "lpu", "wse3", "lpu3",
    ];
    let media = ["own", "dram", "hbm4", "hbf", "ssd", "article", "orbit"];
    let model = pick(random, &models);
    let weights = LanguageModel::of(library, model)
        .expect("it is there")
        .weights_bytes;
    let ask = CaseOptions {
        context: [0, 100, 8192][random.usize(..3)],
        accelerators: [0, 1, 2, 8, 300][random.usize(..5)],
        software: pick(random, &["tuned", "server", "ideal"]).to_owned(),
        units: random.u32(..20),
        feed_bytes_per_s: [0.0, 1e11, 64e12][random.usize(..3)],
        window_bytes: match random.u32(..3) {
            0 => Some(10f64.powf(7.0 + 4.0 * random.f64()) as u64),
            _ => None,
        },
        resident_bytes: match random.u32(..3) {
            0 => 0,
            _ => (weights * 0.999 * random.f64()) as u64,
        },
        compute_s: [None, None, Some(1e-9), Some(0.1)][random.usize(..4)],
        ..CaseOptions::default()
    };
    let batch = [1, 4, 64][random.usize(..3)];
    let (chip, medium) = (pick(random, &chips), pick(random, &media));
    let what = format!("{model} on {chip} from {medium}, batch {batch}: {ask:?}");
    match ask.case(library, model, chip, medium, batch) {
        Ok(case) => (what, case),
        // Of the memory that it does not have.
        Err(DecodeError::NoMemory(_)) => {
            let case = ask.case(library, model, chip, "hbf", batch);
            (what, case.expect("the sheets are there"))
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn no_result_beats_capacity_bandwidth_or_energy_of_any_part() {
    let library = Library::embedded();
    let mut random = Rng::with_seed(delayline_testing::seed());
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..MACHINES {
        let (what, case) = random_case(&library, &mut random);
        let decoded = match decode(&library, &case) {
            Ok(decoded) => decoded,
            Err(
                DecodeError::Context { .. }
                | DecodeError::Resident { .. }
                | DecodeError::Window { .. }
                | DecodeError::Line(_),
            ) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        ran += 1;
        check_bounds(&case, &decoded, &format!("{what}: {decoded:?}"));
    }
    println!("{ran} ran, {refused} had no room");
    assert!(ran >= MACHINES / 5, "only {ran} of {MACHINES} ran");
}

fn check_bounds(case: &Case, decoded: &Decoded, what: &str) {
    let chip = &case.accelerator;
    let lap_s = decoded.lap_s.low * (1.0 + 1e-6);
    let own = case.is_own();
    let window = decoded.window.map_or(0.0, |window| window.bytes as f64);
    // Capacity: everything that is near lies somewhere.
    let stays = match own {
        true => case.model.weights_bytes,
        false => case.resident_bytes as f64,
    };
    let room = chip.sram_bytes.high + chip.memory.map_or(0.0, |(bytes, _)| bytes.high);
    assert!(stays + case.kv_bytes() + window <= room, "capacity: {what}");
    // The medium holds what does not stay.
    let held = case.model.weights_bytes - stays;
    assert!(decoded.medium.capacity_bytes.high >= held, "held: {what}");
    // Arithmetic.
    let flop = 2.0 * case.model.active_parameters * f64::from(case.batch);
    assert!(
        lap_s >= flop / chip.compute_flop_per_s.high,
        "arithmetic: {what}"
    );
    // Bandwidth of the medium, and of what it passes through.
    let passing = decoded.passing_bytes;
    let medium_rate = match own {
        true => case.unit.rate_bytes_per_s.high,
        false => decoded.medium.rate_bytes_per_s.high,
    };
    assert!(
        lap_s >= passing / medium_rate,
        "medium: {} of {what}",
        lap_s / (passing / medium_rate)
    );
    let near_rate = chip.sram_bytes_per_s.high + chip.memory.map_or(0.0, |(_, rate)| rate.high);
    assert!(lap_s >= passing / near_rate, "window: {what}");
    if let Some(Window {
        place: WindowPlace::Memory,
        ..
    }) = decoded.window
    {
        let (_, rate) = chip.memory.expect("a window lies in it");
        assert!(
            lap_s >= 2.0 * passing / rate.high,
            "window in memory: {what}"
        );
    }
    // What the lap needs, wherever it is from, and the context.
    let needed = case.model.needed_bytes(case.batch) + case.kv_bytes();
    let home = chip.home().1.high;
    let all = match own {
        true => home,
        false => near_rate + medium_rate,
    };
    assert!(lap_s >= needed * (1.0 - 1e-3) / all, "everything: {what}");
    assert!(lap_s >= case.kv_bytes() / home, "context: {what}");
    // Energy: nothing is read or kept for less than it takes.
    let bits = passing * 8.0 / f64::from(case.batch);
    let read_j = bits * case.unit.energy_j_per_bit.low;
    let kept_j = (decoded.medium.standby_w.low + chip.power_w.low) * lap_s / f64::from(case.batch);
    let joules = decoded.joules_per_token.low * (1.0 + 1e-6);
    assert!(
        joules >= read_j.max(kept_j * (1.0 - 1e-5)),
        "energy: {what}"
    );
    // The bound that is printed is one.
    assert!(
        decoded.of_roofline <= 1.0 + 1e-6,
        "closed form: {} of {what}",
        decoded.of_roofline
    );
}
