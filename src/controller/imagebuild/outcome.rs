//! What an attempt has come to, from its Job, its Pod and its report.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::job::{self, CONTAINER};
use super::kueue::suspended;
use crate::pods;
use crate::refusal::{Told, Whose, of_event, words};
use whittle_api::{FailureReason, Missing, MissingKind, Reason, Waiting};
use whittle_build::report;
use whittle_build::report::{Report, failed, scratch_full};
use whittle_build::standby::UNTAKEN;

/// How long an image may fail to pull before that ends the build: registries restart.
pub const PULL_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// How long after its time a Pod may still be going.
const GOING: SignedDuration = SignedDuration::from_secs(5);
/// Reason of the events of a controller that cannot make a Pod.
pub const FAILED_CREATE: &str = "FailedCreate";
/// Reasons of the events of a Pod that has a node, and whose containers cannot be started on it.
pub const FAILED_ON_NODE: [&str; 3] = [
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
];

/// The kubelet's reasons of a container whose image it does not get.
const PULL: [Reason; 4] = [
    Reason::ErrImagePull,
    Reason::ImagePullBackOff,
    Reason::InvalidImageName,
    Reason::ErrImageNeverPull,
];

/// Those of a container that its node cannot start.
pub const NOT_STARTED: [Reason; 3] = [
    Reason::CreateContainerConfigError,
    Reason::CreateContainerError,
    Reason::RunContainerError,
];

/// Where one attempt stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Neither its Job nor a Pod of it exists.
    Absent,
    /// Its Job is being deleted.
    Leaving,
    /// A Job of this name exists, but is not this ImageBuild's.
    Foreign,
    /// Its Job is suspended, and has no Pod: why, for people.
    Suspended(String),
    /// Its Pod does not run yet.
    Pending(Pending),
    /// Its Pod runs.
    Running,
    /// Its Pod has ended before its runner had the request: it was made in advance, and nothing was begun.
    Untaken,
    /// It has told its result, and its Pod has not ended yet.
    Told(Report),
    /// It has ended.
    Ended(Report),
}

/// What the Pod of an early report has ended with.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Record {
    /// Not ended yet.
    #[default]
    Pending,
    /// This: its termination message, or what its end says without one.
    Said {
        /// As far as there was room for it.
        report: Box<Report>,
        /// Digest of all of it.
        whole: String,
    },
    /// The Pod is gone, or its message: nobody can know.
    Gone,
}

/// What a build waits for: its Pod, or whatever comes before that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Why. `Building` where nothing is known but that the Pod does not run yet.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// True where a user has to mend something; it goes on by itself once it is mended.
    pub blocked: bool,
    /// True where it is the Builder that waits for it.
    pub of_builder: bool,
    /// The object that does not exist.
    pub missing: Option<Missing>,
}

impl Pending {
    /// What comes by itself.
    pub fn new(reason: impl Into<Reason>, message: String) -> Self {
        Self {
            reason: reason.into(),
            message,
            blocked: false,
            of_builder: false,
            missing: None,
        }
    }

    /// The same, where a user has to mend something.
    pub fn blocked(self) -> Self {
        Self {
            blocked: true,
            ..self
        }
    }

    /// As the status has it.
    pub fn waiting(&self) -> Option<Waiting> {
        self.reason.waits().then(|| Waiting {
            of_builder: self.of_builder,
            missing: self.missing.clone(),
            ..Waiting::new(self.reason)
        })
    }
}

/// What was read of one attempt.
#[derive(Clone, Debug, Default)]
pub struct Seen<'a> {
    /// UID of the ImageBuild.
    pub owner: &'a str,
    /// The Job of the attempt's name.
    pub job: Option<&'a Job>,
    /// That Job's Pod.
    pub pod: Option<&'a Pod>,
    /// Events of the Pod ([`FAILED_ON_NODE`]), or of the Job while it has none ([`FAILED_CREATE`]), newest first.
    pub events: &'a [Told],
    /// What the runner has called back.
    pub report: Option<&'a Report>,
}

