//! The verdict about one handler.

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, PodSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::expand;
use super::handler::{Handler, Port, port};
use super::message::Failing;
use super::place::Place;
use super::shell::{self, Outcome};
use super::{Hook, Known, Verdict};
use whittle_image::Contents;

/// terminationGracePeriodSeconds where a Pod sets none.
const GRACE: i64 = 30;

/// Whose handler it is.
pub(super) struct Subject<'s> {
    pub(super) pod: &'s PodSpec,
    pub(super) container: &'s Container,
    pub(super) known: &'s Known<'s>,
    pub(super) hook: Hook,
}

/// The verdict, and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// How it fails, where it cannot work.
    pub(super) failing: Failing,
    /// The program that decides.
    pub(super) program: Option<String>,
    pub(super) warnings: Vec<String>,
    /// The fix in words, where no other handler is to be looked for.
    pub(super) advice: Option<String>,
    /// The fix in words, where no other handler is known that works.
    pub(super) fix: Option<String>,
}

impl Judged {
    fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            failing: Failing::Error,
            program: None,
            warnings: Vec::new(),
            advice: None,
            fix: None,
        }
    }

    /// The API server does not take it.
    pub(super) fn refused(why: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            failing: Failing::Refused,
            advice: Some(advice.into()),
            ..Self::new(Verdict::CannotWork(why.into()))
        }
    }
}

/// Judges a handler.
pub(super) fn of_handler(about: &Subject<'_>, handler: &Handler) -> Judged {
    match handler {
        Handler::Exec(action) => exec(about, action),
        Handler::HttpGet(action) => http(about, action),
        Handler::TcpSocket(_) if about.hook.is_lifecycle() => Judged {
            advice: Some("Use httpGet, sleep or exec".into()),
            ..Judged::new(Verdict::CannotWork(
                "the kubelet does not support tcpSocket for lifecycle hooks, though the API \
                    server accepts it"
                    .into(),
            ))
        },
        Handler::TcpSocket(action) => at_port(about, &action.port, action.host.as_deref()),
        Handler::Grpc(_) if about.hook.is_lifecycle() => Judged::refused(
            "lifecycle hooks do not support grpc",
            "Use httpGet, sleep or exec",
        ),
        Handler::Grpc(action) => at_port(about, &IntOrString::Int(action.port), None),
        Handler::Sleep(_) if !about.hook.is_lifecycle() => Judged::refused(
            "probes do not support sleep",
            "Use exec, httpGet, tcpSocket or grpc",
        ),
        Handler::Sleep(action) => {
            let grace = about.pod.termination_grace_period_seconds.unwrap_or(GRACE);
            if (0..=grace).contains(&action.seconds) {
                return Judged::new(Verdict::Works);
            }
            Judged::refused(
                format!(
                    "it sleeps too long: {} s, and terminationGracePeriodSeconds is {grace}",
                    action.seconds
                ),
                format!("Sleep at most {grace} s, or raise terminationGracePeriodSeconds"),
            )
        }
    }
}

fn http(about: &Subject<'_>, action: &HTTPGetAction) -> Judged {
    if let Some(scheme) = &action.scheme
        && !matches!(scheme.as_str(), "" | "HTTP" | "HTTPS")
    {
        return Judged::refused(
            format!("invalid scheme {scheme}: use HTTP or HTTPS, in uppercase"),
            "Use HTTP or HTTPS",
        );
    }
    at_port(about, &action.port, action.host.as_deref())
}

fn at_port(about: &Subject<'_>, to: &IntOrString, host: Option<&str>) -> Judged {
    let mut judged = match port(to, about.container) {
        Port::Good(warning) => Judged {
            warnings: warning.into_iter().collect(),
            ..Judged::new(Verdict::Works)
        },
        // A name that no port has passes the API server; a number that is none does not.
        Port::Bad(why) => match to {
            IntOrString::String(name) if name.parse::<i64>().is_err() && !name.is_empty() => {
                Judged {
                    advice: Some("Name one of this container's ports, or give the number".into()),
                    ..Judged::new(Verdict::CannotWork(why))
                }
            }
            _ => Judged::refused(
                why,
                "Give the number of the port that the program listens on",
            ),
        },
    };
    let node = host.is_some_and(|host| host == "localhost" || host.starts_with("127."));
    if node && !about.pod.host_network.unwrap_or(false) {
        judged.warnings.push(
            "host is an address of the node that the kubelet runs on, not of the container: leave it out".into(),
        );
    }
    judged
}

