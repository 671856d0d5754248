//! Tests of designs: what is refused and how, what is answered.

use super::*;
use crate::datasheet::Library;
use crate::interval::Corner;
use crate::interval::Interval;

/// A design of one C band, with a line of it replaced.
fn design(replace: &str, with: &str) -> String {
    let text = r#"
name = "test"
fiber = "smf"
transceiver = "zr400"
spans = 2
span_km = 80.0
signal.fec = "ofec"
[[band]]
name = "C"
amplifier = "edfa"
first_thz = 191.4
channels = 48
spacing_ghz = 100.0
symbol_rate_gbd = 90.0
launch_dbm = 1.0
"#;
    assert!(text.contains(replace), "{replace}");
    text.replace(replace, with)
}

fn refusal(text: &str) -> String {
    let outcome = Design::parse(text)
        .map_err(Error::from)
        .and_then(|design| answer(&design, &Library::embedded()));
    match outcome {
        Err(error) => error.to_string(),
        Ok(_) => panic!("not refused: {text}"),
    }
}

#[test]
fn what_cannot_be_is_refused_by_key_value_and_range() {
    let cases: [(&str, &str, &[&str]); 20] = [
        (
            "span_km = 80.0",
            "span_km = -80.0",
            &["span_km = -80", "0.001 to 1000 km"],
        ),
        (
            "span_km = 80.0",
            "span_km = nan",
            &["span_km = NaN", "0.001 to 1000 km"],
        ),
        (
            "span_km = 80.0",
            "span_km = \"80 km\"",
            &["span_km", "80 km", "f64"],
        ),
        ("span_km = 80.0", "span_m = 80000.0", &["span_m", "span_km"]),
        ("span_km = 80.0\n", "", &["span_km"]),
        (
            "span_km = 80.0",
            "span_km = 200.0",
            &["span_km = 200 km", "25 dB", "band C"],
        ),
        ("spans = 2", "spans = 0", &["spans = 0", "1 to 100000"]),
        ("spans = 2", "spans = -1", &["spans", "-1", "u32"]),
        (
            "spans = 2",
            "spans = 2\nlaps = 0.5",
            &["laps = 0.5", "1 to 1000000000"],
        ),
        (
            "spans = 2",
            "spans = 2\ncores = 0",
            &["cores = 0", "1 to 10000"],
        ),
        (
            "\"ofec\"",
            "\"turbo\"",
            &["signal.fec = \"turbo\"", "kp4, cfec, ofec"],
        ),
        (
            "\"ofec\"",
            "\"ofec\"\nsignal.formats = []",
            &["signal.formats", "QPSK"],
        ),
        (
            "\"ofec\"",
            "\"ofec\"\nsignal.formats = [\"8QAM\"]",
            &["8QAM", "16QAM"],
        ),
        (
            "\"smf\"",
            "\"wet string\"",
            &["wet string", "smf", "hollow"],
        ),
        ("\"edfa\"", "\"zr400\"", &["zr400", "edfa"]),
        (
            "first_thz = 191.4",
            "first_thz = 1550.0",
            &["band C.first_thz = 1550", "178.9"],
        ),
        (
            "spacing_ghz = 100.0",
            "spacing_ghz = 75.0",
            &["band C", "overlap by 15.000 GHz", "90.000 GHz"],
        ),
        (
            "launch_dbm = 1.0",
            "launch_dbm = 9.0",
            &["band C.launch_dbm = 9 dBm", "3.19 dBm each", "20 dBm"],
        ),
        (
            "launch_dbm = 1.0",
            "launch_dbm = 1.0\npower = 3",
            &["power", "launch_dbm"],
        ),
        ("[[band]]", "[[bands]]", &["bands", "band"]),
    ];
    for (replace, with, expect) in cases {
        let message = refusal(&design(replace, with));
        for part in expect {
            assert!(message.contains(part), "{with}: {message}");
        }
    }
    let twice = design("", "");
    let band = twice.split_once("[[band]]").expect("there is one").1;
    let message = refusal(&format!("{twice}[[band]]{band}"));
    assert!(
        message.contains("band.name = \"C\" is not possible"),
        "{message}"
    );
    let message =
        refusal("name = \"x\"\nfiber = \"smf\"\ntransceiver = \"zr400\"\nspans = 1\nspan_km = 1.0");
    assert!(message.contains("band is missing"), "{message}");
}

