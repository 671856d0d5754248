//! Plots as SVG. Colours are classes, which the page's style resolves for light
//! and dark. Knows no results.

use std::fmt::Write;

use super::format::{digits, percent, si};
use super::plot::{Axis, Bar, Mark, Plot, Series, Shape, Whisker};
use super::scale::Scale;

/// How many colours there are before they come again.
pub const COLOURS: usize = 8;

const WIDTH: f64 = 720.0;
const LINES_HEIGHT: f64 = 400.0;
const ROW_HEIGHT: f64 = 30.0;

/// The inner rectangle of a plot.
struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, at: f64) -> f64 {
        self.left + at * (self.right - self.left)
    }

    fn y(&self, at: f64) -> f64 {
        self.bottom - at * (self.bottom - self.top)
    }
}

/// The plot as an SVG element; `None` if it has no values to show.
pub fn draw(plot: &Plot) -> Option<String> {
    match &plot.shape {
        Shape::Lines {
            x,
            y,
            series,
            marks,
        } => lines(&plot.title, x, y, series, marks),
        Shape::Whiskers { x, rows } => whiskers(&plot.title, x, rows),
        Shape::Shares { parts, rows } => Some(shares(&plot.title, parts, rows)),
    }
}

/// Text that cannot be taken for markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title)
    )
}

fn text(out: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>",
        escape(content)
    );
}

fn line(out: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
    );
}

/// The name of an axis with its unit, for where ticks carry no unit.
fn axis_label(axis: &Axis) -> String {
    match axis.unit.is_empty() {
        true => axis.label.clone(),
        false => format!("{} [{}]", axis.label, axis.unit),
    }
}

fn tick(value: f64, axis: &Axis) -> String {
    match axis.unit.as_str() {
        "" => si(value, "").replace(' ', ""),
        "$" if value.abs() < 1e3 => format!("${}", digits(value)),
        "$" => super::format::dollars(value),
        // Prefixes mean nothing on a logarithmic scale.
        "%" | "dB" | "dBm" => digits(value),
        // Nobody measures fiber in megametres.
        "m" if value >= 1e3 => format!("{} km", digits(value / 1e3)),
        unit => si(value, unit),
    }
}

fn lines(title: &str, x: &Axis, y: &Axis, series: &[Series], marks: &[Mark]) -> Option<String> {
    let points = || series.iter().flat_map(|s| s.points.iter());
    let bands = series
        .iter()
        .flat_map(|s| s.band.iter().flat_map(|&(low, high)| [low, high]));
    let x_marks = marks.iter().filter_map(|mark| mark.x);
    let y_marks = marks
        .iter()
        .filter(|mark| mark.x.is_none())
        .map(|mark| mark.y);
    let x_scale = Scale::around(points().map(|p| p.0).chain(x_marks), x.log)?;
    let y_scale = Scale::around(points().map(|p| p.1).chain(bands).chain(y_marks), y.log)?;
    let frame = Frame {
        left: 86.0,
        top: 14.0,
        right: WIDTH - 20.0,
        bottom: LINES_HEIGHT - 52.0,
    };
    let mut out = open(title, LINES_HEIGHT);
    for value in x_scale.ticks() {
        let at = frame.x(x_scale.place(value)?);
        line(&mut out, "grid", (at, frame.top), (at, frame.bottom));
        text(
            &mut out,
            at,
            frame.bottom + 18.0,
            "tick mid",
            &tick(value, x),
        );
    }
    for value in y_scale.ticks() {
        let at = frame.y(y_scale.place(value)?);
        line(&mut out, "grid", (frame.left, at), (frame.right, at));
        text(
            &mut out,
            frame.left - 8.0,
            at + 4.0,
            "tick end",
            &tick(value, y),
        );
    }
    line(
        &mut out,
        "axis",
        (frame.left, frame.bottom),
        (frame.right, frame.bottom),
    );
    let middle = (frame.left + frame.right) / 2.0;
    text(
        &mut out,
        middle,
        LINES_HEIGHT - 10.0,
        "label mid",
        &axis_label(x),
    );
    let _ = writeln!(
        out,
        "<text transform=\"translate(16 {:.1}) rotate(-90)\" class=\"label mid\">{}</text>",
        (frame.top + frame.bottom) / 2.0,
        escape(&axis_label(y))
    );
    let place =
        |&(px, py): &(f64, f64)| Some((frame.x(x_scale.place(px)?), frame.y(y_scale.place(py)?)));
    for (index, one) in series.iter().enumerate() {
        let colour = index % COLOURS;
        band(&mut out, one, colour, place);
        curve(&mut out, one, colour, (x, y), place);
    }
    for (row, mark) in marks.iter().enumerate() {
        draw_mark(&mut out, mark, row, &frame, &x_scale, &y_scale);
    }
    out += "</svg>\n";
    Some(out)
}

