//! Claims 1 to 6, about the loop by itself.

use super::list::{
    HELD, LOOP, POWER, PRICE, article, articles_need, finding, paths, rival, typical, unit_of,
    value,
};
use super::{Claim, ClaimError, Verdict, less, turn};
use crate::datasheet::{Library, SheetKind};
use crate::decode::CERTAIN_SHARE;
use crate::interval::Interval;
use crate::model::LanguageModel;
use crate::report::format::{digits, percent};

/// What DRAM draws at the very least, as said and as computed.
const REFRESH: &str = "refresh of as much DRAM";
/// Relative error up to which a number counts as right: the claims were made in
/// round numbers.
const ROUND: f64 = 0.05;

pub fn in_flight(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let said = value(library, "said-numbers.capacity")?;
    let said_rate = value(library, "said-numbers.rate")?;
    let off = |is: Interval, said: Interval| (is.typical / said.typical - 1.0).abs();
    let (capacity_off, rate_off) = (
        off(unit.capacity_bytes, said),
        off(unit.rate_bytes_per_s, said_rate),
    );
    let margin = |library: &Library| {
        let unit = unit_of(library, LOOP)?;
        Some(unit.capacity_bytes.typical - typical(library, "said-numbers.capacity")?)
    };
    Ok(Claim {
        number: 1,
        said: "256 Tb/s over 200 km of fiber keeps 32 GB in flight, at 32 TB/s".to_owned(),
        numbers_said: vec![
            finding("in flight", said, "B"),
            finding("rate", said_rate, "B/s"),
        ],
        computed: vec![
            finding("in flight", unit.capacity_bytes, "B"),
            finding("rate", unit.rate_bytes_per_s, "B/s"),
            finding("a lap", unit.lap_s.unwrap_or(unit.latency_s), "s"),
        ],
        verdict: if capacity_off.max(rate_off) <= ROUND {
            Verdict::Holds
        } else {
            Verdict::Fails
        },
        because: format!(
            "rate times delay; the round number of bytes is off by {}, the rate by {}",
            percent(capacity_off),
            percent(rate_off)
        ),
        turns: vec![turn(
            library,
            "loop.length",
            "it holds what was said",
            margin,
        )?],
        inputs: paths(
            library,
            &[HELD, &["said-numbers.capacity", "said-numbers.rate"]],
        ),
    })
}

/// What DRAM draws to keep what the loop holds.
fn dram_keeps(library: &Library) -> Result<Interval, ClaimError> {
    let held = Interval::exact(articles_need(library)?.bytes);
    Ok(held * value(library, "dram.standby")?)
}

pub fn keeping(library: &Library) -> Result<Claim, ClaimError> {
    let light = article(library)?.standby_w;
    let keeps = dram_keeps(library)?;
    let held = Interval::exact(articles_need(library)?.bytes);
    let refresh = held * value(library, "dram.refresh")?;
    let delivers = |library: &Library| {
        let loop_w = unit_of(library, LOOP)?.standby_w.typical;
        Some(rival(library, "dram").ok()?.power_w.typical - loop_w)
    };
    let mut cheap = library.clone();
    cheap.add("claims", "[said-loop]\ntransceiver = 'cpo'")?;
    let margin = |library: &Library| {
        let loop_w = unit_of(library, LOOP)?.standby_w.typical;
        Some(dram_keeps(library).ok()?.typical - loop_w)
    };
    Ok(Claim {
        number: 2,
        said: "Fiber saves the power that DRAM burns to keep its data".to_owned(),
        numbers_said: vec![finding(REFRESH, value(library, "said-power.power")?, "W")],
        computed: vec![
            finding("the loop, coherent", light, "W"),
            finding(
                "the loop, if co-packaged optics reached",
                article(&cheap)?.standby_w,
                "W",
            ),
            finding(REFRESH, refresh, "W"),
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
        because: format!(
            "light has to be sent again in every turn, so a loop pays for its whole rate to keep \
             anything: {} times what DRAM draws to keep as much",
            digits(light.typical / keeps.typical)
        ),
        turns: vec![
            turn(
                library,
                "transceiver.energy",
                "the loop draws what DRAM does to keep",
                margin,
            )?,
            turn(
                library,
                "dram.standby",
                "the loop draws what DRAM does to keep",
                margin,
            )?,
            turn(
                library,
                "transceiver.energy",
                "the loop draws what DRAM does to deliver",
                delivers,
            )?,
        ],
        inputs: paths(
            library,
            &[
                HELD,
                POWER,
                &[
                    "cpo.energy",
                    "dram.standby",
                    "dram.refresh",
                    "dram.energy",
                    "dram.capacity",
                    "dram.rate",
                    "hbm3e.standby",
                    "hbm3e.energy",
                    "hbm3e.capacity",
                    "hbm3e.rate",
                    "said-power.power",
                ],
            ],
        ),
    })
}

/// Price of the parts of the article's loop: transceivers, amplifiers, fiber.
fn parts(library: &Library) -> Option<[f64; 3]> {
    let unit = unit_of(library, LOOP)?;
    let price = |index: usize| unit.parts.get(index).map(|part| part.price.typical);
    Some([price(0)?, price(1)?, price(2)?])
}

pub fn fiber_price(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let [optics, amplifiers, fiber] = [0, 1, 2].map(|index| unit.parts[index].price);
    let margin = |library: &Library| {
        let [optics, amplifiers, fiber] = parts(library)?;
        Some(fiber - optics - amplifiers)
    };
    Ok(Claim {
        number: 3,
        said: "200 km of fiber is what makes it expensive".to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding("fiber", fiber, "$"),
            finding("transceivers", optics, "$"),
            finding("amplifiers", amplifiers, "$"),
        ],
        verdict: less(optics + amplifiers, fiber),
        because: format!(
            "the transceivers cost {} times what lies between them",
            digits(optics.typical / fiber.typical)
        ),
        turns: vec![
            turn(
                library,
                "fiber.price",
                "fiber costs as much as the rest",
                margin,
            )?,
            turn(
                library,
                "transceiver.price",
                "fiber costs as much as the rest",
                margin,
            )?,
        ],
        inputs: paths(library, &[PRICE]),
    })
}

