//! The table, in target/pairs.md where it is whole; docs/probe-truth.md is a copy of it.

use std::path::Path;

use whittle_probe::Verdict;

use super::Seen;
use super::rows::{Expect, Hook, Reality, Row};
use crate::long;

/// All pairs, as Markdown. Nothing in it differs from run to run.
pub fn write(all: &[(&Row, &Seen)]) {
    let mut text = String::from(
        "| image | probe | with | its author says | Whittle says | what happened | the guard |\n|---|---|---|---|---|---|---|\n",
    );
    for (row, seen) in all {
        let cells = [
            match seen.verdict.why() {
                Some(why) => format!("{}: {why}", seen.verdict.name()),
                None => seen.verdict.name().to_owned(),
            },
            match &seen.reality {
                Some(reality) if seen.words.is_empty() => format!("{reality:?}"),
                Some(reality) => format!("{reality:?}: {}", seen.words),
                None => format!("nothing: {}", seen.words),
            },
            if seen.refusal.is_some() {
                "refuses"
            } else {
                "takes"
            }
            .to_owned(),
        ];
        text += &format!("{}{}", author(row), joined(&cells));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join(long::file("pairs")), text).unwrap();
}

/// The beginning of a pair's line: what its author says.
pub fn author(row: &Row) -> String {
    let cells = [
        row.image.to_owned(),
        format!("{} {}", row.hook.field(), row.does()),
        row.notes.join("; "),
        format!("{:?}", row.expect),
    ];
    format!("| {}", joined(&cells))
}

fn joined(cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| cell.replace('|', "\\|") + " | ");
    cells.collect::<String>()
}

/// What is wrong with a pair; nothing where author, Whittle, Pod and guard agree.
pub fn wrong(row: &Row, seen: &Seen) -> Option<String> {
    let found = disagreements(row, seen);
    (!found.is_empty()).then(|| {
        format!(
            "{} {} {} ({}): {}\n  author: {:?}\n  Whittle: {:?}\n  message: {}\n  Pod: {:?} {}\n  guard: {:?}",
            row.image,
            row.hook.field(),
            row.does(),
            row.notes.join("; "),
            found.join("; "),
            row.expect,
            seen.verdict,
            seen.message,
            seen.reality,
            seen.words,
            seen.refusal
        )
    })
}

fn disagreements(row: &Row, seen: &Seen) -> Vec<&'static str> {
    let mut found = vec![];
    let mut unless = |good: bool, what: &'static str| {
        if !good {
            found.push(what);
        }
    };
    unless(
        seen.reality == Some(row.expect.reality()),
        "its author is wrong about the Pod",
    );
    unless(
        seen.verdict.name() == row.expect.verdict(),
        "its author is wrong about Whittle",
    );
    let passes = seen.reality == Some(Reality::Passes);
    match &seen.verdict {
        Verdict::Works => unless(passes, "Whittle says that it works"),
        Verdict::CannotWork(why) => {
            unless(!passes, "Whittle says that it cannot work");
            unless(!why.is_empty(), "no reason stands");
        }
        Verdict::Unknown(why) => unless(!why.is_empty(), "no reason stands"),
    }
    // What follows from it is told as it is.
    if matches!(row.expect, Expect::CannotWork(_))
        && matches!(row.hook, Hook::Liveness | Hook::Startup)
    {
        unless(
            seen.message.contains("CrashLoopBackOff") == (seen.reality == Some(Reality::Fails)),
            "Whittle is wrong about what follows",
        );
    }
    match &seen.refusal {
        Some(said) => {
            unless(!passes, "the guard refuses what works");
            unless(
                matches!(seen.verdict, Verdict::CannotWork(_)),
                "the guard refuses what Whittle does not",
            );
            unless(row.refused, "its author is wrong about the guard");
            unless(
                super::guard::is_the_guards(said),
                "another than the guard refuses it",
            );
        }
        None => unless(!row.refused, "the guard takes what is plainly missing"),
    }
    found
}
