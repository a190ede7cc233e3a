//! The gate: each platform's image runs as a Pod, and must answer the ImageBuild's `healthCheck` before any
//! tag points to it.
//!
//! A Job holds the Pod, so that it goes by itself (deadline, time to live) even where nobody looks any more.

pub mod here;
mod objects;

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::job::USER;
use super::kueue::suspended;
use super::outcome::{
    NOT_STARTED, PULL_GRACE, failed_condition, is_over, pull_failure, unschedulable,
};
use crate::refusal::{Told, Whose, of_event};
pub use objects::job;
use objects::{is_root, runs_as_root};
use whittle_api::{Failure, FailureReason, HealthCheck, PlatformStatus};

/// Name of the container.
pub const CONTAINER: &str = "image";
/// The most of its node's disk that a container may fill, its log included.
const DISK: &str = "2Gi";
/// Why Linux does not let the check's Pod start a program that others start.
const CAPABILITIES: &str = ": the program has file capabilities, and the health check Pod drops all of them: remove them \
    (setcap -r FILE), or set them without the effective bit (setcap CAPABILITY=p FILE)";
/// Bytes of what a program prints that are read for `run.stdout`.
pub const OUTPUT: usize = 64 * 1024;

/// Where the check of one platform stands, or another trial of its image.
#[derive(Clone, Debug, PartialEq)]
pub struct Check<S = State> {
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// How it stands.
    pub state: S,
}

/// How a check stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// No node is of this platform.
    NoNode,
    /// Not begun.
    Absent,
    /// The Pod turned Ready, and the image did what else was asked of it.
    Exercised,
    /// The Pod turned Ready; what else the image is held to has not begun.
    Exercising,
    /// Its Job is suspended: why, for people. That time does not count.
    Suspended(String),
    /// Goes on.
    Waiting {
        /// A sentence for people.
        message: String,
        /// What is left of its time, once that has begun.
        left: Option<SignedDuration>,
    },
    /// The program has ended as it had to; what it printed is to be looked at.
    Ended {
        /// Seconds from the container's start.
        seconds: i64,
    },
    /// The Pod turned Ready, or the program has ended as it had to.
    Passed {
        /// Seconds from the container's start.
        seconds: i64,
    },
    /// It did not.
    Failed {
        /// How far it came.
        how: How,
        /// What happened.
        message: String,
        /// The container's last lines.
        log: Option<String>,
    },
    /// The Pod was lost: the platform's fault.
    Lost(String),
}

/// How far a check came that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its container was never made: that says nothing about the image.
    NotTried,
    /// Its container could not be started, or has ended.
    Ended,
    /// It ran until its time was over.
    TimedOut,
}

/// `amd64` of `linux/amd64/v3`, as nodes are labelled.
pub fn architecture(platform: &str) -> &str {
    platform.split('/').nth(1).unwrap_or(platform)
}

/// What was read of the check of one platform.
#[derive(Clone, Debug, Default)]
pub struct Seen<'a> {
    /// UID of the ImageBuild.
    pub owner: &'a str,
    /// The Job of the check's name.
    pub job: Option<&'a Job>,
    /// That Job's newest Pod.
    pub pod: Option<&'a Pod>,
    /// How long its container has been seen to run. When it was started is said by the clock of its node: held against
    /// the controller's, a check would be over at once where the two differ.
    pub ran: SignedDuration,
    /// The newest event of a Pod that could not be made, while there is none.
    pub refused: Option<&'a Told>,
}

