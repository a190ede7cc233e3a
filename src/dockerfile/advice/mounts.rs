//! Cache mounts that stay empty though their steps ran: where that is so is seen on the builder, why is seen here.

use super::managers::{MANAGERS, Manager, plainly};
use super::shell::Command;
use super::stages::{Stages, Step};
use super::{Hint, HintKind, View};
use crate::reader::{self, pairs};

/// A cache mount of a RUN that the target reaches, whose id is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// The first line of its RUN.
    pub line: i32,
    /// What BuildKit finds it by.
    pub id: String,
    /// It holds nothing where it takes so many of the bytes that an empty folder takes.
    pub folders: i64,
    /// What is said where it stays empty.
    pub hint: Hint,
}

/// Whatever is mounted there is the right place in golang's images; a program without modules leaves nothing there.
const MODULES_OF_GO: &str = "/go/pkg/mod";

/// The cache mounts that a build has; none where the Dockerfile cannot be read.
pub fn cache_mounts(view: &View) -> Vec<CacheMount> {
    let file = reader::parse(view.dockerfile).unwrap_or_default();
    let Some(stages) = Stages::read(&file, view.target, view.build_args) else {
        return vec![];
    };
    let moved = ["GOMODCACHE", "GOPATH"];
    let moved = moved.iter().any(|name| view.dockerfile.contains(name));
    let mut found = vec![];
    for (at, stage) in stages.each() {
        for step in stage.steps.iter().filter(|step| step.keyword == "RUN") {
            for mount in step.mounts() {
                let get = |key: &str| mount.get(key).map(String::as_str);
                let bare = ["from", "source", "ro", "readonly"];
                let target = get("target").unwrap_or_default();
                let id = get("id").filter(|id| !id.is_empty()).unwrap_or(target);
                if get("type") != Some("cache")
                    || bare.iter().any(|key| mount.contains_key(*key))
                    || target.is_empty()
                    || target.contains('$')
                    || id.contains('$')
                {
                    continue;
                }
                if target.trim_end_matches('/') == MODULES_OF_GO && !moved {
                    continue;
                }
                let place = Place {
                    stages: &stages,
                    stage: at,
                    step,
                    target: target.trim_end_matches('/'),
                    has_uid: mount.contains_key("uid"),
                };
                let text = format!(
                    "the cache mount {target} is still empty after its step has run: {}",
                    place.why()
                );
                let written = &step.written;
                let line = written.line(written.text.find(target).unwrap_or(0));
                found.push(CacheMount {
                    line: step.lines.0,
                    id: match get("id").is_some() {
                        true => id.to_owned(),
                        false => clean(id),
                    },
                    // With docker-clean apt leaves a folder, one in that, and a lock: 12 KiB; without it tens of MiB.
                    folders: if place.is_apts() { 4 } else { 1 },
                    hint: view.hint(HintKind::CacheMountEmpty, Some(line), &text),
                });
            }
        }
    }
    found
}

/// A path as Go's path.Clean leaves it, where it has no `..`.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// A mount, and what is known where it is.
struct Place<'a> {
    stages: &'a Stages<'a>,
    stage: usize,
    step: &'a Step<'a>,
    target: &'a str,
    has_uid: bool,
}

/// Tools whose usual place is another than what is mounted for them: programs, what the mount's path has in it, and the
/// usual place.
const PLACES: [(&[&str], &[&str], &str); 9] = [
    (
        &["go"],
        &["go-build", "gocache"],
        "go keeps its build cache in $HOME/.cache/go-build (/root/.cache/go-build for root), unless GOCACHE says otherwise",
    ),
    (
        &["go"],
        &["pkg/mod", "gomod"],
        "go keeps modules in /go/pkg/mod in golang's images, else in $HOME/go/pkg/mod, unless GOMODCACHE says otherwise",
    ),
    (
        &["cargo"],
        &["registry", ".cargo", "cargo"],
        "cargo keeps crates in /usr/local/cargo/registry in rust's images, else in $HOME/.cargo/registry, unless \
         CARGO_HOME says otherwise",
    ),
    (
        &["npm"],
        &["npm"],
        "npm keeps its cache in $HOME/.npm (/root/.npm for root), unless npm_config_cache says otherwise",
    ),
    (
        &["yarn"],
        &["yarn"],
        "`yarn cache dir` says where yarn keeps its cache: /usr/local/share/.cache for root",
    ),
    (
        &["pnpm"],
        &["pnpm"],
        "`pnpm store path` says where pnpm keeps its store: name the mount's directory by --store-dir",
    ),
    (
        &["pip"],
        &["pip", ".cache"],
        "pip keeps its cache in $HOME/.cache/pip (/root/.cache/pip for root), unless PIP_CACHE_DIR says otherwise",
    ),
    (
        &["mvn", "mvnw"],
        &["m2", "maven"],
        "Maven keeps its repository in $HOME/.m2 (/root/.m2 for root), unless -Dmaven.repo.local says otherwise",
    ),
    (
        &["gradle", "gradlew"],
        &["gradle"],
        "Gradle keeps its cache in $HOME/.gradle (/home/gradle/.gradle in gradle's images), unless GRADLE_USER_HOME \
         says otherwise",
    ),
];

