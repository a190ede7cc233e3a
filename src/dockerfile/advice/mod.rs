//! Hints on a build: few, right, each with its line. They never fail a build.
//!
//! Pure: from the Dockerfile's text, the files that look like secrets, and what BuildKit itself warned of.
//! A hint that is wrong is worse than none: where something cannot be known, nothing is said.
//! `docs/hints.md` lists them for users.

mod args;
mod bases;
mod caches;
mod checks;
mod forms;
mod ignore;
mod managers;
mod modules;
mod mounts;
mod order;
mod secrets;
mod sensitive;
mod shell;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, IntoStaticStr};

pub use ignore::{Above, Ignore, kept};
pub use mounts::{CacheMount, cache_mounts};
pub use secrets::{CANDIDATES, is_candidate};

use crate::reader::{self, Directive};
use stages::Stages;
use whittle_image::bounded;

/// How many hints a build gets at most.
const HINTS: usize = 10;

/// Bytes of a message, at most.
const MESSAGE_BYTES: usize = 600;

/// What is known of a build's source.
pub struct View<'a> {
    /// The Dockerfile's path, for messages.
    pub dockerfile_path: &'a str,
    /// Its text.
    pub dockerfile: &'a str,
    /// The stage that is built: only what it reaches counts. None: the last.
    pub target: Option<&'a str>,
    /// What the build gives for the Dockerfile's ARGs.
    pub build_args: &'a BTreeMap<String, String>,
    /// Files of the context, those in `.dockerignore` left out, that are candidates for secrets.
    pub files: &'a [ContextFile],
    /// BuildKit's own build checks, as heard in the build.
    pub warnings: &'a [BuildWarning],
}

/// A file of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFile {
    /// From the context's root, with `/`.
    pub path: String,
    /// Its first bytes, up to 4 KiB; empty where the file is, or where they are not known.
    pub head: Vec<u8>,
}

/// A warning of BuildKit's own build checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildWarning {
    /// BuildKit's `short`: `UndefinedVar: Usage of undefined variable '$FOO' (line 5)`.
    pub text: String,
    /// The line in the Dockerfile.
    pub line: Option<i32>,
    /// Where the check is described.
    pub url: Option<String>,
}

/// What a hint is about; those that matter most first.
#[derive(
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    JsonSchema,
    Display,
    EnumIter,
    IntoStaticStr,
)]
pub enum HintKind {
    /// A file that looks like a secret is copied out of the context.
    #[default]
    SecretInContext,
    /// What looks like a list in JSON is none.
    BrokenJsonForm,
    /// A health check that cannot work in the image: its program is not there.
    HealthCheckCannotWork,
    /// A variable is used in a stage that does not declare it as an ARG.
    ArgNotDeclared,
    /// No ARG declares what `buildArgs` gives.
    BuildArgNotDeclared,
    /// The sources are copied before the modules are downloaded.
    SourcesBeforeModules,
    /// A package manager's cache stays in a layer of the image.
    PackageCacheInLayer,
    /// A cache mount stays empty though its step has run.
    CacheMountEmpty,
    /// Much of the image is never reached by its program.
    SmallerImage,
    /// Layers cannot travel by the Builder's registry.
    CacheRegistryFailed,
    /// A base image is `latest`.
    BaseImageLatest,
    /// One of BuildKit's own build checks.
    BuildCheck,
    /// A base image is named by its tag alone.
    BaseImageNotPinned,
}

impl HintKind {
    /// As in conditions and in `docs/hints.md`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A piece of advice.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Hint {
    /// What it is about.
    pub kind: HintKind,
    /// The line in the Dockerfile; none where it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<i32>,
    /// Place, cause and fix: `Dockerfile:3: …`.
    pub message: String,
}

/// What the rules look at.
struct Look<'a> {
    view: &'a View<'a>,
    stages: &'a Stages<'a>,
}

impl Look<'_> {
    fn hint(&self, kind: HintKind, line: Option<i32>, text: &str) -> Hint {
        self.view.hint(kind, line, text)
    }
}

impl View<'_> {
    /// A hint on a line of this Dockerfile, which its message begins with.
    pub fn hint(&self, kind: HintKind, line: Option<i32>, text: &str) -> Hint {
        let place = match line {
            Some(line) => format!("{}:{line}", self.dockerfile_path),
            None => self.dockerfile_path.to_owned(),
        };
        Hint {
            kind,
            line,
            message: bounded(format!("{place}: {text}"), MESSAGE_BYTES),
        }
    }
}

/// The HEALTHCHECK that holds for the stage that is built.
pub struct HealthCheck {
    /// Its line; none where the Dockerfile has none: it is the base image's then.
    pub line: Option<i32>,
    /// True for what looks like a list in JSON and is none: that has a hint of its own.
    pub is_broken: bool,
}

/// The built stage's HEALTHCHECK; none where the Dockerfile cannot be read.
pub fn health_check(view: &View) -> Option<HealthCheck> {
    let file = reader::parse(view.dockerfile).unwrap_or_default();
    let stages = Stages::read(&file, view.target, view.build_args)?;
    let own = stages
        .flow(stages.target)
        .map(|(_, step)| step)
        .filter(|step| step.keyword == "HEALTHCHECK")
        .last();
    Some(HealthCheck {
        line: own.map(|step| step.lines.0),
        is_broken: own.is_some_and(|step| forms::broken(step).is_some()),
    })
}

/// The hints on a build, by line, at most ten; none where the Dockerfile is not one that BuildKit's own
/// frontend takes.
pub fn advise(view: &View) -> Vec<Hint> {
    let Some(file) = reader::parse(view.dockerfile) else {
        return vec![];
    };
    let ours = |syntax: &Directive| {
        let name = whittle_image::Reference::parse(&syntax.value).repository;
        name.path.starts_with("docker/dockerfile")
    };
    if !file.directives.get("syntax").is_none_or(ours) {
        return vec![];
    }
    let Some(stages) = Stages::read(&file, view.target, view.build_args) else {
        return vec![];
    };
    let look = Look {
        view,
        stages: &stages,
    };
    let hints = [
        secrets::hints(&look),
        forms::hints(&look),
        args::hints(&look),
        order::hints(&look),
        caches::hints(&look),
        bases::hints(&look),
        checks::hints(&look),
    ]
    .concat();
    few(hints)
}

/// The same together with what is known of the built image; by line, at most ten.
pub fn with(mut hints: Vec<Hint>, more: Vec<Hint>) -> Vec<Hint> {
    hints.extend(more);
    few(hints)
}

/// Those that matter most, each once, by line; those about no line last.
fn few(mut hints: Vec<Hint>) -> Vec<Hint> {
    hints.sort_by_key(|hint| (hint.kind, hint.line));
    let mut few: Vec<Hint> = vec![];
    for hint in hints {
        if !few.contains(&hint) && few.len() < HINTS {
            few.push(hint);
        }
    }
    few.sort_by_key(|hint| (hint.line.unwrap_or(i32::MAX), hint.kind));
    few
}

/// Messages for the condition: one line a hint, `Dockerfile:3: …`.
pub fn lines(hints: &[Hint]) -> Vec<String> {
    hints.iter().map(|hint| hint.message.clone()).collect()
}

/// `a, b and c`.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [more @ .., last] => {
            let more: Vec<&str> = more.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", more.join(", "), last.as_ref())
        }
    }
}
