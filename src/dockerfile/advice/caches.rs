//! Caches of package managers that stay in a layer of the image. Only the target stage and those that it
//! stands on count: the layers of all others are left behind.

use std::collections::BTreeSet;

use super::managers::{MANAGERS, Manager, PIP_VALUED, plainly};
use super::shell::Command;
use super::stages::Step;
use super::{Hint, HintKind, Look};
use crate::reader::{Instruction, pairs};

/// What is known where a RUN is.
struct Place<'a> {
    run: &'a Instruction,
    /// Its commands, each under its manager's name.
    commands: Vec<Command>,
    /// Names that it sets itself, in capitals.
    own: BTreeSet<String>,
    /// For each manager the last command that takes its cache away; `usize::MAX` where that may come at any
    /// time.
    cleaned: Vec<Option<usize>>,
    /// Names of the ENV and ARG above it, in capitals.
    env: &'a BTreeSet<String>,
    /// Managers whose cache has been put elsewhere by a setting.
    set: &'a BTreeSet<&'static str>,
}

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    let mut env = BTreeSet::new();
    let mut set = BTreeSet::new();
    let mut hints = vec![];
    for (_, step) in look.stages.flow(look.stages.target) {
        if matches!(step.keyword.as_str(), "ENV" | "ARG") {
            env.extend(pairs(step).into_iter().map(|(name, _)| name.to_uppercase()));
        }
        set.extend(settings(step));
        let Some(script) = &step.script else {
            continue;
        };
        let commands: Vec<Command> = script.commands.iter().map(plainly).collect();
        let names = script.values.iter().map(|(name, _)| name.to_uppercase());
        let place = Place {
            run: step.instruction,
            cleaned: MANAGERS
                .iter()
                .map(|manager| cleaned(manager, &commands, &script.text.text))
                .collect(),
            own: names.collect(),
            commands,
            env: &env,
            set: &set,
        };
        let mut told = BTreeSet::new();
        for at in 0..place.commands.len() {
            if let Some(manager) = place.left(at)
                && told.insert(manager.name)
            {
                let line = script.text.line(place.commands[at].at);
                hints.push(look.hint(HintKind::PackageCacheInLayer, Some(line), manager.text));
            }
        }
    }
    hints
}

/// Managers whose settings a step changes in a way that may be about the cache.
fn settings(step: &Step) -> Vec<&'static str> {
    let mut found = vec![];
    let text = &step.rest.text;
    if text.contains("pip.conf")
        || step
            .heredocs
            .iter()
            .any(|doc| doc.body.text.contains("pip.conf"))
    {
        found.push("pip");
    }
    // Yarn 2 and later: its cache may be what the program runs from.
    if text.contains(".yarnrc.yml") || text.contains(".yarn/") || text.contains("yarn set version")
    {
        found.push("yarn");
    }
    for command in step.script.iter().flat_map(|script| &script.commands) {
        let command = plainly(command);
        let about = |word: &str| {
            (word.contains("cache") || word.contains("store")) && !word.contains("://")
        };
        let sets = command.args().any(|word| matches!(word, "config" | "set"))
            && command.args().any(about)
            && !command.has("get");
        found.extend(
            MANAGERS
                .iter()
                .filter(|m| sets && m.is(&command))
                .map(|m| m.name),
        );
    }
    found
}

/// Programs that name a folder and leave what is in it.
const HARMLESS: [&str; 13] = [
    "chmod", "chown", "cp", "du", "echo", "export", "install", "ls", "mkdir", "printf", "test",
    "touch", "[",
];

impl Place<'_> {
    /// The package manager, where the command leaves a cache in the layer.
    fn left(&self, at: usize) -> Option<&'static Manager> {
        let command = &self.commands[at];
        let which = MANAGERS
            .iter()
            .position(|manager| manager.leaves(command))?;
        let manager = &MANAGERS[which];
        let silent = self.set.contains(manager.name)
            || command.args().any(|word| word.contains("Dir::"))
            || self.is_told_where(manager, command)
            || self.is_mounted(manager)
            || self.cleaned[which].is_some_and(|last| last > at)
            || (manager.name == "pip" && is_local(command))
            || (manager.name == "apt"
                && self.commands.iter().any(|c| c.program() == "debootstrap"));
        (!silent).then_some(manager)
    }

    /// True where a variable says where the cache is, or that there is none.
    fn is_told_where(&self, manager: &Manager, command: &Command) -> bool {
        let own = command.env.iter().map(|(name, _)| name.to_uppercase());
        let own: Vec<String> = own.collect();
        let sets = |name: &String| own.contains(name) || self.own.contains(name);
        let known = |name: &str| {
            let name = name.to_uppercase();
            self.env.contains(&name) || sets(&name)
        };
        let home = manager.paths.iter().any(|path| path.starts_with('.'));
        manager.env.iter().any(|name| known(name))
            || (home && (known("XDG_CACHE_HOME") || sets(&"HOME".to_owned())))
    }

    /// True where a mount takes the cache out of the layer.
    fn is_mounted(&self, manager: &Manager) -> bool {
        self.run.mounts().iter().any(|mount| {
            let outside = mount
                .get("type")
                .is_some_and(|kind| kind == "cache" || kind == "tmpfs");
            let target = mount.get("target").map_or("", String::as_str);
            let target = target.trim_end_matches('/');
            let system = manager
                .paths
                .iter()
                .any(|path| path.starts_with("/var/cache"));
            let above = match manager.name {
                "apt" => ["/var", "/var/lib"].contains(&target),
                _ if system => ["/var", "/var/cache"].contains(&target),
                _ => target == "/root" || target.starts_with("/home"),
            };
            let within = manager
                .paths
                .iter()
                .filter(|path| **path != "/var/cache")
                .any(|path| target.contains(path));
            outside && (above || within || target.contains('$'))
        })
    }
}

/// The last command of a RUN that takes a manager's cache away.
fn cleaned(manager: &Manager, commands: &[Command], text: &str) -> Option<usize> {
    let cleans = |command: &&Command| {
        manager.cleans(command)
            || command.program().contains("clean")
            || command.program() == "paccache"
            || removes(manager, command)
    };
    // A function may be called later than it stands, a trap is.
    let functions = ["() {", "(){", "function "];
    let functions = functions.iter().any(|mark| text.contains(mark));
    let any = |command: &&Command| (functions || command.program() == "trap") && cleans(command);
    match commands.iter().find(any) {
        Some(_) => Some(usize::MAX),
        None => commands.iter().rposition(|command| cleans(&command)),
    }
}

fn removes(manager: &Manager, command: &Command) -> bool {
    let program = command.program();
    // Names that many things have count only where something is removed.
    let careful = matches!(
        manager.name,
        "bundle" | "pnpm" | "yarn" | "composer" | "pip"
    );
    if HARMLESS.contains(&program) || (careful && !matches!(program, "rm" | "find" | "trap")) {
        return false;
    }
    command.args().any(|word| {
        let word = word.replace(".npmrc", "").replace(".yarnrc", "");
        manager.paths.iter().any(|path| word.contains(path))
    })
}

/// True where pip takes nothing from elsewhere.
fn is_local(command: &Command) -> bool {
    let what = command.words_but(PIP_VALUED);
    let what = what.get(1..).unwrap_or_default();
    let files = what
        .iter()
        .all(|word| word.ends_with(".whl") || word.contains('*'));
    let folders = what.iter().all(|word| word.starts_with(['.', '/']));
    !what.is_empty()
        && !command.has_option(&["-r", "--requirement"])
        && (files || (folders && command.has("--no-deps")))
}
