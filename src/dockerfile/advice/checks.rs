//! BuildKit's own build checks: those that matter, with their fix.
//!
//! Names and words: <https://github.com/moby/buildkit/blob/v0.33.1/frontend/dockerfile/linter/ruleset.go>.

use std::collections::BTreeSet;

use super::forms;
use super::sensitive::is_secret;
use super::stages::Step;
use super::{BuildWarning, Hint, HintKind, Look};
use crate::reader::pairs;

/// The checks that are passed on, each with its fix. Those on letter case, on old forms and on how
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
        "remove it from .dockerignore, or from this line",
    ),
    (
        "JSONArgsRecommended",
        "written as [\"program\", \"argument\"] it needs no shell, and the program gets SIGTERM",
    ),
    (
        "DuplicateStageName",
        "give each stage a name of its own: the last one is meant",
    ),
    ("WorkdirRelativePath", "write an absolute path"),
    ("MultipleInstructionsDisallowed", "remove the others"),
    ("ExposeInvalidFormat", "write only the container's port"),
];

pub(super) fn hints(look: &Look) -> Vec<Hint> {
    look.view
        .warnings
        .iter()
        .filter_map(|warning| {
            let (rule, said) = parts(warning)?;
            let (_, fix) = PASSED.iter().find(|(name, _)| *name == rule)?;
            let wrong = match rule {
                "UndefinedVar" => is_added_to_itself(look, warning),
                "InvalidDefaultArgInFrom" => is_given(look, warning),
                "SecretsUsedInArgOrEnv" => is_no_secret(look, warning, said),
                "JSONArgsRecommended" => is_better_so(look, warning),
                _ => false,
            };
            if wrong || is_elsewhere(look, warning) {
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
                None => (HintKind::BuildCheck, format!("{rule}: {said}: {fix}")),
            };
            Some(look.hint(kind, warning.line, &text))
        })
        .collect()
}

/// The instructions of a warning's line.
fn steps_at<'l, 'a>(
    look: &'l Look<'a>,
    warning: &BuildWarning,
) -> impl Iterator<Item = &'l Step<'a>> {
    let line = warning.line.unwrap_or(0);
    let steps = look.stages.all.iter().flat_map(|stage| &stage.steps);
    steps.filter(move |step| (step.lines.0..=step.lines.1).contains(&line))
}

/// True where the line is of a stage that the target does not reach.
fn is_elsewhere(look: &Look, warning: &BuildWarning) -> bool {
    let Some(line) = warning.line else {
        return false;
    };
    let of = look.stages.all.iter().rposition(|stage| stage.line <= line);
    of.is_some_and(|at| !look.stages.reached.contains(&at))
}

/// The check goes by the name alone: `ENV "USE_AUTH_PLUGIN"`. The value, as the build gives it, has a say too.
fn is_no_secret(look: &Look, warning: &BuildWarning, said: &str) -> bool {
    let Some(name) = said
        .split_once('"')
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(name, _)| name)
    else {
        return false;
    };
    let mut found = steps_at(look, warning)
        .filter(|step| matches!(step.keyword.as_str(), "ARG" | "ENV"))
        .flat_map(|step| {
            pairs(step)
                .into_iter()
                .map(|pair| (step.keyword.as_str(), pair))
        })
        .filter(|(_, (own, _))| own == name)
        .peekable();
    found.peek().is_some()
        && !found.any(|(keyword, (_, value))| holds_a_secret(look, keyword, name, value))
}

fn holds_a_secret(look: &Look, keyword: &str, name: &str, value: Option<String>) -> bool {
    if keyword == "ARG" {
        return is_secret(name, given(look, name, value).as_deref());
    }
    let value = bare(value.unwrap_or_default());
    // `ENV TOKEN=$TOKEN` writes down what the ARG is given.
    let of = value.strip_prefix('$').map(|rest| {
        let rest = rest.trim_start_matches('{');
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    let Some(of) = of else {
        return is_secret(name, Some(&value));
    };
    let steps = look.stages.all.iter().flat_map(|stage| &stage.steps);
    let arg = steps
        .filter(|step| step.keyword == "ARG")
        .flat_map(|step| pairs(step))
        .find(|(own, _)| own == of);
    arg.is_some_and(|(_, default)| {
        let given = given(look, of, default);
        is_secret(name, given.as_deref()) && is_secret(of, given.as_deref())
    })
}

/// What an ARG comes to: by the build, by its own default, or by the one before the first FROM. An empty
/// default waits for the build's value as none does.
fn given(look: &Look, name: &str, default: Option<String>) -> Option<String> {
    let given = look.view.build_args.get(name).cloned();
    let global = look.stages.values.get(name).cloned();
    let value = given.or(default).or(global).map(bare);
    value.filter(|value| !value.is_empty())
}

fn bare(value: String) -> String {
    value.trim_matches(['"', '\'']).to_owned()
}

/// True where the shell is needed, and where what looks like JSON has a hint of its own.
fn is_better_so(look: &Look, warning: &BuildWarning) -> bool {
    steps_at(look, warning)
        .filter(|step| matches!(step.keyword.as_str(), "CMD" | "ENTRYPOINT"))
        .any(|step| {
            forms::needs_a_shell(&step.rest.text) || forms::broken(step.instruction).is_some()
        })
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
