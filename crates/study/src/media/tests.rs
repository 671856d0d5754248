//! Golden facts of the reference, and the arithmetic of sizing.

use super::*;

fn near(got: f64, expected: f64, tolerance: f64) {
    assert!(
        (got / expected - 1.0).abs() <= tolerance,
        "{got} is not {expected} within {tolerance}"
    );
}

/// `references/fiber.md`, check 1: 256 Tb/s, 200 km, group index 1.468.
#[test]
fn the_articles_loop_holds_31_gb_for_979_microseconds() {
    let library = Library::embedded();
    let unit = unit(&library, "said-loop").expect("it is embedded");
    let lap_s = unit.lap_s.expect("it goes round").typical;
    near(lap_s, 979.34e-6, 1e-4);
    near(unit.capacity_bytes.typical, 31.339e9, 1e-4);
    near(unit.rate_bytes_per_s.typical, 32e12, 1e-12);
    near(unit.latency_s.typical, lap_s / 2.0, 1e-12);
    assert!(unit.capacity_bytes.low < 31.339e9 && unit.capacity_bytes.high > 31.339e9);
}

/// The same with hollow core: 21.4 GB (claim 8).
#[test]
fn hollow_core_holds_a_third_less() {
    let library = Library::embedded();
    let index = library
        .figure("hollow.group_index")
        .expect("it is embedded");
    let delay = delay_s(Interval::exact(200e3), index.value);
    near(delay.typical * 32e12, 21.4e9, 5e-3);
}

/// Claims 2 and 3: 1.4 kW to 12.8 kW and $1.0M to $2.6M of optics, $0.7k to $7k of fiber.
#[test]
fn light_is_paid_for_all_the_time() {
    let mut library = Library::embedded();
    library
        .set("said-loop.rate", Interval::exact(256.0))
        .expect("it can be");
    let zr = unit(&library, "said-loop").expect("it is embedded");
    near(zr.parts[0].power_w.high, 12.8e3, 1e-9);
    near(zr.parts[0].price.low, 1.024e6, 1e-9);
    near(zr.parts[0].price.high, 2.56e6, 1e-9);
    near(zr.parts[2].price.low, 740.0, 1e-9);
    near(zr.parts[2].price.high, 7000.0, 1e-9);
    library
        .add("t", "[said-loop]\ntransceiver = 'cpo'")
        .expect("it can be");
    let cpo = unit(&library, "said-loop").expect("it is embedded");
    near(cpo.parts[0].power_w.low, 1.4336e3, 1e-9);
    assert_eq!(cpo.energy_j_per_bit, Interval::exact(0.0));
}

/// Claim 7: 32 TB/s is 20 stacks of High Bandwidth Flash, which hold 10 TB.
#[test]
fn twenty_stacks_of_flash_feed_what_the_loop_feeds() {
    let need = Need {
        bytes: 31.339e9,
        rate_bytes_per_s: 32e12,
    };
    let hbf = size(&Library::embedded(), "hbf", need).expect("it is embedded");
    assert_eq!(hbf.units.typical, 20.0);
    assert_eq!(hbf.units_to_hold.typical, 1.0);
    near(hbf.capacity_bytes.typical, 10.24e12, 1e-12);
}

#[test]
fn the_greater_of_both_needs_decides() {
    let library = Library::embedded();
    // One DDR5 module: 64 GB and 51.2 GB/s.
    for (bytes, rate, units) in [
        (64e9, 0.0, 1.0),
        (64.1e9, 0.0, 2.0),
        (1.0, 51.2e9, 1.0),
        (1.0, 512e9, 10.0),
        (640e9, 512e9, 10.0),
    ] {
        let need = Need {
            bytes,
            rate_bytes_per_s: rate,
        };
        let sized = size(&library, "dram", need).expect("it is embedded");
        assert_eq!(sized.units.typical, units, "{bytes} at {rate}");
        assert_eq!(sized.delivered_j_per_bit.is_some(), rate > 0.0);
    }
}

#[test]
fn univac_waits_222_microseconds() {
    let unit = unit(&Library::embedded(), "univac").expect("it is embedded");
    near(unit.latency_s.typical, 222e-6, 1e-9);
    near(unit.capacity_bytes.typical, 11375.0, 1e-9);
}

/// A loop as it was said has its amplifiers at any length: where the light is lost between
/// them, that is told, and what was said itself is not blamed.
#[test]
fn a_said_loop_too_long_for_its_amplifiers_is_told() {
    let marks = |id: &str, length_km: f64| {
        let mut library = Library::embedded();
        let path = format!("{id}.length");
        let set = library.set(&path, Interval::exact(length_km));
        set.expect("it is a length");
        unit(&library, id).expect("it is embedded").marks
    };
    // 25 dB at 0.2 dB a kilometre, three times.
    assert!(marks("said-loop", 200.0).is_empty() && marks("said-loop", 374.0).is_empty());
    let told = marks("said-loop", 376.0);
    assert!(told[0].contains("3 sites") && told[0].contains("over 376 km 25 dB"));
    assert!(marks("orbit", 200_000.0).is_empty());
}

#[test]
fn what_is_no_need_or_no_medium_is_named() {
    let library = Library::embedded();
    let size = |id: &str, bytes, rate_bytes_per_s| {
        let need = Need {
            bytes,
            rate_bytes_per_s,
        };
        size(&library, id, need).expect_err(id).to_string()
    };
    assert!(size("dram", 0.0, 1.0).contains("the size to hold is 0"));
    assert!(size("dram", f64::NAN, 1.0).contains("above 0 bytes"));
    assert!(size("dram", 1.0, -1.0).contains("the rate to feed is -1"));
    assert!(size("paper", 1.0, 1.0).contains("`paper` is no medium"));
    assert!(size("h100", 1.0, 1.0).contains("hbm4"));
}

#[test]
fn one_medium_is_compared_with_none() {
    let need = Need {
        bytes: 31e9,
        rate_bytes_per_s: 0.0,
    };
    let told = report(&Library::embedded(), need, &["dram".to_owned()]).expect("it is embedded");
    assert!(
        told.answer.starts_with("It takes 1 of DDR5, for $"),
        "{}",
        told.answer
    );
}
