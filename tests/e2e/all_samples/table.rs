//! The samples: what each is built on, what it does, and a change of one line.

use std::collections::BTreeMap;

use whittle_api::ImageBuildStatus;

use super::changes::Changed;
use crate::long;

pub struct Sample {
    pub name: &'static str,
    pub base: &'static str,
    pub does: Does,
    pub change: Change,
}

impl Sample {
    /// Those of a kind differ in nothing that a change would show: one of each is changed where tables are not whole.
    pub fn kind(&self) -> (&'static str, &'static str) {
        let change = match (self.name, &self.change) {
            // Whose cache is looked at, and what it is compared with.
            ("go-cache" | "go-copy-first", _) => self.name,
            (_, Change::Inline(..)) => "inline",
            (_, Change::ConfigMap(..)) => "configMap",
            (_, Change::Git(..)) => "git",
            (_, Change::Oci(..)) => "oci",
        };
        (self.base, change)
    }
}

/// What its Pod does.
#[derive(Clone, Copy)]
pub enum Does {
    /// Ends well after each of these stands in its log.
    Prints(&'static [&'static str]),
    /// Answers requests of `/` with this in it.
    Answers(&'static str),
}

/// The line that changes; a part of the line, and what it becomes.
pub enum Change {
    /// Of an inline file.
    Inline(&'static str, &'static str, &'static str),
    /// Of a file of the ConfigMap.
    ConfigMap(&'static str, &'static str, &'static str),
    /// Of a file of the repository, on a branch of its own.
    Git(&'static str, &'static str, &'static str),
    /// Of a file of the artifact, which is pushed again.
    Oci(&'static str, &'static str, &'static str),
}

use Change::*;
use Does::*;

const fn sample(name: &'static str, base: &'static str, does: Does, change: Change) -> Sample {
    Sample {
        name,
        base,
        does,
        change,
    }
}

/// The change that fits most of those in Go.
const fn hello(from: &'static str, to: &'static str) -> Change {
    Inline("main.go", from, to)
}

#[rustfmt::skip]
pub const SAMPLES: &[Sample] = &[
    sample("alpine-user", "alpine", Prints(&["app, app, owns app:app"]), Inline("run.sh", "echo hello", "echo hello again")),
    sample("base-alpine", "alpine", Prints(&["hello from alpine", "ID=alpine"]), hello("hello from", "hello again from")),
    sample("base-debian", "debian slim", Prints(&["hello from debian's glibc 2."]), hello("hello from", "hello again from")),
    sample("base-distroless", "distroless base", Prints(&["hello from glibc 2."]), hello("hello from", "hello again from")),
    sample("binaries-server", "scratch", Answers("hello from the server"), ConfigMap("server.go", "hello from", "hello again from")),
    sample("binaries-worker", "scratch", Prints(&["hello from the worker"]), ConfigMap("worker.go", "hello from", "hello again from")),
    sample("copy-from", "distroless base", Answers("hello from an image of files"), Inline("about.html", "hello", "hello again")),
    sample("debug-base", "scratch", Prints(&["hello from above"]), hello("hello from", "hello again from")),
    sample("debug-stage", "scratch", Prints(&["hello from beside"]), hello("hello from", "hello again from")),
    sample("dockerignore", "busybox", Prints(&["./index.js", "./dist/keep.txt"]), Inline("index.js", "hello", "hello again")),
    sample("git", "scratch", Prints(&["hello from git"]), Git("main.go", "hello from", "hello again from")),
    sample("go-cache", "scratch", Prints(&["hello the cache, from a module"]), hello("the cache", "the warm cache")),
    sample("go-copy-first", "scratch", Prints(&["hello everybody, from a module"]), hello("everybody", "everybody else")),
    sample("go-modules", "scratch", Prints(&["hello you, from a module"]), hello("\"you\"", "\"you again\"")),
    sample("go-scratch", "scratch", Answers("hello from scratch"), hello("hello from", "hello again from")),
    sample("go-single-stage", "golang", Answers("hello from a single stage"), hello("hello from", "hello again from")),
    sample("go-static", "distroless static", Prints(&["hello from distroless static"]), hello("hello from", "hello again from")),
    sample("go-version", "scratch", Prints(&["hello, version 1.4.0"]), hello("hello,", "hello again,")),
    sample("inline", "busybox", Prints(&["hello from the object itself"]), Inline("greeting", "hello", "hello again")),
    sample("node", "node slim", Answers("hello from node"), Inline("src/server.js", "hello from", "hello again from")),
    sample("oci", "scratch", Prints(&["hello from an artifact"]), Oci("main.go", "hello from", "hello again from")),
    sample("platforms", "scratch", Prints(&["hello from linux/"]), hello("hello from", "hello again from")),
    sample("probes", "scratch", Answers("hello, I am well"), hello("I am well", "I am still well")),
    sample("python", "python slim", Answers("hello from python"), Inline("greet/hello_greet.py", "hello from", "hello again from")),
    sample("scratch-files", "scratch", Prints(&["certificates: true", "zone: 14:00 CEST", "user: nobody", "temporary: true"]), hello("\"zone:\"", "\"time zone:\"")),
    sample("scratch-tmp", "scratch", Prints(&["no /tmp: true"]), hello("no /tmp:", "really no /tmp:")),
    sample("secret", "busybox", Prints(&["licensed, with a key"]), Inline("Dockerfile", "with a key", "with the key")),
    sample("secret-go-module", "scratch", Prints(&["hello you, from a private module"]), hello("\"you\"", "\"you again\"")),
    sample("secret-npm-token", "node slim", Prints(&["hello you, from a private package"]), Inline("index.js", "\"you\"", "\"you again\"")),
    sample("tags", "files by digest", Prints(&["hello from 1.4.0"]), hello("hello from", "hello again from")),
    sample("triggers", "scratch", Prints(&["hello from git"]), Git("main.go", "hello from", "hello again from")),
    sample("tags-by-commit", "scratch", Prints(&["hello from git"]), Git("main.go", "hello from", "hello again from")),
    sample("targets-development", "python slim", Prints(&["test_names_whom_it_greets", "OK"]), ConfigMap("test_greet.py", "\"you\"), \"hello you\"", "\"me\"), \"hello me\"")),
    sample("targets-production", "python slim", Prints(&["hello production"]), ConfigMap("greet.py", "\"production\"", "\"production again\"")),
    sample("test-stage", "scratch", Prints(&["hello from tested code"]), hello("from tested", "again from tested")),
];

/// Writes the table to target: those that were changed.
pub fn write(cold: &BTreeMap<String, ImageBuildStatus>, changed: &BTreeMap<&str, Changed>) {
    let mut text = String::from(
        "| system | base | size | seconds cold, all at once | seconds after a one-line change | cached steps |\n|---|---|---|---|---|---|\n",
    );
    for Sample { name, base, .. } in SAMPLES {
        let Some(then) = changed.get(name) else {
            continue;
        };
        let first = &cold[*name];
        let steps = then.status.steps.unwrap_or_default();
        text += &format!(
            "| {name} | {base} | {} | {} | {:.1} | {} of {} |\n",
            first.display_size.as_deref().unwrap_or_default(),
            first.duration_seconds.unwrap_or_default(),
            then.took.as_secs_f64(),
            steps.cached,
            steps.total,
        );
    }
    std::fs::write(
        super::root().join("target").join(long::file("samples")),
        text,
    )
    .unwrap();
}
