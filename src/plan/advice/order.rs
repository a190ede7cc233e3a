//! Sources that are copied before the modules are downloaded: each change of a file downloads them anew.

use std::collections::{BTreeMap, BTreeSet};

use super::dockerfile::{Instruction, pairs};
use super::ignore::clean;
use super::shell::Command;
use super::stages::{Step, origins};
use super::{Hint, HintKind, Look};

/// How modules come in.
struct Download {
    ecosystem: &'static str,
    /// A command of its own; else a build that downloads on the way.
    own: bool,
    /// As users write it.
    command: &'static str,
    cure: &'static str,
}

const GO_CURE: &str = "copy go.mod and go.sum first and run `go mod download`, then copy the rest";
const GO_BUILD_CURE: &str = "copy go.mod and go.sum first and run `go mod download`, or give the RUN \
     --mount=type=cache,target=/go/pkg/mod and --mount=type=cache,target=/root/.cache/go-build";
const CARGO_CURE: &str = "give the RUN --mount=type=cache,target=/usr/local/cargo/registry and one on \
     target/ (copy the program out in the same RUN), or build the dependencies first with cargo-chef";
const NODE_CURE: &str = "copy package.json and the lock file first, install, then copy the rest";
const PYTHON_CURE: &str =
    "copy the files that name the dependencies first, install these, then copy the rest";

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
        let mut vendored = false;
        for (n, step) in look.stages.flow(at) {
            if step.keyword == "ENV" {
                vendored |= pairs(step).iter().any(|(name, value)| {
                    let value = value.as_deref().unwrap_or_default();
                    (name == "GOFLAGS" && value.contains("mod=vendor"))
                        || (name == "GOPROXY" && value.contains("off"))
                });
            }
            // Modules that lie in the source need no download; a manifest that a RUN makes cannot go first.
            vendored |= step.takes_context()
                && step
                    .sources()
                    .iter()
                    .any(|source| clean(source).ends_with("vendor"));
            done.extend(
                step.script
                    .iter()
                    .flat_map(|s| &s.commands)
                    .filter_map(makes),
            );
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
                let Some(copy) = copied.filter(|_| !(vendored && download.ecosystem == "go"))
                else {
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
                    "downloads all of it anew"
                } else {
                    "downloads the modules, where it has any, and compiles everything anew"
                };
                let text = format!(
                    "`{}` stands before `{}` (line {line}), so each change of any file {what}: {}",
                    shown(copy),
                    download.command,
                    download.cure
                );
                hints.push(look.hint(HintKind::SourcesBeforeModules, Some(copy.lines.0), &text));
            }
        }
    }
    hints
}

/// The instruction in a message.
pub(super) fn shown(instruction: &Instruction) -> String {
    crate::api::bounded(instruction.text(), 80)
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
        .filter_map(|command| Some((command.clone(), download(command)?)))
        .collect()
}