impl Place<'_> {
    fn is_apts(&self) -> bool {
        self.target.contains("cache/apt")
    }

    /// The cause, as far as the Dockerfile tells, and the fix.
    fn why(&self) -> String {
        let commands: Vec<Command> = self
            .step
            .script
            .iter()
            .flat_map(|script| &script.commands)
            .map(plainly)
            .collect();
        if let Some(why) = commands.iter().find_map(|command| self.is_off(command)) {
            return why;
        }
        if let Some((user, line)) = self.user()
            && !self.has_uid
        {
            let home = self.target == "/root" || self.target.starts_with("/root/");
            return match home {
                true => format!(
                    "it runs as USER {user} (line {line}), whose home directory is not /root: mount the directory \
                     that the tool uses there, with uid= of {user}"
                ),
                false => format!(
                    "it runs as USER {user} (line {line}), and the mount belongs to root, so nothing can be written \
                     there: add uid= of {user}, for example uid=1000"
                ),
            };
        }
        if self.is_apts() {
            return "images of Debian and Ubuntu delete it after each apt command: begin the RUN with `rm -f \
                    /etc/apt/apt.conf.d/docker-clean`"
                .into();
        }
        let known = PLACES.iter().find(|(programs, marks, _)| {
            let runs = commands.iter().any(|it| programs.contains(&it.program()));
            runs && marks.iter().any(|mark| self.target.contains(mark))
        });
        match known {
            Some((_, _, place)) => format!("{place}: mount that directory, or let the variable name the mount's"),
            None => "most often because the tool keeps its cache elsewhere, or the step runs with another user or HOME \
                     than the mount's path is for: mount the directory that the tool uses, or take the mount out"
                .into(),
        }
    }

    /// What in a command or a variable above it turns this mount's cache off, or names another place for it.
    fn is_off(&self, command: &Command) -> Option<String> {
        let manager = MANAGERS.iter().find(|manager| manager.is(command))?;
        let mine =
            |path: &&str| path.len() > 3 && self.target.contains(path.trim_start_matches('/'));
        if !manager.paths.iter().any(mine) {
            return None;
        }
        let name = manager.name;
        if let Some(word) = command.args().find(|word| word.starts_with("--no-ca")) {
            return Some(format!(
                "{name} keeps no cache with {word}: take {word} out of the command"
            ));
        }
        self.variable(manager, command).map(|(variable, value)| {
            format!(
                "{variable}={value} is set, so {name} has its cache elsewhere, or none: take it out, or mount what it \
                 names"
            )
        })
    }

    /// A variable of the manager's that has another value than the mount's path.
    fn variable(&self, manager: &Manager, command: &Command) -> Option<(String, String)> {
        let is = |name: &str| {
            manager
                .env
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        };
        let own = command.env.iter().cloned();
        let above = self
            .stages
            .flow(self.stage)
            .take_while(|(_, step)| step.lines.0 < self.step.lines.0)
            .filter(|(_, step)| step.keyword == "ENV")
            .flat_map(|(_, step)| pairs(step))
            .map(|(name, value)| (name, value.unwrap_or_default()));
        above
            .chain(own)
            .filter(|(name, value)| is(name) && value.trim_end_matches('/') != self.target)
            .last()
    }

    /// Who runs the step, where it is somebody else than root and the Dockerfile says so; with the line.
    fn user(&self) -> Option<(&str, i32)> {
        let above = self
            .stages
            .flow(self.stage)
            .take_while(|(_, step)| step.lines.0 < self.step.lines.0);
        let (_, last) = above.filter(|(_, step)| step.keyword == "USER").last()?;
        let user = last.rest.text.split(':').next()?.trim();
        let other = !matches!(user, "" | "root" | "0") && !user.contains('$');
        other.then_some((user, last.lines.0))
    }
}
