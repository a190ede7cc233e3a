//! The text of the guard's admission policies: what the API server asks about an object, in its Common Expression
//! Language. Names, lists and fields are those that the verdicts are made with.
//!
//! A policy says less than [`super::judge()`], and nothing that it would not say. What cannot be told is left alone.

use super::Hook;
use super::later::{INSTALLS, KERNEL, KUBERNETES};
use super::shell::RESERVED;
use super::words::{ELSEWHERE, EVERYWHERE};
use whittle_image::shell::builtins;

/// Whose word a policy goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// The namespace's own ImageBuilds and trusted ones.
    Own,
    /// ImageBuilds of other namespaces, where none of those speaks.
    Others,
}

impl Speaks {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Own, Self::Others];

    /// The name of its file in the chart.
    pub fn file(self) -> &'static str {
        match self {
            Self::Own => "own.yaml",
            Self::Others => "elsewhere.yaml",
        }
    }
}

/// An expression with a name.
struct Named {
    name: &'static str,
    /// What it is for, as a comment; empty where its name says that.
    comment: &'static str,
    expression: String,
}

/// The parts of a policy's spec that are expressions.
struct Policy {
    conditions: Vec<Named>,
    variables: Vec<Named>,
}

/// True: nothing is wrong.
const VALID: &str = "size(variables.missing) == 0";
/// What a refusal says where the next one cannot be told.
const MESSAGE: &str = "an exec probe or hook runs a program that is missing from its image";
/// What a refusal says.
const MESSAGES: &str = "variables.messages.join('; ')";

/// The hooks, in the order in which they are told of.
const HOOKS: [Hook; 5] = [
    Hook::LivenessProbe,
    Hook::ReadinessProbe,
    Hook::StartupProbe,
    Hook::PreStop,
    Hook::PostStart,
];

/// By which names a shell is started for one plain command.
const SHELLS: [&str; 10] = [
    "sh",
    "/bin/sh",
    "ash",
    "/bin/ash",
    "bash",
    "/bin/bash",
    "/usr/bin/sh",
    "/usr/bin/bash",
    "dash",
    "/bin/dash",
];

/// What some shell may take for a word of its own, besides what all of them do.
const KEYWORDS: [&str; 6] = ["coproc", "function", "inotifyd", "newgrp", "select", "time"];

/// The spec of the Pods that an object makes, or of the Pod that it is.
const POD: &str = "object.kind == 'Pod' ? object.spec : object.kind == 'CronJob' ? object.spec.jobTemplate.spec.template.spec : \
     object.spec.template.spec";

/// The image of container `c` as profiles name it: by digest where there is one, without the tag before it; else by tag,
/// `latest` where none stands.
const REFERENCE: &str = "(c.image.contains('@') ? (c.image.split('@')[0].lastIndexOf(':') > c.image.split('@')[0].lastIndexOf('/') ? \
     c.image.split('@')[0].substring(0, c.image.split('@')[0].lastIndexOf(':')) : c.image.split('@')[0]) + '@' + \
     c.image.split('@')[1] : c.image.lastIndexOf(':') > c.image.lastIndexOf('/') ? c.image : c.image + ':latest')";

