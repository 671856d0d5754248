//! Loops as people write them: what is understood, and the errors for the rest.

use delayline_study::datasheet::Library;
use delayline_study::link;
use serde_json::Value;

use super::*;
use crate::medium::{pairs, parse_medium};

fn lit(text: &str) -> (LoopMaker, Option<Optics>) {
    let parameters = text.strip_prefix("fiber:").expect("a loop");
    pairs(parameters)
        .and_then(|pairs| from_pairs(pairs, Path::new("")))
        .unwrap_or_else(|error| panic!("{text}: {error:#}"))
}

fn fiber(text: &str) -> LoopMaker {
    lit(text).0
}

/// A property of a loop, as its maker describes it.
fn described(text: &str, property: &str) -> f64 {
    let arg = parse_medium(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
    let described = arg.maker.and_then(|maker| maker.describe());
    described.expect("a loop")[property]
        .as_f64()
        .expect(property)
}

#[test]
fn loops_are_understood() {
    let demo = fiber("fiber:length=10000km,rate=20Gbit/s");
    assert_eq!((demo.spec.length_km, demo.spec.rate_bit_per_s), (1e4, 2e10));
    assert!((demo.spec.gross_bytes() / 122.4e6 - 1.0).abs() < 1e-3);
    assert!((demo.spec.lap_s() - 0.04897).abs() < 1e-4);
    let all = fiber(
        "fiber:length=500m, rate=1.6Tbit/s,index=1.0003,overhead=7%,loops=4,guard=20ns,\
         ber=1e-9,seed=7,cut=1.5s+200ms,split=yes,order=plain,compute=12ms",
    );
    let spec = &all.spec;
    assert_eq!((spec.length_km, spec.rate_bit_per_s), (0.5, 1.6e12));
    assert_eq!(
        (spec.group_index, spec.overhead, spec.loops),
        (1.0003, 0.07, 4)
    );
    assert_eq!((spec.residual_ber, spec.seed), (1e-9, 7));
    assert!((spec.guard_s - 2e-8).abs() < 1e-20);
    assert_eq!(spec.cut.map(|cut| (cut.at_s, cut.for_s)), Some((1.5, 0.2)));
    assert_eq!(
        (all.split, all.order, all.compute_s),
        (true, Order::Plain, Some(0.012))
    );
    let ocean = fiber("fiber:ocean,loops=2,copies=3");
    assert_eq!(
        (ocean.spec.length_km, ocean.spec.loops, ocean.copies),
        (1e4, 2, Some(3))
    );
    // Light that goes round nine satellites, from the data sheets.
    let orbit = fiber("fiber:orbit").spec;
    assert_eq!((orbit.length_km, orbit.group_index), (43_500.0, 1.0));
    assert!(
        (orbit.net_bytes_per_s() / 12.5e9 - 1.0).abs() < 1e-9,
        "{orbit:?}"
    );
    assert!(parse_medium("flash").is_ok_and(|arg| arg.maker.is_none()));
}

#[test]
fn what_cannot_be_is_named_with_its_range() {
    for (text, words) in [
        (
            "fiber:length=-5km,rate=20Gbit/s",
            &["length=-5km", "1m to 10000000km"][..],
        ),
        ("fiber:length=10,rate=20Gbit/s", &["length=10", "km, m"]),
        (
            "fiber:length=10000km,rate=20GB/s",
            &["rate=20GB/s", "Gbit/s"],
        ),
        ("fiber:length=10000km", &["rate is missing", "Gbit/s"]),
        ("fiber:rate=1Tbit/s", &["length is missing", "km"]),
        (
            "fiber:lenght=1km,rate=1Tbit/s",
            &["`lenght`", "length", "split"],
        ),
        (
            "fiber:article,loops=1.5",
            &["loops=1.5", "whole number from 1"],
        ),
        (
            "fiber:article,overhead=95%",
            &["overhead=95%", "from 0 to 0.9"],
        ),
        ("fiber:article,cut=2s", &["cut=2s", "2s+500ms"]),
        (
            "fiber:article,order=best",
            &["order=best", "optimum or plain"],
        ),
        ("fiber:article,split", &["`split`", "key=value"]),
        ("fiber:atlantic", &["preset=atlantic", "article", "orbit"]),
        ("fiber:c-l,laps=0", &["laps=0", "from 1 to 1000000000"]),
        ("fiber:ocean,laps=3", &["laps=3", "design=", "ber="]),
        ("fiber:c-l,copies=0", &["copies=0", "from 1"]),
        ("fiber:c-l,design=x.toml", &["design=x.toml", "one preset"]),
        ("fiber:design=x.toml", &["design=x.toml cannot be read"]),
        (
            "fiber:c-l,length=-1km",
            &["length=-1km", "1m to 10000000km"],
        ),
        (
            "fiber:c-l,length=1000000km",
            &["length = 1000000", "no channel"],
        ),
        ("fiber:length=infkm,rate=1Tbit/s", &["length=infkm"]),
        ("fiber:length=nankm,rate=1Tbit/s", &["length=nankm"]),
        (
            "fiber:length=1km,rate=1Tbit/s,length=2km",
            &["`length=2km`", "twice"],
        ),
        ("tape", &["flash", "fiber:"]),
        ("none.toml", &["none.toml cannot be read"]),
    ] {
        let message = format!("{:#}", parse_medium(text).expect_err(text));
        for word in words {
            assert!(
                message.contains(word),
                "{text}: {word} is not in: {message}"
            );
        }
    }
}

#[test]
fn a_file_names_media() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("media.toml");
    let name = path.display().to_string();
    let one = "[sea]\nkind = \"fiber\"\nlength = \"7000km\"\nrate = \"1Tbit/s\"\nloops = 2\n";
    std::fs::write(&path, one)?;
    assert_eq!(described(&name, "loops"), 2.0);
    assert_eq!(described(&format!("{name}:sea"), "length_km"), 7000.0);
    std::fs::write(
        &path,
        format!("{one}[disk]\nkind = \"flash\"\n[odd]\nlength = 3\n"),
    )?;
    assert!(parse_medium(&format!("{name}:disk"))?.maker.is_none());
    for (which, word) in [
        ("", "NAME with one of"),
        (":lake", "has no medium `lake`"),
        (":odd", "kind is missing"),
    ] {
        let message = format!(
            "{:#}",
            parse_medium(&format!("{name}{which}")).expect_err(which)
        );
        assert!(message.contains(word), "{which}: {message}");
    }
    Ok(())
}

