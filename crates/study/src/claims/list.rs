//! The eleven claims. Each takes its numbers from the data sheets; a margin
//! above 0 means that the claim is right for the typical values.

use super::{Claim, ClaimError, Finding, Turn, Verdict, less, turn};
use crate::datasheet::{Kind, Library};
use crate::decode::CERTAIN_SHARE;
use crate::media::{Need, Sized, Unit, delay_s, size, unit};
use crate::model::Model;
use crate::range::Range;

/// The model of claim 9: the largest that is dense and well known.
const TRAPPED: &str = "llama-70b";
/// How far a number may be off and still be called right: it was said in
/// passing, in round numbers.
const ROUND: f64 = 0.05;

/// All claims with their answers.
///
/// # Errors
/// [`ClaimError`] when a data sheet lacks what one takes.
pub fn all(library: &Library) -> Result<Vec<Claim>, ClaimError> {
    [
        in_flight,
        keeping,
        fiber_price,
        amplifiers,
        conveyor,
        growth,
        flash,
        hollow,
        trap,
        vacuum,
        dram_price,
    ]
    .into_iter()
    .map(|claim| claim(library))
    .collect()
}

fn finding(what: &str, value: Range, unit: &'static str) -> Finding {
    Finding {
        what: what.to_owned(),
        value,
        unit,
    }
}

