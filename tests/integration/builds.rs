//! A build from its ImageBuild to its end, with the test as kubelet.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use whittle_api::{Builder, FailureReason, ImageBuild, find, is_true};
use whittle_build::report::encode;

use crate::kubelet::Kubelet;
use crate::stage::{Stage, ended, failure, success};

const RECONCILES: &str = r#"whittle_reconciles_total{kind="ImageBuild"}"#;

#[tokio::test]
async fn a_build_becomes_ready_from_its_termination_message_alone() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Pending"})).await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));
    assert_eq!(
        status.image.as_deref(),
        Some("registry.example.com/team/hello@sha256:aa")
    );
    assert_eq!(status.size, Some(1234));
    assert!(status.current.is_none() && find(&status.conditions, "Reconciling").is_none());
    assert_eq!(stage.requests().await, [job.name_any()]);
}

#[tokio::test]
async fn an_unchanged_spec_is_never_built_again_and_a_request_is() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
        .await;
    stage.ready("hello", "True", "Succeeded").await;

    stage.kill_controller();
    stage.start_controller().await;
    let builds = stage.api::<ImageBuild>();
    let touch = |value: &str| json!({"metadata": {"annotations": {"team": value}, "labels": {"team": value}}, "spec": {"historyLimit": 3}});
    builds
        .patch("hello", &PatchParams::default(), &Patch::Merge(touch("a")))
        .await
        .unwrap();
    // The new generation is acknowledged, and still nothing was built.
    stage.ready("hello", "True", "Succeeded").await;
    assert_eq!(stage.jobs().await.len(), 1);

    let request = json!({"metadata": {"annotations": {"whittle.dev/requestedAt": "now"}}});
    builds
        .patch("hello", &PatchParams::default(), &Patch::Merge(request))
        .await
        .unwrap();
    let job = stage.job("hello").await;
    stage.pod_ends(&job, &success("sha256:bb")).await;
    let status = stage
        .until("the second build has ended", async || {
            stage
                .get("hello")
                .await
                .status
                .filter(|status| status.digest.as_deref() == Some("sha256:bb"))
        })
        .await;
    assert_eq!(status.build, Some(2));
    assert_eq!(stage.jobs().await.len(), 2);
}

#[tokio::test]
async fn a_failed_step_is_told_with_its_line_and_is_not_tried_again() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(
            &stage.job("hello").await,
            &failure(FailureReason::StepFailed),
        )
        .await;
    let status = stage
        .ready("hello", "False", "StepFailed")
        .await
        .status
        .unwrap();
    assert_eq!(status.failure.unwrap().dockerfile_line, Some(2));
    assert!(find(&status.conditions, "Stalled").is_some());
    assert_eq!(stage.jobs().await.len(), 1);

    stage
        .apply("hello", json!({"dockerfile": "other"}))
        .await
        .unwrap();
    let job = stage.job("hello").await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert!(
        status.failure.is_none(),
        "the old failure is gone: {:?}",
        status.failure
    );
}

#[tokio::test]
async fn an_evicted_runner_is_followed_by_another_only_when_its_pod_has_ended() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let first = stage.job("hello").await;
    stage.pod(&first, json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})).await;
    let second = stage
        .until("there is a second attempt", async || {
            let current = stage.get("hello").await.status?.current?;
            (current.attempt == 2).then_some(current)
        })
        .await;
    assert!(second.last_failure.unwrap().contains("Evicted"));
    let job = stage.job("hello").await;
    assert_ne!(job.name_any(), first.name_any());
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.history.len(), 1);
}

