//! Why a Builder's daemon does not come up, from its Pod and from what others say of it: a reason, and a sentence
//! with the fix.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Daemon;
use crate::builder::isolation;
use crate::builder::volume::claim;
use crate::imagebuild::outcome::{
    FAILED_CREATE, NOT_STARTED, containers, does_not_go, on_node, pull_failure, unschedulable,
};
use crate::platforms::{field, parent};
use crate::refusal::{Told, Whose, of_event, words};
use whittle_api::{Builder, FailureReason, Reason};
use whittle_build::daemon::start::{NOT_ISOLATED, SAYS};

/// Reasons of the events of a claim that gets no volume.
pub const CLAIM_FAILED: [&str; 3] = ["ProvisioningFailed", "FailedBinding", "ClaimLost"];
/// How much older than the Builder's trouble an event may be: the first of them comes before it is written down.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// True where the Pod was refused: its StatefulSet's controller tries again ever more rarely, up to a quarter of an
/// hour apart, unless it is asked to.
pub fn is_refused(daemon: &Daemon, since: Timestamp) -> bool {
    daemon.pod.is_none() && refused(daemon, since).is_some()
}

fn refused<'a>(daemon: &Daemon<'a>, since: Timestamp) -> Option<&'a Told> {
    newest(daemon, &[FAILED_CREATE], since)
}

/// The newest event with one of these reasons. Those of an earlier trouble, which has passed, stay for an hour.
fn newest<'a>(daemon: &Daemon<'a>, reasons: &[&str], since: Timestamp) -> Option<&'a Told> {
    daemon.events.iter().find(|event| {
        reasons.contains(&event.reason.as_str()) && event.at.is_none_or(|at| at >= since - SLACK)
    })
}

/// Why the daemon is not up, which it is not since `since`; and what to do, where that is for want of what isolates it.
pub fn why_not(
    builder: &Builder,
    daemon: &Daemon,
    since: Timestamp,
    now: Timestamp,
) -> (Reason, String) {
    let (reason, mut message) = cause(builder, daemon, since, now);
    let template = daemon
        .set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let isolated = template.is_some_and(|pod| pod.host_users == Some(false));
    if isolated
        && isolation::is_of_isolation(reason, &message)
        && let Some(fix) = isolation::fix(&message)
    {
        message += ": ";
        message += fix;
    }
    (reason, message)
}

fn cause(builder: &Builder, daemon: &Daemon, since: Timestamp, now: Timestamp) -> (Reason, String) {
    let namespace = builder.namespace().unwrap_or_default();
    let Some(pod) = daemon.pod else {
        return match refused(daemon, since) {
            Some(event) => {
                let name = builder.name_any();
                let whose = parent(builder).map_or(name.as_str(), |(of, _)| of);
                of_event(&event.words, &namespace, Whose::Builder(whose))
            }
            None => (
                Reason::Starting,
                "the builder's Pod is being created".into(),
            ),
        };
    };
    if let Some(message) = does_not_go(pod, now) {
        return (Reason::PodTerminating, message);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let message = format!("the previous Pod {} is terminating", pod.name_any());
        return (Reason::Starting, message);
    }
    if let Some((_, message)) = pull_failure(pod) {
        let image = value_of_image(containers(pod).any(|(init, it)| init && never_ran(it)));
        let fix = format!(
            "check that the node can reach that registry, that {image} of the chart exists, and \
                that its pull secrets are in this namespace"
        );
        let reason = FailureReason::ImagePullFailed.into();
        return (reason, format!("{message}: {fix}"));
    }
    if !has_node(pod) {
        if let Some(event) = newest(daemon, &CLAIM_FAILED, since) {
            return (
                Reason::VolumePending,
                no_volume(builder, daemon.replica, &event.words),
            );
        }
        if let Some(message) = unschedulable(pod) {
            return (Reason::Unschedulable, no_node(builder, &message));
        }
    }
    if let Some(found) = crashes(pod) {
        return found;
    }
    match on_node(daemon.events) {
        Some(found) => (found.reason, found.message),
        None => (Reason::Starting, "the builder is starting".into()),
    }
}

/// True where the scheduler has found one.
pub fn has_node(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| spec.node_name.as_ref().is_some_and(|name| !name.is_empty()))
}

