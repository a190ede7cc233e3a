//! Which Pod is a Job's: its word is the record, and anybody who may make Pods can name a Job as the owner of one.

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

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
        .filter(move |pod| job.is_some_and(|job| is_of(pod, job)))
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

/// True while a Job has not ended.
pub fn is_active(job: &Job) -> bool {
    job.status
        .as_ref()
        .is_none_or(|status| status.completion_time.is_none() && !has_failed(status))
}

/// When a Job was made, and when it ended.
pub fn times(job: &Job) -> Vec<Timestamp> {
    let status = job.status.as_ref();
    let ended = status.and_then(|status| status.completion_time.clone());
    let failed = status
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .filter_map(|condition| condition.last_transition_time.clone());
    [job.metadata.creation_timestamp.clone(), ended]
        .into_iter()
        .flatten()
        .chain(failed)
        .map(|time| time.0)
        .collect()
}

fn has_failed(status: &JobStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Failed" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job() -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "hello-0123456789", "uid": "j"},
            "spec": {"template": {"spec": {"containers": [{"name": "runner", "image": "whittle:1"}]}}},
        }))
        .unwrap()
    }

    fn pod(name: &str, made: &str, change: Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": format!("hello-0123456789-{name}"),
                "creationTimestamp": made,
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "hello-0123456789", "uid": "j", "controller": true}],
            },
            "spec": {"containers": [{"name": "runner", "image": "whittle:1"}]},
        });
        json_patch::merge(&mut pod, &change);
        serde_json::from_value(pod).unwrap()
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:00:01Z";

    fn own() -> Pod {
        pod("own", LATE, json!({}))
    }

    fn chosen(other: Pod) -> String {
        let pods = [other, own()];
        of(&pods, Some(&job())).unwrap().name_any()
    }

    #[test]
    fn a_pod_that_somebody_else_makes_is_not_the_jobs() {
        let owner = |change: Value| {
            let mut owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "hello-0123456789", "uid": "j", "controller": true});
            json_patch::merge(&mut owner, &change);
            json!({"metadata": {"ownerReferences": [owner]}})
        };
        for change in [
            owner(json!({"controller": false})),
            owner(json!({"controller": null})),
            owner(json!({"kind": "ReplicaSet"})),
            owner(json!({"uid": "another"})),
            json!({"metadata": {"name": "mine"}}),
            json!({"spec": {"containers": [{"name": "other", "image": "whittle:1"}]}}),
        ] {
            let other = pod("other", EARLY, change.clone());
            assert!(!is_of(&other, &job()), "{change}");
            assert_eq!(chosen(other), own().name_any(), "{change}");
        }
        assert_eq!(of(&[own()], None), None);
    }

    #[test]
    fn of_several_the_one_with_the_image_of_the_template_counts_and_then_the_oldest() {
        let other =
            |image: &str| json!({"spec": {"containers": [{"name": "runner", "image": image}]}});
        assert_eq!(
            chosen(pod("other", EARLY, other("busybox"))),
            own().name_any()
        );
        let later = pod("other", "2026-01-01T00:00:02Z", json!({}));
        assert_eq!(how_many(&[own(), later.clone()], Some(&job())), 2);
        assert_eq!(chosen(later), own().name_any());
    }

    #[test]
    fn a_pod_whose_image_was_rewritten_is_still_the_jobs() {
        let change = json!({"spec": {"containers": [{"name": "runner", "image": "mirror/whittle:1"}, {"name": "proxy"}]}});
        let pods = [pod("own", LATE, change)];
        assert!(of(&pods, Some(&job())).is_some());
    }
}
