//! The checks of the field: published figures, each with its origin and its
//! tolerance, against the optics. `tests/optics_gnpy.rs` adds those that GNPy
//! was run for.

use delayline_study::optics::amplifier::Amplifier;
use delayline_study::optics::comb::{Channel, ChannelGroup, Comb};
use delayline_study::optics::fiber::{Attenuation, OpticalFiber, RamanGain};
use delayline_study::optics::gn::{Isrs, closed_form_w, eta_per_w2, from_profile_w};
use delayline_study::optics::lap::delay_s;
use delayline_study::optics::noise::{NoiseModel, Solver, Span, accumulated};
use delayline_study::optics::units::{DB_PER_NEPER, LIGHT_M_PER_S, db, linear, watts};

/// 96 channels of 32 GBd by 50 GHz from 191.35 THz.
fn gnpy_comb() -> Comb {
    Comb::new(&[ChannelGroup {
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
    let (fiber, comb) = (OpticalFiber::gnpy(), gnpy_comb());
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
    let comb = Comb::new(&[ChannelGroup {
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
    let fiber = OpticalFiber {
        raman_gain: RamanGain::None,
        attenuation: Attenuation::Flat { db_per_km: 0.2 },
        ..OpticalFiber::gnpy()
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

fn span(noise_figure_db: f64, connector_loss_db: f64) -> Span {
    Span {
        fiber: OpticalFiber::gnpy(),
        length_km: 80.0,
        connector_loss_db,
        splitter_loss_db: 0.0,
        pumps: Vec::new(),
        amplifiers: vec![Amplifier {
            noise_figure_db,
            max_output_dbm: 25.0,
            max_gain_db: 30.0,
        }],
        model: NoiseModel::Gn,
    }
}

/// GNPy's main example: 76 channels at 0 dBm, 80 km with connectors, an
/// amplifier of 6.62 dB, a transmitter of 40 dB in 0.1 nm; Raman scattering and
/// its tilt are off there.
#[test]
fn golden_main_example_of_gnpy() {
    let comb = Comb::new(&[ChannelGroup {
        key: "band".into(),
        first_thz: 191.3,
        spacing_ghz: 50.0,
        symbol_rate_gbd: 32.0,
        channels: 76,
    }])
    .unwrap();
    let mut span = span(6.62, 0.5);
    span.fiber.raman_gain = RamanGain::None;
    let passage = Solver::new(&span, &comb).pass(&vec![watts(0.0); 76]);
    let near = |what: &str, got: f64, expect: f64| {
        assert!(
            (got - expect).abs() < 0.1,
            "{what}: {got}, expected {expect}"
        );
    };
    // From 32 GHz to 0.1 nm, 12.5 GHz.
    let narrower_db = db(32.0 / 12.5);
    let transmitter_db = 40.0 - narrower_db;
    let noise = &passage.noise[38];
    near("loss", passage.loss_db[38], 17.0);
    let osnr = 1.0 / (noise.emission + linear(-transmitter_db));
    near("OSNR in 0.1 nm", db(osnr) + narrower_db, 33.29);
    let gsnr_db = -db(accumulated(noise, 1.0, 0.0, transmitter_db));
    near("GSNR in 0.1 nm", gsnr_db + narrower_db, 31.17);
    near("GSNR in band", gsnr_db, 27.09);
    let dispersion = span.fiber.dispersion.ps_per_nm_km(LIGHT_M_PER_S / 1550e-9);
    assert!((dispersion * 80.0 - 1336.0).abs() < 0.1, "{dispersion}");
    let latency_s = delay_s(80.0, span.fiber.group_index);
    assert!((latency_s - 0.39e-3).abs() < 0.005e-3, "{latency_s}");
}

/// One span and ten: 80 km without connectors, 5 dB of noise figure.
#[test]
fn golden_laps() {
    let comb = gnpy_comb();
    let mut span = span(5.0, 0.0);
    span.fiber.raman_gain = RamanGain::None;
    for (launch_dbm, expect_db) in [(-2.0, 29.13), (0.0, 28.05)] {
        let passage = Solver::new(&span, &comb).pass(&vec![watts(launch_dbm); 96]);
        let channel = comb
            .channels()
            .iter()
            .position(|c| (c.frequency_hz - 193.7e12).abs() < 1e6);
        let noise = &passage.noise[channel.unwrap()];
        let snr_db = |spans: f64| -db(accumulated(noise, spans, 0.0, 1e3));
        assert!(
            (snr_db(1.0) - expect_db).abs() < 0.1,
            "{launch_dbm}: {}",
            snr_db(1.0)
        );
        assert!((snr_db(1.0) - snr_db(10.0) - 10.0).abs() < 1e-9);
    }
}

/// Where GNPy's own form is the model, the integral over a profile moves the
/// channel's share with itself by design; a brute sum over the plane of both
/// frequencies says how much is right.
#[test]
fn the_integral_over_a_profile_is_the_sum_over_the_plane() {
    let fiber = OpticalFiber {
        raman_gain: RamanGain::None,
        ..OpticalFiber::gnpy()
    };
    let comb = Comb::new(&[ChannelGroup {
        key: "band".into(),
        first_thz: 193.0,
        spacing_ghz: 75.0,
        symbol_rate_gbd: 64.0,
        channels: 3,
    }])
    .unwrap();
    let powers_w = vec![1e-3, 1e-3, 2e-3];
    let got = from_profile_w(&fiber, 80e3, comb.channels(), &powers_w);
    for (i, got_w) in got.iter().enumerate() {
        let expect_w = by_brute_force(&fiber, 80e3, comb.channels(), &powers_w, i);
        let apart_db = db(got_w / expect_w);
        assert!(apart_db.abs() < 0.02, "channel {i}: {apart_db} dB");
    }
}

/// The GN integral of a flat loss as a double sum, self and cross terms only.
fn by_brute_force(
    fiber: &OpticalFiber,
    length_m: f64,
    channels: &[Channel],
    powers_w: &[f64],
    i: usize,
) -> f64 {
    const STEPS: i32 = 1200;
    let channel = &channels[i];
    let alpha = fiber.attenuation_per_m(channel.frequency_hz);
    let beta2 = fiber.beta2_s2_per_m(channel.frequency_hz);
    let end = (-alpha * length_m).exp();
    let mixing = |f1_hz: f64, f2_hz: f64| {
        let mismatch = 4.0 * std::f64::consts::PI.powi(2) * beta2 * f1_hz * f2_hz;
        let numerator = 1.0 + end * end - 2.0 * end * (mismatch * length_m).cos();
        numerator / (alpha * alpha + mismatch * mismatch)
    };
    let mut noise = 0.0;
    for (k, other) in channels.iter().enumerate() {
        let weight = if i == k { 16.0 / 27.0 } else { 32.0 / 27.0 };
        let offset_hz = other.frequency_hz - channel.frequency_hz;
        let (own_hz, other_hz) = (channel.symbol_rate_hz, other.symbol_rate_hz);
        let cell_hz2 = own_hz * other_hz / f64::from(STEPS * STEPS);
        let mut sum = 0.0;
        for a in 0..STEPS {
            let f1_hz = offset_hz + other_hz * ((f64::from(a) + 0.5) / f64::from(STEPS) - 0.5);
            for b in 0..STEPS {
                let f2_hz = own_hz * ((f64::from(b) + 0.5) / f64::from(STEPS) - 0.5);
                if (f1_hz + f2_hz - offset_hz).abs() <= other_hz / 2.0 {
                    sum += mixing(f1_hz, f2_hz) * cell_hz2;
                }
            }
        }
        noise += weight * (powers_w[k] / other_hz).powi(2) * sum;
    }
    fiber.gamma_per_w_m(channel.frequency_hz).powi(2) * powers_w[i] * noise
}

/// Over C and L with Raman scattering the ISRS closed form and the integral over
/// the solved profile are two ways to the same noise. The closed form has one
/// nonlinearity for all channels, which is 0.3 dB off at the edges.
#[test]
fn isrs_gn_is_near_the_integral_over_a_raman_profile() {
    let comb = Comb::new(&[ChannelGroup {
        key: "band".into(),
        first_thz: 186.1,
        spacing_ghz: 100.0,
        symbol_rate_gbd: 96.0,
        channels: 100,
    }])
    .unwrap();
    let noise = |model: NoiseModel| {
        let span = Span {
            model,
            ..span(5.0, 0.0)
        };
        let passage = Solver::new(&span, &comb).pass(&vec![watts(2.0); 100]);
        let of = |noise: &delayline_study::optics::noise::Noise| {
            noise.nonlinear_self + noise.nonlinear_cross
        };
        passage.noise.iter().map(of).collect::<Vec<f64>>()
    };
    let (closed, solved) = (noise(NoiseModel::IsrsGn), noise(NoiseModel::Profile));
    for channel in 0..100 {
        let apart_db = db(closed[channel] / solved[channel]);
        assert!(apart_db.abs() < 0.7, "channel {channel}: {apart_db} dB");
    }
}
