//! The controller is killed (SIGKILL) at five points of a build: the build ends once, rightly.

use kube::ResourceExt;
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
    let jobs = stage.api::<k8s_openapi::api::batch::v1::Job>();
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