/// The optics are tested in `link`; this tests that they arrive here.
#[test]
fn a_preset_is_what_study_link_says_of_its_design() -> Result<()> {
    let library = Library::embedded();
    for (name, _) in link::PRESETS {
        let (LoopMaker { spec, .. }, optics) = lit(&format!("fiber:{name}"));
        let optics = optics.expect("of a design");
        let json = link::report(&library, name, false)?.json;
        let said = |path: &str| json.pointer(path).and_then(Value::as_f64).expect(path);
        for (got, path) in [
            (spec.length_km, "/link/typical/length_km"),
            (spec.lap_s(), "/link/delay_s/typical"),
            (
                spec.net_bytes_per_s() * 8.0,
                "/link/net_rate_bit_per_s/typical",
            ),
            (
                spec.net_bytes_per_s() * spec.lap_s(),
                "/link/bytes_in_flight/typical",
            ),
            (f64::from(spec.loops), "/link/typical/cores"),
            (optics.mean_snr_db, "/link/mean_snr_db/typical"),
            (
                optics.laps_before_regeneration as f64,
                "/link/laps_before_regeneration/typical",
            ),
        ] {
            assert!(
                (got / said(path) - 1.0).abs() < 1e-9,
                "{name}: {got} is not {path}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_light_of_a_design_depends_on_length_and_laps() -> Result<()> {
    let c_l = fiber("fiber:c-l").spec;
    // Longer, and so fewer bits a symbol; all given parameters hold.
    let far = fiber("fiber:c-l,length=2000km,guard=1us").spec;
    assert_eq!((far.length_km, far.guard_s), (2000.0, 1e-6));
    assert!(far.net_bytes_per_s() < c_l.net_bytes_per_s());
    let given = fiber("fiber:c-l,rate=1Tbit/s,overhead=0,ber=1e-9").spec;
    assert_eq!((given.rate_bit_per_s, given.residual_ber), (1e12, 1e-9));
    // One lap more than the error correction can correct.
    let optics = lit("fiber:c-l").1.expect("of a design");
    let stands = optics.laps_before_regeneration;
    let more = fiber(&format!("fiber:c-l,laps={}", stands + 1)).spec;
    assert!(
        c_l.residual_ber < 2e-15 && more.residual_ber > 1e-6,
        "{more:?}"
    );

    // A design of one's own, named by a file of media beside it.
    let dir = tempfile::tempdir()?;
    let design = link::preset("c-l")
        .expect("is there")
        .replace("spans = 3", "spans = 1");
    std::fs::write(dir.path().join("own.toml"), &design)?;
    let media = dir.path().join("media.toml");
    std::fs::write(
        &media,
        "[own]\nkind = \"fiber\"\ndesign = \"own.toml\"\nloops = 2\n",
    )?;
    let own = |property| described(&media.display().to_string(), property);
    assert_eq!((own("length_km"), own("loops")), (66.666, 2.0));
    std::fs::write(dir.path().join("own.toml"), design.replace("smf", "string"))?;
    let message = format!(
        "{:#}",
        parse_medium(&media.display().to_string()).expect_err("a fiber")
    );
    assert!(
        message.contains("own.toml") && message.contains("string"),
        "{message}"
    );
    Ok(())
}
