//! Lines over an axis, with their ranges and with marks to compare with.

use std::fmt::Write;

use super::super::plot::{Axis, Mark, Series};
use super::super::scale::Scale;
use super::axes::{self, tick};
use super::{COLOURS, Frame, WIDTH, escape, line, open, text, width_of};

const HEIGHT: f64 = 400.0;
/// From where on a mark's label stands left of it, as a share of the width.
const LATE: f64 = 0.6;
/// Height of a row of labels.
const LABEL: f64 = 16.0;

pub fn lines(
    title: &str,
    (x, y): (&Axis, &Axis),
    series: &[Series],
    marks: &[Mark],
) -> Option<String> {
    let points = || series.iter().flat_map(|s| s.points.iter());
    let bands = series
        .iter()
        .flat_map(|s| s.band.iter().flat_map(|&(low, high)| [low, high]));
    let x_marks = marks.iter().filter_map(|mark| mark.x);
    let y_marks = marks.iter().filter(|mark| mark.x.is_none());
    let xs = points().map(|p| p.0).chain(x_marks);
    let ys = points().map(|p| p.1).chain(bands);
    let ys = ys.chain(y_marks.map(|mark| mark.y));
    let (x_scale, y_scale) = (Scale::around(xs, x)?, Scale::around(ys, y)?);
    let frame = Frame {
        left: axes::vertical_width(y, &y_scale),
        top: 14.0,
        right: WIDTH - 24.0,
        bottom: HEIGHT - axes::BELOW,
    };
    let mut out = open(title, HEIGHT);
    axes::horizontal(&mut out, x, &x_scale, &frame);
    axes::vertical(&mut out, y, &y_scale, &frame);
    let place =
        |&(px, py): &(f64, f64)| Some((frame.x(x_scale.place(px)?), frame.y(y_scale.place(py)?)));
    for (index, one) in series.iter().enumerate() {
        let colour = index % COLOURS;
        band(&mut out, one, colour, place);
        curve(&mut out, one, colour, (x, y), place);
    }
    let mut taken = Vec::new();
    for mark in marks {
        draw_mark(&mut out, mark, &frame, (&x_scale, &y_scale), &mut taken);
    }
    out += "</svg>\n";
    Some(out)
}

type Place = (f64, f64);

/// Points for an attribute.
fn joined(points: impl Iterator<Item = Place>) -> String {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}

fn band(
    out: &mut String,
    series: &Series,
    colour: usize,
    place: impl Fn(&(f64, f64)) -> Option<Place>,
) {
    if series.band.len() != series.points.len() || series.band.is_empty() {
        return;
    }
    let pairs = || series.points.iter().zip(&series.band);
    let low = pairs().filter_map(|(&(x, _), &(low, _))| place(&(x, low)));
    let high = pairs()
        .rev()
        .filter_map(|(&(x, _), &(_, high))| place(&(x, high)));
    let _ = writeln!(
        out,
        "<polygon class=\"band f{colour}\" points=\"{}\"/>",
        joined(low.chain(high))
    );
}

/// A line, interrupted where a point has no place.
fn curve(
    out: &mut String,
    series: &Series,
    colour: usize,
    (x, y): (&Axis, &Axis),
    place: impl Fn(&(f64, f64)) -> Option<Place>,
) {
    let placed: Vec<(&(f64, f64), Option<Place>)> =
        series.points.iter().map(|p| (p, place(p))).collect();
    let dashed = if series.dashed { " dashed" } else { "" };
    for piece in placed.split(|(_, at)| at.is_none()) {
        let _ = writeln!(
            out,
            "<polyline class=\"curve s{colour}{dashed}\" points=\"{}\"/>",
            joined(piece.iter().filter_map(|(_, at)| *at))
        );
    }
    // Dots to point at, unless they would be a line of their own or say nothing.
    let level = matches!(series.points[..], [(_, left), (_, right)] if left == right);
    if placed.len() > 30 || level {
        return;
    }
    let radius = if series.dashed { 2.0 } else { 3.0 };
    for ((px, py), at) in placed {
        let Some((at_x, at_y)) = at else { continue };
        let _ = writeln!(
            out,
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"{radius}\" class=\"f{colour}\"><title>{}: {}, {}</title></circle>",
            escape(&series.name),
            escape(&tick(*px, x)),
            escape(&tick(*py, y)),
        );
    }
}

/// Draws a mark; its label goes into the first row at the top where it meets
/// none of those in `taken`, which are `(row, from, to)`.
fn draw_mark(
    out: &mut String,
    mark: &Mark,
    frame: &Frame,
    (x, y): (&Scale, &Scale),
    taken: &mut Vec<(usize, f64, f64)>,
) {
    let Some(value) = mark.x else {
        let Some(at) = y.place(mark.y).map(|at| frame.y(at)) else {
            return;
        };
        line(out, "mark", (frame.left, at), (frame.right, at));
        let right = frame.right - 4.0;
        return text(out, right, at - 5.0, "note end", &mark.label);
    };
    let Some(at) = x.place(value).map(|at| frame.x(at)) else {
        return;
    };
    line(out, "mark", (at, frame.top), (at, frame.bottom));
    let late = at > frame.x(LATE);
    let (from, class, label) = match late {
        // What hangs to the left says which line it belongs to.
        true => (-5.0, "note end", format!("{} \u{25b8}", mark.label)),
        false => (5.0, "note", mark.label.clone()),
    };
    let width = width_of(&label);
    let (left, right) = match late {
        true => (at - width, at),
        false => (at, at + width),
    };
    let meets = |row: usize| {
        let same = taken.iter().filter(|(other, ..)| *other == row);
        let mut same = same.map(|&(_, from, to)| left < to && from < right);
        same.any(|meets| meets)
    };
    let row = (0..).find(|&row| !meets(row)).unwrap_or(0);
    taken.push((row, left, right));
    let below_top = 12.0 + LABEL * row as f64;
    text(out, at + from, frame.top + below_top, class, &label);
}