#[tokio::test]
async fn a_missing_secret_is_named_and_its_build_goes_on_when_it_is_there() {
    let stage = Stage::with_controller().await;
    stage
        .apply(
            "hello",
            json!({"output": {"image": "a/b", "secretRef": {"name": "credentials"}}}),
        )
        .await
        .unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let pod = stage.pod(&job, json!({"phase": "Pending"})).await;
    let event = json!({
        "metadata": {"name": "mount", "namespace": stage.namespace},
        "involvedObject": {"kind": "Pod", "namespace": stage.namespace, "name": pod.name_any(), "uid": pod.uid()},
        "type": "Warning", "reason": "FailedMount",
        "message": "MountVolume.SetUp failed for volume \"registry\" : secret \"credentials\" not found",
    });
    stage
        .api::<Event>()
        .create(
            &PostParams::default(),
            &serde_json::from_value(event).unwrap(),
        )
        .await
        .unwrap();
    let build = stage.ready("hello", "False", "SecretNotFound").await;
    let message = find(&build.status.unwrap().conditions, "Ready")
        .unwrap()
        .message
        .clone();
    assert!(
        message.contains("Secret credentials not found"),
        "{message}"
    );
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.ready("hello", "True", "Succeeded").await;
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn suspend_holds_what_is_due_and_lets_it_go() {
    let stage = Stage::with_controller().await;
    stage
        .apply("hello", json!({"suspend": true}))
        .await
        .unwrap();
    stage.ready("hello", "False", "Suspended").await;
    assert!(stage.jobs().await.is_empty());
    stage
        .apply("hello", json!({"suspend": false}))
        .await
        .unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
        .await;
    stage.ready("hello", "True", "Succeeded").await;
}

#[tokio::test]
async fn a_spec_that_changes_during_its_build_ends_with_the_new_one() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let old = stage.job("hello").await;
    stage.pod(&old, json!({"phase": "Running"})).await;
    stage
        .apply("hello", json!({"dockerfile": "other"}))
        .await
        .unwrap();
    stage
        .until("the old Job is being deleted", async || {
            let job = stage.api::<Job>().get_opt(&old.name_any()).await.unwrap();
            job.is_none_or(|job| job.metadata.deletion_timestamp.is_some())
                .then_some(())
        })
        .await;
    // There is no garbage collector here: the Pod is still there, so nothing new may start.
    stage
        .until("the build waits for the old Pod", async || {
            let status = stage.get("hello").await.status?;
            find(&status.conditions, "Reconciling")
                .filter(|c| c.reason == "WaitingForEarlierPod")
                .map(drop)
        })
        .await;
    assert!(
        stage
            .jobs()
            .await
            .iter()
            .all(|job| job.name_any() == old.name_any())
    );
    stage.pod_is_deleted(&old).await;
    let new = stage.job("hello").await;
    stage.pod_ends(&new, &success("sha256:bb")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    let results: Vec<_> = status
        .history
        .iter()
        .map(|entry| entry.result.as_str())
        .collect();
    assert_eq!(results, ["Succeeded", "Superseded"]);
}

#[tokio::test]
async fn a_foreign_job_of_the_same_name_is_said_and_left_alone() {
    let mut stage = Stage::new().await;
    let build = stage.apply("hello", json!({})).await.unwrap();
    let name = whittle_controller::names::attempt("hello", &build.uid().unwrap(), 1, 1, 1);
    let foreign = json!({
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}},
    });
    stage
        .api::<Job>()
        .create(
            &PostParams::default(),
            &serde_json::from_value(foreign).unwrap(),
        )
        .await
        .unwrap();
    stage.start_controller().await;
    stage.builder_starts().await;
    stage.ready("hello", "False", "JobConflict").await;
    stage
        .api::<Job>()
        .delete(&name, &DeleteParams::background())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_named_builder_that_does_not_exist_heals_when_it_does() {
    let stage = Stage::with_controller().await;
    stage
        .apply("hello", json!({"builderRef": {"name": "big"}}))
        .await
        .unwrap();
    stage.ready("hello", "False", "BuilderNotFound").await;
    let big = Builder::new("big", Default::default());
    stage
        .api::<Builder>()
        .create(&PostParams::default(), &big)
        .await
        .unwrap();
    stage.ready("hello", "Unknown", "WaitingForBuilder").await;
}

