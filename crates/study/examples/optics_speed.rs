//! Times the optics for `bench/optics`: one line, `NAME SECONDS`, the best of
//! several rounds. Run it with one thread, as that script does.

use std::time::Instant;

use delayline_study::datasheet::Library;
use delayline_study::interval::Corner;
use delayline_study::link::{Design, line};
use delayline_study::optics::comb::{ChannelGroup, Comb};
use delayline_study::optics::fiber::{Dispersion, OpticalFiber};
use delayline_study::optics::gn::{closed_form_w, from_profile_w};
use delayline_study::optics::units::watts;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("link") => time("link", 5, || link(Some(-3.0))),
        Some("optimised-link") => time("optimised-link", 3, || link(None)),
        Some("closed-form") => time("closed-form", 20, closed_form),
        Some("integrated") => time("integrated", 5, integrated),
        _ => {
            eprintln!("expected one of: link, optimised-link, closed-form, integrated");
            std::process::exit(2);
        }
    }
}

/// The best time of some rounds: what the machine can do when it is left alone.
fn time(name: &str, rounds: u32, work: impl Fn() -> f64) {
    let round = |_| {
        let start = Instant::now();
        let result = std::hint::black_box(work());
        assert!(result.is_finite(), "{name} gave {result}");
        start.elapsed().as_secs_f64()
    };
    println!("{name} {}", (0..rounds).map(round).fold(f64::MAX, f64::min));
}

/// 500 channels over C, L and S, ten spans of 80 km.
fn link(launch_dbm: Option<f64>) -> f64 {
    let bands = [
        ("L", "edfa", 184.6, 170),
        ("C", "edfa", 191.2, 115),
        ("S", "tdfa", 195.8, 215),
    ];
    let mut text = String::from(
        "name = 'speed'\nfiber = 'smf'\ntransceiver = 'zr400'\nspans = 10\nspan_km = 80.0\n",
    );
    for (name, amplifier, first_thz, channels) in bands {
        text += &format!(
            "[[band]]\nname = '{name}'\namplifier = '{amplifier}'\nfirst_thz = {first_thz}\nchannels = {channels}\nspacing_ghz = 37.5\nsymbol_rate_gbd = 35.0\nmax_output_dbm = 27.0\n"
        );
        if let Some(dbm) = launch_dbm {
            text += &format!("launch_dbm = {dbm:?}\n");
        }
    }
    let design = Design::parse(&text).expect("the design is right");
    let line = line(&design, &Library::embedded(), Corner::Typical).expect("so is the line");
    line.solve().expect("it can be solved").net_rate_bit_per_s
}

fn comb(first_thz: f64, spacing_ghz: f64, channels: usize, symbol_rate_gbd: f64) -> Comb {
    let group = ChannelGroup {
        key: "band".into(),
        first_thz,
        spacing_ghz,
        symbol_rate_gbd,
        channels,
    };
    Comb::new(&[group]).expect("the comb is right")
}

/// GNPy's `gn_model_analytic` on 96 channels and ten spans.
fn closed_form() -> f64 {
    let comb = comb(191.35, 50.0, 96, 32.0);
    let powers_w = vec![watts(0.0); 96];
    let span = || closed_form_w(&OpticalFiber::gnpy(), 80e3, comb.channels(), &powers_w)[48];
    (0..10).map(|_| span()).sum()
}

/// GNPy's `ggn_spectrally_separated` over a Raman profile: 56 channels, of which
/// GNPy computes seven and the program all.
fn integrated() -> f64 {
    let fiber = OpticalFiber {
        dispersion: Dispersion::Linear {
            ps_per_nm_km: 17.0,
            slope_ps_per_nm2_km: 0.067,
            reference_nm: 1550.0,
        },
        ..OpticalFiber::gnpy()
    };
    let comb = comb(186.1, 200.0, 56, 130.0);
    from_profile_w(&fiber, 80e3, comb.channels(), &vec![watts(4.0); 56])[28]
}
