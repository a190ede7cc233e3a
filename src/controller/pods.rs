//! What Pods and Jobs say. First, which Pod is a Job's: its word is the record, and anybody who may make Pods can name
//! a Job as the owner of one.

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::names;
use crate::imagebuild::outcome::{
    FAILED_CREATE, FAILED_ON_NODE, does_not_go, is_over, waits_for_volumes,
};

/// The events that say why something does not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose.
    pub of: Of,
    /// Those with one of these reasons.
    pub reasons: &'static [&'static str],
}

/// An object that events are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// That of this UID.
    Uid(String),
    /// Those of this kind and name: for kinds that are not read.
    Named(&'static str, String),
}

impl Question {
    /// Why the Pod of an object, which has none, was not made.
    pub fn not_made(object: &impl ResourceExt) -> Self {
        Self {
            of: Of::Uid(object.uid().unwrap_or_default()),
            reasons: &[FAILED_CREATE],
        }
    }

    /// Why a Pod, which has a node, does not start on it.
    pub fn not_started(pod: &Pod) -> Self {
        Self {
            of: Of::Uid(pod.uid().unwrap_or_default()),
            reasons: &FAILED_ON_NODE,
        }
    }

    /// What to ask about an attempt: none where its Pod says enough, or has nothing more to say.
    pub fn of_attempt(job: Option<&Job>, pod: Option<&Pod>) -> Option<Self> {
        match (job, pod) {
            (_, Some(pod)) if !is_over(pod) && waits_for_volumes(pod) => {
                Some(Self::not_started(pod))
            }
            (Some(job), None) if is_active(job) => Some(Self::not_made(job)),
            _ => None,
        }
    }
}

/// True where a Job has neither completed nor failed.
pub fn is_active(job: &Job) -> bool {
    let status = job.status.as_ref();
    status.is_none_or(|status| status.completion_time.is_none() && !is(status, "Failed"))
}

/// True where a Job says that it has ended, well or not.
pub fn has_ended(job: &Job) -> bool {
    let status = job.status.as_ref();
    status.is_some_and(|status| is(status, "Failed") || is(status, "Complete"))
}

fn is(status: &JobStatus, condition: &str) -> bool {
    let mut all = status.conditions.iter().flatten();
    all.any(|c| c.type_ == condition && c.status == "True")
}

/// When something last became of a Job, as far as it says: it was made, it has ended.
pub fn last_change(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref();
    let ended = status.and_then(|status| status.completion_time.as_ref());
    let changed = status
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .filter_map(|condition| condition.last_transition_time.as_ref());
    let made = job.metadata.creation_timestamp.as_ref();
    let times = made.into_iter().chain(ended).chain(changed);
    times.map(|time| time.0).max()
}

/// What is left of attempts but that of `job`, by the Pods of an ImageBuild's runners: true where one has not ended;
/// and what is to be done about one that was to be gone by now.
pub fn earlier(pods: &[Pod], job: Option<&Job>, now: Timestamp) -> (bool, Option<String>) {
    let alive = |pod: &&Pod| !job.is_some_and(|job| is_of(pod, job)) && !is_over(pod);
    let mut all = pods.iter().filter(alive).peekable();
    let some = all.peek().is_some();
    (some, all.find_map(|pod| does_not_go(pod, now)))
}

/// True where one of the Pod's containers was killed for memory at `since` or later.
pub fn was_out_of_memory(pod: &Pod, since: Option<Timestamp>) -> bool {
    let status = pod.status.as_ref();
    let mut containers = status
        .into_iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    containers.any(|container| killed_for_memory(container, since))
}

fn killed_for_memory(container: &ContainerStatus, since: Option<Timestamp>) -> bool {
    [&container.state, &container.last_state]
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref())
        .any(|terminated| {
            terminated.reason.as_deref() == Some("OOMKilled")
                && match (&terminated.finished_at, since) {
                    (Some(finished), Some(since)) => finished.0 >= since,
                    _ => true,
                }
        })
}

/// True for a Job that a controller of ours made for the ImageBuild of this UID. Anybody may set labels; and one that
/// is not named as ours are cannot be deleted (templates/selfguard.yaml).
pub fn is_ours(job: &impl ResourceExt, owner: &str) -> bool {
    let mut owners = job.owner_references().iter();
    names::is_attempt(&job.name_any()) && owners.any(|found| found.uid == owner)
}

