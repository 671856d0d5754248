//! `delayline bench` of a mixture whose choices are recorded and then followed.

mod common;

use common::*;
use delayline_synth::{Experts, Quant};

#[test]
fn guesses_of_a_followed_route_are_as_right_as_asked_for() {
    let dir = scratch();
    let [model, route] = ["moe.gguf", "moe.route.csv"].map(|name| text(&dir.path().join(name)));
    // Long enough for the drive's rate to be measured on it.
    let mut shape = delayline_synth::shape("tiny-qwen3moe").expect("a shape");
    shape.experts = shape.experts.map(|of| Experts { n_ff: 2048, ..of });
    delayline_synth::write(&shape, Quant::Q4_0, 1, model.as_ref(), &mut |_, _| {})
        .expect("a model");
    // A prompt of many rows, for which nothing is guessed, and then an answer.
    let fixed = "bench --threads 1 --ctx 128 --memory 54MiB --repeat 1 -n 12 --prompt-tokens 32";
    let bench = |more: &[&str]| {
        let output = delayline(fixed, &[&["--json", &*model], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let is_budget = |one: &serde_json::Value| one["event"] == "budget";
        let found = objects(&output).into_iter().find(is_budget);
        found.unwrap_or_else(|| panic!("{output:?}"))
    };
    bench(&["--record", &route]);
    let accuracy = |asked: &str| {
        let found = bench(&["--route", &route, "--guess-accuracy", asked]);
        number(&found, "/experts/guesses/accuracy")
    };
    assert_eq!(accuracy("1"), 1.0);
    // Wrong ones are drawn from what the route uses, and may be right by chance.
    let spoiled = accuracy("0.5");
    assert!((0.4..0.98).contains(&spoiled), "{spoiled}");
}
