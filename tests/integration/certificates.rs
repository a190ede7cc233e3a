//! The certificates of a Builder and its runners run out, or somebody deletes the Secrets that hold them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use whittle_api::Builder;

use crate::kubelet::Kubelet;
use crate::refusals::{daemon, event};
use crate::stage::{Stage, success};

const SERVER: &str = "whittle-builder-default-server";
const CLIENT: &str = "whittle-builder-default-client";
const SET: &str = "whittle-builder-default";

/// The certificate in this Secret, where there is one.
async fn certificate(stage: &Stage, secret: &str) -> Option<Vec<u8>> {
    let found = stage.api::<Secret>().get_opt(secret).await.unwrap()?;
    Some(found.data?.remove("tls.crt")?.0)
}

/// What the daemon is restarted for where it changes.
async fn digest(stage: &Stage) -> Option<String> {
    let set = stage.api::<StatefulSet>().get_opt(SET).await.unwrap()?;
    let template = set.spec?.template.metadata?.annotations?;
    template.get("whittle.dev/config-digest").cloned()
}

async fn deleted(stage: &Stage, secret: &str) {
    let now = DeleteParams::default();
    stage.api::<Secret>().delete(secret, &now).await.unwrap();
}

/// Both Secrets have other certificates than before, and the daemon is restarted once with them.
async fn renewed(stage: &Stage, before: &[Option<Vec<u8>>; 2], digest_before: &Option<String>) {
    stage
        .until("there are new certificates", async || {
            let now = [
                certificate(stage, SERVER).await,
                certificate(stage, CLIENT).await,
            ];
            let new = now
                .iter()
                .zip(before)
                .all(|(now, before)| now.is_some() && now != before);
            let digest = digest(stage).await;
            (new && digest.is_some() && digest != *digest_before).then_some(())
        })
        .await;
    let once = certificate(stage, CLIENT).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        certificate(stage, CLIENT).await,
        once,
        "they are made again and again"
    );
}

async fn known(stage: &Stage) -> ([Option<Vec<u8>>; 2], Option<String>) {
    let both = [
        certificate(stage, SERVER).await,
        certificate(stage, CLIENT).await,
    ];
    assert!(both.iter().all(Option::is_some));
    (both, digest(stage).await)
}

#[tokio::test]
async fn certificates_that_run_out_are_renewed_once_no_build_runs() {
    let mut stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    stage.pod(&job, json!({"phase": "Running"})).await;
    let (before, digest_before) = known(&stage).await;
    // The hourly look at it, whatever happens, comes with a start, too.
    stage.kill_controller();
    let past = "2026-01-01T00:00:00Z";
    let over = json!({"status": {"certificates": {"renewAt": past, "notAfter": past}}});
    let builders = stage.api::<Builder>();
    let params = PatchParams::default();
    builders
        .patch_status("default", &params, &Patch::Merge(over))
        .await
        .unwrap();
    stage.start_controller().await;
    let draining = async || {
        let status = builders.get("default").await.unwrap().status?;
        let ready = whittle_api::find(&status.conditions, "Ready")?;
        (ready.reason == "Draining").then_some(())
    };
    stage
        .until("the Builder waits for the build", draining)
        .await;
    assert_eq!(known(&stage).await, (before.clone(), digest_before.clone()));
    stage.pod_ends(&job, &success("sha256:aa")).await;
    stage.ready("hello", "True", "Succeeded").await;
    // The Job ends with its Pod.
    Kubelet::default().turn(&stage).await;
    renewed(&stage, &before, &digest_before).await;
    stage.builder_starts().await;
    let status = stage.until("it is said", async || {
        let certificates = builders
            .get("default")
            .await
            .unwrap()
            .status?
            .certificates?;
        (certificates.renew_at.0 > jiff::Timestamp::now()).then_some(certificates)
    });
    assert!(status.await.not_after.0 > jiff::Timestamp::now());
    stage.apply("next", json!({})).await.unwrap();
    stage
        .pod_ends(&stage.job("next").await, &success("sha256:bb"))
        .await;
    stage.ready("next", "True", "Succeeded").await;
}

/// The kubelet's words.
fn not_found(secret: &str) -> String {
    format!(r#"MountVolume.SetUp failed for volume "tls" : secret "{secret}" not found"#)
}

#[tokio::test]
async fn a_deleted_secret_of_runners_is_made_again_when_one_cannot_start() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    let job = stage.job("hello").await;
    let (before, digest_before) = known(&stage).await;
    deleted(&stage, CLIENT).await;
    let pod = stage.pod(&job, json!({"phase": "Pending"})).await;
    let about = json!({"kind": "Pod", "name": pod.name_any(), "uid": pod.uid()});
    event(&stage, about, "FailedMount", &not_found(CLIENT)).await;
    renewed(&stage, &before, &digest_before).await;
    stage.builder_starts().await;
    // The kubelet tries again, by itself.
    stage.pod_ends(&job, &success("sha256:aa")).await;
    let status = stage
        .ready("hello", "True", "Succeeded")
        .await
        .status
        .unwrap();
    assert_eq!(status.history.len(), 1);
    assert_eq!(stage.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_deleted_secret_of_the_daemon_is_made_again_when_that_cannot_start() {
    let stage = Stage::with_controller().await;
    stage.apply("hello", json!({})).await.unwrap();
    stage.builder_starts().await;
    stage
        .pod_ends(&stage.job("hello").await, &success("sha256:aa"))
        .await;
    stage.ready("hello", "True", "Succeeded").await;
    Kubelet::default().turn(&stage).await;
    let (before, digest_before) = known(&stage).await;
    deleted(&stage, SERVER).await;
    // Its Pod moves to another node.
    let waits = json!({"name": "buildkitd", "image": "a", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}});
    let pod = daemon(
        &stage,
        json!({}),
        json!({"phase": "Pending", "containerStatuses": [waits]}),
    )
    .await;
    let node = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name_any()}, "target": {"kind": "Node", "name": "node"}});
    let (pods, params) = (stage.api::<Pod>(), PostParams::default());
    pods.create_subresource::<Value, Value>("binding", &pod.name_any(), &params, &node)
        .await
        .unwrap();
    let about = json!({"kind": "Pod", "name": pod.name_any(), "uid": pod.uid()});
    event(&stage, about, "FailedMount", &not_found(SERVER)).await;
    let down: Value = json!({"status": {"readyReplicas": 0}});
    let sets = stage.api::<StatefulSet>();
    sets.patch_status(SET, &PatchParams::default(), &Patch::Merge(down))
        .await
        .unwrap();
    renewed(&stage, &before, &digest_before).await;
    stage.builder_starts().await;
    stage.apply("next", json!({})).await.unwrap();
    stage
        .pod_ends(&stage.job("next").await, &success("sha256:bb"))
        .await;
    stage.ready("next", "True", "Succeeded").await;
}