/// Where the attempt stands.
pub fn state(seen: &Seen, now: Timestamp) -> State {
    let job = seen.job.filter(|job| is_of(*job, seen.owner));
    if let Some(report) = seen.report {
        // What the Pod has ended with counts, where that is known.
        return match job.and(seen.pod).map(|pod| record(Some(pod))) {
            Some(Record::Said { report, .. }) => State::Ended(*report),
            _ => State::Told(report.clone()),
        };
    }
    let Some(job) = job else {
        return match seen.job {
            Some(_) => State::Foreign,
            None => State::Absent,
        };
    };
    if job.metadata.deletion_timestamp.is_some() {
        return State::Leaving;
    }
    if let Some(why) = suspended(job) {
        // Its Pod is being taken away, and says nothing but what it has written before.
        return match seen.pod.and_then(reported) {
            Some(report) => State::Ended(report),
            None => State::Suspended(why),
        };
    }
    if seen.pod.and_then(terminated).is_some_and(is_untaken) {
        return State::Untaken;
    }
    if let Some(report) = seen.pod.and_then(ended) {
        return State::Ended(report);
    }
    if let Some((reason, message)) = failed_condition(job) {
        return State::Ended(match reason.as_str() {
            "DeadlineExceeded" => timeout(),
            _ => lost(format!(
                "the runner's Pod was lost ({message}): deleted, or its node was lost"
            )),
        });
    }
    match seen.pod {
        Some(pod) if phase(pod) == "Pending" => pending(pod, seen.events, now),
        Some(_) => State::Running,
        None if succeeded(job) => State::Ended(lost(
            "the runner's Pod was deleted before its report was read".into(),
        )),
        None => State::Pending(not_made(job, seen.events)),
    }
}

/// Why a Job has no Pod.
fn not_made(job: &Job, events: &[Told]) -> Pending {
    let refused = events.iter().find(|event| event.reason == FAILED_CREATE);
    match refused {
        Some(event) => {
            let namespace = job.namespace().unwrap_or_default();
            let (reason, message) = of_event(&event.words, &namespace, Whose::Runner);
            Pending::new(reason, message).blocked()
        }
        None => Pending::new(
            Reason::Building,
            "waiting for the runner's Pod to be created".into(),
        ),
    }
}

/// True where an object belongs to the one with this UID.
pub fn is_of(object: &impl ResourceExt, owner: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|found| found.uid == owner)
}

/// True where a Pod of this Job of the ImageBuild with this UID can speak: it has not ended, and is not on its way out.
pub fn runs(job: &Job, owner: &str, pods: &[Pod]) -> bool {
    is_of(job, owner)
        && job.metadata.deletion_timestamp.is_none()
        && pods::of(pods, Some(job)).is_some_and(|pod| {
            pod.metadata.deletion_timestamp.is_none() && !is_over(pod) && terminated(pod).is_none()
        })
}

/// What the Pod of an early report has ended with; `pod` is that of its Job.
///
/// A runner writes its termination message before it tells the controller. So one that was killed without has told
/// nothing, and what was heard came from somebody else; where it has ended by itself, the message was lost on its way.
pub fn record(pod: Option<&Pod>) -> Record {
    let Some(pod) = pod else {
        return Record::Gone;
    };
    let Some(container) = terminated(pod) else {
        return match is_over(pod) {
            true => Record::Gone,
            false => Record::Pending,
        };
    };
    let message = container.message.as_deref().unwrap_or_default();
    if let Ok((report, whole)) = report::decode_whole(message) {
        return Record::Said {
            report: Box::new(report.bounded()),
            whole,
        };
    }
    match ended(pod) {
        Some(report) if !message.is_empty() || !matches!(container.exit_code, 0 | 1) => {
            let whole = report::digest(&report);
            Record::Said {
                report: Box::new(report),
                whole,
            }
        }
        _ => Record::Gone,
    }
}

/// What is to be done about a Pod that was to be gone by now; none where it still has time.
pub fn does_not_go(pod: &Pod, now: Timestamp) -> Option<String> {
    let due = pod.metadata.deletion_timestamp.as_ref()?.0;
    if now.duration_since(due) < GOING {
        return None;
    }
    let name = pod.name_any();
    let namespace = pod.namespace().unwrap_or_default();
    let holders = pod.metadata.finalizers.clone().unwrap_or_default();
    let why = match holders.is_empty() {
        true => {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let node = node.unwrap_or("?");
            format!(
                "its node {node} has not confirmed that it ended, most often because the node is \
                    unreachable. Bring the node back; if it is gone for good, run: kubectl delete \
                    pod {name} -n {namespace} --grace-period=0 --force"
            )
        }
        false => words(&format!(
            "it has finalizers ({}): remove what set them, then check kubectl get pod {name} -n \
                {namespace} -o yaml",
            holders.join(", ")
        )),
    };
    Some(format!(
        "Pod {name} has been stuck in Terminating since {due}, and the next one waits for it: {why}"
    ))
}

/// True where the Pod's containers have ended: only then may another attempt start.
pub fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

pub(super) fn failed_condition(job: &Job) -> Option<(String, String)> {
    job.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.status == "True" && c.type_ == "Failed")
        .map(|c| {
            (
                c.reason.clone().unwrap_or_default(),
                c.message.clone().unwrap_or_default(),
            )
        })
}

fn succeeded(job: &Job) -> bool {
    job.status
        .as_ref()
        .is_some_and(|status| status.succeeded.unwrap_or(0) > 0)
}

