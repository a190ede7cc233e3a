//! BuildKit's own build checks: those that matter, with their cure.
//!
//! Names and words: <https://github.com/moby/buildkit/blob/v0.33.1/frontend/dockerfile/linter/ruleset.go>.

use std::collections::BTreeSet;

use super::dockerfile::pairs;
use super::stages::Step;
use super::{BuildWarning, Hint, HintKind, Look};

/// The checks that are passed on, each with its cure. Those on letter case, on old forms and on how
/// comments are written are left out.
const PASSED: [(&str, &str); 10] = [
    (
        "SecretsUsedInArgOrEnv",
        "the value stays readable in the image's history; use spec.secrets and RUN --mount=type=secret",
    ),
    (
        "UndefinedVar",
        "it is empty here; declare it by ARG or ENV above, in this stage",
    ),
    (
        "UndefinedArgInFrom",
        "declare it by ARG before the first FROM",
    ),
    (
        "InvalidDefaultArgInFrom",
        "give the ARG a default that builds",
    ),
    (
        "CopyIgnoredFile",
        "take it out of .dockerignore, or out of this line",
    ),
    (
        "JSONArgsRecommended",
        "written as [\"program\", \"argument\"] it needs no shell, and the program gets SIGTERM",
    ),
    (
        "DuplicateStageName",
        "give each stage a name of its own: the last one is meant",
    ),
    ("WorkdirRelativePath", "write it from the root on"),
    ("MultipleInstructionsDisallowed", "take the others out"),
    (
        "ExposeInvalidFormat",
        "write the port of the container alone",
    ),
];

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    look.view
        .warnings
        .iter()
        .filter_map(|warning| {
            let (rule, said) = parts(warning)?;
            let (_, cure) = PASSED.iter().find(|(name, _)| *name == rule)?;
            if (rule == "UndefinedVar" && is_added_to_itself(look, warning))
                || (rule == "InvalidDefaultArgInFrom" && is_given(look, warning))
            {
                return None;
            }
            let of_arg = rule == "UndefinedVar"
                && variable(said).is_some_and(|name| is_declared_somewhere(look, name));
            let (kind, text) = match variable(said).filter(|_| of_arg) {
                Some(name) => (
                    HintKind::ArgNotDeclared,
                    format!(
                        "${name} is empty here: its value does not reach this stage; add `ARG {name}` \
                         above, in this stage"
                    ),
                ),
                None => (HintKind::BuildCheck, format!("{rule}: {said}: {cure}")),
            };
            Some(look.hint(kind, warning.line, &text))
        })
        .collect()
}

/// The rule, and what it says, without the line at the end.
fn parts(warning: &BuildWarning) -> Option<(&str, &str)> {
    let (rule, said) = warning.text.split_once(": ")?;
    let said = match said.rsplit_once(" (line ") {
        Some((before, number)) if number.ends_with(')') => before,
        _ => said,
    };
    Some((rule, said))
}

/// `Usage of undefined variable '$FOO' (did you mean $FOOD?)`.
fn variable(said: &str) -> Option<&str> {
    let (name, _) = said.split_once("'$")?.1.split_once('\'')?;
    Some(name)
}

/// The names that BuildKit found undefined.
pub(super) fn undefined<'a>(look: &Look<'a>) -> BTreeSet<&'a str> {
    look.view
        .warnings
        .iter()
        .filter_map(parts)
        .filter(|(rule, _)| *rule == "UndefinedVar")
        .filter_map(|(_, said)| variable(said))
        .collect()
}

fn is_declared_somewhere(look: &Look, name: &str) -> bool {
    let in_a_stage = |step: &Step| {
        step.keyword == "ARG" && pairs(step).iter().any(|(declared, _)| declared == name)
    };
    look.stages.global.contains_key(name)
        || look.view.build_args.contains_key(name)
        || look
            .stages
            .all
            .iter()
            .any(|s| s.steps.iter().any(in_a_stage))
}

/// `ENV LD_LIBRARY_PATH=/lib:$LD_LIBRARY_PATH`: that it may be unset is part of the idiom.
fn is_added_to_itself(look: &Look, warning: &BuildWarning) -> bool {
    let Some(name) = parts(warning).and_then(|(_, said)| variable(said)) else {
        return false;
    };
    let steps = look.stages.all.iter().flat_map(|stage| &stage.steps);
    steps
        .filter(|step| step.keyword == "ENV" && Some(step.lines.0) == warning.line)
        .any(|step| pairs(step).iter().any(|(own, _)| own == name))
}

/// The build gives all that the FROM asks for: that it has no default is then meant.
fn is_given(look: &Look, warning: &BuildWarning) -> bool {
    look.stages.all.iter().any(|stage| {
        Some(stage.line) == warning.line && stage.image.as_deref().is_some_and(|i| !i.is_empty())
    })
}
