//! For people: a line for each probe, and below it what is to be done.

use super::object;
use crate::probes::manifests::Judged;

/// Columns, then the messages of those that do not work, then the sum.
pub(super) fn write(judged: &Judged) -> String {
    let mut rows = vec![["VERDICT", "WHERE", "OBJECT", "CONTAINER", "PROBE"].map(str::to_owned)];
    for (spot, finding) in &judged.findings {
        rows.push([
            finding.verdict.name().to_owned(),
            format!("{}:{}", spot.file, spot.line),
            object(spot),
            finding.container.clone(),
            finding.hook.field().to_owned(),
        ]);
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    if rows.len() > 1 {
        for row in &rows {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
    }
    let told = judged.findings.iter().flat_map(|(spot, finding)| {
        let message = Some(&finding.message).filter(|message| !message.is_empty());
        message
            .map(|message| (spot, finding.verdict.name(), message.as_str()))
            .into_iter()
            .chain(
                finding
                    .warnings
                    .iter()
                    .map(move |warning| (spot, "Warning", warning.as_str())),
            )
    });
    let besides = judged
        .warnings
        .iter()
        .map(|(spot, warning)| (spot, "Warning", warning.message.as_str()));
    for (spot, name, message) in told.chain(besides) {
        text.push_str(&format!(
            "\n{name}: {}:{}\n  {message}\n",
            spot.file, spot.line
        ));
    }
    let (works, cannot, unknown) = judged.counts();
    if !text.is_empty() {
        text.push('\n');
    }
    let passed: usize = judged
        .passed_over
        .iter()
        .map(|(_, object)| object.containers)
        .sum();
    text.push_str(&format!(
        "{}: {works} work, {cannot} cannot work, {unknown} unknown{}\n",
        match works + cannot + unknown {
            1 => "1 probe".to_owned(),
            all => format!("{all} probes"),
        },
        match passed {
            0 => String::new(),
            1 => "; 1 container with probes was not looked at".to_owned(),
            many => format!("; {many} containers with probes were not looked at"),
        }
    ));
    text
}
