//! The controller's clock is set by an hour while it builds: its own only, those of the API server and of the node go on
//! rightly. `clock.c` is preloaded into it for that.

use std::path::PathBuf;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use serde_json::json;

use crate::kubelet::Kubelet;
use crate::stage::{Stage, root, success};

/// A controller whose clock can be set.
struct Clock {
    stage: Stage,
    folder: tempfile::TempDir,
}

impl Clock {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("clock.so");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(root().join("tests/integration/clock.c"))
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(status.success());
        let mut stage = Stage::new().await;
        stage.environment = vec![
            ("LD_PRELOAD", library),
            ("CLOCK_AHEAD", folder.path().join("ahead")),
        ];
        stage.start_controller().await;
        Self { stage, folder }
    }

    /// By so many hours from now on.
    fn is_set(&self, hours: i64) {
        let ahead: PathBuf = self.folder.path().join("ahead");
        std::fs::write(ahead, (hours * 3600).to_string()).unwrap();
    }

    /// It has succeeded, and its end was taken from a clock that is so many hours ahead.
    async fn succeeds(&self, hours: i64) {
        let build = self.stage.ready("hello", "True", "Succeeded").await;
        let status = build.status.unwrap();
        assert_eq!(status.history.len(), 1);
        assert!(status.duration_seconds >= Some(0), "{status:#?}");
        let ahead = status
            .completed_at
            .unwrap()
            .0
            .duration_since(Timestamp::now());
        let off = (ahead - SignedDuration::from_hours(hours)).abs();
        assert!(
            off < SignedDuration::from_mins(5),
            "the clock was not set: {ahead}"
        );
    }
}

async fn while_the_runner_runs(hours: i64) {
    let clock = Clock::new().await;
    let stage = &clock.stage;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    stage.ready("hello", "Unknown", "Building").await;
    clock.is_set(hours);
    stage
        .pod(
            &job,
            json!({"phase": "Running", "message": "so that it is looked at"}),
        )
        .await;
    stage.pod_ends(&job, &success("sha256:aa")).await;
    clock.succeeds(hours).await;
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn an_hour_ahead_while_the_runner_runs() {
    while_the_runner_runs(1).await;
}

#[tokio::test]
async fn an_hour_back_while_the_runner_runs() {
    while_the_runner_runs(-1).await;
}

#[tokio::test]
async fn an_hour_back_while_a_lost_runner_waits_for_the_next_attempt() {
    let clock = Clock::new().await;
    let stage = &clock.stage;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let first = stage.job("hello").await;
    stage.pod(&first, json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})).await;
    stage.ready("hello", "Unknown", "Retrying").await;
    clock.is_set(-1);
    let mut kubelet = Kubelet::default();
    stage
        .until("the second attempt ends", async || {
            kubelet.turn(stage).await;
            stage.get("hello").await.status?.completed_at
        })
        .await;
    clock.succeeds(-1).await;
    assert_eq!(stage.jobs().await.len(), 2);
}

async fn while_an_image_is_checked(hours: i64) {
    let clock = Clock::new().await;
    let stage = &clock.stage;
    stage.node().await;
    let check = json!({"healthCheck": {"tcpSocket": {"port": 80}, "timeoutSeconds": 30}});
    stage.apply("hello", check).await.unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
        .await;
    let check = stage
        .until("the check begins", async || {
            let labels = ListParams::default().labels("whittle.dev/component=gate");
            stage.api::<Job>().list(&labels).await.unwrap().items.pop()
        })
        .await;
    let running = json!({"name": "image", "image": "a", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"running": {"startedAt": Timestamp::now().to_string()}}});
    clock.is_set(hours);
    stage
        .pod(
            &check,
            json!({"phase": "Running", "containerStatuses": [running]}),
        )
        .await;
    stage
        .until("it is seen to run", async || {
            let status = stage.get("hello").await.status?;
            let ready = whittle_api::find(&status.conditions, "Ready")?;
            (ready.message.contains("running, not Ready yet")).then_some(())
        })
        .await;
    let mut kubelet = Kubelet::default();
    stage
        .until("the tags are moved", async || {
            kubelet.turn(stage).await;
            stage.get("hello").await.status?.completed_at
        })
        .await;
    clock.succeeds(hours).await;
}

#[tokio::test]
async fn an_hour_ahead_while_an_image_is_checked() {
    while_an_image_is_checked(1).await;
}

#[tokio::test]
async fn an_hour_back_while_an_image_is_checked() {
    while_an_image_is_checked(-1).await;
}