const BY_PEOPLE: &str = "
!has(object.metadata.ownerReferences) || !object.metadata.ownerReferences.exists(o,
has(o.controller) && o.controller
&& (object.kind == 'Pod' || o.kind in ['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'Job', 'CronJob']))";

const OF_A_KNOWN_IMAGE: &str = "
[<pod>].exists(pod, (pod.containers + (has(pod.initContainers) ? pod.initContainers : []))
.exists(c, has(c.image) && (<asks>)
&& [<reference>].exists(r, r in params.spec.references
  && [params.spec.references[r]].exists(said, <speaks>))))";

const OF_THE_TEMPLATE: &str = "
oldObject == null
|| (object.kind == 'CronJob' ? object.spec.jobTemplate != oldObject.spec.jobTemplate
: object.spec.template != oldObject.spec.template)";

const CONTAINERS: &str = "
(variables.pod.containers + (has(variables.pod.initContainers) ? variables.pod.initContainers : []))
.filter(c, has(c.image) && c.image != '' && !has(variables.pod.runtimeClassName)
  && !(has(c.resources) && (has(c.resources.claims) && size(c.resources.claims) > 0
    || has(c.resources.limits) && c.resources.limits.exists(k, k.contains('/') && !k.contains('<kubernetes>'))
    || has(c.resources.requests) && c.resources.requests.exists(k, k.contains('/') && !k.contains('<kubernetes>')))))
.map(c, {
  'c': dyn(c),
  'image': dyn(<reference>)
}).filter(x, x.image in params.spec.references
  && [params.spec.references[x.image]].exists(said, <speaks> && <id> in params.spec.images))
.map(x, {
  'c': x.c,
  'image': x.image,
  'known': dyn([params.spec.references[x.image]].map(said, params.spec.images[<id>])[0])
}).filter(x, !(x.known.lacksLibraries
  && (has(x.c.envFrom) && size(x.c.envFrom) > 0 || has(x.c.env) && x.c.env.exists(e, e.name == 'LD_LIBRARY_PATH'))))";

const PROGRAMS: &str = "
variables.hooks.filter(h, size(h.command) > 0).map(h, {'hook': dyn(h), 'program': dyn(h.command[0]), 'shell': dyn(false)})
+ variables.hooks.filter(h, size(h.command) == 3 && h.command[0] in [<shells>]
  && h.command[1] == '-c'
  && h.command[2].matches('^[A-Za-z0-9_./][A-Za-z0-9_./-]*( +[A-Za-z0-9_./:@%+,=-]+)*$')
  && !h.known.applets
  && !(h.command[2].split(' ')[0] in [<builtins>]))
.map(h, {'hook': dyn(h), 'program': dyn(h.command[2].split(' ')[0]), 'shell': dyn(true)})";

const MISSING: &str = r"
variables.programs.filter(p, !p.program.contains('$(')
  && <kernel>
  && !p.program.endsWith('.so') && !p.program.contains('.so.')
  && (!p.shell || !p.program.contains('/') || p.hook.known.path.exists(d,
    p.program.startsWith(d + '/') && p.program.lastIndexOf('/') == size(d)))
  && (has(p.hook.c.securityContext) && has(p.hook.c.securityContext.readOnlyRootFilesystem) && p.hook.c.securityContext.readOnlyRootFilesystem
    || !((has(p.hook.c.command) ? p.hook.c.command : []) + (has(p.hook.c.args) ? p.hook.c.args : [])).join(' ')
      .matches('<installs>|(^|[^A-Za-z0-9._-])\\Q' + p.program.substring(p.program.lastIndexOf('/') + 1) + '\\E([^A-Za-z0-9._-]|$)'))
).filter(p,
  p.program.startsWith('/')
  ? !p.program.contains('/.') && !p.program.contains('//') && !p.program.endsWith('/')
    && !((p.program.lastIndexOf('/') == 0 ? '/' : p.program.substring(0, p.program.lastIndexOf('/'))) in p.hook.known.folders
      && p.program.substring(p.program.lastIndexOf('/') + 1) in params.spec.programs[p.hook.known.folders[
        p.program.lastIndexOf('/') == 0 ? '/' : p.program.substring(0, p.program.lastIndexOf('/'))]])
    && !(has(p.hook.known.open) && p.hook.known.open.exists(o, p.program.startsWith(o + '/')))
  : p.program != '' && !p.program.contains('/')
    && !(has(p.hook.c.envFrom) && size(p.hook.c.envFrom) > 0)
    && !(has(p.hook.c.env) && p.hook.c.env.exists(e, e.name == 'PATH'))
    && !p.hook.known.path.exists(d,
      d in p.hook.known.folders
      && p.program in params.spec.programs[p.hook.known.folders[d]])
).filter(p, !has(p.hook.c.volumeMounts) || p.hook.c.volumeMounts.all(m,
  m.mountPath.startsWith('/var/run/secrets/') || m.mountPath.startsWith('/run/secrets/')
  || (p.program != m.mountPath
    && !p.program.startsWith(m.mountPath.endsWith('/') ? m.mountPath : m.mountPath + '/')
    && !p.hook.known.folders.exists(f,
      (f + '/').startsWith(m.mountPath.endsWith('/') ? m.mountPath : m.mountPath + '/') || (f != '/' && m.mountPath.startsWith(f + '/')))
    && !(has(p.hook.known.open) && p.hook.known.open.exists(o, (m.mountPath + '/').startsWith(o + '/')))
    && !(!p.program.startsWith('/') && p.hook.known.path.exists(d,
      (d + '/').startsWith(m.mountPath.endsWith('/') ? m.mountPath : m.mountPath + '/') || m.mountPath.startsWith(d + '/'))))))";

const TOLD: &str = "
variables.missing.map(p, 'container ' + p.hook.c.name + ': ' + p.hook.hook + ' runs ' + p.program + ', which image ' + p.hook.image
  + ' does not have, or which cannot start there: ' + (
  p.hook.hook == 'preStop' && size(p.hook.command) == 2 && p.hook.command[0] == 'sleep' && p.hook.command[1].matches('^[0-9]+$')
    ? 'use preStop: {sleep: {seconds: ' + p.hook.command[1] + '}}'
  : p.hook.hook == 'preStop' && size(p.hook.command) == 3 && p.hook.command[2].matches('^sleep [0-9]+$')
    ? 'use preStop: {sleep: {seconds: ' + p.hook.command[2].substring(6) + '}}'
  : p.hook.hook.endsWith('Probe') && has(p.hook.known.fix)
    ? 'use ' + p.hook.known.fix + ', as its ImageBuild declares'
  : p.hook.hook.endsWith('Probe') ? 'use httpGet, tcpSocket or grpc, or exec of a program that the image has'
  : 'use httpGet or sleep, or exec of a program that the image has')
  + ' (ImageBuild ' + p.hook.known.imageBuild + ')')";

/// The expressions of a policy's spec, as YAML: a file of the chart.
pub fn yaml(speaks: Speaks) -> String {
    let Policy {
        conditions,
        variables,
    } = policy(speaks);
    let mut text = "# Written by `make generate` from src/probe/policy.rs.\n".to_owned();
    for (field, all) in [("matchConditions", conditions), ("variables", variables)] {
        text.push_str(&format!("{field}:\n"));
        for Named {
            name,
            comment,
            expression,
        } in all
        {
            for line in comment.lines() {
                text.push_str(&format!("  # {line}\n"));
            }
            text.push_str(&format!("  - name: {name}\n    expression: >-\n"));
            for line in expression.trim_start().lines() {
                text.push_str(&format!("      {line}\n"));
            }
        }
    }
    text.push_str(&format!(
        "validations:\n  - expression: {VALID}\n    reason: Forbidden\n    message: {MESSAGE}\n    \
         messageExpression: {MESSAGES}\n"
    ));
    text
}

fn policy(speaks: Speaks) -> Policy {
    let (says, id) = match speaks {
        Speaks::Own => (
            format!("(request.namespace in said || '{EVERYWHERE}' in said)"),
            format!("said[request.namespace in said ? request.namespace : '{EVERYWHERE}']"),
        ),
        Speaks::Others => (
            format!("(!(request.namespace in said) && '{ELSEWHERE}' in said)"),
            format!("said['{ELSEWHERE}']"),
        ),
    };
    let kernel: Vec<String> = KERNEL
        .iter()
        .map(|folder| format!("!p.program.startsWith('{folder}/')"))
        .collect();
    let filled = |text: &str| {
        text.replace("<pod>", POD)
            .replace("<reference>", REFERENCE)
            .replace("<speaks>", &says)
            .replace("<id>", &id)
            .replace("<asks>", &asks())
            .replace("<kubernetes>", KUBERNETES)
            .replace("<shells>", &list(SHELLS))
            .replace("<builtins>", &list(own_words()))
            .replace("<kernel>", &kernel.join(" && "))
            .replace("<installs>", &INSTALLS.join("|"))
    };
    let named = |name, comment, text: &str| Named {
        name,
        comment,
        expression: filled(text),
    };
    Policy {
        conditions: vec![
            named(
                "by-people",
                "What a controller makes from a template was judged with the template: a node that is drained never loses\n\
                 Pods to a tag that has moved since. Pods that an operator makes have no template that could be judged here.",
                BY_PEOPLE,
            ),
            named(
                "of-a-known-image",
                "Each profile is asked about each object, and most objects have no such probe, or none on an image that the\n\
                 profile speaks of to this namespace: then it ends here, before the object is made ready for further rounds of\n\
                 expressions.",
                OF_A_KNOWN_IMAGE,
            ),
            named(
                "of-the-template",
                "Scaling, labels and the like are no business of the guard.",
                OF_THE_TEMPLATE,
            ),
        ],
        variables: vec![
            named("pod", "", POD),
            named(
                "containers",
                "Left alone are those to which a runtime or devices may bring programs, or variables the libraries that some\n\
                 program lacks.",
                CONTAINERS,
            ),
            named("hooks", "", &hooks()),
            named(
                "programs",
                "Each hook with the program that it starts; and where that is a shell with one plain command, with that\n\
                 command's program too.",
                PROGRAMS,
            ),
            named(
                "missing",
                "Those whose program the image does not have. Left alone: libraries (no report lists them), a path with dots,\n\
                 what the kubelet fills in, what the kernel makes, a PATH of the container's own, what the container's own\n\
                 command names (it may put it there), a volume over or within a directory that counts, or within a link of\n\
                 which not all names are listed; what is called through such a link; and of what a shell runs, paths outside\n\
                 of PATH, where scripts without #! may lie.",
                MISSING,
            ),
            named("messages", "", TOLD),
        ],
    }
}

/// True for a container that may have one of the hooks.
fn asks() -> String {
    let probes = HOOKS.iter().filter(|hook| !hook.is_lifecycle());
    let mut all: Vec<String> = probes
        .map(|hook| format!("has(c.{0}) && has(c.{0}.exec)", hook.field()))
        .collect();
    all.push("has(c.lifecycle)".into());
    all.join(" || ")
}

/// Each hook that runs a command.
fn hooks() -> String {
    let of = |hook: &Hook| {
        let field = format!("x.c.{}.exec.command", hook.field());
        let name = hook.field().rsplit('.').next().unwrap_or_default();
        // Each part of its path from the container on.
        let there: Vec<String> = (field.match_indices('.').map(|(at, _)| at).skip(2))
            .chain([field.len()])
            .map(|end| format!("has({})", &field[..end]))
            .collect();
        format!(
            "variables.containers.filter(x, {})\n\
             .map(x, {{'c': x.c, 'image': x.image, 'known': x.known, 'hook': dyn('{name}'), 'command': dyn({field})}})",
            there.join(" && ")
        )
    };
    HOOKS.iter().map(of).collect::<Vec<_>>().join("\n+ ")
}

/// What a shell, whichever it is, may carry out without a program. Other words begin with a sign that the policy leaves
/// alone.
fn own_words() -> Vec<&'static str> {
    let mut all: Vec<&str> = builtins().chain(RESERVED).chain(KEYWORDS).collect();
    all.retain(|word| {
        word.chars()
            .all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
    });
    all.sort_unstable();
    all.dedup();
    all
}

/// Texts, as many as fit on each line.
fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut all = String::new();
    let mut column = 0;
    for text in texts {
        let text = format!("'{text}'");
        if !all.is_empty() {
            all.push(',');
            all.push(if column + text.len() > 108 { '\n' } else { ' ' });
            column = if column + text.len() > 108 { 0 } else { column };
        }
        column += text.len() + 2;
        all.push_str(&text);
    }
    all
}

#[cfg(test)]
#[path = "policy_tests.rs"]
pub(super) mod tests;