pub fn amplifiers(library: &Library) -> Result<Claim, ClaimError> {
    let unit = article(library)?;
    let savings = dram_keeps(library)?;
    let [optics, amplifiers] = [0, 1].map(|index| unit.parts[index].power_w);
    let margin = |library: &Library| {
        let unit = unit_of(library, LOOP)?;
        Some(unit.standby_w.typical - dram_keeps(library).ok()?.typical)
    };
    Ok(Claim {
        number: 4,
        said: "Amplifiers and signal processors eat the savings".to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding("to be saved: DRAM keeping as much", savings, "W"),
            finding("amplifiers", amplifiers, "W"),
            finding("transceivers", optics, "W"),
        ],
        verdict: less(savings, optics + amplifiers),
        because: format!(
            "amplifiers alone draw {} times what there is to save, transceivers with their signal \
             processors {} times",
            digits(amplifiers.typical / savings.typical),
            digits(optics.typical / savings.typical)
        ),
        turns: vec![turn(
            library,
            "transceiver.energy",
            "there is something left to save",
            margin,
        )?],
        inputs: paths(library, &[HELD, POWER, &["dram.standby"]]),
    })
}

pub fn conveyor(library: &Library) -> Result<Claim, ClaimError> {
    let wait = article(library)?.latency_s;
    let random = value(library, "dram.latency")?;
    let mut computed = vec![
        finding("half a lap", wait, "s"),
        finding("DRAM", random, "s"),
    ];
    let mut inputs = paths(
        library,
        &[&["loop.length", "fiber.group_index", "dram.latency"]],
    );
    for sheet in library.of_kind(SheetKind::Model) {
        let model = LanguageModel::of(library, &sheet.id)?;
        let Some(experts) = model.experts else {
            continue;
        };
        let share = model.needed_bytes(1) / model.weights_bytes;
        let certain = f64::from(experts.certain_from(CERTAIN_SHARE));
        computed.push(finding(
            &format!("{}: needed at batch 1", model.name),
            Interval::exact(share),
            "%",
        ));
        computed.push(finding(
            &format!("{}: certain again from batch", model.name),
            Interval::exact(certain),
            "",
        ));
        let keys = [
            "experts",
            "experts_per_token",
            "expert",
            "expert_layers",
            "weights",
            "embedding",
        ];
        inputs.extend(keys.map(|key| format!("{}.{key}", sheet.id)));
    }
    let margin = |library: &Library| {
        let wait = unit_of(library, LOOP)?.latency_s.typical;
        Some(wait - typical(library, "dram.latency")?)
    };
    Ok(Claim {
        number: 5,
        said: "It is a conveyor belt, not a cabinet: a random read waits half a lap".to_owned(),
        numbers_said: Vec::new(),
        computed,
        verdict: less(random, wait),
        because: "a known order makes the wait free; expert routing breaks the order until the \
                  batch is so large that every expert is wanted"
            .to_owned(),
        turns: vec![turn(
            library,
            "loop.length",
            "half a lap is a wait for DRAM",
            margin,
        )?],
        inputs,
    })
}

pub fn growth(library: &Library) -> Result<Claim, ClaimError> {
    let (fiber, hbm) = (
        value(library, "fiber-rate.growth")?,
        value(library, "hbm-rate.growth")?,
    );
    let (loop_rate, stack) = (value(library, "loop.rate")?, value(library, "hbm4.rate")?);
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
            Interval::exact(years),
            "",
        ));
    }
    Ok(Claim {
        number: 6,
        said: "Fiber has the better growth trajectory".to_owned(),
        numbers_said: Vec::new(),
        computed,
        verdict: less(hbm, fiber),
        because: format!(
            "one fiber grows by {} a year, one stack by {}; more cores or fibers change that, and \
             so do more stacks",
            percent(fiber.typical),
            percent(hbm.typical)
        ),
        turns: vec![
            turn(library, "fiber-rate.growth", "both grow alike", margin)?,
            turn(library, "hbm-rate.growth", "both grow alike", margin)?,
        ],
        inputs: paths(
            library,
            &[&[
                "fiber-rate.growth",
                "hbm-rate.growth",
                "loop.rate",
                "hbm4.rate",
                "mcf19.cores",
            ]],
        ),
    })
}

/// Years until what is `ratio` times less has caught up; `None` if it never will.
fn years_until(ratio: f64, growth: f64, growth_of_less: f64) -> Option<f64> {
    let gain = ((1.0 + growth_of_less) / (1.0 + growth)).ln();
    (gain > 0.0 && ratio > 1.0).then(|| ratio.ln() / gain)
}
