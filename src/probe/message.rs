//! What is told to people: what follows from a probe that cannot work, and what fixes it.

use super::{Hook, Role};

/// How a probe fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failing {
    /// The API server does not take the object.
    Refused,
    /// The kubelet meets an error before there is a result: nothing is started, or no port is known.
    Error,
    /// It runs, and its result is a failure each time.
    Failure,
}

/// What follows, in one sentence (pkg/kubelet/prober/worker.go: a result with an error is thrown away; of
/// results, liveness begins with success, readiness with failure; pkg/kubelet/kuberuntime for the hooks).
pub(super) fn consequence(hook: Hook, failing: Failing) -> &'static str {
    match (failing, hook) {
        (Failing::Refused, _) => "The API server rejects the object",
        (Failing::Error, Hook::LivenessProbe) => {
            "The kubelet discards the error, so this probe never restarts the container"
        }
        (Failing::Failure, Hook::LivenessProbe) => {
            "It fails each time, so the kubelet keeps restarting the container (CrashLoopBackOff)"
        }
        (Failing::Error | Failing::Failure, Hook::ReadinessProbe) => {
            "The container never becomes ready"
        }
        (Failing::Error, Hook::StartupProbe) => {
            "The container never counts as started, so it never becomes ready and its other \
                probes never run"
        }
        (Failing::Failure, Hook::StartupProbe) => {
            "The container never counts as started, and the kubelet keeps restarting it \
                (CrashLoopBackOff)"
        }
        (Failing::Error | Failing::Failure, Hook::PostStart) => {
            "The kubelet kills the container after each start"
        }
        (Failing::Error | Failing::Failure, Hook::PreStop) => {
            "The kubelet records FailedPreStopHook and stops the container without it"
        }
    }
}

/// `container app`, `sidecar proxy`.
pub(super) fn subject(role: Role, name: &str) -> String {
    let role = match role {
        Role::Container => "container",
        Role::InitContainer => "init container",
        Role::Sidecar => "sidecar",
    };
    format!("{role} {name}")
}

/// What to do where no handler is known that works.
pub(super) fn without(hook: Hook, program: &str) -> String {
    match hook {
        Hook::LivenessProbe | Hook::ReadinessProbe | Hook::StartupProbe => format!(
            "Use httpGet, tcpSocket or grpc, or exec of a program that the image has, or put {program} into the \
             image; an ImageBuild that declares a healthCheck has it offered here"
        ),
        Hook::PostStart | Hook::PreStop => format!(
            "Use httpGet or sleep, or exec of a program that the image has, or put {program} into the image"
        ),
    }
}

/// A container's name; where it has none, its place: `containers[0]`.
pub(super) fn called(name: &str, pointer: &str) -> String {
    let mut parts = pointer.split('/').skip(1);
    match (name, parts.next(), parts.next()) {
        ("", Some(list), Some(index)) => format!("{list}[{index}]"),
        _ => name.to_owned(),
    }
}