/// True for a Job of a build before that of this number.
pub fn is_before(job: &impl ResourceExt, build: i64) -> bool {
    let number = job.annotations().get(names::BUILD);
    number
        .and_then(|number| number.parse::<i64>().ok())
        .is_some_and(|number| number < build)
}

/// True for the Job of a check that stays though nobody has `named` it.
pub fn is_stray_check(job: &impl ResourceExt, named: &[String]) -> bool {
    job.labels().get(names::COMPONENT).map(String::as_str) == Some(names::GATE)
        && job.meta().deletion_timestamp.is_none()
        && !named.contains(&job.name_any())
}

/// True for the Job of a runner that was made in advance for the first attempt at the build of this number, and stays.
pub fn is_in_advance_for(job: &impl ResourceExt, build: i64) -> bool {
    let number = job.annotations().get(names::BUILD);
    job.labels().contains_key(names::STANDBY)
        && job.meta().deletion_timestamp.is_none()
        && number.and_then(|number| number.parse().ok()) == Some(build)
}

/// True where a Pod belongs to this Job, as its metadata says.
pub fn belongs_to(pod: &Pod, job: &impl ResourceExt) -> bool {
    let uid = job.uid().unwrap_or_default();
    let mut owners = pod.owner_references().iter();
    !uid.is_empty()
        && owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
        && pod.name_any().starts_with(&format!("{}-", job.name_any()))
}

/// True where the Pod is one that the Job's controller makes: the Job is its controller, its name begins with the Job's,
/// and its containers are called as those of the Job's template.
pub fn is_of(pod: &Pod, job: &Job) -> bool {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let controlled = pod.owner_references().iter().any(|owner| {
        owner.controller == Some(true) && owner.kind == "Job" && !uid.is_empty() && owner.uid == uid
    });
    controlled
        && pod.name_any().starts_with(&format!("{}-", job.name_any()))
        && template(job).all(|wanted| container(pod, wanted).is_some())
}

/// The Job's Pod. A Job of ours has one, so of several only one can be its own: one with the images of the Job's
/// template before any other, and then the oldest. Something in the cluster may rewrite images, so they decide no more
/// than that.
pub fn of<'a>(pods: &'a [Pod], job: Option<&Job>) -> Option<&'a Pod> {
    all(pods, job).min_by_key(|pod| {
        let same = job
            .into_iter()
            .flat_map(template)
            .all(|wanted| container(pod, wanted).is_some_and(|found| found.image == wanted.image));
        (!same, pod.metadata.creation_timestamp.clone())
    })
}

/// How many Pods look like the Job's: more than one is somebody's doing.
pub fn how_many(pods: &[Pod], job: Option<&Job>) -> usize {
    all(pods, job).count()
}

fn all<'a>(pods: &'a [Pod], job: Option<&Job>) -> impl Iterator<Item = &'a Pod> {
    pods.iter()
        .filter(move |pod| job.is_some_and(|job| is_of(pod, job) && !is_left_over(pod, job)))
}

/// True for a Pod that was taken away when the Job was suspended, which has been resumed since: its end says nothing of the attempt.
fn is_left_over(pod: &Pod, job: &Job) -> bool {
    let conditions = job
        .status
        .iter()
        .flat_map(|it| it.conditions.iter().flatten());
    let mut resumed = conditions.filter(|it| it.type_ == "Suspended" && it.status == "False");
    let resumed = resumed.find_map(|it| it.last_transition_time.as_ref());
    pod.metadata.deletion_timestamp.is_some()
        && resumed.is_some_and(|at| pod.metadata.creation_timestamp.as_ref() < Some(at))
}

fn template(job: &Job) -> impl Iterator<Item = &Container> {
    let spec = job.spec.as_ref().and_then(|job| job.template.spec.as_ref());
    containers(spec)
}

fn containers(spec: Option<&PodSpec>) -> impl Iterator<Item = &Container> {
    spec.into_iter().flat_map(|spec| &spec.containers)
}

fn container<'a>(pod: &'a Pod, wanted: &Container) -> Option<&'a Container> {
    containers(pod.spec.as_ref()).find(|container| container.name == wanted.name)
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
