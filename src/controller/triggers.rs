//! Which changes wake a reconcile: those that can change its step, so that a build needs few.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::builder::state;
use crate::imagebuild::{decide, gate, outcome};
use crate::{names, platforms, pods};
use whittle_api::{Builder, CANCEL, ImageBuild, PRUNE, REQUESTED_AT, ROLLBACK, Reason};

fn digest(value: impl Hash) -> Option<u64> {
    Some(hashed(value))
}

/// The same number for the same value, within this process.
pub(crate) fn hashed(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The spec, a request to build again or to end a build, what a trigger has asked for, deletion: not our other writes of the
/// status.
pub fn image_build(build: &ImageBuild) -> Option<u64> {
    let status = build.status.as_ref();
    let pending = status.and_then(|status| status.pending.as_ref());
    digest((
        build.uid(),
        build.metadata.generation,
        build.annotations().get(REQUESTED_AT),
        build.annotations().get(CANCEL),
        build.annotations().get(ROLLBACK),
        pending.map(|it| (it.reason, it.since.0, it.doubt.is_some())),
        build.metadata.deletion_timestamp.is_some(),
    ))
}

/// What a Builder is looked at for: the same, each doubt, and whether it waits for its turn.
pub fn build_of_builder(build: &ImageBuild) -> Option<u64> {
    let current = build.status.as_ref().and_then(|s| s.current.as_ref());
    let attempt = current.map(|current| current.attempt);
    digest((
        image_build(build),
        decide::lacks_certificates(build),
        decide::is_queued(build),
        attempt,
    ))
}

/// The start of a build, and its end, or that it hangs: then the next one may start. None where none is under way.
pub fn build_runs(build: &ImageBuild) -> Option<u64> {
    let current = build.status.as_ref()?.current.as_ref()?;
    let hangs = decide::lacks_its_own(build) || decide::waits_to_retry(build);
    digest((build.uid(), &current.job, hangs))
}

/// The installation that a Builder belongs to.
fn installation(builder: &Builder) -> Option<&str> {
    builder.status.as_ref()?.installation.as_deref()
}

/// The spec, a request to empty the cache, deletion, whose it is.
pub fn builder_spec(builder: &Builder) -> Option<u64> {
    digest((
        builder.uid(),
        installation(builder),
        builder.annotations().get(PRUNE),
        builder.metadata.generation,
        builder.metadata.deletion_timestamp.is_some(),
    ))
}

/// What the daemons of a Builder's platforms depend on, and what that one says of them. None of a Builder that has none and is none.
pub fn builder_of_platforms(builder: &Builder) -> Option<u64> {
    let of = platforms::parent(builder);
    if of.is_none() && builder.spec.platforms.is_empty() {
        return None;
    }
    let status = builder.status.as_ref();
    let certificates = status.and_then(|status| status.certificates.as_ref());
    digest((
        builder_ready(builder),
        of,
        certificates.map(|it| &it.digest),
        builder.spec.platforms.len(),
    ))
}

/// What ImageBuilds that wait for a Builder depend on.
pub fn builder_ready(builder: &Builder) -> Option<u64> {
    digest((builder.uid(), decide::Readiness::of(builder)))
}

/// An attempt's end, and its going; whether it is suspended, which Kueue says.
pub fn job(job: &Job) -> Option<u64> {
    let leaves = job.metadata.deletion_timestamp.is_some();
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    digest((job.uid(), pods::has_ended(job), leaves, suspended))
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
        outcome::pull_failure(pod).map(|(reason, _)| reason == Reason::InvalidImageName),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures;

    fn job_that(change: Value) -> Job {
        let mut job = json!({"metadata": {"name": "a", "uid": "j"}});
        json_patch::merge(&mut job, &change);
        serde_json::from_value(job).unwrap()
    }

    fn pod_that(change: Value) -> Pod {
        let mut pod =
            json!({"metadata": {"name": "a", "uid": "p"}, "status": {"phase": "Pending"}});
        json_patch::merge(&mut pod, &change);
        serde_json::from_value(pod).unwrap()
    }

    fn leaving() -> Value {
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    }

    #[test]
    fn a_spec_a_request_and_a_deletion_wake_and_a_status_does_not() {
        let build = fixtures::inline();
        let known = image_build(&build);
        let mut told = build.clone();
        told.status = Some(Default::default());
        assert_eq!(image_build(&told), known);
        let mut edited = build.clone();
        edited.metadata.generation = Some(2);
        let mut asked = build.clone();
        asked
            .annotations_mut()
            .insert(REQUESTED_AT.into(), "now".into());
        let mut again = build.clone();
        again.metadata.uid = Some("another".into());
        let mut gone = build;
        gone.metadata.deletion_timestamp = job_that(leaving()).metadata.deletion_timestamp;
        for build in [edited, asked, again, gone] {
            assert_ne!(image_build(&build), known);
        }
    }

    #[test]
    fn the_start_and_the_end_of_a_build_wake_the_next_and_its_progress_does_not() {
        let current = |job: Option<&str>, message: &str| {
            let mut build = fixtures::inline();
            let current = job
                .map(|job| json!({"attempt": 1, "job": job, "generation": 1, "message": message}));
            build.status = serde_json::from_value(json!({"current": current})).unwrap();
            build_runs(&build)
        };
        let runs = current(Some("a"), "step 1");
        assert_eq!(current(Some("a"), "step 2"), runs);
        assert_ne!(current(Some("b"), "step 1"), runs);
        assert_ne!(current(None, ""), runs);
    }

    #[test]
    fn a_job_wakes_once_it_has_ended_is_to_go_or_is_suspended() {
        let condition =
            |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
        let known = job(&job_that(json!({})));
        assert_eq!(job(&job_that(json!({"status": {"active": 1}}))), known);
        assert_eq!(job(&job_that(condition("FailureTarget"))), known);
        let suspended = json!({"spec": {"suspend": true, "template": {}}});
        let changes = [
            condition("Failed"),
            condition("Complete"),
            leaving(),
            suspended,
        ];
        for change in changes {
            assert_ne!(job(&job_that(change.clone())), known, "{change}");
        }
    }

    #[test]
    fn a_pod_wakes_with_its_phase_and_with_what_keeps_it_from_running() {
        let known = pod(&pod_that(json!({})));
        let condition = |kind: &str, status: &str, reason: &str| json!({"status": {"conditions": [{"type": kind, "status": status, "reason": reason, "message": "m"}]}});
        assert_eq!(pod(&pod_that(condition("Initialized", "True", ""))), known);
        for change in [
            json!({"status": {"phase": "Running"}}),
            condition("PodScheduled", "False", "Unschedulable"),
            leaving(),
        ] {
            assert_ne!(pod(&pod_that(change.clone())), known, "{change}");
        }
        // The Pod that checks an image wakes as it turns Ready; a runner's is not asked to.
        let ready = |component: &str, status: &str| {
            let mut change = condition("Ready", status, "");
            change["metadata"] = json!({"labels": {(names::COMPONENT): component}});
            pod(&pod_that(change))
        };
        assert_ne!(ready(names::GATE, "True"), ready(names::GATE, "False"));
        assert_eq!(ready(names::RUNNER, "True"), ready(names::RUNNER, "False"));
    }

    #[test]
    fn a_builder_that_changes_hands_wakes_and_its_conditions_do_not() {
        let owned = |by: &str, generation: Option<i64>| {
            let mut builder = fixtures::builder();
            let status = builder.status.get_or_insert_default();
            (status.installation, status.observed_generation) = (Some(by.into()), generation);
            builder
        };
        let known = builder_spec(&owned("a/w", None));
        assert_eq!(builder_spec(&owned("a/w", Some(1))), known);
        assert_ne!(builder_spec(&owned("b/w", None)), known);
        // Builds that wait for it look at more.
        assert_ne!(
            builder_ready(&owned("a/w", None)),
            builder_ready(&owned("a/w", Some(1)))
        );
    }

    #[test]
    fn a_stateful_set_wakes_as_its_rollout_goes_on() {
        let set = |change: Value| -> Option<u64> {
            let mut set = json!({"metadata": {"name": "a", "uid": "s", "generation": 1},
                "status": {"replicas": 1, "observedGeneration": 1, "readyReplicas": 1, "updatedReplicas": 1}});
            json_patch::merge(&mut set, &change);
            stateful_set(&serde_json::from_value(set).unwrap())
        };
        let known = set(json!({}));
        assert_eq!(set(json!({"metadata": {"resourceVersion": "9"}})), known);
        for change in [
            json!({"status": {"readyReplicas": 0}}),
            json!({"status": {"updatedReplicas": 0}}),
            json!({"metadata": {"generation": 2}}),
            leaving(),
        ] {
            assert_ne!(set(change.clone()), known, "{change}");
        }
    }
}
