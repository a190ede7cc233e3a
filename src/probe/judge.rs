//! All probes of a Pod template, one after the other.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, Lifecycle, LifecycleHandler, PodSpec, Probe,
};

use super::derive::derive;
use super::fix::Fix;
use super::handler::{Handler, Malformed};
use super::message::{called, consequence, subject, without};
use super::verdict::{Judged, Subject, of_handler, reports};
use super::{Finding, Hook, Images, Judgement, Known, Role, Verdict, Warning};
use whittle_image::shell::Shell;
use whittle_image::shell::syntax::{Node, parse};

/// Always of a container's restartPolicy.
const ALWAYS: &str = "Always";

/// Judges each probe and lifecycle hook of a Pod template's containers, init containers and sidecars.
/// Ephemeral containers have none (the API server refuses them).
pub fn judge(pod: &PodSpec, images: &dyn Images) -> Judgement {
    let mut judgement = Judgement::default();
    for (index, container) in pod.init_containers.iter().flatten().enumerate() {
        let role = match container.restart_policy.as_deref() {
            Some(ALWAYS) => Role::Sidecar,
            _ => Role::InitContainer,
        };
        let pointer = format!("/initContainers/{index}");
        one(pod, container, role, &pointer, images, &mut judgement);
    }
    for (index, container) in pod.containers.iter().enumerate() {
        let pointer = format!("/containers/{index}");
        one(
            pod,
            container,
            Role::Container,
            &pointer,
            images,
            &mut judgement,
        );
    }
    judgement
}

/// A probe or hook as it stands in a container.
struct Present {
    hook: Hook,
    handler: Result<Handler, Malformed>,
    /// Names of its handlers.
    fields: Vec<&'static str>,
}