#[tokio::test]
async fn a_build_needs_few_reconciles() {
    let stage = Stage::with_controller().await;
    stage.apply("first", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("first").await;
    for phase in ["Pending", "Running"] {
        stage.pod(&job, json!({"phase": phase})).await;
    }
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.ready("first", "True", "Succeeded").await;
    let reconciles = stage.metric(RECONCILES).await;
    assert!(
        (1..=20).contains(&reconciles),
        "{reconciles} reconciles for one build"
    );
}

#[tokio::test]
async fn each_of_a_hundred_builds_in_a_queue_needs_few_reconciles() {
    const BUILDS: u64 = 100;
    let stage = Stage::with_controller().await;
    for number in 0..BUILDS {
        stage.apply(&format!("b{number}"), json!({})).await.unwrap();
    }
    let mut kubelet = Kubelet::default();
    let builds = stage.api::<ImageBuild>();
    let begun = Instant::now();
    loop {
        kubelet.turn(&stage).await;
        let all = builds.list(&ListParams::default()).await.unwrap();
        let ended = |build: &&ImageBuild| {
            let status = build.status.as_ref();
            status.is_some_and(|status| is_true(&status.conditions, "Ready"))
        };
        if all.iter().filter(ended).count() == BUILDS as usize {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "{}",
            stage.controllers_log()
        );
    }
    let reconciles = stage.metric(RECONCILES).await;
    println!("{reconciles} reconciles in {:?}", begun.elapsed());
    assert!(
        (BUILDS..=20 * BUILDS).contains(&reconciles),
        "{reconciles} reconciles"
    );
    assert_eq!(stage.jobs().await.len(), BUILDS as usize);
}

#[tokio::test]
async fn the_controller_may_not_read_secrets() {
    let stage = Stage::with_controller().await;
    let review = |verb: &str, namespace: &str| {
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": "system:serviceaccount:whittle-system:whittle",
                "resourceAttributes": {"verb": verb, "resource": "secrets", "namespace": namespace},
            },
        })
    };
    let reviews: Api<k8s_openapi::api::authorization::v1::SubjectAccessReview> =
        Api::all(stage.client.clone());
    for verb in ["get", "list", "watch", "delete"] {
        let asked = serde_json::from_value(review(verb, &stage.namespace)).unwrap();
        let answer = reviews
            .create(&PostParams::default(), &asked)
            .await
            .unwrap();
        assert!(!answer.status.unwrap().allowed, "{verb}");
    }
}

#[tokio::test]
async fn a_builder_takes_as_many_builds_as_it_says_and_the_others_follow_in_order() {
    let stage = Stage::with_controller().await;
    let mut builder = Builder::new("default", Default::default());
    builder.spec.max_concurrent_builds = 1;
    stage
        .api::<Builder>()
        .create(&PostParams::default(), &builder)
        .await
        .unwrap();
    for name in ["first", "second", "third"] {
        stage.apply(name, json!({})).await.unwrap();
        stage
            .until(&format!("{name} is due"), async || {
                stage.get(name).await.status?.current
            })
            .await;
    }
    stage.builder_starts().await;
    // By the second in which they became due, and by UID within it.
    let mut order = vec![];
    for name in ["first", "second", "third"] {
        let build = stage.get(name).await;
        order.push((build.status.unwrap().started_at, build.metadata.uid, name));
    }
    order.sort_by_key(|(started, uid, _)| (started.as_ref().map(|time| time.0), uid.clone()));
    let names: Vec<&str> = order.iter().map(|(_, _, name)| *name).collect();
    for (at, name) in names.iter().enumerate() {
        let after = names.get(at + 1);
        let job = stage.job(name).await;
        if let Some(after) = after {
            stage.ready(after, "Unknown", "Queued").await;
            assert_eq!(stage.active_jobs().await, [job.name_any()]);
        }
        stage.pod(&job, json!({"phase": "Running"})).await;
        stage.pod_ends(&job, &success("sha256:aa")).await;
        stage.ready(name, "True", "Succeeded").await;
    }
}

#[tokio::test]
async fn a_pod_that_somebody_makes_beside_the_jobs_own_is_not_its_record() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let own = stage.pod(&job, json!({"phase": "Running"})).await;
    // Creation times are whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let pods = stage.api::<Pod>();
    for (name, controller) in [
        ("forged".to_owned(), None),
        (format!("{}-y", job.name_any()), Some(true)),
    ] {
        let mut forged = own.clone();
        forged.metadata.name = Some(name.clone());
        forged.metadata.resource_version = None;
        forged.metadata.uid = None;
        forged.metadata.owner_references.as_mut().unwrap()[0].controller = controller;
        forged.spec.as_mut().unwrap().containers[0].image = Some("busybox".into());
        forged.status = None;
        pods.create(&PostParams::default(), &forged).await.unwrap();
        let status = ended(&encode(&success("sha256:bad")));
        let patch = Patch::Merge(json!({"status": status}));
        pods.patch_status(&name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));
}