fn paths(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

fn value(library: &Library, path: &str) -> Result<Range, ClaimError> {
    Ok(library.figure(path)?.value)
}

fn typical(library: &Library, path: &str) -> Option<f64> {
    Some(library.figure(path).ok()?.value.typical)
}

fn article(library: &Library) -> Result<Unit, ClaimError> {
    Ok(unit(library, "article")?)
}

/// What the article's loop holds and delivers, as a need for its rivals.
fn articles_need(library: &Library) -> Result<Need, ClaimError> {
    let unit = article(library)?;
    Ok(Need {
        bytes: unit.capacity_bytes.typical,
        rate_bytes_per_s: unit.rate_bytes_per_s.typical,
    })
}

fn rival(library: &Library, id: &str) -> Result<Sized, ClaimError> {
    Ok(size(library, id, articles_need(library)?)?)
}

fn in_flight(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let said = value(library, "said-loop.capacity")?;
    let off = (unit.capacity_bytes.typical / said.typical - 1.0).abs();
    let margin = |library: &Library| {
        let unit = unit_of(library, "article")?;
        Some(unit.capacity_bytes.typical - typical(library, "said-loop.capacity")?)
    };
    Ok(Claim {
        number: 1,
        said: "256 Tb/s over 200 km of fiber keeps 32 GB in flight, at 32 TB/s".to_owned(),
        number_said: Some(finding("in flight", said, "B")),
        computed: vec![
            finding("in flight", unit.capacity_bytes, "B"),
            finding("rate", unit.rate_bytes_per_s, "B/s"),
            finding("a lap", unit.lap_s.unwrap_or(unit.latency_s), "s"),
        ],
        verdict: if off <= ROUND {
            Verdict::Holds
        } else {
            Verdict::Fails
        },
        because: "rate times delay; the round number is exact with a little more fiber".to_owned(),
        turns: vec![turn(library, "article.length", margin)?],
        inputs: paths(&[
            "article.rate",
            "article.length",
            "smf.group_index",
            "said-loop.capacity",
        ]),
    })
}

fn unit_of(library: &Library, id: &str) -> Option<Unit> {
    unit(library, id).ok()
}

/// What DRAM draws to keep what the loop holds.
fn dram_keeps(library: &Library) -> Result<Range, ClaimError> {
    let held = Range::exact(articles_need(library)?.bytes);
    Ok(held * value(library, "dram.standby")?)
}

fn keeping(library: &Library) -> Result<Claim, ClaimError> {
    let light = article(library)?.standby_w;
    let keeps = dram_keeps(library)?;
    let mut cheap = library.clone();
    cheap.add("claims", "[article]\ntransceiver = 'cpo'")?;
    let margin = |library: &Library| {
        let loop_w = unit_of(library, "article")?.standby_w.typical;
        Some(dram_keeps(library).ok()?.typical - loop_w)
    };
    Ok(Claim {
        number: 2,
        said: "Fiber saves the power that DRAM burns to keep its data".to_owned(),
        number_said: Some(finding(
            "refresh of 32 GB",
            value(library, "said-power.power")?,
            "W",
        )),
        computed: vec![
            finding("the loop, coherent", light, "W"),
            finding(
                "the loop, if co-packaged optics reached so far",
                article(&cheap)?.standby_w,
                "W",
            ),
            finding("DRAM, keeping as much", keeps, "W"),
            finding(
                "DRAM, delivering as fast",
                rival(library, "dram")?.power_w,
                "W",
            ),
            finding(
                "HBM3E, delivering as fast",
                rival(library, "hbm3e")?.power_w,
                "W",
            ),
        ],
        verdict: less(light, keeps),
        because: "light has to be sent again in every turn, so a loop pays for its whole rate to \
                  keep anything at all"
            .to_owned(),
        turns: vec![
            turn(library, "zr400.energy", margin)?,
            turn(library, "dram.standby", margin)?,
        ],
        inputs: paths(&[
            "zr400.energy",
            "cpo.energy",
            "edfa.power",
            "article.rate",
            "dram.standby",
            "dram.energy",
            "said-power.power",
        ]),
    })
}

/// Price of the parts of the article's loop: transceivers, amplifiers, fiber.
fn parts(library: &Library) -> Option<[f64; 3]> {
    let unit = unit_of(library, "article")?;
    let price = |index: usize| unit.parts.get(index).map(|part| part.price.typical);
    Some([price(0)?, price(1)?, price(2)?])
}

fn fiber_price(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let [optics, amplifiers, fiber] = [0, 1, 2].map(|index| unit.parts[index].price);
    let margin = |library: &Library| {
        let [optics, amplifiers, fiber] = parts(library)?;
        Some(fiber - optics - amplifiers)
    };
    Ok(Claim {
        number: 3,
        said: "200 km of fiber is what makes it expensive".to_owned(),
        number_said: None,
        computed: vec![
            finding("fiber", fiber, "$"),
            finding("transceivers", optics, "$"),
            finding("amplifiers", amplifiers, "$"),
        ],
        verdict: less(optics + amplifiers, fiber),
        because: "the ends cost hundreds of times what lies between them".to_owned(),
        turns: vec![
            turn(library, "smf.price", margin)?,
            turn(library, "zr400.price", margin)?,
        ],
        inputs: paths(&[
            "smf.price",
            "article.length",
            "zr400.price",
            "article.rate",
            "edfa.price",
        ]),
    })
}

fn amplifiers(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let savings = dram_keeps(library)?;
    let [optics, amplifiers] = [0, 1].map(|index| unit.parts[index].power_w);
    let margin = |library: &Library| {
        let unit = unit_of(library, "article")?;
        Some(unit.standby_w.typical - dram_keeps(library).ok()?.typical)
    };
    Ok(Claim {
        number: 4,
        said: "Amplifiers and signal processors eat the savings".to_owned(),
        number_said: None,
        computed: vec![
            finding("to be saved: DRAM keeping as much", savings, "W"),
            finding("amplifiers", amplifiers, "W"),
            finding("transceivers", optics, "W"),
        ],
        verdict: less(savings, optics + amplifiers),
        because: "amplifiers alone draw as much as there is to save, signal processors thousands \
                  of times as much"
            .to_owned(),
        turns: vec![turn(library, "zr400.energy", margin)?],
        inputs: paths(&[
            "dram.standby",
            "edfa.power",
            "article.sites",
            "article.amplifiers_per_site",
            "zr400.energy",
            "article.rate",
        ]),
    })
}

fn conveyor(library: &Library) -> Result<Claim, ClaimError> {
    let wait = article(library)?.latency_s;
    let random = value(library, "dram.latency")?;
    let mut computed = vec![
        finding("half a lap", wait, "s"),
        finding("DRAM", random, "s"),
    ];
    let mut inputs = paths(&["article.length", "smf.group_index", "dram.latency"]);
    for sheet in library.of_kind(Kind::Model) {
        let model = Model::of(library, &sheet.id)?;
        let Some(experts) = model.experts else {
            continue;
        };
        let share = model.needed_bytes(1) / model.weights_bytes;
        let certain = f64::from(experts.certain_from(CERTAIN_SHARE));
        computed.push(finding(
            &format!("{}: needed at batch 1", model.name),
            Range::exact(share),
            "%",
        ));
        computed.push(finding(
            &format!("{}: certain again from batch", model.name),
            Range::exact(certain),
            "",
        ));
        inputs.push(format!("{}.experts", sheet.id));
        inputs.push(format!("{}.experts_per_token", sheet.id));
    }
    let margin = |library: &Library| {
        let wait = unit_of(library, "article")?.latency_s.typical;
        Some(wait - typical(library, "dram.latency")?)
    };
    Ok(Claim {
        number: 5,
        said: "It is a conveyor belt, not a cabinet: a random read waits half a lap".to_owned(),
        number_said: None,
        computed,
        verdict: less(random, wait),
        because: "a known order makes the wait free; expert routing breaks the order until the \
                  batch is so large that every expert is wanted"
            .to_owned(),
        turns: vec![turn(library, "article.length", margin)?],
        inputs,
    })
}

fn growth(library: &Library) -> Result<Claim, ClaimError> {
    let (fiber, hbm) = (
        value(library, "fiber-rate.growth")?,
        value(library, "hbm-rate.growth")?,
    );
    let (loop_rate, stack) = (
        value(library, "article.rate")?,
        value(library, "hbm4.rate")?,
    );
    let years = years_until(
        loop_rate.typical / stack.typical,
        fiber.typical,
        hbm.typical,
    );
    let margin = |library: &Library| {
        Some(typical(library, "fiber-rate.growth")? - typical(library, "hbm-rate.growth")?)
    };
    let mut computed = vec![
        finding("one fiber, a year", fiber, "%"),
        finding("one HBM stack, a year", hbm, "%"),
        finding(
            "a fiber's rate over a stack's, today",
            loop_rate / stack,
            "",
        ),
        finding(
            "cores in one fiber, as shown",
            value(library, "mcf19.cores")?,
            "",
        ),
    ];
    if let Some(years) = years {
        computed.push(finding(
            "years until a stack has caught up",
            Range::exact(years),
            "",
        ));
    }
    Ok(Claim {
        number: 6,
        said: "Fiber has the better growth trajectory".to_owned(),
        number_said: None,
        computed,
        verdict: less(hbm, fiber),
        because: "the rate of one fiber grows a third as fast as that of one stack; only more \
                  cores or fibers change that, and more stacks as well"
            .to_owned(),
        turns: vec![
            turn(library, "fiber-rate.growth", margin)?,
            turn(library, "hbm-rate.growth", margin)?,
        ],
        inputs: paths(&[
            "fiber-rate.growth",
            "hbm-rate.growth",
            "article.rate",
            "hbm4.rate",
            "mcf19.cores",
        ]),
    })
}

/// Years until what is `ratio` times less has caught up; `None` if it never will.
fn years_until(ratio: f64, growth: f64, growth_of_less: f64) -> Option<f64> {
    let gain = ((1.0 + growth_of_less) / (1.0 + growth)).ln();
    (gain > 0.0 && ratio > 1.0).then(|| ratio.ln() / gain)
}

fn flash(library: &Library) -> Result<Claim, ClaimError> {
    let light = article(library)?;
    let stacks = rival(library, "hbf")?;
    let margin = |library: &Library| {
        let loop_price = unit_of(library, "article")?.price.typical;
        Some(loop_price - rival(library, "hbf").ok()?.price.typical)
    };
    let holds_more = less(light.capacity_bytes, stacks.capacity_bytes);
    Ok(Claim {
        number: 7,
        said: "Flash ganged to the accelerator is the practical version".to_owned(),
        number_said: None,
        computed: vec![
            finding(
                "stacks of High Bandwidth Flash for the same rate",
                stacks.units,
                "",
            ),
            finding("they hold", stacks.capacity_bytes, "B"),
            finding("the loop holds", light.capacity_bytes, "B"),
            finding("they cost", stacks.price, "$"),
            finding("the loop costs", light.price, "$"),
            finding("they draw", stacks.power_w, "W"),
            finding("the loop draws", light.standby_w, "W"),
        ],
        verdict: less(stacks.price, light.price).and(holds_more),
        because: "for the same rate it holds hundreds of times as much for a fraction of the \
                  money; its latency is hidden by the known order, if the window holds rate times \
                  latency"
            .to_owned(),
        turns: vec![
            turn(library, "hbf.price", margin)?,
            turn(library, "zr400.price", margin)?,
        ],
        inputs: paths(&[
            "hbf.rate",
            "hbf.capacity",
            "hbf.price",
            "hbf.energy",
            "article.rate",
            "zr400.price",
            "zr400.energy",
        ]),
    })
}

fn hollow(library: &Library) -> Result<Claim, ClaimError> {
    let length = value(library, "article.length")?;
    let rate = value(library, "article.rate")?;
    let in_glass = delay_s(length, value(library, "smf.group_index")?);
    let in_air = delay_s(length, value(library, "hollow.group_index")?);
    let margin = |library: &Library| {
        Some(typical(library, "smf.group_index")? - typical(library, "hollow.group_index")?)
    };
    Ok(Claim {
        number: 8,
        said: "Hollow core lowers latency, and so capacity".to_owned(),
        number_said: None,
        computed: vec![
            finding("in flight, glass", rate * in_glass, "B"),
            finding("in flight, hollow, at the same rate", rate * in_air, "B"),
            finding("a lap, glass", in_glass, "s"),
            finding("a lap, hollow", in_air, "s"),
            finding(
                "hollow, at the rate that was shown",
                value(library, "hollow-core.rate")? * in_air,
                "B",
            ),
        ],
        verdict: less(in_air, in_glass),
        because:
            "what is quicker through holds less: for a memory, slow light would be the better \
                  one"
            .to_owned(),
        turns: vec![turn(library, "hollow.group_index", margin)?],
        inputs: paths(&[
            "article.length",
            "article.rate",
            "smf.group_index",
            "hollow.group_index",
            "hollow-core.rate",
        ]),
    })
}

fn trap(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let model = Model::of(library, TRAPPED)?;
    let loops = Range::exact(model.weights_bytes) / unit.capacity_bytes;
    let lap = unit.lap_s.unwrap_or(unit.latency_s);
    let margin = |library: &Library| {
        let weights = Model::of(library, TRAPPED).ok()?.weights_bytes;
        Some(weights / unit_of(library, "article")?.capacity_bytes.typical - 1.0)
    };
    let whole = loops.ceil();
    Ok(Claim {
        number: 9,
        said:
            "The capacity trap: a large model needs several loops, and a sequence gets one token \
               a lap"
                .to_owned(),
        number_said: None,
        computed: vec![
            finding(&format!("loops for {}", model.name), loops, ""),
            finding(
                "tokens per second, each, at most",
                Range::exact(1.0) / lap,
                "",
            ),
            finding("whole loops cost", whole * unit.price, "$"),
            finding("whole loops draw", whole * unit.standby_w, "W"),
        ],
        verdict: less(Range::exact(1.0), loops),
        because:
            "capacity and turns are the same product seen from two sides: a longer loop holds \
                  more and comes by less often"
                .to_owned(),
        turns: vec![
            turn(library, "article.length", margin)?,
            turn(library, "article.rate", margin)?,
        ],
        inputs: vec![
            format!("{TRAPPED}.weights"),
            "article.length".to_owned(),
            "article.rate".to_owned(),
            "smf.group_index".to_owned(),
        ],
    })
}

fn vacuum(library: &Library) -> Result<Claim, ClaimError> {
    let ring = unit(library, "orbit")?;
    let glass = article(library)?;
    let margin = |library: &Library| {
        let ring = unit_of(library, "orbit")?.rate_bytes_per_s.typical;
        Some(unit_of(library, "article")?.rate_bytes_per_s.typical - ring)
    };
    Ok(Claim {
        number: 10,
        said: "In vacuum path length is free; rate, pointing and diffraction are not".to_owned(),
        number_said: None,
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
        because:
            "one beam carries a two-thousandth of what one fiber does; all of the delay in the \
                  world does not make up for that"
                .to_owned(),
        turns: vec![turn(library, "orbit.rate", margin)?],
        inputs: paths(&[
            "orbit.rate",
            "orbit.length",
            "orbit.regenerations",
            "space-laser.price",
            "article.rate",
        ]),
    })
}

fn dram_price(library: &Library) -> Result<Claim, ClaimError> {
    let need = articles_need(library)?;
    let dram = rival(library, "dram")?;
    let mut computed = vec![finding("DRAM for the same need", dram.price, "$")];
    let mut turns: Vec<Turn> = Vec::new();
    let mut inputs = paths(&[
        "dram.price",
        "dram.rate",
        "dram.capacity",
        "dram-price.growth",
    ]);
    let mut verdict = Verdict::Holds;
    for id in ["article", "hbm3e", "hbm4", "hbf", "ssd"] {
        let other = size(library, id, need)?;
        computed.push(finding(
            &format!("{} for it", other.unit.name),
            other.price,
            "$",
        ));
        let margin = |library: &Library| {
            let price = |id| Some(size(library, id, need).ok()?.price.typical);
            Some(price(id)? - price("dram")?)
        };
        let even = turn(library, "dram.price", margin)?;
        if let Some(at) = even.at {
            computed.push(finding(
                &format!("{} is as dear when a GB of DRAM costs", other.unit.name),
                Range::exact(at),
                "$",
            ));
        }
        if id == "article" {
            verdict = less(dram.price, other.price);
            turns.push(even);
            turns.push(turn(library, "zr400.price", margin)?);
        } else {
            inputs.push(format!("{id}.price"));
        }
    }
    Ok(Claim {
        number: 11,
        said: "DRAM prices will fall again, and then nobody needs a loop".to_owned(),
        number_said: None,
        computed,
        verdict,
        because:
            "even at the prices of today DRAM that delivers the same rate is cheaper than the \
                  loop; it would have to become dearer, not cheaper"
                .to_owned(),
        turns,
        inputs,
    })
}
