//! Sources that are copied before the modules are downloaded: each change of a file downloads them anew.

use std::collections::{BTreeMap, BTreeSet};

use super::ignore::clean;
use super::managers::plainly;
use super::modules::{Download, brings_none, download, makes};
use super::shell::Command;
use super::stages::{Step, origins};
use super::{Hint, HintKind, Look};
use crate::reader::{Instruction, pairs};

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    let downloaded: BTreeMap<usize, BTreeSet<&str>> = look
        .stages
        .each()
        .map(|(at, _)| {
            let steps = look.stages.flow(at);
            let found = steps.flat_map(|(_, step)| downloads(step));
            (at, found.map(|(_, d)| d.ecosystem).collect())
        })
        .collect();
    let mut hints = vec![];
    let mut told = BTreeSet::new();
    for (at, _) in look.stages.each() {
        let mut copied: Option<&Instruction> = None;
        let mut done: BTreeSet<&str> = BTreeSet::new();
        let mut offline: BTreeSet<&str> = BTreeSet::new();
        for (n, step) in look.stages.flow(at) {
            if matches!(step.keyword.as_str(), "ENV" | "ARG") {
                offline.extend(pairs(step).iter().filter_map(|(name, value)| {
                    brings_none(name, value.as_deref().unwrap_or_default())
                }));
            }
            // Modules that lie in the source need no download; a manifest that a RUN makes cannot go first.
            let vendor = |source: &&str| clean(source).ends_with("vendor");
            if step.takes_context() && step.sources().iter().any(vendor) {
                offline.insert("go");
            }
            if let Some(script) = &step.script {
                done.extend(script.commands.iter().filter_map(makes));
                let values = script.values.iter();
                offline.extend(values.filter_map(|(name, value)| brings_none(name, value)));
                // `go env -w GOFLAGS=-mod=vendor` holds for all that follows.
                let written = script.commands.iter().filter(|c| c.has("-w"));
                let pairs = written
                    .flat_map(|c| c.args())
                    .filter_map(|w| w.split_once('='));
                offline.extend(pairs.filter_map(|(name, value)| brings_none(name, value)));
            }
            // What another stage has downloaded may come with its files.
            for origin in origins(step).filter_map(|name| look.stages.find(&name, n)) {
                done.extend(downloaded.get(&origin).into_iter().flatten());
            }
            if copied.is_none() && takes_all(step) {
                copied = Some(step.instruction);
            }
            let cached = step.mounts().iter().any(|mount| {
                mount.contains_key("from") || mount.get("type").is_some_and(|kind| kind == "cache")
            });
            for (command, download) in downloads(step) {
                if !done.insert(download.ecosystem) || cached || n != at {
                    continue;
                }
                let own = command.env.iter();
                let none = offline.contains(download.ecosystem)
                    || own
                        .filter_map(|(name, value)| brings_none(name, value))
                        .any(|e| e == download.ecosystem);
                let Some(copy) = copied.filter(|_| !none) else {
                    continue;
                };
                if !told.insert((copy.lines.0, download.ecosystem)) {
                    continue;
                }
                let line = step
                    .script
                    .as_ref()
                    .map_or(step.lines.0, |script| script.text.line(command.at));
                let what = if download.own {
                    "downloads all of it again"
                } else {
                    "downloads the modules, if any, and compiles everything again"
                };
                let text = format!(
                    "`{}` is before `{}` (line {line}), so each change of any file {what}: {}",
                    shown(copy),
                    download.command,
                    download.fix
                );
                hints.push(look.hint(HintKind::SourcesBeforeModules, Some(copy.lines.0), &text));
            }
        }
    }
    hints
}

/// The instruction in a message.
pub(super) fn shown(instruction: &Instruction) -> String {
    whittle_image::bounded(instruction.text(), 80)
}

/// True for COPY and ADD of the whole context.
fn takes_all(step: &Step) -> bool {
    step.takes_context()
        && step
            .sources()
            .iter()
            .any(|source| matches!(clean(source.trim_matches('"')).as_str(), "" | "*" | "**"))
}

fn downloads(step: &Step) -> Vec<(Command, Download)> {
    let commands = step.script.iter().flat_map(|script| &script.commands);
    commands
        .map(plainly)
        .filter_map(|command| {
            let download = download(&command)?;
            Some((command, download))
        })
        .collect()
}
