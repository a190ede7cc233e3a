//! The table, in target/truth.md where it is whole; docs/truth.md is a copy of it.

use std::path::Path;

use super::Seen;
use super::rows::{Claim, Row};
use crate::long;

/// All rows, as Markdown. Nothing in it differs from run to run.
fn markdown(rows: &[(&Row, &Seen)]) -> String {
    let mut text = String::from(
        "| image | base | made with | its author says | Whittle says | what happened |\n|---|---|---|---|---|---|\n",
    );
    for (row, seen) in rows {
        let cells = [
            row.name.to_owned(),
            row.base.to_owned(),
            row.toolchain.to_owned(),
            author(row.claim),
            whittle(seen),
            seen.reality.words.clone(),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// Writes the table to target.
pub fn write(rows: &[(&Row, &Seen)]) {
    let text = markdown(rows);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join(long::file("truth")), text).unwrap();
}

/// What its author says.
pub fn author(claim: Claim) -> String {
    match claim {
        Claim::Starts => "starts".to_owned(),
        Claim::Fails(fault, _) => format!("does not start: {fault:?}"),
        Claim::Depends(_) => "depends on the Pod".to_owned(),
        Claim::Keeps(rule) => format!("keeps {}", rule.name()),
        Claim::Breaks(rule, _) => format!("breaks {}", rule.name()),
    }
}

fn whittle(seen: &Seen) -> String {
    match seen.verdict.good {
        Some(true) => "yes".to_owned(),
        Some(false) => format!("no: {}", seen.verdict.words),
        None => format!("unknown: {}", seen.verdict.words),
    }
}

/// What is wrong with a row; nothing where Whittle, the Pod and the author say the same.
pub fn wrong(row: &Row, seen: &Seen) -> Option<String> {
    let found = disagreements(row, seen);
    (!found.is_empty()).then(|| {
        format!(
            "{}: {}\n  author: {}\n  image: {:?}\n  status: {:?}\n  Pod: {:?}",
            row.name,
            found.join("; "),
            author(row.claim),
            seen.verdict,
            seen.told,
            seen.reality
        )
    })
}

fn disagreements(row: &Row, seen: &Seen) -> Vec<String> {
    let (verdict, reality) = (&seen.verdict, &seen.reality);
    let mut found = vec![];
    if *verdict != seen.told {
        found.push("the status says something else than the image does".to_owned());
    }
    if reality.ran != row.claim.ends_well() {
        found.push("its author is wrong about the Pod".to_owned());
    }
    match verdict.good {
        None if matches!(row.claim, Claim::Depends(_)) => {}
        Some(_) if matches!(row.claim, Claim::Depends(_)) => {
            found.push("Whittle cannot know that".to_owned());
        }
        None => found.push("Whittle cannot tell".to_owned()),
        Some(good) if good != reality.ran => {
            found.push("Whittle is wrong about the Pod".to_owned())
        }
        Some(_) => {}
    }
    if let Claim::Fails(fault, _) = row.claim
        && seen.fault != Some(fault)
    {
        found.push(format!("Whittle finds {:?}", seen.fault));
    }
    if let Some(told) = row.claim.told()
        && !reality.words.contains(told)
    {
        found.push(format!("the system does not say {told:?}"));
    }
    found
}