fn band(
    out: &mut String,
    series: &Series,
    colour: usize,
    place: impl Fn(&(f64, f64)) -> Option<(f64, f64)>,
) {
    if series.band.len() != series.points.len() || series.band.is_empty() {
        return;
    }
    let pairs = || series.points.iter().zip(&series.band);
    let low = pairs().filter_map(|(&(x, _), &(low, _))| place(&(x, low)));
    let high = pairs()
        .rev()
        .filter_map(|(&(x, _), &(_, high))| place(&(x, high)));
    let path: Vec<String> = low
        .chain(high)
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = writeln!(
        out,
        "<polygon class=\"band f{colour}\" points=\"{}\"/>",
        path.join(" ")
    );
}

fn curve(
    out: &mut String,
    series: &Series,
    colour: usize,
    (x, y): (&Axis, &Axis),
    place: impl Fn(&(f64, f64)) -> Option<(f64, f64)>,
) {
    let placed: Vec<_> = series
        .points
        .iter()
        .filter_map(|p| place(p).map(|at| (p, at)))
        .collect();
    let path: Vec<String> = placed
        .iter()
        .map(|(_, (x, y))| format!("{x:.1},{y:.1}"))
        .collect();
    let dashed = if series.dashed { " dashed" } else { "" };
    let _ = writeln!(
        out,
        "<polyline class=\"curve s{colour}{dashed}\" points=\"{}\"/>",
        path.join(" ")
    );
    // Dots to point at, unless they would be a line of their own.
    if placed.len() > 30 {
        return;
    }
    let radius = if series.dashed { 2.0 } else { 3.0 };
    for ((px, py), (at_x, at_y)) in placed {
        let _ = writeln!(
            out,
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"{radius}\" class=\"f{colour}\"><title>{}: {}, {}</title></circle>",
            escape(&series.name),
            escape(&tick(*px, x)),
            escape(&tick(*py, y)),
        );
    }
}

/// Labels at the top are in rows of their own, since marks may be close together.
fn draw_mark(out: &mut String, mark: &Mark, row: usize, frame: &Frame, x: &Scale, y: &Scale) {
    match mark.x {
        Some(value) => {
            let Some(at) = x.place(value).map(|at| frame.x(at)) else {
                return;
            };
            line(out, "mark", (at, frame.top), (at, frame.bottom));
            let late = at > frame.left + 0.75 * (frame.right - frame.left);
            let (dx, class) = if late {
                (-5.0, "note end")
            } else {
                (5.0, "note")
            };
            let below_top = 12.0 + 16.0 * row as f64;
            text(out, at + dx, frame.top + below_top, class, &mark.label);
        }
        None => {
            let Some(at) = y.place(mark.y).map(|at| frame.y(at)) else {
                return;
            };
            line(out, "mark", (frame.left, at), (frame.right, at));
            text(out, frame.right - 4.0, at - 5.0, "note end", &mark.label);
        }
    }
}

