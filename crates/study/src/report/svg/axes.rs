//! Axes: grid, ticks and names.

use std::fmt::Write;

use super::super::format::{digits, dollars, si};
use super::super::plot::Axis;
use super::super::scale::Scale;
use super::{Frame, escape, line, text, width_of};

/// Room below a plot for ticks and the name of the axis.
pub const BELOW: f64 = 52.0;

/// Units that ticks do not carry: prefixes mean nothing on a logarithmic scale.
const BESIDE_THE_NAME: [&str; 3] = ["%", "dB", "dBm"];

/// A value as at a tick.
pub fn tick(value: f64, axis: &Axis) -> String {
    match axis.unit.as_str() {
        "" => si(value, "").replace(' ', ""),
        "$" if value.abs() < 1e3 => format!("${}", digits(value)),
        "$" => dollars(value),
        unit if BESIDE_THE_NAME.contains(&unit) => digits(value),
        // Fiber lengths are given in kilometres, not megametres.
        "m" if value >= 1e3 => format!("{} km", digits(value / 1e3)),
        unit => si(value, unit),
    }
}

/// The name of an axis, with its unit where the ticks do not carry it.
fn name(axis: &Axis) -> String {
    match BESIDE_THE_NAME.contains(&axis.unit.as_str()) {
        true => format!("{} [{}]", axis.label, axis.unit),
        false => axis.label.clone(),
    }
}

/// The horizontal axis, below `frame`.
pub fn horizontal(out: &mut String, axis: &Axis, scale: &Scale, frame: &Frame) {
    for value in scale.ticks() {
        let Some(at) = scale.place(value).map(|at| frame.x(at)) else {
            continue;
        };
        line(out, "grid", (at, frame.top), (at, frame.bottom));
        let below = frame.bottom + 18.0;
        text(out, at, below, "tick mid", &tick(value, axis));
    }
    let middle = (frame.left + frame.right) / 2.0;
    let below = frame.bottom + BELOW - 10.0;
    text(out, middle, below, "label mid", &name(axis));
}

/// The vertical axis, left of `frame`, which leaves room for it.
pub fn vertical(out: &mut String, axis: &Axis, scale: &Scale, frame: &Frame) {
    for value in scale.ticks() {
        let Some(at) = scale.place(value).map(|at| frame.y(at)) else {
            continue;
        };
        line(out, "grid", (frame.left, at), (frame.right, at));
        let left = frame.left - 8.0;
        text(out, left, at + 4.0, "tick end", &tick(value, axis));
    }
    let corners = ((frame.left, frame.bottom), (frame.right, frame.bottom));
    line(out, "axis", corners.0, corners.1);
    let _ = writeln!(
        out,
        "<text transform=\"translate(14 {:.1}) rotate(-90)\" class=\"label mid\">{}</text>",
        (frame.top + frame.bottom) / 2.0,
        escape(&name(axis))
    );
}

/// Room that the vertical axis takes.
pub fn vertical_width(axis: &Axis, scale: &Scale) -> f64 {
    let ticks = scale.ticks().into_iter();
    let widest = ticks.map(|value| width_of(&tick(value, axis)));
    widest.fold(20.0, f64::max) + 34.0
}
