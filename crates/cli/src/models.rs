//! `delayline models`: which architectures run, and why others do not. Those that run are
//! those of which `synth` has a tiny model, which the tests run; `llama` refuses the others.

use std::collections::BTreeMap;

use anyhow::Result;
use delayline_llama::{REFUSED, rides_alone};
use delayline_synth::tiny_archs;
use serde_json::json;

use crate::output::{Output, TextTable};

/// The properties of an architecture that runs.
#[derive(Clone, Copy, Debug)]
struct Runs {
    has_attention: bool,
    has_state: bool,
    has_experts: bool,
}

/// Prints the table.
///
/// # Errors
/// When standard output is closed.
pub fn run(output: &Output) -> Result<()> {
    let mut table = TextTable::new(["architecture", "remembers by", "experts", "laps"]);
    for words in 1..=3 {
        table.left(words);
    }
    for (arch, runs) in known() {
        let memory = match (runs.has_attention, runs.has_state) {
            (true, true) => "cells and state",
            (false, true) => "state",
            _ => "cells",
        };
        // Without attention laps cannot be shared once a sequence has left.
        let alone = rides_alone(&arch) || !runs.has_attention;
        let laps = if alone { "one at a time" } else { "shared" };
        output.object(
            &json!({"event": "model", "architecture": arch, "runs": true,
            "attention": runs.has_attention, "state": runs.has_state,
            "experts": runs.has_experts, "shares_laps": !alone}),
        )?;
        let experts = if runs.has_experts { "yes" } else { "" };
        table.row([arch, memory.into(), experts.into(), laps.into()]);
    }
    output.line(table)?;
    for refused in REFUSED {
        for arch in refused.archs {
            output.object(
                &json!({"event": "model", "architecture": arch, "runs": false,
                "why": refused.why}),
            )?;
        }
        output.line(format!("not {}: {}", refused.archs.join(", "), refused.why))?;
    }
    output
        .line("what is in neither list is new or was not tried: it is opened as the others are")?;
    Ok(())
}

fn known() -> BTreeMap<String, Runs> {
    let shapes = delayline_synth::names().filter_map(delayline_synth::shape);
    let shapes = shapes.map(|shape| {
        let runs = Runs {
            has_attention: true,
            has_state: false,
            has_experts: shape.experts.is_some(),
        };
        (shape.arch.name().to_owned(), runs)
    });
    let tiny = tiny_archs().map(|arch| {
        let runs = Runs {
            has_attention: arch.has_attention(),
            has_state: arch.has_state(),
            has_experts: arch.has_experts(),
        };
        (arch.arch().to_owned(), runs)
    });
    let mut all = BTreeMap::<String, Runs>::new();
    for (arch, runs) in shapes.chain(tiny) {
        // One architecture may have models of both kinds.
        let known = all.entry(arch).or_insert(runs);
        known.has_experts |= runs.has_experts;
    }
    all
}