fn is_untaken(terminated: &ContainerStateTerminated) -> bool {
    let message = terminated.message.as_deref().unwrap_or_default();
    terminated.exit_code == UNTAKEN && message.is_empty()
}

/// How the runner's container has ended.
fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    pod.status
        .as_ref()?
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == CONTAINER)
        .and_then(|container| container.state.as_ref())
        .and_then(|state| state.terminated.as_ref())
}

/// What a Pod's runner has written when all was done.
fn reported(pod: &Pod) -> Option<Report> {
    let message = terminated(pod)?.message.as_deref()?;
    Some(report::decode(message).ok()?.bounded())
}

/// What a Pod that has ended reports, or what its end says where it reports nothing.
fn ended(pod: &Pod) -> Option<Report> {
    let status = pod.status.as_ref()?;
    let terminated = terminated(pod);
    // The report first: it is written only when all is done, whatever became of the Pod after it.
    if let Some(report) = reported(pod) {
        return Some(report);
    }
    if terminated.is_none() && !is_over(pod) {
        return None;
    }
    Some(match (status.reason.as_deref(), terminated) {
        (Some("DeadlineExceeded"), _) => timeout(),
        (_, Some(t)) if t.reason.as_deref() == Some("OOMKilled") => out_of_memory(pod),
        (Some("Evicted"), _) if is_scratch_full(status.message.as_deref()) => failed(
            FailureReason::SourceTooLarge,
            scratch_full(status.message.as_deref().unwrap_or_default()),
        ),
        (Some(reason), _) => lost(format!(
            "the runner's Pod ended: {reason}: {}",
            status.message.as_deref().unwrap_or("no message")
        )),
        (None, Some(t)) => lost(exit_text(t)),
        (None, None) => lost("the runner's Pod ended before its container ran".into()),
    })
}

/// The kubelet's words where a volume has more than its `sizeLimit`: `Usage of EmptyDir volume "scratch" exceeds the
/// limit "8Gi".`
fn is_scratch_full(message: Option<&str>) -> bool {
    let volume = format!("EmptyDir volume \"{}\" exceeds", job::SCRATCH_VOLUME);
    message.is_some_and(|message| message.contains(&volume))
}

fn exit_text(terminated: &ContainerStateTerminated) -> String {
    format!(
        "the runner exited with code {} ({}) and without a report",
        terminated.exit_code,
        terminated.reason.as_deref().unwrap_or("no reason")
    )
}

fn out_of_memory(pod: &Pod) -> Report {
    let limit = pod
        .spec
        .as_ref()
        .and_then(|spec| {
            spec.containers
                .iter()
                .find(|container| container.name == CONTAINER)
        })
        .and_then(|container| container.resources.as_ref())
        .and_then(|resources| resources.limits.as_ref())
        .and_then(|limits| limits.get("memory"))
        .map_or_else(|| "of its node".to_owned(), |limit| limit.0.clone());
    failed(
        FailureReason::OutOfMemory,
        format!(
            "out of memory: the runner exceeded the memory limit {limit} (OOMKilled): raise \
                runner.resources.limits.memory of the chart"
        ),
    )
}

/// What is said of an attempt whose time is over.
pub const TIMED_OUT: &str = "timed out: the build did not end within spec.timeout: raise it, or find the slow step in the \
    Job's log";

fn timeout() -> Report {
    failed(FailureReason::Timeout, TIMED_OUT.into())
}

fn lost(message: String) -> Report {
    failed(FailureReason::RunnerLost, message)
}

fn pending(pod: &Pod, events: &[Told], now: Timestamp) -> State {
    if let Some((reason, message)) = pull_failure(pod) {
        let since = pod
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(now, |time| time.0);
        if now.duration_since(since) > PULL_GRACE {
            return State::Ended(failed(FailureReason::ImagePullFailed, message));
        }
        return State::Pending(Pending::new(reason, message).blocked());
    }
    if let Some(message) = unschedulable(pod) {
        return State::Pending(Pending::new(Reason::Unschedulable, message));
    }
    State::Pending(
        on_node(events).unwrap_or_else(|| {
            Pending::new(Reason::Building, "the runner's Pod is starting".into())
        }),
    )
}

/// Why a Pod's containers cannot be started on its node, from its events.
pub fn on_node(events: &[Told]) -> Option<Pending> {
    let mut failures = events
        .iter()
        .filter(|event| FAILED_ON_NODE.contains(&event.reason.as_str()));
    let missing = failures
        .clone()
        .find_map(|event| missing_object(&event.words));
    if let Some(mut found) = missing {
        // Of an object itself, or of a key of one that is there.
        let fix = match found.missing.is_some() {
            true => "create it in this namespace",
            false => "add it",
        };
        found.message += &format!(": {fix}; the build then continues by itself");
        return Some(found);
    }
    let newest = failures.next()?;
    let reason = match newest.reason.as_str() {
        "FailedCreatePodSandBox" => Reason::SandboxFailed,
        _ => Reason::MountFailed,
    };
    Some(Pending::new(reason, newest.words.clone()).blocked())
}