/// Room for the longest name at the left of rows.
fn names_width<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    (longest as f64 * 7.0 + 16.0).clamp(60.0, 300.0)
}

fn whiskers(title: &str, x: &Axis, rows: &[Whisker]) -> Option<String> {
    let all = rows.iter().map(|row| row.value);
    let scale = Scale::around(all.flat_map(|v| [v.low, v.typical, v.high]), x.log)?;
    let height = 60.0 + ROW_HEIGHT * rows.len() as f64;
    let frame = Frame {
        left: names_width(rows.iter().map(|row| row.name.as_str())),
        top: 8.0,
        right: WIDTH - 24.0,
        bottom: height - 50.0,
    };
    let mut out = open(title, height);
    for value in scale.ticks() {
        let at = frame.x(scale.place(value)?);
        line(&mut out, "grid", (at, frame.top), (at, frame.bottom));
        text(
            &mut out,
            at,
            frame.bottom + 18.0,
            "tick mid",
            &tick(value, x),
        );
    }
    let middle = (frame.left + frame.right) / 2.0;
    text(&mut out, middle, height - 10.0, "label mid", &axis_label(x));
    for (index, row) in rows.iter().enumerate() {
        let y = frame.top + ROW_HEIGHT * (index as f64 + 0.5);
        text(&mut out, frame.left - 10.0, y + 4.0, "row end", &row.name);
        let Some(typical) = scale.place(row.value.typical) else {
            text(&mut out, frame.left + 4.0, y + 4.0, "note", "0");
            continue;
        };
        // What reaches down to 0 has no place on a logarithmic axis.
        let low = scale.place(row.value.low).unwrap_or(0.0);
        let high = scale.place(row.value.high).unwrap_or(typical);
        line(
            &mut out,
            "whisker s0",
            (frame.x(low), y),
            (frame.x(high), y),
        );
        let [low, typical_text, high] =
            [row.value.low, row.value.typical, row.value.high].map(|v| tick(v, x));
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\" class=\"f0\"><title>{}: {} ({} to {})</title></circle>",
            frame.x(typical),
            escape(&row.name),
            escape(&typical_text),
            escape(&low),
            escape(&high),
        );
    }
    out += "</svg>\n";
    Some(out)
}

fn shares(title: &str, parts: &[String], rows: &[Bar]) -> String {
    let height = 44.0 + ROW_HEIGHT * rows.len() as f64;
    let frame = Frame {
        left: names_width(rows.iter().map(|row| row.name.as_str())),
        top: 6.0,
        right: WIDTH - 24.0,
        bottom: height - 34.0,
    };
    let mut out = open(title, height);
    for (index, row) in rows.iter().enumerate() {
        let y = frame.top + ROW_HEIGHT * index as f64 + 4.0;
        text(&mut out, frame.left - 10.0, y + 15.0, "row end", &row.name);
        let sum: f64 = row.parts.iter().sum();
        let mut from = 0.0;
        for (part, &value) in row.parts.iter().enumerate() {
            let share = if sum > 0.0 { value / sum } else { 0.0 };
            if share <= 0.0 {
                continue;
            }
            let (left, right) = (frame.x(from), frame.x(from + share));
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" class=\"f{}\"><title>{}: {}</title></rect>",
                (right - left).max(0.5),
                ROW_HEIGHT - 8.0,
                part % COLOURS,
                escape(parts.get(part).map_or("", |name| name)),
                percent(share),
            );
            if share > 0.09 {
                text(
                    &mut out,
                    (left + right) / 2.0,
                    y + 15.0,
                    "inside mid",
                    &percent((share * 100.0).round() / 100.0),
                );
            }
            from += share;
        }
    }
    for at in [0.0, 0.25, 0.5, 0.75, 1.0] {
        text(
            &mut out,
            frame.x(at),
            height - 12.0,
            "tick mid",
            &percent(at),
        );
    }
    out += "</svg>\n";
    out
}
