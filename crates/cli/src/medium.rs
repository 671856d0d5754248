//! `--medium` as people write it: flash, a fiber loop by its parameters, or a
//! file that names media. What a parameter may be, the loop itself says.

use std::path::Path;

use anyhow::{Context, Result, bail};
use delayline_medium::{LoopSpec, Quantity, SpecBuilder, SpecError};
use delayline_runtime::{Fiber, Order};

/// Loops with a name. One more word for each than its parameters.
const PRESETS: [(&str, &str); 2] = [
    // "256 Tb/s over 200 km", Carmack, February 2026: gross, with no word of overhead.
    ("article", "length=200km,rate=256Tbit/s,overhead=0"),
    // An ocean of fiber at a rate that a laptop can carry.
    ("ocean", "length=10000km,rate=20Gbit/s"),
];

/// Parameters of how the loop is used, beside those of the loop.
const OURS: [&str; 3] = ["split", "order", "compute"];

/// Where the weights are streamed from.
#[derive(Clone, Debug, Default)]
pub struct MediumArg {
    /// The loop, unless it is flash alone.
    pub fiber: Option<Fiber>,
}

/// `flash`, `fiber:length=10000km,rate=20Gbit/s`, `fiber:article,loops=2`,
/// `media.toml` or `media.toml:NAME`.
///
/// # Errors
/// Names the parameter, its value, and what it may be.
pub fn parse_medium(text: &str) -> Result<MediumArg> {
    let fiber = match text.split_once(':') {
        None if text == "flash" => None,
        Some(("fiber", parameters)) => Some(from_pairs(pairs(parameters)?)?),
        _ if text.contains(".toml") => from_file(text)?,
        _ => bail!(
            "expected flash, fiber:length=10000km,rate=20Gbit/s, fiber:NAME with one of {}, or a \
             file FILE.toml or FILE.toml:NAME",
            PRESETS.map(|(name, _)| name).join(", ")
        ),
    };
    Ok(MediumArg { fiber })
}

/// Keys and values; the first word may be a preset's name.
fn pairs(parameters: &str) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (at, word) in parameters.split(',').map(str::trim).enumerate() {
        let preset = PRESETS.iter().find(|(name, _)| *name == word);
        match (word.split_once('='), preset) {
            (Some((key, value)), _) => all.push((key.trim().into(), value.trim().into())),
            (None, Some((_, parameters))) if at == 0 => all.extend(pairs(parameters)?),
            _ => bail!(
                "`{word}` is no parameter: expected key=value{}",
                match at {
                    0 => format!(
                        ", or first one of {}",
                        PRESETS.map(|(name, _)| name).join(", ")
                    ),
                    _ => String::new(),
                }
            ),
        }
    }
    Ok(all)
}

fn from_pairs(pairs: Vec<(String, String)>) -> Result<Fiber> {
    let mut builder = SpecBuilder::new();
    let mut fiber = Fiber::new(LoopSpec::new(1.0, 1.0));
    for (key, value) in pairs {
        let wrong = |expected: &str| SpecError::Value {
            key: key.clone(),
            value: value.clone(),
            expected: expected.into(),
        };
        match key.as_str() {
            "split" => {
                fiber.split = match value.as_str() {
                    "yes" | "true" => true,
                    "no" | "false" => false,
                    _ => return Err(wrong("yes or no").into()),
                }
            }
            "order" => {
                fiber.order = match value.as_str() {
                    "optimum" => Order::Optimum,
                    "plain" => Order::Plain,
                    _ => return Err(wrong("optimum or plain").into()),
                }
            }
            "compute" => {
                let seconds = Quantity::Time.parse(&value);
                let seconds = seconds.filter(|s| (1e-9..=1e6).contains(s));
                let expected = "the time of a decoding lap, 1ns to 1000000s";
                fiber.compute_s = Some(seconds.ok_or_else(|| wrong(expected))?);
            }
            _ => match builder.set(&key, &value) {
                Err(SpecError::UnknownKey { key, known }) => {
                    let known = format!("{known}, {}", OURS.join(", "));
                    return Err(SpecError::UnknownKey { key, known }.into());
                }
                other => other?,
            },
        }
    }
    fiber.spec = builder.build()?;
    Ok(fiber)
}

/// `FILE.toml` with one medium, or `FILE.toml:NAME` with several.
fn from_file(text: &str) -> Result<Option<Fiber>> {
    let (path, name) = match text.rsplit_once(".toml:") {
        Some((stem, name)) => (format!("{stem}.toml"), Some(name)),
        None => (text.to_owned(), None),
    };
    let path = Path::new(&path);
    let content = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let table: toml::Table = content
        .parse()
        .with_context(|| format!("{} is no TOML", path.display()))?;
    let names = || {
        table
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let name = match (name, table.len()) {
        (Some(name), _) => name,
        (None, 1) => table.keys().next().map_or("", String::as_str),
        _ => bail!(
            "{} names {} media: say which, {}:NAME with one of {}",
            path.display(),
            table.len(),
            path.display(),
            names()
        ),
    };
    let Some(medium) = table.get(name) else {
        bail!(
            "{} has no medium `{name}`; it has {}",
            path.display(),
            names()
        );
    };
    let place = || format!("medium `{name}` of {}", path.display());
    let Some(medium) = medium.as_table() else {
        bail!(
            "{} is no table: write [{name}] above its parameters",
            place()
        );
    };
    from_table(medium).with_context(place)
}

fn from_table(table: &toml::Table) -> Result<Option<Fiber>> {
    let mut pairs = Vec::new();
    let mut kind = None;
    for (key, value) in table {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                value.to_string()
            }
            _ => bail!("{key}={value}: expected a number or a text such as \"10000km\""),
        };
        match key.as_str() {
            "kind" => kind = Some(text),
            _ => pairs.push((key.clone(), text)),
        }
    }
    match kind.as_deref() {
        Some("fiber") => from_pairs(pairs).map(Some),
        Some("flash") if pairs.is_empty() => Ok(None),
        Some("flash") => bail!("flash has no parameter `{}`; it has none", pairs[0].0),
        Some(other) => bail!("kind={other}: expected fiber or flash"),
        None => bail!("kind is missing: give fiber or flash"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fiber(text: &str) -> Fiber {
        let arg = parse_medium(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        arg.fiber.expect("a loop")
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
        let article = fiber("fiber:article,loops=2");
        assert_eq!((article.spec.length_km, article.spec.loops), (200.0, 2));
        assert!(parse_medium("flash").is_ok_and(|arg| arg.fiber.is_none()));
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
            ("fiber:atlantic", &["`atlantic`", "article"]),
            ("fiber:length=infkm,rate=1Tbit/s", &["length=infkm"]),
            ("fiber:length=nankm,rate=1Tbit/s", &["length=nankm"]),
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
        assert_eq!(fiber(&name).spec.loops, 2);
        assert_eq!(fiber(&format!("{name}:sea")).spec.length_km, 7000.0);
        std::fs::write(
            &path,
            format!("{one}[disk]\nkind = \"flash\"\n[odd]\nlength = 3\n"),
        )?;
        assert!(parse_medium(&format!("{name}:disk"))?.fiber.is_none());
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
}
