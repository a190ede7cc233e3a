//! Which changes wake a reconcile: those that can change its step, so that a build needs few.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::builder::state;
use crate::imagebuild::{decide, gate, outcome};
use crate::names;
use whittle_api::{Builder, ImageBuild, REQUESTED_AT};

fn digest(value: impl Hash) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    Some(hasher.finish())
}

/// The spec, a request to build again, deletion: not our own writes of the status.
pub fn image_build(build: &ImageBuild) -> Option<u64> {
    digest((
        build.uid(),
        build.metadata.generation,
        build.annotations().get(REQUESTED_AT),
        build.metadata.deletion_timestamp.is_some(),
    ))
}

/// The start of a build, and its end, or that it hangs: then the next one may start.
pub fn build_runs(build: &ImageBuild) -> Option<u64> {
    let current = build
        .status
        .as_ref()
        .and_then(|status| status.current.as_ref());
    let hangs = decide::lacks_its_own(build);
    digest((build.uid(), current.map(|current| &current.job), hangs))
}

/// The installation that a Builder belongs to.
fn installation(builder: &Builder) -> Option<&str> {
    builder.status.as_ref()?.installation.as_deref()
}

/// The spec, deletion, whose it is.
pub fn builder_spec(builder: &Builder) -> Option<u64> {
    digest((
        builder.uid(),
        installation(builder),
        builder.metadata.generation,
        builder.metadata.deletion_timestamp.is_some(),
    ))
}

/// What ImageBuilds that wait for a Builder depend on.
pub fn builder_ready(builder: &Builder) -> Option<u64> {
    digest((builder.uid(), decide::Readiness::of(builder)))
}

/// An attempt's end, and its going.
pub fn job(job: &Job) -> Option<u64> {
    let status = job.status.as_ref();
    let ended = status.is_some_and(|status| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.status == "True" && matches!(c.type_.as_str(), "Failed" | "Complete"))
    });
    digest((job.uid(), ended, job.metadata.deletion_timestamp.is_some()))
}

/// A Pod's phase, and what keeps it from running.
pub fn pod(pod: &Pod) -> Option<u64> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    digest((
        pod.uid(),
        phase,
        pod.metadata.deletion_timestamp.is_some(),
        outcome::pull_failure(pod).map(|(reason, _)| reason == "InvalidImageName"),
        outcome::unschedulable(pod),
        is_check(pod).then(|| gate::turns(pod)),
    ))
}

/// True for the Pod that checks an image: it turns Ready, and a runner's Pod is not asked to.
fn is_check(pod: &Pod) -> bool {
    pod.labels().get(names::COMPONENT).map(String::as_str) == Some(names::GATE)
}

/// What a Builder's own condition depends on.
pub fn stateful_set(set: &StatefulSet) -> Option<u64> {
    digest((
        set.uid(),
        state::Rollout::of(set),
        set.metadata.deletion_timestamp.is_some(),
    ))
}
