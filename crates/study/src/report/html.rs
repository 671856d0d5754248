//! A report as one page that needs nothing else: no script, no font, no other
//! file. Readable in light and dark, on a telephone and on paper.

use std::fmt::Write;

use super::format::{dollars, si};
use super::plot::{Plot, PlotShape};
use super::svg::{COLOURS, draw, escape};
use super::{Input, Report, ReportTable};
use crate::datasheet::Tag;

/// Columns up to which a table is only as wide as it must be.
const NARROW: usize = 4;

const STYLE: &str = include_str!("style.css");

/// How a page begins.
pub const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"generator\" content=\"delayline study\">\n";

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = format!(
        "{HEAD}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n<main>\n<h1>{title}</h1>\n",
        title = escape(&report.title)
    );
    if !report.answer.is_empty() {
        let _ = writeln!(out, "<p class=\"answer\">{}</p>", escape(&report.answer));
    }
    if !report.intro.is_empty() {
        let _ = writeln!(out, "<p class=\"intro\">{}</p>", escape(&report.intro));
    }
    for table in &report.tables {
        add_table(&mut out, table);
    }
    for plot in &report.plots {
        add_plot(&mut out, plot);
    }
    for table in &report.details {
        add_table(&mut out, table);
    }
    if !report.notes.is_empty() {
        out += "<h2>To know</h2>\n<ul>\n";
        for note in &report.notes {
            let _ = writeln!(out, "<li>{}</li>", escape(note));
        }
        out += "</ul>\n";
    }
    add_inputs(&mut out, &report.inputs);
    out += "</main>\n</html>\n";
    out
}

