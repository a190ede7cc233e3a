//! The controller is killed (SIGKILL) at points of a build: the build ends once, rightly, and leaves nothing.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::stage::{Stage, success};

/// One Job, one request, one entry in the history: built once.
async fn built_once(stage: &Stage) {
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.digest.as_deref(), Some("sha256:aa"));
    assert_eq!(status.history.len(), 1);
    assert_eq!(status.build, Some(1));
    assert_eq!(stage.jobs().await.len(), 1);
    assert_eq!(stage.requests().await.len(), 1);
}

#[tokio::test]
async fn killed_before_it_has_seen_the_image_build() {
    let mut stage = Stage::with_controller().await;
    stage.kill_controller();
    stage.apply("hello", json!({})).await.unwrap();
    stage.start_controller().await;
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
        .await;
    built_once(&stage).await;
}

#[tokio::test]
async fn killed_when_the_build_has_a_name_but_no_job() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    let name = stage
        .until("the status names the build", async || {
            stage.get("hello").await.status?.current
        })
        .await
        .job;
    stage.kill_controller();
    stage.start_controller().await;
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    assert_eq!(job.name_any(), name);
    stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&stage).await;
}

#[tokio::test]
async fn killed_when_the_job_exists() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.kill_controller();
    stage.start_controller().await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    built_once(&stage).await;
}

#[tokio::test]
async fn killed_while_the_runner_runs() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.kill_controller();
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.start_controller().await;
    built_once(&stage).await;
}

#[tokio::test]
async fn killed_when_the_runner_has_ended_and_its_result_is_not_yet_read() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.kill_controller();
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let complete = json!({"status": {
        "succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z",
        "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
        ],
    }});
    let jobs = stage.api::<Job>();
    jobs.patch_status(
        &job.name_any(),
        &kube::api::PatchParams::default(),
        &kube::api::Patch::Merge(complete),
    )
    .await
    .unwrap();
    stage.start_controller().await;
    built_once(&stage).await;
}

#[tokio::test]
async fn killed_while_it_stops_a_check() {
    const ERRORS: &str = r#"whittle_reconcile_errors_total{kind="ImageBuild"}"#;
    let mut stage = Stage::with_controller().await;
    stage.node().await;
    let check = json!({"healthCheck": {"tcpSocket": {"port": 80}}});
    stage.apply("hello", check).await.unwrap();
    stage.builder_starts().await;
    let runner = stage.job("hello").await;
    stage.pod_ends(&runner, &success("sha256:aa")).await;
    let jobs = stage.api::<Job>();
    let checks = async || {
        let labels = ListParams::default().labels("whittle.dev/component=gate");
        jobs.list(&labels).await.unwrap().items.pop()
    };
    let check = stage.until("the check begins", checks).await;

    // No Job can be deleted: what is killed meanwhile has stopped nothing yet.
    let refused = stage.refuse_to_delete("jobs").await;
    let try_it = DeleteParams::background().dry_run();
    let kept = async || jobs.delete(&check.name_any(), &try_it).await.err();
    stage.until("deletion is refused", kept).await;
    let before = stage.metric(ERRORS).await;
    let other = json!({"dockerfile": "other", "healthCheck": null});
    stage.apply("hello", other).await.unwrap();
    stage
        .until("the controller is refused", async || {
            (stage.metric(ERRORS).await > before).then_some(())
        })
        .await;
    stage.kill_controller();
    assert!(checks().await.is_some());
    refused.end().await;
    stage
        .until("deletion is taken", async || {
            jobs.delete(&check.name_any(), &try_it).await.ok()
        })
        .await;

    stage.start_controller().await;
    stage
        .until("the check is gone", async || {
            checks().await.is_none().then_some(())
        })
        .await;
    stage.pod_is_deleted(&runner).await;
    let next = stage.job("hello").await;
    assert_ne!(next.name_any(), runner.name_any());
    stage.pod_ends(&next, &success("sha256:bb")).await;
    stage.ready("hello", "True", "Succeeded").await;
}

#[tokio::test]
async fn a_check_that_a_controller_before_this_one_left_goes() {
    let stage = Stage::with_controller().await;
    let build = stage.apply("hello", json!({})).await.unwrap();
    let owner = build.controller_owner_ref(&()).unwrap();
    let labels = json!({"app.kubernetes.io/managed-by": "whittle", "whittle.dev/component": "gate", "whittle.dev/imagebuild-uid": build.uid().unwrap()});
    let jobs = stage.api::<Job>();
    // The second has our labels, and another owner; the third has a name that is none of ours, so that nothing but
    // what Whittle made is deleted.
    let other = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}]);
    for (name, owners) in [
        ("left-0123456789", json!([owner])),
        ("others-0123456789", other),
        ("by-hand", json!([owner])),
    ] {
        let container = json!({"name": "image", "image": "a"});
        let spec = json!({"restartPolicy": "Never", "containers": [container]});
        let job = json!({"metadata": {"name": name, "labels": labels, "ownerReferences": owners}, "spec": {"template": {"spec": spec}}});
        let job = serde_json::from_value(job).unwrap();
        jobs.create(&PostParams::default(), &job).await.unwrap();
    }
    stage.builder_starts().await;
    let runner = stage.job("hello").await;
    let left = jobs.get_opt("left-0123456789").await.unwrap();
    assert!(left.is_none(), "{left:#?}");
    for name in ["others-0123456789", "by-hand"] {
        assert!(jobs.get_opt(name).await.unwrap().is_some(), "{name}");
    }
    stage.pod_ends(&runner, &success("sha256:aa")).await;
    stage.ready("hello", "True", "Succeeded").await;
}
