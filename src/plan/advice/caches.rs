//! Caches of package managers that stay in a layer of the image. Only the target stage and those that it
//! stands on count: the layers of all others are left behind.

use std::collections::BTreeSet;

use super::dockerfile::{Instruction, pairs};
use super::shell::{Command, Script};
use super::{Hint, HintKind, Look};

/// What is known where a RUN is.
struct Place<'a> {
    run: &'a Instruction,
    script: &'a Script,
    /// Names of the ENV and ARG above it.
    env: &'a BTreeSet<String>,
}

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    let mut env = BTreeSet::new();
    let mut hints = vec![];
    for (_, step) in look.stages.flow(look.stages.target) {
        if matches!(step.keyword.as_str(), "ENV" | "ARG") {
            env.extend(pairs(step).into_iter().map(|(name, _)| name));
        }
        let Some(script) = &step.script else {
            continue;
        };
        let place = Place {
            run: step.instruction,
            script,
            env: &env,
        };
        let mut told = BTreeSet::new();
        for command in &script.commands {
            if let Some((manager, text)) = place.left(command)
                && told.insert(manager)
            {
                let line = script.text.line(command.at);
                hints.push(look.hint(HintKind::PackageCacheInLayer, Some(line), text));
            }
        }
    }
    hints
}

impl Place<'_> {
    /// The package manager and the hint, where the command leaves a cache in the layer.
    fn left(&self, command: &Command) -> Option<(&'static str, &'static str)> {
        match command.program() {
            "apt-get" | "apt" | "aptitude" => self.apt(command),
            "apk" => self.apk(command),
            "pip" | "pip3" => self.pip(command),
            "python" | "python3" if command.has("-m") && command.has("pip") => self.pip(command),
            "npm" => self.npm(command),
            "dnf" | "yum" | "microdnf" => self.dnf(command),
            _ => None,
        }
    }

    /// True where the RUN speaks of one of these: it cleans up, or has said where its cache goes.
    fn speaks_of(&self, words: &[&str]) -> bool {
        words
            .iter()
            .any(|word| self.script.text.text.contains(word))
    }

    /// True where a mount takes one of these folders, or what lies in them, out of the layer.
    fn mounts(&self, folders: &[&str]) -> bool {
        self.run.mounts().iter().any(|mount| {
            let outside = mount
                .get("type")
                .is_some_and(|kind| kind == "cache" || kind == "tmpfs");
            let target = mount.get("target").map_or("", String::as_str);
            outside && folders.iter().any(|folder| target.contains(folder))
        })
    }

    fn apt(&self, command: &Command) -> Option<(&'static str, &'static str)> {
        // The lists come with the update; an install alone adds none.
        let leaves = command.plain().next() == Some("update")
            && !self.mounts(&["/var/lib"])
            && !self.speaks_of(&["/var/lib/apt", "/var/lib/{", "/var/lib/*", "debootstrap"]);
        leaves.then_some((
            "apt",
            "`apt-get update` leaves its package lists in the layer: end the same RUN with `rm -rf \
             /var/lib/apt/lists/*`",
        ))
    }

    fn apk(&self, command: &Command) -> Option<(&'static str, &'static str)> {
        let leaves = command.plain().any(|word| word == "add")
            && !command.has("--no-cache")
            && !command.args().any(|word| {
                word == "-p" || word.starts_with("--root") || word.starts_with("--cache-dir")
            })
            && !self.mounts(&["/var/cache", "/etc/apk"])
            && !self.speaks_of(&["/var/cache", "/etc/apk/cache", "apk cache clean"]);
        leaves.then_some((
            "apk",
            "`apk add` leaves its package index in the layer: add --no-cache",
        ))
    }

    fn pip(&self, command: &Command) -> Option<(&'static str, &'static str)> {
        let installs = command.plain().any(|word| word == "install");
        let what: Vec<&str> = command
            .plain()
            .filter(|word| !matches!(*word, "pip" | "install"))
            .collect();
        let local = command.has("--no-index")
            || (!what.is_empty()
                && what
                    .iter()
                    .all(|word| word.ends_with(".whl") || word.contains('*')));
        let set = ["PIP_NO_CACHE_DIR", "PIP_CACHE_DIR"];
        let leaves = installs
            && !local
            && !command.has("--dry-run")
            && !set
                .iter()
                .any(|name| self.env.contains(*name) || command.env.iter().any(|own| own == name))
            && !self.mounts(&["pip", ".cache", "/root", "/home"])
            && !self.speaks_of(&[
                "no-cache-dir",
                "cache-dir",
                ".cache",
                "pip cache",
                "PIP_NO_CACHE",
            ]);
        leaves.then_some((
            "pip",
            "`pip install` leaves its download cache in the layer: add --no-cache-dir, or \
             --mount=type=cache,target=/root/.cache/pip to the RUN",
        ))
    }

    fn npm(&self, command: &Command) -> Option<(&'static str, &'static str)> {
        let installs = matches!(
            command.plain().next(),
            Some("ci" | "clean-install" | "install" | "i")
        );
        let set = |name: &&String| name.eq_ignore_ascii_case("npm_config_cache");
        let leaves = installs
            && !command.args().any(|word| word.starts_with("--cache"))
            && self.env.iter().find(set).is_none()
            && command.env.iter().find(set).is_none()
            && !self.mounts(&["npm", ".cache", "/root", "/home"])
            && !self.speaks_of(&["npm cache clean", ".npm", "_cacache", "npm_config_cache"]);
        leaves.then_some((
            "npm",
            "npm leaves its download cache in the layer: end the same RUN with `npm cache clean --force`, \
             or add --mount=type=cache,target=/root/.npm to it",
        ))
    }

    fn dnf(&self, command: &Command) -> Option<(&'static str, &'static str)> {
        let installs = matches!(
            command.plain().next(),
            Some("install" | "update" | "upgrade" | "groupinstall")
        );
        let leaves = installs
            && !command.args().any(|word| word.starts_with("--installroot"))
            && !self.mounts(&["/var/cache"])
            && !self.speaks_of(&["clean all", "/var/cache"]);
        leaves.then_some((
            "dnf",
            "dnf and yum leave their metadata in the layer: end the same RUN with `dnf clean all` (or `yum \
             clean all`)",
        ))
    }
}
