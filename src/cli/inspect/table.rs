//! The report for people.

use std::io::{self, Write};

use super::report::{PlatformReport, Report};
use super::rules::Verdict;
use super::said::{
    SHOWN, base, certificates, command, make, names, rest, runs, setuid, size, time_zones, tmp,
    user,
};
use whittle_image::{Contents, Level, Outcome, Runs, display_size};

/// Width of the names of lines.
const NAMES: usize = 16;

/// Prints all images of a report, each with its verdict.
pub(super) fn write(out: &mut impl Write, report: &Report, verdicts: &[Verdict]) -> io::Result<()> {
    for (index, (image, verdict)) in report.images.iter().zip(verdicts).enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        line(out, "Image", &report.image)?;
        write_image(out, report, image, verdict)?;
    }
    Ok(())
}

fn write_image(
    out: &mut impl Write,
    report: &Report,
    image: &PlatformReport,
    verdict: &Verdict,
) -> io::Result<()> {
    let contents = &image.contents;
    match &image.digest {
        Some(digest) => line(out, "Digest", digest)?,
        None => line(out, "Image ID", &image.id)?,
    }
    if report.digest.is_some() && report.digest != image.digest {
        line(out, "Index", report.digest.as_deref().unwrap_or_default())?;
    }
    line(out, "Platform", &image.platform)?;
    line(out, "Base", &base(contents))?;
    line(out, "Size", &size(image))?;
    start(out, contents)?;
    line(out, "User", &user(contents))?;
    if let Some(path) = &contents.env_path {
        line(out, "PATH", path)?;
    }
    if let Some(folder) = &contents.working_dir {
        line(out, "WORKDIR", folder)?;
    }
    line(out, "Shells", &names(&contents.shells))?;
    line(out, "Package managers", &names(&contents.package_managers))?;
    line(out, "CA certificates", &certificates(contents))?;
    line(out, "Time zones", &time_zones(contents))?;
    line(out, "/tmp", &tmp(contents))?;
    line(out, "Setuid files", &setuid(contents))?;
    if !contents.health_check.is_empty() {
        let command = contents.health_check.join(" ");
        line(
            out,
            "HEALTHCHECK",
            &format!("{command} (Kubernetes does not use it)"),
        )?;
    }
    links(out, contents)?;
    layers(out, contents)?;
    largest(out, contents)?;
    executables(out, contents)?;
    notes(out, contents)?;
    rules(out, verdict)
}

fn line(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{name:<NAMES$}  {}", plain(text))
}

/// A line below another one.
fn below(out: &mut impl Write, text: &str) -> io::Result<()> {
    line(out, "", text)
}

fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{text}")
}

fn start(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    let start = &contents.start;
    line(out, "Starts", &command(contents))?;
    for program in [Some(&start.program), start.then.as_ref()]
        .into_iter()
        .flatten()
    {
        let verdict = runs(program);
        let name = match program.path.as_str() {
            "" => String::new(),
            path => format!("{path} ({}) ", make(program)),
        };
        let why = program
            .message
            .as_deref()
            .map_or(String::new(), |why| format!(": {why}"));
        below(out, &format!("{name}{verdict}{why}"))?;
    }
    Ok(())
}

fn links(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    let links = &contents.links;
    for (index, link) in links.items.iter().take(SHOWN).enumerate() {
        let name = if index == 0 { "Directory links" } else { "" };
        line(out, name, &format!("{} -> {}", link.path, link.folder))?;
    }
    match rest(links.items.len(), links.omitted) {
        Some(rest) => below(out, &rest),
        None => Ok(()),
    }
}

fn layers(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    let layers = &contents.layers;
    let titles = ["Layers", "stored", "file bytes", "hidden"];
    let [first, stored, files, hidden] = titles;
    heading(
        out,
        &format!("{first:<6}{stored:>10}  {files:>10}  {hidden:>10}  made by"),
    )?;
    for (index, layer) in layers.items.iter().enumerate() {
        let made_by = layer
            .instruction
            .as_deref()
            .or(layer.digest.as_deref())
            .unwrap_or("");
        writeln!(
            out,
            "{:>4}  {:>10}  {:>10}  {:>10}  {}",
            index + 1,
            display_size(layer.size),
            display_size(layer.content),
            match layer.hidden {
                0 => "-".into(),
                hidden => display_size(hidden),
            },
            plain(made_by)
        )?;
    }
    match rest(0, layers.omitted) {
        Some(rest) => writeln!(out, "      {rest}"),
        None => Ok(()),
    }
}

fn largest(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    if contents.largest.is_empty() {
        return Ok(());
    }
    heading(out, "Largest files, and their layers")?;
    for file in &contents.largest {
        let size = display_size(file.size);
        writeln!(out, "{size:>16}  {:>3}  {}", file.layer, plain(&file.path))?;
    }
    Ok(())
}

fn executables(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    let list = &contents.executables;
    heading(out, &format!("Executables: {}", list.len()))?;
    for program in list.items.iter().take(SHOWN) {
        let mut text = format!("{} ({})", program.path, make(program));
        if let Some(file) = &program.file {
            text.push_str(&format!(" -> {file}"));
        }
        let why = program.message.as_deref().unwrap_or("unknown reason");
        match program.runs {
            Runs::Yes if program.restricted => text.push_str(": not executable for every user"),
            Runs::Yes => {}
            Runs::No => text.push_str(&format!(": cannot be started: {why}")),
            Runs::Unknown => text.push_str(&format!(": may start: {why}")),
        }
        writeln!(out, "  {}", plain(&text))?;
    }
    match rest(list.items.len(), list.omitted) {
        Some(rest) => writeln!(out, "  {rest}"),
        None => Ok(()),
    }
}

fn notes(out: &mut impl Write, contents: &Contents) -> io::Result<()> {
    let notes = &contents.notes;
    if contents.partial {
        heading(
            out,
            "INCOMPLETE: not all of the image was read, so what seems to be missing may exist",
        )?;
    } else if !notes.is_empty() {
        heading(out, "Notes")?;
    }
    for note in &notes.items {
        let layer = note
            .layer
            .map_or(String::new(), |number| format!("layer {number}: "));
        writeln!(out, "  {}{}", layer, plain(&note.message))?;
    }
    match rest(0, notes.omitted) {
        Some(rest) => writeln!(out, "  {rest}"),
        None => Ok(()),
    }
}

fn rules(out: &mut impl Write, verdict: &Verdict) -> io::Result<()> {
    let unasked =
        "Rules that every build enforces (no rules were requested, so the exit code is 0)";
    heading(out, if verdict.asked { "Rules" } else { unasked })?;
    for rule in &verdict.lines {
        let warning = match rule.level {
            Level::Warn => " (warning)",
            Level::Enforce => "",
        };
        let text = match &rule.outcome {
            Outcome::Kept => "kept".into(),
            Outcome::Broken(message) => format!("BROKEN{warning}: {message}"),
            Outcome::Unknown(message) => format!("UNKNOWN{warning}: {message}"),
        };
        writeln!(out, "  {:<18}  {}", rule.rule, plain(&text))?;
    }
    let others = &verdict.others;
    for (what, names) in [
        ("would be kept", &others.kept),
        ("would be broken", &others.broken),
        ("would be unknown", &others.unknown),
    ] {
        if !names.is_empty() {
            writeln!(out, "  {what:<18}  {}", names.join(", "))?;
        }
    }
    Ok(())
}

/// A text of an image without what would move the terminal's cursor, change its colours or turn the
/// direction of the line.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
