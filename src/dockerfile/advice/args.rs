//! Variables of RUN that are an ARG elsewhere, but not in their own stage; and build arguments that no ARG
//! declares. What other instructions use, BuildKit checks itself (`UndefinedVar`).

use std::collections::{BTreeMap, BTreeSet};

use super::stages::{Stage, Step};
use super::{Hint, HintKind, Look, checks};
use crate::reader::pairs;

/// BuildKit gives these to a stage that declares them.
const OF_THE_PLATFORM: [&str; 9] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

/// These need no ARG
/// (<https://docs.docker.com/reference/dockerfile/#predefined-args>), or BuildKit reads them itself.
const PREDEFINED: [&str; 12] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SOURCE_DATE_EPOCH",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
];

/// Shells set these themselves, or every base image does.
const OF_THE_SHELL: [&str; 19] = [
    "EUID", "HOME", "HOSTNAME", "IFS", "LANG", "LINENO", "OLDPWD", "OPTARG", "OPTIND", "PATH",
    "PPID", "PWD", "RANDOM", "SECONDS", "SHELL", "SHLVL", "TERM", "UID", "_",
];

/// Of well-known base images: a variable of this name may come from there.
const OF_BASE_IMAGES: [&str; 20] = [
    "CARGO_HOME",
    "DOTNET_VERSION",
    "GEM_HOME",
    "GOLANG_VERSION",
    "GOPATH",
    "GOTOOLCHAIN",
    "GRADLE_HOME",
    "JAVA_HOME",
    "JAVA_VERSION",
    "MAVEN_HOME",
    "NGINX_VERSION",
    "NODE_ENV",
    "NODE_VERSION",
    "PHP_VERSION",
    "PYTHON_VERSION",
    "RUBY_VERSION",
    "RUSTUP_HOME",
    "RUST_VERSION",
    "TZ",
    "YARN_VERSION",
];

/// Where a name is declared, but not in the stage that uses it.
enum Elsewhere {
    Before(i32),
    Stage(i32),
    Platform,
    BuildArgs,
}

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    let mut used = BTreeSet::new();
    let mut hints: Vec<Hint> = vec![];
    for (at, stage) in look.stages.each() {
        hints.extend(of_stage(look, at, stage, &mut used));
    }
    hints.extend(not_declared(look, &used));
    hints
}

fn of_stage(look: &Look, at: usize, stage: &Stage, used: &mut BTreeSet<String>) -> Vec<Hint> {
    // From where in the flow on a name is known.
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut hints = vec![];
    for (n, step) in look.stages.flow(at) {
        match step.keyword.as_str() {
            "ARG" | "ENV" => known.extend(pairs(step).into_iter().map(|(name, _)| name)),
            _ => {}
        }
        let Some(script) = step.script.as_ref().filter(|s| n == at && !s.opaque) else {
            continue;
        };
        let mounted: Vec<String> = step
            .mounts()
            .into_iter()
            .filter_map(|mut mount| mount.remove("env"))
            .collect();
        for variable in &script.uses {
            let name = variable.name.as_str();
            let set = known.contains(name)
                || variable.guarded
                || script.assigned.contains(name)
                || mounted.iter().any(|env| env == name)
                || !told.insert(name);
            if set || may_come_from_the_base(look, at, name) {
                continue;
            }
            let Some(elsewhere) = elsewhere(look, at, name) else {
                continue;
            };
            used.insert(name.to_owned());
            let line = script.text.line(variable.at);
            let later = declared_later(stage, step, name);
            let text = match (later, elsewhere) {
                (Some(later), _) => format!(
                    "${name} is empty here, its ARG follows on line {later} only: move it above this RUN"
                ),
                (None, Elsewhere::Platform) => format!(
                    "${name} is empty here: a stage has it only after `ARG {name}`; add that to {} above \
                     this RUN",
                    stage.called()
                ),
                (None, Elsewhere::Before(line)) => format!(
                    "${name} is empty here: the ARG of line {line} is before the first FROM and holds \
                     for FROM lines only; add `ARG {name}` to {} above this RUN",
                    stage.called()
                ),
                (None, Elsewhere::Stage(line)) => format!(
                    "${name} is empty here: the ARG of line {line} holds for its own stage only; add `ARG \
                     {name}` to {} above this RUN",
                    stage.called()
                ),
                (None, Elsewhere::BuildArgs) => format!(
                    "${name} is empty here: spec.buildArgs gives it, but no ARG declares it; add `ARG \
                     {name}` to {} above this RUN",
                    stage.called()
                ),
            };
            hints.push(look.hint(HintKind::ArgNotDeclared, Some(line), &text));
        }
    }
    hints
}

