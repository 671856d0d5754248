//! Claims 7 to 11, which set the loop against its rivals.

use super::list::{
    HELD, LOOP, POWER, PRICE, article, articles_need, finding, paths, rival, typical, unit_of,
    value,
};
use super::{Claim, ClaimError, Turn, Verdict, less, turn};
use crate::datasheet::Library;
use crate::interval::Interval;
use crate::media::{delay_s, size, unit};
use crate::model::LanguageModel;
use crate::report::format::{digits, percent};

/// The model of claim 9: the largest that is dense and well known.
const TRAPPED: &str = "llama-70b";
/// The rivals of claim 11.
pub const PRICED: [&str; 5] = [LOOP, "hbm3e", "hbm4", "hbf", "ssd"];

pub fn flash(library: &Library) -> Result<Claim, ClaimError> {
    let light = article(library)?;
    let stacks = rival(library, "hbf")?;
    let margin = |library: &Library| {
        let loop_price = unit_of(library, LOOP)?.price.typical;
        Some(loop_price - rival(library, "hbf").ok()?.price.typical)
    };
    let holds_more = less(light.capacity_bytes, stacks.capacity_bytes);
    Ok(Claim {
        number: 7,
        said: "Flash ganged to the accelerator is the practical version".to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding("stacks for the same rate", stacks.units, ""),
            finding(
                "window that hides their latency",
                light.rate_bytes_per_s * stacks.unit.latency_s,
                "B",
            ),
            finding("they hold", stacks.capacity_bytes, "B"),
            finding("the loop holds", light.capacity_bytes, "B"),
            finding("they cost", stacks.price, "$"),
            finding("the loop costs", light.price, "$"),
            finding("they draw", stacks.power_w, "W"),
            finding("the loop draws", light.standby_w, "W"),
        ],
        verdict: less(stacks.price, light.price).and(holds_more),
        because: format!(
            "for the same rate it holds {} times as much for {} of the money; the known order \
             hides its latency if the window holds rate times latency",
            digits(stacks.capacity_bytes.typical / light.capacity_bytes.typical),
            percent(stacks.price.typical / light.price.typical)
        ),
        turns: vec![
            turn(library, "hbf.price", "flash and loop cost the same", margin)?,
            turn(
                library,
                "transceiver.price",
                "flash and loop cost the same",
                margin,
            )?,
        ],
        inputs: paths(
            library,
            &[
                HELD,
                POWER,
                PRICE,
                &[
                    "hbf.rate",
                    "hbf.capacity",
                    "hbf.price",
                    "hbf.latency",
                    "hbf.energy",
                    "hbf.standby",
                ],
            ],
        ),
    })
}

pub fn hollow(library: &Library) -> Result<Claim, ClaimError> {
    let length = value(library, "loop.length")?;
    let rate = value(library, "loop.rate")?;
    let in_glass = delay_s(length, value(library, "fiber.group_index")?);
    let in_air = delay_s(length, value(library, "hollow.group_index")?);
    let margin = |library: &Library| {
        Some(typical(library, "fiber.group_index")? - typical(library, "hollow.group_index")?)
    };
    Ok(Claim {
        number: 8,
        said: "Hollow core lowers latency, and so capacity".to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding("in flight, glass", rate * in_glass, "B"),
            finding("in flight, hollow, at the same rate", rate * in_air, "B"),
            finding("a lap, glass", in_glass, "s"),
            finding("a lap, hollow", in_air, "s"),
            finding(
                "hollow, at the rate that was shown",
                value(library, "said-hollow.rate")? * in_air,
                "B",
            ),
        ],
        verdict: less(in_air, in_glass),
        because:
            "what is quicker through holds less: for a memory, slow light would be the better \
                  one"
            .to_owned(),
        turns: vec![turn(
            library,
            "hollow.group_index",
            "both hold the same",
            margin,
        )?],
        inputs: paths(
            library,
            &[&[
                "loop.length",
                "loop.rate",
                "fiber.group_index",
                "hollow.group_index",
                "said-hollow.rate",
            ]],
        ),
    })
}

pub fn trap(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let model = LanguageModel::of(library, TRAPPED)?;
    let loops = Interval::exact(model.weights_bytes) / unit.capacity_bytes;
    let lap = unit.lap_s.unwrap_or(unit.latency_s);
    let margin = |library: &Library| {
        let weights = LanguageModel::of(library, TRAPPED).ok()?.weights_bytes;
        Some(weights / unit_of(library, LOOP)?.capacity_bytes.typical - 1.0)
    };
    let whole = loops.ceil();
    Ok(Claim {
        number: 9,
        said:
            "The capacity trap: a large model needs several loops, and a sequence gets one token \
               a lap"
                .to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding(&format!("loops for {}", model.name), loops, ""),
            finding(
                "tokens per second, each, at most",
                Interval::exact(1.0) / lap,
                "",
            ),
            finding("whole loops cost", whole * unit.price, "$"),
            finding("whole loops draw", whole * unit.standby_w, "W"),
        ],
        verdict: less(Interval::exact(1.0), loops),
        because:
            "capacity and turns are the same product seen from two sides: a longer loop holds \
                  more and comes by less often"
                .to_owned(),
        turns: vec![
            turn(library, "loop.length", "one loop holds the model", margin)?,
            turn(library, "loop.rate", "one loop holds the model", margin)?,
        ],
        inputs: paths(library, &[&["llama-70b.weights"], HELD, POWER, PRICE]),
    })
}

