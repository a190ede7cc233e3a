//! Why a watcher says nothing, from what stands of it in the cluster.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::voice::Cause;
use crate::builder::state::ended;
use crate::imagebuild::outcome::{
    FAILED_ON_NODE, containers, does_not_go, missing_object, pull_failure, unschedulable,
};
use crate::names;
use crate::refusal::{self, Told, Whose, words};
use whittle_api::DEFAULT_BUILDER;

/// What was read of a silent watcher.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its Deployment.
    pub deployment: Option<Deployment>,
    /// Its newest Pod.
    pub pod: Option<Pod>,
    /// Why that does not start on its node, newest first.
    pub events: Vec<Told>,
}

/// Which Pod is a watcher's, of all that have its labels: anybody there may make such.
pub fn pod_of(pods: Vec<Pod>, watcher: &str) -> Option<Pod> {
    let begins = format!("{watcher}-");
    let of_set = |pod: &Pod| {
        pod.owner_references().iter().any(|owner| {
            owner.controller == Some(true)
                && owner.kind == "ReplicaSet"
                && owner.name.starts_with(&begins)
        })
    };
    let mine = pods.into_iter().filter(of_set);
    mine.max_by_key(|pod| {
        let leaves = pod.metadata.deletion_timestamp.is_some();
        (!leaves, pod.metadata.creation_timestamp.clone())
    })
}

fn cause(kind: &'static str, words: String) -> Cause {
    Cause { kind, words }
}

/// Its Builder does not exist, and without that there is no watcher.
pub fn no_builder(namespace: &str, builder: &str) -> Cause {
    let what = match builder == DEFAULT_BUILDER {
        // With the chart's values, which nobody can type.
        true => format!(
            "the next build creates it: kubectl annotate imagebuild NAME -n {namespace} --overwrite whittle.dev/requestedAt=\"$(date)\""
        ),
        false => format!(
            "create it: echo '{{\"apiVersion\": \"whittle.dev/v1alpha1\", \"kind\": \"Builder\", \"metadata\": {{\"name\": \"{builder}\", \
             \"namespace\": \"{namespace}\"}}, \"spec\": {{}}}}' | kubectl apply -f -"
        ),
    };
    let words = format!("Builder {builder} not found in namespace {namespace}: {what}");
    cause("NoBuilder", words)
}

/// Why one that could be written is silent: the cause, and the next step.
pub fn find(namespace: &str, builder: &str, seen: &Seen, now: Timestamp) -> Cause {
    let name = names::watcher(builder);
    let Some(deployment) = &seen.deployment else {
        let words = format!(
            "Deployment {name} not found; it is created again: kubectl get deployment {name} -n {namespace}"
        );
        return cause("NoDeployment", words);
    };
    let Some(pod) = &seen.pod else {
        return match denied(deployment) {
            Some(said) => {
                let (_, words) = refusal::of_event(said, namespace, Whose::Watcher);
                cause("Denied", words)
            }
            None => cause(
                "NoPod",
                format!(
                    "Deployment {name} has no Pod: kubectl describe deployment {name} -n {namespace}"
                ),
            ),
        };
    };
    of_pod(pod, namespace, &seen.events, now)
}

/// What keeps a Deployment from making a Pod, in the words of who denies it.
fn denied(deployment: &Deployment) -> Option<&str> {
    let status = deployment.status.as_ref()?;
    let mut all = status.conditions.iter().flatten();
    let failure = all.find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    failure.message.as_deref()
}

fn of_pod(pod: &Pod, namespace: &str, events: &[Told], now: Timestamp) -> Cause {
    let name = pod.name_any();
    let describe = format!("kubectl describe pod {name} -n {namespace}");
    if let Some(stuck) = does_not_go(pod, now) {
        return cause("Terminating", stuck);
    }
    if let Some(said) = unschedulable(pod) {
        return cause("Unschedulable", format!("{said}: {describe}"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let words =
            format!("Pod {name} is being deleted, and the next one waits for it: {describe}");
        return cause("Terminating", words);
    }
    if let Some((_, said)) = pull_failure(pod) {
        let words = format!(
            "Pod {name}: {said}: check runner.image and runner.imagePullSecrets of the chart; {describe}"
        );
        return cause("Pull", words);
    }
    let container = containers(pod).map(|(_, container)| container).next();
    if let Some(words) = container.and_then(|it| crash(it, &name, namespace)) {
        return cause("Crash", words);
    }
    let runs = container.and_then(|it| it.state.as_ref()?.running.as_ref());
    if runs.is_some() {
        let words = format!(
            "Pod {name} is running and does not reach the controller: kubectl logs {name} -n {namespace}; check NetworkPolicies \
             between the two, and callback of the chart"
        );
        return cause("NotReached", words);
    }
    let waiting = container.and_then(|it| it.state.as_ref()?.waiting.as_ref());
    if let Some(said) = waiting.and_then(|it| it.message.as_deref()) {
        let words = format!(
            "Pod {name} failed to start on its node: {}: {describe}",
            words(said)
        );
        return cause("NotStarted", words);
    }
    let mut failures = events
        .iter()
        .filter(|event| FAILED_ON_NODE.contains(&event.reason.as_str()));
    if let Some(newest) = failures.next() {
        let missing = missing_object(&newest.words);
        let said = missing.map_or_else(|| newest.words.clone(), |missing| missing.message);
        return cause(
            "Mount",
            format!("Pod {name} does not start: {said}: {describe}"),
        );
    }
    cause("Starting", format!("Pod {name} is starting: {describe}"))
}

/// How its container ends ever again.
fn crash(container: &ContainerStatus, pod: &str, namespace: &str) -> Option<String> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref();
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    let over = state.terminated.is_some();
    if !over && reason != Some("CrashLoopBackOff") {
        return None;
    }
    let last = ended(container)?;
    let why = last.reason.as_deref().unwrap_or("no reason");
    let (code, restarts) = (last.exit_code, container.restart_count);
    Some(format!(
        "Pod {pod} keeps crashing, last with exit code {code} ({why}) after {restarts} restarts: kubectl logs {pod} -n {namespace} \
         --previous"
    ))
}

/// What the condition says of it. `after`: seconds of silence.
pub fn message(cause: &Cause, builder: &str, after: u64) -> String {
    let long = match after % 60 {
        0 => format!("{}m", after / 60),
        _ => format!("{after}s"),
    };
    format!(
        "the watcher of Builder {builder} has not reported for more than {long}, so new commits and images are not seen until it does: {}",
        cause.words
    )
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
