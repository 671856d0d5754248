//! Claims about another loop than the one that was said: any loop that the other commands take
//! is put in its place.

use std::fmt::Write;

use super::ClaimError;
use super::list::LOOP;
use crate::datasheet::{Library, SheetKind};
use crate::interval::Interval;
use crate::link;
use crate::media::MediaError;

/// Id of the mean of a loop's amplifiers, where its bands have different ones.
const AMPLIFIERS: &str = "loop-amplifier";

/// The sheets with the loop `id` as that of the claims. Of a design the rate is what its
/// optics give.
///
/// # Errors
/// [`ClaimError`] when there is no such loop, or it does not work.
pub fn about(library: &Library, id: &str) -> Result<Library, ClaimError> {
    let mut changed = library.clone();
    if id == LOOP {
        return Ok(changed);
    }
    if let Ok(sheet) = library.sheet(SheetKind::Loop, id) {
        changed.put(LOOP, sheet.clone());
        return Ok(changed);
    }
    if library.sheet(SheetKind::Design, id).is_err() {
        let loops = [SheetKind::Design, SheetKind::Loop];
        let loops = loops.into_iter().flat_map(|kind| library.of_kind(kind));
        let expected: Vec<&str> = loops.map(|sheet| sheet.id.as_str()).collect();
        return Err(ClaimError::NoLoop {
            id: id.to_owned(),
            expected: expected.join(", "),
        });
    }
    let design = library.design(id).map_err(MediaError::from)?;
    let kinds = design.kinds();
    if let Some(other) = kinds
        .iter()
        .find(|kind| design.fiber_of(kind) != design.fiber)
    {
        return Err(ClaimError::from(MediaError::from(link::Error::from(
            crate::optics::Error::Value {
                key: "span.fiber".into(),
                value: design.fiber_of(other).to_owned(),
                accepted: format!(
                    "{} throughout: claims are judged for a loop of one fiber",
                    design.fiber
                ),
            },
        ))));
    }
    let carried = link::carried(&design, library).map_err(MediaError::from)?;
    if carried.net_rate_bit_per_s.typical <= 0.0 {
        link::lit(&design, library, None).map_err(MediaError::from)?;
    }
    let cores = library.sheet(SheetKind::Fiber, &design.fiber)?.get("cores");
    let cores = design.cores.map_or(cores.typical, f64::from);
    let rate = carried.net_rate_bit_per_s * (1e-12 / cores);
    let amplifier = amplifier(&mut changed, &design)?;
    let name = &library.any(id)?.name;
    let mut text = format!(
        "[{LOOP}]\nkind = 'loop'\nname = {name:?}\nfiber = '{}'\ntransceiver = '{}'\n\
         amplifier = '{amplifier}'\n",
        design.fiber, design.transceiver,
    );
    let amplifiers = Interval::exact(cores * design.bands.len() as f64);
    for (key, value, unit) in [
        ("length", Interval::exact(design.length_km()), "km"),
        ("rate", rate, "Tbit/s"),
        (
            "sites",
            Interval::exact(f64::from(design.span_count())),
            "1",
        ),
        ("amplifiers_per_site", amplifiers, "1"),
        ("regenerations", Interval::exact(1.0), "1"),
    ] {
        text += &figure(key, value, unit);
    }
    changed.add(id, &text)?;
    Ok(changed)
}

/// The sheet of the design's amplifiers: of all its bands, or the mean of theirs.
fn amplifier(library: &mut Library, design: &link::Design) -> Result<String, ClaimError> {
    let mut ids = design.bands.iter().map(|band| band.amplifier.as_str());
    let Some(first) = ids.clone().next() else {
        return Err(ClaimError::from(MediaError::from(link::Error::from(
            crate::optics::Error::Missing {
                key: "band".into(),
                accepted: "at least one".into(),
            },
        ))));
    };
    for id in ids.clone() {
        // Claims are about power and money: what has none cannot be judged.
        for key in ["power", "price"] {
            library.figure(&format!("{id}.{key}"))?;
        }
    }
    let is_plain = design.booster.is_none() && design.pumps.is_empty();
    if is_plain && ids.all(|id| id == first) {
        return Ok(first.to_owned());
    }
    let count = design.bands.len() as f64;
    // What boosters and Raman pumps take is spread over the sites.
    let carried = link::carried(design, library).map_err(MediaError::from)?;
    let cost = link::cost(design, library, &carried).map_err(MediaError::from)?;
    let items = cost.items.iter();
    let all: Vec<&link::Item> = items.filter(|item| item.unit == "amplifiers").collect();
    let cores = library.sheet(SheetKind::Fiber, &design.fiber)?.get("cores");
    let cores = design.cores.map_or(cores.typical, f64::from);
    let spread = f64::from(design.span_count()) * cores * count;
    let mut text = format!("[{AMPLIFIERS}]\nkind = 'amplifier'\nname = 'mean of its amplifiers'\n");
    for key in SheetKind::Amplifier.keys() {
        let factor = key
            .dimension
            .factor(key.unit)
            .expect("the schema is checked");
        let values: Result<Vec<Interval>, _> = design
            .bands
            .iter()
            .map(|band| {
                Ok(library
                    .sheet(SheetKind::Amplifier, &band.amplifier)?
                    .get(key.name))
            })
            .collect();
        let mean = values
            .map_err(ClaimError::Sheet)?
            .into_iter()
            .sum::<Interval>()
            / count;
        let mean = match key.name {
            "power" => all.iter().map(|item| item.power_w).sum::<Interval>() / spread,
            "price" => all.iter().map(|item| item.price_usd).sum::<Interval>() / spread,
            _ => mean,
        };
        text += &figure(key.name, mean / factor, key.unit);
    }
    library.add("the mean", &text)?;
    Ok(AMPLIFIERS.to_owned())
}

fn figure(key: &str, value: Interval, unit: &str) -> String {
    let Interval { low, typical, high } = value;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{key} = {{ value = [{low:?}, {typical:?}, {high:?}], unit = '{unit}', source = 'the \
         design', date = '2026', tag = 'computed' }}"
    );
    out
}
