//! The optics beside GNPy 3.0.1, case by case. `validation/gnpy_golden.py`
//! writes the golden file; these tests need neither it nor Python.

use delayline_study::optics::amplifier::Amplifier;
use delayline_study::optics::comb::{ChannelGroup, Comb};
use delayline_study::optics::fiber::{Attenuation, Dispersion, OpticalFiber, RamanGain};
use delayline_study::optics::gn::{closed_form_w, from_profile_w};
use delayline_study::optics::lap::delay_s;
use delayline_study::optics::noise::{NoiseModel, Solver, Span, accumulated};
use delayline_study::optics::raman::{Direction, Equations, RamanPump};
use delayline_study::optics::units::{LIGHT_M_PER_S, db, watts};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    origin: String,
    raman_gain: Spectrum,
    closed_form: Noise,
    power_profile: Powers,
    integrated: Integrated,
    ten_spans: TenSpans,
    hybrid: Vec<Hybrid>,
}

#[derive(Deserialize)]
struct Spectrum {
    shift_thz: Vec<f64>,
    m_per_w: Vec<f64>,
    pump_thz: f64,
}

#[derive(Deserialize)]
struct Noise {
    noise_w: Vec<f64>,
}

#[derive(Deserialize)]
struct Powers {
    end_gain: Vec<f64>,
    gain_at_20_km: Vec<f64>,
}

#[derive(Deserialize)]
struct Integrated {
    channels: Vec<usize>,
    noise_w: Vec<f64>,
    end_gain: Vec<f64>,
}

#[derive(Deserialize)]
struct TenSpans {
    snr: Vec<f64>,
    snr_linear: Vec<f64>,
    latency_s: f64,
}

/// A Raman-pumped span with an EDFA behind it.
#[derive(Deserialize)]
struct Hybrid {
    /// Wavelength in nm, power in mW, whether it goes against the channels.
    pumps: Vec<(f64, f64, bool)>,
    launch_dbm: f64,
    channels: Vec<usize>,
    loss_db: Vec<f64>,
    snr_linear: Vec<f64>,
    snr: Vec<f64>,
}

fn golden() -> Golden {
    let golden: Golden = serde_json::from_str(include_str!("golden/gnpy.json")).unwrap();
    assert!(golden.origin.starts_with("gnpy 3.0.1"), "{}", golden.origin);
    golden
}

/// GNPy's default fiber, with its measured spectrum of the Raman gain.
fn fiber(golden: &Golden) -> OpticalFiber {
    let Spectrum {
        shift_thz,
        m_per_w,
        pump_thz,
    } = &golden.raman_gain;
    let reference = 299_792_458e-12 / 1454e-9 / pump_thz;
    let thz_m_per_w = shift_thz
        .iter()
        .zip(m_per_w)
        .map(|(thz, gain)| (*thz, gain * reference))
        .collect();
    OpticalFiber {
        raman_gain: RamanGain::Table { thz_m_per_w },
        ..OpticalFiber::gnpy()
    }
}

fn comb(first_thz: f64, spacing_ghz: f64, channels: usize, symbol_rate_gbd: f64) -> Comb {
    Comb::new(&[ChannelGroup {
        key: "band".into(),
        first_thz,
        spacing_ghz,
        symbol_rate_gbd,
        channels,
    }])
    .unwrap()
}

const WITH_SLOPE: Dispersion = Dispersion::Linear {
    ps_per_nm_km: 17.0,
    slope_ps_per_nm2_km: 0.067,
    reference_nm: 1550.0,
};

fn near_db(what: &str, got: f64, expect: f64, tolerance_db: f64) {
    let apart = db(got / expect);
    assert!(
        apart.abs() <= tolerance_db,
        "{what}: {got:e} is {apart:.4} dB from {expect:e}"
    );
}

#[test]
fn closed_form_gn_over_c_and_l() {
    let golden = golden();
    let fiber = OpticalFiber {
        attenuation: Attenuation::Flat { db_per_km: 0.19 },
        dispersion: WITH_SLOPE,
        ..fiber(&golden)
    };
    let comb = comb(186.1, 100.0, 110, 64.0);
    let powers_w: Vec<f64> = (0..110)
        .map(|i| watts(-2.0 + 5.0 * f64::from(i) / 109.0))
        .collect();
    let noise_w = closed_form_w(&fiber, 60e3, comb.channels(), &powers_w);
    for (channel, (got, expect)) in noise_w.iter().zip(&golden.closed_form.noise_w).enumerate() {
        assert!(
            (got / expect - 1.0).abs() < 1e-6,
            "channel {channel}: {got:e} {expect:e}"
        );
    }
}

