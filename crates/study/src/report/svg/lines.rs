//! Lines over an axis, with their ranges and with marks to compare with.

use std::fmt::Write;

use super::super::plot::{Axis, PlotMark, Series};
use super::super::scale::Scale;
use super::axes::{self, tick};
use super::{COLOURS, Frame, WIDTH, line, open, point, text, width_of};

const HEIGHT: f64 = 400.0;
/// Maximum number of dots on a line.
const DOTS: usize = 30;
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
        right: WIDTH - names_width(series),
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
    if series.len() > 1 {
        names(&mut out, series, place);
    }
    let end = |one: &Series| one.points.iter().rev().find_map(place).map(|(_, y)| y);
    let ends: Vec<f64> = series.iter().filter_map(end).collect();
    let at = |mark: &PlotMark| Some(frame.x(x_scale.place(mark.x?)?));
    let mut labels = Labels {
        lines: marks.iter().filter_map(at).collect(),
        right: frame.right,
        taken: Vec::new(),
    };
    for mark in marks {
        match mark.x {
            Some(_) => upright(&mut out, mark, at(mark), &frame, &mut labels),
            None => level(&mut out, mark, y_scale.place(mark.y), &frame, &ends),
        }
    }
    out += "</svg>\n";
    Some(out)
}

/// Letters in a row of a name at the end of a line; a longer name goes on in the next row.
const NAME_MAX: usize = 38;
/// Distance of two names, one below the other.
const NAME: f64 = 14.0;

/// Room for the names at the ends of the lines.
fn names_width(series: &[Series]) -> f64 {
    let longest = series
        .iter()
        .flat_map(|one| rows(&one.name))
        .map(|row| row.chars().count())
        .max();
    match series.len() {
        0 | 1 => 24.0,
        _ => 16.0 + 6.4 * longest.unwrap_or(0) as f64,
    }
}

/// A name in rows, broken between words.
fn rows(name: &str) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in name.split_whitespace() {
        match rows.last_mut() {
            Some(row) if row.chars().count() + 1 + word.chars().count() <= NAME_MAX => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows
}

/// The name of each line at its end, none on another.
fn names(out: &mut String, series: &[Series], place: impl Fn(&(f64, f64)) -> Option<Place>) {
    let end = |(index, one): (usize, &Series)| {
        let (x, y) = one.points.iter().rev().find_map(&place)?;
        Some((rows(&one.name), index, x, y))
    };
    let mut ends: Vec<(Vec<String>, usize, f64, f64)> =
        series.iter().enumerate().filter_map(end).collect();
    ends.sort_by(|a, b| a.3.total_cmp(&b.3));
    let height = |rows: &[String]| NAME * rows.len().max(1) as f64;
    // Pushed down where they overlap, then up again from the lower edge.
    for index in 1..ends.len() {
        let above = &ends[index - 1];
        let least = above.3 + height(&above.0);
        ends[index].3 = ends[index].3.max(least);
    }
    let mut lowest = HEIGHT - axes::BELOW + 4.0;
    for (rows, _, _, y) in ends.iter_mut().rev() {
        *y = y.min(lowest - height(rows) + NAME);
        lowest = *y - NAME;
    }
    for (rows, index, x, y) in ends {
        let class = format!("at t{}", index % COLOURS);
        for (row, part) in rows.iter().enumerate() {
            text(out, x + 7.0, y + 4.0 + NAME * row as f64, &class, part);
        }
    }
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
    // Dots to point at, unless they would say nothing; of many points every n-th.
    let level = matches!(series.points[..], [(_, left), (_, right)] if left == right);
    if level {
        return;
    }
    let step = placed.len().div_ceil(DOTS);
    let radius = if series.dashed || step > 1 { 2.0 } else { 3.0 };
    for ((px, py), at) in placed.into_iter().step_by(step.max(1)) {
        let Some((at_x, at_y)) = at else { continue };
        let circle = format!(
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"{radius}\" class=\"f{colour}\"/>"
        );
        let value = format!("{}: {}, {}", series.name, tick(*px, x), tick(*py, y));
        point(out, &circle, (at_x, at_y), &value);
    }
}

/// A mark across the plot, its label at the right, or at the left where a line ends beside it.
fn level(out: &mut String, mark: &PlotMark, at: Option<f64>, frame: &Frame, ends: &[f64]) {
    let Some(at) = at.map(|at| frame.y(at)) else {
        return;
    };
    line(out, "mark", (frame.left, at), (frame.right, at));
    let (x, class) = match ends.iter().any(|end| (end - at).abs() < 1.5 * LABEL) {
        true => (frame.left + 4.0, "note"),
        false => (frame.right - 4.0, "note end"),
    };
    text(out, x, at - 5.0, class, &mark.label);
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
    fn the_label_of_a_level_keeps_clear_of_the_end_of_a_line() {
        let at = |y: f64| {
            let level = PlotMark {
                label: "most".to_owned(),
                x: None,
                y,
            };
            labels(&drawn(&[(0.0, 1.0), (100.0, 50.0)], &[level]))[0]
                .1
                .clone()
        };
        assert_eq!((at(10.0), at(50.0)), ("note end".into(), "note".into()));
    }

    /// All of a long name is there, in rows that fit and that meet no other name.
    #[test]
    fn a_long_name_is_whole_and_below_no_other() {
        let long = "High Bandwidth Flash, delivering as fast as the loop of the article does";
        let named = |name: &str| Series {
            name: name.to_owned(),
            points: vec![(0.0, 1.0), (1.0, 1.0)],
            ..Series::default()
        };
        let axis = Axis::linear("x", "");
        let series = ["short", long, "another"].map(named);
        let svg = lines("title", (&axis, &axis), &series, &[]).expect("it has points");
        let part = |line: &str, from: &str, to: char| -> String {
            let rest = line.split(from).nth(1).unwrap_or_default();
            rest.chars().take_while(|&letter| letter != to).collect()
        };
        let names: Vec<(f64, String)> = svg
            .lines()
            .filter(|line| line.contains("class=\"at t"))
            .map(|line| {
                let y = part(line, " y=\"", '"').parse().expect("a number");
                (y, part(line, "\">", '<'))
            })
            .collect();
        let whole: Vec<&str> = names.iter().map(|(_, text)| text.as_str()).collect();
        assert!(whole.join(" ").contains(long), "{names:?}");
        assert!(whole.iter().all(|row| row.chars().count() <= NAME_MAX));
        assert!(names.len() > series.len(), "{names:?}");
        let mut ys: Vec<f64> = names.iter().map(|(y, _)| *y).collect();
        ys.sort_by(f64::total_cmp);
        let apart = ys.windows(2).all(|pair| pair[1] - pair[0] > NAME - 0.2);
        assert!(apart, "{names:?}");
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