/// The line of an ARG of this name that comes after the step in its own stage.
fn declared_later(stage: &Stage, step: &Step, name: &str) -> Option<i32> {
    stage
        .steps
        .iter()
        .filter(|later| later.keyword == "ARG" && later.lines.0 > step.lines.0)
        .find(|later| pairs(later).iter().any(|(own, _)| own == name))
        .map(|later| later.lines.0)
}

fn elsewhere(look: &Look, at: usize, name: &str) -> Option<Elsewhere> {
    if PREDEFINED.contains(&name.to_uppercase().as_str()) || OF_THE_SHELL.contains(&name) {
        return None;
    }
    if OF_THE_PLATFORM.contains(&name) {
        return Some(Elsewhere::Platform);
    }
    if let Some(line) = look.stages.global.get(name) {
        return Some(Elsewhere::Before(*line));
    }
    let own = declarations(look)
        .into_iter()
        .find(|(_, _, declared)| declared == name);
    match own {
        Some((stage, line, _)) if stage != at => Some(Elsewhere::Stage(line)),
        // Its own stage declares it, later.
        Some((_, line, _)) => Some(Elsewhere::Stage(line)),
        None => look
            .view
            .build_args
            .contains_key(name)
            .then_some(Elsewhere::BuildArgs),
    }
}

/// The ARGs of all stages: stage, line, name.
fn declarations(look: &Look) -> Vec<(usize, i32, String)> {
    let mut found = vec![];
    for (at, stage) in look.stages.all.iter().enumerate() {
        for step in stage.steps.iter().filter(|step| step.keyword == "ARG") {
            found.extend(pairs(step).into_iter().map(|(n, _)| (at, step.lines.0, n)));
        }
    }
    found
}

/// Base images bring variables of their own, which nobody sees here: `NODE_VERSION` of node, for one.
fn may_come_from_the_base(look: &Look, at: usize, name: &str) -> bool {
    let root = look.stages.line_of(at)[0];
    let stage = &look.stages.all[root];
    let image = stage.image.as_deref().unwrap_or(stage.written);
    if image == "scratch" || OF_THE_PLATFORM.contains(&name) {
        return false;
    }
    let image = image.to_lowercase();
    let product = name.split('_').next().unwrap_or(name).to_lowercase();
    OF_BASE_IMAGES.contains(&name) || (name.contains('_') && image.contains(&product))
}

/// What `buildArgs` gives and no ARG takes.
fn not_declared(look: &Look, used: &BTreeSet<String>) -> Vec<Hint> {
    // Base images may declare ARGs by ONBUILD, which nobody sees here.
    let onbuild = look
        .stages
        .all
        .iter()
        .any(|stage| stage.written.contains("onbuild"));
    if onbuild {
        return vec![];
    }
    let mut names: BTreeMap<String, ()> = declarations(look)
        .into_iter()
        .map(|(_, _, name)| (name, ()))
        .collect();
    names.extend(look.stages.global.keys().map(|name| (name.clone(), ())));
    look.view
        .build_args
        .keys()
        .filter(|name| {
            !names.contains_key(*name)
                && !used.contains(*name)
                && !PREDEFINED.contains(&name.to_uppercase().as_str())
                && !OF_THE_PLATFORM.contains(&name.as_str())
                && !name.starts_with("BUILDKIT_")
                && !checks::undefined(look).contains(name.as_str())
        })
        .map(|name| {
            let near = names
                .keys()
                .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
                .filter(|(likeness, _)| *likeness >= 0.7)
                .max_by(|(a, _), (b, _)| a.total_cmp(b));
            let meant = match near {
                Some((_, near)) => format!("; did you mean {near}?"),
                None => {
                    format!(": add `ARG {name}` to the stage that should have it, or remove it")
                }
            };
            let text =
                format!("no ARG declares {name}, so spec.buildArgs.{name} changes nothing{meant}");
            look.hint(HintKind::BuildArgNotDeclared, None, &text)
        })
        .collect()
}