/// GNPy takes as much energy from the pump as the signal gains, the program as
/// many photons: over 18 THz the strongest lose up to a tenth less.
#[test]
fn power_profile_over_s_c_and_l() {
    let golden = golden();
    let comb = comb(186.1, 150.0, 120, 130.0);
    let powers_w = vec![watts(2.0); 120];
    let profile = Equations::new(&fiber(&golden), comb.channels()).solve(80e3, &powers_w);
    let at_20_km = profile.z_m.iter().position(|z| *z >= 20e3).unwrap();
    let (z0, z1) = (profile.z_m[at_20_km - 1], profile.z_m[at_20_km]);
    for channel in 0..120 {
        let expect = golden.power_profile.end_gain[channel];
        near_db(
            &format!("end of {channel}"),
            profile.end(channel),
            expect,
            0.2,
        );
        let ln = &profile.ln_gain[channel];
        let (left, right) = (ln[at_20_km - 1], ln[at_20_km]);
        let got = (left + (right - left) * (20e3 - z0) / (z1 - z0)).exp();
        let expect = golden.power_profile.gain_at_20_km[channel];
        near_db(&format!("{channel} at 20 km"), got, expect, 0.15);
    }
}

#[test]
fn gn_integrated_over_a_raman_profile() {
    let golden = golden();
    let fiber = OpticalFiber {
        dispersion: WITH_SLOPE,
        ..fiber(&golden)
    };
    let comb = comb(186.1, 200.0, 56, 130.0);
    let powers_w = vec![watts(4.0); 56];
    let noise_w = from_profile_w(&fiber, 80e3, comb.channels(), &powers_w);
    let profile = Equations::new(&fiber, comb.channels()).solve(80e3, &powers_w);
    let expected = &golden.integrated;
    for (channel, expect) in expected.end_gain.iter().enumerate() {
        near_db(
            &format!("end of {channel}"),
            profile.end(channel),
            *expect,
            0.1,
        );
    }
    for (number, expect) in expected.channels.iter().zip(&expected.noise_w) {
        near_db(
            &format!("noise of {number}"),
            noise_w[number - 1],
            *expect,
            0.1,
        );
    }
}

/// GNPy reckons an amplifier's noise with F·G, the program with F·G − 1; in
/// GNPy the signal pays for the nonlinear noise, which makes more of it in turn.
#[test]
fn ten_spans_with_amplifiers() {
    let golden = golden();
    let comb = comb(191.35, 50.0, 96, 32.0);
    let span = Span {
        fiber: OpticalFiber {
            raman_gain: RamanGain::None,
            ..fiber(&golden)
        },
        length_km: 80.0,
        connector_loss_db: 0.5,
        splitter_loss_db: 0.0,
        pumps: Vec::new(),
        amplifiers: vec![Amplifier {
            noise_figure_db: 5.0,
            max_output_dbm: 25.0,
            max_gain_db: 30.0,
        }],
        model: NoiseModel::Gn,
    };
    let passage = Solver::new(&span, &comb).pass(&vec![watts(0.0); 96]);
    for (channel, noise) in passage.noise.iter().enumerate() {
        let snr = 1.0 / accumulated(noise, 10.0, 0.0, 300.0);
        near_db(
            &format!("SNR of {channel}"),
            snr,
            golden.ten_spans.snr[channel],
            0.06,
        );
        let linear = 1.0 / (10.0 * noise.emission);
        near_db(
            &format!("OSNR of {channel}"),
            linear,
            golden.ten_spans.snr_linear[channel],
            0.05,
        );
    }
    let latency_s = delay_s(800.0, span.fiber.group_index);
    assert!(
        (latency_s / golden.ten_spans.latency_s - 1.0).abs() < 1e-9,
        "{latency_s}"
    );
}

#[test]
fn hybrid_raman_and_edfa_amplifiers() {
    let golden = golden();
    let comb = comb(191.4, 100.0, 48, 64.0);
    for (case, hybrid) in golden.hybrid.iter().enumerate() {
        let pumps = hybrid.pumps.iter().map(|&(nm, mw, is_backward)| RamanPump {
            frequency_hz: LIGHT_M_PER_S / (nm * 1e-9),
            power_w: mw * 1e-3,
            direction: match is_backward {
                true => Direction::Backward,
                false => Direction::Forward,
            },
        });
        let span = Span {
            fiber: fiber(&golden),
            length_km: 100.0,
            connector_loss_db: 0.5,
            splitter_loss_db: 0.0,
            pumps: pumps.collect(),
            amplifiers: vec![Amplifier {
                noise_figure_db: 5.0,
                max_output_dbm: 25.0,
                max_gain_db: 30.0,
            }],
            model: NoiseModel::Profile,
        };
        let passage = Solver::new(&span, &comb).pass(&vec![watts(hybrid.launch_dbm); 48]);
        assert!(passage.settled, "case {case}");
        for (at, number) in hybrid.channels.iter().enumerate() {
            let channel = number - 1;
            let noise = &passage.noise[channel];
            let what = |of: &str| format!("case {case}, {of} of channel {number}");
            let loss_db = passage.loss_db[channel];
            let apart_db = (loss_db - hybrid.loss_db[at]).abs();
            assert!(apart_db < 0.1, "{}: {loss_db}", what("loss"));
            near_db(
                &what("OSNR"),
                1.0 / noise.emission,
                hybrid.snr_linear[at],
                0.1,
            );
            let snr = 1.0 / accumulated(noise, 1.0, 0.0, 300.0);
            near_db(&what("SNR"), snr, hybrid.snr[at], 0.1);
        }
    }
}