fn download(command: &Command) -> Option<Download> {
    let plain: Vec<&str> = command.plain().collect();
    let first = plain.first().copied().unwrap_or_default();
    let second = plain.get(1).copied().unwrap_or_default();
    let own = |ecosystem, command, cure| {
        Some(Download {
            ecosystem,
            own: true,
            command,
            cure,
        })
    };
    let build = |ecosystem, command, cure| {
        Some(Download {
            ecosystem,
            own: false,
            command,
            cure,
        })
    };
    if ["--offline", "--no-index"]
        .iter()
        .any(|flag| command.has(flag))
    {
        return None;
    }
    match command.program() {
        "go" => go(command, first, second),
        "cargo" => {
            if command.has("--frozen") {
                return None;
            }
            match first {
                "fetch" => own("cargo", "cargo fetch", CARGO_CURE),
                "chef" if second == "cook" => own("cargo", "cargo chef cook", CARGO_CURE),
                "build" | "b" => build("cargo", "cargo build", CARGO_CURE),
                "test" | "t" => build("cargo", "cargo test", CARGO_CURE),
                "install" if command.args().any(|word| word.starts_with("--path")) => {
                    build("cargo", "cargo install", CARGO_CURE)
                }
                _ => None,
            }
        }
        "npm" => match first {
            "ci" | "clean-install" => own("node", "npm ci", NODE_CURE),
            "install" | "i" if installs_all(command) => own("node", "npm install", NODE_CURE),
            _ => None,
        },
        "yarn" if matches!(first, "" | "install") && !asks_only(command) => {
            own("node", "yarn install", NODE_CURE)
        }
        "pnpm" => match first {
            "fetch" => own("node", "pnpm fetch", NODE_CURE),
            "install" | "i" if installs_all(command) => own("node", "pnpm install", NODE_CURE),
            _ => None,
        },
        "bun" if first == "install" && installs_all(command) => {
            own("node", "bun install", NODE_CURE)
        }
        "pip" | "pip3" if first == "install" && names_a_file(command) => {
            own("python", "pip install -r", PYTHON_CURE)
        }
        "python" | "python3"
            if command.has("pip") && command.has("install") && command.has("-m") =>
        {
            names_a_file(command)
                .then(|| own("python", "pip install -r", PYTHON_CURE))
                .flatten()
        }
        "uv" => match (first, second) {
            ("sync", _) => own("python", "uv sync", PYTHON_CURE),
            ("pip", "install") if names_a_file(command) => {
                own("python", "uv pip install -r", PYTHON_CURE)
            }
            _ => None,
        },
        "poetry" if first == "install" => own("python", "poetry install", PYTHON_CURE),
        "pipenv" if matches!(first, "install" | "sync") => {
            own("python", "pipenv install", PYTHON_CURE)
        }
        "bundle" if matches!(first, "" | "install") && !asks_only(command) => own(
            "ruby",
            "bundle install",
            "copy Gemfile and Gemfile.lock first, install, then copy the rest",
        ),
        "composer" if first == "install" => own(
            "php",
            "composer install",
            "copy composer.json and composer.lock first, install with --no-scripts --no-autoloader, then \
             copy the rest and run `composer dump-autoload`",
        ),
        "dotnet" if first == "restore" => own(
            "dotnet",
            "dotnet restore",
            "copy the project files first, restore, then copy the rest",
        ),
        "mvn"
            if command
                .args()
                .any(|word| word.contains("dependency:go-offline")) =>
        {
            own(
                "maven",
                "mvn dependency:go-offline",
                "copy pom.xml first, download, then copy the rest",
            )
        }
        _ => None,
    }
}

/// The ecosystem whose manifest or modules the command makes.
fn makes(command: &Command) -> Option<&'static str> {
    let mut plain = command.plain();
    match (command.program(), plain.next(), plain.next()) {
        ("go", Some("mod"), Some("init")) | ("dep", Some("ensure"), _) => Some("go"),
        ("npm" | "yarn" | "pnpm" | "bun", Some("init"), _) => Some("node"),
        ("cargo", Some("init" | "new"), _) => Some("cargo"),
        ("uv" | "poetry", Some("init"), _) => Some("python"),
        _ => None,
    }
}

fn go(command: &Command, first: &str, second: &str) -> Option<Download> {
    let own = |shown, cure| {
        Some(Download {
            ecosystem: "go",
            own: true,
            command: shown,
            cure,
        })
    };
    // `go install tool@latest` has nothing to do with the sources.
    if command
        .args()
        .any(|word| word.contains('@') || word.contains("mod=vendor"))
    {
        return None;
    }
    let shown = match (first, second) {
        ("mod", "download") => return own("go mod download", GO_CURE),
        ("mod", "tidy") => return own("go mod tidy", GO_CURE),
        ("mod", "vendor") => return own("go mod vendor", GO_CURE),
        ("get", _) => return own("go get", GO_CURE),
        ("build", _) => "go build",
        ("install", _) => "go install",
        ("test", _) => "go test",
        ("vet", _) => "go vet",
        ("run", _) => "go run",
        _ => return None,
    };
    Some(Download {
        ecosystem: "go",
        own: false,
        command: shown,
        cure: GO_BUILD_CURE,
    })
}

/// True where no package is named, so that all of the manifest's are meant.
fn installs_all(command: &Command) -> bool {
    const TAKE_A_VALUE: [&str; 11] = [
        "--prefix",
        "-C",
        "--dir",
        "--cwd",
        "--registry",
        "--cache",
        "--loglevel",
        "--omit",
        "--include",
        "--workspace",
        "--filter",
    ];
    if command.has("-g") || command.has("--global") || command.has("--location=global") {
        return false;
    }
    let mut named = 0;
    let mut value = false;
    for word in command.args() {
        if !value && !word.starts_with('-') {
            named += 1;
        }
        value = TAKE_A_VALUE.contains(&word);
    }
    // The first is `install` itself.
    named <= 1
}

fn asks_only(command: &Command) -> bool {
    command.has("--version") || command.has("-v") || command.has("--help") || command.has("-h")
}

/// `-r requirements.txt`
fn names_a_file(command: &Command) -> bool {
    command.args().any(|word| {
        word == "-r"
            || word.starts_with("--requirement")
            || (word.starts_with("-r") && word.contains('.'))
    })
}
