//! A report on the terminal: tables that fit it, and notes. Knows no study.

use anyhow::Result;
use delayline_study::report::{Report, ReportTable};

use crate::output::{self, Output};

/// How wide prose is.
const PROSE: usize = 96;
/// From which length on a cell is prose, which gets lines of its own.
const CELL_MAX: usize = 48;

/// Prints a report.
pub fn report(report: &Report, output: &Output) -> Result<()> {
    output.line(&report.title)?;
    if !report.answer.is_empty() {
        output.line(wrap(&report.answer, PROSE))?;
    }
    for table in report.tables.iter().chain(&report.details) {
        output.line("")?;
        if !table.title.is_empty() {
            output.line(&table.title)?;
        }
        output.line(lines(table))?;
    }
    if !report.notes.is_empty() {
        output.line("")?;
    }
    for note in &report.notes {
        output.line(wrap(note, PROSE))?;
    }
    Ok(())
}

/// The table, or, where its cells are sentences, a paragraph a row.
fn lines(table: &ReportTable) -> String {
    let is_prose = |cell: &String| cell.chars().count() > CELL_MAX;
    if table.rows.iter().flatten().any(is_prose) {
        let rows = table.rows.iter().map(|row| paragraph(&table.heads, row));
        return rows.collect::<Vec<_>>().join("\n");
    }
    let mut out = output::TextTable::of(table.heads.iter().cloned());
    for column in (0..table.heads.len()).filter(|&column| table.is_text(column)) {
        out.left(column);
    }
    for row in &table.rows {
        out.row(row.iter().cloned());
    }
    out.to_string()
}

fn paragraph(heads: &[String], row: &[String]) -> String {
    let (first, rest) = row
        .split_first()
        .map_or(("", row), |(first, rest)| (first, rest));
    let cells = rest.iter().zip(heads.iter().skip(1));
    let cells = cells.filter(|(cell, _)| !cell.is_empty()).enumerate();
    let cells = cells.map(|(index, (cell, head))| match index {
        0 => cell.clone(),
        _ => format!("{head}: {cell}"),
    });
    let indent = " ".repeat(4);
    let text: Vec<String> = cells.map(|cell| wrap(&cell, PROSE - 4)).collect();
    let text = text.join("\n").replace('\n', &format!("\n{indent}"));
    format!("{first:>2}. {text}")
}

/// Breaks lines between words so that none is longer than `width`.
fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two  three", 7), "one two\nthree");
        assert_eq!(wrap("one two", 3), "one\ntwo");
        assert_eq!(wrap("longer", 3), "longer");
        assert_eq!(wrap("", 3), "");
    }

    #[test]
    fn sentences_become_paragraphs() {
        let mut table = ReportTable::new("", &["", "said", "verdict"]);
        let said = "it is said that the longest sentence has no end at all";
        table.row(["7".to_owned(), said.to_owned(), "holds".to_owned()]);
        assert_eq!(lines(&table), format!(" 7. {said}\n    verdict: holds"));
        table.rows[0][1] = "short".to_owned();
        assert_eq!(lines(&table), "   said   verdict\n7  short  holds");
    }
}
