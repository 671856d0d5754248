//! Plots as SVG. Colours are classes, which the page's style resolves for light and dark.

mod axes;
mod lines;
mod rows;

use std::fmt::Write;

use super::plot::{Plot, PlotShape};

/// How many colours there are before they come again.
pub const COLOURS: usize = 8;

const WIDTH: f64 = 720.0;

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
        PlotShape::Lines {
            x,
            y,
            series,
            marks,
        } => lines::lines(&plot.title, (x, y), series, marks),
        PlotShape::Whiskers { x, rows } => rows::whiskers(&plot.title, x, rows),
        PlotShape::Shares { parts, rows } => Some(rows::shares(&plot.title, parts, rows)),
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

/// A mark whose value is shown on hover and on keyboard focus; `shape` is drawn at
/// `(x, y)`.
fn point(out: &mut String, shape: &str, (x, y): (f64, f64), value: &str) {
    // To the side where there is room.
    let (dx, class) = match x > 0.6 * WIDTH {
        true => (-9.0, "value end"),
        false => (9.0, "value"),
    };
    let value = escape(value);
    let _ = writeln!(
        out,
        "<g class=\"point\" tabindex=\"0\" role=\"img\" aria-label=\"{value}\">{shape}\
         <text x=\"{:.1}\" y=\"{:.1}\" class=\"{class}\">{value}</text></g>",
        x + dx,
        y - 9.0,
    );
}

/// Approximate width of a text.
fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * 7.0
}