fn present(container: &Container) -> Vec<Present> {
    let probe = |hook: Hook, probe: &Option<Probe>| {
        probe.as_ref().map(|probe| {
            let fields = [
                ("exec", probe.exec.is_some()),
                ("httpGet", probe.http_get.is_some()),
                ("tcpSocket", probe.tcp_socket.is_some()),
                ("grpc", probe.grpc.is_some()),
            ];
            Present {
                hook,
                handler: Handler::of_probe(probe),
                fields: names(&fields),
            }
        })
    };
    let lifecycle = |hook: Hook, handler: Option<&LifecycleHandler>| {
        handler.map(|handler| {
            let fields = [
                ("exec", handler.exec.is_some()),
                ("httpGet", handler.http_get.is_some()),
                ("tcpSocket", handler.tcp_socket.is_some()),
                ("sleep", handler.sleep.is_some()),
            ];
            Present {
                hook,
                handler: Handler::of_hook(handler),
                fields: names(&fields),
            }
        })
    };
    let of = |get: fn(&Lifecycle) -> Option<&LifecycleHandler>| {
        container.lifecycle.as_ref().and_then(get)
    };
    [
        probe(Hook::StartupProbe, &container.startup_probe),
        probe(Hook::LivenessProbe, &container.liveness_probe),
        probe(Hook::ReadinessProbe, &container.readiness_probe),
        lifecycle(
            Hook::PostStart,
            of(|lifecycle| lifecycle.post_start.as_ref()),
        ),
        lifecycle(Hook::PreStop, of(|lifecycle| lifecycle.pre_stop.as_ref())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn names(fields: &[(&'static str, bool)]) -> Vec<&'static str> {
    fields
        .iter()
        .filter_map(|(name, there)| there.then_some(*name))
        .collect()
}

fn one(
    pod: &PodSpec,
    container: &Container,
    role: Role,
    pointer: &str,
    images: &dyn Images,
    judgement: &mut Judgement,
) {
    let image = container.image.clone().unwrap_or_default();
    let known = images.of(&image);
    let all = present(container);
    for present in &all {
        let subject = Subject {
            pod,
            container,
            known: &known,
            hook: present.hook,
        };
        let place = format!("{pointer}/{}", present.hook.field().replace('.', "/"));
        let judged = if role == Role::InitContainer {
            Judged::refused(
                "the API server allows probes and lifecycle hooks of an init container only with \
                    restartPolicy: Always",
                "Remove it, or make the container a sidecar with restartPolicy: Always",
            )
        } else {
            match &present.handler {
                Ok(handler) => of_handler(&subject, handler),
                Err(Malformed::None) => Judged::refused(
                    "the handler is missing",
                    "Give it exec, httpGet, tcpSocket or grpc",
                ),
                Err(Malformed::Several) => Judged::refused(
                    "it has more than one handler",
                    "Keep only one of its handlers",
                ),
            }
        };
        judgement
            .findings
            .push(finding(&subject, role, present, &place, &image, judged));
    }
    let probed = all.iter().any(|present| !present.hook.is_lifecycle());
    if !probed && role != Role::InitContainer {
        judgement
            .warnings
            .extend(unused_health_check(pod, container, role, pointer, &known));
    }
}

fn finding(
    about: &Subject<'_>,
    role: Role,
    present: &Present,
    pointer: &str,
    image: &str,
    judged: Judged,
) -> Finding {
    let hook = present.hook;
    let name = called(&about.container.name, pointer);
    let fix = match judged.verdict {
        Verdict::Works => None,
        _ => Some(fix(about, present, pointer, &judged)),
    };
    let message = match (&judged.verdict, &fix) {
        (Verdict::CannotWork(why), Some(fix)) => format!(
            "{}, {} of image {image}: cannot work: {why}. {}. {}.",
            subject(role, &name),
            hook.field(),
            consequence(hook, judged.failing),
            fix.advice,
        ),
        (Verdict::Unknown(why), Some(fix)) => format!(
            "{}, {} of image {image}: unknown whether it works: {why}. {}.",
            subject(role, &name),
            hook.field(),
            fix.advice,
        ),
        _ => String::new(),
    };
    Finding {
        container: name,
        role,
        hook,
        pointer: pointer.to_owned(),
        image: image.to_owned(),
        program: judged.program,
        verdict: judged.verdict,
        message,
        warnings: judged.warnings,
        fix,
    }
}

/// A handler that works in its place, the nearest to what was meant first: what the command itself does,
/// what the ImageBuild declares, the image's own HEALTHCHECK. Else words.
fn fix(about: &Subject<'_>, present: &Present, pointer: &str, judged: &Judged) -> Fix {
    let hook = present.hook;
    if let Some(advice) = &judged.advice {
        return Fix::advice(advice.clone());
    }
    let current = present.handler.as_ref().ok();
    let command = match current {
        Some(Handler::Exec(action)) => action.command.clone().unwrap_or_default(),
        _ => Vec::new(),
    };
    // A command in one word is meant as several.
    let split = split(&command);
    let as_words = split.clone().map(|words| {
        let handler = Handler::Exec(ExecAction {
            command: Some(words),
        });
        (handler, None, "which is the same, split into words")
    });
    let command = split.clone().unwrap_or(command);
    let derived = derive(&command, about.container, about.pod)
        .map(|derived| (derived.handler, derived.caution, "which does the same"));
    let declared = about.known.health_check.clone().map(|handler| {
        (
            handler,
            None,
            "which the ImageBuild declares as the image's healthCheck",
        )
    });
    let own = health_check(about.known)
        .map(|handler| (handler, None, "which is the image's own HEALTHCHECK"));
    let healthy = [declared, own].into_iter().filter(|_| !hook.is_lifecycle());
    let found = [as_words, derived]
        .into_iter()
        .chain(healthy)
        .flatten()
        .find(|(handler, ..)| {
            Some(handler) != current && of_handler(about, handler).verdict == Verdict::Works
        });
    if let Some((handler, caution, why)) = found {
        let mut advice = format!("Use {}, {why}", handler.display());
        if split.is_some() && !matches!(handler, Handler::Exec(_)) {
            advice = format!("{}. {advice}", in_words(&command));
        }
        let remote = match &handler {
            Handler::HttpGet(action) => action.host.is_none(),
            Handler::TcpSocket(action) => action.host.is_none(),
            Handler::Grpc(_) => true,
            Handler::Exec(_) | Handler::Sleep(_) => false,
        };
        if remote && matches!(current, Some(Handler::Exec(_))) {
            advice.push_str(
                "; the kubelet connects from outside, so the program must listen on the Pod's \
                    address, not only on 127.0.0.1",
            );
        }
        if let Some(caution) = &caution {
            advice.push_str(&format!(" ({caution})"));
        }
        return Fix::replace(pointer, &present.fields, handler, advice, caution);
    }
    if split.is_some() && matches!(judged.verdict, Verdict::CannotWork(_)) {
        let program = command.first().map_or("the program", String::as_str);
        return Fix::advice(format!(
            "{}. {}",
            in_words(&command),
            without(hook, program)
        ));
    }
    match &judged.verdict {
        Verdict::Unknown(_) if about.known.contents.is_empty() => Fix::advice(
            "Build the image with an ImageBuild, which reports what it contains, or give `whittle probes` a report \
             of it with --reports",
        ),
        Verdict::Unknown(_) if !command.is_empty() => Fix::advice(format!(
            "Try it in a running container: kubectl exec POD {}-- {}",
            match about.container.name.as_str() {
                "" => String::new(),
                name => format!("-c {name} "),
            },
            command
                .iter()
                .map(|word| quoted(word))
                .collect::<Vec<_>>()
                .join(" ")
        )),
        _ => {
            Fix::advice(judged.fix.clone().unwrap_or_else(|| {
                without(hook, judged.program.as_deref().unwrap_or("the program"))
            }))
        }
    }
}

/// The words of a command whose first one has blanks in it: no program is called so.
fn split(command: &[String]) -> Option<Vec<String>> {
    let (first, rest) = command.split_first()?;
    let blank = first.contains(char::is_whitespace);
    let first = first.trim();
    if first.is_empty() || !blank {
        return None;
    }
    let words = match parse(first, Shell::Bash) {
        Ok(Node::Simple(simple)) if simple.assigns.is_empty() && simple.redirects.is_empty() => {
            simple
                .words
                .iter()
                .map(|word| word.literal().map(str::to_owned))
                .collect()
        }
        _ => None,
    };
    match words {
        Some(words) => Some([words, rest.to_vec()].concat()),
        // What only a shell reads.
        None if rest.is_empty() => Some(vec!["sh".into(), "-c".into(), first.to_owned()]),
        None => None,
    }
}

fn in_words(command: &[String]) -> String {
    format!(
        "The command is one word with spaces, which no shell splits: write {}",
        serde_json::to_string(command).unwrap_or_default()
    )
}

/// A word as a shell takes it back.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The image's HEALTHCHECK as a handler (`CMD` and its words, `CMD-SHELL` and a script).
fn health_check(known: &Known<'_>) -> Option<Handler> {
    let words = &known.contents.first()?.health_check;
    let command = match words.split_first()? {
        (form, rest) if form == "CMD" && !rest.is_empty() => rest.to_vec(),
        (form, [script]) if form == "CMD-SHELL" => {
            vec!["/bin/sh".into(), "-c".into(), script.clone()]
        }
        _ => return None,
    };
    Some(Handler::Exec(ExecAction {
        command: Some(command),
    }))
}

/// A container without probes whose image has a HEALTHCHECK, which nobody looks at.
fn unused_health_check(
    pod: &PodSpec,
    container: &Container,
    role: Role,
    pointer: &str,
    known: &Known<'_>,
) -> Option<Warning> {
    let about = Subject {
        pod,
        container,
        known,
        hook: Hook::ReadinessProbe,
    };
    // Jobs run to their end: nobody sends them requests.
    if pod
        .restart_policy
        .as_deref()
        .is_some_and(|policy| policy != ALWAYS)
    {
        return None;
    }
    reports(&about).ok()?;
    let handler = health_check(known)?;
    let command = match &handler {
        Handler::Exec(action) => action.command.clone().unwrap_or_default(),
        _ => Vec::new(),
    };
    let derived = derive(&command, container, pod).map(|derived| derived.handler);
    let works = |handler: &Handler| of_handler(&about, handler).verdict == Verdict::Works;
    let works = [Some(handler), derived].into_iter().flatten().find(works);
    let fix = works.map(|handler| {
        let advice = format!(
            "Make it a readinessProbe (or a livenessProbe, which restarts the container): {}",
            handler.display()
        );
        Fix::add(pointer, "readinessProbe", handler, advice)
    });
    let name = called(&container.name, pointer);
    Some(Warning {
        container: name.clone(),
        pointer: pointer.to_owned(),
        message: format!(
            "{}: its image has a HEALTHCHECK ({}), which Kubernetes ignores, and the container has no probe. {}.",
            subject(role, &name),
            command.join(" "),
            fix.as_ref()
                .map_or("Give it a probe", |fix| fix.advice.as_str()),
        ),
        fix,
    })
}
