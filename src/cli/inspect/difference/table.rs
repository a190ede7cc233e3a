//! A difference for people.

use std::io::{self, Write};

use super::{DifferenceReport, Head};
use crate::inspect::said::{SHOWN, rest};
use crate::inspect::table::plain;
use whittle_image::{Change, Changed, Sum, display_size};

/// Files that are shown.
const FILES: usize = 40;

pub(super) fn write(out: &mut impl Write, report: &DifferenceReport) -> io::Result<()> {
    let difference = &report.difference;
    head(out, "From", &report.from)?;
    head(out, "To", &report.to)?;
    writeln!(out, "Platform  {}", plain(&report.platform))?;
    let (from, to) = (report.from.size, report.to.size);
    let stored = match report.from.uncompressed == report.to.uncompressed {
        true => "",
        false => ", where one is uncompressed and the other is not",
    };
    writeln!(out, "Size      {} as stored{stored}", step(from, to))?;
    let totals = &difference.totals;
    if report.from.id != report.to.id {
        writeln!(
            out,
            "          {} unpacked",
            step(totals.before, totals.after)
        )?;
    }
    writeln!(
        out,
        "Layers    {} in both; {} only in the first, {} only in the second",
        difference.shared_layers,
        report.from.layers as i64 - difference.shared_layers,
        report.to.layers as i64 - difference.shared_layers,
    )?;
    if !report.differs {
        let same = match report.from.id == report.to.id {
            true => "The same image.",
            false => {
                "The same files, packages and contents: what differs is none of these, for example times, labels, volumes, or the layers they are in."
            }
        };
        writeln!(out, "\n{same}")?;
        return incomplete(out, report);
    }
    contents(out, report)?;
    packages(out, report)?;
    files(out, report)?;
    layers(out, report)?;
    incomplete(out, report)
}

fn head(out: &mut impl Write, name: &str, head: &Head) -> io::Result<()> {
    writeln!(out, "{name:<10}{}", plain(&head.image))?;
    let digest = head.digest.as_ref().unwrap_or(&head.id);
    writeln!(out, "          {}", plain(digest))
}

/// `1.0 MiB -> 3.0 MiB (+2.0 MiB)`
fn step(from: i64, to: i64) -> String {
    let (sign, by) = match to.saturating_sub(from) {
        0 => return format!("{}, the same", display_size(from)),
        by if by > 0 => ('+', by),
        by => ('-', by.saturating_neg()),
    };
    format!(
        "{} -> {} ({sign}{})",
        display_size(from),
        display_size(to),
        display_size(by)
    )
}

fn contents(out: &mut impl Write, report: &DifferenceReport) -> io::Result<()> {
    if report.contents.is_empty() {
        return writeln!(out, "\nContents: the same");
    }
    writeln!(out, "\nContents")?;
    for change in &report.contents {
        let lines = [('-', &change.before), ('+', &change.after)];
        let mut name = change.what.as_str();
        for (sign, text) in lines {
            if let Some(text) = text {
                writeln!(out, "  {:<18}{sign} {}", plain(name), plain(text))?;
                name = "";
            }
        }
    }
    Ok(())
}

fn packages(out: &mut impl Write, report: &DifferenceReport) -> io::Result<()> {
    let packages = &report.difference.packages;
    for path in &report.difference.unread_packages {
        writeln!(
            out,
            "\nPackages of {path} are unknown: databases of RPM are not read"
        )?;
    }
    if packages.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nPackages: {} differ", packages.len())?;
    for package in packages.items.iter().take(FILES) {
        let name = plain(&package.name);
        match (&package.before, &package.after) {
            (None, Some(after)) => writeln!(out, "  + {name} {}", plain(after))?,
            (Some(before), None) => writeln!(out, "  - {name} {}", plain(before))?,
            (before, after) => {
                let text = |version: &Option<String>| plain(version.as_deref().unwrap_or("?"));
                writeln!(out, "  ~ {name} {} -> {}", text(before), text(after))?;
            }
        }
    }
    more(out, packages.len(), FILES)
}

fn files(out: &mut impl Write, report: &DifferenceReport) -> io::Result<()> {
    let totals = &report.difference.totals;
    let sum = |sum: &Sum| format!("{} ({})", sum.files, display_size(sum.bytes));
    writeln!(
        out,
        "\nFiles: {} added, {} removed, {} changed",
        sum(&totals.added),
        sum(&totals.removed),
        sum(&totals.changed)
    )?;
    let files = &report.difference.files;
    if files.is_empty() {
        return Ok(());
    }
    writeln!(out, "       bytes  layer  path")?;
    for file in files.items.iter().take(FILES) {
        writeln!(out, "{}", line(file))?;
    }
    more(out, files.len(), FILES)
}

fn line(file: &Change) -> String {
    let (sign, bytes) = match file.change {
        Changed::Added => ('+', file.after),
        Changed::Removed => ('-', file.before),
        Changed::Changed => ('~', file.after),
    };
    let mut what = String::new();
    if file.change == Changed::Changed {
        let grown = match (file.before, file.after) {
            (Some(before), Some(after)) if before != after => {
                format!(", was {}", display_size(before))
            }
            _ => String::new(),
        };
        what = format!("  ({}{grown})", file.what.join(", "));
    }
    // A removed file's layer is one of the first image.
    let layer = match file.change {
        Changed::Removed => format!("-{}", file.layer),
        _ => file.layer.to_string(),
    };
    format!(
        "{sign} {:>10}  {layer:>5}  {}{what}",
        display_size(bytes.unwrap_or(0)),
        plain(&file.path)
    )
}

fn layers(out: &mut impl Write, report: &DifferenceReport) -> io::Result<()> {
    let layers = &report.difference.layers;
    if !layers.is_empty() {
        writeln!(out, "\nLayers of the second   added     changed  made by")?;
    }
    for layer in layers.items.iter().take(SHOWN) {
        writeln!(
            out,
            "{:>17}  {:>10}  {:>10}  {}",
            layer.layer,
            display_size(layer.added.bytes),
            display_size(layer.changed.bytes),
            plain(layer.instruction.as_deref().unwrap_or_default())
        )?;
    }
    more(out, layers.len(), SHOWN)?;
    let mut gone: Vec<(i32, &str)> = Vec::new();
    for file in &report.difference.files.items {
        if file.change == Changed::Removed {
            gone.push((file.layer, file.instruction.as_deref().unwrap_or_default()));
        }
    }
    gone.sort_unstable();
    gone.dedup();
    if !gone.is_empty() {
        writeln!(
            out,
            "\nLayers of the first with files that were removed, made by"
        )?;
    }
    for (layer, instruction) in gone.iter().take(SHOWN) {
        writeln!(out, "{:>17}  {}", format!("-{layer}"), plain(instruction))?;
    }
    more(out, gone.len() as i64, SHOWN)
}

fn more(out: &mut impl Write, all: i64, shown: usize) -> io::Result<()> {
    match rest(SHOWN, all - (shown as i64)) {
        Some(text) => writeln!(out, "  {text}"),
        None => Ok(()),
    }
}

fn incomplete(out: &mut impl Write, report: &DifferenceReport) -> io::Result<()> {
    if report.difference.partial {
        writeln!(
            out,
            "\nINCOMPLETE: not all of the images was read, so more may differ, or less"
        )?;
    }
    Ok(())
}
