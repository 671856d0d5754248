//! What a fiber loop holds, and the advice in the error where that is too little.

use delayline_fiber::{LoopSpec, SpecBuilder};
use delayline_medium::Rng;

#[test]
fn the_article_s_loop_has_its_figures() {
    // Reference: 256 Tb/s over 200 km at group index 1.468.
    let spec = LoopSpec {
        overhead: 0.0,
        ..LoopSpec::new(200.0, 256e12)
    };
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-4, "{a} {b}");
    close(spec.lap_s(), 979.34e-6);
    close(spec.gross_bytes(), 31.339e9);
    close(spec.net_bytes_per_s(), 32e12);
}

#[test]
fn what_does_not_fit_is_refused_and_the_advice_is_good() {
    let mut rng = Rng::new(9);
    for case in 0..300 {
        let spec = LoopSpec {
            overhead: rng.below(50) as f64 / 100.0,
            loops: 1 + rng.below(4) as u32,
            guard_s: rng.below(3) as f64 * 1e-7,
            ..LoopSpec::new(
                1.0 + rng.below(10_000) as f64,
                1e9 * (1 + rng.below(1000)) as f64,
            )
        };
        let pieces = 1 + rng.below(100);
        let most = ((spec.lap_s() - pieces as f64 * spec.guard_s) * spec.net_bytes_per_s()) as u64;
        assert!(spec.check_fits(most, pieces).is_ok(), "case {case}, seed 9");
        let bytes = most + 2 + rng.below(2 * most);
        let refusal = spec
            .check_fits(bytes, pieces)
            .expect_err("more than fits")
            .to_string();
        let advice = |key: &str| {
            let (_, rest) = refusal.split_once(key)?;
            rest.split([',', ' ', ';']).next().map(str::to_owned)
        };
        let mut tried = 0;
        for key in ["length", "rate", "loops"] {
            if let Some(value) = advice(&format!("{key}=")) {
                let mut other = SpecBuilder::from_spec(spec.clone());
                other
                    .set(key, &value)
                    .unwrap_or_else(|error| panic!("{refusal}: {error}"));
                let other = other.build().unwrap();
                assert!(
                    other.check_fits(bytes, pieces).is_ok(),
                    "{key}: {refusal}, case {case}"
                );
                tried += 1;
            }
        }
        assert_eq!(tried, 3, "{refusal}");
    }
}
