//! The checks of the field: published figures, each with its origin and its
//! tolerance, against the optics. `tests/optics_gnpy.rs` adds those that GNPy
//! was run for.

use delayline_study::optics::comb::{Comb, Group};
use delayline_study::optics::fiber::{Attenuation, Fiber, preset};
use delayline_study::optics::gn::{Isrs, closed_form_w, eta_per_w2, from_profile_w};
use delayline_study::optics::units::{DB_PER_NEPER, LIGHT_M_PER_S, db, linear, watts};

fn gnpy_fiber() -> Fiber {
    preset("gnpy").unwrap().fiber
}

/// 96 channels of 32 GBd by 50 GHz from 191.35 THz.
fn gnpy_comb() -> Comb {
    Comb::new(&[Group {
        key: "band".into(),
        first_thz: 191.35,
        spacing_ghz: 50.0,
        symbol_rate_gbd: 32.0,
        channels: 96,
    }])
    .unwrap()
}

/// GNPy, `gn_model_analytic`: 80 km at 0 dBm with 0.5 dB at each connector.
#[test]
fn golden_closed_form_gn_of_gnpy() {
    let (fiber, comb) = (gnpy_fiber(), gnpy_comb());
    let connector = linear(-0.5);
    let powers_w = vec![watts(0.0) * connector; 96];
    let noise_w = closed_form_w(&fiber, 80e3, comb.channels(), &powers_w);
    let loss = linear(-16.0) * connector;
    let received_w = powers_w[0] * loss;
    assert!((received_w / 1.99526e-5 - 1.0).abs() < 1e-5, "{received_w}");
    for (channel, expect_w) in [(1, 1.05703e-8), (48, 1.68110e-8), (96, 1.19458e-8)] {
        let got_w = noise_w[channel - 1] * loss;
        assert!(
            (got_w / expect_w - 1.0).abs() < 1e-3,
            "channel {channel}: {got_w:e}, expected {expect_w:e}"
        );
    }
}

/// Semrau, Killey, Bayvel: 251 channels over 10 THz, 100 km, no Raman slope.
#[test]
fn golden_isrs_gn() {
    let comb = Comb::new(&[Group {
        key: "band".into(),
        first_thz: 193.414489 - 125.0 * 0.040005,
        spacing_ghz: 40.005,
        symbol_rate_gbd: 40.004,
        channels: 251,
    }])
    .unwrap();
    let reference_hz = comb.channels()[125].frequency_hz;
    let wavelength_m = LIGHT_M_PER_S / reference_hz;
    let (d_s_per_m2, slope_s_per_m3) = (17e-6, 67.0);
    let per_omega = wavelength_m * wavelength_m / (2.0 * std::f64::consts::PI * LIGHT_M_PER_S);
    let span = Isrs {
        alpha_per_m: 0.2e-3 / DB_PER_NEPER,
        alpha_bar_per_m: 0.2e-3 / DB_PER_NEPER,
        raman_slope_per_w_m_hz: 0.0,
        gamma_per_w_m: 1.2e-3,
        beta2_s2_per_m: -d_s_per_m2 * per_omega,
        beta3_s3_per_m: per_omega * per_omega * (slope_s_per_m3 + 2.0 * d_s_per_m2 / wavelength_m),
        reference_hz,
        span_m: 100e3,
    };
    let powers_w = vec![1e-3; 251];
    let eta = eta_per_w2(&span, comb.channels(), &powers_w, 1, true);
    for (index, expect_db) in [(0, 27.711), (125, 30.324), (250, 29.087)] {
        let got_db = db(eta[index]);
        assert!(
            (got_db - expect_db).abs() < 0.02,
            "index {index}: {got_db} dB, expected {expect_db}"
        );
    }
}

/// Without Raman scattering the integral over a profile is the GN model whose
/// closed form is an approximation within a few tenths of a decibel.
#[test]
fn the_integral_over_a_profile_is_near_the_closed_form() {
    let fiber = Fiber {
        raman_gain: delayline_study::optics::fiber::RamanGain::None,
        attenuation: Attenuation::Flat { db_per_km: 0.2 },
        ..gnpy_fiber()
    };
    let comb = gnpy_comb();
    let powers_w = vec![1e-3; 96];
    let closed = closed_form_w(&fiber, 80e3, comb.channels(), &powers_w);
    let solved = from_profile_w(&fiber, 80e3, comb.channels(), &powers_w);
    for (index, (a, b)) in closed.iter().zip(&solved).enumerate() {
        let apart_db = db(b / a);
        assert!(apart_db.abs() < 0.3, "channel {index}: {apart_db} dB");
    }
}