/// The reports that the Pod may run; why there is none.
pub(super) fn reports<'s>(about: &Subject<'s>) -> Result<Vec<&'s Contents>, String> {
    let known = about.known;
    if known.contents.is_empty() {
        return Err(known
            .why_none
            .clone()
            .unwrap_or_else(|| "report of the image not found".into()));
    }
    let selector = about.pod.node_selector.as_ref();
    let wanted = |label: &str| selector.and_then(|selector| selector.get(label)).cloned();
    let os = about.pod.os.as_ref().map(|os| os.name.clone());
    let os = os.or_else(|| wanted("kubernetes.io/os"));
    let architecture = wanted("kubernetes.io/arch");
    let fits = |contents: &&Contents| {
        let mut parts = contents.platform.split('/');
        let same = |part: Option<&str>, wanted: &Option<String>| match (part, wanted) {
            (Some(part), Some(wanted)) => part == wanted,
            _ => true,
        };
        same(parts.next(), &os) && same(parts.next(), &architecture)
    };
    let found: Vec<&Contents> = known.contents.iter().copied().filter(fits).collect();
    let platforms = |all: &[&Contents]| {
        let all: Vec<&str> = all
            .iter()
            .map(|contents| contents.platform.as_str())
            .collect();
        all.join(", ")
    };
    if found.is_empty() {
        return Err(format!(
            "platform mismatch: the image's report is for {}, and the Pod requests {}",
            platforms(&known.contents),
            [os, architecture]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("/")
        ));
    }
    if found
        .iter()
        .any(|contents| contents.platform.starts_with("windows"))
    {
        return Err("the image is for Windows, whose programs are not judged".into());
    }
    Ok(found)
}

fn exec(about: &Subject<'_>, action: &ExecAction) -> Judged {
    let written = action.command.as_deref().unwrap_or_default();
    if written.is_empty() {
        return Judged::refused("exec has no command", "Give it a command");
    }
    let env = about.container.env.as_deref().unwrap_or_default();
    let mut warnings = Vec::new();
    let command: Vec<String> = if about.hook.is_lifecycle() {
        if written
            .iter()
            .any(|word| !expand::references(word).is_empty())
        {
            warnings.push(
                "lifecycle hooks have $(NAME) not filled in: run a shell and let it read $NAME"
                    .into(),
            );
        }
        written.to_vec()
    } else {
        let values = expand::values(env);
        let empty = written
            .iter()
            .flat_map(|word| expand::references(word))
            .find(|name| {
                env.iter()
                    .any(|variable| variable.name == *name && variable.value_from.is_some())
            });
        if let Some(name) = empty {
            warnings.push(format!(
                "$({name}) is filled in with nothing, for its value is set elsewhere (valueFrom): run a shell and let \
                 it read ${name}"
            ));
        }
        match expand::all(written, &values) {
            Some(command) => command,
            None => {
                return Judged {
                    warnings,
                    ..Judged::new(Verdict::Unknown(
                        "it is too long with its variables filled in".into(),
                    ))
                };
            }
        }
    };
    let program = command.first().cloned();
    let reports = match reports(about) {
        Ok(reports) => reports,
        Err(why) => {
            return Judged {
                program,
                warnings,
                ..Judged::new(Verdict::Unknown(why))
            };
        }
    };
    let several = reports.len() > 1;
    let mut all: Vec<Judged> = Vec::new();
    for contents in reports {
        let place = Place::new(about.pod, about.container, contents);
        let on = |why: String| {
            if several {
                format!("on {}, {why}", contents.platform)
            } else {
                why
            }
        };
        let judged = match shell::judge(&place, &command) {
            Outcome::Works(replaced) => {
                warnings.extend(replaced.into_iter().map(|missing| {
                    on(format!(
                        "{}; what follows after || does its work",
                        missing.why
                    ))
                }));
                Judged::new(Verdict::Works)
            }
            Outcome::NotStarted(missing) => Judged {
                program: Some(missing.program),
                fix: missing.fix,
                ..Judged::new(Verdict::CannotWork(on(missing.why)))
            },
            Outcome::Fails(missing) => Judged {
                failing: Failing::Failure,
                program: Some(missing.program),
                fix: missing.fix,
                ..Judged::new(Verdict::CannotWork(on(missing.why)))
            },
            Outcome::Unknown(why) => Judged::new(Verdict::Unknown(on(why))),
        };
        all.push(Judged {
            program: judged.program.or_else(|| program.clone()),
            ..judged
        });
    }
    let mut worst = worst(all);
    warnings.dedup();
    worst.warnings = warnings;
    worst
}

/// One verdict of those of several platforms, of which there is at least one. Where just some cannot
/// work, it depends on the node: that is not known.
fn worst(all: Vec<Judged>) -> Judged {
    let fails = |judged: &Judged| matches!(judged.verdict, Verdict::CannotWork(_));
    let mixed = all.iter().any(fails) && !all.iter().all(fails);
    let rank = |judged: &Judged| match judged.verdict {
        Verdict::Works => 0,
        Verdict::Unknown(_) => 1,
        Verdict::CannotWork(_) => 2,
    };
    let worst = all
        .into_iter()
        .reduce(|a, b| if rank(&b) > rank(&a) { b } else { a });
    let worst = worst.unwrap_or_else(|| Judged::new(Verdict::Works));
    match worst.verdict {
        Verdict::CannotWork(why) if mixed => Judged {
            verdict: Verdict::Unknown(format!("{why}, and not so on every platform of the image")),
            ..worst
        },
        _ => worst,
    }
}