fn answered(text: &str) -> Answer {
    answer(&Design::parse(text).unwrap(), &Library::embedded()).unwrap()
}

#[test]
fn every_preset_is_answered_and_adds_up() {
    for (name, text) in PRESETS {
        let answer = answered(text);
        let report = &answer.typical;
        let near = |what: &str, a: f64, b: f64| {
            assert!(
                (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
                "{name} {what}: {a} {b}"
            );
        };
        let of_channels: f64 = report.channels.iter().map(|c| c.net_rate_bit_per_s).sum();
        let of_groups: f64 = report.groups.iter().map(|g| g.net_rate_bit_per_s).sum();
        let cores = f64::from(report.cores);
        near(
            "rate of channels",
            of_channels * cores,
            report.net_rate_bit_per_s,
        );
        near(
            "rate of groups",
            of_groups * cores,
            report.net_rate_bit_per_s,
        );
        near(
            "rate",
            answer.net_rate_bit_per_s.typical,
            report.net_rate_bit_per_s,
        );
        near(
            "bytes",
            report.net_rate_bit_per_s * report.delay_s / 8.0,
            report.bytes_in_flight,
        );
        let watts: f64 = answer
            .cost
            .items
            .iter()
            .map(|item| item.power_w.typical)
            .sum();
        near("power", watts, answer.cost.power_w.typical);
        assert!(
            report.net_rate_bit_per_s <= report.gmi_rate_bit_per_s,
            "{name}"
        );
        assert!(
            report.gmi_rate_bit_per_s <= report.shannon_rate_bit_per_s,
            "{name}"
        );
        assert!(
            report.transceivers > 0 && report.laps_before_regeneration >= 1,
            "{name}"
        );
        let first = &report.by_laps[0];
        near(
            "rate after one lap",
            first.net_rate_bit_per_s,
            report.net_rate_bit_per_s,
        );
        for pair in report.by_laps.windows(2) {
            assert!(pair[1].mean_snr_db < pair[0].mean_snr_db, "{name}");
            assert!(
                pair[1].net_rate_bit_per_s <= pair[0].net_rate_bit_per_s,
                "{name}"
            );
        }
    }
}

/// The article's claim: about 256 Tb/s over 200 km, 32 GB under way. The nearest
/// experiment had 264.7 Tb/s.
#[test]
fn the_article_s_loop_carries_what_it_is_said_to() {
    let answer = answered(preset("article").unwrap());
    assert!(answer.net_rate_bit_per_s.typical > 240e12);
    assert!(answer.net_rate_bit_per_s.typical < 290e12);
    assert!((answer.bytes_in_flight.typical / 32e9 - 1.0).abs() < 0.15);
}

/// A channel lasts exactly the laps that are told: one more is too many.
#[test]
fn laps_before_regeneration_are_the_last_that_work() {
    for accumulation in ["incoherent", "coherent"] {
        let with =
            format!("spans = 2\naccumulation = \"{accumulation}\"\nsignal.formats = [\"QPSK\"]");
        let text = design("spans = 2", &with);
        let laps = answered(&text).typical.laps_before_regeneration;
        assert!(laps > 3, "{accumulation}: {laps}");
        let lit = |laps: u64| {
            let with = format!("{with}\nlaps = {laps}.0");
            let report = answered(&design("spans = 2", &with)).typical;
            report.groups[0].lit
        };
        assert_eq!(lit(laps), 48, "{accumulation}");
        assert!(lit(laps + 1) < 48, "{accumulation}");
    }
}

#[test]
fn what_lies_beyond_the_models_is_marked() {
    let marks = |text: &str| -> Vec<String> {
        let marks = answered(text).typical.marks;
        marks
            .iter()
            .map(|mark| format!("{}: {}", mark.about, mark.text))
            .collect()
    };
    assert!(marks(&design("spans = 2", "spans = 2")).is_empty());
    let in_o_band = design("first_thz = 191.4", "first_thz = 225.0")
        .replace("span_km = 80.0", "span_km = 40.0");
    let found = marks(&in_o_band);
    assert!(
        found
            .iter()
            .any(|mark| mark.starts_with("O band: 48 channels")),
        "{found:?}"
    );
    let wide = preset("s-c-l").unwrap();
    for model in ["gn", "isrs-gn"] {
        let text = wide.replace("spans = 3", &format!("spans = 3\nmodel = \"{model}\""));
        let found = marks(&text);
        let about = format!("model {model}: the comb is 20.");
        assert!(
            found.iter().any(|mark| mark.starts_with(&about)),
            "{found:?}"
        );
    }
}

/// Worse figures never carry more, and the whole lies within its range.
#[test]
fn corners_are_in_order() {
    for name in ["c-l", "hollow-core"] {
        let design = Design::parse(preset(name).unwrap()).unwrap();
        let library = Library::embedded();
        let snr: Vec<f64> = Corner::ALL
            .iter()
            .map(|corner| {
                line(&design, &library, *corner)
                    .unwrap()
                    .solve()
                    .unwrap()
                    .mean_snr_db()
            })
            .collect();
        assert!(snr[0] <= snr[1] && snr[1] <= snr[2], "{name}: {snr:?}");
    }
}

/// Fibers at the edge of what they may be, in every model: whatever a line then
/// carries, all of it is a number.
#[test]
fn no_dispersion_no_loss_no_glass_are_numbers_too() {
    let edges: [&[(&str, f64)]; 5] = [
        &[],
        &[("dispersion_1550", 0.0), ("dispersion_1625", 0.0)],
        &[("dispersion_1550", 18.0), ("dispersion_1625", 16.0)],
        &[
            ("attenuation_1310", 0.0),
            ("attenuation_1383", 0.0),
            ("attenuation_1550", 0.0),
            ("attenuation_1625", 0.0),
        ],
        &[("nonlinear_index", 0.0)],
    ];
    for edge in edges {
        let mut library = Library::embedded();
        for (key, value) in edge {
            let value = Interval::exact(*value);
            library.set(&format!("smf.{key}"), value).unwrap();
        }
        for fiber in ["smf", "hollow", "vacuum"] {
            for model in ["profile", "gn", "isrs-gn"] {
                let text = design("spans = 2", &format!("spans = 2\nmodel = \"{model}\""))
                    .replace("\"smf\"", &format!("\"{fiber}\""));
                let answer = answer(&Design::parse(&text).unwrap(), &library).unwrap();
                let channels = &answer.typical.channels;
                assert!(
                    channels.iter().all(|c| c.snr_db.is_finite()),
                    "{edge:?} {fiber} {model}"
                );
            }
        }
    }
}

/// Spans of 5 km: the closed forms say so, and the integral over the profile does not.
#[test]
fn short_spans_are_marked_in_the_closed_forms() {
    let marks = |model: &str| {
        let text = design(
            "span_km = 80.0",
            &format!("span_km = 5.0\nmodel = \"{model}\""),
        );
        answered(&text).marks.join(" ")
    };
    for model in ["gn", "isrs-gn"] {
        let marks = marks(model);
        assert!(
            marks.contains("a span takes 0.9 dB") || marks.contains("a span takes 1.0 dB"),
            "{marks}"
        );
    }
    assert_eq!(marks("profile"), "");
}

/// Coherent accumulation makes noise worse in every model, over spans and over laps, and
/// changes nothing where there is one span and one lap.
#[test]
fn every_model_accumulates_coherently() {
    for model in ["profile", "gn", "isrs-gn"] {
        let snr = |spans: u32, accumulation: &str| {
            let with =
                format!("spans = {spans}\nmodel = \"{model}\"\naccumulation = \"{accumulation}\"");
            answered(&design("spans = 2", &with)).mean_snr_db.typical
        };
        let (one, same) = (snr(1, "incoherent"), snr(1, "coherent"));
        assert!((one - same).abs() < 1e-9, "{model}: {one} {same}");
        let lost = snr(20, "incoherent") - snr(20, "coherent");
        assert!((0.02..1.0).contains(&lost), "{model}: {lost} dB");
    }
}

/// Without Raman scattering no channel gains from another.
#[test]
fn raman_scattering_can_be_switched_off() {
    let tilt = |with: &str| {
        let text = preset("s-c-l").unwrap().replace("spans = 3", with);
        let groups = answered(&text).typical.groups;
        groups
            .iter()
            .map(|group| group.raman_tilt_db.abs())
            .fold(0.0, f64::max)
    };
    assert!(tilt("spans = 3") > 0.3);
    assert!(tilt("spans = 3\nraman = false") < 1e-9);
}

/// One corner that does not work is said and left out of the ranges, and the rest goes on.
#[test]
fn the_worst_corner_is_warned_of_and_not_refused() {
    let text = preset("hollow-core")
        .unwrap()
        .replace("span_km = 100.0", "span_km = 200.0");
    let answer = answered(&text);
    assert!(answer.net_rate_bit_per_s.low > 0.0);
    let worst = answer
        .marks
        .iter()
        .find(|mark| mark.contains("at their worst"));
    assert!(
        worst.is_some_and(|mark| mark.contains("dB")),
        "{:?}",
        answer.marks
    );
}

/// An amplifier of more than 20 dBm keeps the light of hollow core farther above its noise.
#[test]
fn a_stronger_amplifier_lifts_hollow_core_above_its_noise() {
    let long = preset("hollow-core")
        .unwrap()
        .replace("span_km = 100.0", "span_km = 200.0");
    let snr_db = |text: &str| {
        let channels = answered(text).typical.channels;
        let sum: f64 = channels.iter().map(|c| c.snr_emission_db).sum();
        sum / channels.len() as f64
    };
    let gained_db = snr_db(&long.replace("\"edfa\"", "\"edfa-high\"")) - snr_db(&long);
    assert!((5.0..15.0).contains(&gained_db), "{gained_db} dB");
}

/// The loop buffer of the literature: on-off keying without correction in one channel. It
/// carries one bit a symbol, its laps end where the SNR that 10⁻¹² needs ends, what cannot
/// be trusted of it is said, and a channel of 16QAM with correction carries over six times
/// as much.
#[test]
fn a_loop_buffer_of_on_off_keying_without_correction() {
    let of = |signal: &str| {
        let one = design("channels = 48", "channels = 1")
            .replace("symbol_rate_gbd = 90.0", "symbol_rate_gbd = 40.0");
        carried(
            &Design::parse(&one.replace("signal.fec = \"ofec\"", signal)).unwrap(),
            &Library::embedded(),
        )
        .unwrap()
    };
    let buffer = of("signal = { fec = \"none\", formats = [\"OOK\"], framing_overhead = 0.0 }");
    assert_eq!(buffer.net_rate_bit_per_s.typical, 40e9);
    assert!(
        buffer.marks.join(" ").contains("no dispersion back"),
        "{buffer:?}"
    );
    let better = of("signal = { fec = \"ofec\", formats = [\"16QAM\"], framing_overhead = 0.0 }");
    let times = better.net_rate_bit_per_s.typical / 40e9;
    assert!((times - 8.0 / 1.153).abs() < 1e-9, "{times}");
    let laps = buffer.laps_before_regeneration;
    assert!(laps.low >= 1.0 && laps.high < 1e6, "{laps:?}");
    let long = of("laps = 1e6\nsignal = { fec = \"none\", formats = [\"OOK\"] }");
    assert_eq!(
        long.net_rate_bit_per_s.high, 0.0,
        "more laps than it stands"
    );
}

/// A comb in the O band has an amplifier of its own, and what no model counts there, near
/// zero dispersion, is said.
#[test]
fn the_o_band_has_an_amplifier() {
    let text = design("first_thz = 191.4", "first_thz = 228.0").replace("\"edfa\"", "\"pdfa\"");
    let answer = answered(&text.replace("span_km = 80.0", "span_km = 40.0"));
    assert!(answer.net_rate_bit_per_s.typical > 0.0, "{answer:?}");
    assert!(
        answer.marks.join(" ").contains("O band"),
        "{:?}",
        answer.marks
    );
}

/// Spans that are listed are those that are counted; another fiber among them is another
/// line, whose time and price are the sums of its parts.
#[test]
fn a_list_of_spans_is_the_line_of_its_parts() {
    let alike = answered(&design("", ""));
    let listed = |spans: &str| {
        let text = design("spans = 2\nspan_km = 80.0\n", "");
        answered(&text.replace("[[band]]", &format!("{spans}\n[[band]]")))
    };
    let two = listed("[[span]]\nkm = 80.0\ncount = 2");
    let apart = listed("[[span]]\nkm = 80.0\n[[span]]\nkm = 80.0");
    for other in [&two, &apart] {
        let ratio = other.net_rate_bit_per_s.typical / alike.net_rate_bit_per_s.typical;
        assert!((ratio - 1.0).abs() < 1e-9, "{ratio}");
        let snr = other.mean_snr_db.typical - alike.mean_snr_db.typical;
        assert!(snr.abs() < 1e-9, "{snr}");
        let price = other.cost.price_usd.typical / alike.cost.price_usd.typical;
        assert!((price - 1.0).abs() < 1e-9, "{price}");
    }
    let mixed = listed("[[span]]\nkm = 60.0\n[[span]]\nkm = 100.0\nfiber = \"hollow\"");
    assert!((mixed.typical.length_km - 160.0).abs() < 1e-9);
    let library = Library::embedded();
    let index = |id: &str| {
        library
            .figure(&format!("{id}.group_index"))
            .unwrap()
            .value
            .typical
    };
    let lap = (60e3 * index("smf") + 100e3 * index("hollow")) / 299_792_458.0;
    assert!((mixed.delay_s.typical / lap - 1.0).abs() < 1e-6, "{lap}");
    assert!((mixed.typical.delay_s / lap - 1.0).abs() < 1e-6, "{lap}");
    let kilometres: f64 = mixed
        .cost
        .items
        .iter()
        .filter(|item| item.unit == "km")
        .map(|item| item.count)
        .sum();
    assert!((kilometres - 160.0).abs() < 1e-9);
    // The noise of two different spans is that of both: between two of each.
    let short = listed("[[span]]\nkm = 60.0\ncount = 2").mean_snr_db.typical;
    let long = listed("[[span]]\nkm = 100.0\ncount = 2")
        .mean_snr_db
        .typical;
    let both = listed("[[span]]\nkm = 60.0\n[[span]]\nkm = 100.0")
        .mean_snr_db
        .typical;
    assert!(long < both && both < short, "{long} {both} {short}");
    // A longer loop is the list so many times over.
    let text = design("spans = 2\nspan_km = 80.0\n", "");
    let text = text.replace(
        "[[band]]",
        "[[span]]\nkm = 60.0\n[[span]]\nkm = 100.0\n[[band]]",
    );
    let longer = Design::parse(&text).unwrap().of_length(480.0).unwrap();
    assert_eq!(longer.span_count(), 6);
    assert!((longer.length_km() - 480.0).abs() < 1e-9);
}

#[test]
fn lists_pumps_and_boosters_that_cannot_be_are_refused() {
    let pump = |text: &str| design("[[band]]", &format!("[[pump]]\n{text}\n[[band]]"));
    let without = design("spans = 2\nspan_km = 80.0\n", "");
    let spans = |text: &str| without.replace("[[band]]", &format!("{text}\n[[band]]"));
    for (text, parts) in [
        (without.clone(), ["spans = 0", "1 to"]),
        (
            design("[[band]]", "[[span]]\nkm = 80.0\n[[band]]"),
            ["spans = 2 of 80", "either"],
        ),
        (spans("[[span]]\nkm = 0.0"), ["span.km = 0", "km"]),
        (
            spans("[[span]]\nkm = 80.0\ncount = 0"),
            ["span.count = 0", "1 to"],
        ),
        (
            spans("[[span]]\nkm = 80.0\nfiber = \"nope\""),
            ["nope", "smf"],
        ),
        (
            spans(&"[[span]]\nkm = 80.0\n".repeat(65)),
            ["[[span]] = 65", "64"],
        ),
        (
            pump("nm = 900.0\npower_mw = 100.0"),
            ["pump.nm = 900", "1150"],
        ),
        (
            pump("nm = 1450.0\npower_mw = 1e9"),
            ["pump.power_mw", "5000"],
        ),
        (
            pump("nm = 1450.0\npower_mw = nan"),
            ["pump.power_mw = NaN", "5000"],
        ),
        (
            pump("nm = 1450.0\npower_mw = 100.0\ndirection = \"up\""),
            ["up", "backward"],
        ),
        (
            design("signal.fec", "booster.input_dbm = -45.0\nsignal.fec"),
            ["booster.input_dbm = -45", "at least"],
        ),
    ] {
        let told = refusal(&text);
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
}

/// Pumps lift the light above the amplifiers' noise and have their price; what the closed
/// forms leave out of them is said.
#[test]
fn raman_pumps_help_and_cost() {
    let plain = answered(&design("", ""));
    let pumps =
        "[[pump]]\nnm = 1430.0\npower_mw = 200.0\n[[pump]]\nnm = 1455.0\npower_mw = 200.0\n";
    let pumped = design("[[band]]", &format!("{pumps}[[band]]"));
    let helped = answered(&pumped);
    let gained_db = helped.mean_snr_db.typical - plain.mean_snr_db.typical;
    assert!((0.2..5.0).contains(&gained_db), "{gained_db} dB");
    let raman = |answer: &Answer| {
        let items = answer.cost.items.iter();
        items
            .filter(|item| item.sheet == "raman")
            .map(|item| item.count)
            .sum::<f64>()
    };
    assert_eq!((raman(&plain), raman(&helped)), (0.0, 2.0));
    assert!(helped.cost.power_w.typical > plain.cost.power_w.typical);
    for model in ["gn", "isrs-gn"] {
        let text = pumped.replace("signal.fec", &format!("model = \"{model}\"\nsignal.fec"));
        let marks = answered(&text).marks.join(" ");
        assert!(marks.contains("Raman pumps are left out"), "{marks}");
    }
}

/// A booster adds its noise once, however many laps follow, and its price.
#[test]
fn a_booster_is_passed_once() {
    let text =
        |laps: &str, booster: &str| design("signal.fec", &format!("{laps}\n{booster}\nsignal.fec"));
    let noise = |laps: &str, booster: &str| {
        let answer = answered(&text(laps, booster));
        let channel = answer.typical.channels[0].clone();
        10f64.powf(-channel.snr_db / 10.0)
    };
    let added = |laps: &str| noise(laps, "booster.input_dbm = -10.0") - noise(laps, "");
    let (one, four) = (added("laps = 1.0"), added("laps = 4.0"));
    assert!(one > 0.0 && (four / one - 1.0).abs() < 1e-6, "{one} {four}");
    assert!(
        noise("laps = 1.0", "booster.input_dbm = 1.0")
            <= noise("laps = 1.0", "booster.input_dbm = -10.0")
    );
    let price = |booster: &str| answered(&text("", booster)).cost.price_usd.typical;
    let edfa = Library::embedded()
        .figure("edfa.price")
        .unwrap()
        .value
        .typical;
    let more = price("booster.input_dbm = -10.0") - price("");
    assert!((more - edfa).abs() < 1e-6 * price(""), "{more} {edfa}");
}

/// A component without a published power or price is left out of the whole, which is said.
#[test]
fn what_is_not_published_is_left_out_and_said() {
    let mut library = Library::embedded();
    let text = design("\"edfa\"", "\"opa\"").replace("span_km = 80.0", "span_km = 40.0");
    let id = "mine.toml";
    library.add_design(id, Design::parse(&text).unwrap(), id);
    let answer = answer(&library.design(id).unwrap(), &library).unwrap();
    for what in ["power", "price"] {
        assert!(answer.cost.lacks(what));
    }
    assert!(
        answer
            .marks
            .join(" ")
            .contains("no power and no price is published"),
        "{:?}",
        answer.marks
    );
    let told = report(&library, id, false).unwrap();
    assert_eq!(
        told.answer.matches("at least").count(),
        2,
        "{}",
        told.answer
    );
    let given = "[opa]\n\
                 power = { value = 30, unit = 'W', source = 'me', date = '2026', tag = 'assumption' }\n\
                 price = { value = 20000, unit = '$', source = 'me', date = '2026', tag = 'assumption' }";
    library.add("mine", given).unwrap();
    let whole = super::answer(&library.design(id).unwrap(), &library).unwrap();
    assert!(!whole.cost.lacks("power") && !whole.cost.lacks("price"));
    let count = whole.cost.items.iter().find(|item| item.sheet == "opa");
    let count = count.unwrap().count;
    let more_w = whole.cost.power_w.typical - answer.cost.power_w.typical;
    assert!((more_w - 30.0 * count).abs() < 1e-6, "{more_w} of {count}");
}