/// Where the check of a platform stands; what the Pod itself does not tell is added by [`explain`].
pub fn state(seen: &Seen, check: &HealthCheck, now: Timestamp) -> State {
    let Some(job) = seen.job else {
        return State::Absent;
    };
    let is_mine = |owner: &OwnerReference| owner.uid == seen.owner;
    if !job.owner_references().iter().any(is_mine) {
        return State::Failed {
            message: format!(
                "conflict: Job {} already exists and does not belong to this ImageBuild: delete it",
                job.name_any()
            ),
            log: None,
            how: How::NotTried,
        };
    }
    if job.metadata.deletion_timestamp.is_some() {
        return waiting("the Pod of a previous health check is terminating");
    }
    if let Some(why) = suspended(job) {
        return State::Suspended(why);
    }
    let Some(pod) = seen.pod else {
        return match failed_condition(job) {
            Some((_, message)) => match seen.refused {
                Some(event) => {
                    let namespace = job.namespace().unwrap_or_default();
                    State::Failed {
                        how: How::NotTried,
                        message: of_event(&event.words, &namespace, Whose::Check).1,
                        log: None,
                    }
                }
                None => State::Lost(format!("the health check Pod was deleted: {message}")),
            },
            None => match seen.refused {
                Some(event) => {
                    let namespace = job.namespace().unwrap_or_default();
                    waiting(&of_event(&event.words, &namespace, Whose::Check).1)
                }
                None => waiting("waiting for the health check Pod to be created"),
            },
        };
    };
    let status = pod.status.clone().unwrap_or_default();
    let container = container(pod, CONTAINER);
    // One that is to end is Ready as long as it runs.
    let passed = passed(pod, container).filter(|_| check.run.is_none());
    if let Some(passed) = passed {
        return passed;
    }
    // The kubelet's words: `… exceeds the total limit of containers 2Gi`, `… exceeded its local ephemeral storage limit`.
    let said = status.message.as_deref().unwrap_or_default();
    if status.reason.as_deref() == Some("Evicted")
        && said.contains("ephemeral")
        && said.contains("limit")
    {
        return State::Failed {
            message: format!(
                "the container used too much disk: more than {DISK} before it was Ready ({})",
                said.trim()
            ),
            log: None,
            how: How::Ended,
        };
    }
    let state = container.and_then(|container| container.state.clone());
    let ContainerState {
        running,
        terminated,
        waiting: held,
    } = state.unwrap_or_default();
    if let Some(ended) = terminated {
        let reason = ended.reason.as_deref().unwrap_or_default();
        let seconds = match (&ended.started_at, &ended.finished_at) {
            (Some(Time(started)), Some(Time(finished))) => {
                finished.duration_since(*started).as_secs()
            }
            _ => 0,
        };
        let failed_to_run = ["OOMKilled", "StartError", "ContainerCannotRun"].contains(&reason);
        if let Some(run) = check.run.as_ref().filter(|_| !failed_to_run) {
            return match ended.exit_code == run.exit_code {
                true => State::Ended { seconds },
                false => State::Failed {
                    how: How::Ended,
                    message: format!(
                        "the program ended with exit code {}, and has to end with {}",
                        ended.exit_code, run.exit_code
                    ),
                    log: None,
                },
            };
        }
        let message = match (reason, ended.exit_code, ended.message) {
            ("OOMKilled", ..) => {
                "the container ran out of memory (OOMKilled) before it was Ready: raise \
                    healthCheck.memory".into()
            }
            ("StartError" | "ContainerCannotRun", _, said) => format!(
                "the container failed to start: {}",
                said.unwrap_or_default()
            ),
            (_, 0, _) => "the container exited with code 0 before it was Ready: a healthCheck needs a program \
                that keeps running; for one that ends use healthCheck.run"
                .into(),
            (_, code, _) => format!("the container exited with code {code} before it was Ready"),
        };
        return State::Failed {
            how: How::Ended,
            message,
            log: None,
        };
    }
    if let Some(reason) = status.reason.filter(|_| is_over(pod)) {
        let said = status.message.unwrap_or_default();
        return State::Lost(format!("the health check Pod ended: {reason}: {said}"));
    }
    if running.is_some() {
        let time = SignedDuration::from_secs(i64::from(check.timeout_seconds));
        if seen.ran >= time {
            let what = match check.run {
                Some(_) => "not ended",
                None => "not Ready",
            };
            return State::Failed {
                message: format!("timed out: {what} within {} s", check.timeout_seconds),
                log: None,
                how: How::TimedOut,
            };
        }
        return State::Waiting {
            message: match check.run {
                Some(_) => "running, not ended yet".into(),
                None => "running, not Ready yet".into(),
            },
            left: Some(time - seen.ran),
        };
    }
    if let Some((reason, message)) = pull_failure(pod) {
        let made = pod.metadata.creation_timestamp.as_ref();
        if made.is_some_and(|made| now.duration_since(made.0) > PULL_GRACE) {
            return State::Failed {
                message: format!(
                    "{message}: the kubelet of its node must be able to reach the registry by \
                        the name in output.image, with the Secret of output.secretRef"
                ),
                log: None,
                how: How::NotTried,
            };
        }
        return waiting(&format!("{reason}: {message}"));
    }
    if let Some(held) = held.filter(|held| is_final(held.reason.as_deref().unwrap_or_default())) {
        let said = held.message.unwrap_or_default();
        let message = if said.contains("runAsNonRoot") {
            "the image runs as root, which the health check's restricted Pod does not allow: \
                write USER 65532:65532 into the Dockerfile"
                .to_owned()
        } else {
            format!("the container could not be created: {said}")
        };
        return State::Failed {
            how: How::Ended,
            message,
            log: None,
        };
    }
    match unschedulable(pod) {
        Some(message) => waiting(&message),
        None => waiting("the health check Pod is starting"),
    }
}