fn add_table(out: &mut String, table: &ReportTable) {
    if !table.title.is_empty() {
        let _ = writeln!(out, "<h2>{}</h2>", escape(&table.title));
    }
    // Tables of few short columns are kept narrow; rows of sentences become paragraphs
    // on small screens.
    let prose = table.rows.iter().flatten().any(|cell| is_prose(cell));
    let class = match (prose, table.heads.len()) {
        (true, _) => " class=\"prose\"",
        (false, ..=NARROW) => " class=\"narrow\"",
        _ => "",
    };
    let _ = write!(out, "<div class=\"wide\"><table{class}>\n<tr>");
    let text: Vec<bool> = (0..table.heads.len()).map(|c| table.is_text(c)).collect();
    for (head, &text) in table.heads.iter().zip(&text) {
        let class = if text { " class=\"words\"" } else { "" };
        let _ = write!(out, "<th{class}>{}</th>", escape(head));
    }
    out.push_str("</tr>\n");
    for (index, row) in table.rows.iter().enumerate() {
        for (_, name) in table.groups.iter().filter(|(first, _)| *first == index) {
            let columns = table.heads.len();
            let name = escape(name);
            let _ = writeln!(
                out,
                "<tr class=\"group\"><th colspan=\"{columns}\">{name}</th></tr>"
            );
        }
        out.push_str("<tr>");
        for (column, (cell, &words)) in row.iter().zip(&text).enumerate() {
            // The range is set smaller than the typical value.
            let cell = escape(cell);
            let cell = match cell.split_once(" (") {
                Some((first, rest)) if rest.ends_with(')') && rest.contains('–') => {
                    format!("{first} <small>({rest}</small>")
                }
                _ => cell,
            };
            let long = is_prose(&cell);
            let class = match (cell.as_str(), words) {
                ("holds" | "fails" | "depends", _) => format!(" class=\"words {cell}\""),
                (_, true) if long => " class=\"text\"".to_owned(),
                (_, true) => " class=\"words\"".to_owned(),
                _ if table.best.contains(&(index, column)) => {
                    " class=\"best\" title=\"the best of its column\"".to_owned()
                }
                _ => String::new(),
            };
            let _ = write!(out, "<td{class}>{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

/// Whether a cell is a sentence and not a name or a number.
fn is_prose(cell: &str) -> bool {
    cell.chars().count() > 48
}

fn add_plot(out: &mut String, plot: &Plot) {
    let Some(svg) = draw(plot) else { return };
    let _ = writeln!(out, "<figure>\n<h2>{}</h2>", escape(&plot.title));
    // Lines have their names at their ends.
    let legend: Vec<String> = match &plot.shape {
        PlotShape::Shares { parts, .. } => parts.clone(),
        _ => Vec::new(),
    };
    if !legend.is_empty() {
        out.push_str("<p class=\"legend\">");
        for (index, name) in legend.iter().enumerate() {
            let _ = write!(
                out,
                "<span><i class=\"key b{}\"></i>{}</span> ",
                index % COLOURS,
                escape(name)
            );
        }
        out.push_str("</p>\n");
    }
    let _ = writeln!(out, "<div class=\"wide\">\n{svg}</div>");
    if !plot.caption.is_empty() {
        let _ = writeln!(out, "<figcaption>{}</figcaption>", escape(&plot.caption));
    }
    out.push_str("</figure>\n");
}

fn add_inputs(out: &mut String, inputs: &[Input]) {
    if inputs.is_empty() {
        return;
    }
    out.push_str(
        "<details>\n<summary>The figures that this rests on, with their sources</summary>\n\
         <div class=\"wide\"><table class=\"inputs prose\">\n\
         <tr><th>figure</th><th>value</th><th>known</th><th>source</th><th>date</th></tr>\n",
    );
    for Input { path, figure } in inputs {
        let tag = tag_name(figure.tag);
        let value = format!(
            "{} {}",
            figure.written,
            if figure.unit == "1" { "" } else { &figure.unit }
        );
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td><span class=\"tag {tag}\">{}</span></td><td class=\"text\">{}</td><td>{}</td></tr>",
            escape(path),
            escape(value.trim()),
            tag.replace('-', " "),
            escape(&figure.source),
            escape(&figure.date),
        );
    }
    out.push_str("</table></div>\n</details>\n");
}

/// How a figure is known, in a word or two.
pub fn tag_name(tag: Tag) -> &'static str {
    match tag {
        Tag::Read => "read",
        Tag::SecondHand => "second-hand",
        Tag::Assumption => "assumption",
        Tag::Computed => "computed",
        Tag::Given => "given",
    }
}

/// A value for a caption: with its unit, or in dollars.
pub fn value(value: f64, unit: &str) -> String {
    match unit {
        "$" => dollars(value),
        _ => si(value, unit),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plot::{Axis, Bar, PlotMark, Series, Whisker};
    use super::*;
    use crate::datasheet::Library;
    use crate::interval::Interval;

    fn report() -> Report {
        let mut table = ReportTable::new("Media & more", &["medium", "price"]);
        table.row(["<loop>".to_owned(), "$1k ($1–$2k)".to_owned()]);
        let mut report = Report {
            title: "A \"study\"".to_owned(),
            tables: vec![table],
            notes: vec!["1 < 2".to_owned()],
            plots: vec![
                Plot {
                    title: "lines".to_owned(),
                    caption: String::new(),
                    shape: PlotShape::Lines {
                        x: Axis::log("length", "m"),
                        y: Axis::linear("rate", ""),
                        series: vec![
                            Series {
                                name: "one".to_owned(),
                                points: vec![(1.0, 1.0), (10.0, 3.0), (0.0, 1.0)],
                                band: vec![(0.5, 2.0); 3],
                                dashed: false,
                            },
                            Series {
                                name: "two".to_owned(),
                                points: vec![(1.0, f64::NAN), (10.0, 3.0)],
                                ..Series::default()
                            },
                        ],
                        marks: vec![PlotMark {
                            label: "now".to_owned(),
                            x: Some(3.0),
                            y: 0.0,
                        }],
                    },
                },
                Plot {
                    title: "whiskers".to_owned(),
                    caption: String::new(),
                    shape: PlotShape::Whiskers {
                        x: Axis::log("power", "W"),
                        rows: vec![
                            Whisker {
                                name: "a".to_owned(),
                                value: Interval::new(0.0, 1.0, 9.0),
                            },
                            Whisker {
                                name: "b".to_owned(),
                                value: Interval::exact(0.0),
                            },
                        ],
                    },
                },
                Plot {
                    title: "shares".to_owned(),
                    caption: "parts".to_owned(),
                    shape: PlotShape::Shares {
                        parts: vec!["x".to_owned(), "y".to_owned()],
                        rows: vec![
                            Bar {
                                name: "r".to_owned(),
                                parts: vec![1.0, 3.0],
                            },
                            Bar {
                                name: "none".to_owned(),
                                parts: vec![0.0, 0.0],
                            },
                        ],
                    },
                },
            ],
            ..Report::default()
        };
        report.cite(&Library::embedded(), &["article"]);
        report
    }

    #[test]
    fn a_page_is_whole_and_has_nothing_from_elsewhere() {
        let page = page(&report());
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        for absent in ["http:", "https:", "<script", "src=", "url(", "NaN", "inf\""] {
            assert!(!page.contains(absent), "{absent}");
        }
        for present in [
            "&lt;loop&gt;",
            "1 &lt; 2",
            "prefers-color-scheme: dark",
            "article.length",
            "smf.price",
            "25 %",
            "<polygon",
            "class=\"mark\"",
        ] {
            assert!(page.contains(present), "{present}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<td").count(), page.matches("</td>").count());
    }

    #[test]
    fn plots_without_values_are_left_out() {
        let mut report = report();
        for plot in &mut report.plots {
            if let PlotShape::Lines { series, .. } = &mut plot.shape {
                series.clear();
            }
        }
        if let PlotShape::Lines { marks, .. } = &mut report.plots[0].shape {
            marks.clear();
        }
        assert_eq!(page(&report).matches("<svg").count(), 2);
    }
}