fn no_volume(builder: &Builder, replica: i32, said: &str) -> String {
    let name = builder.name_any();
    let namespace = builder.namespace().unwrap_or_default();
    let claim = claim(&name, replica);
    let of_platform = parent(builder);
    let fix = match (&builder.spec.cache.storage_class_name, of_platform) {
        (Some(class), Some((of, _))) => format!(
            "check that StorageClass {class} exists and can provision volumes (kubectl get \
                storageclass); for another one, name it in spec.cache.storageClassName of a new Builder in the place of {of}"
        ),
        // A claim's class stands for good: another one needs another claim.
        (Some(class), None) => format!(
            "check that StorageClass {class} exists and can provision volumes (kubectl get \
                storageclass); for another one, delete the Builder and create it again: kubectl \
                delete builder {name} -n {namespace}"
        ),
        (None, _) => {
            "the cluster has no default StorageClass that can provision volumes. Set one: kubectl \
            annotate storageclass NAME storageclass.kubernetes.io/is-default-class=true \
            --overwrite; or name one in builder.defaults.cache.storageClassName of the chart, \
            then kubectl delete builder "
                .to_owned()
                + &format!("{name} -n {namespace}")
        }
    };
    format!("PersistentVolumeClaim {claim} is pending: {fix}. The cluster says: {said}")
}

fn no_node(builder: &Builder, said: &str) -> String {
    let fields = field(builder, &["nodeSelector", "tolerations", "resources"]);
    format!("{said}: change {fields}, or add a node that fits")
}

/// The chart's value that names the image of the daemon, or of what is put beside it.
fn value_of_image(init: bool) -> &'static str {
    match init {
        true => "runner.image",
        false => "builder.image",
    }
}

/// True where a container has not been started even once.
fn never_ran(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    state.is_some_and(|it| it.waiting.is_some()) && ended(container).is_none()
}

/// How a container has ended last.
pub fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    [&container.state, &container.last_state]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())
}

/// What the last line that begins so goes on with, of what a container has ended with.
pub fn said_after<'a>(
    beginning: &str,
    ended: Option<&'a ContainerStateTerminated>,
) -> Option<&'a str> {
    let mut lines = ended?.message.as_deref()?.lines().rev();
    lines.find_map(|line| line.trim().strip_prefix(beginning))
}

/// The container that ends again and again, or that its node cannot start: a reason and a sentence.
fn crashes(pod: &Pod) -> Option<(Reason, String)> {
    containers(pod).find_map(|(init, container)| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref();
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        let name = &container.name;
        let who = match init {
            true => format!("init container {name}"),
            false => "the builder".to_owned(),
        };
        let not_started = NOT_STARTED.into_iter().find(|it| Some(it.as_str()) == reason);
        if let (Some(reason), Some(said)) = (not_started, waiting.and_then(|it| it.message.as_deref())) {
            let message = format!("{who} failed to start on its node: {}", words(said));
            return Some((reason, message));
        }
        // An init container is to end, and one that fails is told before the kubelet waits between two tries.
        let failed = state.terminated.as_ref().is_some_and(|it| init && it.exit_code != 0);
        let last = ended(container);
        let not_isolated = last.is_some_and(|last| !init && last.exit_code == i32::from(NOT_ISOLATED));
        if !failed && reason != Some("CrashLoopBackOff") && !not_isolated {
            return None;
        }
        let code = last.map_or(-1, |last| last.exit_code);
        if not_isolated {
            return Some((Reason::NotIsolated, words(said_after(SAYS, last).unwrap_or("the log says why"))));
        }
        let why = last.and_then(|last| last.reason.as_deref()).unwrap_or_default();
        // The runtime's words, or those of what makes the user namespace; and not the program's.
        let said = last.and_then(|last| last.message.as_deref());
        let said = said.and_then(|said| match why {
            "StartError" => Some(said),
            _ => of_rootlesskit(said),
        });
        let said = said.map(|said| format!(": {}", words(said))).unwrap_or_default();
        let pod = pod.name_any();
        let logs = match init {
            true => format!(
                "kubectl logs {pod} -c {name}; {} of the chart ({}) must be the image of this version of Whittle",
                value_of_image(init),
                container.image
            ),
            false => format!("kubectl logs {pod} --previous"),
        };
        let message = format!(
            "{who} keeps crashing (CrashLoopBackOff), last with exit code {code} ({why}){said}: \
                {logs}"
        );
        Some((Reason::CrashLoop, message))
    })
}

/// The line with which rootlesskit fails before it has started anything.
fn of_rootlesskit(said: &str) -> Option<&str> {
    let fails = |line: &&str| {
        line.starts_with("[rootlesskit:")
            && line.contains("error: ")
            && !line.contains("error: command [")
            && !line.contains("child exited")
    };
    said.lines().map(str::trim).find(fails)
}

#[cfg(test)]
#[path = "trouble_tests.rs"]
mod tests;
