//! What Kueue needs of a runner's Job: the labels that name its queue, and requests by which a quota can be counted; and what a Job
//! waits for that it has suspended.
//!
//! The builder does the work, and its Pod is there before: a runner's own requests are those of a small client. In a queue the runner's
//! Pod stands for what its build takes of the builder.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::decide;
use crate::{names, pods};
use whittle_api::{Builder, ImageBuild, quantity};
use whittle_build::request::Tagging;

/// What is asked for on behalf of the builder, and in which unit it is written.
const ASKED: [(&str, f64, &str); 2] = [("cpu", 1e-3, "m"), ("memory", 1_048_576.0, "Mi")];

/// The labels that an ImageBuild hands on to the Job of an attempt that builds: what follows a push takes seconds, and waits in no queue.
pub fn labels(build: &ImageBuild, tagging: &Tagging) -> BTreeMap<String, String> {
    let builds = matches!(tagging, Tagging::Now | Tagging::Later);
    let all = build.labels();
    let handed_on = names::HANDED_ON.iter().filter(|_| builds);
    let named = handed_on.filter_map(|key| all.get_key_value(*key));
    named
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What a Job waits for that is suspended, and has not ended.
pub fn suspended(job: &Job) -> Option<String> {
    let is = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    if !is || pods::has_ended(job) {
        return None;
    }
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    Some(match job.labels().get(names::KUEUE_QUEUE) {
        Some(queue) => format!(
            "waits in queue {queue} of Kueue, which has suspended Job {name}: kubectl get workloads -n {namespace}, kubectl describe \
             localqueue {queue} -n {namespace}"
        ),
        None => format!(
            "Job {name} was suspended: kubectl patch job {name} -n {namespace} --type=merge -p '{{\"spec\":{{\"suspend\":false}}}}' resumes it"
        ),
    })
}

/// The resources of the runner of an attempt at this build: `own`, and in a queue at least its share of what the builder asks for.
pub fn resources(
    build: &ImageBuild,
    builder: &Builder,
    tagging: &Tagging,
    own: &ResourceRequirements,
) -> ResourceRequirements {
    let mut resources = own.clone();
    if !labels(build, tagging).contains_key(names::KUEUE_QUEUE) {
        return resources;
    }
    let of_builder = &builder.spec.resources;
    let asked = [&of_builder.requests, &of_builder.limits];
    for (name, unit, suffix) in ASKED {
        // As Kubernetes does where there is a limit and no request.
        let whole = asked.iter().find_map(|all| all.as_ref()?.get(name));
        let Some(whole) = whole.and_then(|it| quantity::value(&it.0)) else {
            continue;
        };
        let share = whole / decide::per_replica(builder) as f64;
        let share = Quantity(format!("{}{suffix}", (share / unit).ceil()));
        raise(resources.requests.get_or_insert_default(), name, &share);
        if let Some(limits) = &mut resources.limits
            && limits.contains_key(name)
        {
            raise(limits, name, &share);
        }
    }
    resources
}

/// Sets this quantity where less stands there.
fn raise(all: &mut BTreeMap<String, Quantity>, name: &str, to: &Quantity) {
    let value = |it: &Quantity| quantity::value(&it.0).unwrap_or(0.0);
    let less = all.get(name).is_none_or(|it| value(it) < value(to));
    if less {
        all.insert(name.to_owned(), to.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures;

    fn in_queue() -> ImageBuild {
        let mut build = fixtures::inline();
        let labels = json!({"kueue.x-k8s.io/queue-name": "builds", "kueue.x-k8s.io/priority-class": "high", "app": "shop"});
        build.metadata.labels = serde_json::from_value(labels).unwrap();
        build
    }

    fn only() -> Tagging {
        Tagging::Only {
            image: "sha256:aa".into(),
            debug: None,
            tags: vec![],
            full: vec![],
        }
    }

    #[test]
    fn what_kueue_reads_is_handed_on_to_jobs_that_build_and_nothing_else_is() {
        let found = labels(&in_queue(), &Tagging::Later);
        let expected = [
            ("kueue.x-k8s.io/priority-class", "high"),
            ("kueue.x-k8s.io/queue-name", "builds"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found, expected.into());
        assert_eq!(labels(&in_queue(), &only()), BTreeMap::new());
        assert_eq!(labels(&fixtures::inline(), &Tagging::Now), BTreeMap::new());
    }

    /// The runner's requests and limits where the Builder has these resources and takes two builds.
    fn asked(build: &ImageBuild, tagging: &Tagging, of_builder: Value, own: Value) -> Value {
        let mut builder = fixtures::builder();
        builder.spec.max_concurrent_builds = 2;
        builder.spec.resources = serde_json::from_value(of_builder).unwrap();
        let own = serde_json::from_value(own).unwrap();
        serde_json::to_value(resources(build, &builder, tagging, &own)).unwrap()
    }

    #[test]
    fn in_a_queue_a_runner_asks_for_its_share_of_the_builder_and_never_for_less_than_its_own() {
        let builder = json!({"requests": {"cpu": "3", "memory": "4Gi"}, "limits": {"cpu": "64"}});
        let own =
            json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}});
        let found = asked(&in_queue(), &Tagging::Now, builder.clone(), own.clone());
        let share = json!({"requests": {"cpu": "1500m", "memory": "2048Mi"}, "limits": {"memory": "2048Mi"}});
        assert_eq!(found, share);
        let large = json!({"requests": {"cpu": "2", "memory": "8Gi"}});
        let found = asked(&in_queue(), &Tagging::Now, builder.clone(), large.clone());
        assert_eq!(found, large);
        // Elsewhere nothing is counted.
        assert_eq!(
            asked(
                &fixtures::inline(),
                &Tagging::Now,
                builder.clone(),
                own.clone()
            ),
            own
        );
        assert_eq!(asked(&in_queue(), &only(), builder, own.clone()), own);
        assert_eq!(
            asked(&in_queue(), &Tagging::Now, json!({}), own.clone()),
            own
        );
        let limits = json!({"limits": {"cpu": "500m"}});
        let found = asked(&in_queue(), &Tagging::Now, limits, json!({}));
        assert_eq!(found, json!({"requests": {"cpu": "250m"}}));
    }
}
