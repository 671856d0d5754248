//! Lines over an axis, with their ranges and with marks to compare with.

use std::fmt::Write;

use super::super::plot::{Axis, PlotMark, Series};
use super::super::scale::Scale;
use super::axes::{self, tick};
use super::{COLOURS, Frame, WIDTH, escape, line, open, text, width_of};

const HEIGHT: f64 = 400.0;
/// Height of a row of labels.
const LABEL: f64 = 16.0;

pub fn lines(
    title: &str,
    (x, y): (&Axis, &Axis),
    series: &[Series],
    marks: &[PlotMark],
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
    let at = |mark: &PlotMark| Some(frame.x(x_scale.place(mark.x?)?));
    let mut labels = Labels {
        lines: marks.iter().filter_map(at).collect(),
        right: frame.right,
        taken: Vec::new(),
    };
    for mark in marks {
        match mark.x {
            Some(_) => upright(&mut out, mark, at(mark), &frame, &mut labels),
            None => level(&mut out, mark, y_scale.place(mark.y), &frame),
        }
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

/// A mark across the plot.
fn level(out: &mut String, mark: &PlotMark, at: Option<f64>, frame: &Frame) {
    let Some(at) = at.map(|at| frame.y(at)) else {
        return;
    };
    line(out, "mark", (frame.left, at), (frame.right, at));
    let right = frame.right - 4.0;
    text(out, right, at - 5.0, "note end", &mark.label);
}

/// Where the labels of upright marks are, so that none meets another.
struct Labels {
    /// Places of all marks.
    lines: Vec<f64>,
    /// Where the plot ends.
    right: f64,
    /// `(row, from, to)` of each label that is there.
    taken: Vec<(usize, f64, f64)>,
}

/// A mark from top to bottom; its label goes into the first row at the top where
/// it meets no other. It hangs to the left where it would leave the plot or cross
/// another mark.
fn upright(out: &mut String, mark: &PlotMark, at: Option<f64>, frame: &Frame, labels: &mut Labels) {
    let Some(at) = at else { return };
    line(out, "mark", (at, frame.top), (at, frame.bottom));
    let width = width_of(&mark.label) + 5.0;
    let crossed = labels.lines.iter().any(|&x| at < x && x < at + width);
    let hangs_left = crossed || at + width > labels.right;
    let (dx, class, label) = match hangs_left {
        // Here it has to be said which line it belongs to.
        true => (-5.0, "note end", format!("{} \u{25b8}", mark.label)),
        false => (5.0, "note", mark.label.clone()),
    };
    let (left, right) = match hangs_left {
        true => (at - width_of(&label), at),
        false => (at, at + width),
    };
    let meets = |row: usize| {
        let mut same = labels.taken.iter().filter(|(other, ..)| *other == row);
        same.any(|&(_, from, to)| left < to && from < right)
    };
    let row = (0..).find(|&row| !meets(row)).unwrap_or(0);
    labels.taken.push((row, left, right));
    let below_top = 12.0 + LABEL * row as f64;
    text(out, at + dx, frame.top + below_top, class, &label);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(label: &str, x: f64) -> PlotMark {
        PlotMark {
            label: label.to_owned(),
            x: Some(x),
            y: 0.0,
        }
    }

    fn drawn(points: &[(f64, f64)], marks: &[PlotMark]) -> String {
        let series = Series {
            points: points.to_vec(),
            ..Series::default()
        };
        let axis = Axis::linear("x", "");
        lines("title", (&axis, &axis), &[series], marks).expect("it has points")
    }

    /// Each label's `y` and class.
    fn labels(svg: &str) -> Vec<(String, String)> {
        let notes = svg.lines().filter(|line| line.contains("class=\"note"));
        let part = |line: &str, from: &str| {
            let rest = line.split(from).nth(1).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        notes
            .map(|line| (part(line, " y=\""), part(line, "class=\"")))
            .collect()
    }

    #[test]
    fn labels_meet_neither_each_other_nor_another_mark() {
        let points = [(0.0, 0.0), (100.0, 1.0)];
        let far = labels(&drawn(&points, &[mark("one", 10.0), mark("two", 60.0)]));
        assert!(far.iter().all(|(_, class)| class == "note"), "{far:?}");
        assert_eq!(far[0].0, far[1].0, "both in the first row");
        let near = labels(&drawn(
            &points,
            &[mark("the one", 50.0), mark("the other", 55.0)],
        ));
        assert_eq!(near[0].1, "note end", "it would cross the other: {near:?}");
        assert_eq!(near[1].1, "note", "{near:?}");
        let late = labels(&drawn(&points, &[mark("at the end", 99.0)]));
        assert_eq!(late[0].1, "note end", "it would leave the plot: {late:?}");
        let both = labels(&drawn(
            &points,
            &[mark("a long one", 50.0), mark("another", 50.0)],
        ));
        assert_ne!(both[0].0, both[1].0, "one below the other: {both:?}");
    }

    #[test]
    fn a_line_is_broken_where_it_has_no_value() {
        let nowhere = f64::NAN;
        let svg = drawn(
            &[
                (0.0, 1.0),
                (1.0, 1.0),
                (1.0, nowhere),
                (2.0, 2.0),
                (3.0, 2.0),
            ],
            &[],
        );
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn a_level_has_no_dots() {
        assert_eq!(
            drawn(&[(0.0, 1.0), (9.0, 1.0)], &[])
                .matches("<circle")
                .count(),
            0
        );
        assert_eq!(
            drawn(&[(0.0, 1.0), (9.0, 2.0)], &[])
                .matches("<circle")
                .count(),
            2
        );
    }
}