fn waiting(message: &str) -> State {
    State::Waiting {
        message: message.to_owned(),
        left: None,
    }
}

fn is_final(reason: &str) -> bool {
    NOT_STARTED.iter().any(|it| it.as_str() == reason)
}

/// The condition Ready, where it holds.
fn ready(pod: &Pod) -> Option<&PodCondition> {
    let mut all = pod.status.as_ref()?.conditions.iter().flatten();
    all.find(|c| c.type_ == "Ready" && c.status == "True")
}

fn passed(pod: &Pod, container: Option<&ContainerStatus>) -> Option<State> {
    let ready = ready(pod)?;
    let started = container?
        .state
        .as_ref()?
        .running
        .as_ref()?
        .started_at
        .clone();
    let seconds = match (&ready.last_transition_time, &started) {
        (Some(Time(ready)), Some(Time(started))) => ready.duration_since(*started).as_secs(),
        _ => 0,
    };
    Some(State::Passed {
        seconds: seconds.max(0),
    })
}

/// True while the check's container runs.
pub fn runs(pod: &Pod) -> bool {
    turns(pod).2
}

/// How a container of a Pod stands.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let mut all = pod.status.as_ref()?.container_statuses.iter().flatten();
    all.find(|container| container.name == name)
}

/// What is to be said of a failed check whose image would have run as root otherwise.
pub fn as_another_user(check: &HealthCheck, platform: &PlatformStatus, state: State) -> State {
    let other = is_root(platform) && !runs_as_root(check, platform);
    match state {
        State::Failed { message, log, how } if other && how != How::NotTried => State::Failed {
            message: format!(
                "{message}; the image's USER is root, and it was run as user {USER}: write USER {USER}:{USER} into the \
                 Dockerfile, or set healthCheck.runAs: Image where the namespace allows Pod Security level baseline"
            ),
            log,
            how,
        },
        state => state,
    }
}

/// How the check of a program stands that has ended as it had to, and has printed this.
pub fn printed(seconds: i64, wanted: &str, output: &str) -> State {
    match output.contains(wanted) {
        true => State::Passed { seconds },
        false => State::Failed {
            how: How::Ended,
            message: format!("the program ended, and what it printed has no {wanted:?}"),
            log: None,
        },
    }
}

