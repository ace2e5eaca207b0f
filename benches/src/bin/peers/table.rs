//! The report as tables.

use std::fmt::Write;

use crate::case::Case;
use crate::figure::Figure;
use crate::report::{Report, Row};

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Aligned columns.
    Text,
    /// A Markdown table.
    Markdown,
}

/// The whole report.
pub(crate) fn render(report: &Report, style: Style) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "{}\n{}, {} cores, Linux {}, TCP by {}\n{} rounds of {} s, medians; x is oxy's figure as a multiple of the row's, paired by round, unless the table says otherwise\n",
        machine.date,
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.congestion,
        report.runs,
        report.seconds
    );
    let bullet = if style == Style::Markdown { "* " } else { "" };
    if style == Style::Markdown {
        out.push('\n');
    }
    for (peer, version) in report.versions() {
        let _ = writeln!(out, "{bullet}{}: {version}", peer.name());
    }
    for case in report.cases() {
        heading(&mut out, style, case.name());
        if let Some(note) = case.note() {
            let end = if style == Style::Markdown { "\n" } else { "" };
            let _ = writeln!(out, "{note}{end}");
        }
        draw(&mut out, style, &cells(report, case));
        let counted = syscalls(report, case);
        if counted.len() > 1 {
            out.push('\n');
            draw(&mut out, style, &counted);
        }
    }
    let bars = report.bars();
    if !bars.is_empty() {
        heading(&mut out, style, "bars");
        let header = ["bar", "limit", "oxy", ""].map(str::to_owned).to_vec();
        let rows = bars.iter().map(|bar| {
            let verdict = if bar.met { "met" } else { "MISSED" };
            vec![
                bar.name.clone(),
                format!(
                    "{} {}",
                    if bar.below { "<" } else { "<=" },
                    number(Some(bar.limit))
                ),
                number(bar.value),
                verdict.into(),
            ]
        });
        draw(
            &mut out,
            style,
            &std::iter::once(header).chain(rows).collect::<Vec<_>>(),
        );
    }
    out
}

fn heading(out: &mut String, style: Style, name: &str) {
    let _ = match style {
        Style::Text => writeln!(out, "\n{name}"),
        Style::Markdown => writeln!(out, "\n### {name}\n"),
    };
}

/// The header and the rows of one case.
fn cells(report: &Report, case: Case) -> Vec<Vec<String>> {
    let figures: Vec<_> = Figure::ALL
        .into_iter()
        .filter(|figure| figure.applies(case))
        .collect();
    let mut header = vec!["peer".to_owned()];
    for figure in &figures {
        header.push(figure.name(case));
        if figure.compares() {
            header.push("x".to_owned());
        }
    }
    header.push(String::new());
    let mut cells = vec![header];
    for row in report.rows.iter().filter(|row| row.case == case) {
        let mut line = vec![row.entrant.name()];
        for &figure in &figures {
            line.push(number(row.median(figure)));
            if figure.compares() {
                line.push(number(report.ratio(row, figure)));
            }
        }
        line.push(remark(row));
        cells.push(line);
    }
    cells
}

/// The header and the rows of a case's system calls, if they were counted.
fn syscalls(report: &Report, case: Case) -> Vec<Vec<String>> {
    let unit = case.unit();
    let mut cells = vec![vec![
        "peer".to_owned(),
        format!("syscalls/{unit}"),
        "of which".to_owned(),
    ]];
    for row in report.rows.iter().filter(|row| row.case == case) {
        let (each, most) = match &row.syscalls {
            None => continue,
            Some(Ok(counted)) => (Some(counted.each()), counted.most()),
            Some(Err(error)) => (None, error.clone()),
        };
        cells.push(vec![row.entrant.name(), number(each), most]);
    }
    cells
}

fn remark(row: &Row) -> String {
    match (&row.failure, &row.left_out) {
        (Some(reason), _) => format!("FAIL: {reason}"),
        (None, Some(reason)) => format!("left out: {reason}"),
        (None, None) => String::new(),
    }
}

/// Three significant digits or so.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() < 10.0 => format!("{value:.2}"),
        Some(value) if value.abs() < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// The first row is the header; names are to the left, numbers to the right.
fn draw(out: &mut String, style: Style, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row: &Vec<String>| row[column].len())
            .max()
            .unwrap_or(0)
    };
    let is_text = |column| column == 0 || column + 1 == columns;
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = if style == Style::Markdown && column + 1 == columns {
                    0
                } else {
                    width(column)
                };
                if is_text(column) {
                    format!("{cell:width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        let _ = match style {
            Style::Text => writeln!(out, "{}", cells.join("  ").trim_end()),
            Style::Markdown => writeln!(out, "| {} |", cells.join(" | ")),
        };
        if index == 0 && style == Style::Markdown {
            let rule: Vec<_> = (0..columns)
                .map(|column| if is_text(column) { "---" } else { "---:" })
                .collect();
            let _ = writeln!(out, "| {} |", rule.join(" | "));
        }
    }
}