/// The states of a Pod's containers, each with whether it is an init container: these run first.
pub fn containers(pod: &Pod) -> impl Iterator<Item = (bool, &ContainerStatus)> {
    let status = pod.status.as_ref();
    let of = |list: fn(&PodStatus) -> &Option<Vec<ContainerStatus>>| {
        status
            .and_then(|status| list(status).as_ref())
            .into_iter()
            .flatten()
    };
    let init = of(|status| &status.init_container_statuses).map(|it| (true, it));
    init.chain(of(|status| &status.container_statuses).map(|it| (false, it)))
}

/// True where the Pod may have a node, but none of its containers has been started or waits for its image: for its
/// volumes, that is, or its sandbox. The kubelet's first reason is another one where there are init containers.
pub fn waits_for_volumes(pod: &Pod) -> bool {
    let waits = |container: &ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|it| it.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        matches!(reason, Some("ContainerCreating" | "PodInitializing"))
    };
    pod.status.is_some() && phase(pod) == "Pending" && containers(pod).all(|(_, it)| waits(it))
}

/// The reason and message of an image of this Pod that cannot be pulled.
pub fn pull_failure(pod: &Pod) -> Option<(Reason, String)> {
    containers(pod).find_map(|(init, container)| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let said = waiting.reason.as_deref()?;
        let reason = PULL.into_iter().find(|reason| reason.as_str() == said)?;
        let message = waiting
            .message
            .as_deref()
            .unwrap_or("the kubelet gives no reason");
        let whose = match init {
            true => format!(" of init container {}", container.name),
            false => String::new(),
        };
        Some((
            reason,
            format!(
                "image pull failed for {}{whose}: {}",
                container.image,
                words(message)
            ),
        ))
    })
}

/// What the scheduler says of a Pod for which it has no node.
pub fn unschedulable(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let mut unscheduled = conditions.filter(|c| {
        let said = c.message.as_deref().unwrap_or_default();
        // Somebody else wrote at the same moment: the scheduler tries again by itself.
        let conflicts = said.contains("the object has been modified");
        c.type_ == "PodScheduled" && c.status == "False" && !conflicts
    });
    let said = unscheduled.next()?.message.as_deref().unwrap_or_default();
    Some(format!(
        "Pod {} is unschedulable: {}",
        pod.name_any(),
        words(said)
    ))
}

/// The kubelet's words for an object or key that is not there, made into a reason, the object, and a sentence that names
/// it.
///
/// The kubelet says `secret "npm" not found`, `configmap "source" not found`, or
/// `references non-existent secret key: .npmrc`. A ConfigMap with the certificate of a registry counts
/// as a Secret does: it is not the source.
pub fn missing_object(message: &str) -> Option<Pending> {
    use FailureReason::{SecretNotFound, SourceNotFound};
    let lacks = |reason, message| Some(Pending::new(reason, message).blocked());
    const KEY: &str = "references non-existent ";
    let volume = message.split('"').nth(1).unwrap_or("?");
    if let Some((_, rest)) = message.rsplit_once(KEY) {
        let (kind, key) = rest.split_once(" key: ")?;
        let key = key.trim();
        return match (kind, volume) {
            ("config", job::SOURCE_VOLUME) => lacks(
                SourceNotFound,
                format!("key {key} not found in the ConfigMap of source.configMap"),
            ),
            ("config", _) => lacks(
                SecretNotFound,
                format!("key {key} not found in the ConfigMap of volume {volume}"),
            ),
            _ => lacks(
                SecretNotFound,
                format!("key {key} not found in the Secret of volume {volume}"),
            ),
        };
    }
    let (head, _) = message.split_once(" not found")?;
    let (head, name) = head.strip_suffix('"')?.rsplit_once('"')?;
    let kind = head.trim_end().rsplit([' ', ':']).next()?;
    let (reason, kind) = match kind {
        "secret" => (SecretNotFound, MissingKind::Secret),
        "configmap" if volume == job::SOURCE_VOLUME => (SourceNotFound, MissingKind::ConfigMap),
        "configmap" => (SecretNotFound, MissingKind::ConfigMap),
        _ => return None,
    };
    let mut found = lacks(reason, format!("{kind} {name} not found"))?;
    found.missing = Some(Missing {
        kind,
        name: name.to_owned(),
    });
    Some(found)
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