pub fn vacuum(library: &Library) -> Result<Claim, ClaimError> {
    let ring = unit(library, "orbit")?;
    let glass = article(library)?;
    let margin = |library: &Library| {
        let ring = unit_of(library, "orbit")?.rate_bytes_per_s.typical;
        Some(unit_of(library, LOOP)?.rate_bytes_per_s.typical - ring)
    };
    Ok(Claim {
        number: 10,
        said: "In vacuum path length is free; rate, pointing and diffraction are not".to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding("a ring holds", ring.capacity_bytes, "B"),
            finding("at", ring.rate_bytes_per_s, "B/s"),
            finding("a lap", ring.lap_s.unwrap_or(ring.latency_s), "s"),
            finding(
                "rings for the loop's rate",
                glass.rate_bytes_per_s / ring.rate_bytes_per_s,
                "",
            ),
            finding("one ring's terminals cost", ring.price, "$"),
        ],
        verdict: less(ring.rate_bytes_per_s, glass.rate_bytes_per_s),
        because: format!(
            "it takes {} beams to carry what one fiber does; all of the delay in the world does \
             not make up for that",
            digits(glass.rate_bytes_per_s.typical / ring.rate_bytes_per_s.typical)
        ),
        turns: vec![turn(
            library,
            "orbit.rate",
            "one ring is as fast as one fiber",
            margin,
        )?],
        inputs: paths(
            library,
            &[&[
                "orbit.rate",
                "orbit.length",
                "orbit.regenerations",
                "vacuum.group_index",
                "vacuum.cores",
                "vacuum.price",
                "space-laser.price",
                "loop.rate",
                "fiber.cores",
            ]],
        ),
    })
}

pub fn dram_price(library: &Library) -> Result<Claim, ClaimError> {
    let need = articles_need(library)?;
    let dram = rival(library, "dram")?;
    let growth = value(library, "dram-price.growth")?.typical;
    let mut computed = vec![finding("DRAM for what the loop does", dram.price, "$")];
    let mut turns: Vec<Turn> = Vec::new();
    let mut inputs = paths(
        library,
        &[
            &[
                "dram.price",
                "dram.rate",
                "dram.capacity",
                "dram-price.growth",
            ],
            PRICE,
        ],
    );
    let light_price = article(library)?.price;
    let price = |library: &Library, id: &str| match id {
        LOOP => Some(unit_of(library, id)?.price),
        _ => Some(size(library, id, need).ok()?.price),
    };
    for id in PRICED {
        let other = unit(library, id)?;
        computed.extend(price(library, id).map(|price| finding(&other.name, price, "$")));
        let margin =
            |library: &Library| Some(price(library, id)?.typical - price(library, "dram")?.typical);
        let so_that = format!("DRAM costs what {} does", other.name);
        let turned = turn(library, "dram.price", &so_that, margin)?;
        if let ("hbf", Some(years)) = (id, years_until(&turned, growth)) {
            let what = format!("years until no dearer than {}", other.name);
            computed.push(finding(&what, Interval::exact(years), ""));
        }
        turns.push(turned);
        match id {
            LOOP => turns.push(turn(library, "transceiver.price", &so_that, margin)?),
            _ => inputs.extend(["price", "capacity", "rate"].map(|key| format!("{id}.{key}"))),
        }
    }
    let verdict = less(dram.price, light_price);
    Ok(Claim {
        number: 11,
        said: "DRAM prices will fall again, and then nobody needs a loop".to_owned(),
        numbers_said: Vec::new(),
        computed,
        verdict,
        because: beside_the_loop(dram.price.typical / light_price.typical, verdict),
        turns,
        inputs,
    })
}

/// Why claim 11 is as it is, where DRAM costs `share` of the loop.
fn beside_the_loop(share: f64, verdict: Verdict) -> String {
    let costs = format!(
        "at typical prices DRAM that delivers the same rate costs {} of the loop",
        percent(share)
    );
    match (verdict, share < 1.0) {
        (Verdict::Holds, _) => format!("{costs}, and never more than it: a fall changes nothing"),
        (_, true) => format!(
            "{costs}, so that a fall changes nothing; only dear DRAM beside cheap optics comes near"
        ),
        (_, false) => format!("{costs}: it would have to fall first"),
    }
}

/// Years until a falling price comes down to where it turns; `None` if it does
/// not fall or is there.
fn years_until(turned: &Turn, growth: f64) -> Option<f64> {
    let fall = turned.at? / turned.now.typical;
    (growth < 0.0 && fall < 1.0).then(|| fall.ln() / growth.ln_1p())
}
