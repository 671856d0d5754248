//! Plots of a row for each thing: a dot with its range, or shares of a whole.

use super::super::format::percent;
use super::super::plot::{Axis, Bar, Whisker};
use super::super::scale::Scale;
use super::axes::{self, tick};
use super::{COLOURS, Frame, WIDTH, line, open, point, text, width_of};

const ROW_HEIGHT: f64 = 30.0;

/// The frame of `count` rows, with room for the longest name at their left.
fn frame<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> Frame {
    let widest = names.map(width_of).fold(0.0, f64::max);
    let top = 8.0;
    Frame {
        left: (widest + 16.0).clamp(60.0, 300.0),
        top,
        right: WIDTH - 24.0,
        bottom: top + ROW_HEIGHT * count as f64,
    }
}

/// The middle of a row, with its name written beside it.
fn row(out: &mut String, frame: &Frame, index: usize, name: &str) -> f64 {
    let y = frame.top + ROW_HEIGHT * (index as f64 + 0.5);
    text(out, frame.left - 10.0, y + 4.0, "row end", name);
    y
}

pub fn whiskers(title: &str, x: &Axis, rows: &[Whisker]) -> Option<String> {
    let all = rows.iter().map(|row| row.value);
    let scale = Scale::around(all.flat_map(|v| [v.low, v.typical, v.high]), x)?;
    let frame = frame(rows.iter().map(|row| row.name.as_str()), rows.len());
    let mut out = open(title, frame.bottom + axes::BELOW);
    axes::horizontal(&mut out, x, &scale, &frame);
    for (index, one) in rows.iter().enumerate() {
        let y = row(&mut out, &frame, index, &one.name);
        let Some(typical) = scale.place(one.value.typical) else {
            text(&mut out, frame.left + 4.0, y + 4.0, "note", "0");
            continue;
        };
        // What reaches down to 0 has no place on a logarithmic axis.
        let low = scale.place(one.value.low).unwrap_or(0.0);
        let high = scale.place(one.value.high).unwrap_or(typical);
        let ends = ((frame.x(low), y), (frame.x(high), y));
        line(&mut out, "whisker s0", ends.0, ends.1);
        let [low, typical_text, high] =
            [one.value.low, one.value.typical, one.value.high].map(|v| tick(v, x));
        let at = frame.x(typical);
        let circle = format!("<circle cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"5\" class=\"f0\"/>");
        let value = format!("{typical_text} ({low} to {high})");
        point(&mut out, &circle, (at, y), &value);
    }
    out += "</svg>\n";
    Some(out)
}

pub fn shares(title: &str, parts: &[String], rows: &[Bar]) -> String {
    let frame = frame(rows.iter().map(|row| row.name.as_str()), rows.len());
    let mut out = open(title, frame.bottom + 30.0);
    for (index, one) in rows.iter().enumerate() {
        let y = row(&mut out, &frame, index, &one.name);
        let sum: f64 = one.parts.iter().sum();
        let mut from = 0.0;
        for (part, &value) in one.parts.iter().enumerate() {
            let share = if sum > 0.0 { value / sum } else { 0.0 };
            if share <= 0.0 {
                continue;
            }
            let (left, right) = (frame.x(from), frame.x(from + share));
            let rect = format!(
                "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" class=\"f{}\"/>",
                y - ROW_HEIGHT / 2.0 + 4.0,
                (right - left).max(0.5),
                ROW_HEIGHT - 8.0,
                part % COLOURS,
            );
            let name = parts.get(part).map_or("", |name| name);
            let value = format!("{name}: {}", percent(share));
            point(&mut out, &rect, ((left + right) / 2.0, y), &value);
            if share > 0.09 {
                let share = percent((share * 100.0).round() / 100.0);
                text(
                    &mut out,
                    (left + right) / 2.0,
                    y + 4.0,
                    "inside mid",
                    &share,
                );
            }
            from += share;
        }
    }
    for at in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let below = frame.bottom + 18.0;
        text(&mut out, frame.x(at), below, "tick mid", &percent(at));
    }
    out += "</svg>\n";
    out
}