/// What of a check's Pod changes its state: whether it is Ready, what its container waits for, and whether another one beside it
/// has ended.
pub fn turns(pod: &Pod) -> (bool, Option<&str>, bool, usize) {
    let state = container(pod, CONTAINER).and_then(|container| container.state.as_ref());
    let statuses = pod
        .status
        .iter()
        .flat_map(|it| it.container_statuses.iter().flatten());
    let ended = statuses.filter(|it| it.state.as_ref().is_some_and(|it| it.terminated.is_some()));
    (
        ready(pod).is_some(),
        state.and_then(|state| state.waiting.as_ref()?.reason.as_deref()),
        state.is_some_and(|state| state.running.is_some()),
        ended.count(),
    )
}

/// Adds to a failed check what the kubelet said of the probe, and the container's last lines.
pub fn explain(state: State, unhealthy: Option<&str>, log: Option<String>) -> State {
    match state {
        State::Failed {
            message,
            log: None,
            how,
        } => {
            let mut message = match unhealthy {
                Some(said) => format!("{message}: {said}"),
                None => message,
            };
            // EPERM of execve, in runc's words; closed permissions are another error.
            let refused = |text: &str| {
                text.ends_with("operation not permitted")
                    && (text.starts_with("exec ") || text.contains("exec: "))
            };
            let lines = log.iter().flat_map(|log| log.lines()).map(str::trim);
            if lines.chain([message.trim()]).any(refused) {
                message.push_str(CAPABILITIES);
            }
            State::Failed {
                message,
                how,
                log: log.filter(|log| !log.trim().is_empty()),
            }
        }
        other => other,
    }
}

/// The platforms that some node is of; `architectures` as nodes are labelled.
pub fn has_node(platform: &str, architectures: &BTreeSet<String>) -> bool {
    platform.starts_with("linux/") && architectures.contains(architecture(platform))
}

/// Why the build fails, where a check has.
pub fn failure(checks: &[Check], image: &str) -> Option<Failure> {
    let many = checks.len() > 1;
    let told = |check: &Check, message: &str| match many {
        true => format!("{}: {message}", check.platform),
        false => message.to_owned(),
    };
    checks.iter().find_map(|check| {
        let (reason, message, log) = match &check.state {
            State::Failed { message, log, .. } => {
                (FailureReason::HealthCheckFailed, message, log.clone())
            }
            State::Lost(message) => (FailureReason::RunnerLost, message, None),
            _ => return None,
        };
        Some(Failure {
            reason,
            message: told(check, message),
            step: None,
            dockerfile_line: None,
            log,
            hint: None,
            image: Some(image.to_owned()),
        })
    })
}

/// How the first check came to its end that has failed.
pub fn how(checks: &[Check]) -> Option<How> {
    checks.iter().find_map(|check| match &check.state {
        State::Failed { how, .. } => Some(*how),
        _ => None,
    })
}

/// What the condition `Probed` says once all checks have passed: whether any was made, and what of each.
pub fn told(checks: &[Check], check: &HealthCheck) -> (bool, String) {
    told_of(checks, check, "the cluster has no node of this platform")
}

/// The same; `nowhere`: why a platform was not run.
fn told_of(checks: &[Check], check: &HealthCheck, nowhere: &str) -> (bool, String) {
    let verb = match check.run {
        Some(_) => "ended as it had to",
        None => "was Ready",
    };
    let lines: Vec<String> = checks
        .iter()
        .map(|check| match &check.state {
            State::Passed { seconds } => {
                format!("{} {verb} after {seconds} s", check.platform)
            }
            State::Exercised => format!("{} {verb}, and passed all exercises", check.platform),
            _ => format!("{} was not run: {nowhere}", check.platform),
        })
        .collect();
    let any = checks
        .iter()
        .any(|check| matches!(check.state, State::Passed { .. } | State::Exercised));
    (any, lines.join("; "))
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
